#include "trainer/evaluation.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace plumb::trainer {
namespace {
// Positions in one forward pass: a constant, so that a score does not depend on anything but the
// row and the split.
constexpr int64_t kPositionsPerPass = 4096;
}  // namespace

double Score::perplexity() const { return std::exp(loss()); }
double Score::bits_per_byte() const { return nll / std::numbers::ln2 / bytes; }

Score& Score::operator+=(const Score& other) {
  nll += other.nll, tokens += other.tokens, bytes += other.bytes;
  return *this;
}

EvaluationPlan PlanOf(const spec::TrialSpec& s, int64_t tokens) {
  return {.seq_len = s.eval.seq_len, .tokens = tokens, .scored = ScoredOf(s)};
}

Score Evaluate(const Bundle& bundle, int64_t row, const data::Shard& whole_shard,
               const EvaluationPlan& plan) {
  const bool some = plan.documents > 0 && plan.documents < whole_shard.documents();
  const data::Shard shard =
      whole_shard.Documents(0, some ? plan.documents : whole_shard.documents());
  const int64_t seq_len = plan.seq_len, shift = plan.scored.shift();
  const int64_t targets_in_split =
      shard.tokens() - 1;  // the first token is never a target: it is a separator
  if (targets_in_split < 1) throw std::runtime_error("the split has no token to score");
  const int64_t full = targets_in_split / seq_len;
  const bool whole = plan.tokens == 0 || plan.tokens >= targets_in_split || full == 0;
  // What is put behind a shorter text is seen where attention or a router looks ahead.
  const spec::ModelSpec& m = bundle.model();
  const bool looks_ahead =
      !m.causal || (spec::Routed(m) && m.router.pool == spec::RouterPool::kFull);
  if (looks_ahead && full == 0) {
    throw std::runtime_error("the split is shorter than a sequence of " + std::to_string(seq_len));
  }
  const int64_t windows = !whole        ? std::clamp<int64_t>(plan.tokens / seq_len, 1, full)
                          : looks_ahead ? full
                                        : (targets_in_split + seq_len - 1) / seq_len;
  const CounterRandom masks(HashOf("mlm evaluation"));

  Score score;
  std::vector<DocumentScore> per_document;
  if (plan.document_scores != nullptr) {
    for (int64_t i = 0; i < shard.documents(); ++i)
      per_document.push_back({.document = i, .bytes = shard.DocumentBytes(i)});
  }
  const int64_t per_pass = std::max<int64_t>(1, kPositionsPerPass / seq_len);
  std::vector<int64_t> buffer(seq_len + 1);
  for (int64_t first = 0; first < windows; first += per_pass) {
    const int64_t count = std::min(per_pass, windows - first);
    at::Tensor ids = at::zeros({1, count, seq_len}, at::kLong),
               targets = at::full({1, count, seq_len}, -1, at::kLong);
    int64_t* id = ids.data_ptr<int64_t>();
    int64_t* target = targets.data_ptr<int64_t>();
    std::vector<int64_t> begins(count);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t w = whole ? first + i : (first + i) * full / windows;
      begins[i] = w * seq_len;
      const int64_t n = std::min(seq_len, targets_in_split - begins[i]);
      shard.Copy(begins[i], n + 1, buffer.data());
      FillSample(plan.scored, buffer.data(), n, masks, static_cast<uint64_t>(begins[i]),
                 id + i * seq_len, target + i * seq_len);
      for (int64_t t = 0, document = -1; t < n; ++t) {
        const int64_t position = begins[i] + t + shift;
        if (document < 0 || position >= shard.DocumentBegin(document + 1))
          document = shard.DocumentOf(position);
        if (position != shard.DocumentBegin(document)) continue;
        target[i * seq_len + t] = -1;
        id[i * seq_len + t] = shift == 0 ? buffer[t] : id[i * seq_len + t];  // never masked
      }
    }
    Extras extras{
        .schedule = plan.schedule, .substitutes = plan.substitutes, .argmax = plan.argmax};
    const bool plain = plan.schedule == nullptr && plan.substitutes == nullptr && !spec::Routed(m);
    const at::Tensor nll =
        bundle
            .NegativeLogLikelihoods(row, 1, ids.to(bundle.device()), targets.to(bundle.device()),
                                    plain ? nullptr : &extras)
            .to(at::kDouble)
            .cpu()
            .contiguous();  // [1, count * seq_len]
    const double* value = nll.data_ptr<double>();
    for (int64_t i = 0; i < count * seq_len; ++i) {
      if (target[i] < 0) continue;
      score.nll += value[i];
      ++score.tokens;
      if (!per_document.empty()) {
        DocumentScore& d =
            per_document[shard.DocumentOf(begins[i / seq_len] + i % seq_len + shift)];
        d.nll += value[i];
        ++d.tokens;
      }
    }
    for (size_t i = 0; plan.routes != nullptr && i < extras.routes.size(); ++i) {
      const int64_t position = std::min(begins[i] + plan.scored.from + shift, shard.tokens() - 1);
      plan.routes->push_back({shard.DocumentOf(position), std::move(extras.routes[i])});
    }
  }
  int64_t bytes = 0;
  for (int64_t i = 0; i < shard.documents(); ++i) bytes += shard.DocumentBytes(i);
  const int64_t scorable = shard.tokens() - shard.documents();
  score.bytes = static_cast<double>(bytes) * static_cast<double>(score.tokens) /
                static_cast<double>(scorable);
  const bool all = whole && plan.scored.from == 0 && !plan.scored.mlm && !looks_ahead;
  if (!all) std::erase_if(per_document, [](const DocumentScore& d) { return d.tokens == 0; });
  if (plan.document_scores != nullptr) *plan.document_scores = std::move(per_document);
  return score;
}

std::vector<Score> EvaluateParts(const Bundle& bundle, int64_t row, const data::Dataset& dataset,
                                 data::Split split, const EvaluationPlan& plan,
                                 std::vector<std::vector<TextRoute>>* routes) {
  std::vector<Score> scores;
  if (plan.document_scores != nullptr) plan.document_scores->clear();
  if (routes != nullptr) routes->assign(dataset.parts().size(), {});
  int64_t before = 0;  // documents of the parts before
  for (size_t p = 0; p < dataset.parts().size(); ++p) {
    const data::Shard& shard = dataset.part(p, split);
    const double share =
        static_cast<double>(shard.tokens()) / static_cast<double>(dataset.split(split).tokens());
    EvaluationPlan of_part = plan;
    if (plan.tokens > 0) {  // 0 asks for all of it
      of_part.tokens = std::max<int64_t>(1, std::llround(static_cast<double>(plan.tokens) * share));
    }
    std::vector<DocumentScore> found;
    if (plan.document_scores != nullptr) of_part.document_scores = &found;
    if (routes != nullptr) of_part.routes = &(*routes)[p];
    scores.push_back(Evaluate(bundle, row, shard, of_part));
    for (DocumentScore& d : found) {
      d.document += before;
      plan.document_scores->push_back(d);
    }
    for (size_t i = 0; routes != nullptr && i < (*routes)[p].size(); ++i)
      (*routes)[p][i].document += before;
    before += shard.documents();
  }
  return scores;
}

}  // namespace plumb::trainer
