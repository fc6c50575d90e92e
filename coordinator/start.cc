// Server::Start: the sweep language and the prepared corpora behind the server.
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/launch.h"
#include "data/dataset.h"
#include "sweeps/plan.h"
#include "sweeps/tuning.h"

namespace plumb::coordinator {
namespace {

absl::StatusOr<sweeps::CorpusInfo> LookUpCorpus(const std::string& root, const std::string& corpus,
                                                const std::string& tokenizer) {
  const std::string dir = data::DatasetDir(root, corpus, tokenizer);
  if (!std::filesystem::exists(std::filesystem::path(dir) / "manifest.json")) {
    return absl::NotFoundError(absl::StrCat(
        "corpus \"", corpus, "\" is not prepared with tokenizer \"", tokenizer, "\" under ", root,
        "; run `plumb data prepare ", corpus, " --tokenizer ", tokenizer, "`"));
  }
  try {
    const data::Manifest m = data::ReadManifest(dir);
    std::vector<spec::CorpusPart> parts;
    for (const data::Part& p : m.parts)
      parts.push_back({p.name, p.split(data::Split::kTrain).tokens});
    return sweeps::CorpusInfo{
        .digest = m.digest,
        .vocab_size = m.vocab_size,
        .train_tokens = m.split(data::Split::kTrain).tokens,
        .overlap_13gram_test = m.overlap_13gram[static_cast<int>(data::Split::kTest)],
        .parts = std::move(parts),
        .splits = {m.split(data::Split::kTune).tokens, m.split(data::Split::kVal).tokens,
                   m.split(data::Split::kTest).tokens}};
  } catch (const std::exception& e) {  // the data room throws; statuses begin here
    return absl::FailedPreconditionError(e.what());
  }
}

absl::StatusOr<sweeps::SweepPlan> Served(sweeps::SweepPlan plan) {
  if (absl::Status served = sweeps::NotYetServed(plan); !served.ok()) return served;
  return plan;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const ServerOptions& options) {
  const std::string root = options.data_root.empty() ? data::DefaultRoot() : options.data_root;
  ServerOptions with_corpora = options;
  with_corpora.blobs.data_root = root;
  return Launch(with_corpora, [root](const std::string& yaml, const std::string& file_name) {
    auto plan = sweeps::PlanSweep(yaml, file_name,
                                  // By value: a search asks on.
                                  [root](const std::string& corpus, const std::string& tokenizer) {
                                    return LookUpCorpus(root, corpus, tokenizer);
                                  });
    if (plan.ok()) plan = Served(*std::move(plan));
    return plan;
  });
}

}  // namespace plumb::coordinator
