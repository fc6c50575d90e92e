// What `search:` says of a search whose points a suggester chooses.
//
//   search: {tpe: {trials: 60, seed: 1, parallel: 8, startup: 10, prior: [earlier], cost: {flops:
//   0.1}}}
//
// Values alone; what may be suggested, and what becomes of it, is in sweeps/search.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sweeps/problem.h"
#include "sweeps/yaml_reader.h"

namespace plumb::sweeps {

// Added to the first objective as a suggester sees it: weight times the decimal logarithm of the
// measure, so that ten times as much must lower the objective by `weight` to be worth it.
struct SearchCost {
  std::string measure;  // of MeasureNames()
  double weight = 0;    // above 0
};

// A sweep whose finished trials are observations from the start: the newest of that name that was
// submitted before, or the one of that number.
struct SearchPrior {
  Position at;
  std::string name;  // empty: by id
  int64_t id = 0;
};

struct SearchSpec {
  Position at;
  std::string sampler;  // "tpe", "gp", "cmaes", "nsga2", or external's name
  bool external = false;
  int64_t trials = 0;      // points in all; each has the sweep's replicates
  int64_t startup = 10;    // of them, the first, drawn at random
  int64_t parallel = 8;    // that may be unfinished at once, beside the startup
  int64_t population = 0;  // of nsga2 and cmaes; 0: the suggester's choice
  uint64_t seed = 0;
  std::vector<SearchPrior> prior;
  std::vector<SearchCost> cost;
};

// The samplers that are not external.
const std::vector<std::string>& SamplerNames();

// One entry of `search:` whose key is a sampler's name or `external`. nullopt, with problems, where
// it makes no search.
std::optional<SearchSpec> ReadSearchSpec(const YamlEntry& entry, std::vector<Problem>* problems);

// "cost/flops" is the measure `flops` as a metric: what a point costs by its plan, not measured.
// The measure, or "" for any other metric.
std::string CostMeasure(const std::string& metric);

}  // namespace plumb::sweeps
