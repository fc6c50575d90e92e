#include "trainer/measure_plan.h"

#include <gtest/gtest.h>

namespace plumb::trainer {
namespace {

spec::TrialSpec Spec(int64_t steps, int64_t points, int64_t log_every) {
  spec::TrialSpec s;
  s.model.n_layers = 3;
  s.train.steps = steps, s.eval.points = points, s.train.log_every = log_every;
  return s;
}

std::vector<int64_t> EvalSteps(const spec::TrialSpec& s) {
  std::vector<int64_t> out;
  for (int64_t step = 1; step <= s.train.steps; ++step) {
    if (IsEvalStep(s, step)) out.push_back(step);
  }
  return out;
}

TEST(MeasurePlan, EvaluatesAtEvenFractionsAndAlwaysAtTheEnd) {
  EXPECT_EQ(EvalSteps(Spec(100, 4, 10)), (std::vector<int64_t>{25, 50, 75, 100}));
  EXPECT_EQ(EvalSteps(Spec(10, 3, 10)), (std::vector<int64_t>{3, 7, 10}));
  EXPECT_EQ(EvalSteps(Spec(3, 3, 10)), (std::vector<int64_t>{1, 2, 3}));
  EXPECT_EQ(EvalSteps(Spec(7, 1, 10)), (std::vector<int64_t>{7}));
}

TEST(MeasurePlan, HasExactlyPointsEvaluationsForEveryBudget) {
  for (int64_t steps = 1; steps < 200; ++steps) {
    for (int64_t points = 1; points <= std::min<int64_t>(steps, 12); ++points) {
      ASSERT_EQ(static_cast<int64_t>(EvalSteps(Spec(steps, points, 10)).size()), points)
          << steps << " " << points;
    }
  }
}

TEST(MeasurePlan, CountsByHand) {
  // 25 steps, a log step at 10, 20 and 25: 3 · 5; 2 evaluations of (3 + 3 + 1 + 4) series and 3
  // layers; test 3.
  EXPECT_EQ(CountPoints(Spec(25, 2, 10), true), 3 * 5 + 2 * (11 + 3) + 3);
  // Without bytes two fewer an evaluation, one fewer at the end.
  EXPECT_EQ(CountPoints(Spec(25, 2, 10), false), 3 * 5 + 2 * (9 + 3) + 2);
}

TEST(MeasurePlan, CountsThePartsOfAMixedCorpus) {
  // Three scores more a split and part, and the epochs of each part.
  EXPECT_EQ(CountPoints(Spec(25, 2, 10), true, {"en", "ja"}),
            3 * 5 + 2 * (11 + 12 + 2 + 3) + 3 + 6);
  EXPECT_EQ(CountPoints(Spec(25, 2, 10), true, {"all"}), CountPoints(Spec(25, 2, 10), true));
}

}  // namespace
}  // namespace plumb::trainer
