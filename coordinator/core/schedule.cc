// Which stage goes to which worker. By (priority, sweep, place in the sweep); a slot is a thread;
// an exclusive stage takes a whole idle worker. A stage that fits no worker now, but could,
// reserves one, so that it does not starve.
#include <limits>

#include "absl/strings/str_cat.h"
#include "coordinator/core/core.h"

namespace plumb::core {

Core::Order Core::OrderOf(const Stage& stage) const {
  const Trial& trial = trials_.at(stage.row.trial);
  return {.priority = stage.row.priority,
          .sweep = trial.order_sweep,
          .idx = trial.order_idx,
          .stage = stage.row.id};
}

Core::Need Core::NeedOf(const Stage& stage) {
  return {.exclusive = IsExclusive(stage.row), .slots = stage.row.threads};
}

bool Core::ParentSucceeded(const Stage& stage) const {
  return !stage.row.parent || At(stage.row.parent).row.state == StageState::kSucceeded;
}

void Core::Place(Stage& stage) {
  switch (stage.queue) {
    case Queue::kNone:
      break;
    case Queue::kReady: {
      const auto it = ready_.find(NeedOf(stage));
      it->second.erase(OrderOf(stage));
      if (it->second.empty()) ready_.erase(it);
      break;
    }
    case Queue::kBackoff:
      backoff_.erase({stage.row.not_before_ct, stage.row.id});
      break;
  }
  stage.queue = Queue::kNone;
  if (stage.row.state != StageState::kPending || !ParentSucceeded(stage)) return;
  if (stage.row.not_before_ct > now_.cluster) {
    stage.queue = Queue::kBackoff;
    backoff_.insert({stage.row.not_before_ct, stage.row.id});
  } else {
    stage.queue = Queue::kReady;
    ready_[NeedOf(stage)].insert(OrderOf(stage));
  }
}

void Core::Index(Worker& w) {
  if (w.row.state == WorkerState::kConnected || w.row.state == WorkerState::kDraining) {
    expiry_.insert({w.heard + options_.lease, w.row.id});
  }
  if (w.row.state != WorkerState::kConnected || w.exclusive) return;
  if (w.used < w.row.slots) free_.insert({w.used - w.row.slots, w.row.id});
  if (w.used == 0) idle_.insert({-w.row.slots, w.row.id});
}

void Core::Unindex(const Worker& w) {
  expiry_.erase({w.heard + options_.lease, w.row.id});
  free_.erase({w.used - w.row.slots, w.row.id});
  idle_.erase({-w.row.slots, w.row.id});
}

void Core::Schedule() {
  const WorkerId none;
  reserved_ = none;
  std::set<Need> blocked;
  while (!free_.empty()) {
    // The first stage in order over all kinds of need that are not known to be blocked.
    const std::pair<const Need, std::set<Order>>* best = nullptr;
    for (const auto& entry : ready_) {
      if (blocked.contains(entry.first)) continue;
      if (best == nullptr || *entry.second.begin() < *best->second.begin()) best = &entry;
    }
    if (best == nullptr) return;
    const Need need = best->first;
    const auto& pool = need.exclusive ? idle_ : free_;
    auto at = pool.begin();
    if (at != pool.end() && at->second == reserved_) ++at;
    if (at != pool.end() && -at->first >= need.slots) {
      Stage& stage = At(best->second.begin()->stage);
      GrantTo(workers_.at(at->second), stage);
      continue;
    }
    blocked.insert(need);
    if (reserved_ != none) continue;
    // Keep the worker nearest to having room for it from filling up again.
    int64_t least = std::numeric_limits<int64_t>::max();
    for (const auto& [id, w] : workers_) {
      if (w.row.state != WorkerState::kConnected || w.exclusive || w.row.slots < need.slots)
        continue;
      if (w.used < least) {
        least = w.used;
        reserved_ = id;
      }
    }
  }
}

void Core::GrantTo(Worker& w, Stage& stage) {
  Unindex(w);
  const int64_t start = stage.row.checkpoint_step >= 0 ? stage.row.checkpoint_step : 0;
  ++stage.row.attempts;
  w.grants.insert(stage.row.id);
  w.used += stage.row.threads;
  w.exclusive = IsExclusive(stage.row);
  Wake(w);
  stage.live =
      Live{.worker = w.row.id, .session = w.row.session, .granted_generation = w.generation};
  if (stage.row.attempts > 1 && stage.row.step > start) {
    Note("rolled_back", &stage, w.row.id,
         absl::StrCat("from step ", stage.row.step, " to step ", start));
  }
  stage.row.step = start;
  effects_.changes.push_back(OpenAttempt{.row = {.id = {stage.row.id, stage.row.attempts},
                                                 .incarnation = incarnation_,
                                                 .worker = w.row.id,
                                                 .session = w.row.session,
                                                 .until_step = -1,
                                                 .start_step = start,
                                                 .start_time_us = now_.wall_us},
                                         .keep_through_step = stage.row.checkpoint_step});
  Note("granted", &stage, w.row.id, absl::StrCat("to worker ", w.row.name));
  Move(stage, StageState::kRunning,
       absl::StrCat("attempt ", stage.row.attempts, " on worker ", w.row.name));
  Index(w);
}

}  // namespace plumb::core
