// Which moves of a residual stream are looked at, by name. Torch-free.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace plumb::trainer::linearity {

// States are numbered h_0 (the embedding), h_1 … h_S (after each block or routed step), S + 1: the
// final norm of h_S.
struct Transition {
  // layer    h_l -> h_(l+1), l = index
  // final    h_(S-1) -> the final norm of h_S, which is how Hugging Face's last hidden state moves
  // whole    h_0 -> h_S;   half, quarter: of it, the index-th, so that depths can be compared
  std::string group;
  int64_t index = 0;
  int64_t from = 0, to = 1;
};

// Halves where S >= 2, quarters where S >= 4, cut at round(i S / 2) and round(i S / 4).
inline std::vector<Transition> TransitionsOf(int64_t S) {
  std::vector<Transition> out;
  for (int64_t l = 0; l < S; ++l) out.push_back({"layer", l, l, l + 1});
  out.push_back({"final", 0, S - 1, S + 1});
  const auto spans = [&](const char* group, int64_t parts) {
    for (int64_t i = 0; S >= parts && i < parts; ++i)
      out.push_back(
          {group, i, (2 * i * S + parts) / (2 * parts), (2 * (i + 1) * S + parts) / (2 * parts)});
  };
  spans("whole", 1), spans("half", 2), spans("quarter", 4);
  return out;
}

// "linearity/score" with the layer's number; "linearity/half/score" with the half's; a group of one
// has no number (-1).
inline std::string SeriesOf(const Transition& t, const std::string& metric) {
  return "linearity/" + (t.group == "layer" ? "" : t.group + "/") + metric;
}
inline int64_t LayerOf(const Transition& t) {
  return t.group == "final" || t.group == "whole" ? -1 : t.index;
}

}  // namespace plumb::trainer::linearity
