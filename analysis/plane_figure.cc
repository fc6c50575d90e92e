#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "analysis/figure.h"
#include "analysis/plane.h"
#include "analysis/svg.h"

namespace plumb::analysis {
namespace {

// Logarithmic, to [0, 1].
struct Span {
  double low = std::numeric_limits<double>::infinity(), high = 0;
  void Take(double v) { low = std::min(low, v), high = std::max(high, v); }
  void Widen() {  // a margin on both sides, and something to see where all values are equal
    const double margin = std::max(1.2, std::pow(high / low, 0.08));
    low /= margin, high *= margin;
  }
  double Place(double v) const { return std::log(v / low) / std::log(high / low); }
  bool Holds(double v) const { return v >= low && v <= high; }
};

void Spans(const PlaneFigure& f, Span* x, Span* y) {
  for (const PlaneFigure::Point& p : f.points) x->Take(p.x), y->Take(p.y);
  x->Widen(), y->Widen();
}

std::vector<double> Values(const PlaneFigure& f, bool of_x) {
  std::set<double> out;
  for (const PlaneFigure::Point& p : f.points) out.insert(of_x ? p.x : p.y);
  return {out.begin(), out.end()};
}

// 1, 2, … for one family, a, b, … for the other.
char Sign(int family, int index) {
  return static_cast<char>((family == 0 ? '1' : 'a') + std::min(index, 8));
}

}  // namespace

std::string Terminal(const PlaneFigure& f, int width) {
  std::string out = absl::StrCat(f.title, "\n");
  if (f.points.empty()) return absl::StrCat(out, "(no shapes)\n");
  Span x, y;
  Spans(f, &x, &y);
  const int columns = std::clamp(width, 40, 120) - 8, rows = 20;
  std::vector<std::string> grid(rows, std::string(columns, ' '));
  const auto put = [&](double px, double py, char c) {
    if (!x.Holds(px) || !y.Holds(py)) return;
    const int column = static_cast<int>(std::lround(x.Place(px) * (columns - 1)));
    const int row = rows - 1 - static_cast<int>(std::lround(y.Place(py) * (rows - 1)));
    grid[row][column] = c;
  };
  int counts[2] = {0, 0};
  std::string legend;
  for (const PlaneFigure::Line& line : f.lines) {
    const char sign = Sign(line.family, counts[line.family]++);
    absl::StrAppend(&legend, "  ", std::string(1, sign), "  ", line.label, "\n");
    for (size_t i = 1; i < line.points.size(); ++i) {
      const auto [x0, y0] = line.points[i - 1];
      const auto [x1, y1] = line.points[i];
      for (int k = 0; k <= 40; ++k) {
        const double t = k / 40.0;
        put(x0 * std::pow(x1 / x0, t), y0 * std::pow(y1 / y0, t), sign);
      }
    }
  }
  bool some_do_not_fit = false;
  for (const PlaneFigure::Point& p : f.points) {
    put(p.x, p.y, p.fits ? 'O' : 'X');
    some_do_not_fit |= !p.fits;
  }
  absl::StrAppend(&out, f.y_label, "\n");
  const std::vector<double> depths = Values(f, false), widths = Values(f, true);
  for (int row = 0; row < rows; ++row) {
    std::string label;
    for (const double v : depths) {
      if (rows - 1 - static_cast<int>(std::lround(y.Place(v) * (rows - 1))) == row)
        label = Short(v);
    }
    std::string line = grid[row];
    line.erase(line.find_last_not_of(' ') + 1);
    absl::StrAppend(&out, absl::StrFormat("%6s |", label), line, "\n");
  }
  absl::StrAppend(&out, "       +", std::string(columns, '-'), "\n");
  std::string ticks(columns + 8, ' ');
  size_t free = 0;
  for (const double v : widths) {
    const std::string text = Short(v);
    const size_t at = 8 + static_cast<size_t>(std::lround(x.Place(v) * (columns - 1)));
    const size_t from = at >= text.size() / 2 ? at - text.size() / 2 : 0;
    if (from < free || from + text.size() > ticks.size()) continue;
    ticks.replace(from, text.size(), text);
    free = from + text.size() + 1;
  }
  ticks.erase(ticks.find_last_not_of(' ') + 1);
  absl::StrAppend(&out, ticks, "\n", std::string(8, ' '), f.x_label, "; both axes logarithmic\n",
                  legend, "  O  a cell", some_do_not_fit ? ", X one that does not fit" : "", "\n");
  return out;
}

std::string Svg(const PlaneFigure& f) {
  constexpr double kLeft = 70, kTop = 50, kW = 560, kH = 400;
  SvgPage svg(kLeft + kW + 190, kTop + kH + 60);
  svg.Text(kLeft, 28, f.title, {.size = 14, .bold = true});
  if (f.points.empty()) return svg.Finish();
  Span x, y;
  Spans(f, &x, &y);
  const auto px = [&](double v) { return kLeft + x.Place(v) * kW; };
  const auto py = [&](double v) { return kTop + (1 - y.Place(v)) * kH; };
  svg.Rect(kLeft, kTop, kW, kH, "#FFFFFF", "#888888", 1);
  double last = -1e9;
  for (const double v : Values(f, true)) {
    svg.Line(px(v), kTop + kH, px(v), kTop + kH + 5, "#888888", 1);
    if (px(v) - last < 30) continue;
    last = px(v);
    svg.Text(px(v), kTop + kH + 19, Short(v), {.size = 11, .anchor = "middle"});
  }
  last = 1e9;
  for (const double v : Values(f, false)) {
    svg.Line(kLeft - 5, py(v), kLeft, py(v), "#888888", 1);
    if (last - py(v) < 14) continue;
    last = py(v);
    svg.Text(kLeft - 8, py(v) + 4, Short(v), {.size = 11, .anchor = "end"});
  }
  double labelled[2] = {-1e9, -1e9};
  for (const PlaneFigure::Line& line : f.lines) {
    std::vector<std::pair<double, double>> path;
    for (const auto& [vx, vy] : line.points) {
      if (x.Holds(vx) && y.Holds(vy)) path.emplace_back(px(vx), py(vy));
    }
    if (path.size() < 2) continue;
    const std::string colour = PaletteColor(line.family);
    svg.Path(path, colour, 1.4);
    // Parameters are named at the foot of their lines, FLOPs at the head.
    const auto [lx, ly] = line.family == 0 ? path.front() : path.back();
    if (std::abs(lx - labelled[line.family]) < 60) continue;
    labelled[line.family] = lx;
    svg.Text(lx + 4, ly + (line.family == 0 ? -6 : 12), line.label,
             {.size = 10, .fill = colour.c_str()});
  }
  for (const PlaneFigure::Point& p : f.points) {
    const double cx = px(p.x), cy = py(p.y), r = 4;
    if (p.fits) {
      svg.Rect(cx - r, cy - r, 2 * r, 2 * r, "#222222", "#FFFFFF", 1);
    } else {
      svg.Line(cx - r, cy - r, cx + r, cy + r, "#222222", 2);
      svg.Line(cx - r, cy + r, cx + r, cy - r, "#222222", 2);
    }
  }
  svg.Text(kLeft + kW / 2, kTop + kH + 44, f.x_label + " (log scale)", {.anchor = "middle"});
  svg.Text(24, kTop + kH / 2, f.y_label + " (log scale)", {.anchor = "middle", .rotate = -90});
  const char* const families[] = {"equal parameters", "equal FLOPs per token"};
  for (int family = 0; family < 2; ++family) {
    const double at = kTop + 14 + 20 * family;
    svg.Line(kLeft + kW + 16, at - 4, kLeft + kW + 40, at - 4, PaletteColor(family), 2);
    svg.Text(kLeft + kW + 46, at, families[family], {.size = 11});
  }
  svg.Rect(kLeft + kW + 24, kTop + 44, 8, 8, "#222222", "#FFFFFF", 1);
  svg.Text(kLeft + kW + 46, kTop + 53, "a cell", {.size = 11});
  const bool some =
      std::any_of(f.points.begin(), f.points.end(), [](const auto& p) { return !p.fits; });
  if (some) {
    svg.Line(kLeft + kW + 24, kTop + 66, kLeft + kW + 32, kTop + 74, "#222222", 2);
    svg.Line(kLeft + kW + 24, kTop + 74, kLeft + kW + 32, kTop + 66, "#222222", 2);
    svg.Text(kLeft + kW + 46, kTop + 74, "a cell that does not fit", {.size = 11});
  }
  return svg.Finish();
}

}  // namespace plumb::analysis
