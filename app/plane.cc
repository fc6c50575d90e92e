#include "app/plane.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "absl/strings/str_cat.h"
#include "analysis/figure.h"
#include "analysis/plane.h"
#include "app/signals.h"
#include "app/write_file.h"
#include "trainer/spec/cost.h"

namespace plumb::app {
namespace {

constexpr int kLevels = 4;   // lines of a family
constexpr int kDepths = 24;  // at which a line is computed

// Of the sweep's own kind: as wide and deep as asked, the rest in proportion.
spec::ModelSpec Scaled(const spec::ModelSpec& like, bool same_head_dim, int64_t depth,
                       int64_t heads_or_width) {
  spec::ModelSpec m = like;
  m.n_layers = depth;
  const int64_t group = std::max<int64_t>(1, like.n_heads / std::max<int64_t>(1, like.n_kv_heads));
  if (same_head_dim) {
    m.n_heads = heads_or_width,
    m.d_model = m.n_heads * m.head_dim * like.d_model / (like.n_heads * like.head_dim);
    m.n_kv_heads = std::max<int64_t>(1, m.n_heads / group);
  } else {
    m.d_model = heads_or_width * like.n_heads,
    m.head_dim = heads_or_width * like.n_heads * like.head_dim / like.d_model;
  }
  m.d_ff = std::max<int64_t>(1, like.d_ff * m.d_model / like.d_model);
  m.score_bias_hidden = like.score_bias_hidden * m.d_model / like.d_model;
  return m;
}

// The width at which `measure` is `level`, between two that exist; 0 where there is none.
double WidthAt(const spec::ModelSpec& like, bool same_head_dim, int64_t depth, double level,
               const std::function<double(const spec::ModelSpec&)>& measure) {
  const auto at = [&](int64_t step) { return measure(Scaled(like, same_head_dim, depth, step)); };
  const auto width = [&](int64_t step) {
    return static_cast<double>(Scaled(like, same_head_dim, depth, step).d_model);
  };
  int64_t low = 1, high = 2;
  if (at(low) > level) return 0;
  while (at(high) < level) {
    low = high, high *= 2;
    if (high > 1 << 16) return 0;
  }
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (at(middle) < level ? low : high) = middle;
  }
  const double below = std::log(at(low)), above = std::log(at(high));
  const double t = above > below ? (std::log(level) - below) / (above - below) : 0;
  return width(low) * std::pow(width(high) / width(low), std::clamp(t, 0.0, 1.0));
}

double TwoDigits(double v) {
  const double unit = std::pow(10, std::floor(std::log10(v)) - 1);
  return std::round(v / unit) * unit;
}

analysis::PlaneFigure PlaneOf(const sweeps::SweepPlan& plan, const sweeps::PlanSummary& summary) {
  analysis::PlaneFigure figure{.title =
                                   absl::StrCat(summary.name, ": ", summary.cells.size(),
                                                summary.cells.size() == 1 ? " shape" : " shapes")};
  const sweeps::CellCost* like = nullptr;
  bool same_head_dim = true;
  double deepest = 0, shallowest = 1e18;
  for (const sweeps::CellCost& c : summary.cells) {
    if (c.trials == 0 || c.flops == 0) continue;
    figure.points.push_back(
        {static_cast<double>(c.model.d_model), static_cast<double>(c.model.n_layers), c.fits});
    if (like == nullptr) like = &c;
    same_head_dim &= c.model.head_dim == like->model.head_dim;
    deepest = std::max(deepest, static_cast<double>(c.model.n_layers));
    shallowest = std::min(shallowest, static_cast<double>(c.model.n_layers));
  }
  if (like == nullptr || !like->model.block_plugin.empty()) return figure;
  int64_t seq_len = 0;
  for (const sweeps::PlannedTrial& t : plan.trials) {
    if (&summary.cells[t.cell] == like) seq_len = t.config.data.seq_len;
  }
  const auto family = [&](int number, const char* what, const sweeps::Range& range,
                          const std::function<double(const spec::ModelSpec&)>& measure) {
    const bool one = range.high < 1.2 * range.low;
    for (int i = 0; i < (one ? 1 : kLevels); ++i) {
      const double level =
          one ? range.low
              : TwoDigits(range.low * std::pow(range.high / range.low, (i + 0.5) / kLevels));
      analysis::PlaneFigure::Line line{.label = absl::StrCat(analysis::Short(level), " ", what),
                                       .family = number};
      int64_t before = 0;
      for (int k = 0; k <= kDepths; ++k) {
        const double y = shallowest / 1.3 *
                         std::pow(1.69 * deepest / shallowest, static_cast<double>(k) / kDepths);
        const auto depth = std::max<int64_t>(1, std::llround(y));
        if (depth == before) continue;
        before = depth;
        const double width = WidthAt(like->model, same_head_dim, depth, level, measure);
        if (width > 0) line.points.emplace_back(width, static_cast<double>(depth));
      }
      figure.lines.push_back(std::move(line));
    }
  };
  family(0, "parameters, non-embedding", summary.params_non_embedding,
         [](const spec::ModelSpec& m) {
           return static_cast<double>(spec::CountParameters(m).non_embedding);
         });
  family(1, "FLOPs per token", summary.flops_per_token, [seq_len](const spec::ModelSpec& m) {
    return static_cast<double>(spec::TrainingFlopsPerToken(m, seq_len));
  });
  return figure;
}

}  // namespace

std::string PlaneText(const sweeps::SweepPlan& plan, const sweeps::PlanSummary& summary) {
  return analysis::Terminal(PlaneOf(plan, summary), StdoutIsTerminal() ? TerminalWidth() : 80);
}

absl::Status DrawPlane(const sweeps::SweepPlan& plan, const sweeps::PlanSummary& summary,
                       const std::string& svg_file) {
  return WriteFile(svg_file, analysis::Svg(PlaneOf(plan, summary)));
}

}  // namespace plumb::app
