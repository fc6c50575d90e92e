// Curves of what linear probes read from each state, from the measurements of linear_probe stages.
#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "app/nearest.h"
#include "app/tables.h"
#include "domain/status_macros.h"

namespace plumb::app {
namespace {

constexpr char kPrefix[] = "linear_probe/";

struct Row {
  std::string stage, cell, series;  // without the prefix
  int64_t replicate = 0, state = 0;
  double value = 0;
};

absl::StatusOr<std::vector<Row>> RowsOf(store::Database& db, int64_t sweep) {
  ASSIGN_OR_RETURN(
      store::Statement rows,
      db.Prepare("SELECT stage, cell, substr(series, ?3), replicate, layer, value FROM v_curve "
                 "WHERE sweep_id = ?1 AND substr(series, 1, ?3 - 1) = ?2 AND layer >= 0 AND "
                 "aa = 0 AND tune = 0 AND value IS NOT NULL ORDER BY 1, 2, 3, 5, 4"));
  const std::string prefix = kPrefix;
  rows.Bind(1, sweep).Bind(2, prefix).Bind(3, static_cast<int64_t>(prefix.size()) + 1);
  std::vector<Row> out;
  for (;;) {
    ASSIGN_OR_RETURN(const bool more, rows.Step());
    if (!more) return out;
    out.push_back(
        {rows.Text(0), rows.Text(1), rows.Text(2), rows.Int(3), rows.Int(4), rows.Double(5)});
  }
}

// What stands before the asked end of a name, nullopt where the name does not end so.
std::optional<std::string> Before(const std::string& series, const std::string& asked) {
  if (series == asked) return "";
  const std::string end = "/" + asked;
  if (series.size() <= end.size() || !series.ends_with(end)) return std::nullopt;
  return series.substr(0, series.size() - end.size());
}

absl::Status NoneSo(const std::vector<Row>& rows, const std::string& asked) {
  std::set<std::string> known;  // "position/ridge/r2" and what it ends with
  std::set<std::string> metrics;
  for (const Row& r : rows) {
    known.insert(r.series);
    for (size_t at = 0; (at = r.series.find('/', at)) != std::string::npos;)
      known.insert(r.series.substr(++at));
    metrics.insert(r.series.substr(r.series.rfind('/') + 1));
  }
  const std::string near = Nearest(asked, {known.begin(), known.end()});
  return absl::InvalidArgumentError(
      absl::StrCat("--series ", asked, ": ",
                   near.empty() ? absl::StrCat("one of ", absl::StrJoin(metrics, ", "),
                                               ", or the end of a series, as logistic/accuracy")
                                : absl::StrCat("did you mean ", near, "?")));
}

}  // namespace

absl::StatusOr<analysis::ProfileFigure> LoadProbes(store::Database& db,
                                                   const ProbesRequest& request) {
  ASSIGN_OR_RETURN(const SweepResults sweep, LoadResults(db, request.sweep, ""));
  ASSIGN_OR_RETURN(std::vector<Row> rows, RowsOf(db, sweep.id));
  if (rows.empty()) {
    return absl::NotFoundError(absl::StrCat("sweep ", sweep.id,
                                            " has no linear probes; on trained trials they are had "
                                            "by\n  plumb stage run linear_probe --sweep ",
                                            sweep.id));
  }
  std::set<std::string> stages;
  for (const Row& r : rows) stages.insert(r.stage);
  std::string stage = request.stage;
  if (stage.empty()) {  // the first that has the series; else the first, to say what it has
    const auto with = std::find_if(rows.begin(), rows.end(), [&](const Row& r) {
      return Before(r.series, request.series).has_value();
    });
    stage = with == rows.end() ? *stages.begin() : with->stage;
  }
  if (!stages.contains(stage)) {
    return absl::NotFoundError(
        absl::StrCat("no stage ", stage,
                     " of the sweep has linear probes; these have: ", absl::StrJoin(stages, ", ")));
  }
  std::erase_if(rows, [&](const Row& r) { return r.stage != stage; });

  // Cell and probe → state → replicate → value.
  std::map<std::pair<std::string, std::string>, std::map<int64_t, std::map<int64_t, double>>> lines;
  std::set<std::string> cells, probes;
  for (const Row& r : rows) {
    const std::optional<std::string> probe = Before(r.series, request.series);
    if (!probe) continue;
    lines[{r.cell, *probe}][r.state][r.replicate] = r.value;
    cells.insert(r.cell), probes.insert(*probe);
  }
  if (lines.empty()) return NoneSo(rows, request.series);
  const std::string metric = request.series.substr(request.series.rfind('/') + 1);
  analysis::ProfileFigure f{.title = absl::StrCat("Sweep ", sweep.id, " ", sweep.name,
                                                  ": what linear probes read, ", stage),
                            .metric = probes.size() == 1 && !probes.begin()->empty()
                                          ? absl::StrCat(*probes.begin(), "/", request.series)
                                          : request.series,
                            .x_label = "state (0: the embedding)"};
  for (const auto& [key, line] : lines) {
    const auto& [cell_name, probe] = key;
    std::vector<std::string> words;
    if (cells.size() > 1 || probes.size() == 1) words.push_back(cell_name);
    if (probes.size() > 1) words.push_back(probe);
    analysis::ProfileFigure::Line& out =
        f.lines.emplace_back(analysis::ProfileFigure::Line{.label = absl::StrJoin(words, " ")});
    for (const auto& [state, values] : line) {
      analysis::CellResult cell{
          .name = absl::StrCat("h", state), .x = static_cast<double>(state), .values = values};
      cell.replicates = static_cast<int64_t>(values.size());
      out.cells.push_back(std::move(cell));
    }
    out.reading =
        analysis::ReadMap(out.cells, metric, 0.9, metric != "loss" && metric != "penalty", "state");
  }
  f.notes.push_back(
      "Read an accuracy beside its majority and control: plumb trial probes ID has them.");
  return f;
}

}  // namespace plumb::app
