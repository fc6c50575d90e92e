// Several objectives at once: the cells that nothing else beats in all of them (Pareto's front).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "analysis/figure.h"

namespace plumb::analysis {

// By point: no other is at least as good in every objective and better in one. Equal points are
// both on the front. values[point][objective], all finite; `maximize` by objective.
std::vector<bool> NotDominated(const std::vector<std::vector<double>>& values,
                               const std::vector<bool>& maximize);

struct FrontPoint {
  std::string cell;
  std::vector<double> values;  // by objective: means over `n` replicates
  int64_t n = 1;
  bool on_front = false;
};
struct FrontFigure {
  std::string title;
  std::vector<std::string> objectives;  // "val loss", "flops"; the first is drawn upwards
  std::vector<bool> maximize;
  std::vector<FrontPoint> points;
  std::vector<std::string> notes;  // cells left out, and why
};
// Sets on_front, and sorts: the front first, each part by the first objective, the better before.
void Sort(FrontFigure* figure);
// Of a sorted figure. The terminal has the front alone, the others all points.
std::string Terminal(const FrontFigure& figure, const TerminalOptions& options);
std::string Svg(const FrontFigure& figure);
std::string Csv(const FrontFigure& figure);

}  // namespace plumb::analysis
