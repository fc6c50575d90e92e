// Scores of a row on a split. The split's token stream is cut into consecutive windows of a fixed
// length; when fewer tokens are asked for than there are, evenly spread windows are taken, always
// the same ones. Separators are context, never scored.
#pragma once

#include <cstdint>
#include <vector>

#include "data/dataset.h"
#include "trainer/bundle.h"
#include "trainer/protocol/engine.h"

namespace plumb::trainer {

struct Score {
  double nll = 0;      // nats over the tokens scored
  int64_t tokens = 0;  // scored
  double bytes = 0;  // UTF-8 bytes of what was scored: exact for whole documents, else the split's
                     // bytes per scored token
  double loss() const { return nll / static_cast<double>(tokens); }
  double perplexity() const;
  double bits_per_byte() const;
  Score& operator+=(const Score& other);
};

// Windows of `seq_len` inputs, about `tokens` tokens in all (0: every window). The last window of
// the split may be shorter than the others and is then scored only in a whole evaluation.
// `documents`, when not null, receives the score of each document (where windows were chosen, of
// each one they touch): `tokens` says how many of its tokens were scored.
Score Evaluate(const Bundle& bundle, int64_t row, const data::Shard& shard, int64_t seq_len,
               int64_t tokens, std::vector<DocumentScore>* documents);

// The same of a split, part by part: each by itself, on its own windows and its share of `tokens`,
// so that a part's score does not depend on its neighbours and their sum is the split's. Documents
// are numbered through the split.
std::vector<Score> EvaluateParts(const Bundle& bundle, int64_t row, const data::Dataset& dataset,
                                 data::Split split, int64_t seq_len, int64_t tokens,
                                 std::vector<DocumentScore>* documents);

}  // namespace plumb::trainer
