// plumb plot front: the cells of a sweep that nothing beats in all of several objectives.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "analysis/front.h"
#include "app/commands.h"
#include "app/database.h"
#include "app/exit_code.h"
#include "app/nearest.h"
#include "app/signals.h"
#include "app/tables.h"
#include "app/write_file.h"
#include "domain/status_macros.h"
#include "sweeps/measures.h"
#include "sweeps/search_spec.h"
#include "sweeps/sweep_file.h"

namespace plumb::app {
namespace {

using sweeps::PlannedObjective;

// Those of the sweep's file, or those of `--of`, which are read as tables read a series.
absl::StatusOr<std::vector<PlannedObjective>> Objectives(store::Database& db, int64_t sweep,
                                                         const std::string& of) {
  std::vector<PlannedObjective> out;
  if (of.empty()) {
    ASSIGN_OR_RETURN(store::Statement yaml,
                     db.Prepare("SELECT sweep_yaml FROM sweep WHERE id = ?1 OR ?1 = 0 ORDER BY id "
                                "DESC LIMIT 1"));
    yaml.Bind(1, sweep);
    ASSIGN_OR_RETURN(const bool found, yaml.Step());
    std::vector<sweeps::Problem> problems;
    if (found) out = sweeps::ReadSweepFile(yaml.Text(0), &problems).objectives;
    if (out.size() < 2) {
      return absl::InvalidArgumentError(
          "the sweep has one objective, and a front is of several; name them: --of "
          "val/loss,cost/flops");
    }
    return out;
  }
  for (const absl::string_view part : absl::StrSplit(of, ',', absl::SkipWhitespace())) {
    const std::string metric(part);
    const std::string measure = sweeps::CostMeasure(metric);
    if (metric.rfind("cost/", 0) == 0 && !sweeps::IsMeasure(measure)) {
      const std::string near = Nearest(measure, sweeps::MeasureNames());
      return absl::InvalidArgumentError(absl::StrCat(
          "--of ", metric, ": unknown measure; ",
          near.empty() ? absl::StrCat("there are ", absl::StrJoin(sweeps::MeasureNames(), ", "))
                       : absl::StrCat("did you mean cost/", near, "?")));
    }
    const SeriesName name = ParseSeries(metric);
    out.push_back({.stage = name.stage,
                   .metric = name.series,
                   .maximize = !LowerIsBetter(name.series).value_or(true)});
  }
  if (out.size() < 2)
    return absl::InvalidArgumentError("--of: two objectives at least, as val/loss,cost/flops");
  return out;
}

// By cell: a measure of its first replicate's trial.
absl::StatusOr<std::map<int64_t, double>> Costs(store::Database& db, int64_t sweep,
                                                const std::string& measure) {
  ASSIGN_OR_RETURN(
      store::Statement rows,
      db.Prepare(absl::StrCat("SELECT st.cell_id, t.", measure,
                              " FROM sweep_trial st JOIN trial t ON t.id = st.trial_id WHERE "
                              "st.sweep_id = ? ORDER BY st.idx")));
  rows.Bind(1, sweep);
  std::map<int64_t, double> out;
  for (;;) {
    ASSIGN_OR_RETURN(const bool more, rows.Step());
    if (!more) return out;
    out.try_emplace(rows.Int(0), rows.Double(1));
  }
}

// The mean over a cell's replicates; nullopt, with the reason, where one of them has no value.
std::optional<double> Mean(const SweepResults::Cell& cell, int64_t* n, std::string* why) {
  double sum = 0;
  *n = 0;
  for (const SweepResults::Cell::Run& run : cell.runs) {
    if (run.aa) continue;
    ++*n;
    if (!run.value || !std::isfinite(*run.value)) {
      *why = absl::StrCat("trial ", run.trial, " is ", run.state, " without a value");
      return std::nullopt;
    }
    sum += *run.value;
  }
  if (*n == 0) *why = "no replicate";
  return *n > 0 ? std::optional(sum / static_cast<double>(*n)) : std::nullopt;
}

absl::StatusOr<analysis::FrontFigure> Load(store::Database& db, const PlotArgs& args) {
  ASSIGN_OR_RETURN(const auto objectives, Objectives(db, args.sweep, args.of));
  analysis::FrontFigure out;
  std::map<int64_t, analysis::FrontPoint> points;
  std::map<int64_t, std::string> left_out;
  int64_t sweep = args.sweep;
  // What is measured first: it says which cells there are.
  std::vector<size_t> order;
  for (const bool cost : {false, true}) {
    for (size_t i = 0; i < objectives.size(); ++i) {
      if (sweeps::CostMeasure(objectives[i].metric).empty() != cost) order.push_back(i);
    }
  }
  for (const size_t i : order) {
    const std::string measure = sweeps::CostMeasure(objectives[i].metric);
    if (!measure.empty()) {
      ASSIGN_OR_RETURN(const auto costs, Costs(db, sweep, measure));
      for (auto& [id, point] : points) {
        const auto cost = costs.find(id);
        if (cost != costs.end()) point.values[i] = cost->second;
      }
      continue;
    }
    ASSIGN_OR_RETURN(const At at, ParseAt(objectives[i].at));
    const PlannedObjective& o = objectives[i];
    ASSIGN_OR_RETURN(
        const SweepResults results,
        LoadResults(db, sweep, absl::StrCat(o.stage, o.stage.empty() ? "" : ":", o.metric), at,
                    !o.maximize));
    sweep = results.id;
    out.title = absl::StrCat("Sweep ", results.id, " ", results.name, ": what nothing else beats");
    bool any = false;
    for (const SweepResults::Cell& cell : results.cells) {
      analysis::FrontPoint& point = points[cell.id];
      point.cell = cell.result.name;
      point.values.resize(objectives.size());
      std::string why;
      const auto mean = Mean(cell, &point.n, &why);
      if (mean) point.values[i] = *mean;
      if (!mean) left_out.try_emplace(cell.id, absl::StrCat(cell.result.name, ": ", why));
      any |= mean.has_value();
    }
    if (!any) return UnknownSeries(db, sweep, o.metric, o.stage);
  }
  if (sweep == 0 || points.empty())
    return absl::InvalidArgumentError("--of: one objective at least is measured, as val/loss");
  for (const PlannedObjective& o : objectives) {
    const std::string measure = sweeps::CostMeasure(o.metric);
    out.objectives.push_back(absl::StrCat(o.stage.empty() ? "" : o.stage + ": ",
                                          InWords(measure.empty() ? o.metric : measure)));
    out.maximize.push_back(o.maximize);
  }
  for (auto& [id, point] : points) {
    if (!left_out.contains(id)) out.points.push_back(std::move(point));
  }
  size_t shown = 0;
  for (const auto& [id, why] : left_out) {
    if (++shown <= 5) out.notes.push_back(absl::StrCat("left out: ", why));
  }
  if (shown > 5) out.notes.push_back(absl::StrCat("left out: ", shown - 5, " more"));
  Sort(&out);
  return out;
}

std::string Json(const analysis::FrontFigure& f) {
  nlohmann::ordered_json out = {{"title", f.title}, {"objectives", nlohmann::json::array()}};
  for (size_t i = 0; i < f.objectives.size(); ++i)
    out["objectives"].push_back({{"name", f.objectives[i]}, {"maximize", bool(f.maximize[i])}});
  out["cells"] = nlohmann::json::array();
  for (const analysis::FrontPoint& p : f.points) {
    out["cells"].push_back(
        {{"cell", p.cell}, {"values", p.values}, {"n", p.n}, {"on_front", p.on_front}});
  }
  out["notes"] = f.notes;
  return out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

absl::Status Run(const Context& context, const PlotArgs& args) {
  std::string format = context.format;
  const std::string ending = std::filesystem::path(args.out).extension().string();
  if (format == "table" && (ending == ".svg" || ending == ".csv" || ending == ".json"))
    format = ending.substr(1);
  const std::vector<std::string> formats = {"table", "text", "json", "csv", "svg"};
  if (std::find(formats.begin(), formats.end(), format) == formats.end()) {
    const std::string near = Nearest(format, formats);
    return absl::InvalidArgumentError(
        absl::StrCat("-o ", format, ": a front is one of table, json, csv, svg",
                     near.empty() ? "" : absl::StrCat("; did you mean ", near, "?")));
  }
  ASSIGN_OR_RETURN(store::Database db, OpenResults(context.db));
  ASSIGN_OR_RETURN(const analysis::FrontFigure figure, Load(db, args));
  const std::string text = format == "json"  ? Json(figure)
                           : format == "csv" ? analysis::Csv(figure)
                           : format == "svg"
                               ? analysis::Svg(figure)
                               : analysis::Terminal(figure, {.width = TerminalWidth()});
  if (args.out.empty() || args.out == "-") {
    std::fputs(text.c_str(), stdout);
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(WriteFile(args.out, text));
  std::fprintf(stderr, "%s\n", args.out.c_str());
  return absl::OkStatus();
}

}  // namespace

int PlotFront(const Context& context, const PlotArgs& args) { return Finish(Run(context, args)); }

}  // namespace plumb::app
