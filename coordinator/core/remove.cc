// What is removed for good: sweeps that have ended, and trials that nobody has any more. The rows
// go bit by bit, so that nothing waits for it; events stay.
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/core/core.h"

namespace plumb::core {

absl::StatusOr<Answer> Core::On(const RemoveSweep& e) {
  const auto it = sweeps_.find(e.sweep);
  if (it == sweeps_.end()) {
    return absl::NotFoundError(
        absl::StrCat("no sweep ", e.sweep.value, "; `plumb sweep list` shows them"));
  }
  const Sweep& sweep = it->second;
  if (sweep.row.state != SweepState::kCompleted && sweep.row.state != SweepState::kCancelled) {
    return absl::FailedPreconditionError(
        absl::StrCat("sweep ", e.sweep.value, " is ", Name(sweep.row.state),
                     "; end it first: plumb sweep cancel ", e.sweep.value));
  }
  if (!e.last) {
    effects_.changes.push_back(ForgetPlaces{.sweep = e.sweep, .limit = e.limit});
    return Answer{};
  }
  effects_.changes.push_back(ForgetSweep{e.sweep});
  NoteSweep("sweep_removed", e.sweep,
            absl::StrCat(sweep.row.name, e.user.empty() ? "" : "; by ", e.user));
  by_request_.erase(sweep.row.request_id);
  materializing_.erase(e.sweep);
  open_sweeps_.erase(e.sweep);
  sweeps_.erase(it);
  return Answer{};
}

absl::StatusOr<Answer> Core::On(const RemoveTrial& e) {
  if (!e.known) {
    return absl::NotFoundError(
        absl::StrCat("no trial ", e.trial.value, "; `plumb trial list` shows them"));
  }
  const auto it = trials_.find(e.trial);
  if (it != trials_.end() && !IsTerminal(it->second.row.state)) {
    return absl::FailedPreconditionError(
        absl::StrCat("trial ", e.trial.value, " is ", Name(it->second.row.state),
                     "; end it first: plumb trial cancel ", e.trial.value));
  }
  for (const SweepTrialRow& link : e.links) {
    const SweepRow* sweep = Find(link.sweep);
    if (sweep == nullptr || sweep->state == SweepState::kCompleted ||
        sweep->state == SweepState::kCancelled)
      continue;
    return absl::FailedPreconditionError(absl::StrCat("trial ", e.trial.value, " is of sweep ",
                                                      link.sweep.value, ", which is ",
                                                      Name(sweep->state)));
  }
  effects_.changes.push_back(ForgetPlaces{.trial = e.trial, .limit = std::ssize(e.links)});
  effects_.changes.push_back(AppendEvent{
      {.time_us = now_.wall_us,
       .kind = "trial_removed",
       .trial = e.trial,
       .detail = absl::StrCat("key ", e.known->trial.key, e.user.empty() ? "" : "; by ", e.user)}});
  return Answer{};
}

absl::StatusOr<Answer> Core::On(const PurgeTrial& e) {
  const auto it = trials_.find(e.trial);
  if (it != trials_.end() && !IsTerminal(it->second.row.state))
    return absl::FailedPreconditionError(absl::StrCat("trial ", e.trial.value, " lives"));
  effects_.changes.push_back(plumb::PurgeTrial{.trial = e.trial, .limit = e.limit});
  return Answer{};
}

}  // namespace plumb::core
