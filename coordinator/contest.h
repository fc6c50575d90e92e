// The trials of a sweep among which its stopping rules choose, and what they have shown so far.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/core/events.h"
#include "store/read.h"
#include "sweeps/plan.h"
#include "sweeps/stopping.h"

namespace plumb::coordinator {

class Contest {
 public:
  explicit Contest(const sweeps::SweepPlan& plan);

  // The sweep's next trials; what comes in one call, of one cell, is compared with itself alone.
  void Join(const std::vector<sweeps::PlannedTrial>& trials);
  // Where trial `idx` of the sweep is to pause; -1: nowhere.
  int64_t UntilOf(int64_t idx) const;
  bool Judges(int64_t idx) const;  // a rule stops or promotes that trial
  bool empty() const { return rules_.empty(); }
  int64_t looks() const { return looks_; }

  // Looks of the database, in their order.
  absl::Status Take(const std::vector<LookRow>& looks);
  // What the trials have shown since: looks and the verdicts that follow.
  absl::Status Look(const std::vector<store::TrialProgress>& trials, store::Results& results,
                    core::AdviseSweep* out);
  // Whether a trial that the sweep's own rules judge has not ended.
  bool IsOn(const std::vector<store::TrialProgress>& trials) const;

 private:
  struct Rules {
    std::string series;
    sweeps::Stopping stopping;
    std::vector<int64_t> trials = {};  // by contestant: its place in the sweep
  };
  struct Place {
    int rules = -1;  // none: no rule judges it
    int64_t contestant = 0;
    int64_t steps = 0;
    int64_t looked = -1;  // step of its last look
  };
  void Take(int64_t idx, int64_t step, std::optional<double> value);
  void Spare(const std::vector<store::TrialProgress>& trials, core::AdviseSweep* out);

  int tune_ = -1, main_ = -1;  // places among rules_
  bool across_ = false;
  std::vector<Rules> rules_;
  std::vector<Place> places_;  // by trial
  int64_t joins_ = 0;
  int64_t looks_ = 0;
};

}  // namespace plumb::coordinator
