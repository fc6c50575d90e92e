// plumb import stages: what `plumb stage run KIND --checkpoint DIR --out FILE` found on several
// models, as the trials of a sweep.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "app/checkpoint_stage.h"
#include "app/commands.h"
#include "app/import_sender.h"
#include "app/submit.h"
#include "app/writer.h"
#include "domain/status_macros.h"
#include "trainer/protocol/journal_sink.h"
#include "trainer/spec/choices.h"
#include "trainer/spec/cost.h"
#include "trainer/spec/parse.h"
#include "trainer/spec/sha256.h"

namespace plumb::app {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kTrained[] = "pretrain";  // the stage that all others follow

// One file.
struct Found {
  std::string path, sha256;
  std::string model, layout, digest, stage, kind, settings, corpus;
  int64_t replicate = 0, step = 0;
  bool trained_here = false;
  spec::TrialSpec config;
  Json all;
};

absl::StatusOr<Found> Read(const std::string& path) try {
  std::ifstream in(path, std::ios::binary);
  if (!in) return absl::NotFoundError(absl::StrCat("cannot read ", path));
  std::ostringstream text;
  text << in.rdbuf();
  Found out{.path = path, .sha256 = spec::Sha256Hex(text.str())};
  out.all = Json::parse(text.str(), nullptr, false);
  if (!out.all.is_object() || out.all.value("format", "") != kStageResultFormat) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": not what plumb stage run KIND --checkpoint DIR --out FILE writes (\"format\": \"",
        kStageResultFormat, "\")"));
  }
  out.model = out.all.at("model"), out.layout = out.all.at("layout");
  out.digest = out.all.at("digest"), out.stage = out.all.at("stage");
  out.kind = out.all.at("kind"), out.settings = DumpJson(out.all.at("settings"));
  out.corpus = out.all.at("corpus").at("digest");
  out.replicate = out.all.at("replicate"), out.step = out.all.at("step");
  out.trained_here = out.all.at("trained_here");
  if (const auto wrong = spec::ParseResolved(out.all.at("config").dump(), &out.config);
      !wrong.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": config: ", spec::Format(wrong)));
  }
  return out;
} catch (const nlohmann::json::exception& e) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", e.what()));
}

// Files of one stage of one trial, by rising step.
using Steps = std::vector<const Found*>;
struct Model {
  std::string name;
  int64_t replicate = 0;
  std::vector<Steps> stages;  // in the order in which the files were named
};

absl::Status Same(bool same, const Found& a, const Found& b, absl::string_view what,
                  absl::string_view fix) {
  if (same) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(a.path, " and ", b.path, ": ", what, "; ", fix));
}

absl::StatusOr<std::vector<Model>> Group(const std::vector<Found>& files) {
  std::vector<Model> out;
  for (const Found& f : files) {
    if (f.stage == kTrained) {
      return absl::InvalidArgumentError(
          absl::StrCat(f.path, ": a stage called ", kTrained, "; give it another --name"));
    }
    auto model = std::find_if(out.begin(), out.end(), [&](const Model& m) {
      return m.name == f.model && m.replicate == f.replicate;
    });
    if (model == out.end())
      model = out.insert(out.end(), {.name = f.model, .replicate = f.replicate});
    const Found& known = model->stages.empty() ? f : *model->stages.front().front();
    RETURN_IF_ERROR(Same(spec::Canonical(known.config, spec::With::kResultOnly).at("model") ==
                             spec::Canonical(f.config, spec::With::kResultOnly).at("model"),
                         known, f, absl::StrCat("two architectures under the name ", f.model),
                         "tell them apart with --model of plumb stage run"));
    const auto stage = std::find_if(model->stages.begin(), model->stages.end(),
                                    [&](const Steps& s) { return s.front()->stage == f.stage; });
    if (stage == model->stages.end()) {
      model->stages.push_back({&f});
    } else {
      const Found& first = *stage->front();
      RETURN_IF_ERROR(Same(first.kind == f.kind && first.settings == f.settings, first, f,
                           absl::StrCat("stage ", f.stage, " of ", f.model, " with two settings"),
                           "give one another --name"));
      RETURN_IF_ERROR(Same(first.corpus == f.corpus, first, f,
                           absl::StrCat("stage ", f.stage, " of ", f.model, " on two texts"),
                           "give one another --name"));
      for (const Found* other : *stage) {
        RETURN_IF_ERROR(Same(
            other->step != f.step, *other, f,
            absl::StrCat("stage ", f.stage, " of ", f.model, " is there twice at step ", f.step),
            "say which is which with --model, --step or --replicate of plumb stage run"));
      }
      stage->push_back(&f);
    }
  }
  for (Model& m : out) {
    for (Steps& steps : m.stages)
      std::sort(steps.begin(), steps.end(),
                [](const Found* a, const Found* b) { return a->step < b->step; });
  }
  return out;
}

// What its shape is called along axes, by field.
Json Shape(const spec::ModelSpec& m) {
  return {{"model.n_layers", m.n_layers},
          {"model.d_model", m.d_model},
          {"model.n_heads", m.n_heads},
          {"model.n_kv_heads", m.n_kv_heads},
          {"model.d_ff", m.d_ff},
          {"model.vocab_size", m.vocab_size},
          {"model.norm", spec::Name(m.norm)},
          {"model.position", spec::Name(m.position)},
          {"model.mlp", spec::Name(m.mlp)}};
}

// Of a model from elsewhere nothing is known of its training.
Json Columns(const Found& f, int64_t step) {
  const spec::ModelSpec& m = f.config.model;
  const spec::ParameterCounts params = spec::CountParameters(m);
  Json out = {{"n_layers", m.n_layers},
              {"d_model", m.d_model},
              {"n_heads", m.n_heads},
              {"n_kv_heads", m.n_kv_heads},
              {"head_dim", m.head_dim},
              {"d_ff", m.d_ff},
              {"vocab_size", m.vocab_size},
              {"tied_head", m.tied_head ? 1 : 0},
              {"norm", spec::Name(m.norm)},
              {"position", spec::Name(m.position)},
              {"mlp", spec::Name(m.mlp)},
              {"params_total", params.total},
              {"params_non_embedding", params.non_embedding},
              {"params_embedding", params.embedding},
              {"seq_len", f.config.data.seq_len},
              {"flops_per_token", spec::TrainingFlopsPerToken(m, f.config.data.seq_len)}};
  if (!f.trained_here) return out;
  const int64_t tokens = step * f.config.train.batch_tokens;
  out.update({{"corpus", f.config.data.corpus},
              {"tokenizer", f.config.data.tokenizer},
              {"batch_tokens", f.config.train.batch_tokens},
              {"steps", step},
              {"lr", f.config.train.lr},
              {"seed_init", f.config.seed.init},
              {"seed_data", f.config.seed.data},
              {"tokens", tokens},
              {"flops", static_cast<double>(out["flops_per_token"].get<int64_t>()) *
                            static_cast<double>(tokens)}});
  return out;
}

void AddResults(const Steps& steps, v1::ImportedStage* stage) {
  std::map<std::tuple<std::string, int64_t, int64_t>, v1::SeriesPoints> series;
  for (const Found* f : steps) {
    for (const Json& row : f->all.at("series")) {
      const int64_t layer = row.at("layer").is_null() ? -1 : row.at("layer").get<int64_t>();
      const int64_t version = row.at("definition_version");
      v1::SeriesPoints& to = series[{row.at("series"), layer, version}];
      to.set_name(row.at("series"));
      to.set_layer(layer);
      to.set_definition_version(version);
      v1::Point* p = to.add_points();
      p->set_step(f->step);
      p->set_value(trainer::NumberFromJson(row.at("value")));
    }
  }
  for (auto& [key, points] : series) *stage->add_series() = std::move(points);
  const Found& last = *steps.back();  // of records and documents a stage keeps one each
  for (const Json& row : last.all.at("records")) {
    v1::Record* r = stage->add_records();
    r->set_kind(row.at("kind"));
    r->set_name(row.at("name"));
    r->set_index(row.at("idx"));
    r->set_step(last.step);
    r->set_data_json(DumpJson(row.at("data")));
  }
  for (const auto& [split, rows] : last.all.at("documents").items()) {
    for (const Json& row : rows) {
      v1::DocumentScore* d = stage->add_documents();
      d->set_split(split);
      d->set_document(row.at("document"));
      d->set_nll(trainer::NumberFromJson(row.at("nll")));
      d->set_tokens(row.at("tokens"));
      d->set_bytes(row.at("bytes"));
    }
  }
}

v1::ImportedTrial Trial(const Model& model, int64_t cell, const std::string& sweep) {
  const Found& first = *model.stages.front().front();
  int64_t step = 0;
  Json origin = {{"model", model.name}, {"layout", first.layout}, {"files", Json::array()}};
  std::string all;
  v1::ImportedTrial out;
  v1::ImportedStage* trained = out.add_stages();
  for (const Steps& steps : model.stages) {
    v1::ImportedStage* stage = out.add_stages();
    stage->set_name(steps.front()->stage);
    stage->set_kind(steps.front()->kind);
    stage->set_parent(kTrained);
    stage->set_settings_json(steps.front()->settings);
    stage->set_state("succeeded");
    stage->set_step(1);
    stage->set_target_step(1);
    stage->set_reason("imported");
    AddResults(steps, stage);
    for (const Found* f : steps) {
      step = std::max(step, f->step);
      origin["files"].push_back({{"file", std::filesystem::path(f->path).filename().string()},
                                 {"sha256", f->sha256},
                                 {"stage", f->stage},
                                 {"step", f->step},
                                 {"checkpoint", f->digest},
                                 {"corpus", f->all.at("corpus")}});
      absl::StrAppend(&all, "\n", f->sha256);
    }
  }
  trained->set_name(kTrained);
  trained->set_kind(kTrained);
  trained->set_settings_json("{}");
  trained->set_state("succeeded");
  trained->set_step(step);
  trained->set_target_step(step);
  trained->set_reason("imported");
  out.set_cell(cell);
  out.set_replicate(model.replicate);
  out.set_key(spec::Sha256Hex(absl::StrCat("stages\n", sweep, "\n", model.name, all)));
  const nlohmann::json config = spec::Canonical(first.config, spec::With::kResultOnly);
  out.set_config_json(
      DumpJson(first.trained_here ? Json(config) : Json({{"model", config.at("model")}})));
  out.set_columns_json(DumpJson(Columns(first, step)));
  out.set_foreign(!first.trained_here);
  out.set_origin_json(DumpJson(origin));
  return out;
}

struct Objective {
  std::string stage, series;
};

absl::StatusOr<Objective> ObjectiveOf(const std::string& asked, const std::vector<Found>& files) {
  if (asked.empty()) {
    for (const Json& row : files.front().all.at("series")) {
      if (row.at("layer").is_null()) return Objective{files.front().stage, row.at("series")};
    }
    return Objective{files.front().stage, ""};
  }
  const std::pair<std::string, std::string> sides = absl::StrSplit(asked, absl::MaxSplits(':', 1));
  for (const Found& f : files) {
    if (f.stage != sides.first) continue;
    for (const Json& row : f.all.at("series")) {
      if (row.at("layer").is_null() && row.at("series") == sides.second)
        return Objective{sides.first, sides.second};
    }
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "--objective ", asked,
      ": no file has that; expected STAGE:SERIES, as linearity:linearity/whole/held_out_without"));
}

absl::StatusOr<ImportOutcome> ImportStages(const Context& context, const ImportArgs& args) try {
  std::vector<Found> files;
  for (const std::string& path : args.files) {
    ASSIGN_OR_RETURN(files.emplace_back(), Read(path));
  }
  ASSIGN_OR_RETURN(const std::vector<Model> models, Group(files));
  ASSIGN_OR_RETURN(const Objective objective, ObjectiveOf(args.objective, files));
  std::string all = absl::StrCat(args.sweep_name, "\n", args.objective);
  for (const Found& f : files) absl::StrAppend(&all, "\n", f.sha256);

  // A cell for each model; its axes are its name and what of the shapes differs.
  std::vector<std::string> names;
  std::map<std::string, std::set<std::string>> values;  // by field
  for (const Model& m : models) {
    if (std::count(names.begin(), names.end(), m.name) == 0) names.push_back(m.name);
    const Json shape = Shape(m.stages.front().front()->config.model);
    for (const auto& [field, value] : shape.items()) values[field].insert(value.dump());
  }
  struct Row {
    int64_t from_cell = 0;
    std::vector<v1::ImportedCell> fresh;
    v1::ImportedTrial trial;
  };
  std::vector<Row> rows;
  int64_t cells = 0;
  for (const Model& m : models) {
    const int64_t cell = std::find(names.begin(), names.end(), m.name) - names.begin();
    Row& row = rows.emplace_back(Row{.from_cell = cells});
    if (cell == cells) {
      ++cells;
      const Found& first = *m.stages.front().front();
      Json axes = {{"checkpoint", m.name}};
      const Json shape = Shape(first.config.model);
      for (const auto& [field, value] : shape.items())
        if (values[field].size() > 1) axes[field] = value;
      v1::ImportedCell& c = row.fresh.emplace_back();
      c.set_name(m.name);
      c.set_axes_json(DumpJson(axes));
      c.set_flags_json(first.trained_here ? "[]" : R"(["foreign"])");
      c.set_tuned_json("{}");
    }
    row.trial = Trial(m, cell, args.sweep_name);
  }
  v1::ImportSweepRequest begin;
  begin.set_request_id(absl::StrCat("stages ", spec::Sha256Hex(all)));
  begin.set_name(args.sweep_name);
  begin.set_objective(objective.series);
  begin.set_objective_stage(objective.stage);
  begin.set_trials(std::ssize(rows));
  begin.set_origin_json(DumpJson({{"stages", std::ssize(files)}}));
  begin.set_user(ThisUser());
  begin.set_sweep_yaml("# imported from results of stages on models' folders\n");
  ASSIGN_OR_RETURN(Writer writer, Writer::Open(context, Missing::kIsMade));
  ImportSender sender(writer.client(), begin, names);
  ASSIGN_OR_RETURN(const std::optional<int64_t> from, sender.Begin());
  if (!from) return sender.End();
  for (size_t i = static_cast<size_t>(*from); i < rows.size(); ++i)
    RETURN_IF_ERROR(sender.Add(std::move(rows[i].trial), rows[i].from_cell, rows[i].fresh));
  return sender.End();
} catch (const nlohmann::json::exception& e) {
  return absl::InvalidArgumentError(absl::StrCat("a file is damaged: ", e.what()));
}

}  // namespace

int ImportStagesCommand(const Context& context, const ImportArgs& args) {
  return FinishImport(context, ImportStages(context, args));
}

}  // namespace plumb::app
