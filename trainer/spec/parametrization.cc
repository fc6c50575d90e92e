#include "trainer/spec/parametrization.h"

#include <cmath>

namespace plumb::spec {

double WidthRatio(const ModelSpec& m) {
  if (m.parametrization == Parametrization::kSp) return 1;
  return static_cast<double>(m.d_model) / static_cast<double>(m.base_d_model);
}

double DepthRatio(const ModelSpec& m) {
  if (m.parametrization != Parametrization::kCompleteP) return 1;
  return static_cast<double>(m.n_layers) / static_cast<double>(m.base_n_layers);
}

Factors FactorsOf(const ModelSpec& m, const Parameter& p) {
  const double width = WidthRatio(m), depth = DepthRatio(m), alpha = m.depth_alpha;
  const bool hidden = p.role == Role::kHidden, in_block = p.layer >= 0;
  Factors f;
  if (p.role == Role::kGain || p.role == Role::kBias) f.weight_decay = 0;
  if (p.role == Role::kRouter && p.shape.size() == 1) f.weight_decay = 0;
  if (hidden) f.lr /= width;
  if (in_block) f.lr *= std::pow(depth, alpha - 1);
  const bool scaled_decay = m.parametrization == Parametrization::kMupRepo ||
                            m.parametrization == Parametrization::kCompleteP;
  if (hidden && scaled_decay) f.weight_decay *= width;
  if (m.parametrization == Parametrization::kMupRepo && in_block) f.eps /= width;
  if (m.parametrization == Parametrization::kCompleteP) f.eps *= std::pow(depth, -alpha) / width;
  return f;
}

double ResidualMultiplier(const ModelSpec& m) { return std::pow(DepthRatio(m), -m.depth_alpha); }

double LogitMultiplier(const ModelSpec& m) { return 1 / WidthRatio(m); }

double ScoreScale(const ModelSpec& m) {
  if (m.attn_scale > 0) return m.attn_scale;
  const double h = static_cast<double>(m.head_dim);
  return m.parametrization == Parametrization::kSp ? 1 / std::sqrt(h) : 1 / h;
}

}  // namespace plumb::spec
