// Sweeps and trials: how they come, are shared and cancelled.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/core/core.h"

namespace plumb::core {

absl::StatusOr<Answer> Core::On(const SubmitSweep& e) {
  if (const auto it = by_request_.find(e.sweep.request_id); it != by_request_.end()) {
    const SweepRow& before = sweeps_.at(it->second).row;
    if (before.request_hash != e.sweep.request_hash) {
      return absl::AlreadyExistsError(absl::StrCat(
          "request_id \"", e.sweep.request_id, "\" was used for sweep ", before.id.value,
          " with another file; make a new request_id for a new sweep"));
    }
    return Submitted{.sweep = before.id, .trials = before.trials, .repeated = true};
  }
  SweepRow row = e.sweep;
  row.id = SweepId{++last_sweep_.value};
  row.state = SweepState::kMaterializing;
  row.cursor = 0;
  row.create_time_us = now_.wall_us;
  effects_.changes.push_back(InsertSweep{row});
  if (row.imported) {
    NoteSweep("sweep_imported", row.id,
              absl::StrCat(row.trials, " trials, from ", row.origin_json,
                           row.user.empty() ? "" : "; by ", row.user));
  } else {
    NoteSweep("sweep_submitted", row.id, absl::StrCat(row.trials, " trials planned"));
    materializing_.insert(row.id);
  }
  row.sweep_yaml.clear();
  row.origin_json.clear();
  by_request_[row.request_id] = row.id;
  if (row.open) open_sweeps_.insert(row.id);
  sweeps_[row.id].row = row;
  return Submitted{.sweep = row.id, .trials = row.trials};
}

absl::StatusOr<Answer> Core::On(const MaterializeSlice& e) {
  const auto it = sweeps_.find(e.sweep);
  if (it == sweeps_.end()) return absl::NotFoundError(absl::StrCat("no sweep ", e.sweep.value));
  Sweep& sweep = it->second;
  if (sweep.row.state != SweepState::kMaterializing || sweep.row.cursor != e.from) return Answer{};
  for (const CellRow& cell : e.cells) {
    effects_.changes.push_back(InsertCell{cell});
    std::get<InsertCell>(effects_.changes.back()).row.sweep = e.sweep;
  }
  KnowTrunks(e.trunks);
  int64_t idx = e.from;
  for (const NewTrial& t : *e.trials) {
    SweepTrialRow link{.sweep = e.sweep,
                       .idx = idx++,
                       .cell_idx = t.cell_idx,
                       .replicate = t.replicate,
                       .aa = t.aa,
                       .tune = t.tune};
    TrialId id;
    if (const auto known = by_key_.find(t.trial.key); known != by_key_.end()) {
      id = known->second;
    } else if (const auto disk = e.known.find(t.trial.key); disk != e.known.end()) {
      id = disk->second.trial.id;
      AddTrial(disk->second, e.sweep, link.idx);
    }
    if (id) {
      link.shared = 1;
      Trial& trial = trials_.at(id);
      std::set<StageId> wanted;
      std::map<std::string, std::string> names;
      for (const auto& [name, stage] : GainStages(trial, t)) {
        wanted.insert(stage);
        names[name] = At(stage).row.name;
      }
      link.stages_json = OtherNames(names);
      const std::string why = absl::StrCat("sweep ", e.sweep.value, " asks for it again");
      Reopen(trial, why, NoResult(), &wanted);
      Raise(At(trial.stages.front()), t.stages.front().until_step, why);
    } else {
      TrialTree tree{.trial = t.trial, .stages = t.stages};
      tree.trial.id = id = TrialId{++last_trial_.value};
      tree.trial.state = StageState::kPending;
      tree.trial.create_time_us = now_.wall_us;
      effects_.changes.push_back(InsertTrial{tree.trial});
      for (size_t i = 0; i < tree.stages.size(); ++i) {
        StageRow& stage = tree.stages[i];
        stage.id = StageId{++last_stage_.value};
        stage.trial = id;
        stage.reason = "new";
        for (size_t p = 0; p < i; ++p) {
          if (tree.stages[p].name == t.parents[i]) stage.parent = tree.stages[p].id;
        }
        effects_.changes.push_back(InsertStage{stage});
      }
      AddTrial(tree, e.sweep, link.idx);
      NoteFork(At(tree.stages.front().id));
    }
    link.trial = id;
    effects_.changes.push_back(InsertSweepTrial{link});
    Trial& trial = trials_.at(id);
    if (!IsTerminal(trial.row.state)) {
      trial.sweeps.insert(e.sweep);
      sweep.live.insert(id);
      PlaceAll(trial);
    }
  }
  ForgetTrunks(e.trunks);
  sweep.row.cursor = idx;
  dirty_sweeps_.insert(e.sweep);
  if (sweep.row.cursor >= sweep.row.trials) {
    sweep.row.state = SweepState::kRunning;
    materializing_.erase(e.sweep);
    ++sweep.news;  // what is shared has ended already
    EndIfDone(sweep, "all its trials had been computed before");
  }
  return Answer{};
}

absl::StatusOr<Answer> Core::On(const AbandonSweep& e) {
  const auto it = sweeps_.find(e.sweep);
  if (it == sweeps_.end() ||
      (it->second.row.state != SweepState::kMaterializing && !it->second.row.open))
    return Answer{};
  NoteSweep("sweep_abandoned", e.sweep, e.reason);
  return On(CancelSweep{e.sweep});
}

absl::StatusOr<Answer> Core::On(const CancelSweep& e) {
  const auto it = sweeps_.find(e.sweep);
  if (it == sweeps_.end()) {
    return absl::NotFoundError(
        absl::StrCat("no sweep ", e.sweep.value, "; `plumb sweep list` shows them"));
  }
  Sweep& sweep = it->second;
  if (sweep.row.state != SweepState::kMaterializing && sweep.row.state != SweepState::kRunning)
    return Counted{};
  EndSweep(sweep, SweepState::kCancelled, "cancelled on request");
  int64_t stages = 0;
  for (TrialId id : std::exchange(sweep.live, {})) {
    Trial& trial = trials_.at(id);
    trial.sweeps.erase(e.sweep);
    trial.given_up.erase(e.sweep);
    const std::string why = absl::StrCat("sweep ", e.sweep.value, " was cancelled");
    if (trial.sweeps.empty()) {
      stages += CancelStages(trial, why);
    } else {
      PlaceAll(trial);
      StopIfGivenUp(trial, absl::StrCat(why, ", the others that asked for it have stopped it"));
    }
  }
  return Counted{stages};
}

absl::StatusOr<Answer> Core::On(const EditSweep& e) {
  const auto it = sweeps_.find(e.sweep);
  if (it == sweeps_.end()) {
    return absl::NotFoundError(
        absl::StrCat("no sweep ", e.sweep.value, "; `plumb sweep list` shows them"));
  }
  SweepRow& row = it->second.row;
  if (row.state != SweepState::kMaterializing && row.state != SweepState::kRunning) {
    return absl::FailedPreconditionError(
        absl::StrCat("sweep ", e.sweep.value, " has ended (", Name(row.state), ")"));
  }
  if (e.priority && (*e.priority < -1000 || *e.priority > 1000))
    return absl::InvalidArgumentError("priority: a number from -1000 to 1000, larger first");
  if (e.paused && *e.paused != row.paused) {
    row.paused = *e.paused;
    NoteSweep(row.paused ? "sweep_paused" : "sweep_resumed", row.id, "on request");
  }
  if (e.priority && *e.priority != row.priority) {
    NoteSweep("sweep_priority", row.id, absl::StrCat("from ", row.priority, " to ", *e.priority));
    row.priority = *e.priority;
  }
  dirty_sweeps_.insert(e.sweep);
  for (TrialId id : it->second.live) PlaceAll(trials_.at(id));
  return Answer{};
}

absl::StatusOr<Answer> Core::On(const CancelTrial& e) {
  const auto it = trials_.find(e.trial);
  if (it == trials_.end()) {
    if (!e.known)
      return absl::NotFoundError(
          absl::StrCat("no trial ", e.trial.value, "; `plumb trial list` shows them"));
    return Counted{};  // it had ended
  }
  return Counted{CancelStages(it->second, "cancelled on request")};
}

// Into memory; terminal ones stay until the next Evict.
void Core::AddTrial(const TrialTree& tree, SweepId order_sweep, int64_t order_idx) {
  Trial& trial = trials_[tree.trial.id];
  trial.row = tree.trial;
  trial.order_sweep = order_sweep;
  trial.order_idx = order_idx;
  by_key_[tree.trial.key] = tree.trial.id;
  for (const StageRow& row : tree.stages) {
    trial.stages.push_back(row.id);
    Stage& stage = stages_[row.id];
    stage.row = row;
    Number(stage);
    JoinTrunk(stage);
    if (row.parent) At(row.parent).children.push_back(row.id);
  }
  for (const StageRow& row : tree.stages) {
    Place(At(row.id));
    PlaceOthers(At(row.id));
  }
  if (IsTerminal(trial.row.state)) finished_.insert(trial.row.id);
}

void Core::EndIfDone(Sweep& sweep, absl::string_view why) {
  if (sweep.live.empty() && !sweep.row.open && sweep.row.state == SweepState::kRunning)
    EndSweep(sweep, SweepState::kCompleted, why);
}

void Core::EndSweep(Sweep& sweep, SweepState state, absl::string_view why) {
  sweep.row.open = false;
  open_sweeps_.erase(sweep.row.id);
  sweep.row.state = state;
  sweep.row.paused = false;
  sweep.row.end_time_us = now_.wall_us;
  materializing_.erase(sweep.row.id);
  dirty_sweeps_.insert(sweep.row.id);
  NoteSweep(absl::StrCat("sweep_", Name(state)), sweep.row.id, why);
}

int64_t Core::CancelStages(Trial& trial, absl::string_view reason) {
  int64_t n = 0;
  for (StageId id : trial.stages) n += IsTerminal(At(id).row.state) ? 0 : 1;
  for (StageId id : trial.stages) {
    Stage& stage = At(id);
    if (stage.live) EndAttempt(stage, Outcome::kCancelled, reason, "", "{}");
    if (!IsTerminal(stage.row.state)) Move(stage, StageState::kCancelled, reason);
  }
  if (n > 0) Note("cancelled", &At(trial.stages.front()), {}, reason);
  return n;
}

}  // namespace plumb::core
