#include "trainer/components/context.h"
#include "trainer/spec/parameter_layout.h"

namespace plumb::trainer::components {
namespace {

using at::Tensor;
using spec::MlpKind;

Tensor Activate(MlpKind kind, const Tensor& x, double leaky_slope) {
  switch (kind) {
    case MlpKind::kSwiGlu:
      return ops::SwiGlu(x);
    case MlpKind::kGelu:
      return ops::Gelu(x);
    case MlpKind::kGeluErf:
      return at::gelu(x, "none");
    case MlpKind::kRelu:
      return at::relu(x);
    case MlpKind::kRelu2:
      return at::relu(x).square();
    case MlpKind::kLeakyRelu:
      return at::leaky_relu(x, leaky_slope);
    case MlpKind::kSilu:
      return at::silu(x);
    case MlpKind::kGeglu:
    case MlpKind::kGegluTanh:
    case MlpKind::kReglu:
    case MlpKind::kBilinear:
      break;
  }
  const std::vector<Tensor> halves = x.chunk(2, -1);  // gate, up (Shazeer 2020)
  switch (kind) {
    case MlpKind::kGeglu:
      return at::gelu(halves[0], "none") * halves[1];
    case MlpKind::kGegluTanh:
      return at::gelu(halves[0], "tanh") * halves[1];
    case MlpKind::kReglu:
      return at::relu(halves[0]) * halves[1];
    default:
      return halves[0] * halves[1];
  }
}

}  // namespace

Tensor Mlp(const Context& c, const Tensor& x, int64_t l) {
  const std::string mlp = spec::BlockName(l) + "mlp.";
  const Tensor hidden = c.Linear(x, mlp + (spec::Gated(c.m.mlp) ? "gate_up" : "up"));
  return c.Linear(Activate(c.m.mlp, hidden, c.m.leaky_slope), mlp + "down");
}

}  // namespace plumb::trainer::components
