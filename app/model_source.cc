#include "app/model_source.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "app/children.h"
#include "app/prepare_corpus.h"
#include "app/signals.h"
#include "domain/status_macros.h"
#include "interchange/hf_folder.h"
#include "trainer/files/checkpoint_folder.h"
#include "trainer/spec/sha256.h"

extern char** environ;

namespace plumb::app {
namespace {

namespace fs = std::filesystem;

constexpr char kCorpus[] = "text";

// Throws what the checkpoint's reader throws.
ModelSource OpenCheckpoint(const fs::path& folder) {
  const nlohmann::json manifest = trainer::ReadCheckpointManifest(folder, "");
  ModelSource out{.folder = folder, .layout = "plumb"};
  out.config = interchange::SpecOf(manifest, folder);
  out.checkpoint = {.path = folder,
                    .digest = spec::Sha256HexOfFile(folder / "manifest.json"),
                    .step = manifest.at("step").get<int64_t>(),
                    .resume = false};
  return out;
}

// The last that is whole; "" where there is none.
fs::path LastCheckpointIn(const fs::path& folder) {
  fs::path last;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().filename().string().starts_with("step-") &&
        trainer::IsCommitted(entry.path()) && entry.path() > last)
      last = entry.path();
  }
  return last;
}

// tokenizer.bin, tok512.bin.
std::vector<std::string> Llama2cTokenizers(const fs::path& folder) {
  std::vector<std::string> out;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename();
    if (name.starts_with("tok") && name.ends_with(".bin")) out.push_back(entry.path());
  }
  return out;
}

// The model's own tokenizer, as plumb data prepare takes it.
absl::StatusOr<std::string> TokenizerOf(const ModelSource& model, const std::string& data_root) {
  const fs::path folder = model.layout == "plumb" ? model.checkpoint.path : model.folder;
  const spec::DataSpec& data = model.config.data;
  if (model.layout == "plumb" && data.tokenizer == "bytes") return std::string("bytes");
  for (const char* name : {"tokenizer.model", "tokenizer.json"}) {
    if (fs::exists(folder / name)) return (folder / name).string();
  }
  if (const std::vector<std::string> found = Llama2cTokenizers(folder); found.size() == 1)
    return found[0];
  std::string where = absl::StrCat(folder.string(), ": no tokenizer.model and no tokenizer.json");
  const bool pieces = absl::StartsWith(data.tokenizer, "sentencepiece:");
  if (pieces || absl::StartsWith(data.tokenizer, "bpe:")) {  // of the corpus it was trained on
    try {
      const std::string dir = data::DatasetDir(data_root.empty() ? data::DefaultRoot() : data_root,
                                               data.corpus, data.tokenizer);
      const std::string path = dir + (pieces ? "/tokenizer.model" : "/tokenizer.json");
      if (!fs::exists(path)) {
        absl::StrAppend(&where, "; its corpus is not here either (", dir, ")");
      } else if (!data.digest.empty() && data::ReadManifest(dir).digest != data.digest) {
        absl::StrAppend(&where, "; the corpus in ", dir, " is not the one it was trained on");
      } else {
        return path;
      }
    } catch (const std::exception& e) {
      absl::StrAppend(&where, "; ", e.what());
    }
  }
  return absl::NotFoundError(
      absl::StrCat(where,
                   "\ngive --tokenizer FILE (a SentencePiece model, a tokenizer.json of byte-level "
                   "BPE, llama2.c's "
                   "tokenizer.bin) or --tokenizer bytes, or instead of --text a corpus that is "
                   "prepared in the model's tokens: --data DIR"));
}

// What plumb-prepare says: steps are passed on, what is wrong is kept for the end.
class Listener {
 public:
  Listener(std::string path, bool pass_on) : path_(std::move(path)), pass_on_(pass_on) {}
  void Hear() {
    std::ifstream in(path_, std::ios::binary);
    in.seekg(at_);
    for (std::string line; std::getline(in, line) && !in.eof();) {
      at_ = in.tellg();
      if (!wrong_.empty() || absl::StartsWith(line, "plumb: ")) {
        absl::StrAppend(&wrong_, wrong_.empty() ? "" : "\n", line);
      } else if (pass_on_) {
        std::fprintf(stderr, "text: %s\n", line.c_str());
      }
    }
  }
  std::string wrong() const {
    return absl::StartsWith(wrong_, "plumb: ") ? wrong_.substr(7) : wrong_;
  }

 private:
  const std::string path_;
  const bool pass_on_;
  std::streampos at_ = 0;
  std::string wrong_;
};

enum class Steps { kTold, kSilent };

absl::Status RunPrepare(const DataArgs& args, Steps steps, const std::string& work) {
  const std::string program = (fs::path(ThisProgram()).parent_path() / "plumb-prepare").string();
  std::string request;
  try {
    request = PrepareRequest(args, /*json=*/true);
  } catch (const std::exception& e) {
    return absl::InvalidArgumentError(e.what());
  }
  const std::string said = work + "/prepare.log";
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  constexpr int kNew = O_WRONLY | O_CREAT | O_TRUNC;
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&files, STDERR_FILENO, said.c_str(), kNew, 0600);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
  std::string name = program;
  char* argv[] = {name.data(), request.data(), nullptr};
  pid_t pid = 0;
  const int failed = posix_spawn(&pid, program.c_str(), &files, &attributes, argv, environ);
  posix_spawn_file_actions_destroy(&files);
  posix_spawnattr_destroy(&attributes);
  if (failed != 0)
    return absl::FailedPreconditionError(
        absl::StrCat(program, ": cannot be run; it belongs beside plumb"));
  Listener listener(said, steps == Steps::kTold);
  int status = 0;
  while (waitpid(pid, &status, WNOHANG) == 0) {
    const int signal = WaitForSignal(std::chrono::milliseconds(200));
    listener.Hear();
    if (signal != SIGINT && signal != SIGTERM) continue;
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    return absl::CancelledError("stopped; nothing is kept");
  }
  listener.Hear();
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(listener.wrong().empty() ? "plumb-prepare crashed"
                                                             : listener.wrong());
}

}  // namespace

absl::StatusOr<ModelSource> OpenModel(const std::string& given, const std::string& work) try {
  std::error_code error;
  const fs::path folder = fs::absolute(given).lexically_normal();
  if (!fs::is_directory(folder, error))
    return absl::NotFoundError(absl::StrCat(given, ": no such folder"));
  if (fs::exists(folder / "manifest.json")) return OpenCheckpoint(folder);
  if (!fs::exists(folder / "config.json")) {
    const fs::path last = LastCheckpointIn(folder);
    if (!last.empty()) return OpenCheckpoint(last);
    return absl::NotFoundError(absl::StrCat(
        given,
        ": neither a Hugging Face model (config.json) nor a checkpoint of Plumb (manifest.json)"));
  }
  const interchange::Imported m = interchange::ImportHf(folder, work + "/model");
  return ModelSource{
      .folder = folder,
      .layout = m.model_type,
      .checkpoint = {.path = m.checkpoint, .digest = m.digest, .step = 0, .resume = false},
      .config = m.spec,
      .notes = m.notes};
} catch (const std::exception& e) {
  return absl::InvalidArgumentError(e.what());
}

absl::StatusOr<std::string> PrepareTextFor(const ModelSource& model, const TextSource& text,
                                           const std::string& work) {
  DataArgs args{.corpus = kCorpus, .tokenizer = text.tokenizer, .data_root = work + "/data"};
  if (args.tokenizer.empty()) {
    ASSIGN_OR_RETURN(args.tokenizer, TokenizerOf(model, text.data_root));
  }
  if (text.files.empty()) {
    const std::string file = work + "/placeholder.txt";
    std::ofstream out(file);
    for (int i = 1; i <= 40; ++i) out << "Paragraph " << i << " of a text that no stage reads.\n\n";
    args.files.push_back(file);
  }
  for (const std::string& file : text.files) {
    std::error_code error;
    if (!fs::exists(file, error)) return absl::NotFoundError(absl::StrCat(file, ": no such file"));
    args.files.push_back(fs::absolute(file).string());
  }
  args.shares.assign(std::begin(kTextShares), std::end(kTextShares));
  RETURN_IF_ERROR(RunPrepare(args, text.files.empty() ? Steps::kSilent : Steps::kTold, work));
  const std::vector<data::Manifest> made = data::ListDatasets(args.data_root);
  if (made.size() != 1) return absl::InternalError("the text was not prepared");
  return data::DatasetDir(args.data_root, made[0].corpus, made[0].tokenizer);
}

}  // namespace plumb::app
