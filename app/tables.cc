#include "app/tables.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "app/nearest.h"
#include "app/table.h"
#include "domain/status_macros.h"

namespace plumb::app {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// "model.n_layers" -> "n_layers"
std::string Last(const std::string& path) { return path.substr(path.rfind('.') + 1); }

std::string AxisLabel(const std::string& path) {
  const std::string last = Last(path);
  if (last == "n_layers") return "depth (n_layers)";
  if (last == "d_model") return "width (d_model)";
  return last;
}

std::string ValueOf(const analysis::Cell& cell, const std::string& axis) {
  for (const auto& [path, value] : cell.axes) {
    if (path == axis) return value;
  }
  return "-";
}

// Numbers by size, words as they come.
std::vector<std::string> Distinct(const std::vector<analysis::Cell>& cells,
                                  const std::string& axis) {
  std::vector<std::string> values;
  for (const analysis::Cell& c : cells) {
    const std::string v = ValueOf(c, axis);
    if (std::find(values.begin(), values.end(), v) == values.end()) values.push_back(v);
  }
  const auto number = [](const std::string& s, double* out) {
    char* end = nullptr;
    *out = std::strtod(s.c_str(), &end);
    return end != s.c_str() && *end == '\0';
  };
  double ignored;
  if (std::all_of(values.begin(), values.end(),
                  [&](const std::string& s) { return number(s, &ignored); })) {
    std::sort(values.begin(), values.end(), [&](const std::string& a, const std::string& b) {
      double x = 0, y = 0;
      number(a, &x);
      number(b, &y);
      return x < y;
    });
  }
  return values;
}

absl::StatusOr<std::string> ChooseAxis(const std::vector<std::string>& axes,
                                       const std::string& asked, const char* option) {
  for (const std::string& a : axes) {
    if (a == asked || Last(a) == asked) return a;
  }
  const std::string near = Nearest(asked, axes);
  std::string list;
  for (const std::string& a : axes) absl::StrAppend(&list, list.empty() ? "" : ", ", a);
  return absl::InvalidArgumentError(absl::StrCat(
      option, " ", asked, ": no axis of this sweep; ",
      near.empty() ? absl::StrCat("there are ", list) : absl::StrCat("did you mean ", near, "?")));
}

absl::StatusOr<int64_t> FindSweep(store::Database& db, int64_t sweep) {
  ASSIGN_OR_RETURN(
      store::Statement find,
      db.Prepare("SELECT id FROM sweep WHERE id = ?1 OR ?1 = 0 ORDER BY id DESC LIMIT 1"));
  find.Bind(1, sweep);
  ASSIGN_OR_RETURN(const bool found, find.Step());
  if (!found) {
    return absl::NotFoundError(
        sweep == 0 ? std::string("the database has no sweep yet; plumb sweep submit FILE")
                   : absl::StrCat("no sweep ", sweep, "; see plumb sweep list"));
  }
  return find.Int(0);
}

}  // namespace

std::string InWords(const std::string& series) {
  std::string out = series;
  for (char& c : out) {
    if (c == '/' || c == '_') c = ' ';
  }
  return out;
}

absl::StatusOr<SweepResults> LoadResults(store::Database& db, int64_t sweep,
                                         const std::string& series) {
  SweepResults out;
  ASSIGN_OR_RETURN(out.id, FindSweep(db, sweep));
  ASSIGN_OR_RETURN(store::Statement head,
                   db.Prepare("SELECT name, state, objective, trials FROM sweep WHERE id = ?"));
  head.Bind(1, out.id);
  RETURN_IF_ERROR(head.Step().status());
  out.name = head.Text(0);
  out.state = head.Text(1);
  out.series = series.empty() ? head.Text(2) : series;
  out.trials = head.Int(3);

  ASSIGN_OR_RETURN(
      store::Statement cells,
      db.Prepare(
          "SELECT id, name, axes_json, flags_json FROM cell WHERE sweep_id = ? ORDER BY idx"));
  cells.Bind(1, out.id);
  std::map<int64_t, size_t> index;
  for (;;) {
    ASSIGN_OR_RETURN(const bool more, cells.Step());
    if (!more) break;
    analysis::Cell cell{.id = cells.Int(0), .name = cells.Text(1)};
    const auto axes = nlohmann::ordered_json::parse(cells.Text(2), nullptr, false);
    if (axes.is_object()) {
      for (const auto& [path, value] : axes.items()) {
        cell.axes.emplace_back(path, value.is_string() ? value.get<std::string>() : value.dump());
      }
    }
    const auto flags = nlohmann::json::parse(cells.Text(3), nullptr, false);
    if (flags.is_array()) {
      for (const auto& f : flags) {
        if (f.is_string()) cell.flags.push_back(f.get<std::string>());
      }
    }
    index[cell.id] = out.cells.size();
    out.cells.push_back(std::move(cell));
  }

  ASSIGN_OR_RETURN(store::Statement rows,
                   db.Prepare("SELECT st.cell_id, t.seed_init || '/' || t.seed_data, st.aa, "
                              "t.state, t.params_total, t.params_non_embedding, "
                              "t.flops, t.corpus, t.tokenizer, "
                              "(SELECT m.value FROM stage g JOIN series s ON s.stage_id = g.id "
                              "JOIN measurement m ON m.series_id = s.id "
                              " WHERE g.trial_id = t.id AND g.kind <> 'timing' AND s.name = ?2 AND "
                              "s.layer = -1 ORDER BY m.step DESC LIMIT 1), "
                              "(SELECT m.value FROM stage g JOIN series s ON s.stage_id = g.id "
                              "JOIN measurement m ON m.series_id = s.id "
                              " WHERE g.trial_id = t.id AND g.kind = 'pretrain' AND s.name = "
                              "'time/wall_seconds' ORDER BY m.step DESC LIMIT 1), "
                              "(SELECT m.value FROM stage g JOIN series s ON s.stage_id = g.id "
                              "JOIN measurement m ON m.series_id = s.id "
                              " WHERE g.trial_id = t.id AND s.name = 'timing/solo_tokens_per_s' "
                              "ORDER BY m.step DESC LIMIT 1) "
                              "FROM sweep_trial st JOIN trial t ON t.id = st.trial_id WHERE "
                              "st.sweep_id = ?1 ORDER BY st.idx"));
  rows.Bind(1, out.id);
  rows.Bind(2, out.series);
  struct Sums {
    double seconds = 0;
    int n = 0;
  };
  std::map<int64_t, Sums> sums;
  for (analysis::Cell& c : out.cells) c.seconds = c.solo_tokens_per_s = kNaN;
  for (;;) {
    ASSIGN_OR_RETURN(const bool more, rows.Step());
    if (!more) break;
    const auto it = index.find(rows.Int(0));
    if (it == index.end()) continue;
    analysis::Cell& cell = out.cells[it->second];
    analysis::Replicate r{.seed = rows.Text(1), .aa = rows.Int(2) != 0, .state = rows.Text(3)};
    if (!rows.IsNull(9)) r.value = rows.Double(9);
    if (r.state != "pending" && r.state != "running" && r.state != "paused") ++out.ended;
    cell.params_total = rows.Int(4);
    cell.params_non_embedding = rows.Int(5);
    cell.flops = rows.Double(6);
    if (out.corpus.empty()) {
      out.corpus = rows.Text(7);
      out.tokenizer = rows.Text(8);
    }
    if (!r.aa && !rows.IsNull(10)) {
      Sums& s = sums[cell.id];
      s.seconds += rows.Double(10);
      cell.seconds = s.seconds / ++s.n;
    }
    if (!rows.IsNull(11)) cell.solo_tokens_per_s = rows.Double(11);
    cell.replicates.push_back(std::move(r));
  }
  return out;
}

absl::StatusOr<std::vector<analysis::GridFigure>> GridFigures(const SweepResults& results,
                                                              std::string rows,
                                                              std::string columns) {
  std::vector<std::string> axes, varying;
  for (const analysis::Cell& c : results.cells) {
    for (const auto& [path, value] : c.axes) {
      if (std::find(axes.begin(), axes.end(), path) == axes.end()) axes.push_back(path);
    }
  }
  for (const std::string& a : axes) {
    if (Distinct(results.cells, a).size() > 1) varying.push_back(a);
  }
  const auto pick = [&](const char* wanted, const std::string& taken) -> std::string {
    for (const std::string& a : varying) {
      if (a == wanted && a != taken) return a;
    }
    for (const std::string& a : varying) {
      if (a != taken && a != "model.d_model") return a;
    }
    for (const std::string& a : varying) {
      if (a != taken) return a;
    }
    return "";
  };
  if (!columns.empty()) {
    ASSIGN_OR_RETURN(columns, ChooseAxis(axes, columns, "--cols"));
  }
  if (rows.empty()) {
    rows = pick("model.n_layers", columns);
  } else {
    ASSIGN_OR_RETURN(rows, ChooseAxis(axes, rows, "--rows"));
  }
  if (columns.empty()) columns = pick("model.d_model", rows);

  const analysis::AaNoise noise = analysis::NoiseOf(results.cells);
  std::map<std::string, std::vector<analysis::Cell>> panels;  // by the other axes' values
  for (const analysis::Cell& c : results.cells) {
    std::string rest;
    for (const std::string& a : varying) {
      if (a != rows && a != columns)
        absl::StrAppend(&rest, rest.empty() ? "" : " ", Last(a), "=", ValueOf(c, a));
    }
    panels[rest].push_back(c);
  }
  std::vector<analysis::GridFigure> figures;
  const std::string value = InWords(results.series);
  for (const auto& [rest, cells] : panels) {
    analysis::GridFigure f{.title = absl::StrCat("Sweep ", results.id, " ", results.name, ": ",
                                                 value, rest.empty() ? "" : " at ", rest),
                           .value_label = value,
                           .row_label = rows.empty() ? "" : AxisLabel(rows),
                           .column_label = columns.empty() ? "" : AxisLabel(columns)};
    f.rows = Distinct(cells, rows);
    f.columns = Distinct(cells, columns);
    const analysis::Comparison compared = analysis::CompareToBest(cells);
    for (size_t i = 0; i < cells.size(); ++i) {
      const analysis::CellSummary s = analysis::Summarize(cells[i]);
      const analysis::Interval& d = compared.difference[i];
      analysis::GridCell g{.name = cells[i].name,
                           .value = s.mean,
                           .low = s.low,
                           .high = s.high,
                           .n = s.n,
                           .planned = s.planned,
                           .diverged = s.diverged,
                           .median = s.median,
                           .best = static_cast<int64_t>(i) == compared.best,
                           .tied = compared.tied[i],
                           .difference = d.n > 0 ? d.mean : kNaN,
                           .difference_low = d.n > 1 ? d.low : kNaN,
                           .difference_high = d.n > 1 ? d.high : kNaN,
                           .flags = cells[i].flags};
      g.row = std::find(f.rows.begin(), f.rows.end(), ValueOf(cells[i], rows)) - f.rows.begin();
      g.column = std::find(f.columns.begin(), f.columns.end(), ValueOf(cells[i], columns)) -
                 f.columns.begin();
      if (s.diverged > 0) g.flags.push_back(absl::StrCat("diverged:", s.diverged, "/", s.planned));
      f.cells.push_back(std::move(g));
    }
    if (noise.cells > 0) {
      f.notes.push_back(absl::StrCat("A/A noise (the same cell on other seeds): mean |difference| ",
                                     Number(noise.mean_absolute, 4), ", largest ",
                                     Number(noise.largest, 4), ", ", noise.cells,
                                     noise.cells == 1 ? " cell" : " cells"));
    } else {
      f.notes.push_back("A/A noise: no A/A control in this sweep");
    }
    if (results.ended < results.trials) {
      f.notes.push_back(absl::StrCat("not complete: ", results.ended, " of ", results.trials,
                                     " trials have ended"));
    }
    figures.push_back(std::move(f));
  }
  return figures;
}

absl::StatusOr<analysis::CurveFigure> LoadCurves(store::Database& db, const CurveRequest& request) {
  if (request.x != "steps" && request.x != "tokens" && request.x != "flops") {
    return absl::InvalidArgumentError(
        absl::StrCat("--x ", request.x, ": not one of steps, tokens, flops"));
  }
  if (request.points < 1 || request.points > 100'000) {
    return absl::InvalidArgumentError("--points: give 1 to 100000");
  }
  ASSIGN_OR_RETURN(const int64_t sweep, FindSweep(db, request.sweep));
  ASSIGN_OR_RETURN(
      store::Statement rows,
      db.Prepare(absl::StrCat(
          "SELECT cell_id, cell, trial_id, replicate, ", request.x == "steps" ? "step" : request.x,
          ", value FROM v_curve WHERE sweep_id = ?1 AND series = ?2 AND layer = -1 AND "
          "aa = 0 ORDER BY cell_id, replicate, trial_id, step")));
  rows.Bind(1, sweep);
  rows.Bind(2, request.series);
  analysis::CurveFigure f{
      .title = absl::StrCat("Sweep ", sweep, ": ", InWords(request.series)),
      .x_label = request.x == "steps"    ? "steps"
                 : request.x == "tokens" ? "training tokens"
                                         : "training FLOPs",
      .y_label = InWords(request.series),
      .x_axis = request.linear ? analysis::Axis::kLinear : analysis::Axis::kLog};
  std::vector<std::pair<analysis::Curve, std::vector<analysis::Point>>> curves;
  int64_t cell = -1, trial = -1, missing = 0;
  for (;;) {
    ASSIGN_OR_RETURN(const bool more, rows.Step());
    if (!more) break;
    if (rows.Int(0) != cell) {
      cell = rows.Int(0);
      trial = -1;
      f.groups.push_back(rows.Text(1));
    }
    if (rows.Int(2) != trial) {
      trial = rows.Int(2);
      curves.push_back(
          {{.label = absl::StrCat(rows.Text(1), ", replicate ", rows.Int(3), ", trial ", trial),
            .group = f.groups.size() - 1},
           {}});
    }
    if (rows.IsNull(5)) {
      ++missing;
    } else {
      curves.back().second.push_back({rows.Double(4), rows.Double(5)});
    }
  }
  if (curves.empty()) {
    ASSIGN_OR_RETURN(
        store::Statement names,
        db.Prepare(
            "SELECT DISTINCT series FROM v_curve WHERE sweep_id = ? AND layer = -1 ORDER BY 1"));
    names.Bind(1, sweep);
    std::vector<std::string> all;
    for (;;) {
      ASSIGN_OR_RETURN(const bool more, names.Step());
      if (!more) break;
      all.push_back(names.Text(0));
    }
    const std::string near = Nearest(request.series, all);
    std::string list;
    for (const std::string& s : all) absl::StrAppend(&list, list.empty() ? "" : ", ", s);
    return absl::NotFoundError(absl::StrCat("sweep ", sweep, " has no points of ", request.series,
                                            "; ",
                                            !near.empty() ? absl::StrCat("did you mean ", near, "?")
                                            : all.empty() ? std::string("nothing is measured yet")
                                                          : absl::StrCat("there are ", list)));
  }
  size_t most = 0;
  for (auto& [curve, points] : curves) {
    most = std::max(most, points.size());
    curve.buckets = analysis::Bucketed(points, request.points, f.x_axis);
    f.curves.push_back(std::move(curve));
  }
  f.notes.push_back(absl::StrCat(f.curves.size(), " trials of ", f.groups.size(), " cells, up to ",
                                 most, " points each",
                                 most > static_cast<size_t>(request.points)
                                     ? absl::StrCat(", in at most ", request.points,
                                                    " buckets (line: last; CSV: min and max too)")
                                     : ""));
  if (missing > 0)
    f.notes.push_back(absl::StrCat(missing, " points were not finite and are not drawn"));
  return f;
}

}  // namespace plumb::app
