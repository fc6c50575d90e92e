// The database as maps. tests/sim/storage_test.cc holds it to the real one.
#include <functional>
#include <limits>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "domain/status_macros.h"
#include "sim/storage.h"

namespace plumb::sim {
namespace {

using SeriesKey = std::tuple<StageId, std::string, int64_t, int64_t>;

struct Tables {
  int64_t incarnation = 1;
  int64_t starts = 0;
  absl::Duration cluster_time;
  std::vector<std::pair<int64_t, absl::Duration>> runs;  // and what they went on from
  int64_t events = 0;
  std::map<SweepId, SweepRow> sweeps;
  std::map<std::pair<SweepId, int64_t>, AdditionRow> additions;
  std::map<std::pair<SweepId, int64_t>, LookRow> looks;
  std::set<std::pair<SweepId, int64_t>> cells;
  std::map<TrialId, TrialRow> trials;
  std::map<std::string, TrialId> by_key;
  std::map<std::pair<SweepId, int64_t>, SweepTrialRow> links;
  std::map<TrialId, std::set<std::pair<SweepId, int64_t>>> links_of;
  std::map<StageId, StageRow> stages;
  std::map<TrialId, std::set<StageId>> stages_of;
  std::map<WorkerId, WorkerRow> workers;
  std::map<std::string, UserRow> users;
  std::map<AttemptId, AttemptRow> attempts;
  std::map<SeriesKey, std::map<int64_t, double>> points;
  std::map<std::pair<StageId, int64_t>, CheckpointRow> checkpoints;
  std::map<std::pair<std::string, int64_t>, TrunkRow> trunks;
};

absl::Status Refused(absl::string_view what) {
  return absl::FailedPreconditionError(absl::StrCat("constraint: ", what));
}
absl::Status Fenced(absl::string_view what, const AttemptId& id) {
  return absl::FailedPreconditionError(
      absl::StrCat("fenced: ", what, " of attempt ", id.number, " of stage ", id.stage.value));
}

class MemoryStorage : public Storage {
 public:
  absl::Status Open() override {
    if (open_) return absl::FailedPreconditionError("another server has this database open");
    open_ = true;
    ++t_.starts;
    t_.runs.emplace_back(++opened_, t_.cluster_time);
    if (side_ > std::pair(t_.incarnation, t_.cluster_time)) {
      t_.incarnation = side_.first + 1;
      for (auto& [id, a] : t_.attempts) {
        if (!a.outcome) a.outcome = Outcome::kLost;
      }
      for (auto& [id, s] : t_.stages) {
        if (s.state != StageState::kRunning) continue;
        s.state = StageState::kPending;
        TrialRow& trial = t_.trials.at(s.trial);
        if (trial.state == StageState::kRunning) trial.state = StageState::kPending;
      }
      ++t_.events;
    }
    side_ = {t_.incarnation, t_.cluster_time};
    return absl::OkStatus();
  }

  void Close() override { open_ = false; }

  absl::StatusOr<ClusterSnapshot> Load() override {
    ClusterSnapshot out{
        .incarnation = t_.incarnation, .starts = t_.starts, .cluster_time = t_.cluster_time};
    for (size_t i = 0; i < t_.runs.size(); ++i) {
      out.run = t_.runs[i].first;
      if (i + 1 < t_.runs.size()) out.run_ends[out.run] = t_.runs[i + 1].second;
    }
    if (!t_.sweeps.empty()) out.last_sweep = t_.sweeps.rbegin()->first;
    if (!t_.trials.empty()) out.last_trial = t_.trials.rbegin()->first;
    if (!t_.stages.empty()) out.last_stage = t_.stages.rbegin()->first;
    if (!t_.workers.empty()) out.last_worker = t_.workers.rbegin()->first;
    for (const auto& [id, w] : t_.workers) {
      out.last_session = std::max(out.last_session, w.session);
      out.workers.push_back(w);
    }
    for (const auto& [name, u] : t_.users) out.users.push_back(u);
    for (const auto& [id, s] : t_.sweeps) {
      out.sweeps.push_back(s);
      out.sweeps.back().sweep_yaml.clear();
    }
    for (const auto& [at, a] : t_.additions) out.additions.push_back(a);
    for (const auto& [at, look] : t_.looks) out.looks[at.first] = at.second + 1;
    std::set<TrialId> live;
    for (const auto& [id, s] : t_.stages) {
      if (!IsTerminal(s.state)) live.insert(s.trial);
    }
    std::set<std::pair<SweepId, int64_t>> links;
    for (TrialId id : live) {
      out.trials.push_back(*Tree(id));
      if (const auto it = t_.links_of.find(id); it != t_.links_of.end())
        links.insert(it->second.begin(), it->second.end());
    }
    for (const auto& link : links) out.links.push_back(t_.links.at(link));
    for (const auto& [id, a] : t_.attempts) {
      if (!a.outcome) out.attempts.push_back(a);
    }
    std::set<std::string> prefix_keys;
    for (const TrialTree& tree : out.trials) {
      for (const StageRow& s : tree.stages) prefix_keys.insert(s.prefix_key);
    }
    ASSIGN_OR_RETURN(out.trunks, FindTrunks(prefix_keys));
    return out;
  }

  absl::Status Commit(absl::Duration cluster_time, absl::Span<const Change> changes) override {
    undo_.clear();
    next_incarnation_ = t_.incarnation;
    for (const Change& change : changes) {
      const absl::Status s = std::visit([&](const auto& c) { return Put(c); }, change);
      if (s.ok()) continue;
      for (auto it = undo_.rbegin(); it != undo_.rend(); ++it) (*it)();
      undo_.clear();
      return s;
    }
    undo_.clear();
    t_.cluster_time = cluster_time;
    t_.incarnation = next_incarnation_;
    side_ = {t_.incarnation, t_.cluster_time};
    return absl::OkStatus();
  }

  absl::StatusOr<std::map<std::string, TrialTree>> FindByKey(
      const std::vector<std::string>& keys) override {
    std::map<std::string, TrialTree> out;
    for (const std::string& key : keys) {
      if (const auto it = t_.by_key.find(key); it != t_.by_key.end()) out[key] = *Tree(it->second);
    }
    return out;
  }
  absl::StatusOr<std::optional<TrialTree>> Find(TrialId trial) override { return Tree(trial); }
  absl::StatusOr<std::vector<SweepTrialRow>> LinksOf(TrialId trial) override {
    std::vector<SweepTrialRow> out;
    if (const auto it = t_.links_of.find(trial); it != t_.links_of.end()) {
      for (const auto& link : it->second) out.push_back(t_.links.at(link));
    }
    return out;
  }

  absl::StatusOr<std::vector<TrunkRow>> FindTrunks(
      const std::set<std::string>& prefix_keys) override {
    std::vector<TrunkRow> out;
    for (const std::string& key : prefix_keys) {
      for (auto it = t_.trunks.lower_bound({key, INT64_MIN});
           it != t_.trunks.end() && it->first.first == key; ++it)
        out.push_back(it->second);
    }
    return out;
  }

  absl::Status Save() override {
    saved_ = t_;
    return absl::OkStatus();
  }
  absl::Status PutBack(bool alone) override {
    if (open_ || !saved_) return absl::FailedPreconditionError("nothing to put back");
    t_ = *saved_;
    if (alone) side_ = {};
    return absl::OkStatus();
  }

  absl::StatusOr<Contents> Read() override {
    Contents out{.incarnation = t_.incarnation, .events = t_.events};
    for (const auto& [id, s] : t_.sweeps)
      out.sweeps[id] = absl::StrCat(Name(s.state), " ", s.trials, " ", s.cursor);
    for (const auto& [id, t] : t_.trials) out.trials[id] = {t.key, std::string(Name(t.state))};
    for (const auto& [at, link] : t_.links) out.links[at] = link.trial;
    for (const auto& [id, s] : t_.stages) {
      out.stages[id] = {
          s.trial,    s.name,     std::string(Name(s.state)), s.target_step,      s.step,
          s.attempts, s.failures, s.checkpoint_step,          s.checkpoint_digest};
    }
    for (const auto& [id, a] : t_.attempts) {
      out.attempts[id] = {a.incarnation,   a.worker.value,
                          a.session.value, a.start_step,
                          a.acked_seq,     a.outcome ? std::string(Name(*a.outcome)) : ""};
    }
    for (const auto& [key, points] : t_.points) {
      for (const auto& [step, value] : points)
        out.points[{std::get<0>(key), std::get<1>(key), step}] = value;
    }
    for (const auto& [at, c] : t_.checkpoints) out.checkpoints[at] = c.digest;
    for (const auto& [id, w] : t_.workers)
      out.workers[id] = {w.name, std::string(Name(w.state)), w.session.value};
    return out;
  }

 private:
  std::optional<TrialTree> Tree(TrialId id) const {
    const auto it = t_.trials.find(id);
    if (it == t_.trials.end()) return std::nullopt;
    TrialTree tree{.trial = it->second};
    if (const auto of = t_.stages_of.find(id); of != t_.stages_of.end()) {
      for (StageId stage : of->second) tree.stages.push_back(t_.stages.at(stage));
    }
    return tree;
  }

  // Every write goes through these two, so that a refused transaction leaves nothing.
  template <typename M>
  void Write(M& map, const typename M::key_type& key, typename M::mapped_type value) {
    const auto it = map.find(key);
    if (it == map.end()) {
      undo_.push_back([&map, key] { map.erase(key); });
      map.emplace(key, std::move(value));
    } else {
      undo_.push_back([&map, key, old = it->second] { map.at(key) = old; });
      it->second = std::move(value);
    }
  }
  template <typename M>
  void Remove(M& map, const typename M::key_type& key) {
    const auto it = map.find(key);
    undo_.push_back([&map, key, old = it->second] { map.emplace(key, old); });
    map.erase(it);
  }

  absl::Status Put(const InsertSweep& c) {
    if (t_.sweeps.contains(c.row.id)) return Refused("sweep.id");
    for (const auto& [id, s] : t_.sweeps) {
      if (s.request_id == c.row.request_id) return Refused("sweep.request_id");
    }
    Write(t_.sweeps, c.row.id, c.row);
    return absl::OkStatus();
  }
  absl::Status Put(const UpdateSweep& c) {
    const auto it = t_.sweeps.find(c.id);
    if (it == t_.sweeps.end()) return absl::OkStatus();
    SweepRow row = it->second;
    row.state = c.state;
    row.cursor = c.cursor;
    row.end_time_us = c.end_time_us;
    row.priority = c.priority;
    row.paused = c.paused;
    row.trials = c.trials;
    row.open = c.open;
    Write(t_.sweeps, c.id, std::move(row));
    return absl::OkStatus();
  }
  absl::Status Put(const InsertAddition& c) {
    const std::pair at(c.row.sweep, c.row.idx);
    if (!t_.sweeps.contains(c.row.sweep) || t_.additions.contains(at)) return Refused("addition");
    Write(t_.additions, at, c.row);
    return absl::OkStatus();
  }
  absl::Status Put(const InsertCell& c) {
    const std::pair at(c.row.sweep, c.row.idx);
    if (!t_.sweeps.contains(c.row.sweep) || !t_.cells.insert(at).second) return Refused("cell");
    undo_.push_back([this, at] { t_.cells.erase(at); });
    return absl::OkStatus();
  }
  absl::Status Put(const UpdateCell& c) {
    const auto it = t_.cells.find({c.sweep, c.idx});
    return it == t_.cells.end() ? Refused("cell") : absl::OkStatus();
  }
  // What simulated users do not ask for.
  absl::Status Put(const RenameCell&) { return Refused("not simulated"); }
  absl::Status Put(const FlagCell&) { return Refused("not simulated"); }
  absl::Status Put(const PutTag&) { return Refused("not simulated"); }
  absl::Status Put(const PutNote&) { return Refused("not simulated"); }
  absl::Status Put(const InsertTrialOrigin&) { return Refused("not simulated"); }
  absl::Status Put(const PutResults&) { return Refused("not simulated"); }
  absl::Status Put(const ForgetPlaces&) { return Refused("not simulated"); }
  absl::Status Put(const ForgetSweep&) { return Refused("not simulated"); }
  absl::Status Put(const PurgeTrial&) { return Refused("not simulated"); }
  absl::Status Put(const InsertLook& c) {
    const std::pair at(c.row.sweep, c.row.seq);
    if (!t_.sweeps.contains(c.row.sweep) || t_.looks.contains(at)) return Refused("look");
    Write(t_.looks, at, c.row);
    return absl::OkStatus();
  }
  absl::Status Put(const InsertTrial& c) {
    if (t_.trials.contains(c.row.id) || t_.by_key.contains(c.row.key)) return Refused("trial");
    Write(t_.trials, c.row.id, c.row);
    Write(t_.by_key, c.row.key, c.row.id);
    return absl::OkStatus();
  }
  absl::Status Put(const UpdateTrial& c) {
    const auto it = t_.trials.find(c.id);
    if (it == t_.trials.end()) return absl::OkStatus();
    TrialRow row = it->second;
    row.state = c.state;
    Write(t_.trials, c.id, std::move(row));
    return absl::OkStatus();
  }
  absl::Status Put(const InsertSweepTrial& c) {
    const std::pair at(c.row.sweep, c.row.idx);
    if (t_.links.contains(at) || !t_.trials.contains(c.row.trial) ||
        !t_.cells.contains({c.row.sweep, c.row.cell_idx}))
      return Refused("sweep_trial");
    SweepTrialRow row = c.row;
    row.cell_idx = 0;  // as read back
    Write(t_.links, at, row);
    t_.links_of[c.row.trial].insert(at);
    undo_.push_back([this, at, trial = c.row.trial] { t_.links_of[trial].erase(at); });
    return absl::OkStatus();
  }
  absl::Status Put(const InsertStage& c) {
    if (t_.stages.contains(c.row.id) || !t_.trials.contains(c.row.trial)) return Refused("stage");
    for (StageId other : t_.stages_of[c.row.trial]) {
      if (t_.stages.at(other).name == c.row.name) return Refused("stage.name");
    }
    Write(t_.stages, c.row.id, c.row);
    t_.stages_of[c.row.trial].insert(c.row.id);
    undo_.push_back([this, id = c.row.id, trial = c.row.trial] { t_.stages_of[trial].erase(id); });
    return absl::OkStatus();
  }
  absl::Status Put(const UpdateStage& c) {
    const auto it = t_.stages.find(c.row.id);
    if (it == t_.stages.end() || it->second.attempts > c.row.attempts)
      return absl::FailedPreconditionError(absl::StrCat("fenced: stage ", c.row.id.value));
    StageRow row = it->second;
    row.state = c.row.state;
    row.step = c.row.step;
    row.attempts = c.row.attempts;
    row.failures = c.row.failures;
    row.not_before_ct = c.row.not_before_ct;
    row.checkpoint_step = c.row.checkpoint_step;
    row.checkpoint_path = c.row.checkpoint_step >= 0 ? c.row.checkpoint_path : "";
    row.checkpoint_digest = c.row.checkpoint_step >= 0 ? c.row.checkpoint_digest : "";
    row.reason = c.row.reason;
    row.losses = c.row.losses;
    row.ooms = c.row.ooms;
    row.memory_bytes = c.row.memory_bytes;
    row.until_step = c.row.until_step;
    row.prefix_key = c.row.prefix_key;
    row.trunk_step = c.row.trunk_step;
    row.branch_stage = c.row.branch_stage;
    row.branch_step = c.row.branch_step;
    Write(t_.stages, c.row.id, std::move(row));
    return absl::OkStatus();
  }
  absl::Status Put(const PutTrunk& c) {
    if (!t_.stages.contains(c.row.stage)) return Refused("trunk");
    Write(t_.trunks, std::pair(c.row.prefix_key, c.row.step), c.row);
    return absl::OkStatus();
  }
  absl::Status Put(const RemoveTrunk& c) {
    const std::pair at(c.prefix_key, c.step);
    if (t_.trunks.contains(at)) Remove(t_.trunks, at);
    return absl::OkStatus();
  }
  absl::Status Put(const UpsertWorker& c) {
    for (const auto& [id, w] : t_.workers) {
      if (id != c.row.id && w.name == c.row.name) return Refused("worker.name");
    }
    Write(t_.workers, c.row.id, c.row);
    return absl::OkStatus();
  }
  absl::Status Put(const OpenAttempt& c) {
    const StageId stage = c.row.id.stage;
    if (t_.attempts.contains(c.row.id) || !t_.stages.contains(stage) ||
        !t_.workers.contains(c.row.worker))
      return Refused("attempt");
    if (c.row.incarnation != next_incarnation_)
      return absl::FailedPreconditionError("fenced: a grant of another incarnation");
    Write(t_.attempts, c.row.id, c.row);
    if (c.row.id.number == 1) return absl::OkStatus();
    const int64_t keep = c.keep_through_step;
    for (auto it = t_.points.lower_bound({stage, "", INT64_MIN, INT64_MIN});
         it != t_.points.end() && std::get<0>(it->first) == stage; ++it) {
      std::map<int64_t, double>& points = it->second;
      while (!points.empty() && points.rbegin()->first > keep)
        Remove(points, points.rbegin()->first);
    }
    while (true) {
      const auto it = t_.checkpoints.upper_bound({stage, keep});
      if (it == t_.checkpoints.end() || it->first.first != stage) break;
      Remove(t_.checkpoints, it->first);
    }
    return absl::OkStatus();
  }
  // The running attempt that the fence names, or null.
  const AttemptRow* Running(const Fence& fence) const {
    const auto it = t_.attempts.find(fence.attempt);
    if (it == t_.attempts.end() || fence.incarnation != next_incarnation_) return nullptr;
    const AttemptRow& row = it->second;
    return !row.outcome && row.incarnation == fence.incarnation && row.session == fence.session
               ? &row
               : nullptr;
  }
  absl::Status Put(const AdoptAttempt& c) {
    const AttemptRow* running = Running(c.fence);
    if (running == nullptr) return Fenced("adoption", c.fence.attempt);
    AttemptRow row = *running;
    row.session = c.new_session;
    Write(t_.attempts, c.fence.attempt, std::move(row));
    return absl::OkStatus();
  }
  absl::Status Put(const CloseAttempt& c) {
    const AttemptRow* running = Running(c.fence);
    if (running == nullptr) return Fenced("the end", c.fence.attempt);
    AttemptRow row = *running;
    row.outcome = c.outcome;
    row.cause = c.cause;
    row.log_tail = c.log_tail;
    row.summary_json = c.summary_json;
    row.end_time_us = c.end_time_us;
    row.slot_us = c.slot_us;
    Write(t_.attempts, c.fence.attempt, std::move(row));
    return absl::OkStatus();
  }
  absl::Status Put(const ApplyBatch& c) {
    const MeasurementBatch& b = *c.batch;
    const AttemptRow* running = Running(c.fence);
    if (running == nullptr || running->acked_seq != b.first_seq - 1)
      return Fenced("a batch", c.fence.attempt);
    const StageId stage = c.fence.attempt.stage;
    AttemptRow row = *running;
    row.acked_seq = b.last_seq;
    Write(t_.attempts, c.fence.attempt, std::move(row));
    for (const MeasurementBatch::Series& series : b.series) {
      const SeriesKey key(stage, series.name, series.layer, series.definition_version);
      std::map<int64_t, double>& points = t_.points[key];
      for (const MeasurementBatch::Point& p : series.points) Write(points, p.step, p.value);
    }
    for (const CheckpointRow& r : b.checkpoints) Write(t_.checkpoints, {stage, r.step}, r);
    return absl::OkStatus();
  }
  absl::Status Put(const UpsertUser& c) {
    if (!(c.row.weight > 0)) return Refused("user.weight");
    Write(t_.users, c.row.name, c.row);
    return absl::OkStatus();
  }
  absl::Status Put(const AppendEvent& c) {
    ++t_.events;
    undo_.push_back([this] { --t_.events; });
    return absl::OkStatus();
  }
  absl::Status Put(const SetIncarnation& c) {
    side_.first = c.incarnation;
    next_incarnation_ = c.incarnation;
    return absl::OkStatus();
  }

  Tables t_;
  std::optional<Tables> saved_;
  std::pair<int64_t, absl::Duration> side_;  // lies beside the file
  int64_t opened_ = 0;                       // of all copies
  bool open_ = false;
  int64_t next_incarnation_ = 1;
  std::vector<std::function<void()>> undo_;
};

}  // namespace

std::unique_ptr<Storage> MakeMemoryStorage() { return std::make_unique<MemoryStorage>(); }

}  // namespace plumb::sim
