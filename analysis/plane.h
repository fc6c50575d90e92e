// Shapes as points of a plane, and lines along which something is equal.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace plumb::analysis {

struct PlaneFigure {
  struct Point {
    double x = 0, y = 0;
    bool fits = true;  // drawn otherwise where it does not fit its device
  };
  struct Line {
    std::string label;  // "300k parameters"
    int family = 0;     // lines of one family look alike: 0 parameters, 1 FLOPs
    std::vector<std::pair<double, double>> points;  // y ascending
  };
  std::string title;
  std::string x_label = "width (d_model)", y_label = "depth (n_layers)";
  std::vector<Point> points;
  std::vector<Line> lines;
};
// Both axes are logarithmic. The range is that of the points, and a little more; lines are cut off
// there.
std::string Terminal(const PlaneFigure& figure, int width);
std::string Svg(const PlaneFigure& figure);

}  // namespace plumb::analysis
