// A block without attention: a position reads the mean of the values up to it, gated by itself.
//   x <- x + (silu(norm(x) G) * runmean(norm(x) V)) O
//   x <- x + relu(norm(x) U)^2 D
#include "trainer/block_plugin.h"

namespace {

using at::Tensor;
using plumb::block::Input;

// x [K, B T, in] times the row's own matrix [K, in, out].
Tensor Times(const Tensor& x, const Tensor& weight) { return at::bmm(x, weight); }

Tensor Normed(const Tensor& x, const Tensor& gain) {  // RMSNorm; gain [K, d]
  return x * (x.square().mean({-1}, /*keepdim=*/true) + 1e-5).rsqrt() * gain.unsqueeze(1);
}

Tensor Forward(const Input& in) {
  const int64_t K = in.x.size(0), B = in.x.size(1), T = in.x.size(2), d = in.x.size(3);
  Tensor x = in.x.reshape({K, B * T, d});

  const Tensor normed = Normed(x, in["mix_norm.weight"]);
  const Tensor values = Times(normed, in["mix.value.weight"]).view({K, B, T, -1});
  const Tensor count = at::arange(1, T + 1, x.options().requires_grad(false)).view({T, 1});
  const Tensor means = (values.cumsum(2) / count).view({K, B * T, -1});
  const Tensor gate = at::silu(Times(normed, in["mix.gate.weight"]));
  x = x + Times(gate * means, in["mix.out.weight"]);

  const Tensor hidden = at::relu(Times(Normed(x, in["mlp_norm.weight"]), in["mlp.up.weight"]));
  x = x + Times(hidden.square(), in["mlp.down.weight"]);
  return x.view({K, B, T, d});
}

}  // namespace

PLUMB_BLOCK(Forward)
