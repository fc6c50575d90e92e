#include "analysis/figure.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

namespace plumb::analysis {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// Whether tags nest and attributes are quoted: enough XML to catch what a writer gets wrong.
bool WellFormed(const std::string& xml) {
  std::vector<std::string> open;
  for (size_t i = 0; i < xml.size();) {
    if (xml[i] == '&') {
      const size_t end = xml.find(';', i);
      if (end == std::string::npos || end - i > 6) return false;
    }
    if (xml[i] != '<') {
      ++i;
      continue;
    }
    const size_t end = xml.find('>', i);
    if (end == std::string::npos) return false;
    const std::string tag = xml.substr(i + 1, end - i - 1);
    if (tag.find('<') != std::string::npos || std::count(tag.begin(), tag.end(), '"') % 2)
      return false;
    if (tag[0] == '/') {
      if (open.empty() || open.back() != tag.substr(1)) return false;
      open.pop_back();
    } else if (tag.back() != '/') {
      open.push_back(tag.substr(0, tag.find(' ')));
    }
    i = end + 1;
  }
  return open.empty();
}

GridFigure Map() {
  GridFigure f{.title = "Sweep 1 <a&b>",
               .value_label = "test bits per byte",
               .row_label = "depth",
               .column_label = "width",
               .rows = {"1", "2"},
               .columns = {"32", "64"}};
  f.cells = {
      {.name = "a",
       .row = 0,
       .column = 0,
       .value = 2.5,
       .low = 2.4,
       .high = 2.6,
       .n = 2,
       .planned = 2,
       .median = 2.5,
       .tied = true},
      {.name = "b",
       .row = 0,
       .column = 1,
       .value = 2.25,
       .low = 2.2,
       .high = 2.3,
       .n = 2,
       .planned = 2,
       .median = 2.25,
       .best = true,
       .tied = true},
      {.name = "c",
       .row = 1,
       .column = 0,
       .value = NAN,
       .low = NAN,
       .high = NAN,
       .n = 1,
       .planned = 2,
       .diverged = 1,
       .median = 3.75,
       .flags = {"diverged:1/2"}},
  };
  f.notes = {"A/A noise: 0.01"};
  return f;
}

TEST(GridTextTest, ReadsWithoutColour) {
  EXPECT_EQ(GridText(Map(), Color::kNo),
            "Sweep 1 <a&b>\n"
            "\n"
            "       width\n"
            "depth       32             64\n"
            "    1    [ 2.5000 ]    [[ 2.2500 ]]\n"
            "        ±0.1000 n=2    ±0.0500 n=2\n"
            "    2    ~3.7500 !\n"
            "        n=1/2 div=1\n"
            "\n"
            "test bits per byte; ± half the range over seeds; [[ ]] lowest mean, [ ] cannot be "
            "told from it; ! flagged\n"
            "! c: diverged:1/2\n"
            "A/A noise: 0.01\n");
}

TEST(GridTextTest, ColoursOnlyWhenAsked) {
  EXPECT_THAT(GridText(Map(), Color::kNo), Not(HasSubstr("\x1b")));
  EXPECT_THAT(GridText(Map(), Color::kYes), HasSubstr("\x1b[48;2;"));
}

TEST(GridSvgTest, IsWellFormedAndHoldsEveryValue) {
  const std::string svg = GridSvg(Map());
  EXPECT_TRUE(WellFormed(svg));
  for (const char* text : {"2.5000", "2.2500", "~3.7500", "n=1/2", "div=1", "±0.1000",
                           "Sweep 1 &lt;a&amp;b&gt;", "A/A noise", "depth", "width"}) {
    EXPECT_THAT(svg, HasSubstr(text));
  }
  EXPECT_THAT(svg, HasSubstr("stroke-dasharray"));
}

TEST(GridCsvTest, HasARowPerCellAndLeavesTheUnknownEmpty) {
  const std::string csv = GridCsv(Map());
  EXPECT_THAT(csv, HasSubstr("\n1,64,b,2.25,2.2,2.3,2.25,2,2,0,1,1,"));
  EXPECT_THAT(csv, HasSubstr("\n2,32,c,,,,3.75,1,2,1,0,0,"));
}

TEST(BucketedTest, KeepsEveryExtremeOfTheFullData) {
  std::mt19937_64 random(7);
  std::normal_distribution<double> normal;
  std::vector<Point> points;
  for (int i = 1; i <= 10'000; ++i) points.push_back({static_cast<double>(i), normal(random)});
  points[4321].y = 99;
  points[777].y = -99;
  for (Axis axis : {Axis::kLinear, Axis::kLog}) {
    const std::vector<Bucket> buckets = Bucketed(points, 50, axis);
    ASSERT_LE(buckets.size(), 50u);
    double low = 0, high = 0;
    int64_t n = 0;
    for (const Bucket& b : buckets) {
      low = std::min(low, b.min);
      high = std::max(high, b.max);
      n += b.points;
    }
    EXPECT_EQ(low, -99);
    EXPECT_EQ(high, 99);
    EXPECT_EQ(n, 10'000);
    EXPECT_EQ(buckets.back().last, points.back().y);
  }
}

TEST(BucketedTest, LeavesOutWhatAnAxisCannotShow) {
  const std::vector<Bucket> b = Bucketed({{0, 1}, {1, NAN}, {2, 5}}, 10, Axis::kLog);
  ASSERT_EQ(b.size(), 1u);
  EXPECT_EQ(b[0].last, 5);
}

CurveFigure Curves() {
  CurveFigure f{
      .title = "T & U", .x_label = "steps", .y_label = "loss", .groups = {"a<b"}, .notes = {"n"}};
  f.curves = {{.label = "one", .buckets = Bucketed({{1, 4}, {10, 3}, {100, 2}}, 10, Axis::kLog)}};
  return f;
}

TEST(CurvesSvgTest, DrawsOnePathPerCurveInsideTheFrame) {
  const std::string svg = CurvesSvg(Curves());
  EXPECT_TRUE(WellFormed(svg));
  EXPECT_THAT(svg, HasSubstr("<path d=\"M64 48L344 213L624 378\""));
  EXPECT_THAT(svg, HasSubstr("a&lt;b"));
  EXPECT_THAT(svg, HasSubstr("steps (log scale)"));
}

TEST(CurvesTextTest, DrawsAFallingLine) {
  const std::string text = CurvesText(Curves(), Color::kNo, 40, 6);
  EXPECT_THAT(text, HasSubstr("a<b: ends at 2.0000"));
  EXPECT_THAT(text, HasSubstr("⠑"));
  EXPECT_THAT(CurvesText({.title = "t"}, Color::kNo), HasSubstr("no points yet"));
}

TEST(CurvesCsvTest, HasMinMaxAndLast) {
  EXPECT_EQ(CurvesCsv(Curves()),
            "group,curve,steps,min,max,last,points\na<b,one,1,4,4,4,1\na<b,one,10,3,3,3,1\na<b,one,"
            "100,2,2,2,1\n");
}

}  // namespace
}  // namespace plumb::analysis
