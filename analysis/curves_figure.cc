#include <algorithm>
#include <cmath>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "analysis/figure.h"
#include "analysis/plot_scale.h"
#include "analysis/svg.h"

namespace plumb::analysis {
namespace {

PlotScale ScaleOf(const CurvesFigure& f) {
  PlotScale scale(f.log_x, f.log_y);
  for (const Curve& c : f.curves) {
    for (const auto& [x, y] : c.points) scale.Hold(x, y);
  }
  return scale;
}

std::vector<std::pair<int, std::string>> Groups(const CurvesFigure& f) {
  std::vector<std::pair<int, std::string>> out;
  std::set<int> seen;
  for (const Curve& c : f.curves) {
    if (seen.insert(c.group).second) out.emplace_back(c.group, c.label);
  }
  return out;
}

void AppendUtf8(uint32_t c, std::string* out) {
  out->push_back(static_cast<char>(0xE0 | (c >> 12)));
  out->push_back(static_cast<char>(0x80 | ((c >> 6) & 0x3F)));
  out->push_back(static_cast<char>(0x80 | (c & 0x3F)));
}

constexpr int kAnsi[] = {34, 31, 32, 35, 33, 36, 37, 94, 90};

}  // namespace

std::string Short(double v) {
  const double a = std::abs(v);
  static constexpr std::pair<double, const char*> kUnits[] = {{1e18, "E"}, {1e15, "P"}, {1e12, "T"},
                                                              {1e9, "G"},  {1e6, "M"},  {1e3, "k"}};
  for (const auto& [unit, letter] : kUnits) {
    if (a >= unit && (a >= 10000 || unit > 1e3)) return absl::StrFormat("%.3g%s", v / unit, letter);
  }
  if (v == std::floor(v)) return absl::StrFormat("%.0f", v);
  return absl::StrFormat("%.3g", v);
}

std::vector<std::pair<double, double>> Bucketed(
    const std::vector<std::pair<double, double>>& points, int buckets, bool log_x) {
  if (static_cast<int>(points.size()) <= 4 * buckets) return points;
  const auto place = [&](double x) { return log_x ? std::log(std::max(x, 1e-300)) : x; };
  const double low = place(points.front().first), high = place(points.back().first);
  std::vector<std::pair<double, double>> out;
  size_t i = 0;
  while (i < points.size()) {
    const auto bucket = [&](size_t k) {
      return high > low ? std::min(buckets - 1, static_cast<int>((place(points[k].first) - low) /
                                                                 (high - low) * buckets))
                        : 0;
    };
    const int b = bucket(i);
    size_t end = i, smallest = i, largest = i;
    for (; end < points.size() && bucket(end) == b; ++end) {
      if (points[end].second < points[smallest].second) smallest = end;
      if (points[end].second > points[largest].second) largest = end;
    }
    for (size_t k : std::set<size_t>{i, smallest, largest, end - 1}) out.push_back(points[k]);
    i = end;
  }
  return out;
}

std::string LineKey(int group, bool color) {
  return color ? absl::StrFormat("\x1b[%dm──\x1b[0m", kAnsi[group % 9]) : "--";
}

std::string Drawing(const CurvesFigure& f, const TerminalOptions& options) {
  const PlotScale scale = ScaleOf(f);
  std::string out = absl::StrCat(f.title, "\n");
  if (scale.empty()) return absl::StrCat(out, "(no points)\n");
  const int columns = std::max(20, std::min(options.width, 120) - 12), rows = 16;
  std::vector<uint8_t> dots(columns * rows, 0);
  std::vector<int> owner(columns * rows, -1);
  const auto plot = [&](double u, double v, int group) {  // u, v in [0, 1]
    const int px = static_cast<int>(std::lround(u * (2 * columns - 1))),
              py = static_cast<int>(std::lround((1 - v) * (4 * rows - 1)));
    if (px < 0 || py < 0 || px >= 2 * columns || py >= 4 * rows) return;
    static constexpr uint8_t kDot[4][2] = {
        {0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};  // Unicode's braille order
    const int cell = py / 4 * columns + px / 2;
    dots[cell] |= kDot[py % 4][px % 2];
    owner[cell] = group;
  };
  for (const Curve& c : f.curves) {
    const auto points = Bucketed(c.points, columns, f.log_x);
    for (size_t i = 0; i < points.size(); ++i) {
      const auto& [x, y] = points[i];
      if (!std::isfinite(y) || (f.log_x && x <= 0) || (f.log_y && y <= 0)) continue;
      plot(scale.X(x), scale.Y(y), c.group);
      if (i == 0 || !std::isfinite(points[i - 1].second) || (f.log_x && points[i - 1].first <= 0))
        continue;
      const double u0 = scale.X(points[i - 1].first), v0 = scale.Y(points[i - 1].second),
                   u1 = scale.X(x), v1 = scale.Y(y);
      const int n =
          static_cast<int>(std::max(std::abs(u1 - u0) * 2 * columns, std::abs(v1 - v0) * 4 * rows));
      for (int k = 1; k < n; ++k) plot(u0 + (u1 - u0) * k / n, v0 + (v1 - v0) * k / n, c.group);
    }
  }
  absl::StrAppend(&out, f.y_label, "\n");
  for (int row = 0; row < rows; ++row) {
    const double v = 1 - static_cast<double>(row) / (rows - 1);
    const double y = f.log_y ? scale.y_low() * std::pow(scale.y_high() / scale.y_low(), v)
                             : scale.y_low() + v * (scale.y_high() - scale.y_low());
    absl::StrAppend(
        &out, row % 5 == 0 || row == rows - 1 ? absl::StrFormat("%9.4g ", y) : std::string(10, ' '),
        "|");
    for (int column = 0; column < columns; ++column) {
      const int cell = row * columns + column;
      if (dots[cell] == 0) {
        out += ' ';
        continue;
      }
      if (options.color) absl::StrAppendFormat(&out, "\x1b[%dm", kAnsi[owner[cell] % 9]);
      AppendUtf8(0x2800 + dots[cell], &out);
      if (options.color) out += "\x1b[0m";
    }
    while (!out.empty() && out.back() == ' ') out.pop_back();
    out += '\n';
  }
  absl::StrAppend(&out, std::string(10, ' '), "+", std::string(columns, '-'), "\n");
  const std::string left = Short(scale.x_low()), right = Short(scale.x_high());
  const std::string middle = absl::StrCat(f.x_label, f.log_x ? " (log)" : "");
  const int room =
      std::max(2, columns - static_cast<int>(left.size() + right.size() + middle.size()));
  absl::StrAppend(&out, std::string(11, ' '), left, std::string(room / 2, ' '), middle,
                  std::string(room - room / 2, ' '), right, "\n");
  return out;
}

std::string Terminal(const CurvesFigure& f, const TerminalOptions& options) {
  std::string out = Drawing(f, options);
  if (ScaleOf(f).empty()) return out;
  // Which curve ends where, best first: readable without colour.
  struct End {
    std::string label;
    double y;
    int group;
    int n = 0;
  };
  std::vector<End> ends;
  for (const auto& [group, label] : Groups(f)) {
    End e{label, 0, group};
    for (const Curve& c : f.curves) {
      if (c.group == group && !c.points.empty() && std::isfinite(c.points.back().second))
        e.y += c.points.back().second, ++e.n;
    }
    if (e.n > 0) e.y /= e.n;
    ends.push_back(e);
  }
  std::sort(ends.begin(), ends.end(), [](const End& a, const End& b) { return a.y < b.y; });
  for (const End& e : ends) {
    absl::StrAppendFormat(&out, "  %s %-36s ends at %.4f (n=%d)\n", LineKey(e.group, options.color),
                          e.label, e.y, e.n);
  }
  return out;
}

std::string Svg(const CurvesFigure& f) {
  const PlotScale scale = ScaleOf(f);
  constexpr double kLeft = 80, kTop = 50, kW = 560, kH = 340;
  const auto groups = Groups(f);
  SvgPage svg(kLeft + kW + 220,
              std::max(kTop + kH + 70, kTop + 18.0 * static_cast<double>(groups.size()) + 30));
  svg.Text(20, 28, f.title, {.size = 16, .bold = true});
  svg.Rect(kLeft, kTop, kW, kH, "none", "#888888", 1);
  if (!scale.empty()) {
    const auto px = [&](double x) { return kLeft + kW * scale.X(x); };
    const auto py = [&](double y) { return kTop + kH * (1 - scale.Y(y)); };
    double last = -1e9;
    for (double t : Ticks(scale.x_low(), scale.x_high(), f.log_x)) {
      svg.Line(px(t), kTop, px(t), kTop + kH, "#E4E4E4", 0.8);
      if (px(t) - last < 36) continue;  // labels that would touch are left out, their lines stay
      last = px(t);
      svg.Text(px(t), kTop + kH + 18, Short(t), {.size = 11, .anchor = "middle"});
    }
    for (double t : Ticks(scale.y_low(), scale.y_high(), f.log_y)) {
      svg.Line(kLeft, py(t), kLeft + kW, py(t), "#E4E4E4", 0.8);
      svg.Text(kLeft - 6, py(t) + 4, absl::StrFormat("%.4g", t), {.size = 11, .anchor = "end"});
    }
    for (const Curve& c : f.curves) {
      std::vector<std::pair<double, double>> line;
      for (const auto& [x, y] : Bucketed(c.points, 400, f.log_x)) {
        if ((f.log_x && x <= 0) || (f.log_y && y <= 0)) continue;
        line.emplace_back(px(x), std::isfinite(y) ? py(y) : y);
      }
      svg.Path(line, PaletteColor(c.group), 1.6);
    }
  }
  svg.Text(kLeft + kW / 2, kTop + kH + 42, absl::StrCat(f.x_label, f.log_x ? " (log scale)" : ""),
           {.anchor = "middle"});
  svg.Text(24, kTop + kH / 2, absl::StrCat(f.y_label, f.log_y ? " (log scale)" : ""),
           {.anchor = "middle", .rotate = -90});
  double y = kTop + 12;
  for (const auto& [group, label] : groups) {
    int n = 0;
    for (const Curve& c : f.curves) n += c.group == group;
    svg.Line(kLeft + kW + 16, y - 4, kLeft + kW + 40, y - 4, PaletteColor(group), 3);
    svg.Text(kLeft + kW + 46, y, absl::StrFormat("%s (n=%d)", label, n), {.size = 11});
    y += 18;
  }
  return svg.Finish();
}

std::string Csv(const CurvesFigure& f) {
  std::string out = "curve,group,line,x,y\n";
  for (size_t line = 0; line < f.curves.size(); ++line) {
    const Curve& c = f.curves[line];
    for (const auto& [x, y] : c.points) {
      absl::StrAppend(&out, "\"", c.label, "\",", c.group, ",", line, ",",
                      absl::StrFormat("%.10g", x), ",",
                      std::isfinite(y) ? absl::StrFormat("%.10g", y) : "", "\n");
    }
  }
  return out;
}

}  // namespace plumb::analysis
