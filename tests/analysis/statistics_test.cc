#include "analysis/statistics.h"

#include <gtest/gtest.h>

#include <cmath>

namespace plumb::analysis {
namespace {

TEST(StudentQuantile, MatchesTheTables) {
  EXPECT_NEAR(StudentQuantile(0.90, 1), 6.314, 5e-4);
  EXPECT_NEAR(StudentQuantile(0.95, 2), 4.303, 5e-4);
  EXPECT_NEAR(StudentQuantile(0.90, 10), 1.812, 5e-4);
  EXPECT_NEAR(StudentQuantile(0.99, 30), 2.750, 5e-4);
}

TEST(MeanInterval, OfOneTwoThreeIsTwoPlusMinusTOverRootThree) {
  const Interval i = MeanInterval({1, 2, 3}, 0.95);
  EXPECT_DOUBLE_EQ(i.mean, 2);
  EXPECT_DOUBLE_EQ(i.sd, 1);
  EXPECT_NEAR(i.high, 2 + 4.302653 / std::sqrt(3.0), 1e-6);
  EXPECT_NEAR(i.low, 2 - 4.302653 / std::sqrt(3.0), 1e-6);
}

TEST(MeanInterval, OfOneValueHoldsEverything) {
  const Interval i = MeanInterval({5}, 0.9);
  EXPECT_EQ(i.n, 1);
  EXPECT_TRUE(i.Contains(-1e300));
  EXPECT_TRUE(i.Contains(1e300));
}

TEST(PairedDifference, UsesOnlyReplicatesThatBothHave) {
  const Interval d =
      PairedDifference({{0, 1.0}, {1, 2.0}, {2, 9.0}}, {{0, 0.5}, {1, 1.5}, {3, 7.0}}, 0.9);
  EXPECT_EQ(d.n, 2);
  EXPECT_DOUBLE_EQ(d.mean, 0.5);
  EXPECT_DOUBLE_EQ(d.low, 0.5);  // both differences are 0.5: no spread
}

TEST(WelchDifference, MatchesAHandCalculation) {
  // a = {1, 3}: mean 2, var 2, error 1; b = {2, 4, 6}: mean 4, var 4, error 4/3; sd = sqrt(7/3); df
  // = (7/3)^2/(1+8/9) = 2.88 -> 2
  const Interval d = WelchDifference({1, 3}, {2, 4, 6}, 0.95);
  EXPECT_DOUBLE_EQ(d.mean, -2);
  EXPECT_NEAR(d.sd, std::sqrt(7.0 / 3), 1e-12);
  EXPECT_NEAR(d.high, -2 + 4.302653 * std::sqrt(7.0 / 3), 1e-5);
}

TEST(PooledDeviation, WeighsGroupsByTheirDegreesOfFreedom) {
  // {0, 2}: squares 2, df 1; {0, 0, 3}: squares 6, df 2 → sqrt(8/3); a single value adds nothing
  EXPECT_NEAR(*PooledDeviation({{0, 2}, {0, 0, 3}, {7}}), std::sqrt(8.0 / 3), 1e-12);
  EXPECT_FALSE(PooledDeviation({{1}, {2}}).has_value());
}

}  // namespace
}  // namespace plumb::analysis
