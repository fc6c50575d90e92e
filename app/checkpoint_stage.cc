#include "app/checkpoint_stage.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "app/children.h"
#include "app/exit_code.h"
#include "app/local_stage.h"
#include "app/model_source.h"
#include "app/signals.h"
#include "app/table.h"
#include "app/temporary_folder.h"
#include "app/write_file.h"
#include "domain/status_macros.h"
#include "trainer/protocol/journal_sink.h"
#include "trainer/spec/cost.h"
#include "trainer/spec/parse.h"
#include "trainer/spec/stage_settings.h"

namespace plumb::app {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

// Of Hugging Face models, whose own length is often more than a text has or a machine bears.
constexpr int64_t kUsualLength = 1024;

constexpr char kTrainerFolder[] = "/trainer";

// The splits of the corpus that the stage reads, by its settings.
std::vector<data::Split> SplitsRead(const sweeps::LoneStage& stage) {
  nlohmann::json full;
  spec::ReadStageSettings(stage.kind, nlohmann::json::parse(stage.settings_json), nullptr, &full);
  std::vector<data::Split> out;
  if (full.value("linearity", false)) out = {data::Split::kTune, data::Split::kVal};  // finetune
  for (const data::Split split : data::kAllSplits) {
    const std::string name = data::Name(split);
    for (const spec::StageSetting& s : spec::StageSettings(stage.kind)) {
      if (std::find(s.choices.begin(), s.choices.end(), name) == s.choices.end()) continue;
      const nlohmann::json& given = full[s.path];
      if (given == name || (given.is_array() && std::count(given.begin(), given.end(), name) > 0)) {
        out.push_back(split);
        break;
      }
    }
  }
  return out;
}

absl::Status Check(const StageArgs& args, const sweeps::LoneStage& stage) {
  if (args.sweep != 0 || !args.trials.empty() || !args.where.empty() || args.tune || args.dry_run ||
      !args.from.empty() || !stage.from.empty()) {
    return absl::InvalidArgumentError(
        "--checkpoint is one model without a sweep: leave --sweep, --trial, --where, --tune, "
        "--from and --dry-run out");
  }
  const spec::StageKind* kind = spec::FindStageKind(stage.kind);
  const bool of_models = kind != nullptr && !kind->first &&
                         std::count(kind->from.begin(), kind->from.end(), spec::Leaves::kModel) > 0;
  if (!of_models) {
    std::vector<std::string> kinds;
    for (const spec::StageKind& k : spec::StageKindTable()) {
      if (!k.first && std::count(k.from.begin(), k.from.end(), spec::Leaves::kModel) > 0)
        kinds.push_back(k.name);
    }
    return absl::InvalidArgumentError(absl::StrCat("a stage of kind ", stage.kind,
                                                   " is run by a sweep's workers alone; with "
                                                   "--checkpoint: ",
                                                   absl::StrJoin(kinds, ", ")));
  }
  const bool both = !args.text.empty() && !args.prepared.empty(),
             none = args.text.empty() && args.prepared.empty();
  if (both || (none && !SplitsRead(stage).empty())) {
    return absl::InvalidArgumentError(
        "give --text FILE, or --data DIR of a corpus that plumb data prepare made; one of them");
  }
  if (!args.out.empty()) {
    const fs::path to = fs::absolute(args.out).parent_path();
    if (access(to.c_str(), W_OK) != 0)
      return absl::NotFoundError(absl::StrCat("--out: ", to.string(), " cannot be written to"));
  }
  if (!args.prepared.empty() && !args.tokenizer.empty())
    return absl::InvalidArgumentError("--data is in tokens already: leave --tokenizer out");
  if (args.seq_len < 0 || args.threads < 0)
    return absl::InvalidArgumentError("--seq-len and --threads are above 0");
  if (args.replicate < 0 || args.step < -1)
    return absl::InvalidArgumentError("--replicate and --step are not below 0");
  if (!args.device.empty() && args.device != "cpu" && args.device != "cuda")
    return absl::InvalidArgumentError("--device cpu or cuda");
  return absl::OkStatus();
}

// The model's config with the texts' length and the device that were asked for.
absl::StatusOr<spec::TrialSpec> ConfigOf(const ModelSource& model, const StageArgs& args) {
  spec::TrialSpec s = model.config;
  const int64_t longest = std::max(s.data.seq_len, s.eval.seq_len);
  if (args.seq_len > longest) {
    return absl::InvalidArgumentError(absl::StrCat("--seq-len ", args.seq_len,
                                                   ": the model was made for texts of ", longest,
                                                   " tokens at most"));
  }
  if (args.seq_len > 0) {
    s.eval.seq_len = args.seq_len;
  } else if (model.layout != "plumb" && longest > kUsualLength) {
    s.eval.seq_len = kUsualLength;
    std::fprintf(stderr, "plumb: texts of %ld tokens (the model bears %ld; --seq-len)\n",
                 static_cast<long>(kUsualLength), static_cast<long>(longest));
  }
  s.data.digest.clear();  // the text is another than it was trained on
  s.train.ranks = 1;
  if (!args.device.empty())
    s.numerics.device = args.device == "cuda" ? spec::DeviceKind::kCuda : spec::DeviceKind::kCpu;
  if (const auto wrong = spec::Resolve(&s); !wrong.empty())
    return absl::InvalidArgumentError(spec::Format(wrong));
  return s;
}

// What the trainer would say of a text that is too short, in the words of this command.
absl::StatusOr<data::Manifest> CheckCorpus(const std::string& dir, const spec::TrialSpec& config,
                                           const StageArgs& args,
                                           const sweeps::LoneStage& stage) try {
  const data::Manifest m = data::ReadManifest(dir);
  if (m.vocab_size > config.model.vocab_size) {
    return absl::InvalidArgumentError(
        absl::StrCat("the ", args.prepared.empty() ? "tokenizer" : "corpus", " has ", m.vocab_size,
                     " tokens, the model ", config.model.vocab_size,
                     ": it is not the model's own; give --tokenizer"));
  }
  for (const data::Split s : SplitsRead(stage)) {
    if (m.split(s).tokens <= config.eval.seq_len) {
      return absl::InvalidArgumentError(
          absl::StrCat("the text is too small: its ", data::Name(s), " split has ",
                       m.split(s).tokens, " tokens, less than one text of ", config.eval.seq_len,
                       "; give more of it, or shorter texts (--seq-len)"));
    }
  }
  return m;
} catch (const std::exception& e) {
  return absl::InvalidArgumentError(e.what());
}

Json CorpusJson(const data::Manifest& m, const StageArgs& args, int64_t seq_len) {
  Json splits = Json::object();
  for (const data::Split s : data::kAllSplits)
    splits[data::Name(s)] = {{"documents", m.split(s).documents}, {"tokens", m.split(s).tokens}};
  return {
      {"text", args.text},          {"data", args.prepared.empty() ? Json() : Json(args.prepared)},
      {"tokenizer", m.tokenizer},   {"vocab_size", m.vocab_size},
      {"digest", m.digest},         {"seq_len", seq_len},
      {"splits", std::move(splits)}};
}

// "pythia-160m" of …/pythia-160m, and of …/pythia-160m/step-00001000.
std::string NameOf(const ModelSource& model) {
  const fs::path folder = fs::path(model.folder).lexically_normal();
  const fs::path own = folder.filename().empty() ? folder.parent_path() : folder;
  const bool numbered = model.layout == "plumb" && own.filename().string().rfind("step-", 0) == 0;
  return (numbered ? own.parent_path() : own).filename().string();
}

Json ResultJson(const ModelSource& model, const StageArgs& args, const LocalStage& stage,
                const Json& corpus, const LocalResult& result) {
  Json series = Json::array(), records = Json::array(), documents = Json::object();
  for (const trainer::PointValue& p : result.points) {
    series.push_back({{"series", p.name},
                      {"layer", p.layer < 0 ? Json() : Json(p.layer)},
                      {"definition_version", p.definition_version},
                      {"value", trainer::NumberToJson(p.value)}});
  }
  for (const Record& r : result.records)
    records.push_back({{"kind", r.kind}, {"name", r.name}, {"idx", r.idx}, {"data", Json(r.data)}});
  for (const LocalResult::Documents& d : result.documents) {
    Json rows = Json::array();
    for (const trainer::DocumentScore& s : d.scores)
      rows.push_back({{"document", s.document},
                      {"nll", trainer::NumberToJson(s.nll)},
                      {"tokens", s.tokens},
                      {"bytes", s.bytes}});
    documents[d.split] = std::move(rows);
  }
  return {{"format", kStageResultFormat},
          {"checkpoint", model.folder},
          {"model", args.model.empty() ? NameOf(model) : args.model},
          {"replicate", args.replicate},
          {"layout", model.layout},
          // A model that was imported is a checkpoint of step 0.
          {"trained_here", model.layout == "plumb" && model.checkpoint.step > 0},
          {"digest", model.checkpoint.digest},
          {"step", args.step < 0 ? model.checkpoint.step : args.step},
          {"config", Json(spec::Canonical(model.config, spec::With::kResultOnly))},
          {"parameters", spec::CountParameters(stage.config.model).total},
          {"stage", stage.name},
          {"kind", stage.kind},
          {"settings", Json::parse(stage.settings_json)},
          {"corpus", corpus},
          {"engine", result.engine},
          {"summary", Json(result.summary)},
          {"series", std::move(series)},
          {"records", std::move(records)},
          {"documents", std::move(documents)}};
}

Table SeriesTable(const LocalResult& result) {
  Table table{.columns = {{"series"}, {"layer"}, {"value"}}};
  for (const trainer::PointValue& p : result.points)
    table.rows.push_back({p.name, p.layer < 0 ? Value() : Value(p.layer), p.value});
  return table;
}

// Records by their views; the series where they say what no record does.
std::string Text(const LocalResult& result) {
  std::string out;
  for (const RecordView& view : RecordViews()) {
    std::vector<Record> shown;
    for (const Record& r : result.records) {
      if (std::count(view.kinds.begin(), view.kinds.end(), r.kind) > 0) shown.push_back(r);
    }
    if (!shown.empty()) absl::StrAppend(&out, out.empty() ? "" : "\n", view.text(shown));
  }
  return out.empty() ? TableText(SeriesTable(result)) : out;
}

absl::Status Run(const Context& context, const StageArgs& args,
                 const sweeps::LoneStage& asked) try {
  ASSIGN_OR_RETURN(const Format format, ParseFormat(context.format));
  RETURN_IF_ERROR(Check(args, asked));
  BlockSignals();
  ASSIGN_OR_RETURN(const TemporaryFolder work,
                   TemporaryFolder::Make("plumb-stage-", [](const std::string& folder) {
                     KillTrainer(folder + kTrainerFolder);
                   }));
  ASSIGN_OR_RETURN(const ModelSource model, OpenModel(args.checkpoint, work.path()));
  for (const std::string& note : model.notes) std::fprintf(stderr, "plumb: %s\n", note.c_str());
  LocalStage stage{.name = asked.name,
                   .kind = asked.kind,
                   .settings_json = asked.settings_json,
                   .checkpoint = model.checkpoint,
                   .data_dir = args.prepared,
                   .threads = args.threads,
                   .trainer = args.trainer};
  ASSIGN_OR_RETURN(stage.config, ConfigOf(model, args));
  if (stage.data_dir.empty()) {
    ASSIGN_OR_RETURN(
        stage.data_dir,
        PrepareTextFor(model, {args.text, args.tokenizer, args.data_root}, work.path()));
  }
  stage.data_dir = fs::absolute(stage.data_dir).string();
  ASSIGN_OR_RETURN(const data::Manifest corpus,
                   CheckCorpus(stage.data_dir, stage.config, args, asked));
  if (stage.threads == 0) stage.threads = std::max<int64_t>(1, std::thread::hardware_concurrency());
  if (stage.trainer.empty())
    stage.trainer = (fs::path(ThisProgram()).parent_path() / "plumb-trainer").string();
  const std::string dir = work.path() + kTrainerFolder;
  fs::create_directory(dir);
  ASSIGN_OR_RETURN(const LocalResult result, RunLocalStage(stage, dir));

  const Json all =
      ResultJson(model, args, stage, CorpusJson(corpus, args, stage.config.eval.seq_len), result);
  if (!args.out.empty()) {
    RETURN_IF_ERROR(
        WriteFile(args.out, all.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"));
    std::fprintf(stderr, "%s\n", args.out.c_str());
  }
  std::string said;
  switch (format) {
    case Format::kTable:
      said = Text(result);
      break;
    case Format::kJson:
      said = all.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
      break;
    case Format::kJsonl:
      said = RecordsJson(result.records, format);
      break;
    case Format::kCsv:
      said = TableCsv(SeriesTable(result));
      break;
  }
  std::fputs(said.c_str(), stdout);
  return absl::OkStatus();
} catch (const std::exception& e) {  // of the file system, of what is no JSON
  return absl::InternalError(e.what());
}

}  // namespace

int RunStageOnCheckpoint(const Context& context, const StageArgs& args,
                         const sweeps::LoneStage& stage) {
  return Finish(Run(context, args, stage));
}

}  // namespace plumb::app
