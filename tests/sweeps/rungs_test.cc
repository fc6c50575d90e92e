#include "sweeps/rungs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sweeps/describe.h"
#include "sweeps/trials.h"
#include "sweeps/tuning.h"
#include "tests/sweeps/corpora.h"
#include "trainer/spec/cost.h"
#include "trainer/spec/parse.h"

namespace plumb::sweeps {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

std::string Yaml(const std::string& train, const std::string& rest) {
  return absl::StrCat(
      "sweep: s\ntrial:\n  model: {d_model: 32, head_dim: 16}\n  data: {corpus: docs, seq_len: "
      "32}\n"
      "  train: {batch_tokens: 1024, ",
      train, "}\n", rest);
}
constexpr char kWsd[] = "steps: 100, schedule: wsd, decay_fraction: 20%";
constexpr char kTune[] =
    "tune: {train.lr: [1e-3, 1e-2], stop: {asha: {rungs: [10%, 50%], keep: 1/2}}}\n";

TEST(Rungs, AreTheFirstWholeStepAtOrAfterTheFraction) {
  EXPECT_EQ(StepAt(*Rational::Parse("1/3"), 100), 34);
  EXPECT_EQ(StepAt(*Rational::Parse("30%"), 100), 30);
  const std::vector<Rational> f = {*Rational::Parse("1/9"), *Rational::Parse("1/8"),
                                   *Rational::Parse("95%")};
  EXPECT_THAT(RungSteps(f, 9), ElementsAre(1, 2));  // the last is all of it
  EXPECT_THAT(RungSteps(f, 3), ElementsAre(1));     // twice the same is once
  StopSpec s;
  EXPECT_TRUE(RungFractions(s).empty());
  s.hyperband = HyperbandRule{.from = *Rational::Parse("1/9"), .keep = *Rational::Parse("1/3")};
  EXPECT_EQ(RungFractions(s).size(), 2u);  // 1/9, 1/3; the next is the whole budget
}

// The very trial that a sweep of that budget would run: same key, so that it is computed once.
TEST(Rungs, ARunToARungIsTheTrialOfThatBudget) {
  const SweepPlan plan = PlanOrDie(Yaml(std::string(kWsd) + ", warmup_fraction: 4%", kTune));
  const SweepPlan shorter =
      PlanOrDie(Yaml("steps: 50, schedule: wsd, decay_fraction: 20%, warmup_steps: 4", kTune));
  const PlannedTrial& whole = plan.trials[1];
  ASSERT_TRUE(CoolsRungs(plan, whole));
  const PlannedTrial run = RungOf(whole, 1, 50);
  EXPECT_EQ(run.key, shorter.trials[1].key);
  EXPECT_EQ(run.flops, shorter.trials[1].flops);
  EXPECT_EQ(run.fusion_key, shorter.trials[1].fusion_key);
  EXPECT_EQ(run.stages.front().target_step, 50);
  EXPECT_EQ(run.rung_of, 1);
  EXPECT_EQ(run.whole_key, whole.key);
  EXPECT_EQ(run.role, TrialRole::kTune);
  EXPECT_EQ(run.tune_values, whole.tune_values);
  EXPECT_EQ(spec::TrunkSteps(run.config), 40);
  EXPECT_EQ(spec::PrefixKey(run.config), spec::PrefixKey(whole.config)) << "one trunk";
  EXPECT_TRUE(SharesTrunk(plan, run) && SharesTrunk(plan, whole));
  const PlannedTrial last = RungOf(whole, 1, 100);
  EXPECT_EQ(last.key, whole.key);
  EXPECT_FALSE(last.rung());
  EXPECT_EQ(last.rung_of, 1);
}

TEST(Rungs, AreCooledWhereACooldownIsToCome) {
  const auto cools = [](const std::string& train, const std::string& rest) {
    const SweepPlan plan = PlanOrDie(Yaml(train, rest));
    EXPECT_THAT(plan.cells[0].flags, Not(Contains("uncooled_rungs")));
    return CoolsRungs(plan, plan.trials[0]);
  };
  EXPECT_TRUE(cools(kWsd, kTune));
  EXPECT_FALSE(cools("steps: 100, schedule: cosine", kTune));
  EXPECT_FALSE(cools("steps: 100, schedule: wsd, decay_fraction: 95%", kTune));  // all within it
  EXPECT_FALSE(cools(kWsd, "tune: {train.lr: [1e-3, 1e-2]}\n"));
  EXPECT_TRUE(cools(kWsd,
                    "axes: {train.lr: [1e-3, 1e-2]}\n"
                    "stop: {hyperband: {from: 10%}, across: cells}\n"));
  EXPECT_FALSE(cools(kWsd, "axes: {train.lr: [1e-3, 1e-2]}\nreplicates: 3\nstop: {racing: {}}\n"));
}

TEST(Rungs, ThoseOfDifferentModelsAreComparedOnceTheyAreCooled) {
  const std::string rest =
      "axes: {model.d_model: [32, 64]}\nstop: {asha: {rungs: [30%]}, across: cells";
  EXPECT_TRUE(CoolsRungs(PlanOrDie(Yaml(kWsd, rest + "}\n")),
                         PlanOrDie(Yaml(kWsd, rest + "}\n")).trials[0]));
  EXPECT_THAT(Errors(Yaml(kWsd, rest + ", cooled: false}\n")), HasSubstr("not comparable"));
}

// What is looked at on its way must have been measured on its way.
TEST(Rungs, WithDivergenceEachRunMeasuresAllOfItsWay) {
  const SweepPlan plan = PlanOrDie(
      Yaml(kWsd, "tune: {train.lr: [1e-3, 1e-2], stop: {asha: {rungs: [10%]}, divergence: {}}}\n"));
  EXPECT_TRUE(CoolsRungs(plan, plan.trials[0]));
  EXPECT_FALSE(SharesTrunk(plan, plan.trials[0]));
}

TEST(Rungs, CostTheirCooldowns) {
  const SweepPlan plan = PlanOrDie(Yaml(kWsd, kTune));
  const PlannedTrial& t = plan.trials[0];
  // To 10 and 50: 2 + 10 steps of cooldown; without a trunk all of them.
  EXPECT_EQ(StepsOfRungs(*plan.tune->stop, t, true), 12);
  EXPECT_EQ(StepsOfRungs(*plan.tune->stop, t, false), 60);
  const PlanSummary s = Summarize(plan, 0);
  EXPECT_EQ(s.rung_runs, 4);
  EXPECT_DOUBLE_EQ(s.rung_flops, 2 * 0.12 * t.flops);
  EXPECT_DOUBLE_EQ(s.tune->flops, 2 * 1.12 * t.flops);
  EXPECT_DOUBLE_EQ(s.total_flops, (2 * 1.12 + 1) * t.flops);  // and the winner
  EXPECT_THAT(SummaryText(s, 5), HasSubstr("cooled rungs"));
}

TEST(Rungs, ThatCannotBeCooledAreRefused) {
  const auto wrong = [](const std::string& train, const std::string& rungs) {
    return Errors(
        Yaml(train, "tune: {train.lr: [1e-3, 1e-2], stop: {asha: {rungs: [" + rungs + "]}}}\n"));
  };
  EXPECT_THAT(wrong("steps: 100, schedule: wsd, decay_fraction: 10%", "4%"),
              HasSubstr("the run to the rung at step 4 has no step for a cooldown"));
  EXPECT_THAT(wrong("steps: 100, schedule: wsd, decay_fraction: 10%, warmup_steps: 20", "20%"),
              HasSubstr("would cool down from step 18, before its warm-up of 20 steps has ended"));
  EXPECT_THAT(Errors(Yaml("steps: 100, schedule: cosine",
                          "tune: {train.lr: [1e-3, 1e-2], stop: {asha: {rungs: [20%]}, cooled: "
                          "true}}\n")),
              HasSubstr("no trial has a rung before a cooldown to come"));
  EXPECT_THAT(
      Errors(Yaml(kWsd, "tune: {train.lr: [1e-3, 1e-2], stop: {median: {}, cooled: true}}\n")),
      HasSubstr("cooled is of rungs"));
  EXPECT_THAT(Errors(Yaml(kWsd,
                          "tune: {train.lr: [1e-3, 1e-2], stop: {asha: {rungs: [20%]}, cooled: "
                          "later}}\n")),
              HasSubstr("expected"));
}

}  // namespace
}  // namespace plumb::sweeps
