#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "analysis/figure.h"
#include "analysis/plot_scale.h"
#include "analysis/svg.h"
#include "analysis/text.h"

namespace plumb::analysis {
namespace {

// All that has to be seen of one axis, with a margin.
class Axis {
 public:
  explicit Axis(bool log) : log_(log) {}
  void See(double v) {
    if (!std::isfinite(v) || (log_ && v <= 0)) return;
    low = std::min(low, v), high = std::max(high, v);
  }
  void Settle() {
    if (!(low <= high)) low = log_ ? 1 : 0, high = 1;
    if (log_) {
      const double margin = low == high ? 2 : std::pow(high / low, 0.06);
      low /= margin, high *= margin;
    } else {
      const double margin = low == high ? std::max(0.5, std::abs(low) / 2) : 0.06 * (high - low);
      low -= margin, high += margin;
    }
  }
  double Place(double v) const {
    const double at =
        log_ ? std::log(std::max(v, low) / low) / std::log(high / low) : (v - low) / (high - low);
    return std::clamp(at, 0.0, 1.0);
  }
  double At(double place) const {
    return log_ ? low * std::pow(high / low, place) : low + place * (high - low);
  }
  double low = std::numeric_limits<double>::infinity(), high = -low;

 private:
  bool log_;
};

struct Frame {
  Axis x, y{false};
  explicit Frame(const PointsFigure& f) : x(f.log_x) {
    for (const PointsFigure::Point& p : f.points) {
      for (double v : {p.x, p.x_low, p.x_high}) x.See(v);
      for (double v : {p.y, p.y_low, p.y_high}) y.See(v);
    }
    x.Settle(), y.Settle();
  }
};

double End(double v, double otherwise) { return std::isfinite(v) ? v : otherwise; }

// "0.0123 [0.0101, 0.0145]"
std::string Value(double mean, double low, double high) {
  const auto text = [](double v) {
    return std::abs(v) >= 10000 ? Short(v) : absl::StrFormat("%.4g", v);
  };
  if (!std::isfinite(low) || !std::isfinite(high)) return text(mean);
  return absl::StrCat(text(mean), " [", text(low), ", ", text(high), "]");
}

constexpr int kAnsi[] = {34, 31, 32, 35, 33, 36, 37, 94, 90};

}  // namespace

std::string Terminal(const PointsFigure& f, const TerminalOptions& options) {
  std::string out = absl::StrCat(f.title, "\n");
  if (f.points.empty()) return absl::StrCat(out, "(no points)\n");
  const Frame frame(f);
  const int columns = std::max(20, std::min(options.width, 120) - 12), rows = 16;
  // A letter for each point, with its intervals as lines.
  std::vector<std::string> page(rows, std::string(columns, ' '));
  std::vector<int> owner(rows * columns, -1);
  const auto column = [&](double x) {
    return static_cast<int>(std::lround(frame.x.Place(x) * (columns - 1)));
  };
  const auto row = [&](double y) {
    return static_cast<int>(std::lround((1 - frame.y.Place(y)) * (rows - 1)));
  };
  const auto put = [&](int r, int c, char what, int who) {
    page[r][c] = what;
    owner[r * columns + c] = who;
  };
  for (size_t i = 0; i < f.points.size(); ++i) {
    const PointsFigure::Point& p = f.points[i];
    const int who = static_cast<int>(i);
    for (int c = column(End(p.x_low, p.x)); c <= column(End(p.x_high, p.x)); ++c)
      put(row(p.y), c, '-', who);
    for (int r = row(End(p.y_high, p.y)); r <= row(End(p.y_low, p.y)); ++r)
      put(r, column(p.x), '|', who);
  }
  for (size_t i = 0; i < f.points.size(); ++i) {
    const PointsFigure::Point& p = f.points[i];
    put(row(p.y), column(p.x), static_cast<char>('A' + i % 26), static_cast<int>(i));
  }
  absl::StrAppend(&out, f.y_label, "\n");
  for (int r = 0; r < rows; ++r) {
    const double y = frame.y.At(1 - static_cast<double>(r) / (rows - 1));
    absl::StrAppend(
        &out, r % 5 == 0 || r == rows - 1 ? absl::StrFormat("%9.4g ", y) : std::string(10, ' '),
        "|");
    for (int c = 0; c < columns; ++c) {
      const int who = owner[r * columns + c];
      if (options.color && who >= 0) absl::StrAppendFormat(&out, "\x1b[%dm", kAnsi[who % 9]);
      out += page[r][c];
      if (options.color && who >= 0) out += "\x1b[0m";
    }
    while (!out.empty() && out.back() == ' ') out.pop_back();
    out += '\n';
  }
  absl::StrAppend(&out, std::string(10, ' '), "+", std::string(columns, '-'), "\n");
  const std::string left = Short(frame.x.low), right = Short(frame.x.high);
  const std::string middle = absl::StrCat(f.x_label, f.log_x ? " (log)" : "");
  const int room =
      std::max(2, columns - static_cast<int>(left.size() + right.size() + middle.size()));
  absl::StrAppend(&out, std::string(11, ' '), left, std::string(room / 2, ' '), middle,
                  std::string(room - room / 2, ' '), right, "\n");
  size_t widest = 0;
  for (const PointsFigure::Point& p : f.points) widest = std::max(widest, p.label.size());
  for (size_t i = 0; i < f.points.size(); ++i) {
    const PointsFigure::Point& p = f.points[i];
    absl::StrAppend(&out, "  ", std::string(1, static_cast<char>('A' + i % 26)), "  ", p.label,
                    std::string(widest - p.label.size() + 2, ' '), Value(p.y, p.y_low, p.y_high),
                    " at ", Value(p.x, p.x_low, p.x_high), "\n");
  }
  return out;
}

std::string Svg(const PointsFigure& f) {
  const Frame frame(f);
  constexpr double kLeft = 90, kTop = 50, kW = 560, kH = 340;
  SvgPage svg(kLeft + kW + 200, kTop + kH + 70);
  svg.Text(20, 28, f.title, {.size = 16, .bold = true});
  svg.Rect(kLeft, kTop, kW, kH, "none", "#888888", 1);
  const auto px = [&](double x) { return kLeft + kW * frame.x.Place(x); };
  const auto py = [&](double y) { return kTop + kH * (1 - frame.y.Place(y)); };
  for (double t : Ticks(frame.x.low, frame.x.high, f.log_x)) {
    svg.Line(px(t), kTop, px(t), kTop + kH, "#E4E4E4", 0.8);
    svg.Text(px(t), kTop + kH + 18, Short(t), {.size = 11, .anchor = "middle"});
  }
  for (double t : Ticks(frame.y.low, frame.y.high, false)) {
    svg.Line(kLeft, py(t), kLeft + kW, py(t), "#E4E4E4", 0.8);
    svg.Text(kLeft - 6, py(t) + 4, absl::StrFormat("%.4g", t), {.size = 11, .anchor = "end"});
  }
  double legend = kTop + 12;
  for (size_t i = 0; i < f.points.size(); ++i) {
    const PointsFigure::Point& p = f.points[i];
    const std::string color = PaletteColor(static_cast<int>(i));
    svg.Line(px(End(p.x_low, p.x)), py(p.y), px(End(p.x_high, p.x)), py(p.y), color, 1.6);
    svg.Line(px(p.x), py(End(p.y_low, p.y)), px(p.x), py(End(p.y_high, p.y)), color, 1.6);
    svg.Rect(px(p.x) - 4, py(p.y) - 4, 8, 8, color, "#ffffff", 1);
    svg.Rect(kLeft + kW + 18, legend - 9, 9, 9, color, "#ffffff", 1);
    svg.Text(kLeft + kW + 34, legend, p.label, {.size = 12});
    legend += 18;
  }
  svg.Text(kLeft + kW / 2, kTop + kH + 42, absl::StrCat(f.x_label, f.log_x ? " (log scale)" : ""),
           {.anchor = "middle"});
  svg.Text(24, kTop + kH / 2, f.y_label, {.anchor = "middle", .rotate = -90});
  return svg.Finish();
}

std::string Csv(const PointsFigure& f) {
  std::string out = "label,x,x_low,x_high,y,y_low,y_high\n";
  for (const PointsFigure::Point& p : f.points) {
    absl::StrAppend(&out, CsvField(p.label));
    for (double v : {p.x, p.x_low, p.x_high, p.y, p.y_low, p.y_high})
      absl::StrAppend(&out, ",", std::isfinite(v) ? absl::StrFormat("%.10g", v) : "");
    out += '\n';
  }
  return out;
}

}  // namespace plumb::analysis
