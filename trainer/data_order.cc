#include "trainer/data_order.h"

#include <stdexcept>
#include <string>

namespace plumb::trainer {

int64_t Permute(int64_t i, int64_t n, uint64_t key) {
  int half = 1;
  while ((int64_t{1} << (2 * half)) < n) ++half;
  const uint64_t mask = (uint64_t{1} << half) - 1;
  auto x = static_cast<uint64_t>(i);
  do {
    uint64_t left = x >> half, right = x & mask;
    for (uint64_t round = 0; round < 4; ++round) {
      const uint64_t next = left ^ (Mix(key ^ Mix(right + (round << 40))) & mask);
      left = right, right = next;
    }
    x = left << half | right;
  } while (x >= static_cast<uint64_t>(n));
  return static_cast<int64_t>(x);
}

DataOrder::DataOrder(int64_t tokens, int64_t seq_len, int64_t seed)
    : seq_len_(seq_len), seed_(seed) {
  if (tokens <= seq_len) {
    throw std::invalid_argument("the train split has " + std::to_string(tokens) +
                                " tokens: not one window of seq_len " + std::to_string(seq_len) +
                                " and its last target");
  }
  // Room for the offset costs less than one window; a stream of a single window has only what is
  // left over.
  const int64_t usable = tokens - 1;  // the last token is only a target
  slack_ = usable >= 2 * seq_len ? seq_len - 1 : usable - seq_len;
  windows_ = (usable - slack_) / seq_len;
}

int64_t DataOrder::Begin(int64_t index) const {
  const int64_t epoch = index / windows_;
  const uint64_t key =
      Mix(static_cast<uint64_t>(seed_) * 0x2545f4914f6cdd1du + static_cast<uint64_t>(epoch));
  const int64_t offset =
      static_cast<int64_t>(CounterRandom(key).Bits(0) % static_cast<uint64_t>(slack_ + 1));
  return offset + Permute(index % windows_, windows_, key) * seq_len_;
}

}  // namespace plumb::trainer
