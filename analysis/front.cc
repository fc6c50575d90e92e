#include "analysis/front.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "analysis/plot_scale.h"
#include "analysis/svg.h"
#include "analysis/text.h"

namespace plumb::analysis {
namespace {

// An axis of the picture: from the values that it is to hold.
class Scale {
 public:
  explicit Scale(const std::vector<double>& values) {
    const auto [low, high] = std::minmax_element(values.begin(), values.end());
    logarithmic_ = *low > 0 && *high / *low > 30;
    low_ = Place(*low), high_ = Place(*high);
    const double margin =
        high_ > low_ ? 0.05 * (high_ - low_) : std::max(1e-9, std::abs(low_) / 10);
    low_ -= margin, high_ += margin;
  }
  double operator()(double value) const { return (Place(value) - low_) / (high_ - low_); }
  double At(double part) const {
    const double v = low_ + part * (high_ - low_);
    return logarithmic_ ? std::exp(v) : v;
  }
  bool logarithmic() const { return logarithmic_; }

 private:
  double Place(double v) const { return logarithmic_ ? std::log(v) : v; }
  bool logarithmic_ = false;
  double low_ = 0, high_ = 1;
};

std::vector<double> Values(const FrontFigure& f, size_t objective) {
  std::vector<double> out;
  for (const FrontPoint& p : f.points) out.push_back(p.values[objective]);
  return out;
}

std::string Name(const FrontFigure& f, size_t objective) {
  return absl::StrCat(f.objectives[objective], f.maximize[objective] ? " (more is better)" : "");
}

int64_t OnFront(const FrontFigure& f) {
  return std::count_if(f.points.begin(), f.points.end(),
                       [](const FrontPoint& p) { return p.on_front; });
}

}  // namespace

std::vector<bool> NotDominated(const std::vector<std::vector<double>>& values,
                               const std::vector<bool>& maximize) {
  const auto better = [&](double a, double b, size_t i) { return maximize[i] ? a > b : a < b; };
  const auto dominates = [&](const std::vector<double>& a, const std::vector<double>& b) {
    bool any = false;
    for (size_t i = 0; i < a.size(); ++i) {
      if (better(b[i], a[i], i)) return false;
      any |= better(a[i], b[i], i);
    }
    return any;
  };
  // In the order of the first objective, then the others, whoever dominates a point comes before
  // it, and of those the front is enough.
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    for (size_t i = 0; i < maximize.size(); ++i) {
      if (values[a][i] != values[b][i]) return better(values[a][i], values[b][i], i);
    }
    return a < b;
  });
  std::vector<bool> out(values.size());
  std::vector<size_t> front;
  for (const size_t p : order) {
    out[p] = std::none_of(front.begin(), front.end(),
                          [&](size_t q) { return dominates(values[q], values[p]); });
    if (out[p]) front.push_back(p);
  }
  return out;
}

void Sort(FrontFigure* f) {
  std::vector<std::vector<double>> values;
  for (const FrontPoint& p : f->points) values.push_back(p.values);
  const std::vector<bool> front = NotDominated(values, f->maximize);
  for (size_t i = 0; i < f->points.size(); ++i) f->points[i].on_front = front[i];
  std::stable_sort(f->points.begin(), f->points.end(),
                   [&](const FrontPoint& a, const FrontPoint& b) {
                     if (a.on_front != b.on_front) return a.on_front;
                     return f->maximize[0] ? a.values[0] > b.values[0] : a.values[0] < b.values[0];
                   });
}

std::string Terminal(const FrontFigure& f, const TerminalOptions& options) {
  std::string out = absl::StrCat(f.title, "\n");
  std::vector<std::vector<std::string>> rows = {{"cell"}};
  for (size_t i = 0; i < f.objectives.size(); ++i) rows[0].push_back(Name(f, i));
  rows[0].push_back("n");
  for (const FrontPoint& p : f.points) {
    if (!p.on_front) break;
    rows.push_back({p.cell});
    for (double v : p.values) rows.back().push_back(absl::StrFormat("%.6g", v));
    rows.back().push_back(absl::StrCat(p.n));
  }
  std::vector<int> widths(rows[0].size());
  for (const auto& row : rows) {
    for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], Columns(row[c]));
  }
  for (const auto& row : rows) {
    std::string line;
    for (size_t c = 0; c < row.size(); ++c) {
      const std::string room(static_cast<size_t>(widths[c] - Columns(row[c])), ' ');
      absl::StrAppend(&line, c == 0 ? "" : "  ", c == 0 ? row[c] + room : room + row[c]);
    }
    absl::StrAppend(&out, line, "\n");
  }
  absl::StrAppend(&out, OnFront(f), " of ", f.points.size(),
                  " cells are beaten by none in everything; means over n replicates\n");
  for (const std::string& note : f.notes) {
    for (const std::string& line : Wrapped(note, static_cast<size_t>(std::max(40, options.width))))
      absl::StrAppend(&out, line, "\n");
  }
  return out;
}

std::string Svg(const FrontFigure& f) {
  constexpr double kLeft = 90, kTop = 50, kW = 560, kH = 360;
  // The cells of the front, by number where they are drawn.
  constexpr size_t kNamed = 12;
  std::vector<std::string> named;
  for (const FrontPoint& p : f.points) {
    if (!p.on_front || named.size() == kNamed) break;
    named.push_back(absl::StrCat(named.size() + 1, "  ", p.cell));
    for (const double v : p.values) absl::StrAppendFormat(&named.back(), "; %.6g", v);
  }
  if (static_cast<size_t>(OnFront(f)) > named.size())
    named.push_back(absl::StrCat("and ", static_cast<size_t>(OnFront(f)) - named.size(), " more"));
  SvgPage svg(kLeft + kW + 30,
              kTop + kH + 80 + 16.0 * static_cast<double>(f.notes.size() + named.size()));
  svg.Text(20, 28, f.title, {.size = 16, .bold = true});
  svg.Rect(kLeft, kTop, kW, kH, "none", "#888888", 1);
  const size_t across = f.objectives.size() > 1 ? 1 : 0;
  std::string x_label = Name(f, across), y_label = Name(f, 0);
  if (!f.points.empty()) {
    const Scale x(Values(f, across)), y(Values(f, 0));
    const auto px = [&](double v) { return kLeft + kW * x(v); };
    const auto py = [&](double v) { return kTop + kH * (1 - y(v)); };
    double last = -1e9;
    for (const double t : Ticks(x.At(0), x.At(1), x.logarithmic())) {
      svg.Line(px(t), kTop, px(t), kTop + kH, "#E4E4E4", 0.8);
      if (px(t) - last < 36) continue;  // labels that would touch are left out, their lines stay
      last = px(t);
      svg.Text(px(t), kTop + kH + 18, Short(t), {.size = 11, .anchor = "middle"});
    }
    for (const double t : Ticks(y.At(0), y.At(1), y.logarithmic())) {
      svg.Line(kLeft, py(t), kLeft + kW, py(t), "#E4E4E4", 0.8);
      svg.Text(kLeft - 6, py(t) + 4, absl::StrFormat("%.4g", t), {.size = 11, .anchor = "end"});
    }
    if (x.logarithmic()) x_label += ", log scale";
    if (y.logarithmic()) y_label += ", log scale";
    // Of two objectives the front is a staircase: what lies beyond it is beaten by a corner.
    std::vector<std::pair<double, double>> stairs;
    for (const FrontPoint& p : f.points) {
      if (!p.on_front || f.objectives.size() != 2) break;
      if (!stairs.empty()) stairs.emplace_back(stairs.back().first, py(p.values[0]));
      stairs.emplace_back(px(p.values[1]), py(p.values[0]));
    }
    // It goes on beyond its ends: what costs more than the dearest of it is beaten by that one.
    if (!stairs.empty()) {
      const auto edge = [](bool maximize, double least, double most) {
        return maximize ? least : most;
      };
      stairs.insert(stairs.begin(),
                    {edge(f.maximize[1], kLeft, kLeft + kW), stairs.front().second});
      stairs.emplace_back(stairs.back().first, edge(f.maximize[0], kTop + kH, kTop));
    }
    size_t number = 0;
    for (const bool front : {false, true}) {
      if (front && stairs.size() > 1) svg.Path(stairs, PaletteColor(0), 1.6);
      for (const FrontPoint& p : f.points) {
        if (p.on_front != front) continue;
        const double size = front ? 8 : 5;
        svg.Rect(px(p.values[across]) - size / 2, py(p.values[0]) - size / 2, size, size,
                 front ? PaletteColor(0) : "#BBBBBB", "none", 0);
        if (front && ++number <= kNamed)
          svg.Text(px(p.values[across]) + 6, py(p.values[0]) - 6, absl::StrCat(number),
                   {.size = 10});
      }
    }
  }
  svg.Text(kLeft + kW / 2, kTop + kH + 42, x_label, {.anchor = "middle"});
  svg.Text(24, kTop + kH / 2, y_label, {.anchor = "middle", .rotate = -90});
  double line = kTop + kH + 62;
  svg.Text(kLeft, line,
           absl::StrCat(OnFront(f), " of ", f.points.size(),
                        " cells, large, are beaten by none in everything",
                        f.objectives.size() > 2 ? absl::StrCat(" of ", f.objectives.size(),
                                                               " objectives; two are drawn")
                                                : ""),
           {.size = 11});
  for (const std::string& cell : named) svg.Text(kLeft, line += 16, cell, {.size = 11});
  for (const std::string& note : f.notes) svg.Text(kLeft, line += 16, note, {.size = 11});
  return svg.Finish();
}

std::string Csv(const FrontFigure& f) {
  std::string out = "cell";
  for (const std::string& o : f.objectives) absl::StrAppend(&out, ",", CsvField(o));
  absl::StrAppend(&out, ",n,on_front\n");
  for (const FrontPoint& p : f.points) {
    absl::StrAppend(&out, CsvField(p.cell));
    for (double v : p.values) absl::StrAppend(&out, ",", absl::StrFormat("%.10g", v));
    absl::StrAppend(&out, ",", p.n, ",", p.on_front ? 1 : 0, "\n");
  }
  return out;
}

}  // namespace plumb::analysis
