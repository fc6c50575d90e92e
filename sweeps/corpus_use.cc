#include "sweeps/corpus_use.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "trainer/spec/cost.h"
#include "trainer/spec/mixture.h"

namespace plumb::sweeps {
namespace {

constexpr double kOverlapFlag = 0.01;
constexpr double kWeightError = 1e-4;  // weights are millionths: one epoch by weight is not exact

// Checks what the trial reads of the corpus's parts, and says how much.
std::string Mixture(const CorpusInfo& corpus, spec::TrialSpec* s, PlannedCell* cell) {
  const int64_t tokens = spec::TotalTokens(*s);
  std::vector<spec::CorpusPart> parts = corpus.parts;
  if (parts.empty()) parts = {{"all", corpus.train_tokens}};
  if (corpus.train_tokens <= 0) return "";
  std::vector<spec::PartPhase> phases;
  if (const std::string wrong = spec::PhasesOn(*s, parts, &phases); !wrong.empty()) return wrong;
  if (std::vector<spec::MixPhase> given; !s->data.phases.empty()) {
    spec::ParsePhases(s->data.phases, &given);
    if (phases.size() < given.size()) {
      return absl::StrCat("data.phases: ", given.size(), " phases in ", s->train.steps,
                          " steps leave one of them no step");
    }
  }
  if (parts.size() == 1) {  // nothing is mixed: the same trial as without a mix
    s->data.mix.clear(), s->data.phases.clear();
    if (tokens > corpus.train_tokens) cell->flags.push_back("more_than_one_epoch");
    return "";
  }
  const std::vector<double> used = spec::TokensByPart(*s, phases);
  for (size_t p = 0; p < parts.size(); ++p) {
    const auto most = static_cast<double>(parts[p].train_tokens);
    cell->parts.push_back({parts[p].name, used[p], parts[p].train_tokens});
    if (used[p] > most * (1 + kWeightError))
      cell->flags.push_back("more_than_one_epoch:" + parts[p].name);
  }
  return "";
}

}  // namespace

int64_t MappedBytes(const PlannedCell& cell, const spec::TrialSpec& s) {
  constexpr int64_t kMost = 64 << 20;
  const SplitTokens& e = cell.splits;
  const int64_t tokens = cell.train_tokens + e.tune + e.val + e.test;
  const int64_t width = s.model.vocab_size > 65536 ? 4 : 2;  // bytes of a token
  return std::min(kMost, tokens > kMost ? kMost : tokens * width);
}

std::string UseCorpus(const CorpusInfo& corpus, spec::TrialSpec* s, PlannedCell* cell) {
  if (corpus.vocab_size > s->model.vocab_size) {
    return absl::StrCat("model.vocab_size: ", s->model.vocab_size, " is less than the corpus's ",
                        corpus.vocab_size);
  }
  s->data.digest = corpus.digest;
  cell->train_tokens = corpus.train_tokens, cell->splits = corpus.splits;
  if (const std::string wrong = Mixture(corpus, s, cell); !wrong.empty()) return wrong;
  if (corpus.overlap_13gram_test > kOverlapFlag) cell->flags.push_back("test_overlap");
  return "";
}

}  // namespace plumb::sweeps
