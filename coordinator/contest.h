// The trials of a sweep among which its stopping rules choose, and what they have shown so far.
//
// A trial whose rungs are cooled (sweeps/rungs.h) takes part by a chain of runs, each at a place of
// its own in the sweep: the one to its first rung at the trial's own place, those that follow a
// promotion at places that are added, the whole trial last.
#pragma once

#include <cstdint>
#include <map>
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
  // What runs at place `idx`, where the sweep has `trial`: that, or the run to its first rung.
  const sweeps::PlannedTrial& RunAt(int64_t idx, const sweeps::PlannedTrial& trial) const;
  // Whether the trial that `idx` stands for still takes part though that run may have ended.
  bool GoesOn(int64_t idx) const;
  // Whether `idx` is not the last run of its chain so far.
  bool IsReplaced(int64_t idx) const;
  // Runs to be added: what is promoted has ended where it was.
  struct Next {
    int64_t of = 0;     // the trial's place
    int64_t steps = 0;  // of its next run
    std::string reason;
  };
  std::vector<Next> NextRuns() const;
  bool empty() const { return rules_.empty(); }
  int64_t looks() const { return looks_; }

  // Looks of the database, in their order.
  absl::Status Take(const std::vector<LookRow>& looks);
  // What the trials have shown since: looks and the verdicts that follow.
  absl::Status Look(SweepId sweep, const std::vector<store::TrialProgress>& trials,
                    store::Results& results, core::AdviseSweep* out);
  // Of the last Look: whether a trial that the sweep's own rules judge has not ended.
  bool IsOn() const { return on_; }

 private:
  struct Rules {
    sweeps::PlannedObjective by;
    sweeps::StopSpec rule;
    sweeps::Stopping stopping;
    std::vector<int64_t> trials = {};  // by contestant: its place in the sweep
    std::vector<int64_t> last = {};    // by contestant: that of its last run
  };
  struct Place {
    int rules = -1;  // none: no rule judges it
    int64_t contestant = 0;
    int64_t steps = 0;
    int64_t looked = -1;  // step of its last look
    int64_t whole = 0;    // of a chain: the steps of the trial that it stands for
    std::shared_ptr<const sweeps::PlannedTrial> first_run;  // in place of the sweep's trial
  };
  bool Out(const Place& p) const { return rules_[p.rules].stopping.Out(p.contestant); }
  // How many steps its verdict lets it have.
  int64_t Allowed(const Place& p) const;
  // By trial that a later stage of is judged: that stage.
  using Judged = std::map<TrialId, store::NamedStage>;
  absl::Status LookAt(const store::TrialProgress& t, const Judged& judged, store::Results& results,
                      core::AdviseSweep* out);
  // As what is judged of it stands: the later stage, where there is one and the training has
  // succeeded.
  static StageState StateOf(const store::TrialProgress& t, const Judged& judged);
  void Take(int64_t idx, int64_t step, std::optional<double> value);
  void Spare(const std::vector<store::TrialProgress>& trials, core::AdviseSweep* out);

  int tune_ = -1, main_ = -1;  // places among rules_
  bool across_ = false;
  bool cools_ = true;
  std::vector<Rules> rules_;
  std::vector<Place> places_;  // by trial
  int64_t joins_ = 0;
  int64_t looks_ = 0;
  bool on_ = false;
};

}  // namespace plumb::coordinator
