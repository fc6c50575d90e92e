#include <algorithm>
#include <cmath>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "analysis/figure.h"
#include "analysis/plot_scale.h"
#include "analysis/svg.h"
#include "analysis/text.h"

namespace plumb::analysis {
namespace {

// What keeps a cell from being compared, in a few words; "": nothing.
std::string Trouble(const CellResult& c) {
  if (c.diverged > 0) return absl::StrCat(c.diverged, " of ", c.replicates, " diverged");
  if (static_cast<int64_t>(c.values.size()) < c.replicates)
    return absl::StrCat(c.values.size(), " of ", c.replicates, " done");
  return "";
}

// Cells with diverged runs have a median, never the survivors' mean.
std::optional<double> Middle(const CellResult& c, const CellReading& r, bool maximize) {
  if (c.values.empty()) return std::nullopt;
  if (c.diverged == 0) return r.value.mean;
  std::vector<double> v(static_cast<size_t>(c.diverged), maximize ? -INFINITY : INFINITY);
  for (const auto& [replicate, value] : c.values) v.push_back(value);
  std::sort(v.begin(), v.end());
  const double m = v[v.size() / 2];
  if (!std::isfinite(m)) return std::nullopt;
  return m;
}

bool HasInterval(const CellResult& c, const CellReading& r) {
  return c.diverged == 0 && r.value.n >= 2 && std::isfinite(r.value.low);
}

const char* Mark(const CellReading& r) { return r.best ? "*" : r.with_best ? "~" : ""; }

std::vector<std::string> Paragraphs(const ProfileFigure& f) {
  std::vector<std::string> out;
  for (const ProfileFigure::Line& line : f.lines) {
    std::string text =
        absl::StrCat(line.label.empty() ? "" : line.label + ": ", line.reading.sentence);
    if (line.reading.noise) {
      const Noise& noise = *line.reading.noise;
      absl::StrAppendFormat(
          &text, " A/A: %d cell%s again on other seeds: means %.4f apart (%.4f expected of seeds).",
          static_cast<int>(noise.cells), noise.cells == 1 ? "" : "s",
          noise.mean_absolute_difference, noise.difference_sd * std::sqrt(2 / M_PI));
    }
    out.push_back(std::move(text));
  }
  std::vector<std::string> flags;
  for (const ProfileFigure::Line& line : f.lines) {
    for (const CellResult& c : line.cells) {
      for (const std::string& flag : c.flags) {
        if (std::find(flags.begin(), flags.end(), flag) == flags.end()) flags.push_back(flag);
      }
    }
  }
  for (const std::string& flag : flags) {
    std::vector<std::string> cells;
    size_t all = 0;
    for (const ProfileFigure::Line& line : f.lines) {
      for (const CellResult& c : line.cells) {
        ++all;
        if (std::find(c.flags.begin(), c.flags.end(), flag) != c.flags.end())
          cells.push_back(c.name);
      }
    }
    out.push_back(absl::StrCat(
        "Flag ", flag, ": ", cells.size() == all ? "every cell" : absl::StrJoin(cells, "; "), "."));
  }
  out.insert(out.end(), f.notes.begin(), f.notes.end());
  return out;
}

}  // namespace

std::string Terminal(const ProfileFigure& f, const TerminalOptions& options) {
  CurvesFigure curves{
      .title = f.title, .x_label = f.x_label, .y_label = f.metric, .log_x = f.log_x};
  std::vector<double> xs;
  for (size_t i = 0; i < f.lines.size(); ++i) {
    Curve curve{.label = f.lines[i].label, .group = static_cast<int>(i)};
    for (size_t k = 0; k < f.lines[i].cells.size(); ++k) {
      const CellResult& c = f.lines[i].cells[k];
      if (std::find(xs.begin(), xs.end(), c.x) == xs.end()) xs.push_back(c.x);
      if (const auto y = Middle(c, f.lines[i].reading.cells[k], f.lines[i].reading.maximize))
        curve.points.emplace_back(c.x, *y);
    }
    curves.curves.push_back(std::move(curve));
  }
  std::sort(xs.begin(), xs.end());
  std::string out = Drawing(curves, options);

  std::vector<std::vector<std::string>> rows = {{f.x_label}};
  for (double x : xs) rows[0].push_back(Short(x));
  for (const ProfileFigure::Line& line : f.lines) {
    std::vector<std::string> row = {line.label.empty() ? f.metric : line.label};
    for (double x : xs) {
      std::string text = "-";
      for (size_t k = 0; k < line.cells.size(); ++k) {
        const CellResult& c = line.cells[k];
        const CellReading& r = line.reading.cells[k];
        if (c.x != x) continue;
        const auto middle = Middle(c, r, line.reading.maximize);
        text = middle ? absl::StrFormat("%.4f", *middle) : "-";
        if (HasInterval(c, r)) absl::StrAppendFormat(&text, " ±%.4f", r.value.mean - r.value.low);
        text += Mark(r);
        if (const std::string trouble = Trouble(c); !trouble.empty())
          absl::StrAppend(&text, " (", trouble, ")");
      }
      row.push_back(text);
    }
    rows.push_back(std::move(row));
  }
  std::vector<int> width(rows[0].size(), 0);
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) width[i] = std::max(width[i], Columns(row[i]));
  }
  for (size_t line = 0; line < rows.size(); ++line) {
    const std::vector<std::string>& row = rows[line];
    std::string text =
        line == 0 ? "     "
                  : absl::StrCat("  ", LineKey(static_cast<int>(line) - 1, options.color), " ");
    for (size_t i = 0; i < row.size(); ++i) {
      absl::StrAppend(&text, i ? "  " : "", row[i],
                      std::string(static_cast<size_t>(width[i] - Columns(row[i])), ' '));
    }
    text.erase(text.find_last_not_of(' ') + 1);
    absl::StrAppend(&out, text, "\n");
  }
  const double level = f.lines.empty() ? 0.9 : f.lines[0].reading.level;
  const bool maximize = !f.lines.empty() && f.lines[0].reading.maximize;
  std::vector<std::string> paragraphs = {absl::StrFormat(
      "± is a %.0f %% t interval over seeds; * the %s of a line, ~ not to be told from it.",
      100 * level, maximize ? "highest" : "lowest")};
  for (std::string& p : Paragraphs(f)) paragraphs.push_back(std::move(p));
  for (const std::string& p : paragraphs) {
    absl::StrAppend(
        &out, absl::StrJoin(Wrapped(p, static_cast<size_t>(std::max(40, options.width))), "\n"),
        "\n");
  }
  return out;
}

std::string Svg(const ProfileFigure& f) {
  constexpr double kLeft = 84, kTop = 50, kW = 560, kH = 360;
  PlotScale scale(f.log_x, false);
  for (const ProfileFigure::Line& line : f.lines) {
    for (size_t k = 0; k < line.cells.size(); ++k) {
      const CellReading& r = line.reading.cells[k];
      if (const auto y = Middle(line.cells[k], r, line.reading.maximize))
        scale.Hold(line.cells[k].x, *y);
      if (HasInterval(line.cells[k], r)) {
        scale.Hold(line.cells[k].x, r.value.low);
        scale.Hold(line.cells[k].x, r.value.high);
      }
    }
  }
  int64_t longest = 0;
  for (const ProfileFigure::Line& line : f.lines)
    longest = std::max<int64_t>(longest, Columns(line.label));
  const double page = kLeft + kW + std::max(260.0, 66 + 6.6 * static_cast<double>(longest));
  std::vector<std::string> text;
  const double level = f.lines.empty() ? 0.9 : f.lines[0].reading.level;
  const bool maximize = !f.lines.empty() && f.lines[0].reading.maximize;
  std::vector<std::string> paragraphs = {absl::StrFormat(
      "Bars: %.0f %% t intervals over seeds. Filled: %s of its line, or not to be told from it "
      "(the %s is larger). Open: worse.",
      100 * level, maximize ? "highest" : "lowest", maximize ? "highest" : "lowest")};
  for (std::string& p : Paragraphs(f)) paragraphs.push_back(std::move(p));
  for (const std::string& p : paragraphs) {
    for (std::string& l : Wrapped(p, static_cast<size_t>((page - 40) / 6.0)))
      text.push_back(std::move(l));
  }
  SvgPage svg(page, kTop + kH + 64 + 16 * static_cast<double>(text.size()) + 12);
  svg.Text(20, 28, f.title, {.size = 16, .bold = true});
  svg.Rect(kLeft, kTop, kW, kH, "none", "#888888", 1);
  // Room at the sides, so that no marker lies on the frame.
  const auto px = [&](double x) { return kLeft + kW * (0.05 + 0.9 * scale.X(x)); };
  const auto py = [&](double y) { return kTop + kH * (0.95 - 0.9 * scale.Y(y)); };
  if (!scale.empty()) {
    std::vector<double> xs;
    for (const ProfileFigure::Line& line : f.lines) {
      for (const CellResult& c : line.cells) xs.push_back(c.x);
    }
    std::sort(xs.begin(), xs.end());
    xs.erase(std::unique(xs.begin(), xs.end()), xs.end());
    double last = -1e9;
    for (double t : xs.size() <= 12 ? xs : Ticks(scale.x_low(), scale.x_high(), f.log_x)) {
      svg.Line(px(t), kTop, px(t), kTop + kH, "#ECECEC", 0.8);
      if (px(t) - last < 30) continue;
      last = px(t);
      svg.Text(px(t), kTop + kH + 18, Short(t), {.size = 11, .anchor = "middle"});
    }
    for (double t : Ticks(scale.y_low(), scale.y_high(), false)) {
      svg.Line(kLeft, py(t), kLeft + kW, py(t), "#ECECEC", 0.8);
      svg.Text(kLeft - 6, py(t) + 4, absl::StrFormat("%.4g", t), {.size = 11, .anchor = "end"});
    }
  }
  for (size_t i = 0; i < f.lines.size(); ++i) {
    const ProfileFigure::Line& line = f.lines[i];
    const std::string color = PaletteColor(static_cast<int>(i));
    // Intervals of lines side by side, where they would cover each other.
    const double shift =
        5 * (static_cast<double>(i) - (static_cast<double>(f.lines.size()) - 1) / 2);
    std::vector<std::pair<double, double>> path;
    for (size_t k = 0; k < line.cells.size(); ++k) {
      if (const auto y = Middle(line.cells[k], line.reading.cells[k], line.reading.maximize))
        path.emplace_back(px(line.cells[k].x) + shift, py(*y));
    }
    svg.Path(path, color, 1.6);
    for (size_t k = 0; k < line.cells.size(); ++k) {
      const CellResult& c = line.cells[k];
      const CellReading& r = line.reading.cells[k];
      const auto y = Middle(c, r, line.reading.maximize);
      if (!y) continue;
      const double x = px(c.x) + shift;
      if (HasInterval(c, r)) {
        svg.Line(x, py(r.value.low), x, py(r.value.high), color, 1.4);
        for (double end : {r.value.low, r.value.high})
          svg.Line(x - 4, py(end), x + 4, py(end), color, 1.4);
      }
      const double half = r.best ? 6 : 4;
      svg.Rect(x - half, py(*y) - half, 2 * half, 2 * half, r.with_best ? color : "#FFFFFF", color,
               1.6);
      if (const std::string trouble = Trouble(c); !trouble.empty())
        svg.Text(x + 8, py(*y) - 6, trouble, {.size = 10, .fill = "#AA3333"});
    }
    const double at = kTop + 12 + 18 * static_cast<double>(i);
    svg.Line(kLeft + kW + 16, at - 4, kLeft + kW + 40, at - 4, color, 3);
    svg.Text(kLeft + kW + 46, at, line.label, {.size = 11});
  }
  svg.Text(kLeft + kW / 2, kTop + kH + 42, absl::StrCat(f.x_label, f.log_x ? " (log scale)" : ""),
           {.anchor = "middle"});
  svg.Text(24, kTop + kH / 2, f.metric, {.anchor = "middle", .rotate = -90});
  double y = kTop + kH + 66;
  for (const std::string& l : text) svg.Text(20, y, l, {.size = 11.5}), y += 16;
  return svg.Finish();
}

std::string Csv(const ProfileFigure& f) {
  std::string out =
      "line,cell,x,n,diverged,mean,low,high,best,with_best,params_total,params_non_embedding,flops,"
      "tokens,flags\n";
  for (const ProfileFigure::Line& line : f.lines) {
    for (size_t k = 0; k < line.cells.size(); ++k) {
      const CellResult& c = line.cells[k];
      const CellReading& r = line.reading.cells[k];
      const bool interval = HasInterval(c, r);
      const auto number = [](bool there, double v) {
        return there ? absl::StrFormat("%.10g", v) : std::string();
      };
      absl::StrAppend(&out, CsvField(line.label), ",", CsvField(c.name), ",",
                      absl::StrFormat("%.10g", c.x), ",", c.values.size(), ",", c.diverged, ",",
                      number(c.diverged == 0 && !c.values.empty(), r.value.mean), ",",
                      number(interval, r.value.low), ",", number(interval, r.value.high), ",");
      absl::StrAppend(&out, r.best ? 1 : 0, ",", r.with_best ? 1 : 0, ",", c.params_total, ",",
                      c.params_non_embedding, ",", absl::StrFormat("%.10g", c.flops), ",", c.tokens,
                      ",", CsvField(absl::StrJoin(c.flags, " ")), "\n");
    }
  }
  return out;
}

}  // namespace plumb::analysis
