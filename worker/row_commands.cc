#include "worker/row_commands.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "data/dataset.h"
#include "domain/status_macros.h"
#include "trainer/spec/parse.h"
#include "trainer/spec/stage_settings.h"
#include "worker/blobs.h"

namespace plumb::worker {
namespace {

using nlohmann::json;

// No-op stages that run alone follow each other in one bundle: they have no shape and hold no
// memory.
constexpr char kNoopBundle[] = "noop";

}  // namespace

std::string ProgramOf(const v1::Assignment& a) {
  const json settings = json::parse(a.stage_json().empty() ? "{}" : a.stage_json(), nullptr, false);
  return settings.is_object() ? spec::WorkerLabel(a.kind(), settings) : "";
}

std::optional<CorpusName> CorpusOf(const v1::Assignment& a) {
  spec::TrialSpec spec;
  if (a.kind() == "noop" || !spec::ParseResolved(a.config_json(), &spec).empty())
    return std::nullopt;
  return CorpusName{spec.data.corpus, spec.data.tokenizer, spec.data.digest};
}

void BeginWith(v1::Assignment* a) {
  spec::TrialSpec spec;
  if (a->kind() != "pretrain" || !a->checkpoint_path().empty() ||
      !spec::ParseResolved(a->config_json(), &spec).empty() || spec.init.digest.empty())
    return;
  a->set_checkpoint_path(spec.init.checkpoint);
  a->set_checkpoint_digest(spec.init.digest);
  a->set_checkpoint_step(spec.init.step);
  a->set_resume(false);  // the trainer knows a fork by its config
}

absl::StatusOr<std::string> FindCorpus(const CorpusName& c, const CorpusRoots& roots) {
  if (!c.digest.empty()) {
    const std::string dir = absl::StrCat(roots.fetched, "/", c.digest);
    if (HasCorpus(dir, c.digest)) return dir;
  }
  const std::string root = roots.prepared.empty() ? data::DefaultRoot() : roots.prepared;
  std::string dir, is;
  try {  // the data room throws; statuses begin here
    dir = data::DatasetDir(root, c.corpus, c.tokenizer);
    is = data::ReadManifest(dir).digest;
  } catch (const data::DataError& e) {
    return absl::FailedPreconditionError(
        absl::StrCat("this worker lacks corpus ", c.corpus, " (", c.tokenizer, "): ", e.what(),
                     "; prepare it there with `plumb data prepare`"));
  }
  if (c.digest.empty() || is == c.digest) return dir;
  return absl::FailedPreconditionError(absl::StrCat(
      "corpus ", c.corpus, " at ", dir, " has digest ", is, ", the trial was planned on ", c.digest,
      "; prepare the same corpus there, or submit the sweep again to use this one"));
}

absl::StatusOr<RowCommands> CommandsFor(const v1::Assignment& a, const std::string& row,
                                        const std::string& open_bundle, const CorpusRoots& corpora,
                                        const std::string& checkpoint_dir,
                                        const std::string& gang_address) {
  RowCommands out;
  std::string data_dir;
  int64_t threads = 1;
  const json config = json::parse(a.config_json().empty() ? "{}" : a.config_json(), nullptr, false);
  const json stage = json::parse(a.stage_json().empty() ? "{}" : a.stage_json(), nullptr, false);
  if (config.is_discarded() || !stage.is_object()) {
    return absl::FailedPreconditionError("the assignment's config or settings are no JSON objects");
  }
  const spec::StageKind* kind = spec::FindStageKind(a.kind());
  if (a.checkpoint_path().empty() && kind != nullptr && !kind->first) {
    return absl::FailedPreconditionError(
        absl::StrCat("the stage before it left no checkpoint for a ", a.kind(), " to start from"));
  }
  const int64_t rows = std::max<int64_t>(1, a.bundle_rows());
  // Alone, it has a bundle of its own, so that memory and its peak are the row's.
  out.bundle = rows > 1             ? absl::StrCat("b", a.incarnation(), ".", a.bundle())
               : a.kind() == "noop" ? kNoopBundle
                                    : row;
  if (a.kind() != "noop") {
    spec::TrialSpec spec;
    const auto errors = spec::ParseResolved(a.config_json(), &spec);
    if (!errors.empty())
      return absl::FailedPreconditionError(absl::StrCat("config: ", spec::Format(errors)));
    if (a.kind() != "external" || !spec.data.corpus.empty()) {
      ASSIGN_OR_RETURN(
          data_dir, FindCorpus({spec.data.corpus, spec.data.tokenizer, spec.data.digest}, corpora));
    }
    threads = spec.execution.threads;
  }
  if (open_bundle != out.bundle) {
    if (!open_bundle.empty())
      out.commands.push_back({{"command", "close"}, {"bundle", open_bundle}});
    out.commands.push_back({{"command", "open"},
                            {"bundle", out.bundle},
                            {"capacity", rows},
                            {"data_dir", data_dir},
                            {"threads", threads}});
  }
  json checkpoint = nullptr;
  if (!a.checkpoint_path().empty()) {
    checkpoint = {{"path", a.checkpoint_path()},
                  {"digest", a.checkpoint_digest()},
                  {"step", a.checkpoint_step()},
                  {"resume", a.resume()}};
  }
  json gang = nullptr;
  if (a.ranks_here() > 0) {
    gang = {{"ranks_here", a.ranks_here()}, {"address", gang_address}};
    if (a.first_rank() > 0) {
      gang["first_rank"] = a.first_rank();
      gang["rendezvous"] = a.rendezvous();
      gang["secret"] = a.gang_secret();
    }
  }
  out.commands.push_back({{"command", "add_row"},
                          {"row", row},
                          {"kind", a.kind()},
                          {"config", config},
                          {"stage", stage},
                          {"until_step", a.until_step()},
                          {"checkpoint", checkpoint},
                          {"gang", gang},
                          {"checkpoint_dir", checkpoint_dir},
                          {"keep_step", a.keep_step()}});
  return out;
}

}  // namespace plumb::worker
