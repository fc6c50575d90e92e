// The members of a sweep's population: which trial each is, what they have come to at the ends of
// generations, and which forks follow (sweeps/population.h). A function of the plan, of the sweep's
// additions and of its looks, so that it comes out the same after a restart.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/core/events.h"
#include "domain/rows.h"
#include "store/read.h"
#include "sweeps/plan.h"
#include "sweeps/population.h"

namespace plumb::coordinator {

class PopulationLog {
 public:
  // `plan` has a population: its trials are the members as they begin.
  explicit PopulationLog(const sweeps::SweepPlan& plan);

  // Takes an addition of the sweep, whose first trial is number `first_trial` of the sweep. The
  // cells that it brings are added to `cells`; returns its trials. DataLoss for one never made.
  absl::StatusOr<std::vector<sweeps::PlannedTrial>> Take(const AdditionRow& addition,
                                                         int64_t first_trial,
                                                         std::vector<sweeps::PlannedCell>* cells);

  int64_t looks() const { return looks_; }
  // Begins again with these looks, which the database has, in their order.
  absl::Status Rewind(const std::vector<LookRow>& looks);

  // The last checkpoint of a trial's stage.
  using CheckpointOf = std::function<absl::StatusOr<CheckpointRow>(TrialId, StageId)>;
  // What the members have come to since: looks, the forks that follow, who goes on and who ends.
  absl::Status Look(const std::vector<store::TrialProgress>& trials, store::Results& results,
                    const CheckpointOf& checkpoint_of, core::AdviseSweep* out);

 private:
  // By trial of the sweep.
  struct Place {
    int64_t member = 0;
    sweeps::SearchPoint values;
    bool out = false;       // it has given way
    int64_t keep_step = 0;  // forks begin from its checkpoint of this step
    std::string reason;     // of the last decision
  };
  void Begin();
  absl::Status Take(int64_t idx, std::optional<double> value);
  void Decide();
  absl::Status Forks(const std::vector<store::TrialProgress>& trials,
                     const CheckpointOf& checkpoint_of, core::AdviseSweep* out);
  // Whether the generations have all ended.
  bool IsOver() const { return generation_ == std::ssize(plan_->ends); }

  std::shared_ptr<const sweeps::PopulationPlan> plan_;
  std::string series_;
  std::vector<Place> places_;
  std::map<std::pair<int64_t, int64_t>, int64_t> forks_;  // by generation and member: place
  int64_t looks_ = 0;
  int64_t generation_ = 0;        // ends that were decided on
  std::vector<int64_t> current_;  // by member: its place; -1: a fork that is not there yet
  std::vector<std::optional<std::optional<double>>> seen_;  // by member, at the next end
  // The last decision: whose state whom takes over, and what each had come to.
  std::vector<sweeps::Exchange> exchanges_;
  std::vector<int64_t> from_place_;  // by exchange
  std::vector<std::optional<double>> values_;
};

}  // namespace plumb::coordinator
