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

constexpr double kLevel = 0.9;
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

std::string AxisLabel(const std::string& path) {
  const std::string last = LastWord(path);
  if (last == "n_layers") return "depth (n_layers)";
  if (last == "d_model") return "width (d_model)";
  return last;
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

// Points of a trial's series, the last first; of its training where that has them; `step` -1: of
// all steps. NaN: not finite.
absl::StatusOr<std::vector<double>> Points(store::Statement& points, int64_t trial,
                                           const std::string& series, const std::string& stage,
                                           int64_t step, int64_t limit) {
  points.Reset();
  points.Bind(5, stage);
  points.Bind(1, trial);
  points.Bind(2, series);
  points.Bind(3, step);
  points.Bind(4, limit);
  std::vector<double> out;
  for (;;) {
    ASSIGN_OR_RETURN(const bool more, points.Step());
    if (!more) return out;
    out.push_back(points.IsNull(0) ? kNaN : points.Double(0));
  }
}

// nullopt: too few points, or one of those asked for is not finite.
absl::StatusOr<std::optional<double>> ValueAt(store::Statement& points, int64_t trial,
                                              const std::string& series, const std::string& stage,
                                              const At& at, bool lower_is_better) {
  const bool best = at.kind == At::Kind::kBest, step = at.kind == At::Kind::kStep;
  ASSIGN_OR_RETURN(std::vector<double> v, Points(points, trial, series, stage, step ? at.k : -1,
                                                 best   ? -1
                                                 : step ? 1
                                                        : at.k));
  if (step) {
    if (v.empty() || !std::isfinite(v[0])) return std::nullopt;
    return v[0];
  }
  if (best) {
    std::erase_if(v, [](double x) { return std::isnan(x); });
    if (v.empty()) return std::nullopt;
    return lower_is_better ? *std::min_element(v.begin(), v.end())
                           : *std::max_element(v.begin(), v.end());
  }
  double sum = 0;
  for (double x : v) sum += x;
  if (std::ssize(v) < at.k || !std::isfinite(sum)) return std::nullopt;
  return sum / static_cast<double>(at.k);
}

bool Ends(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

}  // namespace

std::string ValueOf(const SweepResults::Cell& cell, const std::string& axis) {
  for (const auto& [path, value] : cell.axes) {
    if (path == axis) return value;
  }
  return kNoValue;
}

std::vector<std::string> AxesOf(const std::vector<SweepResults::Cell>& cells, bool varying) {
  std::vector<std::string> out;
  for (const SweepResults::Cell& c : cells) {
    for (const auto& [path, value] : c.axes) {
      if (std::find(out.begin(), out.end(), path) != out.end()) continue;
      if (!varying || std::any_of(cells.begin(), cells.end(),
                                  [&, p = path, v = value](const SweepResults::Cell& o) {
                                    return ValueOf(o, p) != v;
                                  }))
        out.push_back(path);
    }
  }
  return out;
}

absl::StatusOr<std::string> ChooseAxis(const std::vector<std::string>& axes,
                                       const std::string& asked, const char* option) {
  for (const std::string& a : axes) {
    if (a == asked || LastWord(a) == asked) return a;
  }
  const std::string near = Nearest(asked, axes);
  std::string list;
  for (const std::string& a : axes) absl::StrAppend(&list, list.empty() ? "" : ", ", a);
  return absl::InvalidArgumentError(absl::StrCat(
      option, " ", asked, ": no axis of this sweep; ",
      near.empty() ? absl::StrCat("there are ", list) : absl::StrCat("did you mean ", near, "?")));
}

std::string LastWord(const std::string& path) { return path.substr(path.rfind('.') + 1); }

bool IsNumber(const std::string& s, double* out) {
  char* end = nullptr;
  *out = std::strtod(s.c_str(), &end);
  return end != s.c_str() && *end == '\0';
}

std::optional<bool> LowerIsBetter(const std::string& series) {
  for (const char* end : {"loss", "perplexity", "bits_per_byte", "_bytes", "seconds"}) {
    if (Ends(series, end)) return true;
  }
  for (const char* end : {"accuracy", "acc", "acc_norm", "_per_s", "f1"}) {
    if (Ends(series, end)) return false;
  }
  return std::nullopt;
}

absl::StatusOr<At> ParseAt(const std::string& text) {
  if (text == "last") return At{};
  if (text == "best") return At{.kind = At::Kind::kBest};
  const auto number = [&](const std::string& before, const std::string& after) -> int64_t {
    if (text.rfind(before, 0) != 0 || !Ends(text, after)) return -1;
    double k = 0;
    const std::string digits =
        text.substr(before.size(), text.size() - before.size() - after.size());
    return IsNumber(digits, &k) && k >= 0 && k <= 1e15 && k == std::floor(k)
               ? static_cast<int64_t>(k)
               : -1;
  };
  if (const int64_t k = number("mean_last(", ")"); k >= 1)
    return At{.kind = At::Kind::kMeanLast, .k = k};
  if (const int64_t k = number("step ", ""); k >= 0) return At{.kind = At::Kind::kStep, .k = k};
  return absl::InvalidArgumentError(
      absl::StrCat("--at ", text, ": one of last, best, 'mean_last(5)', 'step 1000'"));
}

SeriesName ParseSeries(const std::string& text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos) return {.series = text};
  return {.stage = text.substr(0, colon), .series = text.substr(colon + 1)};
}

std::string Words(const SweepResults& results) {
  return (results.stage.empty() ? "" : results.stage + ": ") + InWords(results.series);
}

absl::Status UnknownSeries(store::Database& db, int64_t sweep, const std::string& series,
                           const std::string& stage) {
  ASSIGN_OR_RETURN(
      store::Statement names,
      db.Prepare(
          "SELECT DISTINCT series FROM v_curve WHERE sweep_id = ?1 AND layer = -1 AND (?2 = '' OR "
          "stage = ?2) ORDER BY 1"));
  names.Bind(1, sweep);
  names.Bind(2, stage);
  std::vector<std::string> all;
  for (;;) {
    ASSIGN_OR_RETURN(const bool more, names.Step());
    if (!more) break;
    all.push_back(names.Text(0));
  }
  const std::string near = Nearest(series, all);
  std::string list;
  for (const std::string& s : all) absl::StrAppend(&list, list.empty() ? "" : ", ", s);
  return absl::NotFoundError(absl::StrCat("sweep ", sweep, " has no points of ", series,
                                          stage.empty() ? "" : " in a stage " + stage, "; ",
                                          !near.empty() ? absl::StrCat("did you mean ", near, "?")
                                          : all.empty() ? std::string("nothing is measured yet")
                                                        : absl::StrCat("there are ", list)));
}

std::string InWords(const std::string& series) {
  std::string out = series;
  for (char& c : out) {
    if (c == '/' || c == '_') c = ' ';
  }
  return out;
}

absl::StatusOr<SweepResults> LoadResults(store::Database& db, int64_t sweep,
                                         const std::string& series, std::optional<At> asked,
                                         std::optional<bool> lower_is_better) {
  SweepResults out;
  ASSIGN_OR_RETURN(out.id, FindSweep(db, sweep));
  ASSIGN_OR_RETURN(
      store::Statement head,
      db.Prepare("SELECT name, state, objective, trials - (SELECT count(*) FROM "
                 "sweep_trial WHERE sweep_id = sweep.id AND tune = 1), objective_stage, "
                 "objective_at, objective_goal FROM sweep WHERE id = ?"));
  head.Bind(1, out.id);
  RETURN_IF_ERROR(head.Step().status());
  out.name = head.Text(0);
  out.state = head.Text(1);
  const SeriesName named =
      series.empty() ? SeriesName{head.Text(4), head.Text(2)} : ParseSeries(series);
  out.series = named.series, out.stage = named.stage;
  out.is_objective = out.series == head.Text(2) && out.stage == head.Text(4);
  out.lower_is_better = LowerIsBetter(out.series);
  if (out.is_objective) {
    const bool maximize = head.Text(6) == "maximize";
    // Of an older sweep whose file said no goal the name of the series may say more.
    if (maximize || !out.stage.empty() || !out.lower_is_better) out.lower_is_better = !maximize;
  }
  if (lower_is_better) out.lower_is_better = lower_is_better;
  At at = asked.value_or(At{});
  if (!asked && out.is_objective && !head.Text(5).empty()) {
    ASSIGN_OR_RETURN(at, ParseAt(head.Text(5)));
  }
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
    SweepResults::Cell cell;
    cell.result.name = cells.Text(1);
    const auto axes = nlohmann::ordered_json::parse(cells.Text(2), nullptr, false);
    if (axes.is_object()) {
      for (const auto& [path, value] : axes.items()) {
        cell.axes.emplace_back(path, value.is_string() ? value.get<std::string>() : value.dump());
      }
    }
    const auto flags = nlohmann::json::parse(cells.Text(3), nullptr, false);
    if (flags.is_array()) {
      for (const auto& f : flags) {
        if (f.is_string()) cell.result.flags.push_back(f.get<std::string>());
      }
    }
    cell.id = cells.Int(0);
    index[cell.id] = out.cells.size();
    out.cells.push_back(std::move(cell));
  }

  ASSIGN_OR_RETURN(
      store::Statement rows,
      db.Prepare("SELECT st.cell_id, st.replicate, st.aa, "
                 "coalesce((SELECT CASE WHEN g.state = 'succeeded' THEN coalesce((SELECT l.state "
                 "FROM stage l WHERE l.trial_id = t.id AND l.name = st.of_stage), g.state) ELSE "
                 "g.state END FROM stage g WHERE g.trial_id = t.id AND g.parent_id IS NULL), "
                 "t.state), "
                 "t.params_total, t.params_non_embedding, "
                 "t.flops, t.corpus, t.tokenizer, "
                 "(SELECT m.value FROM stage g JOIN series s ON s.stage_id = g.id "
                 "JOIN measurement m ON m.series_id = s.id "
                 " WHERE g.trial_id = t.id AND g.kind <> 'timing' AND s.name = ?2 AND "
                 "s.layer = -1 AND st.of_stage IN ('', g.name) ORDER BY g.parent_id IS NOT NULL, "
                 "m.step DESC LIMIT 1), "
                 "(SELECT m.value FROM stage g JOIN series s ON s.stage_id = g.id "
                 "JOIN measurement m ON m.series_id = s.id "
                 " WHERE g.trial_id = t.id AND g.parent_id IS NULL AND s.name = "
                 "'time/wall_seconds' ORDER BY m.step DESC LIMIT 1), "
                 "(SELECT m.value FROM stage g JOIN series s ON s.stage_id = g.id "
                 "JOIN measurement m ON m.series_id = s.id "
                 " WHERE g.trial_id = t.id AND s.name = 'timing/solo_tokens_per_s' "
                 "ORDER BY m.step DESC LIMIT 1), t.flops_per_token, t.tokens, "
                 "t.seed_data, t.id, st.of_stage "
                 // As the trial calls it.
                 "FROM (SELECT *, coalesce((SELECT value FROM json_each(stages_json) WHERE key = "
                 "?3), ?3) AS of_stage FROM sweep_trial) st "
                 "JOIN trial t ON t.id = st.trial_id WHERE "
                 "st.sweep_id = ?1 AND st.tune = 0 ORDER BY st.idx"));
  rows.Bind(1, out.id);
  rows.Bind(2, out.series);
  rows.Bind(3, out.stage);
  ASSIGN_OR_RETURN(
      store::Statement points,
      db.Prepare(
          "SELECT m.value FROM measurement m WHERE m.series_id = (SELECT s.id FROM stage g "
          "JOIN series s ON s.stage_id = g.id WHERE g.trial_id = ?1 AND "
          "g.kind <> 'timing' AND s.name = ?2 AND s.layer = -1 AND ?5 IN ('', g.name) ORDER BY "
          "g.parent_id IS NOT NULL, g.id, s.definition_version DESC LIMIT 1) AND ?3 IN (-1, "
          "m.step) "
          "ORDER BY m.step DESC LIMIT ?4"));
  std::map<int64_t, std::vector<double>> seconds;
  for (;;) {
    ASSIGN_OR_RETURN(const bool more, rows.Step());
    if (!more) break;
    const auto it = index.find(rows.Int(0));
    if (it == index.end()) continue;
    analysis::CellResult& cell = out.cells[it->second].result;
    const int64_t replicate = rows.Int(1);
    const bool aa = rows.Int(2) != 0;
    const std::string state = rows.Text(3);
    if (state != "pending" && state != "running" && state != "paused") ++out.ended;
    cell.params_total = rows.Int(4);
    cell.params_non_embedding = rows.Int(5);
    cell.flops = rows.Double(6);
    cell.flops_per_token = rows.Int(12);
    cell.tokens = rows.Int(13);
    if (out.corpus.empty()) {
      out.corpus = rows.Text(7);
      out.tokenizer = rows.Text(8);
    }
    // The last value of a training that ended otherwise is no result; how the stages after it ended
    // is another matter.
    std::optional<double> result;
    if (state == "succeeded" || (at.kind == At::Kind::kStep && state != "diverged")) {
      if (at.kind != At::Kind::kLast) {
        ASSIGN_OR_RETURN(result, ValueAt(points, rows.Int(15), out.series, rows.Text(16), at,
                                         out.lower_is_better.value_or(true)));
      } else if (!rows.IsNull(9)) {
        result = rows.Double(9);
      }
    }
    out.cells[it->second].runs.push_back({.trial = rows.Int(15),
                                          .replicate = replicate,
                                          .seed = rows.Int(14),
                                          .aa = aa,
                                          .state = state,
                                          .value = result});
    if (aa) {
      if (result) cell.aa_values[replicate] = *result;
      continue;
    }
    ++cell.replicates;
    cell.diverged += state == "diverged";
    if (result) cell.values[replicate] = *result;
    if (!rows.IsNull(10)) {
      std::vector<double>& of_cell = seconds[rows.Int(0)];
      of_cell.push_back(rows.Double(10));
      cell.wall_seconds +=
          (of_cell.back() - cell.wall_seconds) / static_cast<double>(of_cell.size());
    }
    if (!rows.IsNull(11)) cell.solo_tokens_per_s = rows.Double(11);
  }
  return out;
}

namespace {
int64_t Foreign(const std::vector<analysis::CellResult>& cells) {
  return std::count_if(cells.begin(), cells.end(), [](const analysis::CellResult& c) {
    return std::find(c.flags.begin(), c.flags.end(), "foreign") != c.flags.end();
  });
}
}  // namespace

absl::StatusOr<std::vector<analysis::MapFigure>> MapFigures(const SweepResults& results,
                                                            std::string rows, std::string columns) {
  const std::vector<std::string> axes = AxesOf(results.cells, false),
                                 varying = AxesOf(results.cells, true);
  const auto pick = [&](const std::string& wanted, const std::string& taken) -> std::string {
    std::string found;
    double ignored = 0;
    for (const std::string& a : varying) {
      if (a == taken || !IsNumber(ValueOf(results.cells[0], a), &ignored)) continue;
      if (a == wanted) return a;
      if (found.empty() || found == "model.d_model") found = a;
    }
    return found;
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

  std::map<std::string, std::vector<analysis::CellResult>> panels;  // by the other axes' values
  for (const SweepResults::Cell& c : results.cells) {
    std::string rest;
    for (const std::string& a : varying) {
      if (a != rows && a != columns) {
        absl::StrAppend(&rest, rest.empty() ? "" : " ", LastWord(a), "=", ValueOf(c, a));
      }
    }
    analysis::CellResult cell = c.result;
    for (const auto& [axis, to] : {std::pair(columns, &cell.x), std::pair(rows, &cell.y)}) {
      if (!axis.empty() && !IsNumber(ValueOf(c, axis), to)) {
        return absl::InvalidArgumentError(absl::StrCat(
            "axis ", axis, " is not a number (", ValueOf(c, axis),
            "); a map's axes are numbers, each setting of the others gets a map of its own"));
      }
    }
    panels[rest].push_back(std::move(cell));
  }
  std::vector<analysis::MapFigure> figures;
  const std::string metric = Words(results);
  for (auto& [rest, cells] : panels) {
    analysis::MapFigure f{.title = absl::StrCat("Sweep ", results.id, " ", results.name, ": ",
                                                metric, results.corpus.empty() ? "" : ", ",
                                                results.corpus, rest.empty() ? "" : ", ", rest),
                          .metric = metric,
                          .x_label = columns.empty() ? "" : AxisLabel(columns),
                          .y_label = rows.empty() ? "" : AxisLabel(rows)};
    f.reading = analysis::ReadMap(cells, metric, kLevel, !results.lower_is_better.value_or(true));
    f.cells = std::move(cells);
    if (results.ended < results.trials) {
      f.notes.push_back(absl::StrCat("Not complete: ", results.ended, " of ", results.trials,
                                     " trials have ended"));
    }
    if (const auto n = Foreign(f.cells); n > 0) {
      f.notes.push_back(
          absl::StrCat(n, " of ", f.cells.size(),
                       " cells are foreign: not trained by Plumb, their split, tokens "
                       "and seeds are as they say"));
    }
    figures.push_back(std::move(f));
  }
  return figures;
}

absl::StatusOr<analysis::CurvesFigure> LoadCurves(store::Database& db,
                                                  const CurveRequest& request) {
  if (request.x != "steps" && request.x != "tokens" && request.x != "flops") {
    return absl::InvalidArgumentError(
        absl::StrCat("--x ", request.x, ": not one of steps, tokens, flops"));
  }
  ASSIGN_OR_RETURN(const int64_t sweep, FindSweep(db, request.sweep));
  const SeriesName name = ParseSeries(request.series);
  const std::string words = (name.stage.empty() ? "" : name.stage + ": ") + InWords(name.series);
  ASSIGN_OR_RETURN(
      store::Statement rows,
      db.Prepare(absl::StrCat(
          "SELECT cell_id, cell, trial_id, replicate, ", request.x == "steps" ? "step" : request.x,
          ", value, (SELECT is_foreign FROM trial_origin o WHERE o.trial_id = v_curve.trial_id) "
          "FROM v_curve WHERE sweep_id = ?1 AND series = ?2 AND layer = -1 AND (?3 = '' OR stage = "
          "coalesce((SELECT j.value FROM sweep_trial p, json_each(p.stages_json) j WHERE "
          "p.sweep_id "
          "= ?1 AND p.trial_id = v_curve.trial_id AND j.key = ?3 LIMIT 1), ?3)) AND "
          "aa = 0 AND tune = 0 ORDER BY cell_id, replicate, trial_id, step")));
  rows.Bind(1, sweep);
  rows.Bind(2, name.series);
  rows.Bind(3, name.stage);
  analysis::CurvesFigure f{.title = absl::StrCat("Sweep ", sweep, ": ", words),
                           .x_label = request.x == "steps"    ? "steps"
                                      : request.x == "tokens" ? "training tokens"
                                                              : "training FLOPs",
                           .y_label = words,
                           .log_x = !request.linear};
  int64_t cell = -1, trial = -1;
  int group = -1;
  for (;;) {
    ASSIGN_OR_RETURN(const bool more, rows.Step());
    if (!more) break;
    if (rows.Int(0) != cell) {
      cell = rows.Int(0);
      trial = -1;
      ++group;
    }
    if (rows.Int(2) != trial) {
      trial = rows.Int(2);
      f.curves.push_back({.label = absl::StrCat(rows.Text(1), rows.Int(6) != 0 ? " (foreign)" : ""),
                          .group = group});
    }
    f.curves.back().points.emplace_back(rows.Double(4), rows.IsNull(5) ? kNaN : rows.Double(5));
  }
  if (f.curves.empty()) return UnknownSeries(db, sweep, name.series, name.stage);
  return f;
}

}  // namespace plumb::app
