// What a router did with the texts of a split, as numbers and as records.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/evaluation.h"
#include "trainer/protocol/engine.h"

namespace plumb::trainer {

struct RouteSummary {
  double layer_evaluations = 0;  // mean over texts
  int64_t distinct_paths = 0;
};
RouteSummary Summarise(const std::vector<std::vector<TextRoute>>& by_part);

// Per part of the corpus: "route_counts" (how often each step took each choice), and "route", a
// record for each of the first kMostRoutes texts.
inline constexpr size_t kMostRoutes = 512;
void RecordRoutes(EventSink& sink, const std::string& row, int64_t step,
                  const spec::ModelSpec& model, const std::string& split,
                  const std::vector<data::Part>& parts,
                  const std::vector<std::vector<TextRoute>>& by_part);

}  // namespace plumb::trainer
