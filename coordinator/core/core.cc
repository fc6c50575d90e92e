#include "coordinator/core/core.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace plumb::core {
namespace {
constexpr int kStartShift = 40;    // a generation is (starts << 40) + count
constexpr int kSessionShift = 32;  // a session is ((incarnation - 1) << 32) + count, from 1
}  // namespace

Core::Core(const Options& options, const ClusterSnapshot& s)
    : options_(options),
      incarnation_(s.incarnation),
      run_(s.run),
      run_ends_(s.run_ends),
      generation_(std::max(s.starts << kStartShift, s.min_generation)),
      last_sweep_(s.last_sweep),
      last_trial_(s.last_trial),
      last_stage_(s.last_stage),
      last_worker_(s.last_worker),
      last_session_(s.last_session) {
  now_.cluster = s.cluster_time;
  last_session_.value = std::max(last_session_.value, FirstSession(incarnation_));
  for (const UserRow& row : s.users) users_[row.name].row = row;
  for (const SweepRow& row : s.sweeps) {
    by_request_[row.request_id] = row.id;
    if (row.state == SweepState::kMaterializing && !row.imported) materializing_.insert(row.id);
    sweeps_[row.id].row = row;
    if (row.open) open_sweeps_.insert(row.id);
  }
  KnowTrunks(s.trunks);
  for (const AdditionRow& row : s.additions) sweeps_.at(row.sweep).additions.push_back(row);
  for (const auto& [sweep, looks] : s.looks) sweeps_.at(sweep).looks = looks;
  std::map<TrialId, std::vector<SweepTrialRow>> links;
  for (const SweepTrialRow& link : s.links) links[link.trial].push_back(link);
  for (const TrialTree& tree : s.trials) {
    const std::vector<SweepTrialRow>& of = links[tree.trial.id];
    AddTrial(tree, of.empty() ? SweepId{} : of.front().sweep, of.empty() ? 0 : of.front().idx);
    for (const SweepTrialRow& link : of) {
      Sweep& sweep = sweeps_.at(link.sweep);
      if (sweep.row.state != SweepState::kMaterializing && sweep.row.state != SweepState::kRunning)
        continue;
      sweep.live.insert(link.trial);
      trials_.at(link.trial).sweeps.insert(link.sweep);
    }
  }
  for (const WorkerRow& row : s.workers) {
    Worker& w = workers_[row.id];
    w.row = row;
    w.labels = LabelsOf(row.labels);
    w.gang = gangs_.Of(row.gang);
    w.generation = generation_;
    w.heard = now_.cluster;
    by_name_[row.name] = row.id;
    if (row.session.value > FirstSession(incarnation_)) {
      by_session_[row.session] = row.id;
    } else if (w.row.state != WorkerState::kGone) {
      w.row.state = WorkerState::kLost;  // it must register again, under this incarnation
    }
  }
  for (auto& [name, user] : users_) Rank(user);
  for (const AttemptRow& a : s.attempts) {
    Stage& stage = At(a.id.stage);
    Worker& w = workers_.at(a.worker);
    const Sponsor sponsor = SponsorOf(trials_.at(stage.row.trial));
    bool drained = w.row.drain;
    for (const AttemptMember& m : a.members) drained |= workers_.at(m.worker).row.drain;
    stage.last_on = a.worker;
    stage.live = Live{.worker = a.worker,
                      .session = a.session,
                      .granted_generation = generation_,
                      .acked_seq = a.acked_seq,
                      .seen = a.acked_seq > 0,
                      .preempt = sponsor.paused || drained,
                      .priority = sponsor.priority,
                      .grant = ++grants_,
                      .user = sponsor.user,
                      .start = now_.cluster,
                      .start_step = stage.row.step};
    w.grants.insert(stage.row.id);
    w.exclusive = IsExclusive(stage.row);
    stage.spot = {
        .priority = sponsor.priority, .user = sponsor.user, .need = NeedOf(stage), .order = {}};
    int64_t elsewhere = 0;
    for (const AttemptMember& m : a.members) {
      Worker& other = workers_.at(m.worker);
      const Need share = Share(stage.spot.need, m.ranks);
      elsewhere += m.ranks;
      stage.live->members.push_back({.worker = m.worker,
                                     .first_rank = m.first_rank,
                                     .ranks = m.ranks,
                                     .bundle = m.bundle,
                                     .granted_generation = generation_});
      other.grants.insert(stage.row.id);
      other.exclusive = IsExclusive(stage.row);
      Open(other, stage, share, m.bundle, 1);
    }
    const Need need = a.members.empty() ? stage.spot.need
                                        : Share(stage.spot.need, stage.spot.need.ranks - elsewhere);
    if (!stage.live->preempt) Running(stage, true);
    int64_t bundle = a.bundle > 0 ? a.bundle : ++generation_;
    const auto known = bundles_.find(bundle);
    if (known == bundles_.end()) {
      Open(w, stage, need, bundle, a.bundle_rows);
    } else if (known->second.worker != a.worker) {
      bundle = Open(w, stage, need, ++generation_, 1);
    }
    Join(bundle, stage, sponsor.user);
    for (const Member& m : stage.live->members) Join(m.bundle, stage, sponsor.user);
    if (stage.live->preempt) bundles_.at(bundle).closed = true;
    Charge(stage);
  }
  for (auto& [id, w] : workers_) Index(w);
  for (auto& [id, stage] : stages_) Place(stage);
  ForgetTrunks(s.trunks);
  loading_ = false;
}

Effects Core::Apply(const Event& event, Now now) {
  now_ = now;
  effects_ = Effects{};
  effects_.answer = std::visit([&](const auto& e) { return On(e); }, event);
  if (options_.grants) Schedule();
  Flush();
  Evict();
  return std::move(effects_);
}

absl::Duration Core::NextWakeup() const {
  absl::Duration next = absl::InfiniteDuration();
  if (!backoff_.empty()) next = std::min(next, backoff_.begin()->first);
  for (const auto* times : {&expiry_, &suspicion_, &quarantine_, &leaving_}) {
    if (!times->empty()) next = std::min(next, times->begin()->first);
  }
  return next;
}

void Core::Unpin() {
  if (pins_ > 0) --pins_;
}

std::optional<Core::Cursor> Core::NextSlice() const {
  if (materializing_.empty()) return std::nullopt;
  return CursorOf(*materializing_.begin());
}

Core::Cursor Core::CursorOf(SweepId sweep) const {
  const SweepRow& row = sweeps_.at(sweep).row;
  return Cursor{.sweep = row.id,
                .from = row.cursor,
                .trials = row.trials,
                .request_id = row.request_id,
                .request_hash = row.request_hash,
                .additions = sweeps_.at(row.id).additions};
}

const SweepRow* Core::Find(SweepId sweep) const {
  const auto it = sweeps_.find(sweep);
  return it == sweeps_.end() ? nullptr : &it->second.row;
}

std::optional<Core::Due> Core::NextDue() const {
  for (SweepId id : open_sweeps_) {
    const Sweep& sweep = sweeps_.at(id);
    if (sweep.row.state == SweepState::kRunning && sweep.news > sweep.seen)
      return Due{.sweep = id, .seen = sweep.news};
  }
  return std::nullopt;
}

std::optional<WorkerId> Core::WorkerOfSession(SessionId session) const {
  const auto it = by_session_.find(session);
  if (it == by_session_.end()) return std::nullopt;
  return it->second;
}

int64_t Core::FirstSession(int64_t incarnation) { return (incarnation - 1) << kSessionShift; }

bool Core::SessionWasFenced(SessionId session) const {
  return session.value > FirstSession(incarnation_) && session <= last_session_ &&
         !by_session_.contains(session);
}

int64_t Core::waiting() const {
  auto n = static_cast<int64_t>(backoff_.size());
  for (const auto& [name, user] : users_) n += user.waiting;
  return n;
}

int64_t Core::Generation(WorkerId worker) const { return workers_.at(worker).generation; }

std::vector<Grant> Core::Desired(WorkerId worker) const {
  std::vector<Grant> out;
  for (StageId id : workers_.at(worker).grants) {
    const Stage& stage = At(id);
    const Trial& trial = trials_.at(stage.row.trial);
    Grant g{.incarnation = incarnation_,
            .attempt = {id, stage.row.attempts},
            .trial = trial.row.id,
            .kind = stage.row.kind,
            .config_json = trial.row.config_json,
            .settings_json = stage.row.settings_json,
            .fusion_key = trial.row.fusion_key,
            .until_step = stage.row.until_step,
            .exclusive = IsExclusive(stage.row),
            .bundle = BundleOn(*stage.live, worker),
            .bundle_rows = bundles_.at(stage.live->bundle).rows_max,
            .preempt = stage.live->preempt,
            .keep_step = stage.row.trunk_step,
            .ranks = stage.row.ranks,
            .ranks_here = stage.row.ranks};
    for (const Member& m : stage.live->members) {
      if (stage.live->worker == worker) {
        g.ranks_here -= m.ranks;
      } else if (m.worker == worker) {
        g.preempt = false;  // rank 0 is asked, and lets the others go
        g.first_rank = m.first_rank;
        g.ranks_here = m.ranks;
        g.rendezvous = stage.live->rendezvous;
        g.secret = stage.live->secret;
      }
    }
    if (stage.row.ooms > 0 && trial.row.seq_len > 0) {
      const int64_t batch = trial.row.batch_tokens / trial.row.seq_len;
      g.micro_batch = std::max<int64_t>(1, batch >> std::min<int64_t>(stage.row.ooms, 60));
    }
    // Its own, or that of the nearest stage before it which has left one.
    const StageRow* from = &stage.row;
    g.resume = from->checkpoint_step >= 0;
    while (from != nullptr && from->checkpoint_step < 0)
      from = from->parent ? &At(from->parent).row : nullptr;
    if (from != nullptr) {
      g.checkpoint_path = from->checkpoint_path;
      g.checkpoint_digest = from->checkpoint_digest;
      g.checkpoint_step = from->checkpoint_step;
    }
    out.push_back(std::move(g));
  }
  return out;
}

std::vector<Core::WorkerView> Core::Workers(Now now) const {
  std::vector<WorkerView> out;
  for (const auto& [name, id] : by_name_) {
    const Worker& w = workers_.at(id);
    out.push_back(
        {.row = w.row,
         .used = w.used,
         .silent = now.cluster - w.heard,
         .suspect = w.suspect,
         .quarantined = std::max(w.row.quarantined_until_ct - now.cluster, absl::Duration()),
         .on_probation = w.row.on_probation,
         .memory_used = w.memory_used,
         .remaining = w.ends - now.cluster});
  }
  return out;
}

void Core::Move(Stage& stage, StageState to, absl::string_view reason) {
  if (!CanMove(stage.row.state, to) && illegal_move_.empty()) {
    illegal_move_ = absl::StrCat("stage ", stage.row.id.value, " moved from ",
                                 Name(stage.row.state), " to ", Name(to));
  }
  stage.row.state = to;
  stage.row.reason = std::string(reason);
  dirty_stages_.insert(stage.row.id);
  Place(stage);
  PlaceOthers(stage);
  // A child cannot run without its parent's result; one that can wants to be queued.
  for (StageId id : stage.children) {
    Stage& child = At(id);
    if (IsTerminal(to) && to != StageState::kSucceeded && !IsTerminal(child.row.state)) {
      Move(child, StageState::kCancelled,
           absl::StrCat("its parent stage ", stage.row.name, " ended as ", Name(to)));
    } else {
      Place(child);
    }
  }
  // Something may be decided by what it measured, before the trial as a whole has ended.
  if (IsTerminal(to) && stage.row.parent) Tell(trials_.at(stage.row.trial));
  Settle(trials_.at(stage.row.trial));
}

StageState Core::StateOf(const std::vector<const StageRow*>& stages) {
  bool live = false, running = false, pending = false;
  for (const StageRow* s : stages) {
    live |= !IsTerminal(s->state);
    running |= s->state == StageState::kRunning;
    pending |= s->state == StageState::kPending;
  }
  if (running) return StageState::kRunning;
  if (live) return pending ? StageState::kPending : StageState::kPaused;
  for (const StageRow* s : stages) {
    if (s->state != StageState::kSucceeded) return s->state;
  }
  return StageState::kSucceeded;
}

void Core::Settle(Trial& trial) {
  std::vector<const StageRow*> rows;
  for (StageId id : trial.stages) rows.push_back(&At(id).row);
  const StageState state = StateOf(rows);
  if (state != trial.row.state) {
    trial.row.state = state;
    dirty_trials_.insert(trial.row.id);
  }
  if (!IsTerminal(state)) {
    finished_.erase(trial.row.id);
    return;
  }
  finished_.insert(trial.row.id);
  const std::set<SweepId> sweeps = std::exchange(trial.sweeps, {});
  trial.given_up.clear();
  for (SweepId id : sweeps) {
    Sweep& sweep = sweeps_.at(id);
    sweep.live.erase(trial.row.id);
    ++sweep.news;
    EndIfDone(sweep, "all its trials have ended");
  }
}

// Each row that changed is written once, however often it changed.
void Core::Flush() {
  std::vector<Change>& out = effects_.changes;
  for (StageId id : std::exchange(dirty_stages_, {})) out.push_back(UpdateStage{At(id).row});
  for (TrialId id : std::exchange(dirty_trials_, {}))
    out.push_back(UpdateTrial{id, trials_.at(id).row.state});
  for (SweepId id : std::exchange(dirty_sweeps_, {})) {
    const SweepRow& row = sweeps_.at(id).row;
    out.push_back(UpdateSweep{.id = id,
                              .state = row.state,
                              .cursor = row.cursor,
                              .end_time_us = row.end_time_us,
                              .priority = row.priority,
                              .paused = row.paused,
                              .trials = row.trials,
                              .open = row.open});
  }
  for (const std::string& name : std::exchange(dirty_users_, {}))
    out.push_back(UpsertUser{users_.at(name).row});
  for (WorkerId id : std::exchange(dirty_workers_, {}))
    out.push_back(UpsertWorker{workers_.at(id).row});
  for (WorkerId id : std::exchange(woken_, {})) effects_.woken.push_back(id);
}

void Core::Evict() {
  if (pins_ > 0) return;
  for (TrialId id : std::exchange(finished_, {})) {
    const auto it = trials_.find(id);
    for (StageId stage : it->second.stages) {
      LeaveTrunk(At(stage));
      stages_.erase(stage);
    }
    by_key_.erase(it->second.row.key);
    trials_.erase(it);
  }
}

void Core::Note(absl::string_view kind, const Stage* stage, WorkerId worker,
                absl::string_view detail) {
  EventRow row{.time_us = now_.wall_us,
               .kind = std::string(kind),
               .worker = worker,
               .detail = std::string(detail)};
  if (stage != nullptr) {
    row.trial = stage->row.trial;
    row.stage = stage->row.id;
    row.attempt = stage->row.attempts;
  }
  effects_.changes.push_back(AppendEvent{std::move(row)});
}

void Core::NoteSweep(absl::string_view kind, SweepId sweep, absl::string_view detail) {
  effects_.changes.push_back(AppendEvent{{.time_us = now_.wall_us,
                                          .kind = std::string(kind),
                                          .sweep = sweep,
                                          .detail = std::string(detail)}});
}

void Core::Wake(Worker& worker) {
  worker.generation = ++generation_;
  woken_.insert(worker.row.id);
}

Fence Core::FenceOf(const Stage& stage) const {
  return {.incarnation = incarnation_,
          .attempt = {stage.row.id, stage.row.attempts},
          .session = stage.live->session};
}

}  // namespace plumb::core
