// plumb import db: sweeps of another database.
#include <filesystem>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "app/commands.h"
#include "app/exit_code.h"
#include "app/import_sender.h"
#include "app/writer.h"
#include "domain/state.h"
#include "domain/status_macros.h"
#include "store/migrations.h"
#include "store/sqlite.h"
#include "trainer/spec/sha256.h"

namespace plumb::app {
namespace {

using Json = nlohmann::ordered_json;

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

  absl::StatusOr<ImportOutcome> Import(int64_t sweep, Client& client) {
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
          begin.set_origin_json(DumpJson(origin));
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
    ImportSender sender(client, begin, names);
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
               out.set_columns_json(DumpJson(columns));
               out.set_foreign(!s.IsNull(28) && s.Int(28) != 0);
               Json origin = {{"database", file_}, {"cluster", uid_}, {"trial", id}};
               if (!s.IsNull(29)) origin["origin"] = Json::parse(s.Text(29), nullptr, false);
               out.set_origin_json(DumpJson(origin));
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
  std::vector<ImportOutcome> outcomes;
  for (const int64_t sweep : sweeps) {
    absl::StatusOr<ImportOutcome> outcome = source->Import(sweep, writer->client());
    if (!outcome.ok()) {
      (void)PrintImports(context, outcomes);
      return Finish(outcome.status());
    }
    outcomes.push_back(*std::move(outcome));
  }
  return PrintImports(context, outcomes);
}

}  // namespace plumb::app
