// Which stage goes to which worker (core.h has the order). A slot is a thread; an exclusive stage
// takes a whole idle worker. A stage that fits no worker now, but could, reserves one, so that it
// does not starve.
#include <algorithm>
#include <limits>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "coordinator/core/core.h"

namespace plumb::core {
namespace {
constexpr int64_t kMemoryUnit = 256 << 20;
constexpr int kLooks = 16;    // at places that may do, in one decision
constexpr int kPassed = 256;  // attempts whose end would be of no use
}  // namespace

Core::Order Core::OrderOf(const Stage& stage) const {
  const Trial& trial = trials_.at(stage.row.trial);
  return {.priority = stage.row.priority,
          .sweep = trial.order_sweep,
          .idx = trial.order_idx,
          .stage = stage.row.id};
}

Core::Need Core::NeedOf(const Stage& stage) const {
  int64_t memory = stage.row.memory_bytes;
  if (memory > 0) {
    const auto measured = measured_memory_.find(trials_.at(stage.row.trial).row.fusion_key);
    if (measured != measured_memory_.end()) memory = measured->second;
  }
  return {.exclusive = IsExclusive(stage.row),
          .slots = stage.row.threads,
          .memory = (memory + kMemoryUnit - 1) / kMemoryUnit * kMemoryUnit,
          .labels = stage.labels,
          .ranks = stage.row.threads % stage.row.ranks == 0 ? stage.row.ranks : 1};
}

bool Core::ParentSucceeded(const Stage& stage) const {
  return !stage.row.parent || At(stage.row.parent).row.state == StageState::kSucceeded;
}

Core::Sponsor Core::SponsorOf(const Trial& trial) const {
  const SweepRow *best = nullptr, *paused = nullptr;
  for (SweepId id : trial.sweeps) {
    const SweepRow& row = sweeps_.at(id).row;
    if (row.paused) {
      paused = &row;
    } else if (best == nullptr || row.priority > best->priority) {
      best = &row;
    }
  }
  if (best == nullptr && paused == nullptr) {  // it is being brought by one
    const auto it = sweeps_.find(trial.order_sweep);
    if (it != sweeps_.end()) (it->second.row.paused ? paused : best) = &it->second.row;
  }
  const SweepRow* of = best != nullptr ? best : paused;
  if (of == nullptr) return {};
  return {.paused = best == nullptr, .priority = of->priority, .user = of->user};
}

absl::Duration Core::Typical(const Trial& trial) const {
  const auto it = typical_.find(trial.row.fusion_key);
  return it == typical_.end() ? options_.typical : it->second;
}

void Core::Place(Stage& stage) {
  switch (stage.queue) {
    case Queue::kNone:
      break;
    case Queue::kReady: {
      const Spot& spot = stage.spot;
      const auto level = ready_.find(spot.priority);
      const auto line = level->second.find(spot.user);
      const auto orders = line->second.find(spot.need);
      orders->second.erase(spot.order);
      if (orders->second.empty()) line->second.erase(orders);
      if (line->second.empty()) level->second.erase(line);
      if (level->second.empty()) ready_.erase(level);
      CountWaiting(spot.user, -1);
      Wait(stage, false);
      break;
    }
    case Queue::kBackoff:
      backoff_.erase({stage.row.not_before_ct, stage.row.id});
      break;
  }
  stage.queue = Queue::kNone;
  if (stage.row.state != StageState::kPending || !ParentSucceeded(stage) ||
      Awaited(stage) != nullptr)
    return;
  Sponsor sponsor = SponsorOf(trials_.at(stage.row.trial));
  if (sponsor.paused) return;
  if (stage.row.not_before_ct > now_.cluster) {
    stage.queue = Queue::kBackoff;
    backoff_.insert({stage.row.not_before_ct, stage.row.id});
  } else {
    stage.queue = Queue::kReady;
    stage.spot = {.priority = sponsor.priority,
                  .user = std::move(sponsor.user),
                  .need = NeedOf(stage),
                  .order = OrderOf(stage)};
    const Spot& spot = stage.spot;
    ready_[spot.priority][spot.user][spot.need].insert(spot.order);
    CountWaiting(spot.user, 1);
    Wait(stage, true);
  }
}

void Core::PlaceAll(Trial& trial) {
  const Sponsor sponsor = SponsorOf(trial);
  for (StageId id : trial.stages) {
    Stage& stage = At(id);
    Place(stage);
    PlaceOthers(stage);
    if (!stage.live || stage.live->preempt) continue;
    if (sponsor.paused) {
      Preempt(stage, "its sweep is paused");
    } else if (sponsor.priority != stage.live->priority) {
      Running(stage, false);
      stage.live->priority = sponsor.priority;
      UnindexBundle(stage.live->bundle);
      bundles_.at(stage.live->bundle).closed = true;  // it is of another priority now
      Running(stage, true);
    }
  }
}

bool Core::Takes(const Worker& w) const {
  return w.row.state == WorkerState::kConnected && !w.exclusive && !w.suspect && !w.row.drain &&
         !w.leaving && w.row.quarantined_until_ct == absl::ZeroDuration() &&
         !(w.row.on_probation && !w.grants.empty());
}

bool Core::Covers(int64_t labels, int64_t needed) const {
  return needed == 0 || covers_.contains({labels, needed});
}

int64_t Core::LabelsOf(const std::string& labels) {
  const auto covers = [](const std::string& labels, const std::string& needed) {
    const std::vector<absl::string_view> all = absl::StrSplit(labels, ',');
    for (absl::string_view one : absl::StrSplit(needed, ',')) {
      if (std::find(all.begin(), all.end(), one) == all.end()) return false;
    }
    return true;
  };
  const int64_t id = labels_.Of(labels);
  if (id == 0 || std::find(label_sets_.begin(), label_sets_.end(), id) != label_sets_.end())
    return id;
  label_sets_.push_back(id);
  for (int64_t other : label_sets_) {
    if (covers(labels, labels_[other])) covers_.insert({id, other});
    if (covers(labels_[other], labels)) covers_.insert({other, id});
  }
  return id;
}

void Core::Number(Stage& stage) {
  stage.labels = LabelsOf(stage.row.labels);
  stage.fusion =
      fusions_.Of(absl::StrCat(stage.row.kind, "/", trials_.at(stage.row.trial).row.fusion_key));
}

Core::Class Core::ClassOf(const Worker& w) const {
  const std::string& labels = w.row.labels;
  return {labels.empty() ? 0 : 1 + std::count(labels.begin(), labels.end(), ','), w.labels};
}

bool Core::Fits(const Worker& w, const Need& need) const {
  return Takes(w) && (!need.exclusive || w.used == 0) && w.row.slots - w.used >= need.slots &&
         (w.row.memory_bytes == 0 || w.memory_used + need.memory <= w.row.memory_bytes) &&
         Covers(w.labels, need.labels);
}

bool Core::CouldFit(const Worker& w, const Need& need) const {
  return Able(w) && w.row.slots >= need.slots &&
         (w.row.memory_bytes == 0 || need.memory <= w.row.memory_bytes) &&
         Covers(w.labels, need.labels);
}

int64_t Core::FreeMemory(const Worker& w) {
  return w.row.memory_bytes == 0 ? std::numeric_limits<int64_t>::max()
                                 : w.row.memory_bytes - w.memory_used;
}

void Core::Index(Worker& w) {
  if (w.row.state == WorkerState::kConnected || w.row.state == WorkerState::kDraining) {
    expiry_.insert({w.heard + options_.lease, w.row.id});
    if (!w.suspect) suspicion_.insert({w.heard + SuspectAfter(), w.row.id});
    if (w.ends != absl::InfiniteDuration() && !w.leaving)
      leaving_.insert({w.ends - options_.leave, w.row.id});
  }
  if (w.row.quarantined_until_ct > absl::ZeroDuration())
    quarantine_.insert({w.row.quarantined_until_ct, w.row.id});
  NoteAble(w);
  if (!Takes(w)) return;
  for (int64_t id : w.arrays) IndexBundle(id);
  if (w.used < w.row.slots) {
    free_[ClassOf(w)].insert({w.used - w.row.slots, w.row.id});
    roomy_[ClassOf(w)].insert({-FreeMemory(w), w.row.id});
  }
  if (w.used == 0) idle_[ClassOf(w)].insert({-w.row.slots, w.row.id});
}

void Core::Unindex(const Worker& w) {
  expiry_.erase({w.heard + options_.lease, w.row.id});
  suspicion_.erase({w.heard + SuspectAfter(), w.row.id});
  leaving_.erase({w.ends - options_.leave, w.row.id});
  quarantine_.erase({w.row.quarantined_until_ct, w.row.id});
  for (int64_t id : w.arrays) UnindexBundle(id);
  const auto erase = [&](auto& pools, int64_t room) {
    const auto pool = pools.find(ClassOf(w));
    if (pool == pools.end()) return;
    pool->second.erase({room, w.row.id});
    if (pool->second.empty()) pools.erase(pool);
  };
  erase(free_, w.used - w.row.slots);
  erase(roomy_, -FreeMemory(w));
  erase(idle_, -w.row.slots);
}

WorkerId Core::Choose(const Need& need, const Stage& stage) const {
  const auto kept = [&](WorkerId id) { return Kept(id, need); };
  const auto near = [&](WorkerId id) {
    return id && workers_.contains(id) && !kept(id) && !stage.failed_on.contains(id) &&
           Fits(workers_.at(id), need);
  };
  if (stage.row.checkpoint_step >= 0 && near(stage.last_on)) return stage.last_on;
  if (const TrunkRow* trunk = TrunkFor(stage)) {
    const auto it = stages_.find(trunk->stage);
    if (it != stages_.end() && near(it->second.last_on)) return it->second.last_on;
  }
  if (stage.row.checkpoint_step < 0 && stage.row.parent && near(At(stage.row.parent).last_on))
    return At(stage.row.parent).last_on;
  const absl::Duration typical = Typical(trials_.at(stage.row.trial));
  WorkerId first;
  int looks = 0;
  enum { kGoOn, kPassed, kFound };
  const auto look = [&](WorkerId id) {
    if (kept(id)) return kGoOn;
    const Worker& w = workers_.at(id);
    if (!Fits(w, need)) return kPassed;
    if (!first) first = id;
    if (!stage.failed_on.contains(id) && w.ends - now_.cluster >= typical) {
      first = id;
      return kFound;
    }
    return ++looks == kLooks ? kFound : kGoOn;
  };
  for (const auto& [labels, pool] : need.exclusive ? idle_ : free_) {
    if (!Covers(labels.second, need.labels)) continue;
    const auto roomy = roomy_.find(labels);
    if (need.memory > 0 && -roomy->second.begin()->first < need.memory) continue;
    int passed = 0;
    for (const auto& [room, id] : pool) {
      if (-room < need.slots || passed == kLooks) break;
      const auto found = look(id);
      if (found == kFound) return first;
      passed += found == kPassed;
    }
    if (passed < kLooks) continue;
    // Those with most slots lack the memory; so the ones with most memory.
    passed = 0;
    for (const auto& [room, id] : roomy->second) {
      if (-room < need.memory || passed == kLooks) break;
      const auto found = look(id);
      if (found == kFound) return first;
      passed += found == kPassed;
    }
  }
  return first;
}

const Core::Stage* Core::Next(const std::set<Need>& blocked) const {
  for (const auto& [priority, users] : ready_) {
    for (const auto& [key, name] : by_share_) {
      const auto line = users.find(name);
      if (line == users.end()) continue;
      const User& user = users_.at(name);
      const Order* best = nullptr;
      for (const auto& [need, orders] : line->second) {
        if (blocked.contains(need) || OverQuota(user, need.slots)) continue;
        if (best == nullptr || *orders.begin() < *best) best = &*orders.begin();
      }
      if (best != nullptr) return &At(best->stage);
    }
  }
  return nullptr;
}

void Core::Schedule() {
  std::set<Need> blocked;
  std::optional<Fusion> first_waiting;
  while (const Stage* next = Next(blocked)) {
    const Need need = next->spot.need;
    if (const WorkerId worker = Choose(need, *next)) {
      GrantTo(workers_.at(worker), At(next->row.id), 0);
      if (need == reserved_for_) reserved_.clear();
      continue;
    }
    if (need.ranks > 1 && !FitsAlone(need)) {
      std::vector<Member> gang = ChooseGang(need, *next);
      if (!gang.empty()) {
        Worker& first = workers_.at(gang.front().worker);
        gang.erase(gang.begin());
        GrantTo(first, At(next->row.id), 0, gang);
        if (need == reserved_for_) reserved_.clear();
        continue;
      }
    }
    if (const int64_t bundle = RoomFor(*next)) {
      GrantTo(workers_.at(bundles_.at(bundle).worker), At(next->row.id), bundle);
      continue;
    }
    if (blocked.empty()) {
      first_waiting = FusionOf(*next);
      MakeRoom(*next);
    }
    blocked.insert(need);
    if (free_.empty()) break;  // and nothing else can be placed
  }
  if (!fusible_.empty()) Refill(first_waiting ? &*first_waiting : nullptr);
  // What the worker was kept for is gone: it is there for all.
  if (blocked.empty() && !reserved_.empty()) {
    reserved_.clear();
    Schedule();
  }
}

void Core::MakeRoom(const Stage& stage) {
  const Need& need = stage.spot.need;
  const int64_t priority = stage.spot.priority;
  bool less_urgent = false;  // is there anything on machines that have the labels
  for (const auto& [labels, running] : running_)
    less_urgent |=
        !running.empty() && std::get<0>(*running.begin()) < priority && Covers(labels, need.labels);
  const std::string why = absl::StrCat("it makes room for sweep priority ", priority);
  if (need.slots == 1 && !need.exclusive && need.memory == 0) {
    // Any slot will do, and goes to the most urgent when it is free.
    reserved_.clear();
    if (!less_urgent) return;
    int64_t wanted = -preempting_;
    for (const auto& [name, line] : ready_.at(priority)) {
      const auto it = line.find(need);
      if (it == line.end()) continue;
      const User& user = users_.at(name);
      const auto waiting = static_cast<int64_t>(it->second.size());
      wanted += user.row.max_slots == 0
                    ? waiting
                    : std::clamp<int64_t>(user.row.max_slots - user.slots, 0, waiting);
    }
    for (auto& [labels, running] : running_) {
      if (!Covers(labels, need.labels)) continue;
      int passed = 0;
      for (auto it = running.begin();
           it != running.end() && wanted > 0 && passed < kPassed && std::get<0>(*it) < priority;) {
        const Live& live = *At(std::get<2>(*it++)).live;
        int64_t here = live.bundle;  // of a gang, what is on a worker with these labels
        for (const Member& m : live.members) {
          if (workers_.at(live.worker).labels != labels && workers_.at(m.worker).labels == labels)
            here = m.bundle;
        }
        const Bundle& victim = bundles_.at(here);
        if (!CouldFit(workers_.at(victim.worker), need) || Urgent(victim, priority)) {
          ++passed;
          continue;
        }
        wanted -= victim.slots;
        // Its other rows may be what `it` stands at: they are passed first.
        while (it != running.end() && victim.rows.contains(std::get<2>(*it))) ++it;
        for (StageId id : std::set<StageId>(victim.rows)) Preempt(At(id), why);
      }
    }
    return;
  }
  if (need.ranks > 1 && !FitsAlone(need)) {
    MakeRoomForGang(stage, less_urgent, why);
    return;
  }
  // A worker that it would fit is kept from filling up again: the one nearest to having room.
  if (reserved_for_ != need || reserved_.size() != 1 ||
      !CouldFit(workers_.at(reserved_.front()), need)) {
    WorkerId nearest;
    reserved_for_ = need;
    auto least = std::pair(std::pair(std::numeric_limits<int64_t>::max(), int64_t{0}), int64_t{0});
    const auto look = [&](const Worker& w) {
      if (!CouldFit(w, need)) return;
      const std::pair is(less_urgent ? UrgentOn(w, priority) : std::pair(w.used, w.memory_used),
                         w.used);
      if (is >= least) return;
      least = is;
      nearest = w.row.id;
    };
    // Not all of ten thousand: those that have less urgent work, those with some room, and a few
    // more each time, so that in the end each has its turn.
    int looks = 0;
    for (const auto& [labels, running] : running_) {
      if (!Covers(labels, need.labels)) continue;
      looks = 0;
      for (auto it = running.begin(); it != running.end() && looks < kLooks; ++it, ++looks) {
        if (std::get<0>(*it) >= priority) break;
        look(workers_.at(At(std::get<2>(*it)).live->worker));
      }
    }
    for (const auto& [labels, pool] : free_) {
      if (!Covers(labels.second, need.labels)) continue;
      looks = 0;
      for (auto it = pool.begin(); it != pool.end() && looks < kLooks; ++it, ++looks)
        look(workers_.at(it->second));
    }
    auto it = workers_.upper_bound(looked_at_);
    for (looks = 0; looks < kLooks && looks < std::ssize(workers_); ++looks) {
      if (it == workers_.end()) it = workers_.begin();
      looked_at_ = it->first;
      look((it++)->second);
    }
    reserved_.assign(nearest ? 1 : 0, nearest);
  }
  if (!less_urgent || reserved_.empty()) return;
  const Worker& w = workers_.at(reserved_.front());
  const auto [slots, memory] = UrgentOn(w, priority);
  if (w.row.slots - slots < (need.exclusive ? w.row.slots : need.slots) ||
      (w.row.memory_bytes > 0 && w.row.memory_bytes - memory < need.memory))
    return;
  for (StageId id : std::set<StageId>(w.grants)) {
    if (!Urgent(bundles_.at(BundleOn(*At(id).live, w.row.id)), priority)) Preempt(At(id), why);
  }
}

std::pair<int64_t, int64_t> Core::UrgentOn(const Worker& w, int64_t priority) const {
  std::pair<int64_t, int64_t> slots_and_memory;
  for (StageId id : w.grants) {
    const Bundle& b = bundles_.at(BundleOn(*At(id).live, w.row.id));
    if (*b.rows.begin() != id || !Urgent(b, priority)) continue;  // a bundle counts once
    slots_and_memory.first += b.slots;
    slots_and_memory.second += b.memory;
  }
  return slots_and_memory;
}

void Core::Running(const Stage& stage, bool runs) {
  const Live& live = *stage.live;
  const Victim victim(live.priority, -live.grant, stage.row.id);
  const auto on = [&](WorkerId worker) {
    std::set<Victim>& of = running_[workers_.at(worker).labels];
    if (runs) {
      of.insert(victim);
    } else {
      of.erase(victim);
    }
  };
  on(live.worker);
  for (const Member& m : live.members) on(m.worker);
}

bool Core::Urgent(const Bundle& b, int64_t priority) const {
  return std::any_of(b.rows.begin(), b.rows.end(),
                     [&](StageId id) { return At(id).live->priority >= priority; });
}

void Core::Preempt(Stage& stage, absl::string_view why) {
  Live& live = *stage.live;
  if (live.preempt) return;
  live.preempt = true;
  Running(stage, false);
  UnindexBundle(live.bundle);
  bundles_.at(live.bundle).closed = true;
  Ask(bundles_.at(live.bundle));
  for (const Member& m : live.members) Ask(bundles_.at(m.bundle));
  Note("preempt_asked", &stage, live.worker, why);
  Wake(workers_.at(live.worker));
}

void Core::GrantTo(Worker& w, Stage& stage, int64_t into, const std::vector<Member>& members) {
  Unindex(w);
  const Need whole = stage.spot.need;
  int64_t elsewhere = 0;  // ranks
  for (const Member& m : members) elsewhere += m.ranks;
  const Need need = members.empty() ? whole : Share(whole, whole.ranks - elsewhere);
  const bool branched = Branch(stage);
  const int64_t start = stage.row.checkpoint_step >= 0 ? stage.row.checkpoint_step : 0;
  const bool allowed = into != 0
                           ? Takes(w) && HasRoom(bundles_.at(into))
                           : Fits(w, need) && !OverQuota(UserOf(stage.spot.user), whole.slots);
  if (!allowed && illegal_move_.empty())
    illegal_move_ = absl::StrCat("stage ", stage.row.id.value, " is granted what it may not have");
  ++stage.row.attempts;
  w.grants.insert(stage.row.id);
  w.exclusive = IsExclusive(stage.row);
  Wake(w);
  stage.last_on = w.row.id;
  stage.live = Live{.worker = w.row.id,
                    .session = w.row.session,
                    .granted_generation = w.generation,
                    .priority = stage.spot.priority,
                    .grant = ++grants_,
                    .user = stage.spot.user,
                    .start = now_.cluster,
                    .start_step = start};
  // A generation is given once in the life of the file.
  if (into == 0) into = Open(w, stage, need, w.generation, Capacity(w, stage, 0));
  const Bundle& bundle = bundles_.at(into);
  Join(into, stage, stage.spot.user);
  std::vector<AttemptMember> rows;
  for (const Member& m : members) {
    Worker& other = workers_.at(m.worker);
    const Need share = Share(whole, m.ranks);
    Unindex(other);
    if (!Fits(other, share) && illegal_move_.empty())
      illegal_move_ = absl::StrCat("a member of stage ", stage.row.id.value, " has no room");
    other.grants.insert(stage.row.id);
    other.exclusive = IsExclusive(stage.row);
    Wake(other);
    stage.live->members.push_back(m);
    Member& member = stage.live->members.back();
    member.bundle = Open(other, stage, share, other.generation, 1);
    member.granted_generation = other.generation;
    Join(member.bundle, stage, stage.spot.user);
    rows.push_back({m.worker, m.first_rank, m.ranks, member.bundle});
    Index(other);
  }
  Running(stage, true);
  Charge(stage);
  if (stage.row.attempts > 1 && stage.row.step > start) {
    Note("rolled_back", &stage, w.row.id,
         absl::StrCat("from step ", stage.row.step, " to step ", start));
  }
  stage.row.step = start;
  effects_.changes.push_back(
      OpenAttempt{.row = {.id = {stage.row.id, stage.row.attempts},
                          .incarnation = incarnation_,
                          .worker = w.row.id,
                          .session = w.row.session,
                          .until_step = stage.row.until_step,
                          .start_step = start,
                          .bundle = into,
                          .bundle_rows = bundle.rows_max,
                          .start_time_us = now_.wall_us,
                          .members = std::move(rows)},
                  // What it measured before it branched, another has too.
                  .keep_through_step = branched ? -1 : stage.row.checkpoint_step});
  Note("granted", &stage, w.row.id,
       !members.empty()         ? absl::StrCat("to ", PartsOf(stage))
       : bundle.rows.size() > 1 ? absl::StrCat("to worker ", w.row.name, " as one of ",
                                               bundle.rows.size(), " rows of bundle ", into)
                                : absl::StrCat("to worker ", w.row.name));
  if (stage.row.until_step >= 0) Tell(trials_.at(stage.row.trial));
  Move(stage, StageState::kRunning,
       absl::StrCat("attempt ", stage.row.attempts, " on worker ", w.row.name,
                    members.empty() ? "" : " and others"));
  Index(w);
}

}  // namespace plumb::core
