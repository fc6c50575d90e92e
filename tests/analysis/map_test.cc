#include "analysis/map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace plumb::analysis {
namespace {

CellResult Cell(const std::string& name, double x, double y, std::vector<double> values,
                std::vector<double> aa = {}) {
  CellResult c{.name = name, .x = x, .y = y, .replicates = static_cast<int64_t>(values.size())};
  for (size_t i = 0; i < values.size(); ++i) c.values[static_cast<int64_t>(i)] = values[i];
  for (size_t i = 0; i < aa.size(); ++i) c.aa_values[static_cast<int64_t>(i)] = aa[i];
  return c;
}

TEST(ReadMap, AFarCellIsWorseAndANearOneCannotBeTold) {
  // Seeds spread by about 0.01 a run over four degrees of freedom and more.
  const MapReading r =
      ReadMap({Cell("best", 1, 1, {2.00, 2.01, 2.02}), Cell("near", 2, 1, {2.01, 2.02, 2.00}),
               Cell("far", 3, 1, {3.00, 3.01, 3.02})},
              "loss", 0.9);
  EXPECT_EQ(*r.best, 0);
  EXPECT_TRUE(r.cells[0].with_best);
  EXPECT_TRUE(r.cells[1].with_best);
  EXPECT_FALSE(r.cells[2].with_best);
  EXPECT_NEAR(*r.seed_sd, 0.01, 1e-9);
  EXPECT_THAT(r.sentence, testing::HasSubstr("not to be told from it: near"));
  EXPECT_THAT(r.sentence, testing::HasSubstr("the other 1 are worse"));
}

TEST(ReadMap, TwoPairsThatHappenToAgreeDoNotBeatTheSpreadOverSeeds) {
  // Paired differences 0.010 and 0.010: a naive paired interval is a point above 0. The spread over
  // seeds is 0.14.
  const MapReading r =
      ReadMap({Cell("a", 1, 1, {2.0, 2.2}), Cell("b", 2, 1, {2.01, 2.21})}, "loss", 0.9);
  EXPECT_TRUE(r.cells[1].with_best);
}

TEST(ReadMap, ADivergedCellIsNeverComparedNorBest) {
  CellResult lucky = Cell("lucky", 1, 1, {1.0});
  lucky.replicates = 2, lucky.diverged = 1;
  const MapReading r = ReadMap({lucky, Cell("b", 2, 1, {2.0, 2.1})}, "loss", 0.9);
  EXPECT_EQ(*r.best, 1);
  EXPECT_FALSE(r.cells[0].minus_best.has_value());
  EXPECT_FALSE(r.cells[0].with_best);
}

TEST(ReadMap, AnUnfinishedCellIsNotCompared) {
  CellResult half = Cell("half", 1, 1, {1.0});
  half.replicates = 2;
  const MapReading r = ReadMap({half, Cell("b", 2, 1, {2.0, 2.1})}, "loss", 0.9);
  EXPECT_EQ(*r.best, 1);
}

TEST(ReadMap, OneReplicateEachGivesNoRanking) {
  const MapReading r = ReadMap({Cell("a", 1, 1, {1.0}), Cell("b", 2, 1, {2.0})}, "loss", 0.9);
  EXPECT_THAT(r.sentence, testing::HasSubstr("no ranking"));
}

TEST(ReadMap, TheNoiseIsTheDifferenceOfACellFromItself) {
  const MapReading r =
      ReadMap({Cell("a", 1, 1, {1.0, 1.2}, {1.3, 1.1}), Cell("b", 2, 1, {2.0, 2.0}, {2.0, 2.3})},
              "loss", 0.9);
  ASSERT_TRUE(r.noise.has_value());
  EXPECT_EQ(r.noise->cells, 2);
  EXPECT_NEAR(r.noise->mean_absolute_difference, (0.1 + 0.15) / 2, 1e-12);
  EXPECT_NEAR(r.noise->largest_difference, 0.15, 1e-12);
  // pooled: squares 0.02 + 0.02 + 0 + 0.045 over four degrees; two means of two each: the same sd
  EXPECT_NEAR(r.noise->difference_sd, std::sqrt(0.085 / 4), 1e-12);
}

TEST(ReadMap, NothingFinishedSaysSo) {
  CellResult c = Cell("a", 1, 1, {});
  c.replicates = 2;
  const MapReading r = ReadMap({c}, "loss", 0.9);
  EXPECT_FALSE(r.best.has_value());
  EXPECT_THAT(r.sentence, testing::HasSubstr("nothing to compare"));
}

TEST(Map, WhereMoreIsBetterTheHighestIsTheBest) {
  std::vector<CellResult> cells(3);
  for (size_t i = 0; i < cells.size(); ++i) {
    cells[i].name = std::string(1, static_cast<char>('a' + i));
    cells[i].replicates = 3;
    for (int64_t r = 0; r < 3; ++r)
      cells[i].values[r] = 0.5 + 0.2 * static_cast<double>(i == 1) +
                           0.199 * static_cast<double>(i == 2) +
                           0.002 * static_cast<double>(r * (i == 2 ? -1 : 1));
  }
  const MapReading r = ReadMap(cells, "accuracy", 0.9, /*maximize=*/true);
  ASSERT_TRUE(r.best);
  EXPECT_EQ(*r.best, 1);
  EXPECT_TRUE(r.cells[2].with_best);
  EXPECT_FALSE(r.cells[0].with_best);
  EXPECT_EQ(r.sentence.rfind("Highest accuracy: b at 0.7020", 0), 0u) << r.sentence;
  EXPECT_EQ(ReadMap(cells, "loss", 0.9).best, 0);
}

}  // namespace
}  // namespace plumb::analysis
