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

Score Evaluate(const Bundle& bundle, int64_t row, const data::Shard& shard, int64_t seq_len,
               int64_t tokens, std::vector<DocumentScore>* documents) {
  const int64_t targets_in_split =
      shard.tokens() - 1;  // the first token is never a target: it is a separator
  if (targets_in_split < 1) throw std::runtime_error("the split has no token to score");
  const int64_t full = targets_in_split / seq_len;
  const bool whole = tokens == 0 || tokens >= targets_in_split || full == 0;
  const int64_t windows = whole ? (targets_in_split + seq_len - 1) / seq_len
                                : std::clamp<int64_t>(tokens / seq_len, 1, full);

  Score score;
  std::vector<DocumentScore> per_document;
  if (documents != nullptr) {
    for (int64_t i = 0; i < shard.documents(); ++i)
      per_document.push_back({.document = i, .bytes = shard.DocumentBytes(i)});
  }
  int64_t document = 0;  // of the target at hand; targets come in order
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
      for (int64_t t = 0; t < n; ++t) {
        id[i * seq_len + t] = buffer[t];
        const int64_t position = begins[i] + t + 1;
        if (document + 1 < shard.documents() && position >= shard.DocumentBegin(document + 1))
          document = shard.DocumentOf(position);
        if (position != shard.DocumentBegin(document)) target[i * seq_len + t] = buffer[t + 1];
      }
    }
    const at::Tensor nll =
        bundle.NegativeLogLikelihoods(row, 1, ids.to(bundle.device()), targets.to(bundle.device()))
            .to(at::kDouble)
            .cpu()
            .contiguous();  // [1, count * seq_len]
    const double* value = nll.data_ptr<double>();
    for (int64_t i = 0; i < count * seq_len; ++i) {
      if (target[i] < 0) continue;
      score.nll += value[i];
      ++score.tokens;
      if (!per_document.empty()) {
        DocumentScore& d = per_document[shard.DocumentOf(begins[i / seq_len] + i % seq_len + 1)];
        d.nll += value[i];
        ++d.tokens;
      }
    }
  }
  int64_t bytes = 0;
  for (int64_t i = 0; i < shard.documents(); ++i) bytes += shard.DocumentBytes(i);
  const int64_t scorable = shard.tokens() - shard.documents();
  score.bytes = static_cast<double>(bytes) * static_cast<double>(score.tokens) /
                static_cast<double>(scorable);
  if (!whole) std::erase_if(per_document, [](const DocumentScore& d) { return d.tokens == 0; });
  if (documents != nullptr) *documents = std::move(per_document);
  return score;
}

std::vector<Score> EvaluateParts(const Bundle& bundle, int64_t row, const data::Dataset& dataset,
                                 data::Split split, int64_t seq_len, int64_t tokens,
                                 std::vector<DocumentScore>* documents) {
  std::vector<Score> scores;
  if (documents != nullptr) documents->clear();
  int64_t before = 0;  // documents of the parts before
  for (size_t p = 0; p < dataset.parts().size(); ++p) {
    const data::Shard& shard = dataset.part(p, split);
    const double share =
        static_cast<double>(shard.tokens()) / static_cast<double>(dataset.split(split).tokens());
    // 0 asks for all of it.
    const int64_t of_part =
        tokens == 0 ? 0 : std::max<int64_t>(1, std::llround(static_cast<double>(tokens) * share));
    std::vector<DocumentScore> found;
    scores.push_back(
        Evaluate(bundle, row, shard, seq_len, of_part, documents != nullptr ? &found : nullptr));
    for (DocumentScore& d : found) {
      d.document += before;
      documents->push_back(d);
    }
    before += shard.documents();
  }
  return scores;
}

}  // namespace plumb::trainer
