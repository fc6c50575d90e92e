#include "trainer/components/context.h"

namespace plumb::trainer::components {
namespace {

using at::Tensor;
using spec::NormKind;

// RMSNorm's gain [K, d]: 1 where it has none, 1 + w under the unit offset.
Tensor RmsGain(const Context& c, const Tensor& x, const std::string& name) {
  const Tensor w = c.Find(name + ".weight");
  if (!w.defined()) return at::ones({x.size(0), x.size(2)}, x.options().requires_grad(false));
  return c.m.norm_unit_offset ? w + 1 : w;
}

}  // namespace

Tensor Norm(const Context& c, const Tensor& x, const std::string& name, NormKind kind) {
  switch (kind) {
    case NormKind::kNone:
      return x;
    case NormKind::kRmsNorm:
      return ops::RmsNorm(x, RmsGain(c, x, name), c.m.norm_eps, c.m.norm_eps_inside);
    case NormKind::kLayerNorm:
      return ops::LayerNorm(x, c.At(name + ".weight"), c.At(name + ".bias"), c.m.norm_eps);
    case NormKind::kDyt: {
      const Tensor squashed = at::tanh(ops::ScaleRows(x, c.At(name + ".alpha")));
      const Tensor y = ops::ScaleRows(squashed, c.At(name + ".weight"));
      const Tensor bias = c.Find(name + ".bias");
      return bias.defined() ? ops::AddRows(y, bias) : y;
    }
  }
  return {};
}

bool CanAddNorm(const Context& c, NormKind kind) {
  return kind == NormKind::kLayerNorm || (kind == NormKind::kRmsNorm && c.m.norm_weight);
}

ops::SumAndNorm AddNorm(const Context& c, const Tensor& x, const Tensor& branch,
                        const std::string& name, NormKind kind) {
  if (kind == NormKind::kLayerNorm) {
    return ops::AddLayerNorm(x, branch, c.At(name + ".weight"), c.At(name + ".bias"), c.m.norm_eps);
  }
  return ops::AddRmsNorm(x, branch, RmsGain(c, x, name), c.m.norm_eps, c.m.norm_eps_inside);
}

}  // namespace plumb::trainer::components
