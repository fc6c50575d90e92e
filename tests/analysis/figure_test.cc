#include "analysis/figure.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "absl/strings/str_format.h"

namespace plumb::analysis {
namespace {

MapFigure SmallMap() {
  MapFigure f{.title = "bits & bytes <test>", .metric = "bits per byte"};
  for (int depth : {1, 2}) {
    for (int width : {32, 64}) {
      CellResult c{.name = absl::StrFormat("n_layers=%d d_model=%d", depth, width),
                   .x = 1.0 * width,
                   .y = 1.0 * depth,
                   .replicates = 2};
      c.values = {{0, 2.5 + depth + width / 100.0}, {1, 2.52 + depth + width / 100.0}};
      f.cells.push_back(c);
    }
  }
  f.cells[3].values.erase(1);
  f.cells[3].diverged = 1;
  f.cells[1].flags = {"more_than_one_epoch"};
  f.reading = ReadMap(f.cells, f.metric, 0.9);
  f.notes = {"xz: 1.9 bits per byte"};
  return f;
}

// Every element that opens closes, by a stack; text has no bare < or &.
bool WellFormed(const std::string& svg) {
  int depth = 0;
  for (size_t i = 0; i < svg.size(); ++i) {
    if (svg[i] == '&' && svg.compare(i, 5, "&amp;") != 0 && svg.compare(i, 4, "&lt;") != 0 &&
        svg.compare(i, 4, "&gt;") != 0 && svg.compare(i, 6, "&quot;") != 0)
      return false;
    if (svg[i] != '<') continue;
    const size_t end = svg.find('>', i);
    if (end == std::string::npos) return false;
    if (svg[i + 1] == '/') {
      if (--depth < 0) return false;
    } else if (svg[end - 1] != '/') {
      ++depth;
    }
    i = end;
  }
  return depth == 0;
}

TEST(MapSvg, IsWellFormedAndHoldsEveryValue) {
  const MapFigure f = SmallMap();
  const std::string svg = Svg(f);
  EXPECT_TRUE(WellFormed(svg));
  for (const char* value :
       {"3.8300", "4.1500", "4.8300", "1 of 2 diverged", "bits &amp; bytes", "xz: 1.9"}) {
    EXPECT_THAT(svg, testing::HasSubstr(value));
  }
}

TEST(MapTerminal, ReadsWithoutColour) {
  const std::string text = Terminal(SmallMap(), {.width = 80, .color = false});
  EXPECT_THAT(text, testing::HasSubstr("* 3.8300 ±0.0100 *"));
  EXPECT_THAT(text, testing::HasSubstr("1 of 2 diverged"));
  EXPECT_THAT(text, testing::HasSubstr("n=2 !1"));
  EXPECT_THAT(text, testing::Not(testing::HasSubstr("\x1b")));
}

TEST(MapCsv, HasARowPerCell) {
  const std::string csv = Csv(SmallMap());
  EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 5);
  EXPECT_THAT(csv, testing::HasSubstr("more_than_one_epoch"));
}

TEST(Bucketed, KeepsEveryExtreme) {
  std::vector<std::pair<double, double>> points;
  for (int i = 1; i <= 10000; ++i) points.emplace_back(i, std::sin(i * 0.01));
  points[7777].second = 42;
  points[123].second = -42;
  const auto few = Bucketed(points, 50, true);
  EXPECT_LE(few.size(), 200u);
  EXPECT_EQ(few.front(), points.front());
  EXPECT_EQ(few.back(), points.back());
  EXPECT_THAT(few, testing::Contains(points[7777]));
  EXPECT_THAT(few, testing::Contains(points[123]));
}

TEST(Curves, DrawGapsForWhatIsNotFinite) {
  CurvesFigure f{
      .title = "t",
      .curves = {
          {.label = "a",
           .group = 0,
           .points = {
               {1, 3}, {10, std::numeric_limits<double>::quiet_NaN()}, {100, 2}, {1000, 1.5}}}}};
  const std::string svg = Svg(f);
  EXPECT_TRUE(WellFormed(svg));
  EXPECT_THAT(svg, testing::Not(testing::HasSubstr("nan")));
  EXPECT_THAT(Csv(f), testing::HasSubstr("\"a\",0,0,10,\n"));
  EXPECT_THAT(Terminal(f, {.width = 60}), testing::HasSubstr("ends at 1.5000 (n=1)"));
}

TEST(Short, NamesBigNumbers) {
  EXPECT_EQ(Short(128), "128");
  EXPECT_EQ(Short(150e6), "150M");
  EXPECT_EQ(Short(1.5e11), "150G");
  EXPECT_EQ(Short(0.25), "0.25");
}

LayersFigure SmallLayers() {
  LayersFigure f{.title = "Sweep 1 <s>: linearity/score"};
  LayersFigure::Panel p{.cell = "n_layers=2, a", .score = "with residual", .layers = 2};
  for (int64_t step = 1; step <= 40; ++step) p.steps.push_back(step * 50);
  for (int i = 0; i < 80; ++i)
    p.places.push_back({.mean = i / 80.0, .low = i / 90.0, .high = i / 70.0, .n = i == 7 ? 0 : 3});
  f.panels = {p, p};
  f.panels[1].score = "without residual";
  f.notes = {"Means over up to 3 seeds."};
  return f;
}

TEST(Layers, AreAMapOfLayersOverSteps) {
  const LayersFigure f = SmallLayers();
  const std::string svg = Svg(f);
  EXPECT_TRUE(WellFormed(svg));
  for (const char* text : {"n_layers=2, a: with residual", ">2000<", "Means over up to 3 seeds."})
    EXPECT_THAT(svg, testing::HasSubstr(text));
  const std::string text = Terminal(f, {.width = 80});
  for (size_t at = 0, end; at < text.size(); at = end + 1) {
    end = text.find('\n', at);
    ASSERT_NE(end, std::string::npos);
    EXPECT_LE(end - at, 88u) << text.substr(at, end - at);
  }
  EXPECT_THAT(text, testing::HasSubstr("   50 "));
  EXPECT_THAT(text, testing::HasSubstr("2000  (step)"));
  const std::string csv = Csv(f);
  EXPECT_THAT(csv, testing::HasSubstr("\"n_layers=2, a\",with residual,1,50,3,0.5,"));
  EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 1 + 2 * 79) << "what is not known has no row";
}

}  // namespace
}  // namespace plumb::analysis
