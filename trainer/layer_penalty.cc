#include "trainer/layer_penalty.h"

#include <ATen/ATen.h>

namespace plumb::trainer {
namespace {

using at::Tensor;

// |h| |h'| is at least this where it divides: a state of zeros has no direction.
constexpr double kLeast = 1e-8;

Tensor OneMinusCosine(const Tensor& a, const Tensor& b) {
  const Tensor squares = a.square().sum(-1) * b.square().sum(-1);
  return 1 - (a * b).sum(-1) / squares.clamp_min(kLeast * kLeast).sqrt();
}

}  // namespace

PenaltySums NeighbourPenalties(const std::vector<Tensor>& states, bool embedding, bool cosine,
                               bool mse) {
  PenaltySums out;
  const auto add = [](const Tensor& value, Tensor* sum) {
    *sum = sum->defined() ? *sum + value : value;
  };
  for (size_t i = embedding ? 1 : 2; i < states.size(); ++i) {
    if (cosine) add(OneMinusCosine(states[i - 1], states[i]), &out.cosine);
    if (mse) add((states[i] - states[i - 1]).square().sum(-1), &out.mse);
  }
  return out;
}

PenaltyScale ScaleOf(spec::LayerReduction reduction, int64_t tokens, int64_t d) {
  const double mean = 1 / static_cast<double>(tokens);
  switch (reduction) {
    case spec::LayerReduction::kSum:
      return {};
    case spec::LayerReduction::kMean:
      return {mean, mean};
    case spec::LayerReduction::kElements:
      return {mean, mean / static_cast<double>(d)};
  }
  return {};
}

}  // namespace plumb::trainer
