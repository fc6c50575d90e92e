// Why a trial is where it is, and whether the core's state hangs together.
#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "coordinator/core/core.h"

namespace plumb::core {

std::vector<std::string> Core::Explain(TrialId trial, Now now) const {
  std::vector<std::string> out;
  const auto found = trials_.find(trial);
  if (found == trials_.end()) return out;
  for (StageId id : found->second.stages) {
    const Stage& stage = At(id);
    std::string line = absl::StrCat("stage ", stage.row.name, " is ", Name(stage.row.state));
    const Need need = NeedOf(stage);
    if (stage.live) {
      const Worker& w = workers_.at(stage.live->worker);
      absl::StrAppend(&line, ": attempt ", stage.row.attempts, " on worker ", w.row.name, ", step ",
                      stage.row.step, " of ", stage.row.target_step,
                      stage.live->seen ? "" : "; the worker has not spoken of it yet",
                      "; last heard ", absl::FormatDuration(now.cluster - w.heard),
                      " ago, lost after ", absl::FormatDuration(options_.lease));
    } else if (stage.row.state != StageState::kPending) {
      absl::StrAppend(&line, ": ", stage.row.reason);
    } else if (!ParentSucceeded(stage)) {
      const Stage& parent = At(stage.row.parent);
      absl::StrAppend(&line, ": waits for its parent stage ", parent.row.name, ", which is ",
                      Name(parent.row.state));
    } else if (stage.queue == Queue::kBackoff) {
      absl::StrAppend(&line, ": backs off for ",
                      absl::FormatDuration(stage.row.not_before_ct - now.cluster), " more (",
                      stage.row.failures, " of at most ", options_.max_failures,
                      " failures without progress); ", stage.row.reason);
    } else {
      int64_t connected = 0, most = 0, slots = 0, used = 0;
      for (const auto& [worker, w] : workers_) {
        if (w.row.state != WorkerState::kConnected) continue;
        ++connected;
        most = std::max(most, w.row.slots);
        slots += w.row.slots;
        used += w.exclusive ? w.row.slots : std::min(w.used, w.row.slots);
      }
      int64_t before = 0;
      for (const auto& [other, orders] : ready_) {
        before += std::distance(orders.begin(), orders.lower_bound(OrderOf(stage)));
      }
      if (connected == 0) {
        absl::StrAppend(&line, ": no worker is connected; start one with `plumb worker`");
      } else if (most < need.slots) {
        absl::StrAppend(
            &line, ": it needs ", need.slots, " slots on one worker and the largest has ", most,
            "; start a worker with more --slots or lower execution.threads or train.ranks");
      } else if (need.exclusive) {
        absl::StrAppend(
            &line,
            ": waits for a whole idle worker, because a timing shares its worker with nothing");
      } else {
        absl::StrAppend(&line, ": waits for ", need.slots, need.slots == 1 ? " slot" : " slots",
                        "; ", used, " of ", slots, " slots of ", connected,
                        connected == 1 ? " worker" : " workers", " are taken");
      }
      absl::StrAppend(&line, "; ", before, " stages are before it in the queue");
      if (stage.row.attempts > 0) absl::StrAppend(&line, "; ", stage.row.reason);
    }
    out.push_back(std::move(line));
  }
  return out;
}

absl::Status Core::CheckInvariants() const {
  auto broken = [](int number, auto&&... text) {
    return absl::InternalError(absl::StrCat("invariant ", number, ": ", text...));
  };
  if (!illegal_move_.empty()) return broken(8, illegal_move_);
  std::map<StageId, int> held;
  for (const auto& [id, w] : workers_) {
    int64_t used = 0, exclusive = 0;
    for (StageId stage_id : w.grants) {
      ++held[stage_id];
      const auto it = stages_.find(stage_id);
      if (it == stages_.end() || !it->second.live || it->second.live->worker != id) {
        return broken(2, "worker ", w.row.name, " holds stage ", stage_id.value,
                      " that is not its own");
      }
      used += it->second.row.threads;
      exclusive += IsExclusive(it->second.row);
    }
    if (exclusive > 0 && (w.grants.size() > 1 || !w.exclusive))
      return broken(4, "on worker ", w.row.name);
    for (const auto& [attempt, s] : w.stopping) used += s.slots;
    if (used != w.used)
      return broken(3, "worker ", w.row.name, " counts ", w.used, " slots, has ", used);
    const bool takes = w.row.state == WorkerState::kConnected && !w.exclusive;
    if (free_.contains({w.used - w.row.slots, id}) != (takes && w.used < w.row.slots)) {
      return broken(3, "worker ", w.row.name, " is indexed wrongly");
    }
  }
  size_t queued = 0;
  for (const auto& [id, stage] : stages_) {
    const bool running = stage.row.state == StageState::kRunning;
    if (running != stage.live.has_value() || running != (held[id] == 1) || held[id] > 1) {
      return broken(2, "stage ", id.value, " is ", Name(stage.row.state), ", held by ", held[id]);
    }
    const bool waits = stage.row.state == StageState::kPending && ParentSucceeded(stage);
    if (waits != (stage.queue != Queue::kNone)) return broken(5, "stage ", id.value);
    queued += stage.queue != Queue::kNone;
    if (!ParentSucceeded(stage) && (running || stage.row.state == StageState::kSucceeded)) {
      return broken(7, "stage ", id.value);
    }
  }
  size_t in_queues = backoff_.size();
  for (const auto& [need, orders] : ready_) in_queues += orders.size();
  if (in_queues != queued) return broken(5, in_queues, " queued, ", queued, " should be");
  for (const auto& [id, trial] : trials_) {
    std::vector<const StageRow*> rows;
    for (StageId stage : trial.stages) rows.push_back(&At(stage).row);
    if (StateOf(rows) != trial.row.state) return broken(6, "trial ", id.value);
    for (SweepId sweep : trial.sweeps) {
      if (!sweeps_.at(sweep).live.contains(id))
        return broken(6, "trial ", id.value, " and sweep ", sweep.value);
    }
  }
  for (const auto& [id, sweep] : sweeps_) {
    if (sweep.row.state == SweepState::kRunning && sweep.live.empty())
      return broken(6, "sweep ", id.value);
    for (TrialId trial : sweep.live) {
      if (!trials_.contains(trial) || IsTerminal(trials_.at(trial).row.state))
        return broken(6, "sweep ", id.value);
    }
  }
  return absl::OkStatus();
}

}  // namespace plumb::core
