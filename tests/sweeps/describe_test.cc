#include "sweeps/describe.h"

#include <nlohmann/json.hpp>

#include "tests/sweeps/corpora.h"

namespace plumb::sweeps {
namespace {

constexpr char kSweep[] = R"(sweep: s
trial: {model: {head_dim: 8}, data: {corpus: small, seq_len: 32}, train: {steps: 20, batch_tokens: 1024}}
axes:
  model.n_layers: [1, 2]
  model.d_model: {solve: params_non_embedding, target: [25k, 1], multiple_of: 8, tolerance: 15%}
replicates: 2
aa: {n_layers: 1}
timing: true
)";

TEST(Describe, CountsWhatTheSweepCosts) {
  const SweepPlan plan = PlanOrDie(kSweep);
  const PlanSummary s = Summarize(plan, 1e9);
  ASSERT_EQ(s.cells.size(), 2u);
  EXPECT_EQ(s.trials, 6);
  EXPECT_EQ(s.aa_trials, 2);
  EXPECT_EQ(s.timings, 2);
  EXPECT_EQ(s.tokens.low, 20 * 1024);
  EXPECT_EQ(s.unique_tokens.high, 20000);  // the corpus has no more
  EXPECT_DOUBLE_EQ(s.epochs.high, 20480.0 / 20000);
  double flops = 0;
  for (const PlannedTrial& t : plan.trials)
    flops += 20 * 1024 * static_cast<double>(t.flops_per_token);
  EXPECT_DOUBLE_EQ(s.total_flops, flops);
  EXPECT_DOUBLE_EQ(s.device_seconds, flops / 1e9 + 2 * 1.3);  // and the timings
  EXPECT_EQ(s.flags.at("more_than_one_epoch"), 2);
  EXPECT_EQ(s.flags.at("test_overlap"), 2);
  EXPECT_EQ(s.refused.size(), 2u);
  EXPECT_EQ(s.residuals.size(), 2u);
}

TEST(Describe, TextAndJsonSayTheSame) {
  const PlanSummary s = Summarize(PlanOrDie(kSweep), 1e9);
  const auto j = nlohmann::json::parse(SummaryJson(s));
  EXPECT_EQ(j["trials"], 6);
  EXPECT_EQ(j["cells"].size(), 2u);
  EXPECT_EQ(j["refused"].size(), 2u);
  EXPECT_EQ(j["cells"][0]["params_total"], s.cells[0].params.total);
  const std::string text = SummaryText(s);
  EXPECT_NE(text.find("s: 2 cells, 6 trials (2 of them the A/A control), 2 timings"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("Refused (2)"), std::string::npos);
  EXPECT_NE(text.find("more_than_one_epoch: 2 cells"), std::string::npos);
  const std::string brief = SummaryText(s, 1);
  EXPECT_NE(brief.find("… and 1 more"), std::string::npos);
}

// Six budgets, each twice the last, a tenth of cooldown, twice: 2 * (28.8 + 0.1 * (1 + ... + 32))
// of the shortest, in place of 2 * 63.
TEST(Describe, CountsATrunkOnce) {
  const std::string file =
      "sweep: s\ntrial:\n  model: {head_dim: 8}\n  data: {corpus: docs, seq_len: 32}\n"
      "  train: {batch_tokens: 1024, schedule: wsd, decay_fraction: 0.1, warmup_steps: 5}\n"
      "axes: {train.steps: [20, 40, 80, 160, 320, 640]}\nreplicates: 2\n";
  const SweepPlan plan = PlanOrDie(file);
  Surroundings around{.flops_per_second = 1e9};
  around.machines = {{.name = "w", .device = "d", .slots = 4}};
  const PlanSummary s = Summarize(plan, around);
  EXPECT_EQ(s.trunks.trunks, 2);
  EXPECT_EQ(s.trunks.trials, 12);
  EXPECT_EQ(s.total_steps + s.trunks.steps, 2 * 63 * 20);
  EXPECT_EQ(s.total_steps, 2 * (28.8 + 6.3) * 20);
  const double per_step = 1024 * static_cast<double>(plan.trials.front().flops_per_token);
  EXPECT_DOUBLE_EQ(s.total_flops, s.total_steps * per_step);
  EXPECT_DOUBLE_EQ(s.total_flops + s.trunks.flops, 2 * 63 * 20 * per_step);
  EXPECT_DOUBLE_EQ(s.device_seconds, s.total_flops / 1e9);
  // With room for all at once a trunk takes what its longest trial does.
  EXPECT_DOUBLE_EQ(s.calendar_seconds, 640 * per_step / 1e9);
  const std::string text = SummaryText(s);
  EXPECT_NE(text.find("shared trunks"), std::string::npos) << text;
  EXPECT_NE(text.find("if no trunk were shared"), std::string::npos) << text;
  const auto j = nlohmann::json::parse(SummaryJson(s));
  EXPECT_EQ(j["without_sharing"]["steps"], 2 * 63 * 20);
  EXPECT_EQ(j["total_steps"], s.total_steps);

  for (const char* alone :
       {"objective: {metric: val/loss, at: best}\n", "stop: {median: {}, across: cells}\n"}) {
    const PlanSummary apart = Summarize(PlanOrDie(file + alone), 1e9);
    EXPECT_EQ(apart.trunks.trunks, 0) << alone;
    EXPECT_EQ(apart.total_steps, 2 * 63 * 20) << alone;
  }
  // Of a tuned sweep only what tunes: which values its replicates have is not known yet.
  const PlanSummary tuned = Summarize(PlanOrDie(file + "tune: {train.lr: [1e-3, 1e-2]}\n"), 1e9);
  EXPECT_EQ(tuned.trunks.trunks, 2);
  EXPECT_EQ(tuned.trunks.trials, 12);
}

// Constant rates are trunk to their end, and the last step is each trial's own: of 20, 40 and 40
// steps both longer ones begin at 20, and neither at the other's 40.
TEST(Describe, CountsTheLastStepOfEach) {
  const PlanSummary s = Summarize(
      PlanOrDie("sweep: s\ntrial:\n  model: {head_dim: 8}\n  data: {corpus: docs, seq_len: 32}\n"
                "  train: {batch_tokens: 1024, schedule: constant}\n"
                "axes: {[train.steps, eval.points]: [[20, 4], [40, 4], [40, 8]]}\n"),
      1e9);
  EXPECT_EQ(s.trunks.trials, 3);
  EXPECT_EQ(s.trunks.steps, 20 + 20);
  EXPECT_EQ(s.total_steps, 20 + 20 + 20);
}

TEST(Describe, SaysThatASearchGoesOnBeyondItsFirstCells) {
  const PlanSummary s = Summarize(
      PlanOrDie("sweep: s\ntrial:\n  data: {corpus: docs, seq_len: 32}\n"
                "  train: {steps: 20, batch_tokens: 1024}\naxes: {train.lr: {log: [1e-4, 1e-2]}}\n"
                "search: {tpe: {trials: 60, parallel: 4}}\n"),
      0);
  EXPECT_EQ(s.cells.size(), 10u);
  EXPECT_NE(SummaryText(s).find("tpe: 60 points, of which these 10 are drawn at random"),
            std::string::npos);
  EXPECT_EQ(nlohmann::json::parse(SummaryJson(s))["search"], s.search);
}

TEST(Describe, PredictsNoTimeWithoutAFigure) {
  const PlanSummary s = Summarize(PlanOrDie(kSweep), 0);
  EXPECT_EQ(s.device_seconds, 0);
  EXPECT_EQ(SummaryText(s).find("time on one device"), std::string::npos);
}

}  // namespace
}  // namespace plumb::sweeps
