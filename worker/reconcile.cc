#include "worker/reconcile.h"

#include <algorithm>
#include <map>

namespace plumb::worker {

std::vector<Action> Reconcile(const Desired& desired, const std::vector<LocalAttempt>& local,
                              const std::vector<SlotView>& slots) {
  std::vector<Action> actions;
  const std::set<AttemptKey> wanted(desired.attempts.begin(), desired.attempts.end());
  std::set<AttemptKey> here;
  std::map<int64_t, int> at;  // slots of bundles
  const auto bundle_of = [&](const AttemptKey& key) {
    const auto it = desired.bundles.find(key);
    return it == desired.bundles.end() ? 0 : it->second;
  };
  std::vector<AttemptKey> waiting;
  for (const LocalAttempt& a : local) {
    here.insert(a.key);
    const bool gone = desired.known && !wanted.contains(a.key);
    const bool preempt =
        desired.draining || (!gone && desired.preempt_stages.contains(a.key.stage));
    switch (a.phase) {
      case Phase::kEnded:
        if (gone) actions.push_back({Action::kForget, a.key});
        break;
      case Phase::kWaiting:
        if (gone) {
          actions.push_back({Action::kForget, a.key});
        } else if (preempt) {
          actions.push_back({Action::kAbandon, a.key});
        } else {
          waiting.push_back(a.key);
        }
        break;
      case Phase::kSent:
      case Phase::kLive:
        if (bundle_of(a.key) != 0) at[bundle_of(a.key)] = a.slot;
        if (gone && a.stop != Stop::kCancel) {
          actions.push_back({Action::kCancel, a.key});
        } else if (!gone && preempt && a.stop == Stop::kNone && !desired.members.contains(a.key)) {
          actions.push_back({Action::kPreempt, a.key});
        }
        break;
    }
  }
  for (const AttemptKey& key : desired.attempts) {
    if (here.contains(key)) continue;
    actions.push_back({Action::kTake, key});
    if (desired.draining || desired.preempt_stages.contains(key.stage)) {
      actions.push_back({Action::kAbandon, key});
    } else {
      waiting.push_back(key);
    }
  }
  std::sort(waiting.begin(), waiting.end());
  std::vector<SlotView> room = slots;
  const auto take = [&](const std::string& program) {
    int best = -1, worst = 3;
    for (int i = 0; i < static_cast<int>(room.size()); ++i) {
      if (!room[i].free) continue;
      const int cost = !room[i].program ? 1 : *room[i].program == program ? 0 : 2;
      if (cost < worst) best = i, worst = cost;
    }
    if (best >= 0) room[best].free = false;
    return best;
  };
  for (const AttemptKey& key : waiting) {
    if (desired.unready.contains(key)) continue;
    const int64_t bundle = bundle_of(key);
    if (const auto it = at.find(bundle); bundle != 0 && it != at.end()) {
      actions.push_back({Action::kStart, key, it->second});
      continue;
    }
    const auto program = desired.programs.find(key);
    const int slot = take(program == desired.programs.end() ? "" : program->second);
    if (slot < 0) continue;
    if (bundle != 0) at[bundle] = slot;
    actions.push_back({Action::kStart, key, slot});
  }
  return actions;
}

}  // namespace plumb::worker
