// Penalties on neighbouring layers, added to the loss in training (Razzhigaev et al. 2024, arXiv
// 2405.12250, section 4): of neighbouring states h, h' of the residual stream, per token
//   cosine  1 - cos(h, h')        mse  |h - h'|^2
// summed over the pairs. docs/linearity.md says what the paper leaves open.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "trainer/spec/trial_spec.h"

namespace plumb::trainer {

// One row's.
struct LayerPenalty {
  double cosine = 0, mse = 0;  // coefficients; 0: none
  // Of all rows of a bundle alike.
  spec::LayerReduction reduction = spec::LayerReduction::kMean;
  bool embedding = true;  // the first pair is the embedding and block 0's output

  bool any() const { return cosine > 0 || mse > 0; }
};

// Summed over pairs, at each position; undefined where not asked for.
struct PenaltySums {
  at::Tensor cosine, mse;  // [K, M]
};
// `states`: [K, M, d] each, in order, the embedding first. Differentiable.
PenaltySums NeighbourPenalties(const std::vector<at::Tensor>& states, bool embedding, bool cosine,
                               bool mse);

// What the sums over `tokens` positions are multiplied by.
struct PenaltyScale {
  double cosine = 1, mse = 1;
};
PenaltyScale ScaleOf(spec::LayerReduction reduction, int64_t tokens, int64_t d);

}  // namespace plumb::trainer
