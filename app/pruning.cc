// Curves of what is left of trained models without some of their layers, from the records of prune
// stages.
#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "app/nearest.h"
#include "app/tables.h"
#include "domain/status_macros.h"

namespace plumb::app {
namespace {

const std::vector<std::string>& Metrics() {
  static const std::vector<std::string> kMetrics = {
      "perplexity", "loss", "stream_error", "tokens_per_second", "parameters", "flops_per_token"};
  return kMetrics;
}

struct Row {
  std::string stage, cell, method;
  int64_t replicate = 0, removed = 0;
  double value = 0;
  std::string order, split;
};

absl::StatusOr<std::vector<Row>> RowsOf(store::Database& db, int64_t sweep,
                                        const std::string& metric) {
  ASSIGN_OR_RETURN(
      store::Statement rows,
      db.Prepare(
          "SELECT r.stage, r.cell, json_extract(r.data_json, '$.method'), t.replicate, "
          "json_extract(r.data_json, "
          "'$.layers_removed'), json_extract(r.data_json, '$.' || ?2), json_extract(r.data_json, "
          "'$.order'), "
          "json_extract(r.data_json, '$.split') FROM v_record r JOIN v_trial t ON t.trial_id = "
          "r.trial_id AND "
          "t.sweep_id = r.sweep_id WHERE r.sweep_id = ?1 AND r.kind = 'prune' AND t.aa = 0 AND "
          "t.tune = 0 AND "
          "json_extract(r.data_json, '$.' || ?2) IS NOT NULL ORDER BY r.stage, r.cell, 3, 5, 4"));
  rows.Bind(1, sweep).Bind(2, metric);
  std::vector<Row> out;
  for (;;) {
    ASSIGN_OR_RETURN(const bool more, rows.Step());
    if (!more) return out;
    out.push_back({rows.Text(0), rows.Text(1), rows.Text(2), rows.Int(3), rows.Int(4),
                   rows.Double(5), rows.Text(6), rows.Text(7)});
  }
}

}  // namespace

absl::StatusOr<analysis::ProfileFigure> LoadPruning(store::Database& db,
                                                    const PruningRequest& request) {
  // "arc/acc": of a task that was asked after each step.
  const size_t slash = request.metric.find('/');
  const bool of_task = slash != std::string::npos;
  const bool more_is_better =
      of_task ? !request.metric.ends_with("perplexity") : request.metric == "tokens_per_second";
  const std::string member = of_task ? absl::StrCat("tasks.\"", request.metric.substr(0, slash),
                                                    "\".\"", request.metric.substr(slash + 1), "\"")
                                     : request.metric;
  if (request.metric.find('"') != std::string::npos ||
      (!of_task &&
       std::find(Metrics().begin(), Metrics().end(), request.metric) == Metrics().end())) {
    const std::string near = Nearest(request.metric, Metrics());
    return absl::InvalidArgumentError(
        absl::StrCat("--series ", request.metric, ": one of ", absl::StrJoin(Metrics(), ", "),
                     ", or of a task NAME/METRIC, as arc/acc",
                     near.empty() ? "" : absl::StrCat("; did you mean ", near, "?")));
  }
  ASSIGN_OR_RETURN(const SweepResults sweep, LoadResults(db, request.sweep, ""));
  ASSIGN_OR_RETURN(std::vector<Row> rows, RowsOf(db, sweep.id, member));
  std::set<std::string> stages, cells;
  for (const Row& r : rows) stages.insert(r.stage);
  if (stages.empty() && of_task)
    return absl::NotFoundError(
        absl::StrCat("sweep ", sweep.id, " has no ", request.metric,
                     " of pruned models; tasks are "
                     "asked by\n  plumb stage run prune --sweep ",
                     sweep.id, " --settings 'tasks: {arc: {format: arc, file: arc.jsonl}}'"));
  if (stages.empty())
    return absl::NotFoundError(absl::StrCat("sweep ", sweep.id,
                                            " has no pruned models; on trained trials they are had "
                                            "by\n  plumb stage run prune --sweep ",
                                            sweep.id));
  const std::string stage = request.stage.empty() ? *stages.begin() : request.stage;
  if (!stages.contains(stage))
    return absl::NotFoundError(
        absl::StrCat("no stage ", stage,
                     " of the sweep has pruned models; these have: ", absl::StrJoin(stages, ", ")));
  std::erase_if(rows, [&](const Row& r) { return r.stage != stage; });
  for (const Row& r : rows) cells.insert(r.cell);

  // Line → layers removed → replicate → value. The whole model begins every line of its cell.
  std::map<std::pair<std::string, std::string>, std::map<int64_t, std::map<int64_t, double>>> lines;
  for (const Row& r : rows) {
    if (r.method != "none") lines[{r.cell, r.method}][r.removed][r.replicate] = r.value;
  }
  for (const Row& r : rows) {
    if (r.method != "none") continue;
    for (auto& [key, line] : lines) {
      if (key.first == r.cell) line[0][r.replicate] = r.value;
    }
  }
  analysis::ProfileFigure f{
      .title = absl::StrCat("Sweep ", sweep.id, " ", sweep.name, ": layers taken away, ", stage),
      .metric = InWords(request.metric),
      .x_label = "layers removed"};
  for (const auto& [key, line] : lines) {
    analysis::ProfileFigure::Line& out = f.lines.emplace_back(analysis::ProfileFigure::Line{
        .label = cells.size() > 1 ? absl::StrCat(key.first, " ", key.second) : key.second});
    for (const auto& [removed, values] : line) {
      analysis::CellResult cell{.name = absl::StrCat(removed, " removed"),
                                .x = static_cast<double>(removed),
                                .values = values};
      cell.replicates = static_cast<int64_t>(values.size());
      out.cells.push_back(std::move(cell));
    }
    out.reading = analysis::ReadMap(out.cells, f.metric, 0.9, more_is_better, "model");
  }
  f.notes.push_back(absl::StrCat("Layers go in the order of ", rows.front().order,
                                 ", found in each model by itself; scored on ", rows.front().split,
                                 ". How much a method is better than another on the same models: "
                                 "plumb query on v_record, paired by trial."));
  return f;
}

}  // namespace plumb::app
