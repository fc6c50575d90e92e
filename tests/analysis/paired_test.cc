#include "analysis/paired.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace plumb::analysis {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

struct Case {
  bool paired;
  std::vector<double> a, b;
  double level, mean, low, high, error, freedom, p;
};
const Case kCases[] = {
#include "tests/analysis/paired_cases.inc"
};

BySeed Seeded(const std::vector<double>& values, int64_t first = 0) {
  BySeed out;
  for (double v : values) out[first++] = v;
  return out;
}

TEST(Paired, AgreesWithTTestsComputedElsewhere) {
  for (const Case& c : kCases) {
    const Difference d = CompareArms(Seeded(c.a), Seeded(c.b, c.paired ? 0 : 100000), c.level);
    EXPECT_EQ(d.paired, c.paired);
    EXPECT_EQ(d.n_a, std::ssize(c.a));
    EXPECT_EQ(d.n_b, std::ssize(c.b));
    EXPECT_NEAR(d.mean, c.mean, 1e-13);
    EXPECT_NEAR(d.error, c.error, 1e-13);
    EXPECT_NEAR(d.freedom, c.freedom, 1e-9);
    EXPECT_NEAR(d.low, c.low, 1e-10);
    EXPECT_NEAR(d.high, c.high, 1e-10);
    ASSERT_TRUE(d.p.has_value());
    EXPECT_NEAR(*d.p, c.p, 1e-10);
  }
}

TEST(Paired, UsesTheSeedsThatBothHave) {
  const Difference d = CompareArms({{0, 1.0}, {1, 2.0}, {2, 3.5}, {9, 50}},
                                   {{0, 0.5}, {1, 1.6}, {2, 2.9}, {7, 0}}, 0.95);
  EXPECT_TRUE(d.paired);
  EXPECT_EQ(d.n_a, 3);
  EXPECT_NEAR(d.mean, 0.5, 1e-12);
  EXPECT_NEAR(d.error, 0.1 / std::sqrt(3.0), 1e-12);
}

TEST(Paired, OneRunGivesAMeanAndNoInterval) {
  for (const Difference& d : {CompareArms({{0, 1.0}}, {{0, 0.5}}, 0.95),
                              CompareArms({{0, 1.0}}, {{0, 0.5}, {1, 0.7}}, 0.95)}) {
    EXPECT_EQ(d.n_a, 1);
    EXPECT_DOUBLE_EQ(d.mean, 0.5);
    EXPECT_TRUE(std::isinf(d.low) && std::isinf(d.high));
    EXPECT_FALSE(d.p.has_value());
  }
}

TEST(Paired, WithoutCommonSeedsItIsUnpaired) {
  const Difference d = CompareArms({{0, 1.0}}, {{5, 0.5}, {6, 0.7}}, 0.95);
  EXPECT_FALSE(d.paired);
  EXPECT_DOUBLE_EQ(d.mean, 0.4);
  EXPECT_TRUE(std::isinf(d.high));
  EXPECT_FALSE(d.p.has_value());
  const Difference none = CompareArms({}, {{5, 0.5}}, 0.95);
  EXPECT_TRUE(std::isnan(none.mean));
}

TEST(Paired, AValueThatIsNotFiniteLeavesNoInterval) {
  for (int64_t first : {0, 100}) {  // paired, unpaired
    const Difference d = CompareArms(Seeded({1, kNaN, 3}), Seeded({1, 2, 4}, first), 0.95);
    EXPECT_EQ(d.paired, first == 0);
    EXPECT_TRUE(std::isnan(d.mean));
    EXPECT_TRUE(std::isinf(d.low));
    EXPECT_FALSE(d.p.has_value());
  }
}

TEST(Paired, EqualPairsAreNoSpreadToJudgeBy) {
  // 1.1 − 1.0 and 0.7 − 0.6 differ in the last bits: rounding is no spread.
  ASSERT_NE(1.1 - 1.0, 0.7 - 0.6);
  const Difference d = PairedT({{0, 1.1}, {1, 0.7}}, {{0, 1.0}, {1, 0.6}}, 0.95);
  EXPECT_TRUE(d.SameInAll());
  EXPECT_FALSE(d.p.has_value());
  const Difference same = PairedT({{0, 1.1}, {1, 2.1}}, {{0, 1.1}, {1, 2.1}}, 0.95);
  EXPECT_EQ(same.p, 1) << "the same runs";
}

TEST(MeanOverSlices, CountsASeedOnce) {
  const BySeed m = MeanOverSlices({{{0, 1}, {1, 2}, {2, 9}}, {{0, 3}, {1, 6}}});
  EXPECT_EQ(m, (BySeed{{0, 2}, {1, 4}}));
}

TEST(Holm, MatchesAHandCalculation) {
  // Sorted 0.01, 0.02, 0.03, 0.04 of four: 0.04, 0.06, 0.06, 0.06; the absent one is not counted.
  const auto p = Holm({0.04, 0.01, std::nullopt, 0.03, 0.02});
  EXPECT_DOUBLE_EQ(*p[0], 0.06);
  EXPECT_DOUBLE_EQ(*p[1], 0.04);
  EXPECT_FALSE(p[2].has_value());
  EXPECT_DOUBLE_EQ(*p[3], 0.06);
  EXPECT_DOUBLE_EQ(*p[4], 0.06);
  EXPECT_DOUBLE_EQ(*Holm({0.7, 0.6})[1], 1);
}

TEST(SeedNoise, MatchesAHandCalculation) {
  // Squares 2 and 6 with 1 and 2 degrees of freedom: sd √(8/3); t(0.95, 3) = 3.18245.
  const auto noise = PoolNoise({{0, 2}, {0, 0, 3}});
  ASSERT_TRUE(noise.has_value());
  EXPECT_EQ(noise->freedom, 3);
  EXPECT_NEAR(noise->sd, std::sqrt(8.0 / 3), 1e-12);
  EXPECT_NEAR(noise->Floor(2, 4, 0.95), 3.182446 * std::sqrt(8.0 / 3) * std::sqrt(0.75), 1e-5);
  EXPECT_FALSE(PoolNoise({{1}, {2}}).has_value());
  EXPECT_FALSE(PoolNoise({{1, kNaN}}).has_value());
}

TEST(SeedNoise, TwoMeansOfACellDifferByLessThanTheFloorAsOftenAsItSays) {
  std::mt19937_64 random(3);
  std::normal_distribution<double> noise(2, 0.01);
  const auto draw = [&](int n) {
    std::vector<double> out;
    for (int i = 0; i < n; ++i) out.push_back(noise(random));
    return out;
  };
  int inside = 0;
  constexpr int kSweeps = 4000;
  for (int i = 0; i < kSweeps; ++i) {
    const double floor = PoolNoise({draw(6)})->Floor(3, 3, 0.95);
    inside += std::abs(UnpairedT(Seeded(draw(3)), Seeded(draw(3)), 0.95).mean) < floor;
  }
  EXPECT_NEAR(1.0 * inside / kSweeps, 0.95, 0.012);  // 3.5 standard errors
}

}  // namespace
}  // namespace plumb::analysis
