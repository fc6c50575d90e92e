#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "analysis/figure.h"
#include "analysis/plot_scale.h"

namespace plumb::analysis {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

CellResult At(double x, std::map<int64_t, double> values) {
  CellResult c{.name = "n_layers=" + std::to_string(static_cast<int>(x)), .x = x};
  c.replicates = static_cast<int64_t>(values.size());
  c.values = std::move(values);
  return c;
}

// Two budgets over three depths: the first lowest at 2, the second still falling.
ProfileFigure TwoBudgets() {
  ProfileFigure f{.title = "deep & wide", .metric = "test bits per byte", .log_x = true};
  f.lines.push_back({.label = "flops=1e+11",
                     .cells = {At(1, {{0, 3.0}, {1, 3.1}}), At(2, {{0, 2.0}, {1, 2.1}}),
                               At(4, {{0, 2.5}, {1, 2.6}})}});
  f.lines.push_back({.label = "flops=3e+11",
                     .cells = {At(1, {{0, 2.0}, {1, 2.1}}), At(2, {{0, 1.5}, {1, 1.6}}),
                               At(4, {{0, 1.2}, {1, 1.3}})}});
  for (ProfileFigure::Line& line : f.lines) line.reading = ReadMap(line.cells, f.metric, 0.9);
  return f;
}

TEST(ProfileTerminal, HasEveryMeanItsIntervalAndTheLowestOfALine) {
  const std::string text = Terminal(TwoBudgets(), {.width = 80, .color = false});
  // t(0.95, 1) = 6.3138; sd of {2.0, 2.1} is 0.0707: half width 6.3138 * 0.05 = 0.3157.
  EXPECT_THAT(text, HasSubstr("2.0500 ±0.3157*"));
  EXPECT_THAT(text, HasSubstr("1.2500 ±0.3157*"));
  EXPECT_THAT(text, HasSubstr("3.0500 ±0.3157 "));
  EXPECT_THAT(text, HasSubstr("flops=1e+11: Lowest test bits per byte: n_layers=2"));
  EXPECT_THAT(text, Not(HasSubstr("ends at")));
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
}

TEST(ProfileTerminal, ACellWithDivergedSeedsHasItsMedianAndNoInterval) {
  ProfileFigure f = TwoBudgets();
  CellResult& c = f.lines[0].cells[0];
  c.replicates = 3, c.diverged = 1;  // 3.0, 3.1 and one at infinity
  f.lines[0].reading = ReadMap(f.lines[0].cells, f.metric, 0.9);
  const std::string text = Terminal(f, {.width = 80});
  EXPECT_THAT(text, HasSubstr("3.1000 (1 of 3 diverged)"));
  c.diverged = 2, c.replicates = 4;  // half of them: no middle that is a number
  EXPECT_THAT(Terminal(f, {.width = 80}), HasSubstr("- (2 of 4 diverged)"));
  EXPECT_THAT(Csv(f), HasSubstr("flops=1e+11,n_layers=1,1,2,2,,,,0,0,"));
}

TEST(ProfileCsv, HasARowPerCell) {
  const std::string csv = Csv(TwoBudgets());
  EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 7);
  EXPECT_THAT(csv, HasSubstr("flops=3e+11,n_layers=4,4,2,0,1.25,"));
}

TEST(ProfileSvg, SaysWhatIsMissingAndWhichFlagsThereAre) {
  ProfileFigure f = TwoBudgets();
  f.lines[1].cells[0].replicates = 3;
  for (ProfileFigure::Line& line : f.lines)
    for (CellResult& c : line.cells) c.flags = {"test_overlap"};
  const std::string svg = Svg(f);
  EXPECT_THAT(svg, HasSubstr("2 of 3 done"));
  EXPECT_THAT(svg, HasSubstr("Flag test_overlap: every cell."));
  EXPECT_THAT(svg, HasSubstr("deep &amp; wide"));
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
}

TEST(Ticks, AreRound) {
  EXPECT_THAT(Ticks(1, 20, true), ElementsAre(1, 2, 5, 10, 20));
  EXPECT_THAT(Ticks(0, 10, false), ElementsAre(0, 2, 4, 6, 8, 10));
}

TEST(PlotScale, LeavesOutWhatALogarithmicAxisCannotShow) {
  PlotScale scale(/*log_x=*/true, /*log_y=*/false);
  scale.Hold(0, 1);
  EXPECT_TRUE(scale.empty());
  scale.Hold(1, 2);
  scale.Hold(100, 4);
  EXPECT_DOUBLE_EQ(scale.X(10), 0.5);
  EXPECT_DOUBLE_EQ(scale.Y(3), 0.5);
}

}  // namespace
}  // namespace plumb::analysis
