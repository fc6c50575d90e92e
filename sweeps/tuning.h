// Tuning inside a cell: which trials choose its nuisance values, which value wins, and what then
// runs on seeds that tuned nothing. Pure functions of a plan and of results.
//
//   tune trials of a cell ──► results ──► ChooseWinner ──► more tune trials (beyond the grid's
//   edge)
//                                                     └──► WinnerTrials: replicates, A/A members
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "sweeps/plan.h"
#include "sweeps/stop_spec.h"

namespace plumb::sweeps {

// One tuned field.
struct TuneAxis {
  std::string field;                // "train.lr"
  std::vector<std::string> values;  // as JSON, in the order of the file
  bool ordered = false;             // numbers, so that the grid has edges
  double least = 0, most = 0;       // that the field takes
  bool integer = false;
};

struct TunePlan {
  std::vector<TuneAxis> axes;
  int64_t seeds = 1;             // tune trials of each value
  std::optional<StopSpec> stop;  // among the tune trials of one cell
  int64_t extend = 0;            // values that may be added beyond the edges of each cell's grid
  // What a value is chosen by: the best mean over seeds.
  std::string metric, metric_at;
  std::string metric_stage;  // whose it is; tune trials have that stage too. "": the first's
  bool maximize = false;     // more of it is better
  // What follows a cell's winner.
  int64_t replicates = 1;
  bool timing = false;
  std::vector<PlannedStage> stages;      // of a replicate, without the timing
  std::vector<bool> controlled;          // by cell: its A/A control runs too
  std::vector<spec::TrialSpec> recipes;  // by cell: before Resolve, seeds of replicate 0

  double points() const;  // of one cell's grid
};

// Seeds of tune trials: the base seeds plus this plus r. Replicates have r, A/A members 100,000 +
// r.
constexpr int64_t kTuneSeeds = 200000;

// What one tune trial came to.
struct TuneResult {
  std::vector<std::string> values;  // PlannedTrial::tune_values
  std::optional<double> value;      // of the metric; nullopt for a run that diverged, failed, or
                                    // was stopped: counted as infinitely bad
};

enum class Edge { kInside, kLow, kHigh };

struct TuneDecision {
  std::vector<std::string> winner;  // by axis; empty where every value diverged or failed
  double value = 0;                 // its mean over seeds
  // By axis: the winner is the least or greatest value tried (beside the winner's other values).
  // Never of categories, nor where one value alone was tried.
  std::vector<Edge> edges;
  // Values to try next, beyond the edges; empty when the decision stands.
  std::vector<std::vector<std::string>> extension;
  int64_t tried = 0;  // points
  bool at_edge() const;
};

// Of a series' values in step order the one that an objective's `at` means: "last", "best" (the
// smallest, or the largest), "mean_last(5)". nullopt where there is none, or one that counts is not
// finite.
std::optional<double> ValueAt(const std::string& at, const std::vector<double>& values,
                              bool maximize = false);

// All results of one cell's tune trials, those of earlier extensions too, in any order. Of equal
// means the smaller value wins, axis by axis (of categories the one written first). With `extend`
// left, each axis whose edge the winner is on is continued by the grid's own ratio (of a
// logarithmic grid) or step; where nothing finished, downwards from the least value.
TuneDecision ChooseWinner(const TunePlan& plan, const std::vector<TuneResult>& results);

// Of a cell whose decision stands: "tune_edge:train.lr:high" for each edge, "tune_failed" without a
// winner.
std::vector<std::string> TuneFlags(const TunePlan& plan, const TuneDecision& decision);
// The decision in words, for its event: "train.lr = 0.01 by the least mean tune/bits_per_byte, 2.6,
// of 3 values; the greatest tried, 0.1 is next".
std::string InWords(const TunePlan& plan, const TuneDecision& decision);

// Keeps the first of a trial's stages, and those that lead to the one called `last` ("": no other).
void KeepWayTo(const std::string& last, std::vector<PlannedStage>* stages);

// The tune trials of a cell for these values, one for each seed; how the plan's own were made, and
// for extensions. InvalidArgument for values that make no trial.
absl::StatusOr<std::vector<PlannedTrial>> TuneTrials(const SweepPlan& plan, int64_t cell,
                                                     const std::vector<std::string>& values);

// The cell's replicates and then its A/A members, with the winner's values.
absl::StatusOr<std::vector<PlannedTrial>> WinnerTrials(const SweepPlan& plan, int64_t cell,
                                                       const std::vector<std::string>& values);

// Where an objective is read while the sweep still decides by it: on the tune split, since what
// conclusions are drawn from is read once, at the end. A series of no split stays as it is, and is
// `metric` "" where it is of the training: nobody says when that would be read.
PlannedObjective WhileDeciding(PlannedObjective objective);
// What the sweep's own `stop:` reads; metric "": nothing that it could.
PlannedObjective StoppingBy(const SweepPlan& plan);

// Unimplemented, with what to do instead, for a plan that the coordinator cannot carry out yet.
absl::Status NotYetServed(const SweepPlan& plan);

}  // namespace plumb::sweeps
