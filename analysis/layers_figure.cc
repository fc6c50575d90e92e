#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "analysis/figure.h"
#include "analysis/svg.h"
#include "analysis/text.h"

namespace plumb::analysis {
namespace {

// Nines: -log10(1 - score), none for a score of 0, as many as are told apart for one of 1.
constexpr double kMostNines = 4;
double Nines(double score) {
  return std::clamp(-std::log10(std::max(1 - score, 1e-300)), 0.0, kMostNines);
}

std::string Digits(double score) {  // four figures that do not round 0.9999 to 1
  if (score >= 0.9995 && score < 1) return absl::StrFormat("%.5f", std::min(score, 0.99999));
  return absl::StrFormat("%.3f", score);
}

// At most `room` of n places, evenly, the first and the last among them.
std::vector<size_t> Shown(size_t n, size_t room) {
  std::vector<size_t> out;
  const size_t count = std::min(n, std::max<size_t>(1, room));
  for (size_t i = 0; i < count; ++i)
    out.push_back(count == 1 ? n - 1
                             : static_cast<size_t>(std::lround(static_cast<double>(i * (n - 1)) /
                                                               static_cast<double>(count - 1))));
  return out;
}

std::string Heading(const LayersFigure::Panel& p) {
  return absl::StrCat(p.cell.empty() ? "" : p.cell + ": ", p.score);
}

std::string Shade(double score) {
  const double t = Nines(score) / kMostNines;
  return absl::StrFormat("\x1b[48;5;%dm\x1b[38;5;%dm", 251 - static_cast<int>(std::lround(14 * t)),
                         t < 0.5 ? 16 : 255);
}

}  // namespace

std::string Terminal(const LayersFigure& f, const TerminalOptions& options) {
  constexpr int kLabel = 8, kColumn = 8;
  std::string out = absl::StrCat(f.title, "\n");
  for (const LayersFigure::Panel& p : f.panels) {
    const std::vector<size_t> steps =
        Shown(p.steps.size(), static_cast<size_t>(std::max(1, (options.width - kLabel) / kColumn)));
    absl::StrAppend(&out, "\n", Heading(p), "\n");
    for (int64_t layer = p.layers; layer-- > 0;) {
      absl::StrAppendFormat(&out, "%*d ", kLabel - 1, static_cast<int>(layer));
      for (const size_t step : steps) {
        const LayersFigure::Place& place = p.At(layer, step);
        const std::string text =
            absl::StrFormat("%*s", kColumn - 1, place.n == 0 ? "-" : Digits(place.mean));
        absl::StrAppend(&out, options.color && place.n > 0
                                  ? absl::StrCat(Shade(place.mean), text, "\x1b[0m ")
                                  : text + " ");
      }
      while (out.back() == ' ') out.pop_back();
      absl::StrAppend(&out, "\n");
    }
    absl::StrAppendFormat(&out, "%*s ", kLabel - 1, f.y_label);
    for (const size_t step : steps)
      absl::StrAppendFormat(&out, "%*s ", kColumn - 1, Short(static_cast<double>(p.steps[step])));
    while (out.back() == ' ') out.pop_back();
    absl::StrAppend(&out, "  (step)\n");
  }
  for (const std::string& note : f.notes) {
    for (const std::string& line : Wrapped(note, static_cast<size_t>(options.width)))
      absl::StrAppend(&out, "\n", line);
  }
  return out + (f.notes.empty() ? "" : "\n");
}

std::string Svg(const LayersFigure& f) {
  constexpr double kLeft = 60, kTop = 60, kW = 360, kGap = 70, kRow = 22, kHead = 24, kFoot = 40;
  // Two panels a line: a cell's scores stand beside each other.
  double height = kTop;
  std::vector<double> tops;
  for (size_t i = 0; i < f.panels.size(); ++i) {
    if (i % 2 == 0) {
      tops.push_back(height);
      int64_t layers = f.panels[i].layers;
      if (i + 1 < f.panels.size()) layers = std::max(layers, f.panels[i + 1].layers);
      height += kHead + kRow * static_cast<double>(layers) + kFoot;
    }
  }
  std::vector<std::string> lines;
  for (const std::string& note : f.notes) {
    for (std::string& line : Wrapped(note, 130)) lines.push_back(std::move(line));
  }
  const double page = kLeft + 2 * kW + kGap + 30;
  SvgPage svg(page, height + 46 + 16 * static_cast<double>(lines.size()) + 12);
  svg.Text(20, 28, f.title, {.size = 16, .bold = true});
  for (size_t i = 0; i < f.panels.size(); ++i) {
    const LayersFigure::Panel& p = f.panels[i];
    const double left = kLeft + (i % 2 == 0 ? 0 : kW + kGap), top = tops[i / 2];
    svg.Text(left, top + 12, Heading(p), {.size = 12.5, .bold = true});
    const double w = kW / static_cast<double>(std::max<size_t>(1, p.steps.size()));
    for (int64_t layer = 0; layer < p.layers; ++layer) {
      const double y = top + kHead + kRow * static_cast<double>(p.layers - 1 - layer);
      svg.Text(left - 6, y + 15, absl::StrCat(layer), {.size = 11, .anchor = "end"});
      for (size_t step = 0; step < p.steps.size(); ++step) {
        const LayersFigure::Place& place = p.At(layer, step);
        const double t = 0.9 * Nines(place.mean) / kMostNines;
        const double x = left + w * static_cast<double>(step);
        svg.Rect(x, y, w, kRow, place.n == 0 ? "#FFFFFF" : RampColor(t), w > 6 ? "#FFFFFF" : "none",
                 w > 6 ? 0.6 : 0);
        if (place.n > 0 && w >= 36)
          svg.Text(x + w / 2, y + 15, Digits(place.mean),
                   {.size = 10, .anchor = "middle", .fill = RampIsDark(t) ? "#FFFFFF" : "#222222"});
      }
    }
    const double bottom = top + kHead + kRow * static_cast<double>(p.layers);
    for (const size_t step : Shown(p.steps.size(), 7))
      svg.Text(left + w * (static_cast<double>(step) + 0.5), bottom + 15,
               Short(static_cast<double>(p.steps[step])), {.size = 11, .anchor = "middle"});
    svg.Text(left + kW / 2, bottom + 31, "step", {.size = 11, .anchor = "middle"});
    svg.Text(left - 32, (top + kHead + bottom) / 2, f.y_label,
             {.size = 11, .anchor = "middle", .rotate = -90});
  }
  // What the shades say.
  constexpr int kParts = 40;
  for (int i = 0; i < kParts; ++i)
    svg.Rect(kLeft + 8.0 * i, height + 4, 8.2, 12, RampColor(0.9 * i / (kParts - 1)), "none", 0);
  const char* const kMarks[] = {"0", "0.9", "0.99", "0.999", "0.9999"};
  for (int i = 0; i < 5; ++i)
    svg.Text(kLeft + 80.0 * i, height + 30, kMarks[i], {.size = 11, .anchor = "middle"});
  svg.Text(kLeft + 350, height + 14, "score; shades are of -log10(1 - score)", {.size = 11});
  double y = height + 52;
  for (const std::string& line : lines) svg.Text(20, y, line, {.size = 11.5}), y += 16;
  return svg.Finish();
}

std::string Csv(const LayersFigure& f) {
  std::string out = "cell,score,layer,step,n,mean,low,high\n";
  for (const LayersFigure::Panel& p : f.panels) {
    for (int64_t layer = 0; layer < p.layers; ++layer) {
      for (size_t step = 0; step < p.steps.size(); ++step) {
        const LayersFigure::Place& place = p.At(layer, step);
        if (place.n == 0) continue;
        absl::StrAppendFormat(&out, "%s,%s,%d,%d,%d,%.10g,%.10g,%.10g\n", CsvField(p.cell),
                              CsvField(p.score), layer, p.steps[step], place.n, place.mean,
                              place.low, place.high);
      }
    }
  }
  return out;
}

}  // namespace plumb::analysis
