#include "analysis/statistics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace plumb::analysis {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// Values of the seeds "0", "1", …; NaN: diverged.
Cell MakeCell(const std::string& name, const std::vector<double>& values,
              const std::vector<double>& control = {}) {
  Cell cell{.name = name};
  cell.flops = 1e9;
  for (size_t i = 0; i < values.size(); ++i) {
    Replicate r{.seed = std::to_string(i), .state = "succeeded", .value = values[i]};
    if (std::isnan(values[i])) r = {.seed = std::to_string(i), .state = "diverged"};
    cell.replicates.push_back(r);
  }
  for (size_t i = 0; i < control.size(); ++i) {
    cell.replicates.push_back(
        {.seed = "aa" + std::to_string(i), .aa = true, .state = "succeeded", .value = control[i]});
  }
  return cell;
}

TEST(TIntervalTest, AgreesWithTabulatedQuantiles) {
  // t(0.95; 1) = 6.314, t(0.95; 4) = 2.132, t(0.975; 9) = 2.262.
  const Interval two = TInterval({1, 3});  // sd sqrt(2), half = t
  EXPECT_NEAR(two.high - two.mean, 6.314, 5e-4);
  EXPECT_DOUBLE_EQ(two.mean, 2);
  const Interval five = TInterval({1, 2, 3, 4, 5});
  EXPECT_NEAR(five.high - 3, 2.132 * std::sqrt(2.5 / 5), 5e-4);
  EXPECT_NEAR(3 - five.low, five.high - 3, 1e-12);
  std::vector<double> ten(10);
  for (int i = 0; i < 10; ++i) ten[i] = i;
  EXPECT_NEAR(TInterval(ten, 0.95).high - 4.5, 2.262 * StandardDeviation(ten) / std::sqrt(10),
              2e-3);
}

TEST(TIntervalTest, OfOneValueIsUnbounded) {
  const Interval one = TInterval({5});
  EXPECT_EQ(one.n, 1);
  EXPECT_TRUE(std::isinf(one.low) && std::isinf(one.high));
  EXPECT_TRUE(std::isnan(TInterval({}).mean));
}

TEST(PairedDifferenceTest, ComparesSeedBySeed) {
  // Seeds differ by 10, cells by exactly 1: unpaired intervals would overlap hugely.
  const Interval d = PairedDifference(MakeCell("a", {2, 12, 22}), MakeCell("b", {1, 11, 21}));
  EXPECT_EQ(d.n, 3);
  EXPECT_DOUBLE_EQ(d.low, 1);
  EXPECT_DOUBLE_EQ(d.high, 1);
}

TEST(PairedDifferenceTest, LeavesOutSeedsThatOnlyOneHas) {
  EXPECT_EQ(PairedDifference(MakeCell("a", {2, NAN, 4}), MakeCell("b", {1, 1})).n, 1);
}

TEST(SummarizeTest, ADivergedSeedIsCountedAndNeverAveragedAway) {
  const CellSummary s = Summarize(MakeCell("a", {2.0, NAN, 2.2}));
  EXPECT_EQ(s.diverged, 1);
  EXPECT_EQ(s.n, 2);
  EXPECT_EQ(s.planned, 3);
  EXPECT_FALSE(s.complete);
  EXPECT_TRUE(std::isnan(s.mean));
  EXPECT_NEAR(s.median, 2.1, 1e-12);
}

TEST(SummarizeTest, ADivergedSeedWithALastValueIsNotAResult) {
  Cell cell = MakeCell("a", {2.0, 2.2});
  cell.replicates[1].state = "diverged";
  EXPECT_EQ(Summarize(cell).n, 1);
  EXPECT_TRUE(std::isnan(Summarize(cell).mean));
}

TEST(CompareToBestTest, FindsTheCellsThatCannotBeToldFromTheBest) {
  const std::vector<Cell> cells = {
      MakeCell("best", {1.00, 1.10, 1.20, 1.30}),
      MakeCell("tied", {1.02, 1.09, 1.23, 1.29}),   // differences +.02 -.01 +.03 -.01
      MakeCell("worse", {1.20, 1.31, 1.40, 1.51}),  // always about .2 above
      MakeCell("diverged", {0.1, 0.1, NAN, 0.1}),
  };
  const Comparison c = CompareToBest(cells);
  EXPECT_EQ(c.best, 0);
  EXPECT_THAT(c.tied, ElementsAre(true, true, false, false));
  EXPECT_EQ(c.difference[3].n, 0);
}

TEST(CompareToBestTest, ADifferenceWithinTheAaNoiseIsATie) {
  std::vector<Cell> cells = {MakeCell("best", {1.0, 2.0, 3.0}), MakeCell("near", {1.1, 2.1, 3.1})};
  EXPECT_FALSE(CompareToBest(cells).tied[1]) << "the pairs agree to the last bit";
  cells[1] = MakeCell("near", {1.1, 2.1, 3.1}, {2.3, 2.3, 2.3});  // control's mean is 0.2 off
  EXPECT_NEAR(NoiseOf(cells).mean_absolute, 0.2, 1e-12);
  EXPECT_TRUE(CompareToBest(cells).tied[1]);
}

TEST(CompareToBestTest, OneSeedTellsNothingApart) {
  EXPECT_THAT(CompareToBest({MakeCell("a", {1}), MakeCell("b", {9})}).tied,
              ElementsAre(true, true));
}

TEST(NoiseOfTest, TakesTheDifferenceOfMeansOverCellsWithAControl) {
  const AaNoise noise = NoiseOf(
      {MakeCell("a", {1, 3}, {2.3, 2.3}), MakeCell("b", {1, 1}, {0.9}), MakeCell("c", {7})});
  EXPECT_EQ(noise.cells, 2);
  EXPECT_NEAR(noise.mean_absolute, 0.2, 1e-12);
  EXPECT_NEAR(noise.root_mean_square, std::sqrt((0.09 + 0.01) / 2), 1e-12);
  EXPECT_NEAR(noise.largest, 0.3, 1e-12);
  EXPECT_TRUE(std::isnan(NoiseOf({MakeCell("c", {7})}).mean_absolute));
}

std::string Read(const std::vector<Cell>& cells) {
  return Reading(cells, CompareToBest(cells), NoiseOf(cells), "loss");
}

TEST(ReadingTest, ClaimsNoOrderThatTheSpreadDoesNotCarry) {
  EXPECT_THAT(Read({MakeCell("a", {1.0, 2.0}), MakeCell("b", {1.2, 1.9})}),
              HasSubstr("none of the 1 other cells can be told"));
  EXPECT_THAT(Read({MakeCell("a", {1}), MakeCell("b", {9})}),
              HasSubstr("with one seed nothing can be told apart"));
  const std::string told = Read({MakeCell("a", {1.0, 2.0}), MakeCell("b", {3.0, 4.0})});
  EXPECT_THAT(told, HasSubstr("all 1 other cells are worse, b by the most (2.0000"));
  EXPECT_THAT(told, HasSubstr("n = 2"));
}

TEST(ReadingTest, SaysEqualFlopsOnlyWhereTheyAre) {
  std::vector<Cell> cells = {MakeCell("a", {1, 2}), MakeCell("b", {2, 3})};
  EXPECT_THAT(Read(cells), HasSubstr("At equal training FLOPs"));
  cells[1].flops *= 2;
  EXPECT_THAT(Read(cells), Not(HasSubstr("At equal training FLOPs")));
}

TEST(ReadingTest, CountsWhatWasNotCompared) {
  EXPECT_THAT(Read({MakeCell("a", {1, 2}), MakeCell("b", {NAN, 3})}),
              HasSubstr("1 incomplete or diverged"));
  EXPECT_THAT(Read({MakeCell("b", {NAN, 3})}), HasSubstr("nothing can be compared"));
}

}  // namespace
}  // namespace plumb::analysis
