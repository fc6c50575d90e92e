#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "analysis/figure.h"
#include "analysis/svg.h"
#include "analysis/text.h"

namespace plumb::analysis {
namespace {

// Where the cells lie: distinct axis values in order, y from the largest down.
struct Grid {
  std::vector<double> xs, ys;
  explicit Grid(const std::vector<CellResult>& cells) {
    std::set<double> x, y;
    for (const CellResult& c : cells) x.insert(c.x), y.insert(c.y);
    xs.assign(x.begin(), x.end());
    ys.assign(y.rbegin(), y.rend());
  }
  static std::optional<size_t> Find(const std::vector<CellResult>& cells, double x, double y) {
    for (size_t i = 0; i < cells.size(); ++i) {
      if (cells[i].x == x && cells[i].y == y) return i;
    }
    return std::nullopt;
  }
};

// Half the range of the replicates: what a reader sees of the spread when n is 2 or 3.
double HalfRange(const CellResult& c) {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const auto& [replicate, v] : c.values) low = std::min(low, v), high = std::max(high, v);
  return c.values.size() < 2 ? 0 : (high - low) / 2;
}

std::string ValueText(const CellResult& c, const CellReading& r) {
  if (c.values.empty()) return c.diverged > 0 ? "diverged" : "-";
  return absl::StrFormat(c.values.size() < 2 ? "%.4f" : "%.4f ±%.4f", r.value.mean, HalfRange(c));
}
std::string CountText(const CellResult& c) {
  if (c.diverged > 0)
    return absl::StrFormat("%d of %d diverged", static_cast<int>(c.diverged),
                           static_cast<int>(c.replicates));
  if (static_cast<int64_t>(c.values.size()) < c.replicates)
    return absl::StrFormat("%d of %d", static_cast<int>(c.values.size()),
                           static_cast<int>(c.replicates));
  return absl::StrFormat("n=%d", static_cast<int>(c.values.size()));
}

std::string Mark(const CellReading& r) { return r.best ? "*" : r.with_best ? "~" : " "; }

std::string Centered(const std::string& s, int columns, int width) {
  const int room = std::max(0, width - columns);
  return absl::StrCat(std::string(room / 2, ' '), s, std::string(room - room / 2, ' '));
}
std::string Centered(const std::string& s, int width) { return Centered(s, Columns(s), width); }

std::pair<double, double> Range(const MapFigure& f) {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (size_t i = 0; i < f.cells.size(); ++i) {
    if (f.cells[i].values.empty() || f.cells[i].diverged > 0) continue;
    low = std::min(low, f.reading.cells[i].value.mean),
    high = std::max(high, f.reading.cells[i].value.mean);
  }
  return {low, high};
}

// From 0, the best of all, to 1, the worst.
double Worse(const MapFigure& f, double value, double low, double high) {
  if (!(high > low)) return 0;
  const double t = (value - low) / (high - low);
  return f.reading.maximize ? 1 - t : t;
}

std::string Background(double t) {  // grey ramp of the 256-colour cube, better is brighter
  return absl::StrFormat("\x1b[48;5;%dm\x1b[38;5;%dm",
                         237 + static_cast<int>(std::lround(14 * (1 - t))), t < 0.5 ? 16 : 255);
}

std::vector<std::string> Legend(const MapFigure& f) {
  std::vector<std::string> out;
  out.push_back(
      absl::StrCat("* best   ~ cannot be told from the best   mean ± half the range over seeds; ",
                   f.reading.maximize ? "higher" : "lower", " is better"));
  const MapReading& r = f.reading;
  if (r.seed_sd)
    out.push_back(absl::StrFormat("spread of one run over seeds (pooled sd): %.4f", *r.seed_sd));
  if (r.noise) {
    out.push_back(absl::StrFormat(
        "A/A noise: %d cell%s run again on other seeds: means differ by %.4f on average, %.4f at "
        "most (expected sd %.4f)",
        static_cast<int>(r.noise->cells), r.noise->cells == 1 ? "" : "s",
        r.noise->mean_absolute_difference, r.noise->largest_difference, r.noise->difference_sd));
  }
  for (const std::string& note : f.notes) out.push_back(note);
  return out;
}

}  // namespace

std::string Terminal(const MapFigure& f, const TerminalOptions& options) {
  const Grid grid(f.cells);
  if (grid.xs.empty()) return absl::StrCat(f.title, "\n(no cells)\n");
  int width = 18;
  const int label = 8;
  if (label + static_cast<int>(grid.xs.size()) * (width + 1) + 1 > options.width) {
    width = std::max(9, (options.width - label - 1) / static_cast<int>(grid.xs.size()) - 1);
  }
  const bool narrow = width < 16;
  const auto [low, high] = Range(f);
  std::string out = absl::StrCat(f.title, "\n", f.y_label, " down, ", f.x_label, " across\n\n");
  const auto rule = [&](size_t) {
    absl::StrAppend(&out, std::string(label, ' '), "+");
    for (size_t c = 0; c < grid.xs.size(); ++c) absl::StrAppend(&out, std::string(width, '-'), "+");
    absl::StrAppend(&out, "\n");
  };
  for (size_t row = 0; row < grid.ys.size(); ++row) {
    rule(row);
    for (int line = 0; line < (narrow ? 3 : 2); ++line) {
      absl::StrAppend(&out,
                      line == 0 ? absl::StrFormat("%*s ", label - 1, Short(grid.ys[row]))
                                : std::string(label, ' '),
                      "|");
      for (double x : grid.xs) {
        const auto i = Grid::Find(f.cells, x, grid.ys[row]);
        std::string text;
        double t = -1;
        if (i) {
          const CellResult& c = f.cells[*i];
          const CellReading& r = f.reading.cells[*i];
          const std::string count = absl::StrCat(
              CountText(c),
              c.flags.empty() ? "" : absl::StrFormat(" !%d", static_cast<int>(c.flags.size())));
          if (narrow) {
            text = line == 0
                       ? absl::StrCat(Mark(r),
                                      c.values.empty() ? ValueText(c, r)
                                                       : absl::StrFormat("%.4f", r.value.mean),
                                      Mark(r))
                   : line == 1 ? (c.values.size() < 2 ? "" : absl::StrFormat("±%.4f", HalfRange(c)))
                               : count;
          } else {
            text = line == 0 ? absl::StrCat(Mark(r), " ", ValueText(c, r), " ", Mark(r)) : count;
          }
          if (!c.values.empty() && c.diverged == 0) t = Worse(f, r.value.mean, low, high);
        }
        text = Centered(text, width);
        if (options.color && t >= 0) text = absl::StrCat(Background(t), text, "\x1b[0m");
        absl::StrAppend(&out, text, "|");
      }
      absl::StrAppend(&out, "\n");
    }
  }
  rule(0);
  absl::StrAppend(&out, std::string(label + 1, ' '));
  for (double x : grid.xs) absl::StrAppend(&out, Centered(Short(x), width), " ");
  absl::StrAppend(&out, "\n\n");
  for (const std::string& line : Legend(f)) absl::StrAppend(&out, line, "\n");
  absl::StrAppend(&out, f.reading.sentence, "\n");
  return out;
}

std::string Svg(const MapFigure& f) {
  const Grid grid(f.cells);
  constexpr double kCellW = 150, kCellH = 74, kLeft = 90, kTop = 64;
  const double w = kLeft + kCellW * static_cast<double>(grid.xs.size()) + 30,
               plot_h = kCellH * static_cast<double>(grid.ys.size());
  // Words wrap at the page's width.
  std::vector<std::string> lines;
  std::vector<std::string> paragraphs = Legend(f);
  paragraphs[0] = absl::StrCat(
      "heavy outline: best; thin outline: cannot be told from the best. Mean ± half "
      "the range over seeds; ",
      f.reading.maximize ? "higher" : "lower", " is better");
  paragraphs.insert(paragraphs.begin(), f.reading.sentence);
  const double page = std::max(w, 560.0);
  const size_t per_line = static_cast<size_t>((page - 40) / 5.9);
  for (const std::string& p : paragraphs) {
    for (std::string& line : Wrapped(p, per_line)) lines.push_back(std::move(line));
  }
  SvgPage svg(page, kTop + plot_h + 60 + 16 * static_cast<double>(lines.size()) + 12);
  svg.Text(20, 26, f.title, {.size = 16, .bold = true});
  const auto [low, high] = Range(f);
  for (size_t row = 0; row < grid.ys.size(); ++row) {
    const double y = kTop + kCellH * static_cast<double>(row);
    svg.Text(kLeft - 10, y + kCellH / 2 + 4, Short(grid.ys[row]), {.anchor = "end"});
    for (size_t column = 0; column < grid.xs.size(); ++column) {
      const double x = kLeft + kCellW * static_cast<double>(column);
      const auto i = Grid::Find(f.cells, grid.xs[column], grid.ys[row]);
      if (!i) continue;
      const CellResult& c = f.cells[*i];
      const CellReading& r = f.reading.cells[*i];
      const bool valued = !c.values.empty() && c.diverged == 0;
      const double t = valued ? 0.85 * Worse(f, r.value.mean, low, high) : 0;
      const char* ink = valued && RampIsDark(t) ? "#FFFFFF" : "#222222";
      svg.Rect(x + 3, y + 3, kCellW - 6, kCellH - 6, valued ? RampColor(t) : "#EEEEEE",
               r.best        ? "#D55E00"
               : r.with_best ? "#D55E00"
                             : "#BBBBBB",
               r.best        ? 5
               : r.with_best ? 2.5
                             : 0.5);
      svg.Text(x + kCellW / 2, y + 31,
               c.values.empty() ? ValueText(c, r) : absl::StrFormat("%.4f", r.value.mean),
               {.size = 16, .anchor = "middle", .fill = ink, .bold = r.best});
      const std::string spread =
          c.values.size() < 2 ? "" : absl::StrFormat("±%.4f  ", HalfRange(c));
      svg.Text(x + kCellW / 2, y + 50,
               absl::StrCat(spread, CountText(c), c.flags.empty() ? "" : "  flags"),
               {.size = 11, .anchor = "middle", .fill = ink});
    }
  }
  for (size_t column = 0; column < grid.xs.size(); ++column) {
    svg.Text(kLeft + kCellW * (static_cast<double>(column) + 0.5), kTop + plot_h + 18,
             Short(grid.xs[column]), {.anchor = "middle"});
  }
  svg.Text(kLeft + kCellW * static_cast<double>(grid.xs.size()) / 2, kTop + plot_h + 38, f.x_label,
           {.anchor = "middle"});
  svg.Text(28, kTop + plot_h / 2, f.y_label, {.anchor = "middle", .rotate = -90});
  double y = kTop + plot_h + 64;
  for (const std::string& line : lines) svg.Text(20, y, line, {.size = 11.5}), y += 16;
  return svg.Finish();
}

std::string Csv(const MapFigure& f) {
  std::string out =
      "cell,x,y,n,mean,low,high,sd,minus_best,minus_best_low,minus_best_high,best,with_best,"
      "diverged,replicates,params_total,"
      "params_non_embedding,flops_per_token,tokens,flops,wall_seconds,solo_tokens_per_s,flags\n";
  const auto number = [](double v) {
    return std::isfinite(v) ? absl::StrFormat("%.10g", v) : std::string();
  };
  for (size_t i = 0; i < f.cells.size(); ++i) {
    const CellResult& c = f.cells[i];
    const CellReading& r = f.reading.cells[i];
    const auto difference = [&](double Interval::*field) {
      return r.minus_best ? number((*r.minus_best).*field) : std::string();
    };
    absl::StrAppend(&out, CsvField(c.name), ",", number(c.x), ",", number(c.y), ",", r.value.n, ",",
                    number(r.value.mean), ",", number(r.value.low), ",", number(r.value.high), ",",
                    number(r.value.sd), ",");
    absl::StrAppend(&out, difference(&Interval::mean), ",", difference(&Interval::low), ",",
                    difference(&Interval::high), ",", r.best ? 1 : 0, ",", r.with_best ? 1 : 0, ",",
                    c.diverged, ",", c.replicates, ",");
    absl::StrAppend(&out, c.params_total, ",", c.params_non_embedding, ",", c.flops_per_token, ",",
                    c.tokens, ",", number(c.flops), ",", number(c.wall_seconds), ",",
                    number(c.solo_tokens_per_s), ",", CsvField(absl::StrJoin(c.flags, ";")), "\n");
  }
  return out;
}

}  // namespace plumb::analysis
