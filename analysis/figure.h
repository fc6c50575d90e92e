// Figures as values, and three ways to draw each: in a terminal, as SVG, as CSV.
//
// Each is readable without colour: the best cell stands in [[ ]], cells that cannot be told from it
// in [ ].
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace plumb::analysis {

struct GridCell {
  std::string name;
  size_t row = 0, column = 0;
  double value = 0;          // mean; NaN: not complete
  double low = 0, high = 0;  // over the replicates
  int64_t n = 0, planned = 0, diverged = 0;
  double median = 0;  // shown with the count where some diverged
  bool best = false, tied = false;
  double difference = 0, difference_low = 0, difference_high = 0;  // to the best, paired; NaN: none
  std::vector<std::string> flags;
};

struct GridFigure {
  std::string title, value_label;  // "test bits per byte"
  std::string row_label, column_label;
  std::vector<std::string> rows, columns;
  std::vector<GridCell> cells;  // at most one a place
  std::vector<std::string> notes;
};

enum class Color { kNo, kYes };
std::string GridText(const GridFigure& figure, Color color);
std::string GridSvg(const GridFigure& figure);
std::string GridCsv(const GridFigure& figure);

struct Bucket {
  double x = 0;  // of its last point
  double min = 0, max = 0, last = 0;
  int64_t points = 0;
};
struct Point {
  double x = 0, y = 0;
};
// At most `count` buckets of equal width in x (or in log x), in order. Every point is in one: the
// smallest min and the largest max are those of the data. Points that are not finite (or not
// positive, on a log axis) are left out.
enum class Axis { kLinear, kLog };
std::vector<Bucket> Bucketed(const std::vector<Point>& points, int count, Axis axis);

struct Curve {
  std::string label;
  size_t group = 0;  // curves of one group share a colour (the replicates of a cell)
  std::vector<Bucket> buckets;
};

struct CurveFigure {
  std::string title, x_label, y_label;
  Axis x_axis = Axis::kLog;
  std::vector<std::string> groups;  // names
  std::vector<Curve> curves;
  std::vector<std::string> notes;
};
std::string CurvesText(const CurveFigure& figure, Color color, int width = 80, int height = 20);
std::string CurvesSvg(const CurveFigure& figure);
std::string CurvesCsv(const CurveFigure& figure);

}  // namespace plumb::analysis
