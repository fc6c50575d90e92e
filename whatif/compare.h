// Ways to search one plan, each simulated over the same realisations of its curves: what they spend
// and how far what they choose is from the best.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "analysis/figure.h"
#include "analysis/statistics.h"
#include "whatif/cluster.h"
#include "whatif/curves.h"

namespace plumb::whatif {

struct Strategy {
  std::string name;                      // "asha promote"
  std::string rule;                      // in words: "rungs 10%, 30%; keep 1/3"
  std::optional<sweeps::StopSpec> stop;  // none: nothing is stopped
  double share = 1;                      // of the candidates that are tried, drawn at random
  bool as_written = false;               // the file's own rules, whatever they are
};

// Grid, ASHA in both forms, Hyperband, median, a random part, and the file's own rules where it has
// any. Rungs, `keep` and the earliest look are those of the file's rule, or 1/9, 1/3 and 1/3.
std::vector<Strategy> Strategies(const sweeps::SweepPlan& plan, double random_share);

// What is chosen. Of a plan that tunes, one value of each cell's grid, and regret is the mean over
// cells; of any other one of its cells.
enum class Scope { kTune, kCells };
Scope ScopeOf(const sweeps::SweepPlan& plan);

struct Score {
  double regret = 0;  // truth of what was chosen minus that of the best candidate
  double steps = 0, choosing_steps = 0;  // computed; of those, by trials among which was chosen
  double flops = 0, slot_hours = 0, hours = 0;
  double trials = 0;  // begun
  double undecided =
      0;  // cells without any finished value: their regret is to the worst finite one
};

struct Row {
  Strategy strategy;
  std::vector<Score> scores;  // by realisation
  analysis::Interval regret, steps, choosing_steps, flops, slot_hours, hours;
  std::optional<analysis::Interval> regret_minus_grid;  // paired; none for the grid
  double undecided = 0;
};

struct CompareOptions {
  int64_t seeds = 20;
  uint64_t first_seed = 1;
  double level = 0.95;
  bool shuffle = false;  // candidates come in an order that the seed draws
  std::function<void(int64_t done, int64_t of)> progress;  // runs
};

// Curves of a realisation.
using MakeCurves = std::function<std::shared_ptr<const Curves>(uint64_t seed)>;

// The first strategy is the grid. InvalidArgument where a candidate's truth is not finite for all.
absl::StatusOr<std::vector<Row>> Compare(const sweeps::SweepPlan& plan, const Cluster& cluster,
                                         const std::vector<Strategy>& strategies,
                                         const MakeCurves& curves, const CompareOptions& options);

analysis::PointsFigure Figure(const std::vector<Row>& rows, const std::string& title,
                              const std::string& metric);

}  // namespace plumb::whatif
