// Which tokens a training sample is: a pure function of (data seed, sample index). No iterator
// state, so a resumed run needs none; trials that share a data seed see the same samples whatever
// their batch size.
#pragma once

#include <cstdint>

#include "trainer/counter_random.h"

namespace plumb::trainer {

// Epoch e cuts the stream, from a random offset in [0, seq_len), into windows of seq_len inputs
// (and one token more for the last target) and visits them in the order of a keyed permutation:
// each window once an epoch.
class DataOrder {
 public:
  // Needs tokens > seq_len; throws std::invalid_argument otherwise.
  DataOrder(int64_t tokens, int64_t seq_len, int64_t seed);

  int64_t windows() const { return windows_; }  // per epoch
  // First token of sample `index` (0, 1, …); the sample is [begin, begin + seq_len].
  int64_t Begin(int64_t index) const;
  double Epochs(int64_t samples) const {
    return static_cast<double>(samples) / static_cast<double>(windows_);
  }

 private:
  int64_t seq_len_, windows_, slack_;
  int64_t seed_;
};

// A bijection of [0, n) keyed by `key`: a four-round Feistel network over the next power of four,
// walked until it lands inside (Black & Rogaway 2002).
int64_t Permute(int64_t i, int64_t n, uint64_t key);

}  // namespace plumb::trainer
