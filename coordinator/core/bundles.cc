// Bundles: stages of equal fusion key that one trainer runs at once as an array of rows. Every
// attempt is in one, most often alone; its slots and memory are the bundle's.
#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "coordinator/core/core.h"

namespace plumb::core {
namespace {
constexpr size_t kMostRemembered = 10'000;
constexpr double kWorthIt = 1.05;  // times the throughput, to be worth twice the rows
}  // namespace

bool Core::Shares(const Stage& stage) const {
  // What has failed without getting on goes alone, so that it takes nobody with it again.
  const StageRow& row = stage.row;
  return row.bundle > 1 && row.ranks == 1 && !IsExclusive(row) &&
         row.failures + row.losses + row.ooms == 0;
}

Core::Fusion Core::FusionOf(const Stage& stage) const {
  return {.priority = stage.spot.priority,
          .user = stage.spot.user,
          .need = stage.spot.need,
          .key = stage.fusion,
          .most = stage.row.bundle};
}

int64_t Core::Capacity(const Worker& w, const Stage& stage, int64_t given_back) const {
  if (!Shares(stage)) return 1;
  int64_t limit = stage.row.bundle;
  const int64_t memory = stage.spot.need.memory;
  if (memory > 0 && w.row.memory_bytes > 0)
    limit =
        std::clamp<int64_t>((w.row.memory_bytes - w.memory_used + given_back) / memory, 1, limit);
  const auto it = speeds_.find({trials_.at(stage.row.trial).row.fusion_key, w.row.devices_json});
  if (it == speeds_.end()) return 1;  // one row is measured first
  const std::map<int64_t, double>& speeds = it->second;
  // Twice the rows for as long as that pays, or is not known.
  for (int64_t rows = 1; rows < limit;) {
    const int64_t more = std::min(2 * rows, limit);
    const auto now = speeds.find(rows), then = speeds.find(more);
    if (now == speeds.end()) return rows;
    if (then == speeds.end()) return more;
    if (then->second < kWorthIt * now->second) return rows;
    rows = more;
  }
  return limit;
}

void Core::Learn(const Worker& w, const Stage& stage) {
  const Live& live = *stage.live;
  const int64_t us = absl::ToInt64Microseconds(now_.cluster - live.start);
  const int64_t steps = stage.row.target_step - live.start_step;
  if (stage.row.bundle <= 1 || us <= 0 || steps <= 0) return;
  // So many rows ran beside it on average, and went on as fast as it did.
  const double rows = static_cast<double>(live.row_us) / static_cast<double>(us);
  const double speed = rows * static_cast<double>(steps) / static_cast<double>(us);
  int64_t rung = 1;
  while (static_cast<double>(2 * rung) <= rows + 0.5) rung *= 2;
  const int64_t most = bundles_.at(live.bundle).rows_max;
  if (rung < most && rows + 0.5 >= static_cast<double>(most)) rung = most;
  if (speeds_.size() >= kMostRemembered) speeds_.clear();
  auto& speeds = speeds_[{trials_.at(stage.row.trial).row.fusion_key, w.row.devices_json}];
  const auto [it, is_new] = speeds.try_emplace(rung, speed);
  if (!is_new) it->second = (it->second + speed) / 2;
  // One that is of another size than a new one would be comes to its end.
  Bundle& b = bundles_.at(live.bundle);
  if (b.rows_max > 1 && Capacity(w, stage, b.memory) != b.rows_max) b.closed = true;
}

int64_t Core::Open(Worker& w, const Stage& stage, const Need& share, int64_t id, int64_t rows_max) {
  bundles_[id] = {.worker = w.row.id,
                  .fusion = FusionOf(stage),
                  .rows_max = rows_max,
                  .slots = share.slots,
                  .memory = share.memory * rows_max,
                  .opened = now_.cluster,
                  .accounted = now_.cluster};
  w.used += share.slots;
  w.memory_used += share.memory * rows_max;
  if (rows_max > 1) w.arrays.insert(id);
  return id;
}

void Core::Join(int64_t id, Stage& stage, const std::string& user) {
  Bundle& b = bundles_.at(id);
  Accrue(b);
  if (b.rows.empty()) {
    b.user = user;
    UserOf(user).slots += b.slots;
  }
  b.rows.insert(stage.row.id);
  if (stage.live->bundle == 0) stage.live->bundle = id;  // a member's is among its members
  Ask(b);
}

void Core::Leave(Stage& stage, int64_t id, bool stopping) {
  Bundle& b = bundles_.at(id);
  b.rows.erase(stage.row.id);
  b.stopping += stopping;
  if (b.rows.empty()) {
    UserOf(b.user).slots -= b.slots;
    b.closed = true;
  }
  Ask(b);
  Release(id);
}

void Core::Release(int64_t id) {
  const auto it = bundles_.find(id);
  const Bundle& b = it->second;
  if (!b.rows.empty() || b.stopping > 0) return;
  Worker& w = workers_.at(b.worker);
  w.used -= b.slots;
  w.memory_used -= b.memory;
  w.arrays.erase(id);
  bundles_.erase(it);
}

// A bundle's time is its rows', in equal parts.
void Core::Accrue(Bundle& b) {
  const int64_t us = absl::ToInt64Microseconds(now_.cluster - b.accounted);
  b.accounted = now_.cluster;
  if (b.rows.empty() || us <= 0) return;
  const auto rows = static_cast<int64_t>(b.rows.size());
  for (StageId id : b.rows) {
    Live& live = *At(id).live;
    live.row_us += us * rows;
    live.slot_us += us * b.slots / rows;
  }
}

// Whether its room is on its way to being free: all its rows are asked to end.
void Core::Ask(Bundle& b) {
  const bool leaving =
      !b.rows.empty() &&
      std::all_of(b.rows.begin(), b.rows.end(), [&](StageId id) { return At(id).live->preempt; });
  if (leaving != b.leaving) preempting_ += leaving ? b.slots : -b.slots;
  b.leaving = leaving;
}

bool Core::HasRoom(const Bundle& b) {
  return !b.closed && static_cast<int64_t>(b.rows.size()) + b.stopping < b.rows_max;
}

void Core::Match(const Fusion& fusion) {
  if (open_.contains(fusion) && joinable_.contains(fusion)) {
    fusible_.insert(fusion);
  } else {
    fusible_.erase(fusion);
  }
}

void Core::IndexBundle(int64_t id) {
  const Bundle& b = bundles_.at(id);
  if (!HasRoom(b)) return;
  open_[b.fusion].insert(id);
  Match(b.fusion);
}

void Core::UnindexBundle(int64_t id) {
  const Bundle& b = bundles_.at(id);
  const auto it = open_.find(b.fusion);
  if (it == open_.end() || it->second.erase(id) == 0) return;
  if (it->second.empty()) open_.erase(it);
  Match(b.fusion);
}

void Core::Wait(const Stage& stage, bool waits) {
  if (!Shares(stage)) return;
  const Fusion fusion = FusionOf(stage);
  if (waits) {
    joinable_[fusion].insert(stage.spot.order);
  } else if (const auto it = joinable_.find(fusion); it != joinable_.end()) {
    it->second.erase(stage.spot.order);
    if (it->second.empty()) joinable_.erase(it);
  }
  Match(fusion);
}

int64_t Core::RoomFor(const Stage& stage) const {
  if (!Shares(stage) || OverQuota(users_.at(stage.spot.user), 0)) return 0;
  const auto it = open_.find(FusionOf(stage));
  if (it == open_.end()) return 0;
  for (int64_t id : it->second) {
    if (!Kept(bundles_.at(id).worker, stage.spot.need)) return id;
  }
  return 0;
}

// Rows that are free go to stages that fit them, behind others that they would be of no use to. A
// bundle must come to its end, though: while something else waits, it takes new rows for a while
// only.
void Core::Refill(const Fusion* first_waiting) {
  for (const Fusion& fusion : std::set<Fusion>(fusible_)) {
    const bool first = first_waiting != nullptr && *first_waiting == fusion;
    if (first_waiting != nullptr && first_waiting->priority > fusion.priority) continue;
    if (OverQuota(users_.at(fusion.user), 0)) continue;  // it was lowered under what he has
    while (fusible_.contains(fusion)) {
      int64_t into = 0;
      std::vector<int64_t> old;
      for (int64_t id : open_.at(fusion)) {
        const Bundle& b = bundles_.at(id);
        if (Kept(b.worker, fusion.need)) continue;
        if (first_waiting != nullptr && !first && now_.cluster - b.opened > options_.refill) {
          old.push_back(id);
          continue;
        }
        into = id;
        break;
      }
      for (int64_t id : old) {
        UnindexBundle(id);
        bundles_.at(id).closed = true;
      }
      if (into == 0) break;
      Stage& stage = At(joinable_.at(fusion).begin()->stage);
      GrantTo(workers_.at(bundles_.at(into).worker), stage, into);
    }
  }
}

}  // namespace plumb::core
