// plumb import csv: a table of results from elsewhere.
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "app/commands.h"
#include "app/import_sender.h"
#include "app/results_csv.h"
#include "app/submit.h"
#include "app/writer.h"
#include "domain/status_macros.h"
#include "trainer/spec/sha256.h"

namespace plumb::app {
namespace {

using Json = nlohmann::ordered_json;

absl::StatusOr<std::pair<std::string, std::string>> Assignment(const std::string& option,
                                                               const std::string& text) {
  const std::pair<std::string, std::string> sides = absl::StrSplit(text, absl::MaxSplits('=', 1));
  if (sides.first.empty() || (option != "--axis" && sides.second.empty())) {
    return absl::InvalidArgumentError(
        absl::StrCat(option, " ", text, ": expected ",
                     option == "--axis"     ? "COLUMN or COLUMN=AXIS"
                     : option == "--metric" ? "COLUMN=SERIES, as loss=val/loss"
                     : option == "--column" ? "ROLE=COLUMN, as step=iteration"
                                            : "FIELD=VALUE, as data.corpus=wiki"));
  }
  return sides;
}

absl::StatusOr<CsvMapping> Mapping(const ImportArgs& args) {
  CsvMapping out;
  for (const std::string& text : args.axes) {
    ASSIGN_OR_RETURN(const auto axis, Assignment("--axis", text));
    out.axes[axis.first] = axis.second.empty() ? axis.first : axis.second;
  }
  for (const std::string& text : args.metrics) {
    ASSIGN_OR_RETURN(const auto metric, Assignment("--metric", text));
    out.metrics[metric.first] = metric.second;
  }
  for (const std::string& text : args.columns) {
    ASSIGN_OR_RETURN(const auto column, Assignment("--column", text));
    if (column.first != "seed" && column.first != "replicate" && column.first != "step" &&
        column.first != "state") {
      return absl::InvalidArgumentError(absl::StrCat(
          "--column ", text, ": ", column.first, " is not one of seed, replicate, step, state"));
    }
    out.columns[column.first] = column.second;
  }
  for (const std::string& text : args.sets) {
    ASSIGN_OR_RETURN(const auto field, Assignment("--set", text));
    out.fields.emplace_back(field.first, field.second);
  }
  out.ignored = args.ignored;
  if (args.tabs) out.delimiter = '\t';
  return out;
}

absl::StatusOr<ImportOutcome> ImportCsv(const Context& context, const ImportArgs& args) {
  ASSIGN_OR_RETURN(const CsvMapping mapping, Mapping(args));
  std::ifstream in(args.file, std::ios::binary);
  if (!in) return absl::NotFoundError(absl::StrCat("cannot read ", args.file));
  std::ostringstream text;
  text << in.rdbuf();
  const std::string name =
      args.sweep_name.empty() ? std::filesystem::path(args.file).stem().string() : args.sweep_name;
  ASSIGN_OR_RETURN(const ForeignSweep table, ReadResultsCsv(text.str(), args.file, name, mapping));
  // The same file, read in the same way, is the same import.
  Json how = {{"axes", mapping.axes},       {"metrics", mapping.metrics},
              {"columns", mapping.columns}, {"ignored", mapping.ignored},
              {"fields", mapping.fields},   {"objective", args.objective}};
  const Json origin = {{"csv", std::filesystem::path(args.file).filename().string()},
                       {"sha256", spec::Sha256Hex(text.str())}};
  v1::ImportSweepRequest begin;
  begin.set_request_id(absl::StrCat(
      "csv ", spec::Sha256Hex(absl::StrCat(text.str(), "\n", name, "\n", DumpJson(how)))));
  begin.set_name(name);
  begin.set_objective(args.objective.empty() ? table.first_metric : args.objective);
  begin.set_trials(std::ssize(table.trials));
  begin.set_origin_json(DumpJson(origin));
  begin.set_user(ThisUser());
  begin.set_sweep_yaml(absl::StrCat("# imported from ", args.file, "\n"));
  ASSIGN_OR_RETURN(Writer writer, Writer::Open(context, Missing::kIsMade));
  std::vector<std::string> names;
  for (const ForeignSweep::Cell& cell : table.cells) names.push_back(cell.name);
  ImportSender sender(writer.client(), begin, names);
  ASSIGN_OR_RETURN(const std::optional<int64_t> from, sender.Begin());
  if (!from) return sender.End();
  int64_t cells = 0;  // sent, or there
  for (int64_t i = 0; i < std::ssize(table.trials); ++i) {
    const ForeignSweep::Trial& t = table.trials[static_cast<size_t>(i)];
    const int64_t from_cell = cells;
    std::vector<v1::ImportedCell> fresh;
    for (; cells <= t.cell; ++cells) {
      const ForeignSweep::Cell& cell = table.cells[static_cast<size_t>(cells)];
      v1::ImportedCell& c = fresh.emplace_back();
      c.set_name(cell.name);
      c.set_axes_json(cell.axes_json);
      c.set_flags_json(R"(["foreign"])");
      c.set_tuned_json("{}");
    }
    if (i < *from) continue;
    v1::ImportedTrial trial;
    trial.set_cell(t.cell);
    trial.set_replicate(t.replicate);
    trial.set_key(t.key);
    trial.set_config_json(t.config_json);
    trial.set_columns_json(t.columns_json);
    trial.set_foreign(true);
    trial.set_origin_json(begin.origin_json());
    v1::ImportedStage* stage = trial.add_stages();
    stage->set_name("pretrain");
    stage->set_kind("pretrain");
    stage->set_settings_json("{}");
    stage->set_state(t.state);
    stage->set_step(t.steps);
    stage->set_target_step(t.steps);
    stage->set_reason("imported");
    for (const auto& [series, points] : t.series) {
      v1::SeriesPoints* s = stage->add_series();
      s->set_name(series);
      s->set_layer(-1);
      s->set_definition_version(1);
      for (const auto& [step, value] : points) {
        v1::Point* p = s->add_points();
        p->set_step(step);
        p->set_value(value);
      }
    }
    RETURN_IF_ERROR(sender.Add(std::move(trial), from_cell, fresh));
  }
  return sender.End();
}
}  // namespace

int ImportCsvCommand(const Context& context, const ImportArgs& args) {
  return FinishImport(context, ImportCsv(context, args));
}

}  // namespace plumb::app
