// Workers: sessions, reports, leases, and how attempts end.
#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "coordinator/core/core.h"

namespace plumb::core {
namespace {
constexpr size_t kMostRemembered = 10'000;
}  // namespace

absl::StatusOr<Answer> Core::On(const RegisterWorker& e) {
  RaisedFor(e.known_incarnation, e.known);
  const auto [it, is_new] = by_name_.try_emplace(e.worker.name, WorkerId{});
  if (is_new) it->second = WorkerId{++last_worker_.value};
  Worker& w = workers_[it->second];
  Unindex(w);
  const SessionId before = w.row.session;
  if (!is_new) by_session_.erase(before);
  w.row.id = it->second;
  w.row.name = e.worker.name;
  w.row.host = e.worker.host;
  w.row.slots = e.worker.slots;
  w.row.build = e.worker.build;
  w.row.devices_json = e.worker.devices_json;
  const auto running = [&](bool runs) {  // kept by labels
    for (StageId id : w.grants) {
      if (!At(id).live->preempt) Running(At(id), runs);
    }
  };
  running(false);
  w.row.labels = e.worker.labels;
  w.labels = LabelsOf(w.row.labels);
  running(true);
  w.row.memory_bytes = e.worker.memory_bytes;
  w.row.gang = e.worker.gang;
  w.gang = gangs_.Of(w.row.gang);
  w.row.session = SessionId{++last_session_.value};
  w.row.state = w.row.drain ? WorkerState::kDraining : WorkerState::kConnected;
  w.row.register_time_us = now_.wall_us;
  w.heard = now_.cluster;
  w.suspect = false;
  SetEnd(w, e.remaining);
  by_session_[w.row.session] = w.row.id;
  effects_.changes.push_back(UpsertWorker{w.row});
  Note("worker_registered", nullptr, w.row.id,
       is_new ? absl::StrCat("session ", w.row.session.value)
              : absl::StrCat("session ", w.row.session.value, " fences session ", before.value));
  Wake(w);

  // What the new session still has is handed to it; what it has not is lost with the old one.
  std::set<AttemptId> alive;
  for (const AttemptReport& a : e.attempts) {
    if (a.incarnation == incarnation_) alive.insert(a.attempt);
  }
  for (StageId id : std::set<StageId>(w.grants)) {
    Stage& stage = At(id);
    const bool is_alive = alive.contains({id, stage.row.attempts});
    if (stage.live->worker != w.row.id) {  // a member of a gang
      if (is_alive) {
        Member& m = *std::find_if(stage.live->members.begin(), stage.live->members.end(),
                                  [&](const Member& one) { return one.worker == w.row.id; });
        m.granted_generation = w.generation;
        m.seen = true;
        Note("adopted", &stage, w.row.id, "its worker came back with its part");
      } else {
        EndAttempt(stage, Outcome::kLost,
                   absl::StrCat("worker ", w.row.name, " came back without its part"), "", "{}",
                   w.row.id);
      }
    } else if (is_alive) {
      effects_.changes.push_back(
          AdoptAttempt{.fence = FenceOf(stage), .new_session = w.row.session});
      stage.live->session = w.row.session;
      stage.live->granted_generation = w.generation;
      stage.live->seen = true;
      Note("adopted", &stage, w.row.id, "its worker came back with it");
    } else {
      EndAttempt(stage, Outcome::kLost, "its worker came back without it", "", "{}");
    }
  }
  Unindex(w);
  // Trainers of attempts that are no longer granted still take room until the new session stops
  // them.
  for (const auto& [attempt, s] : std::exchange(w.stopping, {})) {
    if (alive.contains(attempt)) {
      w.stopping[attempt] = {.bundle = s.bundle, .dropped_generation = w.generation};
    } else {
      --bundles_.at(s.bundle).stopping;
      Release(s.bundle);
    }
  }
  Index(w);
  return Registered{.session = w.row.session, .incarnation = incarnation_, .worker = w.row.id};
}

absl::StatusOr<Answer> Core::On(const Report& e) {
  // A generation that was never given is of a start that the file has forgotten, even if nothing
  // else was written then: by it, what is granted now could be taken for gone.
  if (!RaisedFor(e.known_incarnation, e.known) && e.generation > generation_ &&
      e.known_incarnation == incarnation_)
    RaiseIncarnation(e.known_incarnation);
  const std::optional<WorkerId> id = WorkerOfSession(e.session);
  if (!id) {
    if (SessionWasFenced(e.session)) {
      return absl::FailedPreconditionError(
          absl::StrCat("session ", e.session.value, " is fenced: its worker has a newer one"));
    }
    return absl::NotFoundError(absl::StrCat("no session ", e.session.value, "; register again"));
  }
  Worker& w = workers_.at(*id);
  Unindex(w);
  w.heard = now_.cluster;
  if (std::exchange(w.suspect, false))
    Note("worker_heard", nullptr, w.row.id, "it had been silent");
  SetEnd(w, e.remaining);
  Reported out;
  for (const MeasurementBatchPtr& batch : e.batches) {
    const Ack ack = OnBatch(w, batch);
    if (!out.acks.empty() && out.acks.back().attempt == ack.attempt) {
      out.acks.back() = ack;
    } else {
      out.acks.push_back(ack);
    }
  }
  std::set<AttemptId> reported;
  for (const AttemptReport& a : e.attempts) {
    reported.insert(a.attempt);
    const Ack ack = OnAttempt(w, a);
    const auto same = std::find_if(out.acks.begin(), out.acks.end(),
                                   [&](const Ack& other) { return other.attempt == ack.attempt; });
    if (same == out.acks.end()) {
      out.acks.push_back(ack);
    } else {
      *same = ack;
    }
  }
  // "Gone" is believed only from a worker that had applied the generation that granted it.
  for (StageId stage_id : std::set<StageId>(w.grants)) {
    Stage& stage = At(stage_id);
    if (stage.live->worker != w.row.id) {
      const auto m = std::find_if(stage.live->members.begin(), stage.live->members.end(),
                                  [&](const Member& one) { return one.worker == w.row.id; });
      if (e.generation >= m->granted_generation &&
          !reported.contains({stage_id, stage.row.attempts})) {
        EndAttempt(stage, Outcome::kLost,
                   absl::StrCat("worker ", w.row.name, " no longer has its part"), "", "{}",
                   w.row.id);
      } else if (e.draining) {
        Preempt(stage, absl::StrCat("worker ", w.row.name, ", which has a part of it, leaves"));
      }
      continue;
    }
    if (e.generation >= stage.live->granted_generation &&
        !reported.contains({stage_id, stage.row.attempts})) {
      EndAttempt(stage, Outcome::kLost, "its worker no longer has it", "", "{}");
    }
  }
  Unindex(w);
  for (auto it = w.stopping.begin(); it != w.stopping.end();) {
    if (e.generation >= it->second.dropped_generation && !reported.contains(it->first)) {
      --bundles_.at(it->second.bundle).stopping;
      Release(it->second.bundle);
      it = w.stopping.erase(it);
    } else {
      ++it;
    }
  }
  const bool empty = w.grants.empty() && w.stopping.empty();
  const WorkerState state = e.draining && empty         ? WorkerState::kGone
                            : e.draining || w.row.drain ? WorkerState::kDraining
                                                        : WorkerState::kConnected;
  if (state != w.row.state) {
    w.row.state = state;
    dirty_workers_.insert(w.row.id);
    Note(absl::StrCat("worker_", Name(state)), nullptr, w.row.id, "as it reports");
  }
  Index(w);
  return out;
}

Ack Core::OnBatch(Worker& w, const MeasurementBatchPtr& batch) {
  const AttemptId attempt = batch->attempt;
  if (batch->incarnation != incarnation_ || !w.grants.contains(attempt.stage) ||
      At(attempt.stage).row.attempts != attempt.number) {
    return {.attempt = attempt, .fenced = true};
  }
  Stage& stage = At(attempt.stage);
  if (stage.live->worker != w.row.id)  // what there is to say, rank 0 says
    return {.attempt = attempt, .through_seq = batch->last_seq};
  // Repeated: acknowledged again. A gap: the worker sends again from what is acknowledged.
  if (batch->first_seq != stage.live->acked_seq + 1 || batch->last_seq < batch->first_seq) {
    return {.attempt = attempt, .through_seq = stage.live->acked_seq};
  }
  effects_.changes.push_back(
      ApplyBatch{.fence = FenceOf(stage), .batch = batch, .commit_time_us = now_.wall_us});
  stage.live->acked_seq = batch->last_seq;
  stage.live->seen = true;
  int64_t step = stage.row.step;
  bool judged = false;
  for (const auto& s : batch->series) {
    if (s.points.empty()) continue;
    judged |= absl::StartsWith(s.name, "tune/");
    step = std::max(step, s.points.back().step);
    if (s.name == "memory/peak_bytes" && std::isfinite(s.points.back().value) &&
        bundles_.at(stage.live->bundle).rows_max == 1) {  // else it is of all rows
      if (measured_memory_.size() >= kMostRemembered) measured_memory_.clear();
      int64_t& peak = measured_memory_[trials_.at(stage.row.trial).row.fusion_key];
      peak = std::max(peak, static_cast<int64_t>(std::min(s.points.back().value, 1e15)));
    }
  }
  for (const CheckpointRow& c : batch->checkpoints) {
    step = std::max(step, c.step);
    KeepTrunk(stage, c);
    if (c.step <= stage.row.checkpoint_step) continue;
    stage.row.checkpoint_step = c.step;
    stage.row.checkpoint_path = c.path;
    stage.row.checkpoint_digest = c.digest;
    stage.row.failures = stage.row.losses = 0;
    stage.failed_on.clear();
    stage.live->progress = true;
    dirty_stages_.insert(stage.row.id);
  }
  if (!batch->checkpoints.empty()) PlaceOthers(stage);
  if (step != stage.row.step) {
    stage.row.step = step;
    dirty_stages_.insert(stage.row.id);
  }
  if (judged) Tell(trials_.at(stage.row.trial));
  return {.attempt = attempt, .through_seq = stage.live->acked_seq};
}

Ack Core::OnAttempt(Worker& w, const AttemptReport& a) {
  if (a.incarnation != incarnation_ || !w.grants.contains(a.attempt.stage) ||
      At(a.attempt.stage).row.attempts != a.attempt.number) {
    return {.attempt = a.attempt, .fenced = true};
  }
  Stage& stage = At(a.attempt.stage);
  if (stage.live->worker != w.row.id) {
    OnMember(w, stage, a);
    return {.attempt = a.attempt, .through_seq = a.through_seq};
  }
  stage.live->seen = true;
  if (!stage.live->members.empty() && !a.rendezvous.empty() &&
      (a.rendezvous != stage.live->rendezvous || a.secret != stage.live->secret)) {
    stage.live->rendezvous = a.rendezvous;
    stage.live->secret = a.secret;
    for (const Member& m : stage.live->members) Wake(workers_.at(m.worker));
  }
  const Ack ack{.attempt = a.attempt, .through_seq = stage.live->acked_seq};
  if (a.step > stage.row.step && a.step <= std::max(stage.row.target_step, stage.row.step)) {
    stage.row.step = a.step;
    dirty_stages_.insert(stage.row.id);
  }
  if (CheckpointGone(w, stage, a)) return ack;
  if (a.outcome && a.through_seq <= stage.live->acked_seq) {
    EndAttempt(stage, *a.outcome, a.cause, a.log_tail, a.summary_json);
  }
  return ack;
}

bool Core::CheckpointGone(Worker& w, Stage& stage, const AttemptReport& a) {
  if (a.outcome != Outcome::kFailed || !a.checkpoint_gone || stage.row.checkpoint_step < 0 ||
      stage.live->progress)
    return false;
  // Nobody's fault, and it cannot happen twice without a checkpoint in between.
  Note("checkpoint_gone", &stage, w.row.id,
       absl::StrCat(stage.row.checkpoint_path, "; it begins again"));
  LoseTrunk(stage);
  stage.row.checkpoint_step = -1;
  stage.row.checkpoint_path.clear();
  stage.row.checkpoint_digest.clear();
  dirty_stages_.insert(stage.row.id);
  EndAttempt(stage, Outcome::kPreempted, a.cause, a.log_tail, a.summary_json, w.row.id);
  return true;
}

absl::StatusOr<Answer> Core::On(const QuarantineAttempts& e) {
  for (const AttemptId& attempt : e.attempts) {
    const auto it = stages_.find(attempt.stage);
    if (it == stages_.end() || !it->second.live || it->second.row.attempts != attempt.number)
      continue;
    Note("quarantined", &it->second, it->second.live->worker, e.cause);
    it->second.row.failures = std::max<int64_t>(it->second.row.failures, options_.max_failures);
    EndAttempt(it->second, Outcome::kFailed, e.cause, "", "{}");
  }
  return Answer{};
}

absl::StatusOr<Answer> Core::On(const Tick&) {
  while (!suspicion_.empty() && suspicion_.begin()->first <= now_.cluster) {
    Worker& w = workers_.at(suspicion_.begin()->second);
    Unindex(w);
    w.suspect = true;
    Note("worker_silent", nullptr, w.row.id,
         absl::StrCat("for ", absl::FormatDuration(now_.cluster - w.heard),
                      "; it gets nothing new"));
    Index(w);
  }
  while (!leaving_.empty() && leaving_.begin()->first <= now_.cluster) {
    Worker& w = workers_.at(leaving_.begin()->second);
    Unindex(w);
    w.leaving = true;
    Vacate(w, absl::StrCat("its worker ends in ", absl::FormatDuration(w.ends - now_.cluster)));
    Index(w);
  }
  while (!quarantine_.empty() && quarantine_.begin()->first <= now_.cluster) {
    Worker& w = workers_.at(quarantine_.begin()->second);
    Unindex(w);
    w.row.on_probation = true;
    dirty_workers_.insert(w.row.id);
    w.row.quarantined_until_ct = absl::ZeroDuration();
    Note("worker_on_probation", nullptr, w.row.id, "one attempt at a time");
    Index(w);
  }
  while (!expiry_.empty() && expiry_.begin()->first <= now_.cluster) {
    Worker& w = workers_.at(expiry_.begin()->second);
    Unindex(w);
    w.row.state = WorkerState::kLost;
    dirty_workers_.insert(w.row.id);
    const std::string why = absl::StrCat("worker ", w.row.name, " was silent for ",
                                         absl::FormatDuration(now_.cluster - w.heard));
    Note("worker_lost", nullptr, w.row.id, why);
    LoseAll(w, why);
    Index(w);
  }
  while (!backoff_.empty() && backoff_.begin()->first <= now_.cluster) {
    Stage& stage = At(backoff_.begin()->second);
    Place(stage);
  }
  return Answer{};
}

void Core::LoseAll(Worker& w, absl::string_view why) {
  for (StageId id : std::set<StageId>(w.grants))
    EndAttempt(At(id), Outcome::kLost, why, "", "{}", w.row.id);
}

bool Core::RaisedFor(int64_t known_incarnation, const Moment& known) {
  // Workers are told of cluster time only once it is committed, so none can be ahead of the file:
  // not of what this start has said, and not of where an earlier one had come to when it ended.
  absl::Duration said = now_.cluster;
  if (known.run != 0 && known.run != run_) {
    const auto it = run_ends_.find(known.run);
    said = it == run_ends_.end() ? -absl::InfiniteDuration() : it->second;
  }
  const bool later = known_incarnation > incarnation_ ||
                     (known_incarnation == incarnation_ && known.cluster > said);
  if (later) RaiseIncarnation(known_incarnation);
  return later;
}

// The file is an older copy. Nothing granted by it may count, and no session of the time that it
// has forgotten: the numbers of either may be given again.
void Core::RaiseIncarnation(int64_t known) {
  for (auto& [id, w] : workers_) {
    Unindex(w);
    w.row.state = WorkerState::kLost;
    dirty_workers_.insert(id);
    LoseAll(w, "the database is an older copy: a worker remembers more than it");
    Index(w);
  }
  by_session_.clear();
  incarnation_ = known + 1;
  last_session_.value = std::max(last_session_.value, FirstSession(incarnation_));
  effects_.changes.push_back(SetIncarnation{incarnation_});
  Note("incarnation_raised", nullptr, {},
       absl::StrCat("to ", incarnation_, ": a worker knew ", known));
}

void Core::Judge(Worker& w, Stage& stage, bool progress, bool at_fault) {
  if (progress) {
    w.strikes.clear();
    if (w.row.quarantines > 0 || w.row.on_probation) dirty_workers_.insert(w.row.id);
    w.row.quarantines = 0;
    if (std::exchange(w.row.on_probation, false))
      Note("worker_released", &stage, w.row.id, "an attempt got on");
    return;
  }
  if (!at_fault) return;
  w.strikes[stage.row.trial] = stage.row.id;
  if (!w.row.on_probation && static_cast<int>(w.strikes.size()) < options_.strikes) return;
  int64_t connected = 0, troubled = 0;
  for (const auto& [id, other] : workers_) {
    if (other.row.state != WorkerState::kConnected) continue;
    ++connected;
    troubled += !other.strikes.empty() || other.row.on_probation ||
                other.row.quarantined_until_ct > absl::ZeroDuration();
  }
  if (2 * troubled > connected) return;
  absl::Duration length = options_.quarantine;
  for (int i = 0; i < w.row.quarantines && length < options_.quarantine_max; ++i) length *= 2;
  length = std::min(length, options_.quarantine_max);
  ++w.row.quarantines;
  dirty_workers_.insert(w.row.id);
  w.row.quarantined_until_ct = now_.cluster + length;
  w.row.on_probation = false;
  Note("worker_quarantined", nullptr, w.row.id,
       absl::StrCat(w.strikes.size(), " trials in a row ended there without progress; for ",
                    absl::FormatDuration(length)));
  // What the machine is to blame for is not the trials' fault. One trial alone is no witness
  // against it: that may be what brings machines down, and must come to an end.
  const auto strikes = std::exchange(w.strikes, {});
  if (static_cast<int>(strikes.size()) < options_.strikes) return;
  for (const auto& [trial, id] : strikes) {
    const auto it = stages_.find(id);
    if (it == stages_.end()) continue;
    StageRow& row = it->second.row;
    if (row.failures > 0) {
      --row.failures;
    } else if (row.losses > 0) {
      --row.losses;
    } else {
      continue;
    }
    dirty_stages_.insert(id);
  }
}

void Core::SetEnd(Worker& w, absl::Duration remaining) {
  w.ends = now_.cluster + remaining;
  w.leaving = w.leaving && remaining <= options_.leave;
}

void Core::Vacate(Worker& w, absl::string_view why) {
  for (StageId id : w.grants) Preempt(At(id), why);
}

absl::StatusOr<Answer> Core::On(const EditWorker& e) {
  const auto it = by_name_.find(e.name);
  if (it == by_name_.end())
    return absl::NotFoundError(
        absl::StrCat("no worker \"", e.name, "\"; `plumb worker list` shows them"));
  Worker& w = workers_.at(it->second);
  if (w.row.drain == e.drain) return Answer{};
  Unindex(w);
  w.row.drain = e.drain;
  if (w.row.state == WorkerState::kConnected && e.drain) w.row.state = WorkerState::kDraining;
  if (w.row.state == WorkerState::kDraining && !e.drain) w.row.state = WorkerState::kConnected;
  dirty_workers_.insert(w.row.id);
  Note(e.drain ? "worker_drained" : "worker_undrained", nullptr, w.row.id, "on request");
  if (e.drain) Vacate(w, "its worker is drained on request");
  Index(w);
  return Answer{};
}

void Core::EndAttempt(Stage& stage, Outcome outcome, absl::string_view cause,
                      absl::string_view log_tail, absl::string_view summary_json, WorkerId by,
                      StageState cancelled_as) {
  if (!by) by = stage.live->worker;
  Worker& w = workers_.at(by);
  Accrue(bundles_.at(stage.live->bundle));
  bool seen = stage.live->seen;
  for (const Member& m : stage.live->members) {
    Accrue(bundles_.at(m.bundle));
    if (m.worker == by) seen = m.seen;
  }
  const bool lost = outcome == Outcome::kLost && seen;
  const bool oom = outcome == Outcome::kOutOfMemory;
  const bool failed = outcome == Outcome::kFailed;
  effects_.changes.push_back(CloseAttempt{.fence = FenceOf(stage),
                                          .outcome = outcome,
                                          .cause = std::string(cause),
                                          .log_tail = std::string(log_tail),
                                          .summary_json = std::string(summary_json),
                                          .end_time_us = now_.wall_us,
                                          .slot_us = stage.live->slot_us});
  Note("ended", &stage, w.row.id, absl::StrCat(Name(outcome), cause.empty() ? "" : ": ", cause));

  const bool progress = outcome == Outcome::kSucceeded || stage.live->progress;
  const bool at_fault = failed || (lost && w.row.state == WorkerState::kConnected && !w.suspect);
  if (!stage.live->preempt) Running(stage, false);
  if (outcome == Outcome::kSucceeded) {
    if (typical_.size() >= kMostRemembered) typical_.clear();
    typical_[trials_.at(stage.row.trial).row.fusion_key] = now_.cluster - stage.live->start;
    Learn(w, stage);
  }
  const auto leave = [&](WorkerId id, int64_t bundle) {
    Worker& at = workers_.at(id);
    Unindex(at);
    at.grants.erase(stage.row.id);
    if (IsExclusive(stage.row)) at.exclusive = false;
    Wake(at);
    // The worker knows of its end unless it was taken from it; then its room is free only once the
    // worker has let go.
    const bool stopping = outcome == Outcome::kCancelled || id != by;
    if (stopping) {
      at.stopping[{stage.row.id, stage.row.attempts}] = {.bundle = bundle,
                                                         .dropped_generation = at.generation};
    }
    Leave(stage, bundle, stopping);
    if (id == by) return;
    if (progress) Judge(at, stage, progress, false);
    Index(at);
  };
  leave(stage.live->worker, stage.live->bundle);
  for (const Member& m : stage.live->members) leave(m.worker, m.bundle);
  Discharge(stage);
  stage.live.reset();
  if ((lost || failed || oom) && !progress) stage.failed_on.insert(w.row.id);
  stage.row.failures += failed;
  stage.row.losses += lost;
  stage.row.ooms += oom;
  Judge(w, stage, progress, at_fault);
  Index(w);

  const int64_t n = stage.row.attempts;
  switch (outcome) {
    case Outcome::kSucceeded:
      stage.row.step = std::max(stage.row.step, stage.row.target_step);
      Move(stage, StageState::kSucceeded, absl::StrCat("attempt ", n, " succeeded"));
      return;
    case Outcome::kInfeasible:
      Move(stage, StageState::kInfeasible, cause);
      return;
    case Outcome::kDiverged:
      Move(stage, StageState::kDiverged, cause);
      return;
    case Outcome::kCancelled:
      Move(stage, cancelled_as, cause);
      return;
    case Outcome::kPaused: {
      Move(stage, StageState::kPaused, absl::StrCat("at step ", stage.row.step));
      const int64_t until = stage.row.until_step;
      if (until < 0 || stage.row.step < until) {  // promoted while it came there
        Move(stage, StageState::kPending, absl::StrCat("promoted after attempt ", n));
      } else {
        Tell(trials_.at(stage.row.trial));
      }
      return;
    }
    case Outcome::kPreempted:
      Move(stage, StageState::kPending, absl::StrCat("attempt ", n, " was preempted: ", cause));
      return;
    case Outcome::kFailed:
    case Outcome::kOutOfMemory:
    case Outcome::kLost:
      break;
  }
  const std::string what = absl::StrCat("attempt ", n, " on worker ", w.row.name, " ended as ",
                                        Name(outcome), ": ", cause);
  const bool spent =
      stage.row.failures >= options_.max_failures || stage.row.losses >= options_.max_losses;
  if (spent && LeaveFamily(stage, what)) {
    Move(stage, StageState::kPending, absl::StrCat("begins by itself because ", what));
    return;
  }
  if (spent || stage.row.ooms >= options_.max_ooms) {
    Move(stage, StageState::kFailed,
         absl::StrCat(what, " (without progress: ", stage.row.failures, " failures, ",
                      stage.row.losses, " losses; ", stage.row.ooms, " times out of memory)"));
    return;
  }
  // The first try comes back after the base time, each further one after twice as long.
  absl::Duration wait = options_.retry_backoff;
  const int64_t tries = stage.row.failures + stage.row.losses + stage.row.ooms;
  for (int64_t i = 1; i < tries && wait < options_.retry_backoff_max; ++i) wait *= 2;
  stage.row.not_before_ct = now_.cluster + std::min(wait, options_.retry_backoff_max);
  Move(stage, StageState::kPending, absl::StrCat("retried because ", what));
}

}  // namespace plumb::core
