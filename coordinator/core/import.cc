// Sweeps whose trials come from elsewhere, results and all.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/core/core.h"

namespace plumb::core {

absl::StatusOr<Answer> Core::On(const ImportTrials& e) {
  const auto it = sweeps_.find(e.sweep);
  if (it == sweeps_.end())
    return absl::NotFoundError(absl::StrCat("no sweep ", e.sweep.value, " to import into"));
  Sweep& sweep = it->second;
  if (!sweep.row.imported) {
    return absl::FailedPreconditionError(
        absl::StrCat("sweep ", e.sweep.value, " was planned here, not imported"));
  }
  if (sweep.row.state != SweepState::kMaterializing || sweep.row.cursor != e.from) return Answer{};
  if (sweep.row.cursor + std::ssize(*e.trials) > sweep.row.trials) {
    return absl::InvalidArgumentError(absl::StrCat("sweep ", e.sweep.value, " was announced with ",
                                                   sweep.row.trials, " trials, more come"));
  }
  for (const CellRow& cell : e.cells) {
    effects_.changes.push_back(InsertCell{cell});
    std::get<InsertCell>(effects_.changes.back()).row.sweep = e.sweep;
    if (cell.tuned_json == "{}") continue;
    effects_.changes.push_back(UpdateCell{.sweep = e.sweep,
                                          .idx = cell.idx,
                                          .flags_json = cell.flags_json,
                                          .tuned_json = cell.tuned_json});
  }
  for (const ImportTrials::Imported& imported : *e.trials) {
    const NewTrial& t = imported.trial;
    std::map<std::string, std::string> names;  // by what the sweep calls a stage
    const auto called = [&](size_t i) {
      return i < imported.called.size() ? imported.called[i] : t.stages[i].name;
    };
    SweepTrialRow link{.sweep = e.sweep,
                       .idx = sweep.row.cursor++,
                       .cell_idx = t.cell_idx,
                       .replicate = t.replicate,
                       .aa = t.aa,
                       .tune = t.tune};
    if (const auto known = by_key_.find(t.trial.key); known != by_key_.end()) {
      link.trial = known->second;
    } else if (const auto disk = e.known.find(t.trial.key); disk != e.known.end()) {
      link.trial = disk->second.trial.id;
      AddTrial(disk->second, e.sweep, link.idx);
    }
    if (link.trial) {
      link.shared = 1;
      // Stages that do the same, as they are called here; what is not here has no name.
      const Trial& here = trials_.at(link.trial);
      std::map<std::string, StageId> found;  // by the imported trial's own name
      for (size_t i = 0; i < t.stages.size(); ++i) {
        const auto above = found.find(t.parents[i]);
        const StageId parent = above == found.end() ? StageId{} : above->second;
        const bool lost = !t.parents[i].empty() && !parent;
        const auto same = std::find_if(here.stages.begin(), here.stages.end(), [&](StageId id) {
          const StageRow& row = At(id).row;
          return row.kind == t.stages[i].kind && row.settings_json == t.stages[i].settings_json &&
                 row.parent == parent && !lost;
        });
        if (same != here.stages.end()) found[t.stages[i].name] = *same;
        names[called(i)] = same == here.stages.end() ? "" : At(*same).row.name;
      }
    } else {
      TrialTree tree{.trial = t.trial, .stages = t.stages};
      tree.trial.id = link.trial = TrialId{++last_trial_.value};
      tree.trial.create_time_us = now_.wall_us;
      effects_.changes.push_back(InsertTrial{tree.trial});
      effects_.changes.push_back(
          InsertTrialOrigin{link.trial, imported.foreign, imported.origin_json});
      for (size_t i = 0; i < tree.stages.size(); ++i) {
        StageRow& stage = tree.stages[i];
        names[called(i)] = stage.name;
        stage.id = StageId{++last_stage_.value};
        stage.trial = link.trial;
        for (size_t p = 0; p < i; ++p) {
          if (tree.stages[p].name == t.parents[i]) stage.parent = tree.stages[p].id;
        }
        effects_.changes.push_back(InsertStage{stage});
        if (imported.results[i] != nullptr)
          effects_.changes.push_back(PutResults{stage.id, imported.results[i], now_.wall_us});
      }
      AddTrial(tree, e.sweep, link.idx);
    }
    link.stages_json = OtherNames(names);
    effects_.changes.push_back(InsertSweepTrial{link});
    Trial& trial = trials_.at(link.trial);
    if (IsTerminal(trial.row.state)) continue;
    trial.sweeps.insert(e.sweep);  // the same trial is computed here: it is waited for
    sweep.live.insert(link.trial);
    PlaceAll(trial);
  }
  dirty_sweeps_.insert(e.sweep);
  if (sweep.row.cursor < sweep.row.trials) return Answer{};
  sweep.row.state = SweepState::kRunning;
  EndIfDone(sweep, "all its trials are imported");
  return Answer{};
}

}  // namespace plumb::core
