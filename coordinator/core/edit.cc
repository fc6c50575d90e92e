// What a user changes of a sweep that is there: trials that it gains, cells that it loses, tags and
// notes.
#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "coordinator/core/core.h"

namespace plumb::core {

absl::StatusOr<Answer> Core::On(const ExtendSweep& e) {
  const auto it = sweeps_.find(e.sweep);
  if (it == sweeps_.end()) {
    return absl::NotFoundError(
        absl::StrCat("no sweep ", e.sweep.value, "; `plumb sweep list` shows them"));
  }
  Sweep& sweep = it->second;
  const std::string subject = absl::StrCat("sweep ", e.sweep.value);
  for (const AdditionRow& a : sweep.additions) {
    if (a.name != e.addition.name) continue;
    if (a.payload_json == e.addition.payload_json)
      return Extended{.trials = a.trials, .repeated = true};
    return absl::AlreadyExistsError(absl::StrCat("this request_id was used for another edit of ",
                                                 subject, "; make a new request_id"));
  }
  if (sweep.row.state == SweepState::kCancelled) {
    return absl::FailedPreconditionError(
        absl::StrCat(subject, " was cancelled; make a copy of it: plumb sweep fork ", e.sweep.value,
                     " --submit"));
  }
  if (sweep.row.imported) {
    return absl::FailedPreconditionError(
        absl::StrCat(subject, " was imported: its trials were not planned here"));
  }
  if (std::ssize(sweep.additions) != e.additions_before)
    return absl::AbortedError(absl::StrCat(subject, " has changed meanwhile; try again"));
  for (const ExtendSweep::Removed& cell : e.removed) {
    for (TrialId id : cell.trials) {
      const std::string begun = Begun(id);
      if (begun.empty()) continue;
      return absl::FailedPreconditionError(
          absl::StrCat("cell ", cell.name, " stays: its trial ", id.value, " ", begun,
                       "; only cells none of whose trials has begun are taken back"));
    }
  }

  AdditionRow row = e.addition;
  row.sweep = e.sweep;
  row.idx = std::ssize(sweep.additions);
  sweep.additions.push_back(row);
  effects_.changes.push_back(InsertAddition{row});
  NoteSweep(e.removed.empty() ? "sweep_extended" : "sweep_edited", e.sweep,
            absl::StrCat(e.what, e.user.empty() ? "" : "; by ", e.user));
  for (const ExtendSweep::Cell& cell : e.renamed)
    effects_.changes.push_back(RenameCell{e.sweep, cell.idx, cell.name, cell.axes_json});
  Extended out{.trials = row.trials};
  for (const ExtendSweep::Removed& cell : e.removed) {
    effects_.changes.push_back(FlagCell{e.sweep, cell.cell_idx, "removed"});
    const std::string why = absl::StrCat("cell ", cell.name, " was taken out of ", subject,
                                         e.user.empty() ? "" : " by ", e.user);
    for (TrialId id : cell.trials) {
      const auto trial = trials_.find(id);
      if (trial == trials_.end()) continue;
      if (trial->second.sweeps == std::set<SweepId>{e.sweep}) {
        out.cancelled_stages += CancelStages(trial->second, why);
        continue;
      }
      trial->second.sweeps.erase(e.sweep);
      trial->second.given_up.erase(e.sweep);
      sweep.live.erase(id);
      PlaceAll(trial->second);
    }
  }
  if (e.priority && *e.priority != sweep.row.priority) {
    NoteSweep("sweep_priority", e.sweep,
              absl::StrCat("from ", sweep.row.priority, " to ", *e.priority));
    sweep.row.priority = *e.priority;
    dirty_sweeps_.insert(e.sweep);
    for (TrialId id : sweep.live) PlaceAll(trials_.at(id));
  }
  if (row.trials > 0 || e.more) {
    sweep.row.open = e.open;
    e.open ? void(open_sweeps_.insert(e.sweep)) : void(open_sweeps_.erase(e.sweep));
    Grow(sweep, row.trials);
  } else {
    EndIfDone(sweep, "all its trials have ended");
  }
  return out;
}

void Core::Grow(Sweep& sweep, int64_t trials) {
  const bool over = sweep.row.state == SweepState::kCompleted;
  sweep.row.trials += trials;
  sweep.row.state = SweepState::kMaterializing;
  sweep.row.end_time_us = 0;
  materializing_.insert(sweep.row.id);
  dirty_sweeps_.insert(sweep.row.id);
  if (over) NoteSweep("sweep_reopened", sweep.row.id, "it is extended");
}

std::string Core::Begun(TrialId id) const {
  const auto it = trials_.find(id);
  if (it == trials_.end()) return "has ended";
  const Trial& trial = it->second;
  if (trial.sweeps.size() > 1) return "";  // it is only not waited for any more
  for (StageId stage : trial.stages) {
    const StageRow& row = At(stage).row;
    if (row.state != StageState::kPending || row.attempts > 0)
      return absl::StrCat("has begun (stage ", row.name, " is ", Name(row.state), ")");
  }
  return "";
}

absl::StatusOr<Answer> Core::On(const Annotate& e) {
  if (e.sweep && !sweeps_.contains(e.sweep)) {
    return absl::NotFoundError(
        absl::StrCat("no sweep ", e.sweep.value, "; `plumb sweep list` shows them"));
  }
  if (e.trial && !trials_.contains(e.trial) && !e.known) {
    return absl::NotFoundError(
        absl::StrCat("no trial ", e.trial.value, "; `plumb trial list` shows them"));
  }
  const std::string by = e.user.empty() ? "" : absl::StrCat("; by ", e.user);
  const auto note = [&](absl::string_view kind, absl::string_view detail) {
    effects_.changes.push_back(AppendEvent{{.time_us = now_.wall_us,
                                            .kind = std::string(kind),
                                            .sweep = e.sweep,
                                            .trial = e.trial,
                                            .detail = absl::StrCat(detail, by)}});
  };
  for (const bool remove : {false, true}) {
    for (const std::string& tag : remove ? e.remove : e.add) {
      effects_.changes.push_back(PutTag{.sweep = e.sweep,
                                        .trial = e.trial,
                                        .tag = tag,
                                        .remove = remove,
                                        .user = e.user,
                                        .time_us = now_.wall_us});
      note(remove ? "untagged" : "tagged", tag);
    }
  }
  if (e.note) {
    effects_.changes.push_back(PutNote{.sweep = e.sweep,
                                       .trial = e.trial,
                                       .text = *e.note,
                                       .user = e.user,
                                       .time_us = now_.wall_us});
    note("noted", *e.note);
  }
  return Answer{};
}

}  // namespace plumb::core
