// Which part of the corpus a training sample comes from, and where in it: a pure function of
// (seed, sample index), without state, as trainer/data_order.h is within one part.
//
// A phase is a pattern of parts that repeats: as many samples as its weights need to be whole
// numbers, in the order of Tijdeman's chairman assignment (1980), which keeps every part, after
// any number n of samples, within 1 of n times its weight. So the count of a part's samples before
// any index is a division and a look into the pattern; the part's own DataOrder goes on at that
// count. The seed decides between parts that are equally due.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "data/dataset.h"
#include "trainer/data_order.h"
#include "trainer/spec/trial_spec.h"

namespace plumb::trainer {

// The pattern of one set of weights.
class MixPattern {
 public:
  // Weights are whole numbers of at least 0 whose sum is at most a million, one of them above 0.
  MixPattern(const std::vector<int64_t>& weights, int64_t seed);

  int64_t PartAt(int64_t n) const { return pattern_[n % period()]; }
  // Samples of `part` among the first n.
  int64_t Count(int64_t part, int64_t n) const;

 private:
  int64_t period() const { return static_cast<int64_t>(pattern_.size()); }

  std::vector<int64_t> weights_;  // divided by their common divisor: a part's samples in a period
  std::vector<uint8_t> pattern_;
  std::vector<int32_t> counts_;  // by block of the pattern and part: samples before the block
};

class MixedOrder {
 public:
  struct Phase {
    int64_t samples = 0;           // the last phase also has all that come after
    std::vector<int64_t> weights;  // by part
  };
  struct Sample {
    int64_t part = 0;
    int64_t begin = 0;  // first token within the part; the sample is [begin, begin + seq_len]
  };

  // `part_tokens`: of the train split, by part. Throws std::invalid_argument where a part with a
  // weight above 0 is shorter than a window.
  MixedOrder(const std::vector<int64_t>& part_tokens, const std::vector<Phase>& phases,
             int64_t seq_len, int64_t seed);

  Sample At(int64_t index) const;
  int64_t Count(int64_t part, int64_t samples) const;  // of the part, among the first `samples`
  // Passes over the part, and over all parts together, that the first `samples` make.
  double Epochs(int64_t part, int64_t samples) const;
  double Epochs(int64_t samples) const;

 private:
  struct Stretch {
    int64_t begin = 0;            // first sample
    std::vector<int64_t> before;  // samples of each part in earlier phases
    MixPattern pattern;
  };
  const Stretch& StretchOf(int64_t index) const;

  std::vector<std::optional<DataOrder>> parts_;  // none where a part is too short and never read
  std::vector<Stretch> stretches_;
};

// The order of a resolved spec's run. Throws std::invalid_argument where it cannot be: data.mix
// names a part that the corpus lacks, or a part is too short.
MixedOrder OrderOf(const spec::TrialSpec& resolved, const data::Dataset& dataset);

}  // namespace plumb::trainer
