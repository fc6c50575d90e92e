// Scores of layers over steps, from a sweep's measurements.
#include <algorithm>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "app/nearest.h"
#include "app/tables.h"
#include "domain/status_macros.h"

namespace plumb::app {
namespace {

using analysis::LayersFigure;

const std::vector<std::string>& Scores() {
  static const std::vector<std::string> kScores = {"score", "adjusted", "held_out", "standardized"};
  return kScores;
}

struct Stage {
  std::string name;
  bool training = false;
};

// The sweep's stages that have the series, trainings first.
absl::StatusOr<std::vector<Stage>> StagesWith(store::Database& db, int64_t sweep,
                                              const std::string& series) {
  ASSIGN_OR_RETURN(
      store::Statement rows,
      db.Prepare(
          "SELECT DISTINCT g.name, g.parent_id IS NULL FROM sweep_trial st JOIN stage g ON "
          "g.trial_id = st.trial_id JOIN series s ON s.stage_id = g.id WHERE st.sweep_id = ?1 "
          "AND s.name = ?2 ORDER BY 2 DESC, 1"));
  rows.Bind(1, sweep).Bind(2, series);
  std::vector<Stage> out;
  for (;;) {
    ASSIGN_OR_RETURN(const bool more, rows.Step());
    if (!more) return out;
    out.push_back({rows.Text(0), rows.Int(1) != 0});
  }
}

struct CellValues {
  std::string name;
  std::set<int64_t> steps;
  int64_t layers = 0;
  // By layer and step, one a replicate.
  std::map<std::pair<int64_t, int64_t>, std::vector<double>> values;
};

absl::StatusOr<std::map<int64_t, CellValues>> ValuesOf(store::Database& db, int64_t sweep,
                                                       const std::string& series,
                                                       const std::string& stage) {
  ASSIGN_OR_RETURN(
      store::Statement rows,
      db.Prepare(
          "SELECT cell_id, cell, layer, step, value FROM v_curve WHERE sweep_id = ?1 AND "
          "series = ?2 AND stage = ?3 AND layer >= 0 AND aa = 0 AND tune = 0 AND value IS NOT "
          "NULL ORDER BY cell_id, step"));
  rows.Bind(1, sweep).Bind(2, series).Bind(3, stage);
  std::map<int64_t, CellValues> out;
  for (;;) {
    ASSIGN_OR_RETURN(const bool more, rows.Step());
    if (!more) return out;
    CellValues& cell = out[rows.Int(0)];
    cell.name = rows.Text(1);
    cell.steps.insert(rows.Int(3));
    cell.layers = std::max(cell.layers, rows.Int(2) + 1);
    cell.values[{rows.Int(2), rows.Int(3)}].push_back(rows.Double(4));
  }
}

LayersFigure::Panel PanelOf(const CellValues& cell, const std::string& score) {
  LayersFigure::Panel panel{.cell = cell.name,
                            .score = score,
                            .steps = {cell.steps.begin(), cell.steps.end()},
                            .layers = cell.layers};
  for (int64_t layer = 0; layer < cell.layers; ++layer) {
    for (const int64_t step : panel.steps) {
      LayersFigure::Place& place = panel.places.emplace_back();
      const auto it = cell.values.find({layer, step});
      if (it == cell.values.end()) continue;
      const auto [low, high] = std::minmax_element(it->second.begin(), it->second.end());
      double sum = 0;
      for (const double v : it->second) sum += v;
      place = {.mean = sum / static_cast<double>(it->second.size()),
               .low = *low,
               .high = *high,
               .n = static_cast<int64_t>(it->second.size())};
    }
  }
  return panel;
}

}  // namespace

absl::StatusOr<LayersFigure> LoadLayers(store::Database& db, const LayersRequest& request) {
  if (std::find(Scores().begin(), Scores().end(), request.score) == Scores().end()) {
    const std::string near = Nearest(request.score, Scores());
    return absl::InvalidArgumentError(
        absl::StrCat("--series ", request.score, ": one of ", absl::StrJoin(Scores(), ", "),
                     near.empty() ? "" : absl::StrCat("; did you mean ", near, "?")));
  }
  ASSIGN_OR_RETURN(const SweepResults sweep, LoadResults(db, request.sweep, ""));
  const std::string series = "linearity/" + request.score;
  ASSIGN_OR_RETURN(const std::vector<Stage> stages, StagesWith(db, sweep.id, series));
  if (stages.empty()) {
    return absl::NotFoundError(absl::StrCat(
        "sweep ", sweep.id,
        " has no linearity scores; on trained trials they are had by\n  plumb "
        "stage run linearity --sweep ",
        sweep.id, "\nand while they train by `linearity: {every: 50}` in the sweep file's trial"));
  }
  std::string stage = stages.front().name;
  if (!request.stage.empty()) {
    std::vector<std::string> names;
    for (const Stage& s : stages) names.push_back(s.name);
    if (std::find(names.begin(), names.end(), request.stage) == names.end()) {
      return absl::NotFoundError(absl::StrCat(
          "no stage ", request.stage,
          " of the sweep has linearity scores; these have: ", absl::StrJoin(names, ", ")));
    }
    stage = request.stage;
  }
  LayersFigure f{.title =
                     absl::StrCat("Sweep ", sweep.id, " ", sweep.name, ": ", series, ", ", stage)};
  ASSIGN_OR_RETURN(const auto with, ValuesOf(db, sweep.id, series, stage));
  ASSIGN_OR_RETURN(const auto without, ValuesOf(db, sweep.id, series + "_without", stage));
  size_t most = 0;
  for (const auto& [id, cell] : with) {
    f.panels.push_back(PanelOf(cell, "with residual"));
    const auto it = without.find(id);
    if (it != without.end()) f.panels.push_back(PanelOf(it->second, "without residual"));
    for (const auto& [place, values] : cell.values) most = std::max(most, values.size());
  }
  if (most > 1)
    f.notes.push_back(absl::StrCat("Means over up to ", most, " seeds; -o csv has their ranges."));
  f.notes.push_back(
      "With residual a block of a tenth of the stream's norm has 0.99 whatever it does: read it "
      "beside 1/(1+rho^2) (linearity/rho_law) and without residual.");
  return f;
}

}  // namespace plumb::app
