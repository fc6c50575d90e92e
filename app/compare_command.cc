// plumb compare: one value of an axis against another, with what may be claimed.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "analysis/figure.h"
#include "app/arms.h"
#include "app/commands.h"
#include "app/database.h"
#include "app/exit_code.h"
#include "app/nearest.h"
#include "app/signals.h"
#include "app/tables.h"
#include "app/write_file.h"
#include "domain/status_macros.h"
#include "sweeps/sweep_file.h"

namespace plumb::app {
namespace {

using Json = nlohmann::ordered_json;
using analysis::Comparison;

Json Finite(double v) { return std::isfinite(v) ? Json(v) : Json(); }
Json Finite(const std::optional<double>& v) { return v ? Finite(*v) : Json(); }

Json DifferenceJson(const analysis::Difference& d) {
  const bool interval = std::isfinite(d.low);
  return {{"difference", Finite(d.mean)},
          {"low", Finite(d.low)},
          {"high", Finite(d.high)},
          {"n_value", d.n_a},
          {"n_baseline", d.n_b},
          {"paired", d.paired},
          {"standard_error", interval ? Finite(d.error) : Json()},
          {"degrees_of_freedom", interval ? Finite(d.freedom) : Json()},
          {"p", Finite(d.p)}};
}

Json ToJson(const SweepResults& results, const std::string& at, const std::string& axis,
            const Comparison& c) {
  Json out = {{"sweep", results.id},
              {"name", results.name},
              {"trials", results.trials},
              {"ended", results.ended},
              {"metric", results.series},
              {"stage", results.stage},
              {"goal", !results.lower_is_better   ? Json()
                       : *results.lower_is_better ? "minimize"
                                                  : "maximize"},
              {"at", at},
              {"axis", axis},
              {"baseline", c.options.baseline},
              {"level", c.options.level},
              {"comparisons", Json::array()},
              {"control", Json()},
              {"left_out", Json::array()},
              {"absent", Json::array()},
              {"sentences", c.sentences},
              {"notes", c.notes}};
  for (const analysis::Compared& r : c.rows) {
    Json row = {{"value", r.value},
                {"slice", r.pooled ? Json() : Json(r.slice)},
                {"slices", r.slices},
                {"pooled", r.pooled}};
    row.update(DifferenceJson(r.difference));
    row.update({{"p_holm", Finite(r.p_holm)},
                {"noise_floor", Finite(r.noise_floor)},
                {"verdict", VerdictInWords(r, c.options)},
                {"partial", r.partial},
                {"flags", r.flags}});
    out["comparisons"].push_back(std::move(row));
  }
  if (c.control) {
    Json cells = Json::array();
    for (const analysis::ControlReading::Row& r : c.control->rows) {
      Json row = {{"value", r.value}, {"slice", r.slice}};
      row.update(DifferenceJson(r.difference));
      cells.push_back(std::move(row));
    }
    out["control"] = {{"run_sd", c.control->noise.sd},
                      {"degrees_of_freedom", c.control->noise.freedom},
                      {"cells", std::move(cells)}};
  }
  for (const analysis::LeftOut& e : c.left_out)
    out["left_out"].push_back({{"cell", e.name}, {"reason", e.reason}});
  for (const analysis::Absent& a : c.absent) {
    for (const analysis::Missing& m : a.missing) {
      out["absent"].push_back({{"cell", a.name},
                               {"trial", m.trial},
                               {"replicate", m.replicate},
                               {"aa", m.control},
                               {"why", m.words}});
    }
  }
  return out;
}

// What the file of the sweep (0: the newest) says of its objective; "last" where it cannot be read.
absl::StatusOr<std::string> ReportAt(store::Database& db, int64_t sweep) {
  ASSIGN_OR_RETURN(
      store::Statement yaml,
      db.Prepare("SELECT sweep_yaml FROM sweep WHERE id = ?1 OR ?1 = 0 ORDER BY id DESC LIMIT 1"));
  yaml.Bind(1, sweep);
  ASSIGN_OR_RETURN(const bool found, yaml.Step());
  std::vector<sweeps::Problem> problems;
  return found ? sweeps::ReadSweepFile(yaml.Text(0), &problems).objectives.front().at : "last";
}

// NotFound where no trial measured the series at all.
absl::Status HasSeries(store::Database& db, const SweepResults& results) {
  ASSIGN_OR_RETURN(
      store::Statement any,
      db.Prepare("SELECT 1 FROM sweep_trial st JOIN stage g ON g.trial_id = st.trial_id "
                 "JOIN series s ON s.stage_id = g.id WHERE st.sweep_id = ? AND "
                 "s.name = ? AND s.layer = -1 AND (?3 = '' OR g.name = coalesce((SELECT value FROM "
                 "json_each(st.stages_json) WHERE key = ?3), ?3)) LIMIT 1"));
  any.Bind(1, results.id);
  any.Bind(2, results.series);
  any.Bind(3, results.stage);
  ASSIGN_OR_RETURN(const bool found, any.Step());
  return found ? absl::OkStatus() : UnknownSeries(db, results.id, results.series, results.stage);
}

std::string AtInWords(const At& at) {
  switch (at.kind) {
    case At::Kind::kLast:
      return "the last value";
    case At::Kind::kBest:
      return "the best value";
    case At::Kind::kMeanLast:
      return absl::StrCat("the mean of the last ", at.k, " values");
    case At::Kind::kStep:
      return absl::StrCat("the value at step ", at.k);
  }
  return "";
}

absl::Status Run(const Context& context, const CompareArgs& args) {
  const std::vector<std::string> formats = {"table", "json", "csv", "svg"};
  const std::string format = context.format == "text" ? "table" : context.format;
  if (std::find(formats.begin(), formats.end(), format) == formats.end()) {
    const std::string near = Nearest(format, formats);
    return absl::InvalidArgumentError(
        absl::StrCat("-o ", format, ": a comparison is one of table, json, csv, svg",
                     near.empty() ? "" : absl::StrCat("; did you mean ", near, "?")));
  }
  if (!(args.level > 0 && args.level < 1)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("--level %g: a chance between 0 and 1, as 0.95", args.level));
  }
  ASSIGN_OR_RETURN(store::Database db, OpenResults(context.db));
  std::string asked = args.at;
  if (asked.empty() && args.metric.empty()) {
    ASSIGN_OR_RETURN(asked, ReportAt(db, args.sweep));
  }
  if (asked.empty()) asked = "last";
  ASSIGN_OR_RETURN(const At at, ParseAt(asked));
  ASSIGN_OR_RETURN(const SweepResults results, LoadResults(db, args.sweep, args.metric, at));
  RETURN_IF_ERROR(HasSeries(db, results));
  ASSIGN_OR_RETURN(const Arms arms, ArmsByAxis(results, args.by, args.baseline));

  const std::string metric = Words(results);
  const std::string unit = InWords(results.series).substr(InWords(results.series).find(' ') + 1);
  analysis::CompareFigure figure{
      .title = absl::StrCat("Sweep ", results.id, " ", results.name, ": ", metric, ", ", arms.axis,
                            " against ", arms.baseline),
      .header = absl::StrFormat("Differences are value minus %s, of %s, paired by seed; %.4g %% t "
                                "intervals; p by Holm over "
                                "all comparisons here.",
                                arms.baseline, AtInWords(at), 100 * args.level),
      .axis = arms.axis,
      .unit = unit,
      .comparison = analysis::Compare(arms.arms,
                                      {.baseline = arms.baseline,
                                       .level = args.level,
                                       .lower_is_better = results.lower_is_better},
                                      unit)};
  std::vector<std::string>& notes = figure.comparison.notes;
  notes.insert(notes.end(), arms.notes.begin(), arms.notes.end());
  if (at.kind == At::Kind::kStep) {
    notes.push_back(
        "Values on the way, of trainings that may still run: before the end of a schedule losses "
        "of "
        "different shapes or rates are not comparable.");
  }
  if (results.ended < results.trials) {
    notes.push_back(absl::StrCat("The sweep goes on: ", results.ended, " of ", results.trials,
                                 " trials have ended."));
  }
  if (!args.plot.empty()) {
    RETURN_IF_ERROR(WriteFile(args.plot, analysis::Svg(figure)));
    std::fprintf(stderr, "%s\n", args.plot.c_str());
  }
  const std::string text =
      format == "json"  ? ToJson(results, asked, arms.axis, figure.comparison).dump(2) + "\n"
      : format == "csv" ? analysis::Csv(figure)
      : format == "svg" ? analysis::Svg(figure)
                        : analysis::Terminal(figure, {.width = TerminalWidth()});
  std::fputs(text.c_str(), stdout);
  return absl::OkStatus();
}

}  // namespace

int RunCompare(const Context& context, const CompareArgs& args) {
  return Finish(Run(context, args));
}

}  // namespace plumb::app
