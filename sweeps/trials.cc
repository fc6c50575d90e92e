#include "sweeps/trials.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "sweeps/rungs.h"
#include "sweeps/tuning.h"
#include "trainer/spec/parse.h"
#include "trainer/spec/sha256.h"

namespace plumb::sweeps {
namespace {

constexpr int64_t kTimingPriority = 1000000;  // after every pretraining
constexpr double kTimingSeconds = 1;

// An external stage is told its last step; `first`: whose is the trial's budget.
void SetSteps(PlannedStage* stage, bool first, int64_t budget) {
  nlohmann::json settings = nlohmann::json::parse(stage->settings_json);
  if (!settings.contains("steps")) settings["steps"] = first ? budget : 1;
  stage->target_step = settings["steps"];
  stage->settings_json = settings.dump();
}

// What makes one external stage another than the next: a script by its bytes, wherever it lies.
std::string Identity(const PlannedStage& external) {
  nlohmann::json settings = nlohmann::json::parse(external.settings_json);
  if (settings.contains("script")) settings["script"] = settings["script"]["sha256"];
  for (const char* execution : {"timeout_seconds", "grace_seconds", "memory_mib"})
    settings.erase(execution);
  return settings.dump();
}

// Whether only the ends of its runs are looked at.
bool ShareRungs(const SweepPlan& plan, const PlannedTrial& trial) {
  return CoolsRungs(plan, trial) && !StopOf(plan, trial)->divergence;
}

}  // namespace

PlannedTrial TrialOf(int64_t cell, const spec::TrialSpec& s, std::vector<PlannedStage> stages) {
  const bool noop = stages.front().kind == "noop", trains = stages.front().kind == "pretrain";
  PlannedTrial t;
  t.cell = cell;
  t.config = s;
  t.fusion_key = spec::FusionKey(s);  // seeds differ from row to row
  t.stages = std::move(stages);
  t.stages.front().target_step = noop ? 1 : s.train.steps;
  for (PlannedStage& stage : t.stages) {
    if (stage.kind == "external") SetSteps(&stage, &stage == &t.stages.front(), s.train.steps);
  }
  t.params = spec::CountParameters(s.model);
  t.flops_per_token = spec::TrainingFlopsPerToken(s.model, s.data.seq_len);
  t.flops = trains ? spec::TotalTrainingFlops(s) : 0;  // of a program of others: unknown
  t.predicted_peak_bytes = trains ? spec::PredictedPeakBytes(s, 1) : 0;
  return t;
}

PlannedTrial WithSeeds(PlannedTrial t, int64_t replicate, int64_t seed,
                       const std::string& sweep_name) {
  t.replicate = replicate;
  t.config.seed.init += seed;
  t.config.seed.data += seed;
  t.key = spec::Key(t.config);
  // A trial that trains nothing must never be taken for one that does, nor for a no-op of another
  // length.
  if (t.stages.front().kind == "noop")
    t.key = spec::Sha256Hex(
        absl::StrCat("noop ", sweep_name, " ", t.stages.front().settings_json, " ", t.key));
  if (t.stages.front().kind == "external")
    t.key = spec::Sha256Hex(absl::StrCat("external ", Identity(t.stages.front()), " ", t.key));
  // The whole map once before any part of it twice; what follows a training, right after it.
  for (PlannedStage& stage : t.stages) stage.priority = replicate;
  return t;
}

std::vector<PlannedStage> StagesOf(const SweepFile& file) {
  std::vector<PlannedStage> out = {
      {.name = file.stage_name, .kind = file.stage_kind, .settings_json = file.stage_settings}};
  for (const ChildStage& child : file.children) {
    out.push_back({.name = child.name,
                   .kind = child.kind,
                   .parent = child.parent,
                   .settings_json = child.settings_json,
                   .target_step = 1});
  }
  return out;
}

std::vector<PlannedTrial> ReplicatesOf(const SweepFile& file, int64_t cell,
                                       const spec::TrialSpec& resolved) {
  std::vector<PlannedTrial> out;
  const PlannedTrial first = TrialOf(cell, resolved, StagesOf(file));
  for (int64_t r = 0; r < file.replicates; ++r) {
    out.push_back(WithSeeds(first, r, r, file.name));
    if (r == 0 && file.timing) AddTiming(&out.back());
  }
  return out;
}

bool SharesTrunk(const SweepPlan& plan, const PlannedTrial& trial) {
  if (trial.own || trial.stages.front().kind != "pretrain" || spec::PrefixKey(trial.config).empty())
    return false;
  if (trial.role == TrialRole::kTune && plan.tune != nullptr) {
    const TunePlan& tune = *plan.tune;
    return (!tune.stop || ShareRungs(plan, trial)) &&
           (tune.metric_at == "last" || !tune.metric_stage.empty());
  }
  if (trial.role == TrialRole::kMain && plan.stop && !ShareRungs(plan, trial)) return false;
  return std::all_of(plan.objectives.begin(), plan.objectives.end(),
                     [](const PlannedObjective& o) { return o.at == "last" || !o.stage.empty(); });
}

void AddTiming(PlannedTrial* trial) {
  trial->stages.push_back({.name = "timing",
                           .kind = "timing",
                           .parent = trial->stages.front().name,
                           .settings_json = nlohmann::json{{"seconds", kTimingSeconds}}.dump(),
                           .target_step = 1,
                           .priority = kTimingPriority});
}

}  // namespace plumb::sweeps
