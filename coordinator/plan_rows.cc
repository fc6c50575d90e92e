#include "coordinator/plan_rows.h"

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "sweeps/trials.h"
#include "sweeps/tuning.h"
#include "trainer/spec/cost.h"
#include "trainer/spec/parse.h"
#include "trainer/spec/sha256.h"
#include "trainer/spec/stage_settings.h"

namespace plumb::coordinator {
namespace {

// The labels that its sweep asks for, one that its stage needs ("": none), and "cuda" for a trial
// on a GPU: every worker with one has that label (worker/devices.h).
std::string LabelsOf(const std::string& asked, const spec::TrialSpec& config,
                     const std::string& stage) {
  std::set<std::string> all = absl::StrSplit(asked, ',', absl::SkipEmpty());
  if (config.numerics.device == spec::DeviceKind::kCuda) all.insert("cuda");
  if (!stage.empty()) all.insert(stage);
  return absl::StrJoin(all, ",");
}

}  // namespace

core::NewTrial ToNewTrial(const sweeps::PlannedTrial& t, const std::string& request_id,
                          const std::string& labels, int64_t bundle) {
  const spec::ModelSpec& m = t.config.model;
  const spec::TrainSpec& train = t.config.train;
  core::NewTrial out{.cell_idx = t.cell,
                     .replicate = t.replicate,
                     .aa = t.aa ? 1 : 0,
                     .tune = t.role == sweeps::TrialRole::kTune || t.rung() ? 1 : 0};
  out.trial = {.key = t.aa    ? spec::Sha256Hex(t.key + "\naa " + request_id)
                      : t.own ? spec::Sha256Hex(t.key + "\nof " + request_id)
                              : t.key,
               .fusion_key = t.fusion_key,
               .config_json = spec::Canonical(t.config, spec::With::kExecution).dump(),
               .n_layers = m.n_layers,
               .d_model = m.d_model,
               .n_heads = m.n_heads,
               .n_kv_heads = m.n_kv_heads,
               .head_dim = m.head_dim,
               .d_ff = m.d_ff,
               .vocab_size = m.vocab_size,
               .norm = spec::Name(m.norm),
               .position = spec::Name(m.position),
               .mlp = spec::Name(m.mlp),
               .tied_head = m.tied_head ? 1 : 0,
               .corpus = t.config.data.corpus,
               .tokenizer = t.config.data.tokenizer,
               .seq_len = t.config.data.seq_len,
               .batch_tokens = train.batch_tokens,
               .steps = train.steps,
               .lr = train.lr,
               .seed_init = t.config.seed.init,
               .seed_data = t.config.seed.data,
               .params_total = t.params.total,
               .params_non_embedding = t.params.non_embedding,
               .params_embedding = t.params.embedding,
               .flops_per_token = t.flops_per_token,
               .tokens = spec::TotalTokens(t.config),
               .flops = t.flops};
  // What trains runs on all of the trial's ranks; what comes after is one process.
  const auto processes = [&](const std::string& kind) {
    const bool trains = kind == "pretrain" || kind == "timing";
    return trains ? std::max<int64_t>(1, train.ranks) : 1;
  };
  const auto fuses = [&](const std::string& kind) {
    return kind == "noop" || (kind == "pretrain" && train.ranks <= 1);
  };
  const int64_t threads = std::max<int64_t>(1, t.config.execution.threads);
  // The A/A control shares with nothing but its own trials of this sweep.
  std::string prefix = spec::PrefixKey(t.config);
  if (t.aa && !prefix.empty()) prefix = spec::Sha256Hex(prefix + "\naa " + request_id);
  for (const sweeps::PlannedStage& s : t.stages) {
    const bool shares = s.kind == "pretrain" && s.parent.empty() && !prefix.empty();
    const nlohmann::json settings = nlohmann::json::parse(s.settings_json);
    const bool external = s.kind == "external";
    out.stages.push_back(
        {.name = s.name,
         .kind = s.kind,
         .settings_json = s.settings_json,
         .priority = s.priority,
         .target_step = s.target_step,
         .threads = threads * processes(s.kind),
         // The prediction is of all of the training's processes.
         .memory_bytes = external ? settings.value("memory_mib", int64_t{0}) << 20
                                  : t.predicted_peak_bytes / std::max<int64_t>(1, train.ranks) *
                                        processes(s.kind),
         .labels = LabelsOf(labels, t.config, spec::WorkerLabel(s.kind, settings)),
         .bundle = fuses(s.kind) ? bundle : 1,
         .ranks = processes(s.kind),
         .prefix_key = shares ? prefix : "",
         .trunk_step = shares ? spec::TrunkSteps(t.config) : 0});
    out.parents.push_back(s.parent);
  }
  return out;
}

core::MaterializeSlice ToSlice(const sweeps::SweepPlan& plan,
                               const std::vector<sweeps::PlannedTrial>& added,
                               const Contest& contest, SweepId sweep, const std::string& request_id,
                               int64_t from, int64_t limit) {
  const auto planned = std::ssize(plan.trials);
  const auto n = planned + std::ssize(added);
  from = std::min(from, n);
  const int64_t end = std::min(n, from + limit);
  // The plan's trials come cell by cell, the A/A control last: cells used before `i` are those up
  // to the last trial's.
  const auto cells_used = [&](int64_t i) {
    int64_t of_plan = std::min(i, planned);
    while (of_plan > 0 && plan.trials[of_plan - 1].aa) --of_plan;
    int64_t cells = of_plan == 0 ? 0 : plan.trials[of_plan - 1].cell + 1;
    // What is added is of cells that are there, or, by an edit, of new ones in their order.
    for (int64_t a = 0; a < i - planned; ++a) cells = std::max(cells, added[a].cell + 1);
    return cells;
  };
  const int64_t cells_before = cells_used(from), cells_after = cells_used(end);
  core::MaterializeSlice out{.sweep = sweep, .from = from};
  for (int64_t i = cells_before; i < cells_after; ++i) {
    const sweeps::PlannedCell& cell = plan.cells[i];
    out.cells.push_back({.sweep = sweep,
                         .idx = i,
                         .name = cell.name,
                         .axes_json = cell.axes_json.empty() ? "{}" : cell.axes_json,
                         .flags_json = nlohmann::json(cell.flags).dump()});
  }
  auto trials = std::make_shared<std::vector<core::NewTrial>>();
  const std::string labels = absl::StrJoin(plan.labels, ",");
  for (int64_t i = from; i < end; ++i) {
    const sweeps::PlannedTrial& trial =
        contest.RunAt(i, i < planned ? plan.trials[i] : added[i - planned]);
    trials->push_back(ToNewTrial(trial, request_id, labels, plan.bundle));
    StageRow& root = trials->back().stages.front();
    root.until_step = trial.own ? trial.until_step : contest.UntilOf(i);
    root.branch_stage = StageId{trial.branch_stage};
    root.branch_step = trial.branch_step;
    if (!sweeps::SharesTrunk(plan, trial)) root.prefix_key.clear(), root.trunk_step = 0;
  }
  out.trials = std::move(trials);
  return out;
}

}  // namespace plumb::coordinator
