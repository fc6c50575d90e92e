#include "sweeps/solve.h"

#include <algorithm>
#include <cmath>

namespace plumb::sweeps {
namespace {

constexpr int64_t kLargestGap = 512;

// A candidate by its index: the value is index * multiple_of.
struct Candidate {
  int64_t index = 0;
  double measure = 0;
};

}  // namespace

std::optional<Solution> SolveInteger(
    int64_t low, int64_t high, int64_t multiple_of, double target,
    const std::function<std::optional<double>(int64_t)>& measure_at) {
  const int64_t first = (low + multiple_of - 1) / multiple_of, last = high / multiple_of;
  // The smallest candidate with index in [from, end).
  const auto next = [&](int64_t from, int64_t end) -> std::optional<Candidate> {
    for (int64_t i = from; i < std::min(end, from + kLargestGap); ++i) {
      if (const auto m = measure_at(i * multiple_of)) return Candidate{i, *m};
    }
    return std::nullopt;
  };
  std::optional<Candidate> below = next(first, last + 1);  // measure < target, as large as known
  if (!below) return std::nullopt;
  if (below->measure >= target) return Solution{below->index * multiple_of, below->measure};

  std::optional<Candidate> above;  // measure >= target, as small as known
  int64_t end = last + 1;          // no candidate between `above` (or the end) and here matters
  for (int64_t stride = 1; !above && below->index < last; stride *= 2) {
    const auto probe = next(std::min(below->index + stride, last), last + 1);
    if (!probe) {
      end = std::min(below->index + stride, last);
      break;
    }
    (probe->measure >= target ? above : below) = probe;
  }
  if (above) end = above->index;
  // Invariant: below->measure < target; no candidate in [end, above) has an index that matters.
  while (end - below->index > 1) {
    const int64_t middle = below->index + (end - below->index) / 2;
    const auto probe = next(middle, end);
    if (!probe) {
      end = middle;
    } else if (probe->measure >= target) {
      above = probe, end = middle;
    } else {
      below = probe;
    }
  }
  // Among equal measures the smallest value: the flat part below the target may begin earlier.
  const bool take_above =
      above && std::abs(above->measure - target) < std::abs(below->measure - target);
  const Candidate& best = take_above ? *above : *below;
  return Solution{best.index * multiple_of, best.measure};
}

}  // namespace plumb::sweeps
