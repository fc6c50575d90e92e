// Maps fitted on some documents, judged on others.
#pragma once

#include <cstdint>
#include <vector>

#include "trainer/linearity/score.h"

namespace plumb::trainer::linearity {

struct HeldOut {
  int64_t n = 0;
  // 1 - (what the fitted map leaves) / (all), both of these documents, centred on their own mean;
  // below 0 where the map is worse than that mean.
  double score = 0, score_without = 0;
  // Of each token's squared error by the map to the later state, over the mean squared deviation.
  double error_p50 = 0, error_p90 = 0, error_p99 = 0;
  double neighbour_cosine = 0;  // mean over tokens of cos(earlier, later); states as they are
};

// Streams tokens that were not fitted on. Memory: d² for each pair. Quantiles are of at most 65,536
// tokens, evenly thinned.
class HeldOutScores {
 public:
  HeldOutScores(std::vector<Pair> pairs, const std::vector<Fit>& fits, at::Device device);
  void Add(const std::vector<at::Tensor>& states);  // [n, d] each, as Moments::Add
  HeldOut Of(size_t pair) const;

 private:
  struct Sums {
    AffineMap with, without;
    bool full_rank = true;  // both maps then leave the same
    at::Tensor y_mean, y_squares, f_mean, f_squares;
    double left_y = 0, left_f = 0, cosine = 0;
    std::vector<float> errors;  // of every stride_-th token
  };
  void Thin();

  int64_t n_ = 0, stride_ = 1;
  std::vector<Pair> pairs_;
  std::vector<Sums> sums_;
};

}  // namespace plumb::trainer::linearity
