// Work that is shared by prefix: stages that have the same state up to some step compute it once.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/core/core.h"

namespace plumb::core {

std::set<std::string> PrefixKeysOf(const MaterializeSlice& slice) {
  std::set<std::string> out;
  const auto add = [&](const std::vector<StageRow>& stages) {
    for (const StageRow& s : stages) {
      if (!s.prefix_key.empty()) out.insert(s.prefix_key);
    }
  };
  for (const NewTrial& t : *slice.trials) add(t.stages);
  return out;
}

std::set<std::string> PrefixKeysOf(const RetryTrial& retry) {
  std::set<std::string> out;
  if (!retry.known) return out;
  for (const StageRow& s : retry.known->stages) {
    if (!s.prefix_key.empty()) out.insert(s.prefix_key);
  }
  return out;
}

void Core::KnowTrunks(const std::vector<TrunkRow>& rows) {
  for (const TrunkRow& row : rows) trunks_[row.prefix_key].checkpoints.try_emplace(row.step, row);
}

void Core::ForgetTrunks(const std::vector<TrunkRow>& rows) {
  for (const TrunkRow& row : rows) {
    const auto it = trunks_.find(row.prefix_key);
    if (it != trunks_.end() && it->second.stages.empty()) trunks_.erase(it);
  }
}

void Core::JoinTrunk(const Stage& stage) {
  if (!stage.row.prefix_key.empty())
    trunks_[stage.row.prefix_key].stages.insert({stage.row.trunk_step, stage.row.id});
}

void Core::LeaveTrunk(const Stage& stage) {
  const auto it = trunks_.find(stage.row.prefix_key);
  if (it == trunks_.end()) return;
  it->second.stages.erase({stage.row.trunk_step, stage.row.id});
  if (it->second.stages.empty()) trunks_.erase(it);
}

// One that pauses at a rung is judged by what it measures on its way there, so it goes that way.
bool Core::MayBranch(const StageRow& row) {
  return !row.prefix_key.empty() && row.state == StageState::kPending && row.checkpoint_step < 0 &&
         row.until_step < 0;
}

namespace {
// The furthest checkpoint that a stage may begin from: before its end, where it measures what is
// its own.
int64_t Furthest(const StageRow& row) { return std::min(row.trunk_step, row.target_step - 1); }
}  // namespace

const TrunkRow* Core::TrunkFor(const Stage& stage) const {
  if (!MayBranch(stage.row)) return nullptr;
  const auto trunk = trunks_.find(stage.row.prefix_key);
  if (trunk == trunks_.end()) return nullptr;
  const auto& checkpoints = trunk->second.checkpoints;
  const auto after = checkpoints.upper_bound(Furthest(stage.row));
  return after == checkpoints.begin() ? nullptr : &std::prev(after)->second;
}

const Core::Stage* Core::Awaited(const Stage& stage) const {
  if (!MayBranch(stage.row)) return nullptr;
  const auto trunk = trunks_.find(stage.row.prefix_key);
  if (trunk == trunks_.end()) return nullptr;
  const TrunkRow* const there = TrunkFor(stage);
  const auto& stages = trunk->second.stages;
  const int64_t furthest = Furthest(stage.row);
  auto it = furthest < stage.row.trunk_step ? stages.lower_bound({furthest + 1, StageId{}})
                                            : stages.lower_bound({furthest, stage.row.id});
  while (it != stages.begin()) {
    const auto& [step, id] = *--it;
    if (step <= (there != nullptr ? there->step : 0)) return nullptr;
    if (OnItsWay(At(id), stage)) return &At(id);
  }
  return nullptr;
}

bool Core::OnItsWay(const Stage& stage, const Stage& for_whom) const {
  const StageRow& row = stage.row;
  const bool pending = row.state == StageState::kPending;
  if ((!pending && row.state != StageState::kRunning) || row.checkpoint_step >= row.trunk_step ||
      row.ooms > 0 || (row.until_step >= 0 && row.until_step < row.trunk_step))
    return false;
  const Trial &trial = trials_.at(row.trial), &other = trials_.at(for_whom.row.trial);
  const Sponsor sponsor = SponsorOf(trial);
  if (sponsor.paused || !pending) return !sponsor.paused;
  const Sponsor whose = SponsorOf(other);
  return sponsor.priority >= whose.priority && sponsor.user == whose.user &&
         row.labels == for_whom.row.labels && trial.order_sweep <= other.order_sweep;
}

bool Core::Branch(Stage& stage) {
  const TrunkRow* const trunk = TrunkFor(stage);
  if (trunk == nullptr) return false;
  stage.row.checkpoint_step = stage.row.branch_step = trunk->step;
  stage.row.checkpoint_path = trunk->path;
  stage.row.checkpoint_digest = trunk->digest;
  stage.row.branch_stage = trunk->stage;
  dirty_stages_.insert(stage.row.id);
  Note("branched", &stage, {},
       absl::StrCat("it begins from the checkpoint of trial ", trunk->trial.value, " at step ",
                    trunk->step));
  return true;
}

void Core::NoteFork(const Stage& stage) {
  if (!stage.row.branch_stage) return;
  const auto source = stages_.find(stage.row.branch_stage);
  Note(
      "forked", &stage, {},
      absl::StrCat("it begins from the state of ",
                   source == stages_.end() ? absl::StrCat("stage ", stage.row.branch_stage.value)
                                           : absl::StrCat("trial ", source->second.row.trial.value),
                   " at step ", stage.row.branch_step));
}

void Core::KeepTrunk(Stage& stage, const CheckpointRow& c) {
  const StageRow& row = stage.row;
  // After want of memory it computes in smaller pieces: the last bits are others.
  if (row.prefix_key.empty() || c.step != row.trunk_step || row.ooms > 0) return;
  const TrunkRow trunk{.prefix_key = row.prefix_key,
                       .step = c.step,
                       .stage = row.id,
                       .trial = row.trial,
                       .path = c.path,
                       .digest = c.digest};
  trunks_[row.prefix_key].checkpoints[c.step] = trunk;
  effects_.changes.push_back(PutTrunk{trunk});
}

void Core::LoseTrunk(Stage& stage) {
  StageRow& row = stage.row;
  if (row.prefix_key.empty()) return;  // a fork begins from the same checkpoint again
  const auto trunk = trunks_.find(row.prefix_key);
  if (trunk != trunks_.end() && row.branch_stage && row.checkpoint_step == row.branch_step) {
    const auto it = trunk->second.checkpoints.find(row.branch_step);
    if (it != trunk->second.checkpoints.end() && it->second.digest == row.checkpoint_digest) {
      trunk->second.checkpoints.erase(it);
      effects_.changes.push_back(RemoveTrunk{row.prefix_key, row.branch_step});
    }
  }
  row.branch_stage = {};
  row.branch_step = 0;
}

bool Core::LeaveFamily(Stage& stage, absl::string_view why) {
  StageRow& row = stage.row;
  if (!row.branch_stage || row.checkpoint_step != row.branch_step) return false;
  Note("trunk_left", &stage, {},
       absl::StrCat("it gets nowhere from the checkpoint of another; it begins by itself: ", why));
  LeaveTrunk(stage);
  const std::string prefix = std::exchange(row.prefix_key, "");
  row.trunk_step = row.branch_step = row.failures = row.losses = 0;
  row.branch_stage = {};
  row.checkpoint_step = -1;
  row.checkpoint_path.clear();
  row.checkpoint_digest.clear();
  stage.failed_on.clear();
  const auto trunk = trunks_.find(prefix);
  if (trunk == trunks_.end()) return true;
  for (const auto& [step, id] : trunk->second.stages) {
    if (MayBranch(At(id).row)) Place(At(id));
  }
  return true;
}

void Core::PlaceOthers(const Stage& stage) {
  const auto trunk = trunks_.find(stage.row.prefix_key);
  if (trunk == trunks_.end()) return;
  for (const auto& [step, id] : trunk->second.stages) {
    Stage& other = At(id);
    if (id != stage.row.id && MayBranch(other.row)) Place(other);
  }
}

}  // namespace plumb::core
