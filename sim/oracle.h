// What must hold, watched from outside: nothing here is told by the core what is right.
//
//  A. Attempt numbers of a stage rise by one within an incarnation, and (incarnation, number) only
//     rises.
//  B. Nothing is written for an attempt that is not the current one of its stage, nor after its
//  end.
//     An attempt ends as its own trainer said, or as lost or cancelled.
//  C. What was acknowledged is there after every restart: sweeps, cursors, facts up to through_seq.
//     (A database put back is an earlier one: there, what it held when it was saved.)
//  D. A result is final: a stage leaves a terminal state only after a user asked for it again. It
//     fails only after its budget of failures without progress.
//  E. Checkpoints of a stage only move forward, and an attempt starts from the last one.
//  F. Workers run no more trials at once than they have slots, a timing has its worker alone.
//  G. Every value is the trial's own, every fact is there once: at the end the points of a stage
//     are those of its trial up to where it came, without a gap.
//  H. When faults stop, everything ends, and sweeps end with it.
//     Without a fault nothing is lost.
//  I. The core's own invariants (core.h).
//  J. What a bundle's rows are charged is no more than the time of its slots.
//  K. A gang is granted whole: each rank to one worker.
//  L. What may be begun from is a checkpoint that was committed. A stage that has none of its own
//     begins from the longest of its prefix key that it may, and measures what comes after.
#pragma once

#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "sim/server.h"
#include "sim/storage.h"
#include "sim/truth.h"

namespace plumb::sim {

class Oracle : public Watcher {
 public:
  explicit Oracle(const Scenario& scenario, const Loop& loop) : scenario_(scenario), loop_(loop) {}

  void OnApplied(const core::Core& core) override;
  void OnCommitted(absl::Span<const Change> changes) override;
  void OnLoaded(const ClusterSnapshot& snapshot) override;
  void OnWrong(const std::string& what) override;

  void OnSaved();                             // a copy of the database was made
  void OnPutBack();                           // and is the database now
  void OnSubmitted(const std::string& name);  // acknowledged to the user
  void OnAcked(const AttemptId& attempt, int64_t incarnation, int64_t through_seq);

  void OnEnded(int64_t incarnation, const AttemptId& attempt, Outcome outcome);  // says its trainer

  // At the end: `drained` false if the patience was over before everything had ended.
  void Judge(const Contents& contents, bool drained);

  bool ok() const { return wrong_.empty(); }
  const std::string& wrong() const { return wrong_; }
  // Of the history so far: equal runs have equal histories.
  uint64_t history() const { return history_; }
  std::map<std::string, int64_t> counts;
  std::vector<double> waits;  // seconds from a trial's coming to its first grant

 private:
  struct Stage {
    std::string key, name;
    StageState state = StageState::kPending;
    int64_t incarnation = 0, number = 0;  // of the last attempt
    bool open = false;
    int64_t acked = 0, step = 0;
    int64_t checkpoint_step = -1;
    int64_t failures = 0;   // attempts that failed or were lost since it last moved
    int64_t ooms = 0;       // attempts out of memory, whatever came between
    bool reopened = false;  // since the last end
    bool root = false;
    absl::Duration since;  // when it came
    TrialId trial;
    int64_t threads = 0, memory = 0, ranks = 1;
    std::string labels, fusion;
    int64_t bundle_most = 1;
    std::string prefix;
    int64_t trunk_step = 0, branch_step = 0, target_step = 0;
    // Of the open attempt:
    WorkerId worker;
    int64_t bundle = 0, bundle_rows = 1;
    std::map<WorkerId, int64_t> ranks_on;  // of a gang, on each of its workers
    int64_t RanksOn(WorkerId on) const { return ranks_on.empty() ? ranks : ranks_on.at(on); }
    absl::Duration opened;
  };
  struct Book {
    int64_t incarnation = 1;
    std::map<TrialId, std::string> keys, fusions;
    std::map<StageId, Stage> stages;
    std::set<std::string> submitted;        // by name
    std::map<SweepId, std::string> sweeps;  // by id, in the database
    std::map<SweepId, int64_t> cursors;
    std::set<SweepId> paused;
    std::map<SweepId, std::string> users;
    std::map<TrialId, std::set<SweepId>> of;  // sweeps that ask for it
    std::set<SweepId> ended;
    std::map<std::string, int64_t> quotas;
    std::map<WorkerId, WorkerRow> workers;
    std::map<WorkerId, std::set<StageId>> on;  // open attempts
    struct Charged {
      absl::Duration opened;
      int64_t slots = 0, us = 0;
    };
    std::map<std::string, std::map<int64_t, std::string>> trunks;  // digest, by prefix key and step
    std::map<int64_t, Charged> bundles;                            // what their rows were charged
    std::map<std::string, std::set<StageId>> by_user;        // the same, where the user is certain
    std::map<std::pair<int64_t, AttemptId>, int64_t> acked;  // told to a worker
  };
  void See(const PutTrunk& c);
  void Leaves(StageId id);
  void MayBranch(const OpenAttempt& open, Stage& stage);
  void See(const OpenAttempt& c);
  void MayHave(StageId id, const Stage& stage, WorkerId worker);
  void MayBeGang(const OpenAttempt& open, const Stage& stage);
  void Close(StageId id, Stage& stage);
  void See(const ApplyBatch& c);
  void See(const CloseAttempt& c);
  void See(const UpdateStage& c);
  void Mix(uint64_t what) { history_ = HashMix(history_ ^ what); }
  static uint64_t HashMix(uint64_t h);

  const Scenario& scenario_;
  const Loop& loop_;
  Book book_, saved_;
  // What trainers said; a machine may have run the same attempt before a copy was put back.
  std::set<std::tuple<int64_t, AttemptId, Outcome>> said_;
  std::string wrong_;
  int64_t applied_ = 0;  // events
  uint64_t history_ = 1;
};

}  // namespace plumb::sim
