// Figures as text: for a terminal, as SVG, as CSV. The same figure value goes into all three.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "analysis/compare.h"
#include "analysis/map.h"

namespace plumb::analysis {

struct TerminalOptions {
  int width = 80;      // columns
  bool color = false;  // ANSI; every figure reads without it
};

// A map of cells over two axes.
struct MapFigure {
  std::string title;   // "test bits per byte, python-docs-en"
  std::string metric;  // "bits per byte"
  std::string x_label = "width (d_model)", y_label = "depth (n_layers)";
  std::vector<CellResult> cells;
  MapReading reading;
  std::vector<std::string> notes;  // lines under the map: yardsticks, flags
};
std::string Terminal(const MapFigure& figure, const TerminalOptions& options);
std::string Svg(const MapFigure& figure);
std::string Csv(const MapFigure& figure);  // one row per cell

struct Curve {
  std::string label;  // the cell
  int group = 0;      // curves of one group share a colour: replicates of a cell
  std::vector<std::pair<double, double>> points;  // x ascending; non-finite y are gaps
};
struct CurvesFigure {
  std::string title;
  std::string x_label = "training tokens", y_label = "val bits per byte";
  bool log_x = true, log_y = false;
  std::vector<Curve> curves;
};
std::string Terminal(const CurvesFigure& figure, const TerminalOptions& options);
// Title, frame and curves without the list of where they end; and what stands for a group there.
std::string Drawing(const CurvesFigure& figure, const TerminalOptions& options);
std::string LineKey(int group, bool color);
std::string Svg(const CurvesFigure& figure);
// label, group, line (one per curve: replicates differ in it), x, y of every point, not only of the
// drawn ones.
std::string Csv(const CurvesFigure& figure);

// A value along one axis, a line for each setting of the others: "deep or wide, at three budgets".
struct ProfileFigure {
  std::string title;   // "Sweep 3 deepnarrow: test bits per byte"
  std::string metric;  // "test bits per byte"
  std::string x_label = "depth (n_layers)";
  bool log_x = false;
  struct Line {
    std::string label;              // "flops=1e+12"
    std::vector<CellResult> cells;  // with x, ascending
    MapReading reading;             // of this line alone
  };
  std::vector<Line> lines;
  std::vector<std::string> notes;
};
std::string Terminal(const ProfileFigure& figure, const TerminalOptions& options);
std::string Svg(const ProfileFigure& figure);
std::string Csv(const ProfileFigure& figure);  // one row per cell

// Differences with their intervals, one row each: a forest plot.
struct CompareFigure {
  std::string title;   // "Sweep 3 sas-depth: test bits per byte, variant against preln"
  std::string header;  // what a difference is: sign, unit, which value, level
  std::string axis;    // "variant"
  std::string unit;    // "bits per byte"
  Comparison comparison;
};
std::string Terminal(const CompareFigure& figure, const TerminalOptions& options);
std::string Svg(const CompareFigure& figure);
std::string Csv(const CompareFigure& figure);  // one row per difference

// Named points with an interval in both directions: what something costs against what it is worth.
struct PointsFigure {
  std::string title, x_label, y_label;
  bool log_x = false;
  struct Point {
    std::string label;
    double x = 0, x_low = 0, x_high = 0;  // ends that are not finite are not drawn
    double y = 0, y_low = 0, y_high = 0;
  };
  std::vector<Point> points;
};
std::string Terminal(const PointsFigure& figure, const TerminalOptions& options);
std::string Svg(const PointsFigure& figure);
std::string Csv(const PointsFigure& figure);  // one row per point

// A score in [0, 1] of each layer as training goes on, a panel for each cell and score; shades are
// of -log10(1 - score), so that 0.99 and 0.999 are as far apart as 0 and 0.9.
struct LayersFigure {
  std::string title;              // "Sweep 3 depth: linearity"
  std::string y_label = "layer";  // from the first, at the bottom
  struct Place {
    double mean = 0, low = 0, high = 0;  // over seeds; their range
    int64_t n = 0;                       // 0: nothing is known here
  };
  struct Panel {
    std::string cell, score;  // "n_layers=4", "with residual"
    std::vector<int64_t> steps;
    int64_t layers = 0;
    std::vector<Place> places;  // [layer][step]
    const Place& At(int64_t layer, size_t step) const {
      return places[static_cast<size_t>(layer) * steps.size() + step];
    }
  };
  std::vector<Panel> panels;
  std::vector<std::string> notes;
};
std::string Terminal(const LayersFigure& figure, const TerminalOptions& options);
std::string Svg(const LayersFigure& figure);
std::string Csv(const LayersFigure& figure);  // one row per cell, score, layer and step

// Fewer points for drawing: in each of `buckets` equal parts of the (log) x range the first,
// smallest, largest and last, so that no extreme is lost.
std::vector<std::pair<double, double>> Bucketed(
    const std::vector<std::pair<double, double>>& points, int buckets, bool log_x);

// "1.5e8" → "150 M", for axes: three figures at most.
std::string Short(double v);

}  // namespace plumb::analysis
