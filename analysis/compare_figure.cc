#include <algorithm>
#include <cmath>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "analysis/figure.h"
#include "analysis/svg.h"
#include "analysis/text.h"

namespace plumb::analysis {
namespace {

// A row to draw: a comparison, or a cell of the A/A control against itself.
struct Row {
  std::string value, slice;
  Difference difference;
  std::optional<double> noise_floor, p_holm;
  std::string verdict;
  bool pooled = false, control = false;
  bool told = false, good = false;  // good: better, or lower where neither is known to be
};

std::vector<Row> RowsOf(const Comparison& c) {
  std::vector<Row> out;
  for (const Compared& r : c.rows) {
    out.push_back({.value = r.value,
                   .slice = r.pooled ? absl::StrCat("all ", r.slices, " slices") : r.slice,
                   .difference = r.difference,
                   .noise_floor = r.noise_floor,
                   .p_holm = r.p_holm,
                   .verdict = VerdictInWords(r, c.options),
                   .pooled = r.pooled,
                   .told = r.verdict == Verdict::kLower || r.verdict == Verdict::kHigher,
                   .good = (r.difference.mean < 0) == c.options.lower_is_better.value_or(true)});
  }
  if (!c.control) return out;
  for (const ControlReading::Row& r : c.control->rows) {
    out.push_back({.value = absl::StrCat("A/A ", r.value),
                   .slice = r.slice,
                   .difference = r.difference,
                   .verdict = "control",
                   .control = true});
  }
  return out;
}

// All that has to be seen: 0, means, finite ends of intervals, the noise band.
struct Extent {
  double low = 0, high = 0;
  explicit Extent(const std::vector<Row>& rows) {
    for (const Row& r : rows) {
      const double floor = r.noise_floor.value_or(0);
      for (double v : {r.difference.mean, r.difference.low, r.difference.high, floor, -floor}) {
        if (std::isfinite(v)) low = std::min(low, v), high = std::max(high, v);
      }
    }
    if (low == high) low -= 1, high += 1;
    const double margin = 0.04 * (high - low);
    low -= margin, high += margin;
  }
  double Place(double v) const { return std::clamp((v - low) / (high - low), 0.0, 1.0); }
};

// Four digits after the point show a loss; a smaller scale shows three figures.
std::string Value(double v, const Extent& e) {
  if (!std::isfinite(v)) return "-";
  const bool small = std::max(std::abs(e.low), std::abs(e.high)) < 0.02;
  return small ? absl::StrFormat("%+.3g", v) : absl::StrFormat("%+.4f", v);
}
std::string IntervalText(const Difference& d, const Extent& e) {
  if (std::isinf(d.low)) return "no interval";
  return absl::StrCat("[", Value(d.low, e), ", ", Value(d.high, e), "]");
}
std::string PText(const std::optional<double>& p) {
  return !p ? "-" : *p < 0.001 ? "<0.001" : absl::StrFormat("%.3f", *p);
}
std::string NoiseText(const std::optional<double>& floor, const Extent& e) {
  return !floor ? "-" : absl::StrCat("±", Value(*floor, e).substr(1));
}
std::string CountText(const Difference& d) {
  return d.paired ? absl::StrCat(d.n_a) : absl::StrCat(d.n_a, "+", d.n_b);
}

constexpr size_t kListed = 12;  // cells named in a figure; CSV and JSON name all

std::vector<std::string> Paragraphs(const CompareFigure& f) {
  const Comparison& c = f.comparison;
  std::vector<std::string> out = c.sentences;
  if (c.control) {
    out.push_back(absl::StrFormat(
        "Noise floor, from the A/A control: over seeds a run's sd is %.4g (%d degrees of freedom), "
        "so that two means of one and the same cell differ by less than the floor in %.4g %% of "
        "cases. A/A rows: a cell minus itself on other seeds.",
        c.control->noise.sd, c.control->noise.freedom, 100 * c.options.level));
  }
  out.insert(out.end(), c.notes.begin(), c.notes.end());
  const auto list = [&](const std::vector<std::string>& lines, const std::string& rest) {
    out.insert(out.end(), lines.begin(), lines.begin() + std::min(lines.size(), kListed));
    if (lines.size() > kListed)
      out.push_back(absl::StrCat("And ", lines.size() - kListed, " more cells ", rest, "."));
  };
  std::vector<std::string> left_out, absent;
  for (const LeftOut& e : c.left_out)
    left_out.push_back(absl::StrCat("Left out: ", e.name, ": ", e.reason, "."));
  for (const Absent& a : c.absent)
    absent.push_back(absl::StrCat("Without a result: ", a.name, ": ", a.missing.size(), " of ",
                                  a.planned, " runs: ", AbsentInWords(a), "."));
  list(left_out, "are left out");
  list(absent, "lack results");
  return out;
}

// Columns padded to their widest field; the ones in `right` to the left.
std::string Aligned(const std::vector<std::vector<std::string>>& rows, size_t first_right) {
  std::vector<int> width(rows[0].size(), 0);
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) width[i] = std::max(width[i], Columns(row[i]));
  }
  std::string out;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      if (width[i] == 0) continue;
      const std::string pad(static_cast<size_t>(width[i] - Columns(row[i])), ' ');
      absl::StrAppend(&line, line.empty() ? "" : "  ", i >= first_right ? pad : "", row[i],
                      i >= first_right ? "" : pad);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    absl::StrAppend(&out, line, "\n");
  }
  return out;
}

// "  :   |--o-- :  ": 0 is |, the ends of the noise band are :, an open end is < or >.
std::string Bar(const Row& r, const Extent& e, int width) {
  std::string bar(static_cast<size_t>(width), ' ');
  const auto at = [&](double v) {
    return static_cast<size_t>(std::lround(e.Place(v) * (width - 1)));
  };
  const Difference& d = r.difference;
  if (std::isfinite(d.mean)) {
    for (size_t i = at(d.low); i <= at(d.high); ++i) bar[i] = '-';
  }
  if (r.noise_floor) bar[at(-*r.noise_floor)] = bar[at(*r.noise_floor)] = ':';
  bar[at(0)] = '|';
  if (std::isfinite(d.mean)) {
    if (std::isinf(d.low)) bar.front() = '<', bar.back() = '>';
    bar[at(d.mean)] = r.pooled ? '#' : 'o';
  }
  return bar;
}

bool Sliced(const std::vector<Row>& rows) {
  return std::any_of(rows.begin(), rows.end(), [](const Row& r) { return !r.slice.empty(); });
}

// A round number near a fifth of the range.
double TickStep(double range) {
  const double raw = range / 5, power = std::pow(10, std::floor(std::log10(raw)));
  for (double m : {1.0, 2.0, 5.0}) {
    if (m * power >= raw) return m * power;
  }
  return 10 * power;
}

}  // namespace

std::string Terminal(const CompareFigure& f, const TerminalOptions& options) {
  const auto paragraph = [&](const std::string& text) {
    return absl::StrCat(
        absl::StrJoin(Wrapped(text, static_cast<size_t>(std::max(40, options.width))), "\n"), "\n");
  };
  std::string out = absl::StrCat(paragraph(f.title), paragraph(f.header), "\n");
  if (const std::vector<Row> rows = RowsOf(f.comparison); !rows.empty()) {
    const Extent e(rows);
    const bool sliced = Sliced(rows);
    std::vector<std::vector<std::string>> numbers = {
        {f.axis, sliced ? "slice" : "", "n", "difference", "interval", "noise", "p", "p (Holm)"}};
    int label = 0;
    for (const Row& r : rows) {
      numbers.push_back({r.value, r.slice, CountText(r.difference), Value(r.difference.mean, e),
                         IntervalText(r.difference, e), NoiseText(r.noise_floor, e),
                         PText(r.difference.p), PText(r.p_holm)});
      label = std::max(label, Columns(r.value) + (sliced ? 2 + Columns(r.slice) : 0));
    }
    absl::StrAppend(&out, Aligned(numbers, 2), "\n");
    std::vector<std::vector<std::string>> forest;
    const int width = std::clamp(options.width - std::min(label, 40) - 26, 20, 80);
    for (const Row& r : rows) forest.push_back({r.value, r.slice, Bar(r, e, width), r.verdict});
    absl::StrAppend(&out, Aligned(forest, 4), "\n");
    out += paragraph("o difference   # over all slices   --- interval   | zero   : noise floor");
  }
  for (const std::string& p : Paragraphs(f)) out += paragraph(p);
  return out;
}

std::string Svg(const CompareFigure& f) {
  const Comparison& c = f.comparison;
  const std::vector<Row> rows = RowsOf(c);
  const Extent e(rows);
  const bool sliced = Sliced(rows);
  constexpr double kRow = 24, kPlot = 340;
  size_t widest = 12, verdict = 12;
  for (const Row& r : rows) {
    widest = std::max(widest, static_cast<size_t>(Columns(r.value) + 1));
    widest = std::max(widest, static_cast<size_t>(Columns(r.slice) + 3));
    verdict = std::max(verdict, r.verdict.size());
  }
  const double left = 30 + 6.6 * static_cast<double>(std::min<size_t>(widest, 48));
  const double page = left + kPlot + 306 + 6.6 * static_cast<double>(verdict);
  const auto wrap = [&](const std::string& text) {
    return Wrapped(text, static_cast<size_t>((page - 40) / 5.9));
  };
  std::vector<std::string> lines;
  for (const std::string& p : Paragraphs(f)) {
    for (std::string& line : wrap(p)) lines.push_back(std::move(line));
  }
  const std::vector<std::string> header = wrap(f.header);
  const double top = 44 + 16 * static_cast<double>(header.size()) + 26;

  // Rows, with a heading for each value where it has slices.
  std::vector<std::pair<const Row*, double>> places;
  std::vector<std::pair<std::string, double>> headings;
  double y = top;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (sliced && (i == 0 || rows[i].value != rows[i - 1].value)) {
      headings.emplace_back(rows[i].value, y + kRow / 2);
      y += kRow;
    } else if (!sliced && i > 0 && rows[i].control && !rows[i - 1].control) {
      y += kRow / 2;
    }
    places.emplace_back(&rows[i], y + kRow / 2);
    y += kRow;
  }
  const double bottom = y;
  SvgPage svg(page, bottom + 58 + 16 * static_cast<double>(lines.size()) + 12);
  svg.Text(20, 26, f.title, {.size = 16, .bold = true});
  for (size_t i = 0; i < header.size(); ++i)
    svg.Text(20, 46 + 16 * static_cast<double>(i), header[i], {.size = 11.5, .fill = "#555555"});
  const auto x = [&](double v) { return left + kPlot * e.Place(v); };
  const double numbers = left + kPlot + 16, n_at = numbers + 198, p_at = numbers + 256,
               verdict_at = numbers + 270;
  svg.Text(numbers, top - 8, "difference  [interval]", {.size = 11, .fill = "#555555"});
  svg.Text(n_at, top - 8, "n", {.size = 11, .anchor = "end", .fill = "#555555"});
  svg.Text(p_at, top - 8, "p (Holm)", {.size = 11, .anchor = "end", .fill = "#555555"});

  for (const auto& [row, at] : places) {
    if (!row->noise_floor) continue;
    const double from = x(-*row->noise_floor), to = x(*row->noise_floor);
    svg.Rect(from, at - kRow / 2, to - from, kRow, "#E6E6E6", "none", 0);
  }
  const double step = TickStep(e.high - e.low);
  for (double t = std::ceil(e.low / step) * step; t <= e.high; t += step) {
    const double v = std::abs(t) < step / 1000 ? 0 : t;
    svg.Line(x(v), bottom, x(v), bottom + 5, "#888888", 1);
    svg.Text(x(v), bottom + 19, absl::StrFormat("%.4g", v), {.size = 11, .anchor = "middle"});
  }
  svg.Line(left, bottom, left + kPlot, bottom, "#888888", 1);
  svg.Line(x(0), top, x(0), bottom, "#222222", 1.2);
  svg.Text(left + kPlot / 2, bottom + 38,
           absl::StrCat("minus ", c.options.baseline, ", ", f.unit,
                        c.control ? "   (grey band: noise floor)" : ""),
           {.anchor = "middle"});
  for (const auto& [value, at] : headings) svg.Text(20, at + 4, value, {.bold = true});
  for (const auto& [row, at] : places) {
    const Difference& d = row->difference;
    const std::string color = row->told      ? PaletteColor(row->good ? 0 : 1)
                              : row->control ? "#AAAAAA"
                                             : "#666666";
    svg.Text(sliced ? 34 : 20, at + 4, sliced ? row->slice : row->value,
             {.bold = row->pooled || (!sliced && !row->control)});
    if (std::isfinite(d.mean)) {
      if (std::isinf(d.low)) {
        // Open at both ends: one run says nothing of the spread.
        for (double t = 0; t < kPlot; t += 10)
          svg.Line(left + t, at, left + t + 4, at, "#BBBBBB", 1);
      } else {
        svg.Line(x(d.low), at, x(d.high), at, color, row->pooled ? 3 : 2);
        for (double end : {d.low, d.high}) svg.Line(x(end), at - 5, x(end), at + 5, color, 2);
      }
      const double m = x(d.mean);
      if (row->pooled) {
        svg.Polygon({{m - 8, at}, {m, at - 7}, {m + 8, at}, {m, at + 7}}, color);
      } else {
        svg.Rect(m - 4.5, at - 4.5, 9, 9, color, "none", 0);
      }
    }
    svg.Text(numbers, at + 4, absl::StrCat(Value(d.mean, e), "  ", IntervalText(d, e)),
             {.size = 11.5, .bold = row->told});
    svg.Text(n_at, at + 4, CountText(d), {.size = 11.5, .anchor = "end"});
    svg.Text(p_at, at + 4, PText(row->p_holm), {.size = 11.5, .anchor = "end", .bold = row->told});
    svg.Text(verdict_at, at + 4, row->verdict, {.size = 11.5, .bold = row->told});
  }
  double line_y = bottom + 62;
  for (const std::string& line : lines) svg.Text(20, line_y, line, {.size = 11.5}), line_y += 16;
  return svg.Finish();
}

std::string Csv(const CompareFigure& f) {
  const Comparison& c = f.comparison;
  std::string out =
      "kind,value,baseline,slice,slices,n_value,n_baseline,paired,difference,low,high,"
      "standard_error,degrees_of_freedom,p,p_holm,noise_floor,verdict,note\n";
  const auto number = [](double v) {
    return std::isfinite(v) ? absl::StrFormat("%.10g", v) : std::string();
  };
  const auto optional = [&](const std::optional<double>& v) {
    return v ? number(*v) : std::string();
  };
  const auto line = [&](const std::string& kind, const std::string& value, const std::string& base,
                        const std::string& slice, int64_t slices, const Difference& d,
                        const std::optional<double>& p_holm, const std::optional<double>& floor,
                        const std::string& verdict) {
    const bool interval = std::isfinite(d.low);
    absl::StrAppend(&out, kind, ",", CsvField(value), ",", CsvField(base), ",", CsvField(slice),
                    ",", slices, ",", d.n_a, ",", d.n_b, ",", d.paired ? 1 : 0, ",", number(d.mean),
                    ",");
    absl::StrAppend(&out, number(d.low), ",", number(d.high), ",", interval ? number(d.error) : "",
                    ",", interval ? number(d.freedom) : "", ",", optional(d.p), ",",
                    optional(p_holm), ",", optional(floor), ",", CsvField(verdict), ",\n");
  };
  for (const Compared& r : c.rows) {
    line(r.pooled ? "pooled" : "slice", r.value, c.options.baseline, r.slice, r.slices,
         r.difference, r.p_holm, r.noise_floor, VerdictInWords(r, c.options));
  }
  if (c.control) {
    for (const ControlReading::Row& r : c.control->rows) {
      line("control", r.value, r.value, r.slice, 1, r.difference, std::nullopt, std::nullopt,
           "control");
    }
  }
  for (const LeftOut& e : c.left_out)
    absl::StrAppend(&out, "left_out,", CsvField(e.name), ",,,,,,,,,,,,,,,,", CsvField(e.reason),
                    "\n");
  for (const Absent& a : c.absent) {
    absl::StrAppend(&out, "absent,", CsvField(a.name), ",,,,,,,,,,,,,,,,",
                    CsvField(AbsentInWords(a)), "\n");
  }
  return out;
}

}  // namespace plumb::analysis
