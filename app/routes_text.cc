// Ways of texts through a routed model, and how often each layer was chosen.
#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "app/records.h"

namespace plumb::app {
namespace {

using nlohmann::json;

constexpr size_t kMostPaths = 20;

struct Path {
  std::vector<int64_t> layers;  // -1: skipped
  int64_t texts = 0;
};
struct Part {
  std::string stage, name;
  std::vector<Path> paths;  // the most frequent first
  int64_t texts = 0;
  double evaluations = 0;  // summed over texts
};

std::vector<Part> PartsOf(const std::vector<Record>& records) {
  struct Counts {
    std::map<std::vector<int64_t>, int64_t> paths;
    double evaluations = 0;
  };
  std::map<std::pair<std::string, std::string>, Counts> by_part;
  for (const Record& r : records) {
    if (r.kind != "route") continue;
    std::vector<int64_t> layers;
    for (const json& layer : r.data.value("path", json::array()))
      layers.push_back(layer.is_number() ? layer.get<int64_t>() : -1);
    Counts& counts = by_part[{r.stage, TextOf(r.data, "part")}];
    ++counts.paths[layers];
    counts.evaluations += NumberOf(r.data, "layer_evaluations");
  }
  std::vector<Part> out;
  for (auto& [key, counts] : by_part) {
    Part part{.stage = key.first, .name = key.second, .evaluations = counts.evaluations};
    for (const auto& [layers, texts] : counts.paths) {
      part.paths.push_back({layers, texts});
      part.texts += texts;
    }
    std::stable_sort(part.paths.begin(), part.paths.end(),
                     [](const Path& a, const Path& b) { return a.texts > b.texts; });
    out.push_back(std::move(part));
  }
  return out;
}

std::string Arrows(const std::vector<int64_t>& layers) {
  std::string out;
  for (int64_t layer : layers)
    absl::StrAppend(&out, out.empty() ? "" : " → ", layer < 0 ? "skip" : absl::StrCat(layer));
  return out;
}

int64_t Distinct(const std::vector<int64_t>& layers) {
  std::set<int64_t> distinct(layers.begin(), layers.end());
  distinct.erase(-1);
  return static_cast<int64_t>(distinct.size());
}

// counts[s][j] of step s: j = 0 skips, j = 1 is layer 0.
std::string CountsText(const Record& r) {
  const json counts = r.data.value("counts", json::array());
  size_t choices = 0;
  for (const json& step : counts) choices = std::max(choices, step.size());
  Table table{.columns = {{"step"}, {"skip"}}};
  for (size_t j = 1; j < choices; ++j) table.columns.push_back({absl::StrCat("layer ", j - 1)});
  table.columns.resize(1 + choices);
  int64_t n = 0;
  for (const json& step : counts) {
    std::vector<Value>& row = table.rows.emplace_back();
    row = {++n};
    row.resize(1 + choices);
    for (size_t j = 0; step.is_array() && j < step.size(); ++j) {
      if (step[j].is_number()) row[1 + j] = step[j].get<int64_t>();
    }
  }
  return absl::StrCat(r.stage, ", ", Printable(TextOf(r.data, "part")), ": choices of ",
                      Number(NumberOf(r.data, "texts")), " texts by step, ",
                      Number(NumberOf(r.data, "distinct_paths")), " distinct paths\n",
                      TableText(table));
}

}  // namespace

std::string RoutesText(const std::vector<Record>& records) {
  std::string out;
  for (const Part& part : PartsOf(records)) {
    absl::StrAppend(&out, out.empty() ? "" : "\n", part.stage, ", ", Printable(part.name), ": ",
                    part.texts, part.texts == 1 ? " text, " : " texts, ", part.paths.size(),
                    part.paths.size() == 1 ? " distinct path, " : " distinct paths, ",
                    Number(part.evaluations / static_cast<double>(part.texts)),
                    " layer evaluations a text\n");
    Table table{.columns = {{"path"}, {"texts"}, {"share", 3}, {"distinct_layers"}}};
    for (const Path& path : part.paths) {
      if (table.rows.size() == kMostPaths) break;
      table.rows.push_back({Arrows(path.layers), path.texts,
                            static_cast<double>(path.texts) / static_cast<double>(part.texts),
                            Distinct(path.layers)});
    }
    absl::StrAppend(&out, TableText(table));
    if (part.paths.size() > kMostPaths)
      absl::StrAppend(&out, "and ", part.paths.size() - kMostPaths, " more; all with -o csv\n");
  }
  for (const Record& r : records) {
    if (r.kind == "route_counts") absl::StrAppend(&out, out.empty() ? "" : "\n", CountsText(r));
  }
  return out;
}

Table RoutesTable(const std::vector<Record>& records) {
  Table table{
      .columns = {{"stage"}, {"part"}, {"path"}, {"texts"}, {"share"}, {"distinct_layers"}}};
  for (const Part& part : PartsOf(records)) {
    for (const Path& path : part.paths) {
      table.rows.push_back({part.stage, part.name, json(path.layers).dump(), path.texts,
                            static_cast<double>(path.texts) / static_cast<double>(part.texts),
                            Distinct(path.layers)});
    }
  }
  return table;
}

}  // namespace plumb::app
