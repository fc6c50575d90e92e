#include "sweeps/tuning.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "tests/sweeps/corpora.h"
#include "trainer/spec/parse.h"

namespace plumb::sweeps {
namespace {

constexpr char kTuned[] = R"(sweep: s
trial:
  model: {head_dim: 16}
  data: {corpus: docs, seq_len: 32}
  train: {tokens: 50k, batch_tokens: 1024}
axes: {model.d_model: [32, 64]}
tune:
  train.lr: {log: [1e-3, 1e-1], points: 3}
  seeds: 2
  extend: 2
  stop: {asha: {rungs: [10%, 30%], keep: 1/3, mode: promote}, divergence: {factor: 4}}
replicates: 3
aa: {model.d_model: 64}
timing: true
stages: {more: {evaluate: {splits: [test]}}}
)";

TunePlan Axis1(std::vector<std::string> values, int64_t extend = 0) {
  TunePlan plan;
  plan.axes = {{.field = "train.lr", .values = std::move(values), .ordered = true, .most = 1000}};
  plan.extend = extend;
  return plan;
}

std::vector<TuneResult> Results(const std::vector<std::pair<std::string, double>>& values) {
  std::vector<TuneResult> out;
  for (const auto& [value, loss] : values) {
    out.push_back({{value}, std::isnan(loss) ? std::nullopt : std::optional<double>(loss)});
  }
  return out;
}

const double kDiverged = std::nan("");

TEST(Cooldown, RungsBeforeItAreFlaggedWhereTheyAreNotCooled) {
  const auto flags = [](const std::string& train, const std::string& rungs) {
    const std::string yaml = absl::StrCat(
        "sweep: s\ntrial:\n  model: {d_model: 32, head_dim: 16}\n  data: {corpus: docs, seq_len: "
        "32}\n"
        "  train: {steps: 100, batch_tokens: 1024, ",
        train,
        "}\n"
        "tune: {train.lr: [1e-3, 1e-2], stop: {asha: {rungs: ",
        rungs, "}, cooled: false}}\n");
    return PlanOrDie(yaml).cells[0].flags;
  };
  using ::testing::Contains;
  using ::testing::Not;
  EXPECT_THAT(flags("schedule: wsd, decay_fraction: 20%", "[50%]"), Contains("uncooled_rungs"));
  EXPECT_THAT(flags("schedule: wsd, decay_fraction: 20%", "[80%]"),
              Not(Contains("uncooled_rungs")));
  EXPECT_THAT(flags("schedule: cosine", "[50%]"), Not(Contains("uncooled_rungs")));
}

TEST(Tune, ACellsValuesAreTriedOnSeedsThatNoReplicateHas) {
  const SweepPlan p = PlanOrDie(kTuned);
  ASSERT_EQ(p.cells.size(), 2u);
  EXPECT_EQ(p.cells[0].name, "d_model=32");  // the tuned field is no coordinate
  EXPECT_EQ(p.cells[0].axes_json, R"({"model.d_model": 32})");
  ASSERT_EQ(p.trials.size(), 2u * 3 * 2);
  const char* const rates[] = {"0.001", "0.01", "0.1"};
  std::set<std::string> keys;
  for (size_t i = 0; i < p.trials.size(); ++i) {
    const PlannedTrial& t = p.trials[i];
    EXPECT_EQ(t.role, TrialRole::kTune);
    EXPECT_EQ(t.cell, static_cast<int64_t>(i / 6));
    EXPECT_EQ(t.config.seed.data, 200000 + t.replicate);
    EXPECT_EQ(t.config.seed.init, 200000 + t.replicate);
    EXPECT_EQ(t.tune_values, std::vector<std::string>{rates[i / 2 % 3]});
    EXPECT_EQ(t.config.train.lr, std::stod(t.tune_values[0]));
    EXPECT_EQ(t.stages.size(), 1u);  // no stage after it, and no timing
    keys.insert(t.key);
  }
  EXPECT_EQ(keys.size(), 12u);
  ASSERT_TRUE(p.tune);
  EXPECT_EQ(p.tune->metric, "tune/bits_per_byte");
  EXPECT_EQ(p.tune->extend, 2);
  ASSERT_TRUE(p.tune->stop && p.tune->stop->asha && p.tune->stop->divergence);
  EXPECT_EQ(p.tune->stop->asha->rungs,
            (std::vector<Rational>{*Rational::Parse("1/10"), *Rational::Parse("3/10")}));
  EXPECT_EQ(p.tune->stop->asha->keep, *Rational::Parse("1/3"));
  EXPECT_EQ(p.tune->stop->asha->mode, RungMode::kPromote);
  EXPECT_EQ(p.tune->stop->divergence->factor, 4);
}

TEST(Tune, TheWinnersReplicatesAreThoseOfASweepWithoutTune) {
  const SweepPlan p = PlanOrDie(kTuned);
  std::string fixed = kTuned;
  fixed.replace(fixed.find("tune:"), fixed.find("replicates:") - fixed.find("tune:"), "");
  fixed.replace(fixed.find("batch_tokens: 1024"), 18, "batch_tokens: 1024, lr: 1e-2");
  const SweepPlan plain = PlanOrDie(fixed);
  std::vector<PlannedTrial> winners;
  for (int64_t cell : {0, 1}) {
    const auto trials = WinnerTrials(p, cell, {"0.01"});
    ASSERT_TRUE(trials.ok()) << trials.status();
    winners.insert(winners.end(), trials->begin(), trials->end());
  }
  ASSERT_EQ(winners.size(), plain.trials.size());
  std::stable_partition(winners.begin(), winners.end(), [](const auto& t) { return !t.aa; });
  for (size_t i = 0; i < winners.size(); ++i) {
    EXPECT_EQ(winners[i].key, plain.trials[i].key) << i;
    EXPECT_EQ(winners[i].fusion_key, plain.trials[i].fusion_key);
    EXPECT_EQ(winners[i].cell, plain.trials[i].cell);
    EXPECT_EQ(winners[i].replicate, plain.trials[i].replicate);
    EXPECT_EQ(winners[i].role, plain.trials[i].role);
    ASSERT_EQ(winners[i].stages.size(), plain.trials[i].stages.size());
    for (size_t s = 0; s < winners[i].stages.size(); ++s) {
      EXPECT_EQ(winners[i].stages[s].kind, plain.trials[i].stages[s].kind);
      EXPECT_EQ(winners[i].stages[s].priority, plain.trials[i].stages[s].priority);
      EXPECT_EQ(winners[i].stages[s].target_step, plain.trials[i].stages[s].target_step);
    }
  }
  EXPECT_FALSE(WinnerTrials(p, 0, {"-1"}).ok());
  EXPECT_FALSE(WinnerTrials(p, 0, {}).ok());
}

TEST(Tune, ATunedBatchChangesTheStepsOfATokenBudget) {
  const SweepPlan p = PlanOrDie(R"(sweep: s
trial: {model: {d_model: 32}, data: {corpus: docs, seq_len: 32}, train: {tokens: 64k}}
tune: {train.batch_tokens: [1024, 2048], train.lr: [1e-3, 1e-2]}
)");
  ASSERT_EQ(p.trials.size(), 4u);
  EXPECT_EQ(p.trials[0].config.train.steps, 63);
  EXPECT_EQ(p.trials[3].config.train.steps, 31);
  EXPECT_EQ(p.trials[1].tune_values, (std::vector<std::string>{"1024", "0.01"}));
  EXPECT_EQ((*WinnerTrials(p, 0, {"2048", "0.01"}))[0].config.train.steps, 31);
}

TEST(Tune, AValueThatMakesNoTrialRefusesTheCellWithItsReason) {
  const SweepPlan p = PlanOrDie(R"(sweep: s
trial: {model: {d_model: 32}, data: {corpus: docs}, train: {steps: 10}}
axes: {data.seq_len: [32, 48]}
tune: {train.batch_tokens: [96, 192, 1120]}
)");
  ASSERT_EQ(p.cells.size(), 1u);
  ASSERT_EQ(p.refused.size(), 1u);
  EXPECT_EQ(p.refused[0].name, "seq_len=48");
  EXPECT_EQ(p.refused[0].reason.find("tune: train.batch_tokens = 1120: train.batch_tokens"), 0u)
      << p.refused[0].reason;
}

TEST(ChooseWinner, TakesTheLeastMeanAndCountsADivergedRunAsInfinite) {
  const TunePlan plan = Axis1({"0.001", "0.01", "0.1"});
  const TuneDecision d = ChooseWinner(plan, Results({{"0.001", 3.0},
                                                     {"0.01", 2.5},
                                                     {"0.1", 1.0},
                                                     {"0.01", 2.7},
                                                     {"0.001", 3.2},
                                                     {"0.1", kDiverged}}));
  EXPECT_EQ(d.winner, std::vector<std::string>{"0.01"});
  EXPECT_DOUBLE_EQ(d.value, 2.6);
  EXPECT_EQ(d.edges, std::vector<Edge>{Edge::kInside});
  EXPECT_FALSE(d.at_edge());
  EXPECT_TRUE(d.extension.empty());
}

TEST(ChooseWinner, OfEqualValuesTakesTheSmallerRateWhateverTheOrder) {
  const TunePlan plan = Axis1({"0.1", "0.01", "0.001"});
  auto results = Results({{"0.1", 2.0}, {"0.01", 2.0}, {"0.001", 2.5}});
  for (int i = 0; i < 6; ++i) {
    std::rotate(results.begin(), results.begin() + 1, results.end());
    if (i == 2) std::reverse(results.begin(), results.end());
    EXPECT_EQ(ChooseWinner(plan, results).winner, std::vector<std::string>{"0.01"});
  }
}

TEST(ChooseWinner, FlagsTheEdgeAndContinuesTheGridByItsOwnRatio) {
  TunePlan plan = Axis1({"0.001", "0.002371", "0.005623", "0.01334", "0.03162"}, 2);
  auto results = Results(
      {{"0.001", 3}, {"0.002371", 2.8}, {"0.005623", 2.6}, {"0.01334", 2.5}, {"0.03162", 2.4}});
  TuneDecision d = ChooseWinner(plan, results);
  EXPECT_EQ(d.edges, std::vector<Edge>{Edge::kHigh});
  ASSERT_EQ(d.extension.size(), 1u);
  EXPECT_EQ(d.extension[0], std::vector<std::string>{"0.07498"});
  results.push_back({{"0.07498"}, 2.3});
  d = ChooseWinner(plan, results);
  ASSERT_EQ(d.extension.size(), 1u);
  EXPECT_EQ(d.extension[0], std::vector<std::string>{"0.1778"});
  results.push_back({{"0.1778"}, std::nullopt});  // the second and last
  d = ChooseWinner(plan, results);
  EXPECT_EQ(d.winner, std::vector<std::string>{"0.07498"});
  EXPECT_FALSE(d.at_edge());
  EXPECT_TRUE(d.extension.empty());
  results.back().value = 2.2;  // still falling, and nothing left to try
  d = ChooseWinner(plan, results);
  EXPECT_EQ(d.winner, std::vector<std::string>{"0.1778"});
  EXPECT_EQ(d.edges, std::vector<Edge>{Edge::kHigh});
  EXPECT_TRUE(d.extension.empty());
  EXPECT_EQ(TuneFlags(plan, d), std::vector<std::string>{"tune_edge:train.lr:high"});
}

TEST(ChooseWinner, SaysWhatItDecidedAndWhy) {
  TunePlan plan = Axis1({"0.001", "0.01"}, 1);
  plan.metric = "tune/bits_per_byte";
  TuneDecision d = ChooseWinner(plan, Results({{"0.001", 2.5}, {"0.01", 2.25}}));
  EXPECT_EQ(InWords(plan, d),
            "train.lr = 0.01 by the least mean tune/bits_per_byte, 2.25, of 2 values; the greatest "
            "train.lr tried; next: 0.1");
  d = ChooseWinner(plan, Results({{"0.001", kDiverged}, {"0.01", kDiverged}}));
  EXPECT_EQ(InWords(plan, d), "all of 2 values diverged or failed; next: 1e-04");
  EXPECT_EQ(TuneFlags(plan, d), std::vector<std::string>{"tune_failed"});
}

TEST(ChooseWinner, ContinuesALinearGridByItsStep) {
  TunePlan plan = Axis1({"0.1", "0.2", "0.3"}, 1);
  EXPECT_EQ(ChooseWinner(plan, Results({{"0.1", 3}, {"0.2", 2}, {"0.3", 1}})).extension[0][0],
            "0.4");
  // Downwards a step would reach 0: it is halved.
  EXPECT_EQ(ChooseWinner(plan, Results({{"0.1", 1}, {"0.2", 2}, {"0.3", 3}})).extension[0][0],
            "0.05");
}

TEST(ChooseWinner, StaysWithinTheField) {
  TunePlan plan = Axis1({"0.8", "0.9", "1"}, 3);
  plan.axes[0].most = 1;
  const TuneDecision d = ChooseWinner(plan, Results({{"0.8", 3}, {"0.9", 2}, {"1", 1}}));
  EXPECT_EQ(d.edges, std::vector<Edge>{Edge::kHigh});
  EXPECT_TRUE(d.extension.empty());
}

TEST(ChooseWinner, WhereAllDivergedThereIsNoneAndSmallerRatesAreTried) {
  TunePlan plan = Axis1({"0.01", "0.1"}, 1);
  const TuneDecision d = ChooseWinner(plan, Results({{"0.01", kDiverged}, {"0.1", kDiverged}}));
  EXPECT_TRUE(d.winner.empty());
  ASSERT_EQ(d.extension.size(), 1u);
  EXPECT_EQ(d.extension[0][0], "0.001");
  plan.extend = 0;
  EXPECT_TRUE(
      ChooseWinner(plan, Results({{"0.01", kDiverged}, {"0.1", kDiverged}})).winner.empty());
}

TEST(ChooseWinner, CategoriesHaveNoEdgesAndTiesGoToTheFirstWritten) {
  TunePlan plan;
  plan.axes = {{.field = "train.schedule", .values = {"\"wsd\"", "\"cosine\""}}};
  plan.extend = 3;
  const TuneDecision d = ChooseWinner(plan, Results({{"\"cosine\"", 2}, {"\"wsd\"", 2}}));
  EXPECT_EQ(d.winner[0], "\"wsd\"");
  EXPECT_FALSE(d.at_edge());
  EXPECT_TRUE(d.extension.empty());
}

TEST(ChooseWinner, OfTwoAxesEachHasItsEdgeBesideTheWinnersOther) {
  TunePlan plan;
  plan.axes = {
      {.field = "train.lr", .values = {"0.001", "0.01"}, .ordered = true, .most = 10},
      {.field = "train.beta2", .values = {"0.9", "0.95", "0.99"}, .ordered = true, .most = 1}};
  plan.extend = 1;
  std::vector<TuneResult> results;
  for (const char* lr : {"0.001", "0.01"}) {
    for (const char* beta : {"0.9", "0.95", "0.99"}) {
      results.push_back({{lr, beta}, std::stod(lr) * -10 + std::abs(std::stod(beta) - 0.95)});
    }
  }
  const TuneDecision d = ChooseWinner(plan, results);
  EXPECT_EQ(d.winner, (std::vector<std::string>{"0.01", "0.95"}));
  EXPECT_EQ(d.edges, (std::vector<Edge>{Edge::kHigh, Edge::kInside}));
  ASSERT_EQ(d.extension.size(), 1u);
  EXPECT_EQ(d.extension[0], (std::vector<std::string>{"0.1", "0.95"}));
}

TEST(Stop, ReadsTheObjectiveOnTheTuneSplitAndIsRefusedWhereThereIsNone) {
  const std::string trial =
      "sweep: s\ntrial: {data: {corpus: docs}, train: {steps: 1}}\naxes: {train.lr: [1e-3, "
      "1e-2]}\nstop: {median: {}, across: cells}\n";
  const SweepPlan plan = PlanOrDie(trial);
  EXPECT_EQ(StoppingBy(plan).metric, "tune/bits_per_byte");
  EXPECT_TRUE(NotYetServed(plan).ok());
  EXPECT_EQ(StoppingBy(PlanOrDie(trial + "objective: val/loss\n")).metric, "tune/loss");
  const absl::Status other = NotYetServed(PlanOrDie(trial + "objective: finetune/accuracy\n"));
  EXPECT_EQ(other.code(), absl::StatusCode::kUnimplemented);
  EXPECT_NE(other.message().find("finetune/accuracy is not of a split"), std::string::npos);
}

TEST(Stop, AcrossCellsMarksThemAsASearch) {
  const std::string trial =
      "sweep: s\ntrial: {data: {corpus: docs}, train: {steps: 1}}\naxes: {train.lr: [1e-3, "
      "1e-2]}\n";
  const auto has = [](const SweepPlan& plan) {
    const auto& flags = plan.cells.front().flags;
    return std::find(flags.begin(), flags.end(), "search") != flags.end();
  };
  EXPECT_TRUE(has(PlanOrDie(trial + "stop: {asha: {rungs: [50%]}, across: cells}\n")));
  EXPECT_FALSE(has(PlanOrDie(trial + "stop: {racing: {}}\n")));
}

TEST(Stop, SaysWhichRulesAndAmongWhichTrials) {
  const std::string trial =
      "sweep: s\ntrial: {data: {corpus: docs}, train: {steps: 1}}\naxes: {train.lr: [1e-3, "
      "1e-2]}\n";
  const SweepPlan p = PlanOrDie(
      trial +
      "stop: {hyperband: {from: 5%, keep: 1/4, brackets: 2, mode: stop}, racing: {alpha: 1%, "
      "min_replicates: 4}, across: cells}\n");
  ASSERT_TRUE(p.stop && p.stop->hyperband && p.stop->racing);
  EXPECT_EQ(p.stop->hyperband->from, *Rational::Parse("1/20"));
  EXPECT_EQ(p.stop->hyperband->keep, *Rational::Parse("1/4"));
  EXPECT_EQ(p.stop->hyperband->brackets, 2);
  EXPECT_EQ(p.stop->racing->alpha, 0.01);
  EXPECT_EQ(p.stop->racing->min_replicates, 4);
  EXPECT_TRUE(p.stop->across_cells);
  EXPECT_FALSE(PlanOrDie(trial + "stop: {racing: {}}\n").stop->across_cells);
}

TEST(Tuning, TheValueIsTheLastTheBestOrTheMeanOfTheLast) {
  const std::vector<double> curve = {5, 1, 3, 4};
  EXPECT_EQ(ValueAt("last", curve), 4);
  EXPECT_EQ(ValueAt("best", curve), 1);
  EXPECT_EQ(ValueAt("mean_last(2)", curve), 3.5);
  EXPECT_EQ(ValueAt("mean_last(9)", curve), 3.25);
  EXPECT_EQ(ValueAt("last", {}), std::nullopt);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(ValueAt("mean_last(2)", {nan, 1, 2}), 1.5);
  EXPECT_EQ(ValueAt("mean_last(3)", {nan, 1, 2}), std::nullopt);
  EXPECT_EQ(ValueAt("best", curve, /*maximize=*/true), 5);
  EXPECT_EQ(ValueAt("last", curve, /*maximize=*/true), 4);
}

TEST(ChooseWinner, WhereMoreIsBetterTheGreatestMeanWinsAndWhatFailedIsWorst) {
  TunePlan plan;
  plan.metric = "val/accuracy", plan.metric_stage = "glue", plan.maximize = true;
  plan.axes = {
      {.field = "train.lr", .values = {"0.1", "0.2", "0.3", "0.4"}, .ordered = true, .most = 1}};
  const TuneDecision d = ChooseWinner(plan, {{{"0.1"}, 0.25},
                                             {{"0.1"}, 0.5},
                                             {{"0.2"}, 0.75},
                                             {{"0.2"}, 0.5},
                                             {{"0.3"}, 1.0},
                                             {{"0.3"}, std::nullopt},
                                             {{"0.4"}, 0.625}});
  EXPECT_EQ(d.winner, std::vector<std::string>{"0.2"}) << "of equal means the smaller value";
  EXPECT_EQ(d.value, 0.625);
  EXPECT_EQ(InWords(plan, d),
            "train.lr = 0.2 by the greatest mean glue: val/accuracy, 0.625, of 4 values");
}

constexpr char kGlue[] =
    "sweep: s\ntrial: {data: {corpus: docs, seq_len: 32}, train: {steps: 10, batch_tokens: 1024, "
    "schedule: constant}}\n"
    "tune: {train.lr: [1e-3, 1e-2]}\nreplicates: 2\n"
    "stages:\n  base: {pretrain: {}}\n  far: {from: base, evaluate: {splits: [val]}}\n"
    "  cut: {from: base, external: {command: [cut]}}\n"
    "  score: {from: [base, cut], external: {command: [score]}}\n";

TEST(Tuning, ByALaterStageItsTrialsHaveTheWayToThatStage) {
  const SweepPlan p = PlanOrDie(
      std::string(kGlue) +
      "objective: {stage: \"score:cut\", metric: score/accuracy, at: best, goal: maximize}\n");
  EXPECT_EQ(p.tune->metric, "score/accuracy");
  EXPECT_EQ(p.tune->metric_stage, "score:cut");
  EXPECT_EQ(p.tune->metric_at, "best");
  EXPECT_TRUE(p.tune->maximize);
  std::vector<std::string> names;
  for (const PlannedStage& s : p.trials.front().stages) names.push_back(s.name);
  EXPECT_EQ(names, (std::vector<std::string>{"base", "cut", "score:cut"}));
  const auto winners = WinnerTrials(p, 0, {"0.01"});
  ASSERT_TRUE(winners.ok()) << winners.status();
  EXPECT_EQ(winners->front().stages.size(), 5u);
  // The training itself, by its name, is the training.
  const SweepPlan base =
      PlanOrDie(std::string(kGlue) + "objective: {stage: base, metric: val/loss}\n");
  EXPECT_EQ(base.objectives.front().stage, "");
  EXPECT_EQ(base.tune->metric, "tune/loss");
  EXPECT_EQ(base.trials.front().stages.size(), 1u);
}

TEST(Tuning, AnEvaluationIsReadOnTheTuneSplitWhereItScoresThat) {
  const std::string file =
      "sweep: s\ntrial: {data: {corpus: docs, seq_len: 32}, train: {steps: 10, batch_tokens: "
      "1024}}\n"
      "tune: {train.lr: [1e-3, 1e-2]}\n"
      "objective: {stage: score, metric: evaluate/test/loss}\n";
  EXPECT_EQ(PlanOrDie(file + "stages: {score: {evaluate: {splits: [tune, test]}}}\n").tune->metric,
            "evaluate/tune/loss");
}

}  // namespace
}  // namespace plumb::sweeps
