// Learning rates and points, which are pure functions of the config.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "tests/spec/specs.h"
#include "trainer/measure_plan.h"
#include "trainer/schedule.h"

namespace plumb::trainer {
namespace {

spec::TrainSpec Of(spec::ScheduleKind kind) {
  return {.steps = 100,
          .lr = 0.5,
          .schedule = kind,
          .warmup_steps = 10,
          .final_lr_fraction = 0.2,
          .decay_fraction = 0.25};
}

TEST(Schedule, WarmsUpLinearlyToTheFullRate) {
  for (auto kind :
       {spec::ScheduleKind::kConstant, spec::ScheduleKind::kCosine, spec::ScheduleKind::kWsd}) {
    EXPECT_DOUBLE_EQ(LearningRate(Of(kind), 1), 0.05);
    EXPECT_DOUBLE_EQ(LearningRate(Of(kind), 5), 0.25);
    EXPECT_DOUBLE_EQ(LearningRate(Of(kind), 10), 0.5);
  }
}

TEST(Schedule, ConstantStaysToTheEnd) {
  for (int64_t s : {11, 50, 100})
    EXPECT_DOUBLE_EQ(LearningRate(Of(spec::ScheduleKind::kConstant), s), 0.5);
}

TEST(Schedule, CosineIsHalfwayDownInTheMiddleAndAtItsFractionAtTheEnd) {
  spec::TrainSpec t = Of(spec::ScheduleKind::kCosine);
  EXPECT_NEAR(LearningRate(t, 55), 0.5 * (0.2 + 0.8 / 2), 1e-15);
  EXPECT_NEAR(LearningRate(t, 40), 0.5 * (0.2 + 0.8 * 0.75), 1e-15);  // a third: cos 60° = 1/2
  EXPECT_NEAR(LearningRate(t, 100), 0.1, 1e-15);
}

TEST(Schedule, WsdHoldsThenFallsLinearlyOverItsLastSteps) {
  spec::TrainSpec t = Of(spec::ScheduleKind::kWsd);
  EXPECT_DOUBLE_EQ(LearningRate(t, 75), 0.5);
  EXPECT_NEAR(LearningRate(t, 80), 0.5 * (1 - 0.8 * 5 / 25), 1e-15);
  EXPECT_NEAR(LearningRate(t, 100), 0.1, 1e-15);
  t.decay_fraction = 0;
  EXPECT_DOUBLE_EQ(LearningRate(t, 100), 0.5);
}

TEST(Schedule, WithoutWarmUpStartsAtTheFullRateAndNeverLeavesItsRange) {
  for (auto kind :
       {spec::ScheduleKind::kConstant, spec::ScheduleKind::kCosine, spec::ScheduleKind::kWsd}) {
    spec::TrainSpec t = Of(kind);
    for (int64_t warmup : {0, 1, 100}) {
      t.warmup_steps = warmup;
      for (int64_t s = 1; s <= 100; ++s) {
        double rate = LearningRate(t, s);
        ASSERT_TRUE(rate > 0 && rate <= 0.5) << Name(kind) << " step " << s << ": " << rate;
      }
    }
  }
}

TEST(MeasurePlan, EvaluatesAtTheRoundedFractionsOfTheStepsAndAtTheEnd) {
  for (int64_t steps : {1, 2, 7, 10, 99, 100, 101, 1000}) {
    for (int64_t points : {1, 2, 3, 7, 10, 64}) {
      spec::TrialSpec s;
      s.train.steps = steps, s.eval.points = points;
      std::set<int64_t> expected, found;
      for (int64_t i = 1; i <= points; ++i) {
        int64_t at = std::llround(static_cast<double>(i * steps) / static_cast<double>(points));
        if (at >= 1) expected.insert(at);
      }
      for (int64_t step = 1; step <= steps; ++step) {
        if (IsEvalStep(s, step)) found.insert(step);
      }
      EXPECT_EQ(found, expected) << steps << " steps, " << points << " points";
      EXPECT_TRUE(IsEvalStep(s, steps));
    }
  }
}

TEST(MeasurePlan, CountsInClosedForm) {
  spec::TrialSpec s;
  s.train.steps = 25, s.train.log_every = 10, s.eval.points = 5, s.model.n_layers = 3;
  // Logs at 10, 20, 25 of 5 series; 5 evaluations of 6 scores, one of train, 4 of use and 3 layers;
  // 3 of test at the end.
  EXPECT_EQ(CountPoints(s, true), 3 * 5 + 5 * (6 + 1 + 4 + 3) + 3);
  EXPECT_EQ(CountPoints(s, false), 3 * 5 + 5 * (4 + 1 + 4 + 3) + 2);
  s.eval.train_tokens = 0;
  EXPECT_EQ(CountPoints(s, true), 3 * 5 + 5 * (6 + 4 + 3) + 3);
}

}  // namespace
}  // namespace plumb::trainer
