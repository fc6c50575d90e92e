#include "trainer/samples.h"

#include <algorithm>
#include <vector>

#include "trainer/spec/parse.h"

namespace plumb::trainer {

Scored ScoredOf(const spec::TrialSpec& s) {
  Scored out{.from = s.data.score_from};
  if (s.train.objective != spec::Objective::kMlm) return out;
  out.mlm = true;
  out.mask_fraction = s.train.mask_fraction;
  out.mask = spec::TokenizerVocabSize(s.data.tokenizer).value();
  return out;
}

void FillSample(const Scored& scored, const int64_t* tokens, int64_t T, const CounterRandom& random,
                uint64_t counter, int64_t* ids, int64_t* targets) {
  std::copy_n(tokens, T, ids);
  std::copy_n(tokens + scored.shift(), T, targets);
  std::fill_n(targets, std::min(scored.from, T), -1);
  if (!scored.mlm) return;
  for (int64_t t = 0; t < T; ++t) {
    const uint64_t draws = 3 * (counter + static_cast<uint64_t>(t));
    if (targets[t] < 0) continue;
    if (random.Uniform(draws) >= scored.mask_fraction) {
      targets[t] = -1;
      continue;
    }
    const double how = random.Uniform(draws + 1);
    if (how < 0.8) {
      ids[t] = scored.mask;
    } else if (how < 0.9) {
      ids[t] = static_cast<int64_t>(random.Bits(draws + 2) % static_cast<uint64_t>(scored.mask));
    }
  }
}

void FillBatch(const spec::TrialSpec& s, const data::Dataset& dataset, const MixedOrder& order,
               int64_t step, int64_t* ids, int64_t* targets) {
  const int64_t T = s.data.seq_len, B = s.train.batch_tokens / T;
  const Scored scored = ScoredOf(s);
  std::vector<int64_t> tokens(T + 1);
  for (int64_t b = 0; b < B; ++b, ids += T, targets += T) {
    const int64_t index = step * B + b;
    const auto [part, begin] = order.At(index);
    dataset.part(part, data::Split::kTrain).Copy(begin, T + 1, tokens.data());
    const uint64_t key = Mix(HashOf("mlm") + static_cast<uint64_t>(s.seed.data));
    FillSample(scored, tokens.data(), T, CounterRandom(key + static_cast<uint64_t>(index)), 0, ids,
               targets);
  }
}

}  // namespace plumb::trainer
