// plumb import csv|db: results from elsewhere, through the server that holds the database or one in
// this process.
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "app/commands.h"
#include "app/exit_code.h"
#include "app/results_csv.h"
#include "app/signals.h"
#include "app/submit.h"
#include "app/table.h"
#include "app/writer.h"
#include "domain/state.h"
#include "domain/status_macros.h"
#include "store/migrations.h"
#include "store/sqlite.h"
#include "trainer/spec/sha256.h"

namespace plumb::app {
namespace {

using Stub = v1::SweepService::Stub;
using Json = nlohmann::ordered_json;

constexpr size_t kSliceBytes = 2 << 20;  // of a request; gRPC takes 4 MiB
constexpr size_t kMostBytes = 3'900'000;
constexpr int kSliceTrials = 500;

std::string Dump(const Json& j) { return j.dump(-1, ' ', false, Json::error_handler_t::replace); }

struct Outcome {
  int64_t sweep = 0, trials = 0, shared = 0;
  bool before = false;  // it had been imported, or is here
  std::vector<v1::ImportConflict> conflicts;
};

// Sends trials in their order, in requests of a size that the server takes.
class Sender {
 public:
  Sender(Client& client, const v1::ImportSweepRequest& begin, std::vector<std::string> cell_names)
      : client_(client), begin_(begin), cell_names_(std::move(cell_names)) {}

  // Where to go on; nullopt: it is there.
  absl::StatusOr<std::optional<int64_t>> Begin() {
    ASSIGN_OR_RETURN(const v1::ImportSweepResponse begun,
                     client_.Call(&Stub::ImportSweep, begin_, std::chrono::seconds(120)));
    out_.sweep = begun.sweep_id();
    out_.trials = begin_.trials();
    out_.before = begun.complete() || begun.present();
    slice_.set_sweep_id(begun.sweep_id());
    slice_.set_from(begun.cursor());
    if (out_.before) return std::optional<int64_t>();
    return std::optional<int64_t>(begun.cursor());
  }
  // `cells`: those first used by this trial, from `from_cell` on.
  absl::Status Add(v1::ImportedTrial trial, int64_t from_cell,
                   const std::vector<v1::ImportedCell>& cells) {
    size_t bytes = trial.ByteSizeLong() + 64;
    for (const v1::ImportedCell& cell : cells) bytes += cell.ByteSizeLong() + 16;
    if (bytes > kMostBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("a trial of cell ", cell_names_[static_cast<size_t>(trial.cell())],
                       " has more points and records than one request takes (", bytes >> 10,
                       " KiB); thin out its series"));
    }
    if (slice_.trials_size() >= kSliceTrials || (bytes_ > 0 && bytes_ + bytes > kSliceBytes))
      RETURN_IF_ERROR(Flush());
    if (slice_.trials().empty()) slice_.set_from_cell(from_cell);
    for (const v1::ImportedCell& cell : cells) *slice_.add_cells() = cell;
    *slice_.add_trials() = std::move(trial);
    bytes_ += bytes;
    return absl::OkStatus();
  }
  absl::StatusOr<Outcome> End() {
    RETURN_IF_ERROR(Flush());
    return std::move(out_);
  }
  Outcome& out() { return out_; }

 private:
  absl::Status Flush() {
    if (slice_.trials().empty()) return absl::OkStatus();
    ASSIGN_OR_RETURN(const v1::ImportTrialsResponse response,
                     client_.Call(&Stub::ImportTrials, slice_, std::chrono::seconds(300)));
    out_.shared += response.shared();
    for (v1::ImportConflict c : response.conflicts()) {
      c.set_cell(
          cell_names_.at(static_cast<size_t>(slice_.trials(static_cast<int>(c.place())).cell())));
      out_.conflicts.push_back(std::move(c));
    }
    const int64_t sweep = slice_.sweep_id();
    slice_.Clear();
    slice_.set_sweep_id(sweep);
    slice_.set_from(response.cursor());
    bytes_ = 0;
    return absl::OkStatus();
  }

  Client& client_;
  const v1::ImportSweepRequest& begin_;
  const std::vector<std::string> cell_names_;
  v1::ImportTrialsRequest slice_;
  size_t bytes_ = 0;
  Outcome out_;
};

int Print(const Context& context, const std::vector<Outcome>& outcomes) {
  const absl::StatusOr<Format> format = ParseFormat(context.format);
  if (!format.ok()) return Finish(format.status());
  if (*format == Format::kJson || *format == Format::kJsonl) {
    Json sweeps = Json::array();
    for (const Outcome& o : outcomes) {
      Json conflicts = Json::array();
      for (const v1::ImportConflict& c : o.conflicts) {
        conflicts.push_back({{"trial", c.trial_id()},
                             {"cell", c.cell()},
                             {"what", c.what()},
                             {"here", c.here()},
                             {"there", c.there()}});
      }
      sweeps.push_back({{"sweep", o.sweep},
                        {"trials", o.trials},
                        {"shared", o.shared},
                        {"there_before", o.before},
                        {"conflicts", std::move(conflicts)}});
    }
    std::printf(
        "%s\n",
        sweeps.dump(*format == Format::kJson ? 2 : -1, ' ', false, Json::error_handler_t::replace)
            .c_str());
    return kDone;
  }
  for (const Outcome& o : outcomes) {
    std::printf("sweep %lld: %lld trials%s", static_cast<long long>(o.sweep),
                static_cast<long long>(o.trials), o.before ? ", there before" : "");
    if (!o.before) std::printf(", %lld of them there before", static_cast<long long>(o.shared));
    std::printf("\n");
    if (o.conflicts.empty()) continue;
    std::printf("%zu differ, and what is here stays:\n", o.conflicts.size());
    Table table{.columns = {{"trial"}, {"cell"}, {"what"}, {"here"}, {"there"}}};
    for (const v1::ImportConflict& c : o.conflicts)
      table.rows.push_back({c.trial_id(), c.cell(), c.what(), c.here(), c.there()});
    std::fputs(TableText(table, StdoutIsTerminal() ? TerminalWidth() : 0).c_str(), stdout);
  }
  return kDone;
}

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

absl::StatusOr<Outcome> ImportCsv(const Context& context, const ImportArgs& args) {
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
  begin.set_request_id(
      absl::StrCat("csv ", spec::Sha256Hex(absl::StrCat(text.str(), "\n", name, "\n", Dump(how)))));
  begin.set_name(name);
  begin.set_objective(args.objective.empty() ? table.first_metric : args.objective);
  begin.set_trials(std::ssize(table.trials));
  begin.set_origin_json(Dump(origin));
  begin.set_user(ThisUser());
  begin.set_sweep_yaml(absl::StrCat("# imported from ", args.file, "\n"));
  ASSIGN_OR_RETURN(Writer writer, Writer::Open(context, Missing::kIsMade));
  std::vector<std::string> names;
  for (const ForeignSweep::Cell& cell : table.cells) names.push_back(cell.name);
  Sender sender(writer.client(), begin, names);
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

// ---- another database

class Source {
 public:
  static absl::StatusOr<Source> Open(const std::string& path) {
    if (!std::filesystem::exists(path))
      return absl::NotFoundError(absl::StrCat("no database ", path));
    ASSIGN_OR_RETURN(store::Database db,
                     store::Database::Open(path, store::Database::Mode::kReadOnly));
    RETURN_IF_ERROR(store::CheckSchema(db, path));
    Source out(std::move(db), std::filesystem::path(path).filename().string());
    RETURN_IF_ERROR(out.Rows("SELECT uid FROM cluster", {},
                             [&](store::Statement& s) { out.uid_ = s.Text(0); }));
    return out;
  }

  absl::StatusOr<std::vector<int64_t>> Sweeps() {
    std::vector<int64_t> out;
    RETURN_IF_ERROR(Rows("SELECT id FROM sweep ORDER BY id", {},
                         [&](store::Statement& s) { out.push_back(s.Int(0)); }));
    return out;
  }

  absl::StatusOr<Outcome> Import(int64_t sweep, Client& client) {
    v1::ImportSweepRequest begin;
    RETURN_IF_ERROR(Rows(
        "SELECT name, sweep_yaml, objective, request_id, (SELECT count(*) FROM sweep_trial WHERE "
        "sweep_id = id), (SELECT count(*) FROM sweep_trial x JOIN trial t ON t.id = x.trial_id "
        "WHERE x.sweep_id = sweep.id AND t.state IN ('pending', 'running', 'paused')), user, "
        "(SELECT origin_json FROM sweep_origin WHERE sweep_id = id), objective_stage, "
        "objective_at, "
        "objective_goal FROM sweep WHERE id = ?",
        {sweep}, [&](store::Statement& s) {
          begin.set_objective_stage(s.Text(8));
          begin.set_objective_at(s.Text(9));
          begin.set_maximize(s.Text(10) == "maximize");
          begin.set_name(s.Text(0));
          begin.set_sweep_yaml(s.Text(1));
          begin.set_objective(s.Text(2));
          begin.set_source_request_id(s.Text(3));
          begin.set_trials(s.Int(4));
          begin.set_user(s.Text(6));
          // What has grown or gone on since is imported anew; trials that are here are shared.
          begin.set_request_id(absl::StrCat(
              "db ", spec::Sha256Hex(absl::StrCat(s.Text(3), " ", s.Int(4), " ", s.Int(5)))));
          Json origin = {{"database", file_}, {"cluster", uid_}, {"sweep", sweep}};
          if (!s.IsNull(7)) origin["origin"] = Json::parse(s.Text(7), nullptr, false);
          begin.set_origin_json(Dump(origin));
        }));
    if (begin.request_id().empty())
      return absl::NotFoundError(absl::StrCat("no sweep ", sweep, " in ", file_));
    if (begin.trials() == 0) {
      return absl::FailedPreconditionError(
          absl::StrCat("sweep ", sweep, " of ", file_, " has no trials yet"));
    }
    std::vector<v1::ImportedCell> cells;
    std::vector<std::string> names;
    std::map<int64_t, int64_t> cell_of;  // by id
    RETURN_IF_ERROR(
        Rows("SELECT id, name, axes_json, flags_json, tuned_json FROM cell WHERE "
             "sweep_id = ? ORDER BY idx",
             {sweep}, [&](store::Statement& s) {
               cell_of[s.Int(0)] = std::ssize(cells);
               v1::ImportedCell& c = cells.emplace_back();
               c.set_name(s.Text(1));
               c.set_axes_json(s.Text(2));
               c.set_flags_json(s.Text(3));
               c.set_tuned_json(s.Text(4));
               names.push_back(s.Text(1));
             }));
    struct Link {
      int64_t cell, trial, replicate, aa, tune;
      std::string stages_json;
    };
    std::vector<Link> links;
    RETURN_IF_ERROR(Rows(
        "SELECT cell_id, trial_id, replicate, aa, tune, stages_json FROM sweep_trial WHERE "
        "sweep_id = ? ORDER BY idx",
        {sweep}, [&](store::Statement& s) {
          links.push_back({cell_of[s.Int(0)], s.Int(1), s.Int(2), s.Int(3), s.Int(4), s.Text(5)});
        }));
    Sender sender(client, begin, names);
    ASSIGN_OR_RETURN(const std::optional<int64_t> from, sender.Begin());
    if (!from) return sender.End();
    int64_t sent = 0;
    for (int64_t i = 0; i < std::ssize(links); ++i) {
      const Link& link = links[static_cast<size_t>(i)];
      const int64_t from_cell = sent;
      std::vector<v1::ImportedCell> fresh;
      // Cells that no trial uses come with the last one.
      const int64_t upto = i + 1 == std::ssize(links) ? std::ssize(cells) - 1 : link.cell;
      for (; sent <= upto; ++sent) fresh.push_back(cells[static_cast<size_t>(sent)]);
      if (i < *from) continue;
      ASSIGN_OR_RETURN(v1::ImportedTrial trial, Trial(link.trial));
      trial.set_cell(link.cell);
      trial.set_replicate(link.replicate);
      trial.set_aa(link.aa != 0);
      trial.set_tune(link.tune != 0);
      // {"score": "score-2"}
      const Json otherwise = Json::parse(link.stages_json, nullptr, false);
      for (v1::ImportedStage& stage : *trial.mutable_stages()) {
        for (const auto& [called, name] : otherwise.items()) {
          if (name == stage.name()) stage.set_called(called);
        }
      }
      RETURN_IF_ERROR(sender.Add(std::move(trial), from_cell, fresh));
    }
    return sender.End();
  }

 private:
  Source(store::Database db, std::string file) : db_(std::move(db)), file_(std::move(file)) {}

  template <typename F>
  absl::Status Rows(const char* sql, const std::vector<int64_t>& values, F row) {
    ASSIGN_OR_RETURN(store::Statement s, db_.Prepare(sql));
    for (size_t i = 0; i < values.size(); ++i) s.Bind(static_cast<int>(i) + 1, values[i]);
    for (;;) {
      ASSIGN_OR_RETURN(const bool more, s.Step());
      if (!more) return absl::OkStatus();
      row(s);
    }
  }

  absl::StatusOr<v1::ImportedTrial> Trial(int64_t id) {
    v1::ImportedTrial out;
    RETURN_IF_ERROR(
        Rows("SELECT t.key, t.fusion_key, t.config_json, n_layers, d_model, n_heads, n_kv_heads, "
             "head_dim, d_ff, vocab_size, tied_head, seq_len, batch_tokens, steps, seed_init, "
             "seed_data, "
             "params_total, params_non_embedding, params_embedding, flops_per_token, tokens, norm, "
             "position, mlp, corpus, tokenizer, lr, flops, o.is_foreign, o.origin_json FROM trial "
             "t LEFT "
             "JOIN trial_origin o ON o.trial_id = t.id WHERE t.id = ?",
             {id}, [&](store::Statement& s) {
               out.set_key(s.Text(0));
               out.set_fusion_key(s.Text(1));
               out.set_config_json(s.Text(2));
               Json columns = Json::object();
               for (int c = 3; c <= 20; ++c) columns[s.ColumnName(c)] = s.Int(c);
               for (int c = 21; c <= 25; ++c) columns[s.ColumnName(c)] = s.Text(c);
               columns["lr"] = s.Double(26);
               columns["flops"] = s.Double(27);
               out.set_columns_json(Dump(columns));
               out.set_foreign(!s.IsNull(28) && s.Int(28) != 0);
               Json origin = {{"database", file_}, {"cluster", uid_}, {"trial", id}};
               if (!s.IsNull(29)) origin["origin"] = Json::parse(s.Text(29), nullptr, false);
               out.set_origin_json(Dump(origin));
             }));
    std::map<int64_t, std::string> stage_names;
    std::vector<int64_t> ended;
    RETURN_IF_ERROR(
        Rows("SELECT id, name, kind, parent_id, settings_json, state, step, target_step, attempts, "
             "reason FROM stage WHERE trial_id = ? ORDER BY id",
             {id}, [&](store::Statement& s) {
               v1::ImportedStage* stage = out.add_stages();
               stage_names[s.Int(0)] = s.Text(1);
               stage->set_name(s.Text(1));
               stage->set_kind(s.Text(2));
               if (!s.IsNull(3)) stage->set_parent(stage_names[s.Int(3)]);
               stage->set_settings_json(s.Text(4));
               const std::optional<StageState> state = StageStateFromName(s.Text(5));
               const bool over = state && IsTerminal(*state);
               // What has not ended brings no results: a sweep that asks for it computes it.
               stage->set_state(over ? s.Text(5) : "cancelled");
               stage->set_step(over ? s.Int(6) : 0);
               stage->set_target_step(s.Int(7));
               stage->set_attempts(s.Int(8));
               stage->set_reason(over ? s.Text(9).substr(0, 4000)
                                      : absl::StrCat("it was ", s.Text(5), " where it comes from"));
               ended.push_back(over ? s.Int(0) : 0);
             }));
    for (size_t i = 0; i < ended.size(); ++i) {
      if (ended[i] == 0) continue;
      v1::ImportedStage* stage = out.mutable_stages(static_cast<int>(i));
      // With the points of those that it began from: the copy stands alone.
      RETURN_IF_ERROR(
          Rows("SELECT s.name, s.layer, s.definition_version, m.step, m.value FROM (SELECT ?1 AS "
               "stage_id, "
               "NULL AS upto UNION ALL SELECT source_stage_id, through_step FROM v_lineage WHERE "
               "stage_id "
               "= ?1) x JOIN series s ON s.stage_id = x.stage_id JOIN measurement m ON m.series_id "
               "= s.id "
               "AND (x.upto IS NULL OR m.step <= x.upto) ORDER BY s.name, s.layer, "
               "s.definition_version, "
               "m.step",
               {ended[i]}, [&](store::Statement& s) {
                 const v1::SeriesPoints* last =
                     stage->series().empty() ? nullptr : &stage->series(stage->series_size() - 1);
                 if (last == nullptr || last->name() != s.Text(0) || last->layer() != s.Int(1) ||
                     last->definition_version() != s.Int(2)) {
                   v1::SeriesPoints* to = stage->add_series();
                   to->set_name(s.Text(0));
                   to->set_layer(s.Int(1));
                   to->set_definition_version(s.Int(2));
                 }
                 v1::Point* p = stage->mutable_series(stage->series_size() - 1)->add_points();
                 p->set_step(s.Int(3));
                 p->set_value(s.IsNull(4) ? std::numeric_limits<double>::quiet_NaN() : s.Double(4));
               }));
      RETURN_IF_ERROR(
          Rows("SELECT kind, name, idx, step, data_json FROM record WHERE stage_id = ? "
               "ORDER BY kind, name, idx",
               {ended[i]}, [&](store::Statement& s) {
                 v1::Record* r = stage->add_records();
                 r->set_kind(s.Text(0));
                 r->set_name(s.Text(1));
                 r->set_index(s.Int(2));
                 r->set_step(s.Int(3));
                 r->set_data_json(s.Text(4));
               }));
      RETURN_IF_ERROR(
          Rows("SELECT split, document, nll, tokens, bytes FROM document_score WHERE "
               "stage_id = ? ORDER BY split, document",
               {ended[i]}, [&](store::Statement& s) {
                 v1::DocumentScore* d = stage->add_documents();
                 d->set_split(s.Text(0));
                 d->set_document(s.Int(1));
                 d->set_nll(s.IsNull(2) ? std::numeric_limits<double>::quiet_NaN() : s.Double(2));
                 d->set_tokens(s.Int(3));
                 d->set_bytes(s.Int(4));
               }));
    }
    return out;
  }

  store::Database db_;
  std::string file_, uid_;
};

}  // namespace

int ImportCsvCommand(const Context& context, const ImportArgs& args) {
  absl::StatusOr<Outcome> outcome = ImportCsv(context, args);
  if (!outcome.ok()) return Finish(outcome.status());
  return Print(context, {*std::move(outcome)});
}

int ImportDatabaseCommand(const Context& context, const ImportArgs& args) {
  std::error_code ignored;
  if (context.server.empty() && std::filesystem::equivalent(args.file, context.db, ignored)) {
    return Finish(absl::InvalidArgumentError(
        absl::StrCat(args.file, " is the database itself; name another with --db")));
  }
  absl::StatusOr<Source> source = Source::Open(args.file);
  if (!source.ok()) return Finish(source.status());
  std::vector<int64_t> sweeps = args.sweeps;
  if (sweeps.empty()) {
    absl::StatusOr<std::vector<int64_t>> all = source->Sweeps();
    if (!all.ok()) return Finish(all.status());
    sweeps = *std::move(all);
  }
  absl::StatusOr<Writer> writer = Writer::Open(context, Missing::kIsMade);
  if (!writer.ok()) return Finish(writer.status());
  std::vector<Outcome> outcomes;
  for (const int64_t sweep : sweeps) {
    absl::StatusOr<Outcome> outcome = source->Import(sweep, writer->client());
    if (!outcome.ok()) {
      (void)Print(context, outcomes);
      return Finish(outcome.status());
    }
    outcomes.push_back(*std::move(outcome));
  }
  return Print(context, outcomes);
}

}  // namespace plumb::app
