// The scheduler as a pure state machine: Apply(event, now) → effects. One thread; no clock, socket,
// file or random source inside; the same events give the same effects.
//
// Invariants (CheckInvariants):
//  1. A stage has at most one live attempt; its number is stage.attempts; attempt numbers only
//  rise.
//  2. A stage is RUNNING exactly while it has a live attempt, and then exactly one worker's grants
//  hold it.
//  3. A worker's used slots are the sum over its grants and over what it is still stopping; a grant
//  never exceeds them.
//  4. An exclusive stage shares its worker with nothing.
//  5. A stage waits in exactly one queue if it is PENDING with its parent succeeded, in none
//  otherwise.
//  6. A trial's state follows from its stages; a running sweep is completed exactly when none of
//  its trials is live.
//  7. A child is never RUNNING or SUCCEEDED unless its parent is SUCCEEDED.
//  8. Every transition is in domain/state.h's table, but for a reopened stage (below).
//
// Rules that are choices:
//  - A trial shared with an earlier sweep runs once. One that ended FAILED or CANCELLED gets a new
//  budget when a new sweep
//    asks for it; DIVERGED, INFEASIBLE and STOPPED are results and are shared as they are.
//  - A shared trial gains the stages it has not, also after its end, and of what it has only those
//    that the new sweep asks for get a new budget. A stage of the same name that does something
//    else stays; the new one is then NAME-2 (-3, …).
//  - A trial is live, and every sweep that waits for it waits, until all its stages have ended.
//  - Cancelling a sweep spares trials that another live sweep waits for.
//  - A lost attempt counts against the budget only if its worker ever spoke of it: an undelivered
//  grant is nobody's fault.
//  - A committed checkpoint past the last one resets the budget; preemption never counts.
//  - RetryTrial is the one way out of a terminal state, on request only.
#pragma once

#include <compare>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coordinator/core/events.h"
#include "domain/snapshot.h"

namespace plumb::core {

struct Options {
  absl::Duration lease = absl::Seconds(60);
  int max_failures = 3;
  absl::Duration retry_backoff = absl::Seconds(1);
  absl::Duration retry_backoff_max = absl::Minutes(1);
};

class Core {
 public:
  // Every connected worker starts with a fresh lease.
  Core(const Options& options, const ClusterSnapshot& snapshot);

  Effects Apply(const Event& event, Now now);
  // Cluster time at which a Tick may change something; InfiniteDuration: none.
  absl::Duration NextWakeup() const;

  // While pinned, finished trials stay in memory, so that a look-up on disk made meanwhile cannot
  // be out of date where it matters. One Pin per look-up; the event that brings its result unpins.
  void Pin() { ++pins_; }
  void Unpin();

  // ---- reads of state; what they say is true once the changes made so far are committed ----
  int64_t incarnation() const { return incarnation_; }
  int64_t generation() const { return generation_; }  // the last one given
  // The sweep to materialise next and its cursor; none: nothing to do.
  struct Cursor {
    SweepId sweep;
    int64_t from = 0;
    int64_t trials = 0;  // in all
    std::string request_id, request_hash;
  };
  std::optional<Cursor> NextSlice() const;
  std::optional<WorkerId> WorkerOfSession(SessionId session) const;  // current sessions only
  bool SessionWasFenced(SessionId session) const;                    // an older session of a worker
  SessionId SessionOf(WorkerId worker) const { return workers_.at(worker).row.session; }
  int64_t Generation(WorkerId worker) const;
  std::vector<Grant> Desired(WorkerId worker) const;
  int64_t waiting() const;  // stages that could run, given room
  bool IsLive(TrialId trial) const { return trials_.contains(trial); }

  struct WorkerView {
    WorkerRow row;
    int64_t used = 0;
    absl::Duration silent;
  };
  std::vector<WorkerView> Workers(Now now) const;
  // Why the trial is where it is, one sentence a stage. Empty for a trial that is not in memory.
  std::vector<std::string> Explain(TrialId trial, Now now) const;

  absl::Status CheckInvariants() const;

 private:
  // Smaller first.
  struct Order {
    int64_t priority = 0;
    SweepId sweep;
    int64_t idx = 0;
    StageId stage;
    auto operator<=>(const Order&) const = default;
  };
  // What a stage asks of a worker.
  struct Need {
    bool exclusive = false;
    int64_t slots = 1;
    auto operator<=>(const Need&) const = default;
  };
  enum class Queue { kNone, kReady, kBackoff };
  struct Live {  // the running attempt
    WorkerId worker;
    SessionId session;
    int64_t granted_generation = 0;
    int64_t acked_seq = 0;
    bool seen = false;  // its worker spoke of it
  };
  struct Stage {
    StageRow row;
    std::vector<StageId> children;
    std::optional<Live> live;
    Queue queue = Queue::kNone;
  };
  struct Trial {
    TrialRow row;
    std::vector<StageId> stages;  // parents before children
    SweepId order_sweep;          // place in the queue: of the sweep that brought it
    int64_t order_idx = 0;
    std::set<SweepId> sweeps;  // that wait for it
  };
  struct Sweep {
    SweepRow row;
    std::set<TrialId> live;
  };
  // Dropped from the desired state, slots still taken until the worker has applied that and no
  // longer speaks of it.
  struct Stopping {
    int64_t slots = 0;
    int64_t dropped_generation = 0;
  };
  struct Worker {
    WorkerRow row;
    int64_t generation = 0;
    std::set<StageId> grants;
    std::map<AttemptId, Stopping> stopping;
    int64_t used = 0;
    absl::Duration heard;
    bool exclusive = false;  // holds an exclusive stage
  };

  // submit.cc
  absl::StatusOr<Answer> On(const SubmitSweep& e);
  absl::StatusOr<Answer> On(const MaterializeSlice& e);
  absl::StatusOr<Answer> On(const AbandonSweep& e);
  absl::StatusOr<Answer> On(const CancelSweep& e);
  absl::StatusOr<Answer> On(const CancelTrial& e);
  absl::StatusOr<Answer> On(const RetryTrial& e);
  void AddTrial(const TrialTree& tree, SweepId order_sweep, int64_t order_idx);
  void EndSweep(Sweep& sweep, SweepState state, absl::string_view why);
  int64_t CancelStages(Trial& trial, absl::string_view reason);
  // The trial's stages that `wanted` asks for; those that it has not are made.
  std::set<StageId> GainStages(Trial& trial, const NewTrial& wanted);
  // A new budget for what ended otherwise than with a result, of `among` or, where that is null, of
  // all stages.
  int64_t Reopen(Trial& trial, absl::string_view reason, bool stopped_too,
                 const std::set<StageId>* among);

  // workers.cc
  absl::StatusOr<Answer> On(const RegisterWorker& e);
  absl::StatusOr<Answer> On(const Report& e);
  absl::StatusOr<Answer> On(const QuarantineAttempts& e);
  absl::StatusOr<Answer> On(const Tick& e);
  // True, after raising the incarnation, if the worker remembers more of this cluster than the
  // database does: the file is an older copy put back.
  bool RaisedFor(int64_t known_incarnation, absl::Duration known_cluster);
  void RaiseIncarnation(int64_t known);
  Ack OnBatch(Worker& worker, const MeasurementBatchPtr& batch);
  Ack OnAttempt(Worker& worker, const AttemptReport& report);
  // Ends the live attempt and moves the stage as the outcome says.
  void EndAttempt(Stage& stage, Outcome outcome, absl::string_view cause,
                  absl::string_view log_tail, absl::string_view summary_json);
  void LoseAll(Worker& worker, absl::string_view why);

  // schedule.cc
  void Schedule();
  void GrantTo(Worker& worker, Stage& stage);
  void Place(Stage& stage);  // into the queue its state asks for
  void Index(Worker& worker);
  void Unindex(const Worker& worker);
  Order OrderOf(const Stage& stage) const;
  static Need NeedOf(const Stage& stage);
  bool ParentSucceeded(const Stage& stage) const;

  // core.cc
  static int64_t FirstSession(int64_t incarnation);  // all sessions of an incarnation are above it
  void Move(Stage& stage, StageState to, absl::string_view reason);
  void Settle(Trial& trial);  // the trial's state, and what follows for its sweeps
  static StageState StateOf(const std::vector<const StageRow*>& stages);
  void Flush();
  void Evict();
  void Note(absl::string_view kind, const Stage* stage, WorkerId worker, absl::string_view detail);
  void NoteSweep(absl::string_view kind, SweepId sweep, absl::string_view detail);
  void Wake(Worker& worker);  // its desired state changed
  Fence FenceOf(const Stage& stage) const;
  Stage& At(StageId id) { return stages_.at(id); }
  const Stage& At(StageId id) const { return stages_.at(id); }

  const Options options_;
  int64_t incarnation_;
  int64_t generation_;  // last given: rises through the whole life of the file
  SweepId last_sweep_;
  TrialId last_trial_;
  StageId last_stage_;
  WorkerId last_worker_;
  SessionId last_session_;
  int pins_ = 0;

  std::map<SweepId, Sweep> sweeps_;
  std::map<std::string, SweepId> by_request_;
  std::set<SweepId> materializing_;
  std::map<TrialId, Trial> trials_;  // live, or finished and not yet evicted
  std::map<std::string, TrialId> by_key_;
  std::map<StageId, Stage> stages_;
  std::set<TrialId> finished_;
  std::map<WorkerId, Worker> workers_;
  std::map<std::string, WorkerId> by_name_;
  std::map<SessionId, WorkerId> by_session_;

  std::map<Need, std::set<Order>> ready_;
  std::set<std::pair<absl::Duration, StageId>> backoff_;
  std::set<std::pair<int64_t, WorkerId>>
      free_;  // (-free slots, worker), of workers that take grants
  std::set<std::pair<int64_t, WorkerId>> idle_;  // (-slots, worker), of those, with nothing to do
  std::set<std::pair<absl::Duration, WorkerId>> expiry_;
  WorkerId reserved_;  // kept free for a stage that needs more room than any worker has now

  std::string illegal_move_;  // the first one ever made, for CheckInvariants

  // Of the Apply in progress.
  Now now_;
  Effects effects_;
  std::set<StageId> dirty_stages_;
  std::set<TrialId> dirty_trials_;
  std::set<SweepId> dirty_sweeps_;
  std::set<WorkerId> dirty_workers_;
  std::set<WorkerId> woken_;
};

}  // namespace plumb::core
