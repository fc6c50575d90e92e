// Users: what each has had of the cluster, and whose turn it is. Fair queueing: a user's key is the
// device time he has had for his weight, the one with the least is next, and one who comes back
// after a while starts level with those who are there.
#include <algorithm>
#include <cmath>
#include <optional>

#include "absl/strings/str_cat.h"
#include "coordinator/core/core.h"

namespace plumb::core {

Core::User& Core::UserOf(const std::string& name) {
  User& user = users_[name];
  user.row.name = name;
  return user;
}

void Core::Rank(User& user) {
  by_share_.erase({user.key, user.row.name});
  user.key = (static_cast<double>(user.row.consumed_us) + user.charged_us) / user.row.weight;
  if (user.waiting > 0) by_share_.insert({user.key, user.row.name});
}

void Core::CountWaiting(const std::string& name, int64_t change) {
  User& user = UserOf(name);
  const bool idle = user.waiting == 0 && user.slots == 0 && !loading_;
  user.waiting += change;
  if (idle && change > 0) {
    std::optional<double> least;  // of those who are here
    double most = 0;
    for (const auto& [other_name, other] : users_) {
      if (&other == &user) continue;
      const double had = static_cast<double>(other.row.consumed_us) / other.row.weight;
      most = std::max(most, had);
      if (other.waiting > 0 || other.slots > 0) least = std::min(least.value_or(had), had);
    }
    const double level = least.value_or(most) * user.row.weight;
    if (level > static_cast<double>(user.row.consumed_us))
      user.row.consumed_us = std::llround(level);
  }
  if (user.waiting == 0 || user.waiting == change) Rank(user);
}

void Core::Charge(Stage& stage) {
  Live& live = *stage.live;
  User& user = UserOf(live.user);
  const Bundle& bundle = bundles_.at(live.bundle);
  live.charge_us = static_cast<double>(stage.row.threads) *
                   absl::ToDoubleMicroseconds(Typical(trials_.at(stage.row.trial))) /
                   static_cast<double>(bundle.rows.size());
  user.charged_us += live.charge_us;
  Rank(user);
}

void Core::Discharge(Stage& stage) {
  const Live& live = *stage.live;
  User& user = UserOf(live.user);
  user.charged_us = user.slots == 0 ? 0 : user.charged_us - live.charge_us;
  user.row.consumed_us += live.slot_us;
  Rank(user);
  dirty_users_.insert(live.user);
}

absl::StatusOr<Answer> Core::On(const EditUser& e) {
  if (e.weight && !(*e.weight > 0 && *e.weight <= 1e6))
    return absl::InvalidArgumentError("weight: a number above 0, at most 1,000,000");
  if (e.max_slots && *e.max_slots < 0)
    return absl::InvalidArgumentError("max_slots: a number of slots, or 0 for no limit");
  User& user = UserOf(e.name);
  if (e.weight) {
    // What he has had is seen through the new weight from here on.
    user.row.consumed_us =
        std::llround(static_cast<double>(user.row.consumed_us) / user.row.weight * *e.weight);
    user.row.weight = *e.weight;
  }
  if (e.max_slots) user.row.max_slots = *e.max_slots;
  Rank(user);
  dirty_users_.insert(e.name);
  effects_.changes.push_back(
      AppendEvent{{.time_us = now_.wall_us,
                   .kind = "user_edited",
                   .detail = absl::StrCat(e.name, ": weight ", user.row.weight, ", at most ",
                                          user.row.max_slots, " slots")}});
  return Answer{};
}

std::vector<Core::UserView> Core::Users() const {
  std::vector<UserView> out;
  for (const auto& [name, user] : users_)
    out.push_back({.row = user.row, .slots = user.slots, .waiting = user.waiting});
  return out;
}

}  // namespace plumb::core
