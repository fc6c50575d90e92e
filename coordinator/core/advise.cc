// What a sweep's advisor decides: trials that it gains, and who of its trials goes on.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/core/core.h"

namespace plumb::core {

absl::StatusOr<Answer> Core::On(const AdviseSweep& e) {
  const auto it = sweeps_.find(e.sweep);
  if (it == sweeps_.end()) {
    return absl::NotFoundError(
        absl::StrCat("no sweep ", e.sweep.value, "; `plumb sweep list` shows them"));
  }
  Sweep& sweep = it->second;
  if (sweep.row.state == SweepState::kCancelled)
    return absl::FailedPreconditionError(absl::StrCat("sweep ", e.sweep.value, " was cancelled"));
  if (!e.looks.empty() && e.looks_before != sweep.looks) return Answer{};
  if (e.additions_before >= 0 && e.additions_before != std::ssize(sweep.additions)) return Answer{};
  sweep.seen = std::max(sweep.seen, e.seen);
  for (LookRow look : e.looks) {
    look.sweep = e.sweep;
    look.seq = sweep.looks++;
    effects_.changes.push_back(InsertLook{look});
  }
  int64_t trials = 0;
  for (const AdviseSweep::Addition& a : e.additions) {
    const bool known = std::any_of(sweep.additions.begin(), sweep.additions.end(),
                                   [&](const AdditionRow& row) { return row.name == a.name; });
    if (known) continue;
    sweep.additions.push_back({.sweep = e.sweep,
                               .idx = std::ssize(sweep.additions),
                               .name = a.name,
                               .payload_json = a.payload_json,
                               .trials = a.trials});
    effects_.changes.push_back(InsertAddition{sweep.additions.back()});
    trials += a.trials;
    if (a.trials == 0)
      ++sweep.news;  // nothing of it will end, and what follows may be another thing
    NoteSweep("sweep_extended", e.sweep,
              absl::StrCat(a.name, ": ", a.trials, a.trials == 1 ? " trial" : " trials",
                           a.why.empty() ? "" : "; ", a.why));
  }
  for (const AdviseSweep::Tuned& t : e.tuned) {
    effects_.changes.push_back(UpdateCell{.sweep = e.sweep,
                                          .idx = t.cell_idx,
                                          .flags_json = t.flags_json,
                                          .tuned_json = t.tuned_json});
  }
  for (const AdviseSweep::Verdict& v : e.verdicts) Carry(sweep, v);
  const bool over = sweep.row.state == SweepState::kCompleted;
  if (trials == 0 && (over || e.open == sweep.row.open)) return Answer{};
  sweep.row.open = e.open;
  e.open ? void(open_sweeps_.insert(e.sweep)) : void(open_sweeps_.erase(e.sweep));
  dirty_sweeps_.insert(e.sweep);
  if (sweep.row.cursor < sweep.row.trials + trials) {
    Grow(sweep, trials);
  } else {
    EndIfDone(sweep, "all its trials have ended");
  }
  return Answer{};
}

void Core::Carry(Sweep& sweep, const AdviseSweep::Verdict& v) {
  const auto it = trials_.find(v.trial);
  if (it == trials_.end()) return;
  Trial& trial = it->second;
  if (IsTerminal(trial.row.state) || !trial.sweeps.contains(sweep.row.id)) return;
  if (v.stop) {
    trial.given_up.insert(sweep.row.id);
    StopIfGivenUp(trial, v.reason);
    return;
  }
  trial.given_up.erase(sweep.row.id);
  StageRow& row = At(trial.stages.front()).row;
  if (row.prefix_key.empty() && row.trunk_step != v.keep_step) {
    row.trunk_step = v.keep_step;
    dirty_stages_.insert(row.id);
  }
  Raise(At(trial.stages.front()), v.until_step, v.reason);
}

void Core::StopIfGivenUp(Trial& trial, absl::string_view reason) {
  if (trial.given_up.empty() || !std::includes(trial.given_up.begin(), trial.given_up.end(),
                                               trial.sweeps.begin(), trial.sweeps.end()))
    return;
  // The training, or, where it is done, all that would follow it: what is measured there may decide
  // too. Whoever comes from a stage that is stopped is cancelled by it.
  bool any = false;
  for (StageId id : trial.stages) {
    Stage& stage = At(id);
    if (IsTerminal(stage.row.state)) continue;
    if (!any) Note("stopped", &stage, {}, reason);
    any = true;
    if (stage.live) {
      EndAttempt(stage, Outcome::kCancelled, reason, "", "{}", {}, StageState::kStopped);
    } else {
      Move(stage, StageState::kStopped, reason);
    }
  }
}

void Core::Raise(Stage& stage, int64_t until, absl::string_view reason) {
  StageRow& row = stage.row;
  if (row.until_step < 0 || (until >= 0 && until <= row.until_step) || IsTerminal(row.state))
    return;
  if (until >= row.target_step) until = -1;
  Note("promoted", &stage, {},
       absl::StrCat("from step ", row.until_step, " to ",
                    until < 0 ? std::string("its end") : absl::StrCat("step ", until),
                    reason.empty() ? "" : ": ", reason));
  row.until_step = until;
  dirty_stages_.insert(row.id);
  Place(stage);
  PlaceOthers(stage);
  if (stage.live) {
    Wake(workers_.at(stage.live->worker));
    for (const Member& m : stage.live->members) Wake(workers_.at(m.worker));
  }
  if (row.state == StageState::kPaused)
    Move(stage, StageState::kPending, absl::StrCat("promoted: ", reason));
}

void Core::Tell(const Trial& trial) {
  if (open_sweeps_.empty()) return;
  for (SweepId id : trial.sweeps) sweeps_.at(id).news += open_sweeps_.contains(id);
}

}  // namespace plumb::core
