// The core with a table beside it that is written only by its changes, as the database is; tests
// draw the table.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "coordinator/core/core.h"

namespace plumb::core {

// One stage of a trial that a test submits.
struct S {
  std::string name = "pretrain";
  std::string kind = "pretrain";
  std::string parent;
  int64_t threads = 1;
  int64_t priority = 0;
  std::string settings = "{}";
  int64_t memory = 0;
  std::string labels = "";
  int64_t bundle = 1;
  int64_t ranks = 1;
  int64_t until = -1;
  std::string prefix = "";
  int64_t trunk = 0;
  StageId branch = {};  // of a fork
  int64_t branch_step = 0;
};
// A trial by its key.
struct T {
  std::string key;
  std::vector<S> stages = {S{}};
  std::string fusion_key = "f";
};

class Picture {
 public:
  explicit Picture(Options options = {}, ClusterSnapshot snapshot = {})
      : options_(options), core_(options, snapshot) {}

  Effects Do(const Event& event) {
    if (std::holds_alternative<MaterializeSlice>(event) ||
        std::holds_alternative<RetryTrial>(event) || std::holds_alternative<AddStage>(event))
      core_.Unpin();
    Effects effects = core_.Apply(event, Now{.cluster = now_, .wall_us = 7});
    for (const Change& change : effects.changes) {
      std::visit([this](const auto& c) { Write(c); }, change);
    }
    const absl::Status s = core_.CheckInvariants();
    EXPECT_TRUE(s.ok()) << s;
    return effects;
  }
  void Pass(absl::Duration d) {
    now_ += d;
    Do(Tick{});
  }

  // Submits and materialises all at once (or only the first `upto`).
  SweepId Sweep(const std::vector<T>& trials, int64_t upto = 1 << 30, const std::string& user = "",
                int64_t priority = 0) {
    const SweepId id = Plan(static_cast<int64_t>(trials.size()), user, priority);
    Slice(id, 0,
          {trials.begin(),
           trials.begin() + std::min<int64_t>(upto, static_cast<int64_t>(trials.size()))});
    return id;
  }
  SweepId Plan(int64_t trials, const std::string& user = "", int64_t priority = 0) {
    const Effects e = Do(SubmitSweep{.sweep = {.name = "s",
                                               .request_id = absl::StrCat("r", ++requests_),
                                               .request_hash = "h",
                                               .trials = trials,
                                               .user = user,
                                               .priority = priority}});
    return std::get<Submitted>(*e.answer).sweep;
  }
  void Slice(SweepId sweep, int64_t from, const std::vector<T>& trials) {
    MaterializeSlice slice{.sweep = sweep, .from = from};
    auto list = std::make_shared<std::vector<NewTrial>>();
    for (const T& t : trials) {
      NewTrial n{
          .trial = {.key = t.key, .fusion_key = t.fusion_key, .seq_len = 8, .batch_tokens = 64}};
      for (const S& s : t.stages) {
        n.stages.push_back({.name = s.name,
                            .kind = s.kind,
                            .settings_json = s.settings,
                            .priority = s.priority,
                            .target_step = 100,
                            .threads = s.threads,
                            .memory_bytes = s.memory,
                            .labels = s.labels,
                            .bundle = s.bundle,
                            .ranks = s.ranks,
                            .until_step = s.until,
                            .prefix_key = s.prefix,
                            .trunk_step = s.trunk,
                            .branch_stage = s.branch,
                            .branch_step = s.branch_step});
        n.parents.push_back(s.parent);
      }
      list->push_back(n);
      if (ids_.contains(t.key)) slice.known[t.key] = Tree(t.key);
    }
    slice.trials = list;
    for (const auto& [at, row] : trunks_) {
      if (PrefixKeysOf(slice).contains(at.first)) slice.trunks.push_back(row);
    }
    Do(slice);
  }
  TrialTree Tree(const std::string& key) const {
    TrialTree tree{.trial = trials_.at(ids_.at(key))};
    for (const auto& [id, row] : stages_) {
      if (row.trial == tree.trial.id) tree.stages.push_back(row);
    }
    return tree;
  }

  // ---- workers: by name; each reports what it was granted and has not let go ----
  void Register(const std::string& name, int64_t slots, std::vector<AttemptReport> alive = {},
                int64_t known = 0) {
    Register({.name = name, .slots = slots}, std::move(alive), known);
  }
  void Register(const WorkerRow& row, std::vector<AttemptReport> alive = {}, int64_t known = 0,
                absl::Duration remaining = absl::InfiniteDuration()) {
    const std::string& name = row.name;
    const Effects e = Do(RegisterWorker{.worker = row,
                                        .known_incarnation = known,
                                        .attempts = std::move(alive),
                                        .remaining = remaining});
    const auto& r = std::get<Registered>(*e.answer);
    sessions_[name] = r.session;
    workers_[name] = r.worker;
  }
  std::vector<Grant> Desired(const std::string& name) const {
    return core_.Desired(workers_.at(name));
  }
  AttemptReport Running(const std::string& stage, int64_t step = 0) const {
    const StageRow& row = Row(stage);
    return {.incarnation = core_.incarnation(), .attempt = {row.id, row.attempts}, .step = step};
  }
  AttemptReport Ended(const std::string& stage, Outcome outcome, int64_t through_seq = 0) const {
    AttemptReport r = Running(stage);
    r.outcome = outcome;
    r.through_seq = through_seq;
    r.cause = "because";
    return r;
  }
  // A report of a worker that has applied everything it was told.
  Effects Says(const std::string& name, std::vector<AttemptReport> attempts,
               std::vector<MeasurementBatchPtr> batches = {}) {
    return Do(Report{.session = sessions_.at(name),
                     .generation = core_.Generation(workers_.at(name)),
                     .attempts = std::move(attempts),
                     .batches = std::move(batches)});
  }
  MeasurementBatchPtr Batch(const std::string& stage, int64_t first, int64_t last,
                            int64_t checkpoint_step = -1) const {
    const StageRow& row = Row(stage);
    auto b = std::make_shared<MeasurementBatch>();
    b->incarnation = core_.incarnation();
    b->attempt = {row.id, row.attempts};
    b->first_seq = first;
    b->last_seq = last;
    if (checkpoint_step >= 0)
      b->checkpoints.push_back({.step = checkpoint_step, .path = "p", .digest = "d"});
    return b;
  }

  // "a.pretrain" → its row as written.
  const StageRow& Row(const std::string& stage) const {
    const size_t dot = stage.find('.');
    const TrialId trial = ids_.at(stage.substr(0, dot));
    const std::string name = dot == std::string::npos ? "pretrain" : stage.substr(dot + 1);
    for (const auto& [id, row] : stages_) {
      if (row.trial == trial && row.name == name) return row;
    }
    ADD_FAILURE() << "no stage " << stage;
    return stages_.begin()->second;
  }
  // "a=running@w#1 b=pending": stages in order; where they run and by which attempt.
  std::string Draw() const {
    std::vector<std::string> out;
    for (const auto& [id, row] : stages_) {
      std::string text = trials_.at(row.trial).key;
      if (row.name != "pretrain") absl::StrAppend(&text, ".", row.name);
      absl::StrAppend(&text, "=", Name(row.state));
      if (row.state == StageState::kRunning) {
        for (const auto& [name, worker] : workers_) {
          for (const Grant& g : core_.Desired(worker)) {
            if (g.attempt.stage == id) absl::StrAppend(&text, "@", name, "#", g.attempt.number);
          }
        }
      }
      out.push_back(text);
    }
    return absl::StrJoin(out, " ");
  }
  std::string SweepState(SweepId id) const { return std::string(Name(sweeps_.at(id).state)); }
  // A snapshot as the store would load it now.
  ClusterSnapshot Snapshot() const;

  Options options_;
  Core core_;
  absl::Duration now_;
  std::string journal_;  // every change, as text
  std::map<std::string, SessionId> sessions_;
  std::map<std::string, WorkerId> workers_;
  std::map<SweepId, SweepRow> sweeps_;
  std::vector<AdditionRow> additions_;
  std::vector<LookRow> looks_;
  std::map<int64_t, std::string> tuned_;               // by cell
  std::map<int64_t, std::string> cell_names_, flags_;  // by cell, as edits changed them
  std::set<std::string> tags_;
  std::string note_;
  std::map<TrialId, bool> origins_;  // foreign
  std::map<StageId, MeasurementBatchPtr> results_;
  std::vector<TrialId> purged_;
  std::map<TrialId, TrialRow> trials_;
  std::map<std::string, TrialId> ids_;
  std::map<StageId, StageRow> stages_;
  std::map<AttemptId, AttemptRow> attempts_;
  std::map<WorkerId, WorkerRow> worker_rows_;
  std::vector<SweepTrialRow> links_;
  std::map<std::string, UserRow> users_;
  std::map<std::pair<std::string, int64_t>, TrunkRow> trunks_;

 private:
  void Write(const InsertSweep& c) { sweeps_[c.row.id] = c.row; }
  void Write(const UpdateSweep& c) {
    sweeps_.at(c.id).state = c.state;
    sweeps_.at(c.id).cursor = c.cursor;
    sweeps_.at(c.id).priority = c.priority;
    sweeps_.at(c.id).paused = c.paused;
    sweeps_.at(c.id).trials = c.trials;
    sweeps_.at(c.id).open = c.open;
  }
  void Write(const InsertAddition& c) { additions_.push_back(c.row); }
  void Write(const InsertCell&) {}
  void Write(const UpdateCell& c) { tuned_[c.idx] = c.tuned_json; }
  void Write(const RenameCell& c) { cell_names_[c.idx] = c.name; }
  void Write(const FlagCell& c) { flags_[c.idx] = c.flag; }
  void Write(const PutTag& c) { c.remove ? tags_.erase(c.tag) : tags_.insert(c.tag).second; }
  void Write(const PutNote& c) { note_ = c.text; }
  void Write(const InsertTrialOrigin& c) { origins_[c.trial] = c.foreign; }
  void Write(const PutResults& c) { results_[c.stage] = c.batch; }
  void Write(const ForgetPlaces& c) {
    std::erase_if(links_, [&](const SweepTrialRow& l) {
      return l.sweep == c.sweep || (c.trial && l.trial == c.trial);
    });
  }
  void Write(const ForgetSweep& c) { sweeps_.erase(c.sweep); }
  void Write(const plumb::PurgeTrial& c) { purged_.push_back(c.trial); }
  void Write(const InsertLook& c) { looks_.push_back(c.row); }
  void Write(const InsertTrial& c) {
    EXPECT_FALSE(ids_.contains(c.row.key)) << "trial " << c.row.key << " twice";
    trials_[c.row.id] = c.row;
    ids_[c.row.key] = c.row.id;
  }
  void Write(const UpdateTrial& c) { trials_.at(c.id).state = c.state; }
  void Write(const InsertSweepTrial& c) { links_.push_back(c.row); }
  void Write(const InsertStage& c) {
    EXPECT_FALSE(stages_.contains(c.row.id));
    for (const auto& [id, row] : stages_)
      EXPECT_FALSE(row.trial == c.row.trial && row.name == c.row.name)
          << "stage " << row.name << " twice in a trial";
    stages_[c.row.id] = c.row;
  }
  void Write(const UpdateStage& c) {
    stages_.at(c.row.id) = c.row;
    absl::StrAppend(&journal_, c.row.id.value, ":", Name(c.row.state), ":", c.row.reason, "\n");
  }
  void Write(const UpsertUser& c) { users_[c.row.name] = c.row; }
  void Write(const UpsertWorker& c) { worker_rows_[c.row.id] = c.row; }
  void Write(const OpenAttempt& c) {
    EXPECT_EQ(c.row.incarnation, core_.incarnation());
    EXPECT_FALSE(attempts_.contains(c.row.id));
    attempts_[c.row.id] = c.row;
  }
  void Write(const AdoptAttempt& c) { Held(c.fence).session = c.new_session; }
  void Write(const CloseAttempt& c) {
    Held(c.fence).outcome = c.outcome;
    attempts_.at(c.fence.attempt).slot_us = c.slot_us;
  }
  void Write(const ApplyBatch& c) {
    EXPECT_EQ(Held(c.fence).acked_seq + 1, c.batch->first_seq);
    Held(c.fence).acked_seq = c.batch->last_seq;
  }
  void Write(const PutTrunk& c) { trunks_[{c.row.prefix_key, c.row.step}] = c.row; }
  void Write(const RemoveTrunk& c) { EXPECT_EQ(trunks_.erase({c.prefix_key, c.step}), 1); }
  void Write(const AppendEvent& c) {
    absl::StrAppend(&journal_, c.row.kind, ":", c.row.detail, "\n");
  }
  void Write(const SetIncarnation&) {}
  // As the store's fence: a change of an attempt must match it as it stands.
  AttemptRow& Held(const Fence& fence) {
    AttemptRow& row = attempts_.at(fence.attempt);
    EXPECT_FALSE(row.outcome.has_value());
    EXPECT_EQ(row.session, fence.session);
    EXPECT_EQ(row.incarnation, fence.incarnation);
    return row;
  }

  int requests_ = 0;
};

inline ClusterSnapshot Picture::Snapshot() const {
  ClusterSnapshot s{.incarnation = core_.incarnation(), .starts = 2, .cluster_time = now_};
  for (const auto& [id, row] : sweeps_) {
    s.last_sweep = id;
    s.sweeps.push_back(row);
  }
  s.additions = additions_;
  for (const LookRow& look : looks_) s.looks[look.sweep] = look.seq + 1;
  for (const auto& [id, row] : trials_) {
    s.last_trial = id;
    if (!IsTerminal(row.state)) s.trials.push_back(Tree(row.key));
  }
  for (const SweepTrialRow& link : links_) {
    if (!IsTerminal(trials_.at(link.trial).state)) s.links.push_back(link);
  }
  if (!stages_.empty()) s.last_stage = stages_.rbegin()->first;
  for (const auto& [name, row] : users_) s.users.push_back(row);
  for (const auto& [id, row] : worker_rows_) {
    s.last_worker = id;
    s.last_session = std::max(s.last_session, row.session);
    s.workers.push_back(row);
  }
  for (const auto& [id, row] : attempts_) {
    if (!row.outcome) s.attempts.push_back(row);
  }
  for (const auto& [at, row] : trunks_) s.trunks.push_back(row);
  return s;
}

}  // namespace plumb::core
