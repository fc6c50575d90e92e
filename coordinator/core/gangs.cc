// Gangs: a stage of several ranks that no worker could hold by itself runs on several, whole ranks
// on each. Each part is a bundle of its worker, so that slots, memory, quotas and pre-emption see
// it as they see any other; they are taken and given back together.
#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "coordinator/core/core.h"

namespace plumb::core {
namespace {
constexpr int kLooks = 16;  // at places that may do, beside one for each rank
constexpr int64_t kMemoryUnit = 256 << 20;
}  // namespace

Core::Need Core::Share(const Need& need, int64_t ranks) {
  // Rounded up, so that the sum is at least the whole.
  const int64_t memory = (need.memory * ranks + need.ranks - 1) / need.ranks;
  return {.exclusive = need.exclusive,
          .slots = need.slots / need.ranks * ranks,
          .memory = (memory + kMemoryUnit - 1) / kMemoryUnit * kMemoryUnit,
          .labels = need.labels,
          .ranks = ranks};
}

bool Core::Able(const Worker& w) {
  return w.row.state == WorkerState::kConnected && !w.suspect && !w.row.drain && !w.leaving &&
         w.row.quarantined_until_ct == absl::ZeroDuration() && !w.row.on_probation;
}

void Core::NoteAble(Worker& w) {
  const bool able = Able(w);
  const int64_t memory =
      w.row.memory_bytes == 0 ? std::numeric_limits<int64_t>::max() : w.row.memory_bytes;
  if (able == w.able && (!able || (w.labels == w.able_labels && w.row.slots == w.able_slots &&
                                   memory == w.able_memory && w.gang == w.able_gang)))
    return;
  const auto erase = [&](Totals& from) {
    auto& by_slots = from.at(w.able_labels);
    auto& by_memory = by_slots.at(w.able_slots);
    by_memory.erase(by_memory.find(w.able_memory));
    if (by_memory.empty()) by_slots.erase(w.able_slots);
    if (by_slots.empty()) from.erase(w.able_labels);
  };
  if (w.able) {
    erase(able_);
    if (w.able_gang != 0) erase(able_gangs_.at(w.able_gang));
  }
  w.able = able;
  w.able_labels = w.labels;
  w.able_slots = w.row.slots;
  w.able_memory = memory;
  w.able_gang = w.gang;
  if (!able) return;
  able_[w.labels][w.row.slots].insert(memory);
  if (w.gang != 0) able_gangs_[w.gang][w.labels][w.row.slots].insert(memory);
}

bool Core::FitsAlone(const Need& need) const {
  for (const auto& [labels, by_slots] : able_) {
    if (!Covers(labels, need.labels)) continue;
    for (const auto& [slots, by_memory] : by_slots) {
      if (slots < need.slots) break;
      if (*by_memory.rbegin() >= need.memory) return true;
    }
  }
  return false;
}

int64_t Core::FitsTogether(const Need& need) const {
  const Need one = Share(need, 1);
  for (const auto& [gang, able] : able_gangs_) {
    int64_t ranks = 0;
    for (const auto& [labels, by_slots] : able) {
      if (!Covers(labels, need.labels)) continue;
      for (const auto& [slots, by_memory] : by_slots) {
        if (slots < one.slots) break;
        // Each that counts adds a rank, so that this ends soon also among ten thousand.
        for (auto it = by_memory.rbegin(); it != by_memory.rend() && *it >= one.memory; ++it) {
          ranks += std::min(slots / one.slots, one.memory == 0 ? need.ranks : *it / one.memory);
          if (ranks >= need.ranks) return gang;
        }
      }
    }
  }
  return 0;
}

int64_t Core::RanksBeside(const Worker& w, const Need& need, int64_t slots, int64_t memory) {
  const Need one = Share(need, 1);
  if (need.exclusive && slots > 0) return 0;
  int64_t ranks = std::min(need.ranks, (w.row.slots - slots) / one.slots);
  if (w.row.memory_bytes > 0 && one.memory > 0)
    ranks = std::min(ranks, (w.row.memory_bytes - memory) / one.memory);
  return std::max<int64_t>(ranks, 0);
}

std::vector<Core::Member> Core::ChooseGang(const Need& need, const Stage& stage) const {
  const Need one = Share(need, 1);
  const absl::Duration typical = Typical(trials_.at(stage.row.trial));
  struct Place {
    int64_t gang = 0;
    bool second_choice = false;
    int64_t ranks = 0;
    WorkerId worker;
  };
  std::vector<Place> places;
  std::set<WorkerId> seen;
  const auto look = [&](WorkerId id) {
    const Worker& w = workers_.at(id);
    if (w.gang == 0 || !seen.insert(id).second || Kept(id, need) || !Fits(w, one)) return false;
    places.push_back(
        {.gang = w.gang,
         .second_choice = stage.failed_on.contains(id) || w.ends - now_.cluster < typical,
         .ranks = RanksBeside(w, need, w.used, w.memory_used),
         .worker = id});
    return true;
  };
  if (reserved_for_ == need) {
    for (WorkerId id : reserved_) look(id);
  }
  for (const auto& [labels, pool] : need.exclusive ? idle_ : free_) {
    if (!Covers(labels.second, need.labels)) continue;
    int64_t found = 0;
    int passed = 0;
    for (const auto& [room, id] : pool) {
      if (-room < one.slots || passed == kLooks || found == need.ranks + kLooks) break;
      look(id) ? ++found : ++passed;
    }
  }
  std::stable_sort(places.begin(), places.end(), [](const Place& a, const Place& b) {
    return std::tuple(a.gang, a.second_choice, -a.ranks) <
           std::tuple(b.gang, b.second_choice, -b.ranks);
  });
  std::vector<Member> out;
  int64_t placed = 0;
  int64_t gang = 0;
  for (const Place& p : places) {
    if (p.gang != gang) out.clear(), placed = 0, gang = p.gang;
    const int64_t ranks = std::min(p.ranks, need.ranks - placed);
    out.push_back({.worker = p.worker, .first_rank = placed, .ranks = ranks});
    placed += ranks;
    if (placed == need.ranks) return out;
  }
  return {};
}

// Workers enough are kept from filling up again: those nearest to having room.
void Core::MakeRoomForGang(const Stage& stage, bool less_urgent, absl::string_view why) {
  const Need& need = stage.spot.need;
  const Need one = Share(need, 1);
  const int64_t priority = stage.spot.priority;
  const int64_t gang = FitsTogether(need);
  if (reserved_for_ != need || gang == 0) reserved_.clear();
  reserved_for_ = need;
  if (gang == 0) return;
  const auto could = [&](const Worker& w) { return w.gang == gang && CouldFit(w, one); };
  std::erase_if(reserved_, [&](WorkerId id) { return !could(workers_.at(id)); });
  int64_t ranks = 0;
  for (WorkerId id : reserved_) ranks += RanksBeside(workers_.at(id), need, 0, 0);
  if (ranks < need.ranks) {
    // As for one worker, not all of ten thousand; what is missing is found in later decisions.
    using Nearness = std::tuple<int64_t, int64_t, int64_t, WorkerId>;
    std::set<Nearness> near;
    const auto look = [&](const Worker& w) {
      if (!could(w) || std::find(reserved_.begin(), reserved_.end(), w.row.id) != reserved_.end())
        return;
      const auto [slots, memory] =
          less_urgent ? UrgentOn(w, priority) : std::pair(w.used, w.memory_used);
      near.insert({-RanksBeside(w, need, slots, memory), slots, w.used, w.row.id});
    };
    for (const auto& [labels, running] : running_) {
      if (!Covers(labels, need.labels)) continue;
      int64_t looks = 0;
      for (auto it = running.begin(); it != running.end() && looks < need.ranks + kLooks;
           ++it, ++looks) {
        if (std::get<0>(*it) >= priority) break;
        look(workers_.at(At(std::get<2>(*it)).live->worker));
      }
    }
    for (const auto& [labels, pool] : free_) {
      if (!Covers(labels.second, need.labels)) continue;
      int64_t looks = 0;
      for (auto it = pool.begin(); it != pool.end() && looks < need.ranks + kLooks; ++it, ++looks)
        look(workers_.at(it->second));
    }
    auto it = workers_.upper_bound(looked_at_);
    for (int looks = 0; looks < kLooks && looks < std::ssize(workers_); ++looks) {
      if (it == workers_.end()) it = workers_.begin();
      looked_at_ = it->first;
      look((it++)->second);
    }
    for (const auto& [room, slots, used, id] : near) {
      if (ranks >= need.ranks) break;
      reserved_.push_back(id);
      ranks += RanksBeside(workers_.at(id), need, 0, 0);
    }
  }
  if (!less_urgent || ranks < need.ranks) return;
  int64_t room = 0;
  for (WorkerId id : reserved_) {
    const auto [slots, memory] = UrgentOn(workers_.at(id), priority);
    room += RanksBeside(workers_.at(id), need, slots, memory);
  }
  if (room < need.ranks) return;
  for (WorkerId worker : reserved_) {
    for (StageId id : std::set<StageId>(workers_.at(worker).grants)) {
      if (!Urgent(bundles_.at(BundleOn(*At(id).live, worker)), priority)) Preempt(At(id), why);
    }
  }
}

int64_t Core::BundleOn(const Live& live, WorkerId worker) {
  if (live.worker == worker) return live.bundle;
  for (const Member& m : live.members) {
    if (m.worker == worker) return m.bundle;
  }
  return live.bundle;
}

// Rank 0 says how it goes. From the others come only their ends; when rank 0 let them go, its own
// word is on its way.
void Core::OnMember(Worker& w, Stage& stage, const AttemptReport& a) {
  for (Member& m : stage.live->members) {
    if (m.worker == w.row.id) m.seen = true;
  }
  if (!a.outcome || a.outcome == Outcome::kSucceeded || CheckpointGone(w, stage, a)) return;
  const bool own = a.outcome == Outcome::kFailed || a.outcome == Outcome::kOutOfMemory ||
                   a.outcome == Outcome::kInfeasible || a.outcome == Outcome::kPreempted;
  EndAttempt(stage, own ? *a.outcome : Outcome::kLost,
             absl::StrCat("its part on worker ", w.row.name, " ended: ", a.cause), a.log_tail, "{}",
             w.row.id);
}

std::string Core::PartsOf(const Stage& stage) const {
  const Live& live = *stage.live;
  if (live.members.empty()) return "";
  int64_t first = stage.row.ranks;
  for (const Member& m : live.members) first -= m.ranks;
  std::string out = absl::StrCat("one gang of ", live.members.size() + 1,
                                 " workers: ", workers_.at(live.worker).row.name, " (", first);
  for (const Member& m : live.members)
    absl::StrAppend(&out, "), ", workers_.at(m.worker).row.name, " (", m.ranks);
  return absl::StrCat(out, " of ", stage.row.ranks, " ranks)");
}

}  // namespace plumb::core
