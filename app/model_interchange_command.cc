// plumb model import|export.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "app/commands.h"
#include "app/database.h"
#include "app/exit_code.h"
#include "app/table.h"
#include "data/byte_pair_tokenizer.h"
#include "data/dataset.h"
#include "data/hf_tokenizer.h"
#include "data/sentencepiece_model.h"
#include "domain/status_macros.h"
#include "interchange/hf_folder.h"
#include "trainer/files/checkpoint_folder.h"

namespace plumb::app {
namespace {

using Json = nlohmann::ordered_json;

std::string ReadText(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

struct Place {
  std::string checkpoint, corpus, tokenizer;
};

absl::StatusOr<Place> CheckpointOfTrial(const Context& context, const ModelFilesArgs& args) {
  ASSIGN_OR_RETURN(store::Database db, OpenResults(context.db));
  ASSIGN_OR_RETURN(
      store::Statement q,
      db.Prepare("SELECT s.checkpoint_path, s.name, t.corpus, t.tokenizer FROM stage s "
                 "JOIN trial t ON t.id = s.trial_id WHERE t.id = ? AND "
                 "(s.name = ? OR ? = '') AND s.checkpoint_path IS NOT NULL "
                 "ORDER BY s.id LIMIT 1"));
  q.Bind(1, args.trial).Bind(2, args.stage).Bind(3, args.stage);
  ASSIGN_OR_RETURN(const bool found, q.Step());
  if (!found) {
    return absl::NotFoundError(absl::StrCat(
        "trial ", args.trial, args.stage.empty() ? "" : absl::StrCat(" stage ", args.stage),
        " has no checkpoint in ", context.db, " (plumb trial show ", args.trial, ")"));
  }
  Place place{q.Text(0), q.Text(2), q.Text(3)};
  if (!std::filesystem::exists(place.checkpoint)) {
    return absl::NotFoundError(
        absl::StrCat(place.checkpoint,
                     " is not on this machine: it lies where the worker ran; copy the folder "
                     "here and give it instead of --trial"));
  }
  return place;
}

// The tokenizer's files, where its corpus is prepared here. Says on stderr why there are none.
void AddTokenizer(const Place& place, const std::string& root,
                  interchange::ExportOptions* options) {
  if (place.tokenizer == "bytes") {
    options->tokenizer_files = data::HfBytesTokenizer();
    options->bos = options->eos = 0;
    return;
  }
  const bool pieces = place.tokenizer.starts_with("sentencepiece:");
  if (!pieces && !place.tokenizer.starts_with("bpe:")) return;
  const std::string path = absl::StrCat(data::DatasetDir(root, place.corpus, place.tokenizer),
                                        pieces ? "/tokenizer.model" : "/tokenizer.json");
  if (!std::filesystem::exists(path)) {
    std::fprintf(stderr, "plumb: no tokenizer is written: %s is not there (plumb data prepare)\n",
                 path.c_str());
    return;
  }
  const std::string model = ReadText(path);
  if (pieces) {
    options->tokenizer_files = data::HfSentencePieceTokenizer(model, path);
    options->bos = options->eos = data::ReadSentencePieceModel(model, path).bos;
  } else {
    options->tokenizer_files = {{"tokenizer.json", model}};
    options->bos = options->eos = data::BytePairTokenizer(model, path)->separator();
  }
}

}  // namespace

int ImportModel(const Context& context, const ModelFilesArgs& args) try {
  const interchange::Imported m = interchange::ImportHf(args.from, args.out);
  if (context.format == "json") {
    const Json j = {{"checkpoint", m.checkpoint}, {"digest", m.digest},
                    {"model_type", m.model_type}, {"parameters", m.parameters},
                    {"tokenizer_files", m.files}, {"notes", m.notes}};
    std::printf("%s\n", j.dump(2).c_str());
    return kDone;
  }
  for (const std::string& note : m.notes) std::fprintf(stderr, "plumb: %s\n", note.c_str());
  std::string files;
  for (const std::string& f : m.files) absl::StrAppend(&files, files.empty() ? "" : ", ", f);
  std::printf("%s: %s parameters, %lld layers, width %lld\n%s\ntokenizer: %s\n",
              m.model_type.c_str(), Scaled(static_cast<double>(m.parameters)).c_str(),
              static_cast<long long>(m.spec.model.n_layers),
              static_cast<long long>(m.spec.model.d_model), m.checkpoint.c_str(),
              files.empty() ? "none" : files.c_str());
  return kDone;
} catch (const std::exception& e) {
  return Finish(absl::InvalidArgumentError(e.what()));
}

int ExportModel(const Context& context, const ModelFilesArgs& args) try {
  if (args.from.empty() == (args.trial == 0))
    return Finish(absl::InvalidArgumentError("give a checkpoint folder or --trial, one of them"));
  Place place{.checkpoint = args.from};
  if (args.trial != 0) {
    absl::StatusOr<Place> found = CheckpointOfTrial(context, args);
    if (!found.ok()) return Finish(found.status());
    place = *std::move(found);
  } else {
    const nlohmann::json manifest = trainer::ReadCheckpointManifest(place.checkpoint, "");
    const spec::TrialSpec spec = interchange::SpecOf(manifest, place.checkpoint);
    place.corpus = spec.data.corpus, place.tokenizer = spec.data.tokenizer;
  }
  interchange::ExportOptions options{.model_type = args.layout};
  AddTokenizer(place, args.data_root.empty() ? data::DefaultRoot() : args.data_root, &options);
  const interchange::Exported m = interchange::ExportHf(place.checkpoint, args.out, options);
  if (context.format == "json") {
    const Json j = {{"folder", args.out},
                    {"model_type", m.model_type},
                    {"parameters", m.parameters},
                    {"files", m.files}};
    std::printf("%s\n", j.dump(2).c_str());
    return kDone;
  }
  std::string files;
  for (const std::string& f : m.files) absl::StrAppend(&files, files.empty() ? "" : ", ", f);
  std::printf("%s: %s parameters\n%s: %s\n", m.model_type.c_str(),
              Scaled(static_cast<double>(m.parameters)).c_str(), args.out.c_str(), files.c_str());
  return kDone;
} catch (const std::exception& e) {
  return Finish(absl::InvalidArgumentError(e.what()));
}

}  // namespace plumb::app
