// The scheduler as a pure state machine: Apply(event, now) → effects. One thread; no clock, socket,
// file or random source inside; the same events give the same effects.
//
// Invariants (CheckInvariants):
//  1. A stage has at most one live attempt; its number is stage.attempts; attempt numbers only
//  rise.
//  2. A stage is RUNNING exactly while it has a live attempt, and then exactly one worker's grants
//  hold it, or, of a gang, those of each of its workers.
//  3. A worker's used slots are the sum over its bundles; a grant never exceeds them. Each grant is
//  in exactly one bundle of its worker; a bundle is there while it has a row, or one that its
//  worker is still stopping, and never holds more rows than its trainer was opened for.
//  4. An exclusive stage shares its worker with nothing.
// 13. A paused stage is at its rung.
// 12. A gang has all its ranks, on different workers; none of them is lost or gone.
//  5. A stage waits in exactly one queue if it is PENDING with its parent succeeded and awaits no
//  trunk, in none otherwise.
// 14. What a stage awaits is before it, by (trunk step, stage).
//  6. A trial's state follows from its stages; a running sweep that is not open is completed
//  exactly when none of its trials is live.
//  7. A child is never RUNNING or SUCCEEDED unless its parent is SUCCEEDED.
//  8. Every transition is in domain/state.h's table, but for a reopened stage (below).
//  9. A stage that only paused sweeps wait for is in no queue, and if it runs it is asked to end.
// 11. What attempts are charged adds up to what their users are.
// 10. No grant takes a user past his quota, or a worker past its memory, or goes to a worker
// without
//  a label it needs.
//
// Rules that are choices:
//  - A trial shared with an earlier sweep runs once. One that ended FAILED, CANCELLED or STOPPED
//    (another sweep's rule has no say here) gets a new budget when a new sweep asks for it;
//    DIVERGED and INFEASIBLE are results and are shared as they are.
//  - A stage pauses at its rung, and goes on when one of the sweeps that wait for it promotes it,
//  or
//    asks for it without a rung; it is stopped when all of them have given it up.
//  - A shared trial gains the stages it has not, also after its end, and of what it has only those
//    that the new sweep asks for get a new budget. A stage of the same name that does something
//    else stays; the new one is then NAME-2 (-3, …).
//  - A trial is live, and every sweep that waits for it waits, until all its stages have ended.
//  - An open sweep is not completed when all its trials have ended: whoever advises it extends it
//  or
//    closes it. One that is completed may be extended.
//  - Cancelling a sweep spares trials that another live sweep waits for.
//  - A lost attempt counts against the budget only if its worker ever spoke of it: an undelivered
//  grant is nobody's fault.
//  - A committed checkpoint past the last one resets the budget; preemption never counts.
//  - A stage whose checkpoint is not there any more (the database is an older copy, and what it
//    knows was replaced by later ones) begins again.
//  - A worker that was not heard of for `suspect` gets nothing new; after `lease` what it had is
//  lost.
//  - A worker on which attempts of several trials in a row end without progress is quarantined: it
//    gets nothing for a while, then one attempt at a time until one of them gets on. Those trials
//    get back what it cost them of their budgets.
//    Not while most workers have such failures: then it is the work, not the machine.
//  - Losses (max_losses) and want of memory (max_ooms) have budgets of their own. An attempt that
//    ran out of memory is followed by one with half the micro-batch, elsewhere if there is room.
//  - A stage goes again to a worker where it failed only if no other has room; else where its
//    checkpoint was made, then where most room is, workers with fewer labels first.
//  - Who is next: the highest priority of a sweep (not paused) that waits; then the user who has
//  had
//    the least slot-seconds for his weight, an attempt being charged its likely length when it is
//    granted and its true one when it ends, and a user who comes back starting level with the
//    others; then replicates, sweeps and trials in order.
//  - A stage of higher priority that finds no room has attempts of lower priority end with a
//    checkpoint.
//  - A worker that says when its machine will be taken from it is left in time, by checkpoint, and
//    gets nothing that is likely to take longer if another has room.
//  - A stage that allows it joins a bundle of its fusion key (same user, priority, need) where no
//    slot is free. A bundle has one row until its speed is known, then twice as many for as long as
//    that makes its rows together 5 % faster. What failed, was lost or ran out of memory goes
//    alone. While something else waits, a bundle takes new rows for `refill` only.
//  - A stage of several ranks that no worker could hold by itself, were it empty, is granted to as
//    few workers as can hold it together, whole ranks to each, all at once or not at all: a gang.
//    They must be able to reach each other. The first of them has rank 0 and alone speaks for the
//    attempt. What ends one worker's part ends the attempt.
//  - A stage that shares a prefix key with others begins from the longest checkpoint of theirs that
//    it may (trunks.cc), and waits for one that is longer while another is on its way to it: one
//    that runs, or that is as urgent, of the same user and labels, and of no later a sweep. Shorter
//    ones go first, so no two wait for each other. Where that other ends, pauses or has to wait for
//    its sweep, the stage takes what is there, or begins by itself. Nothing fails for want of one.
//  - RetryTrial is the one way out of a terminal state, on request only.
#pragma once

#include <algorithm>
#include <compare>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coordinator/core/events.h"
#include "domain/snapshot.h"

namespace plumb::core {

struct Options {
  absl::Duration lease = absl::Seconds(60);
  absl::Duration suspect = absl::Seconds(20);  // at most the lease
  int max_failures = 3;
  int max_losses = 8;
  int max_ooms = 4;
  absl::Duration leave = absl::Seconds(60);    // before the end that a worker announced
  absl::Duration typical = absl::Seconds(60);  // of an attempt, while nothing is known
  absl::Duration retry_backoff = absl::Seconds(1);
  absl::Duration retry_backoff_max = absl::Minutes(1);
  int strikes = 3;  // trials that end without progress on a worker, in a row, until its quarantine
  absl::Duration quarantine = absl::Minutes(10);  // twice as long each time it does not help
  absl::Duration quarantine_max = absl::Hours(4);
  absl::Duration refill = absl::Minutes(10);  // a bundle takes new rows, while others wait
  bool grants = true;                         // false: nothing is given to any worker
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
  int64_t run() const { return run_; }
  int64_t generation() const { return generation_; }  // the last one given
  // The sweep to materialise next and its cursor; none: nothing to do.
  struct Cursor {
    SweepId sweep;
    int64_t from = 0;
    int64_t trials = 0;  // in all
    std::string request_id, request_hash;
    std::vector<AdditionRow> additions;  // after the plan's own trials
  };
  std::optional<Cursor> NextSlice() const;
  Cursor CursorOf(SweepId sweep) const;       // one that is there
  const SweepRow* Find(SweepId sweep) const;  // null: there is none
  // An open sweep of which something has ended, paused, been evaluated or got a place on its way to
  // a rung since it was last looked at, and all of whose trials are there: its advisor may extend
  // it, close it, or judge its
  // trials.
  struct Due {
    SweepId sweep;
    int64_t seen = 0;
  };
  std::optional<Due> NextDue() const;
  std::optional<WorkerId> WorkerOfSession(SessionId session) const;  // current sessions only
  int64_t sessions() const { return std::ssize(by_session_); }       // current ones
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
    bool suspect = false;
    absl::Duration quarantined;  // for so long yet
    bool on_probation = false;   // after a quarantine: one attempt at a time
    int64_t memory_used = 0;
    absl::Duration remaining = absl::InfiniteDuration();
  };
  std::vector<WorkerView> Workers(Now now) const;
  struct UserView {
    UserRow row;
    int64_t slots = 0;    // taken
    int64_t waiting = 0;  // stages that could run, given room
  };
  std::vector<UserView> Users() const;
  // Why the trial is where it is, one sentence a stage. Empty for a trial that is not in memory.
  std::vector<std::string> Explain(TrialId trial, Now now) const;
  // What the worker has and may have, and why; empty for a name that is not known.
  std::vector<std::string> ExplainWorker(const std::string& name, Now now) const;

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
    int64_t memory = 0;  // bytes, rounded up
    int64_t labels = 0;  // by number (Names)
    int64_t ranks = 1;   // equal parts, which several workers may share
    auto operator<=>(const Need&) const = default;
  };
  enum class Queue { kNone, kReady, kBackoff };
  // Whom a trial is computed for: of the sweeps that wait for it and are not paused, the most
  // urgent.
  struct Sponsor {
    bool paused = false;
    int64_t priority = 0;
    std::string user;
  };
  // A place among those that could run.
  struct Spot {
    int64_t priority = 0;
    std::string user;
    Need need;
    Order order;
  };
  // What another worker than the first has of a gang.
  struct Member {
    WorkerId worker;
    int64_t first_rank = 0, ranks = 0;
    int64_t bundle = 0;
    int64_t granted_generation = 0;
    bool seen = false;  // its worker spoke of it
  };
  struct Live {  // the running attempt
    WorkerId worker;
    SessionId session;
    int64_t granted_generation = 0;
    int64_t acked_seq = 0;
    bool seen = false;      // its worker spoke of it
    bool progress = false;  // it has committed a checkpoint
    bool preempt = false;   // it is asked to end with one
    int64_t bundle = 0;
    int64_t priority = 0;
    int64_t grant = 0;  // counts grants
    std::string user;
    absl::Duration start;
    int64_t start_step = 0;
    int64_t row_us = 0;    // rows of its bundle times microseconds
    int64_t slot_us = 0;   // its share of the bundle's slot-microseconds
    double charge_us = 0;  // to the user, until it ends
    std::vector<Member> members;
    std::string rendezvous, secret;  // for them, once rank 0 has said so
  };
  // What stages have in common that may share a bundle.
  struct Fusion {
    int64_t priority = 0;
    std::string user;
    Need need;
    int64_t key = 0;   // the stage's kind and fusion key, by number
    int64_t most = 1;  // rows that they allow
    auto operator<=>(const Fusion&) const = default;
  };
  struct Bundle {
    WorkerId worker;
    Fusion fusion;
    int64_t rows_max = 1;  // its trainer was opened for
    int64_t slots = 0, memory = 0;
    std::set<StageId> rows;  // a gang's stage is in a bundle on each of its workers
    int64_t stopping = 0;    // rows that its worker has yet to let go: their places are taken
    absl::Duration opened, accounted;
    std::string user;      // whose its slots are; after a restart rows may be for others than he
    bool closed = false;   // takes no more rows
    bool leaving = false;  // all its rows are asked to end
  };
  struct Stage {
    StageRow row;
    std::vector<StageId> children;
    std::optional<Live> live;
    Queue queue = Queue::kNone;
    Spot spot;                       // while kReady
    std::set<WorkerId> failed_on;    // since it last got on
    int64_t labels = 0, fusion = 0;  // by number
    WorkerId last_on;                // of its last attempt
  };
  struct Trial {
    TrialRow row;
    std::vector<StageId> stages;  // parents before children
    SweepId order_sweep;          // place in the queue: of the sweep that brought it
    int64_t order_idx = 0;
    std::set<SweepId> sweeps;    // that wait for it
    std::set<SweepId> given_up;  // of them: whose rule stops it
  };
  struct Sweep {
    SweepRow row;
    std::set<TrialId> live;
    std::vector<AdditionRow> additions;
    int64_t looks = 0;
    int64_t news = 0;   // since the start: what may change its advice
    int64_t seen = -1;  // `news` when it was last looked at
  };
  // Dropped from the desired state, slots still taken until the worker has applied that and no
  // longer speaks of it.
  struct Stopping {
    int64_t bundle = 0;
    int64_t dropped_generation = 0;
  };
  struct Worker {
    WorkerRow row;
    int64_t labels = 0;  // by number
    int64_t gang = 0;    // the same
    int64_t generation = 0;
    std::set<StageId> grants;
    std::map<AttemptId, Stopping> stopping;
    std::set<int64_t> arrays;  // its bundles of more than one row
    int64_t used = 0;
    absl::Duration heard;
    int64_t memory_used = 0;
    bool exclusive = false;                          // holds an exclusive stage
    absl::Duration ends = absl::InfiniteDuration();  // as it announced
    bool leaving = false;                            // that is soon
    bool suspect = false;
    std::map<TrialId, StageId> strikes;  // whose last attempt here ended without progress
    // As it stands in able_.
    bool able = false;
    int64_t able_labels = 0, able_slots = 0, able_memory = 0, able_gang = 0;
  };

  // What stages of one prefix key share.
  struct Trunk {
    std::map<int64_t, TrunkRow> checkpoints;       // by step
    std::set<std::pair<int64_t, StageId>> stages;  // in memory, by trunk step
  };

  struct User {
    UserRow row;
    int64_t slots = 0;
    int64_t waiting = 0;  // in ready_
    double charged_us = 0;
    double key = 0;  // its place in by_share_ while it waits
  };
  using Class = std::pair<int64_t, int64_t>;  // workers' labels: how many, which

  // Texts by number, from 0 for the empty one: what is compared a thousand times a second.
  class Names {
   public:
    int64_t Of(const std::string& text) {
      const auto [it, is_new] = ids_.try_emplace(text, std::ssize(texts_));
      if (is_new) texts_.push_back(text);
      return it->second;
    }
    const std::string& operator[](int64_t id) const { return texts_[id]; }

   private:
    std::map<std::string, int64_t> ids_ = {{"", 0}};
    std::vector<std::string> texts_ = {""};
  };

  // submit.cc
  absl::StatusOr<Answer> On(const SubmitSweep& e);
  absl::StatusOr<Answer> On(const MaterializeSlice& e);
  absl::StatusOr<Answer> On(const AdviseSweep& e);
  // advise.cc
  void Carry(Sweep& sweep, const AdviseSweep::Verdict& verdict);
  // Ends the trial as stopped where every sweep that waits for it has given it up.
  void StopIfGivenUp(Trial& trial, absl::string_view reason);
  // The stage may go on to `until`, -1: its target; never back.
  void Raise(Stage& stage, int64_t until, absl::string_view reason);
  // The sweeps that wait for the trial and have an advisor are to be looked at.
  void Tell(const Trial& trial);
  absl::StatusOr<Answer> On(const AbandonSweep& e);
  absl::StatusOr<Answer> On(const CancelSweep& e);
  absl::StatusOr<Answer> On(const CancelTrial& e);
  absl::StatusOr<Answer> On(const RetryTrial& e);
  absl::StatusOr<Answer> On(const AddStage& e);
  absl::StatusOr<Answer> On(const EditSweep& e);
  // edit.cc
  absl::StatusOr<Answer> On(const ExtendSweep& e);
  absl::StatusOr<Answer> On(const Annotate& e);
  // More trials of a sweep are to be made.
  void Grow(Sweep& sweep, int64_t trials);
  // Why the trial cannot be taken back: another sweep waits for it, or it has begun; empty: it can.
  std::string Begun(TrialId trial) const;
  // import.cc
  absl::StatusOr<Answer> On(const ImportTrials& e);
  // remove.cc
  absl::StatusOr<Answer> On(const RemoveSweep& e);
  absl::StatusOr<Answer> On(const RemoveTrial& e);
  absl::StatusOr<Answer> On(const PurgeTrial& e);
  void AddTrial(const TrialTree& tree, SweepId order_sweep, int64_t order_idx);
  // Completed, unless something is live or more may come.
  void EndIfDone(Sweep& sweep, absl::string_view why);
  void EndSweep(Sweep& sweep, SweepState state, absl::string_view why);
  int64_t CancelStages(Trial& trial, absl::string_view reason);
  // stages.cc
  // The trial's stages that `wanted` asks for, by the names it has for them; those that the trial
  // has not, under any name, are made.
  std::map<std::string, StageId> GainStages(Trial& trial, const NewTrial& wanted);
  // Of stages by what a sweep calls them, those that the trial calls otherwise (SweepTrialRow).
  static std::string OtherNames(const std::map<std::string, std::string>& names);
  // The stage that does what `wanted` does, with its parent; made where the trial has none.
  StageId GainStage(Trial& trial, const StageRow& wanted);
  // The trial, from memory or as it was found on disk; nullptr: it is nowhere.
  Trial* Recall(TrialId trial, const std::optional<TrialTree>& known,
                const std::vector<SweepTrialRow>& links, const std::vector<TrunkRow>& trunks);
  // What was ended goes on: sweeps that have it and are not cancelled wait for it again.
  void Revive(Trial& trial, const std::vector<SweepTrialRow>& links, absl::string_view why);
  // Of one stage and of what was cancelled because of it.
  absl::StatusOr<std::set<StageId>> ToRetry(const Trial& trial, const std::string& stage) const;
  static const std::set<StageState>& NoResult();  // ends that are no result of the trial
  // A new budget for what ended as `from` says, of `among` or, where that is null, of all stages.
  int64_t Reopen(Trial& trial, absl::string_view reason, const std::set<StageState>& from,
                 const std::set<StageId>* among);

  // workers.cc
  absl::StatusOr<Answer> On(const RegisterWorker& e);
  absl::StatusOr<Answer> On(const Report& e);
  absl::StatusOr<Answer> On(const EditWorker& e);
  absl::StatusOr<Answer> On(const QuarantineAttempts& e);
  absl::StatusOr<Answer> On(const Tick& e);
  // True, after raising the incarnation, if the worker remembers more of this cluster than the
  // database does: the file is an older copy put back.
  bool RaisedFor(int64_t known_incarnation, const Moment& known);
  void RaiseIncarnation(int64_t known);
  Ack OnBatch(Worker& worker, const MeasurementBatchPtr& batch);
  Ack OnAttempt(Worker& worker, const AttemptReport& report);
  // Ends the live attempt and moves the stage as the outcome says.
  // `by`: the worker of a gang that says so; none: the one with rank 0.
  void EndAttempt(Stage& stage, Outcome outcome, absl::string_view cause,
                  absl::string_view log_tail, absl::string_view summary_json, WorkerId by = {},
                  StageState cancelled_as = StageState::kCancelled);
  // The checkpoint to go on from is not there: the stage begins again.
  bool CheckpointGone(Worker& worker, Stage& stage, const AttemptReport& report);
  // What a worker says of its part of a gang.
  void OnMember(Worker& worker, Stage& stage, const AttemptReport& report);
  void LoseAll(Worker& worker, absl::string_view why);
  void SetEnd(Worker& worker, absl::Duration remaining);
  // All it has is asked to end with a checkpoint.
  void Vacate(Worker& worker, absl::string_view why);
  void Preempt(Stage& stage, absl::string_view why);
  void Running(const Stage& stage, bool runs);                // into running_, or out of it
  bool Urgent(const Bundle& bundle, int64_t priority) const;  // a row of it is as urgent as that
  // An attempt ended there; `progress`: with a result, or after a new checkpoint.
  void Judge(Worker& worker, Stage& stage, bool progress, bool at_fault);

  // schedule.cc
  void Schedule();
  // `into`: 0 for a bundle of its own. `members`: other workers and their ranks.
  void GrantTo(Worker& worker, Stage& stage, int64_t into, const std::vector<Member>& members = {});
  void Place(Stage& stage);  // into the queue its state asks for
  void PlaceAll(Trial& trial);
  const Stage* Next(const std::set<Need>& blocked) const;  // to be placed; null: none
  // For a stage that found no room: keeps a worker from filling up again, asks less urgent attempts
  // to end.
  void MakeRoom(const Stage& stage);
  bool Fits(const Worker& worker, const Need& need) const;      // now
  bool CouldFit(const Worker& worker, const Need& need) const;  // were it empty
  bool Covers(int64_t labels, int64_t needed) const;
  Class ClassOf(const Worker& worker) const;
  static int64_t FreeMemory(const Worker& worker);
  bool Kept(WorkerId worker, const Need& need) const {  // free for another need than this
    return std::find(reserved_.begin(), reserved_.end(), worker) != reserved_.end() &&
           need != reserved_for_;
  }

  // gangs.cc
  static Need Share(const Need& need, int64_t ranks);  // what so many of its ranks need
  static bool Able(const Worker& worker);              // may be given something, were it empty
  void NoteAble(Worker& worker);
  bool FitsAlone(const Need& need) const;  // some able worker, were it empty
  // Of able workers that could hold it together, were they empty, the gang; 0: there are none.
  int64_t FitsTogether(const Need& need) const;
  // Ranks that have room beside so many slots and bytes.
  static int64_t RanksBeside(const Worker& worker, const Need& need, int64_t slots, int64_t memory);
  std::vector<Member> ChooseGang(const Need& need, const Stage& stage) const;  // empty: no room
  void MakeRoomForGang(const Stage& stage, bool less_urgent, absl::string_view why);
  static int64_t BundleOn(const Live& live, WorkerId worker);  // that holds it there
  std::string PartsOf(const Stage& stage) const;               // for people; empty: it is no gang
  // Of what is there: slots and memory that attempts as urgent as that have.
  std::pair<int64_t, int64_t> UrgentOn(const Worker& worker, int64_t priority) const;
  int64_t LabelsOf(const std::string& labels);  // by number
  void Number(Stage& stage);                    // its labels and fusion key, by number
  Sponsor SponsorOf(const Trial& trial) const;
  absl::Duration Typical(const Trial& trial) const;

  // bundles.cc
  bool Shares(const Stage& stage) const;
  Fusion FusionOf(const Stage& stage) const;  // of one that waits
  // Of a bundle that it opens there, were so many bytes more free.
  int64_t Capacity(const Worker& worker, const Stage& stage, int64_t given_back) const;
  void Learn(const Worker& worker, const Stage& stage);  // from one that succeeded
  // `share`: of what a row needs, on that worker.
  int64_t Open(Worker& worker, const Stage& stage, const Need& share, int64_t id, int64_t rows_max);
  void Join(int64_t bundle, Stage& stage, const std::string& user);
  void Leave(Stage& stage, int64_t bundle, bool stopping);
  void Release(int64_t bundle);  // if nothing holds it any more
  void Accrue(Bundle& bundle);
  void Ask(Bundle& bundle);
  static bool HasRoom(const Bundle& bundle);
  void Match(const Fusion& fusion);
  void IndexBundle(int64_t bundle);
  void UnindexBundle(int64_t bundle);
  void Wait(const Stage& stage, bool waits);
  int64_t RoomFor(const Stage& stage) const;  // a bundle that it may join; 0: none
  void Refill(const Fusion* first_waiting);
  std::string InBundle(int64_t bundle) const;  // for people; empty: it is alone

  // trunks.cc
  void KnowTrunks(const std::vector<TrunkRow>& rows);    // as looked up; what is in memory stands
  void ForgetTrunks(const std::vector<TrunkRow>& rows);  // of them, what nothing in memory shares
  void JoinTrunk(const Stage& stage);
  void LeaveTrunk(const Stage& stage);
  static bool MayBranch(const StageRow& row);          // it has not begun, and shares
  const TrunkRow* TrunkFor(const Stage& stage) const;  // the longest that it may begin from
  // The stage whose checkpoint it waits for; null: none.
  const Stage* Awaited(const Stage& stage) const;
  bool OnItsWay(const Stage& stage, const Stage& for_whom) const;  // to its trunk step
  bool Branch(Stage& stage);  // takes over what TrunkFor says, if anything
  // A new stage that begins from another's state, under fields of its own.
  void NoteFork(const Stage& stage);
  void KeepTrunk(Stage& stage, const CheckpointRow& checkpoint);  // if it is one
  void LoseTrunk(Stage& stage);  // what it began from is not there any more
  // After its budget is spent at the checkpoint it took over: from then on it shares with nobody,
  // and begins again. False: that is not so.
  bool LeaveFamily(Stage& stage, absl::string_view why);
  void PlaceOthers(const Stage& stage);  // those that share with it

  // users.cc
  absl::StatusOr<Answer> On(const EditUser& e);
  User& UserOf(const std::string& name);
  void Rank(User& user);  // into its place in by_share_
  void CountWaiting(const std::string& user, int64_t change);
  void Charge(Stage& stage);     // its likely cost, when it is granted
  void Discharge(Stage& stage);  // its true cost, when it ends
  bool OverQuota(const User& user, int64_t slots) const {
    return user.row.max_slots > 0 && user.slots + slots > user.row.max_slots;
  }
  bool Takes(const Worker& worker) const;  // may be given an attempt, had it room
  absl::Duration SuspectAfter() const { return std::min(options_.suspect, options_.lease); }
  WorkerId Choose(const Need& need, const Stage& stage) const;  // none: no room
  void Index(Worker& worker);
  void Unindex(const Worker& worker);
  Order OrderOf(const Stage& stage) const;
  Need NeedOf(const Stage& stage) const;
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
  int64_t run_ = 0;
  std::map<int64_t, absl::Duration> run_ends_;  // of earlier starts on this file
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
  std::set<SweepId> open_sweeps_;
  std::map<TrialId, Trial> trials_;  // live, or finished and not yet evicted
  std::map<std::string, TrialId> by_key_;
  std::map<StageId, Stage> stages_;
  std::map<std::string, Trunk> trunks_;  // by prefix key, while a stage of it is in memory
  std::set<TrialId> finished_;
  std::map<WorkerId, Worker> workers_;
  std::map<std::string, WorkerId> by_name_;
  std::map<SessionId, WorkerId> by_session_;

  // By priority, falling; by user; by need.
  std::map<int64_t, std::map<std::string, std::map<Need, std::set<Order>>>, std::greater<>> ready_;
  std::map<std::string, User> users_;
  std::set<std::pair<double, std::string>> by_share_;  // of users that wait
  int64_t grants_ = 0;
  std::map<int64_t, Bundle> bundles_;
  std::map<Fusion, std::set<int64_t>>
      open_;  // bundles with a free row, on workers that take grants
  std::map<Fusion, std::set<Order>> joinable_;  // of ready_, what may share a bundle
  std::set<Fusion> fusible_;                    // in both
  // Steps of all rows a microsecond, by fusion key and devices, by number of rows.
  std::map<std::pair<std::string, std::string>, std::map<int64_t, double>> speeds_;
  bool loading_ = true;
  // Running and not asked to end: by labels of the worker; by priority, the newest grants first.
  using Victim = std::tuple<int64_t, int64_t, StageId>;
  std::map<int64_t, std::set<Victim>> running_;
  int64_t preempting_ = 0;                          // slots of bundles asked to end
  std::map<std::string, absl::Duration> typical_;   // of attempts that succeeded, by fusion key
  std::map<std::string, int64_t> measured_memory_;  // bytes, by fusion key
  std::set<std::pair<absl::Duration, StageId>> backoff_;
  // Of workers that take grants: (-free slots, worker); of those with nothing to do: (-slots,
  // worker).
  std::map<Class, std::set<std::pair<int64_t, WorkerId>>> free_, idle_;
  std::map<Class, std::set<std::pair<int64_t, WorkerId>>>
      roomy_;  // of free_: (-free bytes, worker)
  // Bytes that able workers have in all (at most: unknown), by labels and slots; of those that may
  // form gangs the same by gang.
  using Totals = std::map<int64_t, std::map<int64_t, std::multiset<int64_t>, std::greater<>>>;
  Totals able_;
  std::map<int64_t, Totals> able_gangs_;
  Names labels_, fusions_, gangs_;
  std::set<std::pair<int64_t, int64_t>> covers_;  // labels, and labels that they cover
  std::vector<int64_t> label_sets_;
  std::set<std::pair<absl::Duration, WorkerId>> expiry_, suspicion_;
  std::set<std::pair<absl::Duration, WorkerId>> quarantine_, leaving_;
  // Kept free for a stage that needs more room than any has now: a worker, or for a gang several.
  std::vector<WorkerId> reserved_;
  Need reserved_for_;
  WorkerId looked_at_;  // the last one that was looked at for that

  std::string illegal_move_;  // the first one ever made, for CheckInvariants

  // Of the Apply in progress.
  Now now_;
  Effects effects_;
  std::set<StageId> dirty_stages_;
  std::set<TrialId> dirty_trials_;
  std::set<SweepId> dirty_sweeps_;
  std::set<WorkerId> dirty_workers_;
  std::set<std::string> dirty_users_;
  std::set<WorkerId> woken_;
};

}  // namespace plumb::core
