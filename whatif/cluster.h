// A sweep on a described cluster under virtual time: the real scheduler (coordinator/core), the
// real stopping rules and tuning (coordinator/contest, coordinator/advisor), asked as the server
// asks them. What trains is replaced by curves, and deciding takes no time.
//
// The same plan, cluster and curves give the same outcome, to the last decision.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "domain/state.h"
#include "sim/scenario.h"
#include "sweeps/plan.h"

namespace plumb::whatif {

// What the trial shows at a step, of whatever metric is asked for. Not finite: it has diverged
// there, and at all later steps.
using CurveFn = std::function<double(const sweeps::PlannedTrial& trial, int64_t step)>;

struct Cluster {
  std::vector<sim::Machine> machines;  // slots, speed, memory, labels count
  // Seconds of a step on a machine of speed 1.
  std::function<double(const sweeps::PlannedTrial& trial)> seconds_per_step;
};

// Seconds by the planner's FLOPs, each of a trial's slots doing so many a second.
std::function<double(const sweeps::PlannedTrial&)> ByFlops(double flops_per_s);

struct Ran {
  const sweeps::PlannedTrial* trial = nullptr;  // of the plan, or of Outcome::added, first_runs
  StageState state = StageState::kPending;
  int64_t steps = 0;   // computed
  double seconds = 0;  // of its slots
  std::optional<double> last;
};

struct Outcome {
  std::vector<Ran> trials;                  // in the sweep's order
  std::vector<sweeps::PlannedTrial> added;  // by tuning and promotion: beyond the plan
  // To their first rung, of trials whose rungs are cooled.
  std::vector<std::shared_ptr<const sweeps::PlannedTrial>> first_runs;
  absl::Duration end;
  int64_t steps = 0;
  double flops = 0;
  double slot_seconds = 0;
  int64_t looks = 0;
  int64_t events = 0;                // that the core was told
  std::vector<std::string> history;  // promotions, stops, extensions, winners: with their reasons
};

struct RunOptions {
  // The server is killed with the so-manieth event (0: never) and starts again at once, from what
  // it had committed; with `lost`, before that event was.
  int64_t restart_at = 0;
  bool lost = false;
};

// Stages after a training, and timings, are not simulated. InvalidArgument for a trial that no
// machine can hold. `plan` must outlive the outcome.
absl::StatusOr<Outcome> Simulate(const sweeps::SweepPlan& plan, const Cluster& cluster,
                                 const CurveFn& curve, const RunOptions& options = {});

// The plan as Simulate runs it: trainings alone, each a row by itself.
sweeps::SweepPlan TrainingsOf(sweeps::SweepPlan plan);

}  // namespace plumb::whatif
