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
                      stage.row.step, " of ", stage.row.target_step, InBundle(stage.live->bundle),
                      stage.live->members.empty() ? "" : ", as ", PartsOf(stage),
                      stage.live->seen ? "" : "; the worker has not spoken of it yet",
                      "; last heard ", absl::FormatDuration(now.cluster - w.heard),
                      " ago, lost after ", absl::FormatDuration(options_.lease));
    } else if (stage.row.state != StageState::kPending) {
      absl::StrAppend(&line, ": ", stage.row.reason);
    } else if (!ParentSucceeded(stage)) {
      const Stage& parent = At(stage.row.parent);
      absl::StrAppend(&line, ": waits for its parent stage ", parent.row.name, ", which is ",
                      Name(parent.row.state));
    } else if (const Sponsor sponsor = SponsorOf(found->second); sponsor.paused) {
      absl::StrAppend(&line, ": its sweep is paused; `plumb sweep resume` lets it go on");
    } else if (const Stage* awaited = Awaited(stage)) {
      absl::StrAppend(&line, ": waits for trial ", awaited->row.trial.value,
                      ", which computes the same up to step ", awaited->row.trunk_step,
                      " and is at step ", awaited->row.step, " (", Name(awaited->row.state),
                      "); it begins from its checkpoint there");
    } else if (stage.queue == Queue::kBackoff) {
      absl::StrAppend(&line, ": backs off for ",
                      absl::FormatDuration(stage.row.not_before_ct - now.cluster), " more (",
                      stage.row.failures, " of at most ", options_.max_failures, " failures, ",
                      stage.row.losses, " of ", options_.max_losses, " losses without progress); ",
                      stage.row.reason);
    } else {
      int64_t connected = 0, most = 0, slots = 0, used = 0, aside = 0, could = 0, drained = 0;
      int64_t could_now = 0;
      int64_t together = 0;  // ranks that the largest gang has room for
      std::map<int64_t, int64_t> gangs;
      for (const auto& [worker, w] : workers_) {
        drained += w.row.state == WorkerState::kDraining;
        if (w.row.state != WorkerState::kConnected) continue;
        if (w.suspect || w.row.quarantined_until_ct > now.cluster || w.row.on_probation) ++aside;
        ++connected;
        could_now += CouldFit(w, need);
        could += (w.row.memory_bytes == 0 || need.memory <= w.row.memory_bytes) &&
                 w.row.slots >= need.slots && Covers(w.labels, need.labels);
        if (need.ranks > 1 && w.gang != 0 && Covers(w.labels, need.labels)) {
          int64_t& ranks = gangs[w.gang];
          ranks += RanksBeside(w, need, 0, 0);
          together = std::max(together, ranks);
        }
        most = std::max(most, w.row.slots);
        slots += w.row.slots;
        used += w.exclusive ? w.row.slots : std::min(w.used, w.row.slots);
      }
      int64_t before = 0;
      for (const auto& [priority, users] : ready_) {
        if (priority < stage.spot.priority) break;
        for (const auto& [user, line_of] : users) {
          for (const auto& [other, orders] : line_of) {
            before += priority > stage.spot.priority
                          ? static_cast<int64_t>(orders.size())
                          : std::distance(orders.begin(), orders.lower_bound(stage.spot.order));
          }
        }
      }
      const auto user = users_.find(stage.spot.user);
      if (connected == 0 && drained > 0) {
        absl::StrAppend(&line, ": all workers are draining; `plumb worker undrain` lets one go on");
      } else if (connected == 0) {
        absl::StrAppend(&line, ": no worker is connected; start one with `plumb worker start`");
      } else if (together < need.ranks && most < need.slots && need.ranks > 1) {
        absl::StrAppend(&line, ": it needs ", need.slots, " slots (", need.ranks,
                        " ranks); the largest worker has ", most,
                        ", and those that may form a gang (--gang-address) have room for ",
                        together, " ranks; start more of them, or a worker with more --slots, or ",
                        "lower execution.threads or train.ranks");
      } else if (most < need.slots && need.ranks == 1) {
        absl::StrAppend(
            &line, ": it needs ", need.slots, " slots on one worker and the largest has ", most,
            "; start a worker with more --slots or lower execution.threads or train.ranks");
      } else if (could == 0 && together < need.ranks) {
        absl::StrAppend(&line, ": no connected worker has all that it needs: ", need.slots,
                        need.slots == 1 ? " slot" : " slots");
        const std::string& labels = labels_[need.labels];
        if (need.labels != 0) absl::StrAppend(&line, ", labels ", labels);
        if (labels.find("commands") != std::string::npos)
          absl::StrAppend(&line, " (`plumb worker start --allow-commands` has that one)");
        if (labels.find("trainer=") != std::string::npos)
          absl::StrAppend(&line, " (`plumb worker start --trainer NAME=PATH` has that one)");
        if (need.memory > 0) absl::StrAppend(&line, ", ", need.memory >> 20, " MiB of memory");
        absl::StrAppend(&line, " (`plumb worker list` shows what they have)");
      } else if (could_now == 0 && (need.ranks == 1 || FitsTogether(need) == 0)) {
        absl::StrAppend(&line, ": the workers that have what it needs (", need.slots,
                        need.slots == 1 ? " slot" : " slots");
        if (need.labels != 0) absl::StrAppend(&line, ", labels ", labels_[need.labels]);
        absl::StrAppend(&line, ") get nothing now (`plumb worker explain NAME` says why)");
      } else if (user != users_.end() && OverQuota(user->second, need.slots)) {
        absl::StrAppend(&line, ": user ", stage.spot.user, " has ", user->second.slots,
                        " of at most ", user->second.row.max_slots, " slots (`plumb user list`)");
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
      if (aside > 0) {
        absl::StrAppend(&line, "; ", aside,
                        " of the workers get nothing or little: silent, or in quarantine "
                        "(`plumb worker list`)");
      }
      if (stage.row.attempts > 0) absl::StrAppend(&line, "; ", stage.row.reason);
    }
    if (stage.row.branch_stage) {
      absl::StrAppend(&line, "; it began from step ", stage.row.branch_step,
                      " of another trial (`plumb trial lineage ", trial.value, "`)");
    } else if (const TrunkRow* trunk = TrunkFor(stage)) {
      absl::StrAppend(&line, "; it will begin from step ", trunk->step, " of trial ",
                      trunk->trial.value);
    }
    out.push_back(std::move(line));
  }
  return out;
}

std::vector<std::string> Core::ExplainWorker(const std::string& name, Now now) const {
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) return {};
  const Worker& w = workers_.at(found->second);
  std::string what = absl::StrCat("worker ", name, " is ", Name(w.row.state), ": ", w.used, " of ",
                                  w.row.slots, " slots are taken");
  if (w.row.memory_bytes > 0) {
    absl::StrAppend(&what, ", ", w.memory_used >> 20, " of ", w.row.memory_bytes >> 20,
                    " MiB of memory are spoken for");
  }
  std::vector<std::string> out = {what};
  const auto why = [&](auto&&... text) {
    out.push_back(absl::StrCat("it gets nothing ", text...));
  };
  if (w.row.drain) why("as it was drained; `plumb worker undrain ", name, "` ends that");
  if (w.row.state == WorkerState::kLost || w.row.state == WorkerState::kGone)
    why("until it registers again");
  if (w.suspect)
    why("new: it was silent for ", absl::FormatDuration(now.cluster - w.heard),
        ", and is lost after ", absl::FormatDuration(options_.lease));
  if (w.leaving) why("as its machine ends in ", absl::FormatDuration(w.ends - now.cluster));
  if (w.row.quarantined_until_ct > now.cluster)
    why("for ", absl::FormatDuration(w.row.quarantined_until_ct - now.cluster),
        " more: trial after trial ended there without progress (quarantine ", w.row.quarantines,
        ")");
  if (w.row.on_probation) out.push_back("after a quarantine it gets one attempt at a time");
  if (w.exclusive) why("beside its timing, which shares its worker with nothing");
  if (std::find(reserved_.begin(), reserved_.end(), w.row.id) != reserved_.end())
    out.push_back(
        absl::StrCat("it is kept free for a stage that needs ", reserved_for_.slots, " slots"));
  for (const auto& [id, b] : bundles_) {
    if (b.worker != w.row.id) continue;
    std::string line =
        absl::StrCat("bundle ", id, ": ", b.rows.size(), " of at most ", b.rows_max, " rows on ",
                     b.slots, " slots for ", absl::FormatDuration(now.cluster - b.opened));
    if (b.stopping > 0) absl::StrAppend(&line, ", ", b.stopping, " being stopped");
    if (b.rows_max > 1 && b.closed) absl::StrAppend(&line, ", takes no more");
    for (StageId stage : b.rows)
      absl::StrAppend(&line, stage == *b.rows.begin() ? "; trials " : ", ",
                      At(stage).row.trial.value);
    out.push_back(std::move(line));
  }
  if (w.row.memory_bytes > 0 || !w.arrays.empty()) {
    for (const auto& [of, speeds] : speeds_) {
      if (of.second != w.row.devices_json) continue;
      std::string line = absl::StrCat("fusion key ", of.first.substr(0, 12), " on such devices:");
      for (const auto& [rows, speed] : speeds)
        absl::StrAppend(&line, " ", rows, rows == 1 ? " row " : " rows ", speed * 1e6, " steps/s");
      out.push_back(std::move(line));
    }
  }
  return out;
}

std::string Core::InBundle(int64_t id) const {
  const Bundle& b = bundles_.at(id);
  if (b.rows_max == 1) return "";
  return absl::StrCat(", one of ", b.rows.size(), " rows (at most ", b.rows_max, ") of bundle ", id,
                      b.closed ? ", which takes no more" : "");
}

absl::Status Core::CheckInvariants() const {
  auto broken = [](int number, auto&&... text) {
    return absl::InternalError(absl::StrCat("invariant ", number, ": ", text...));
  };
  if (!illegal_move_.empty()) return broken(8, illegal_move_);
  std::map<StageId, int> held;
  std::map<WorkerId, int64_t> held_slots, held_memory;
  std::map<std::string, int64_t> slots;
  int64_t preempting = 0;
  for (const auto& [id, b] : bundles_) {
    const Worker& w = workers_.at(b.worker);
    held_slots[b.worker] += b.slots;
    held_memory[b.worker] += b.memory;
    bool asked = !b.rows.empty();
    for (StageId stage : b.rows) {
      if (!At(stage).live || BundleOn(*At(stage).live, b.worker) != id)
        return broken(3, "bundle ", id, " holds stage ", stage.value, " that is not its own");
      asked &= At(stage).live->preempt;
    }
    if (asked) preempting += b.slots;
    if (!b.rows.empty()) slots[b.user] += b.slots;
    int64_t stopping = 0;
    for (const auto& [attempt, s] : w.stopping) stopping += s.bundle == id;
    if (stopping != b.stopping || (b.rows.empty() && stopping == 0))
      return broken(3, "bundle ", id, " counts ", b.stopping, " rows to stop, has ", stopping);
    if (static_cast<int64_t>(b.rows.size()) + b.stopping > b.rows_max)
      return broken(3, "bundle ", id, " has too many rows");
    const auto open = open_.find(b.fusion);
    const bool indexed = open != open_.end() && open->second.contains(id);
    if (indexed != (b.rows_max > 1 && HasRoom(b) && Takes(w)))
      return broken(3, "bundle ", id, " is indexed wrongly");
    if ((b.rows_max > 1) != w.arrays.contains(id))
      return broken(3, "bundle ", id, " is not among its worker's");
  }
  for (const auto& [id, w] : workers_) {
    int64_t exclusive = 0;
    for (StageId stage_id : w.grants) {
      ++held[stage_id];
      const auto it = stages_.find(stage_id);
      const auto on = [&](const Live& live) {
        return live.worker == id || std::any_of(live.members.begin(), live.members.end(),
                                                [&](const Member& m) { return m.worker == id; });
      };
      if (it == stages_.end() || !it->second.live || !on(*it->second.live)) {
        return broken(2, "worker ", w.row.name, " holds stage ", stage_id.value,
                      " that is not its own");
      }
      exclusive += IsExclusive(it->second.row);
      const auto bundle = bundles_.find(BundleOn(*it->second.live, id));
      if (bundle == bundles_.end() || bundle->second.worker != id ||
          !bundle->second.rows.contains(stage_id))
        return broken(3, "stage ", stage_id.value, " is in no bundle of its worker");
    }
    if (exclusive > 0 && (w.grants.size() > 1 || !w.exclusive))
      return broken(4, "on worker ", w.row.name);
    const int64_t memory = held_memory[id], used = held_slots[id];
    if (memory != w.memory_used)
      return broken(10, "worker ", w.row.name, " counts ", w.memory_used, " bytes, has ", memory);
    if (used != w.used)
      return broken(3, "worker ", w.row.name, " counts ", w.used, " slots, has ", used);
    const auto pool = free_.find(ClassOf(w));
    const bool indexed = pool != free_.end() && pool->second.contains({w.used - w.row.slots, id});
    if (indexed != (Takes(w) && w.used < w.row.slots)) {
      return broken(3, "worker ", w.row.name, " is indexed wrongly");
    }
  }
  for (const auto& [id, stage] : stages_) {
    const StageRow& row = stage.row;
    if (row.state == StageState::kPaused && (row.until_step < 0 || row.step < row.until_step))
      return broken(13, "stage ", id.value, " is paused before its rung");
    if (!stage.live) continue;
    const Live& live = *stage.live;
    std::set<WorkerId> on = {live.worker};
    int64_t elsewhere = 0;
    for (const Member& m : live.members) {
      elsewhere += m.ranks;
      if (!on.insert(m.worker).second || m.ranks < 1)
        return broken(12, "stage ", id.value, " has a worker twice");
      if (bundles_.at(m.bundle).slots != Share(stage.spot.need, m.ranks).slots)
        return broken(12, "stage ", id.value, " has a part of another size");
    }
    if (!live.members.empty() &&
        (elsewhere >= stage.row.ranks ||
         bundles_.at(live.bundle).slots !=
             stage.row.threads / stage.row.ranks * (stage.row.ranks - elsewhere)))
      return broken(12, "stage ", id.value, " has not all its ranks");
    for (WorkerId worker : on) {
      const Worker& w = workers_.at(worker);
      if (!live.members.empty() &&
          (w.row.state == WorkerState::kLost || w.row.state == WorkerState::kGone))
        return broken(12, "stage ", id.value, " has a part on worker ", w.row.name, ", which is ",
                      Name(w.row.state));
      if (live.preempt) continue;
      const auto of = running_.find(w.labels);
      if (of == running_.end() || !of->second.contains({live.priority, -live.grant, id}))
        return broken(2, "stage ", id.value, " is not among what runs");
    }
  }
  size_t queued = 0;
  for (const auto& [id, stage] : stages_) {
    const bool running = stage.row.state == StageState::kRunning;
    const int parts = stage.live ? 1 + static_cast<int>(stage.live->members.size()) : 0;
    if (running != stage.live.has_value() || held[id] != parts) {
      return broken(2, "stage ", id.value, " is ", Name(stage.row.state), ", held by ", held[id]);
    }
    const Sponsor sponsor = SponsorOf(trials_.at(stage.row.trial));
    if (sponsor.paused && stage.live && !stage.live->preempt)
      return broken(9, "stage ", id.value, " runs for paused sweeps alone");
    if (stage.queue == Queue::kReady &&
        (stage.spot.user != sponsor.user || stage.spot.priority != sponsor.priority))
      return broken(9, "stage ", id.value, " waits for another than whom it is for");
    const Stage* const awaited = Awaited(stage);
    if (awaited != nullptr &&
        std::pair(awaited->row.trunk_step, awaited->row.id) >= std::pair(stage.row.trunk_step, id))
      return broken(14, "stage ", id.value, " awaits stage ", awaited->row.id.value);
    const auto trunk = trunks_.find(stage.row.prefix_key);
    if (!stage.row.prefix_key.empty() &&
        (trunk == trunks_.end() || !trunk->second.stages.contains({stage.row.trunk_step, id})))
      return broken(14, "stage ", id.value, " is not among those of its prefix key");
    if (!stage.row.prefix_key.empty() && stage.row.branch_stage &&
        stage.row.branch_step > stage.row.trunk_step)
      return broken(14, "stage ", id.value, " began past what it shares");
    const bool waits = stage.row.state == StageState::kPending && ParentSucceeded(stage) &&
                       !sponsor.paused && awaited == nullptr;
    if (waits != (stage.queue != Queue::kNone)) return broken(5, "stage ", id.value);
    queued += stage.queue != Queue::kNone;
    if (!ParentSucceeded(stage) && (running || stage.row.state == StageState::kSucceeded)) {
      return broken(7, "stage ", id.value);
    }
  }
  size_t in_queues = backoff_.size();
  for (const auto& [priority, users] : ready_) {
    for (const auto& [user, line] : users) {
      for (const auto& [need, orders] : line) in_queues += orders.size();
    }
  }
  if (in_queues != queued) return broken(5, in_queues, " queued, ", queued, " should be");
  if (preempting != preempting_) return broken(10, preempting, " slots are asked to end");
  for (const auto& [name, user] : users_) {
    if (user.slots != slots[name])
      return broken(10, "user ", name, " counts ", user.slots, " slots, has ", slots[name]);
    if (by_share_.contains({user.key, name}) != (user.waiting > 0))
      return broken(10, "user ", name, " is ranked wrongly");
  }
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
    if (sweep.row.state == SweepState::kRunning && !sweep.row.open && sweep.live.empty())
      return broken(6, "sweep ", id.value);
    for (TrialId trial : sweep.live) {
      if (!trials_.contains(trial) || IsTerminal(trials_.at(trial).row.state))
        return broken(6, "sweep ", id.value);
    }
  }
  return absl::OkStatus();
}

}  // namespace plumb::core
