// Stages of trials that are there: which they gain, and which get a new budget.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "coordinator/core/core.h"
#include "domain/status_macros.h"

namespace plumb::core {
namespace {

absl::Status NoTrial(TrialId trial) {
  return absl::NotFoundError(
      absl::StrCat("no trial ", trial.value, "; `plumb trial list` shows them"));
}

// Both are sorted, with commas between.
std::string JoinLabels(const std::string& a, const std::string& b) {
  std::set<std::string> all;
  for (const std::string& labels : {a, b}) {
    for (size_t at = 0; at < labels.size();) {
      const size_t end = std::min(labels.find(',', at), labels.size());
      all.insert(labels.substr(at, end - at));
      at = end + 1;
    }
  }
  return absl::StrJoin(all, ",");
}

}  // namespace

const std::set<StageState>& Core::NoResult() {
  static const std::set<StageState> kNoResult = {StageState::kFailed, StageState::kCancelled,
                                                 StageState::kStopped};
  return kNoResult;
}

absl::StatusOr<Answer> Core::On(const RetryTrial& e) {
  Trial* trial = Recall(e.trial, e.known, e.links, e.trunks);
  if (trial == nullptr) return NoTrial(e.trial);
  const std::string why = absl::StrCat("retried on request", e.user.empty() ? "" : " of ", e.user);
  std::set<StageState> from(e.from.begin(), e.from.end());
  if (from.empty()) from = NoResult();
  int64_t stages = 0;
  if (e.stage.empty()) {
    stages = Reopen(*trial, why, from, nullptr);
  } else {
    ASSIGN_OR_RETURN(const std::set<StageId> among, ToRetry(*trial, e.stage));
    stages = Reopen(*trial, why, from, &among);
  }
  if (stages > 0) Revive(*trial, e.links, "is retried");
  return Counted{stages};
}

absl::StatusOr<Answer> Core::On(const AddStage& e) {
  Trial* trial = Recall(e.trial, e.known, e.links, {});
  if (trial == nullptr) return NoTrial(e.trial);
  const Stage& first = At(trial->stages.front());
  const Stage* parent = &first;
  if (!e.parent.empty()) {
    const auto it = std::find_if(trial->stages.begin(), trial->stages.end(),
                                 [&](StageId id) { return At(id).row.name == e.parent; });
    if (it == trial->stages.end())
      return absl::FailedPreconditionError(absl::StrCat("it has no stage ", e.parent));
    parent = &At(*it);
  }
  if (IsTerminal(parent->row.state) && parent->row.state != StageState::kSucceeded) {
    return absl::FailedPreconditionError(
        absl::StrCat("its stage ", parent->row.name, " ended as ", Name(parent->row.state)));
  }
  const int64_t ranks = std::max<int64_t>(1, first.row.ranks);
  StageRow row{.name = e.stage.name,
               .kind = e.stage.kind,
               .parent = parent->row.id,
               .settings_json = e.stage.settings_json,
               .priority = first.row.priority,
               .target_step = e.stage.target_step,
               .threads = std::max<int64_t>(1, first.row.threads / ranks),
               .memory_bytes =
                   e.stage.memory_bytes > 0 ? e.stage.memory_bytes : first.row.memory_bytes / ranks,
               .labels = JoinLabels(first.row.labels, e.stage.labels)};
  const StageId before = last_stage_;
  const StageId id = GainStage(*trial, row);
  StageAdded added{.name = At(id).row.name, .is_new = id > before};
  const std::set<StageId> among = {id};
  added.retried = !added.is_new && Reopen(*trial, "asked for again", NoResult(), &among) > 0;
  if (added.is_new || added.retried) Revive(*trial, e.links, "gains a stage");
  return added;
}

Core::Trial* Core::Recall(TrialId id, const std::optional<TrialTree>& known,
                          const std::vector<SweepTrialRow>& links,
                          const std::vector<TrunkRow>& trunks) {
  if (const auto it = trials_.find(id); it != trials_.end()) return &it->second;
  if (!known) return nullptr;
  KnowTrunks(trunks);
  AddTrial(*known, links.empty() ? SweepId{} : links.front().sweep,
           links.empty() ? 0 : links.front().idx);
  ForgetTrunks(trunks);
  return &trials_.at(id);
}

void Core::Revive(Trial& trial, const std::vector<SweepTrialRow>& links, absl::string_view why) {
  for (const SweepTrialRow& link : links) {
    if (!sweeps_.contains(link.sweep)) continue;  // removed since it was looked up
    Sweep& sweep = sweeps_.at(link.sweep);
    if (sweep.row.state == SweepState::kCompleted) {
      sweep.row.state = SweepState::kRunning;
      sweep.row.end_time_us = 0;
      dirty_sweeps_.insert(link.sweep);
      NoteSweep("sweep_reopened", link.sweep, absl::StrCat("trial ", trial.row.id.value, " ", why));
    }
    if (sweep.row.state == SweepState::kRunning || sweep.row.state == SweepState::kMaterializing) {
      sweep.live.insert(trial.row.id);
      trial.sweeps.insert(link.sweep);
    }
  }
  PlaceAll(trial);
}

absl::StatusOr<std::set<StageId>> Core::ToRetry(const Trial& trial, const std::string& name) const {
  std::vector<std::string> names;
  const Stage* stage = nullptr;
  for (StageId id : trial.stages) {
    names.push_back(At(id).row.name);
    if (names.back() == name) stage = &At(id);
  }
  const auto says = [&](absl::string_view what) {
    return absl::FailedPreconditionError(
        absl::StrCat("stage ", name, " of trial ", trial.row.id.value, " ", what));
  };
  if (stage == nullptr) {
    return absl::NotFoundError(absl::StrCat("trial ", trial.row.id.value, " has no stage ", name,
                                            "; it has ", absl::StrJoin(names, ", ")));
  }
  const StageState state = stage->row.state;
  if (!IsTerminal(state))
    return says(absl::StrCat("has not ended (", Name(state), "): there is nothing to retry"));
  if (state != StageState::kFailed && state != StageState::kCancelled &&
      state != StageState::kStopped)
    return says(absl::StrCat("ended as ", Name(state), ", which is a result: not retried"));
  if (stage->row.parent && IsTerminal(At(stage->row.parent).row.state) &&
      !ParentSucceeded(*stage)) {
    const StageRow& parent = At(stage->row.parent).row;
    return says(absl::StrCat("needs ", parent.name, ", which ended as ", Name(parent.state),
                             "; retry that one"));
  }
  std::set<StageId> out = {stage->row.id};
  for (StageId id : trial.stages) {  // parents come before children
    const StageRow& row = At(id).row;
    if (out.contains(row.parent) && row.state == StageState::kCancelled) out.insert(id);
  }
  return out;
}

std::string Core::OtherNames(const std::map<std::string, std::string>& names) {
  std::string out;  // names need no escapes
  for (const auto& [wanted, name] : names) {
    if (wanted != name)
      absl::StrAppend(&out, out.empty() ? "" : ",", "\"", wanted, "\":\"", name, "\"");
  }
  return absl::StrCat("{", out, "}");
}

std::map<std::string, StageId> Core::GainStages(Trial& trial, const NewTrial& wanted) {
  std::map<std::string, StageId> out;  // by the name that is wanted
  std::set<StageId> taken;
  const std::vector<StageId> before = trial.stages;
  for (size_t i = 0; i < wanted.stages.size(); ++i) {
    StageRow row = wanted.stages[i];
    if (!wanted.parents[i].empty()) row.parent = out[wanted.parents[i]];
    const auto does_it = [&](StageId id) {
      const StageRow& there = At(id).row;
      return there.kind == row.kind && there.parent == row.parent &&
             there.settings_json == row.settings_json && !taken.contains(id);
    };
    // One of another name that does the same is that stage.
    const auto named = std::find_if(before.begin(), before.end(), [&](StageId id) {
      return At(id).row.name == row.name && does_it(id);
    });
    const auto same =
        named != before.end() ? named : std::find_if(before.begin(), before.end(), does_it);
    const StageId found = same != before.end() ? *same : GainStage(trial, row);
    taken.insert(found);
    out[row.name] = found;
  }
  return out;
}

StageId Core::GainStage(Trial& trial, const StageRow& wanted) {
  StageRow row = wanted;
  for (int suffix = 1;; ++suffix) {
    row.name = suffix == 1 ? wanted.name : absl::StrCat(wanted.name, "-", suffix);
    const auto same_name = std::find_if(trial.stages.begin(), trial.stages.end(),
                                        [&](StageId id) { return At(id).row.name == row.name; });
    if (same_name == trial.stages.end()) break;
    const StageRow& there = At(*same_name).row;
    if (there.kind == row.kind && there.parent == row.parent &&
        there.settings_json == row.settings_json)
      return there.id;
  }
  row.id = StageId{++last_stage_.value};
  row.trial = trial.row.id;
  row.reason = "new";
  effects_.changes.push_back(InsertStage{row});
  Stage& stage = stages_[row.id];
  stage.row = row;
  Number(stage);
  JoinTrunk(stage);
  trial.stages.push_back(row.id);
  if (row.parent) {
    Stage& parent = At(row.parent);
    parent.children.push_back(row.id);
    // As Move does; a parent that Reopen is about to give a new budget brings it back with it.
    if (IsTerminal(parent.row.state) && parent.row.state != StageState::kSucceeded)
      Move(
          stage, StageState::kCancelled,
          absl::StrCat("its parent stage ", parent.row.name, " ended as ", Name(parent.row.state)));
  }
  Place(stage);
  PlaceOthers(stage);
  Note("stage_added", &stage, {},
       row.name == wanted.name
           ? std::string("the trial was there, without it")
           : absl::StrCat("as ", row.name, ": ", wanted.name, " does something else"));
  Settle(trial);
  return row.id;
}

int64_t Core::Reopen(Trial& trial, absl::string_view reason, const std::set<StageState>& from,
                     const std::set<StageId>* among) {
  int64_t n = 0;
  for (StageId id : trial.stages) {
    if (among != nullptr && !among->contains(id)) continue;
    Stage& stage = At(id);
    if (!from.contains(stage.row.state)) continue;
    // What its parent's result refuses stays refused.
    if (stage.row.parent && IsTerminal(At(stage.row.parent).row.state) && !ParentSucceeded(stage))
      continue;
    stage.row.failures = stage.row.losses = stage.row.ooms = 0;
    stage.failed_on.clear();
    stage.row.not_before_ct = absl::ZeroDuration();
    stage.row.state = StageState::kPending;
    stage.row.reason = std::string(reason);
    dirty_stages_.insert(id);
    Place(stage);
    PlaceOthers(stage);
    Note("retried", &stage, {}, reason);
    ++n;
  }
  if (n > 0) Settle(trial);
  return n;
}

}  // namespace plumb::core
