#include "trainer/ops/composition.h"
#include "trainer/ops/ops.h"
#include "trainer/ops/rows.h"

namespace plumb::trainer::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

// Inputs x, branch (may be undefined), gain, bias (undefined: RMSNorm). Outputs the norm, and the
// sum where branch is given.
struct NormFunction : torch::autograd::Function<NormFunction> {
  static variable_list forward(AutogradContext* ctx, const Variable& x_in,
                               const std::optional<at::Tensor>& branch_in, const Variable& gain,
                               const std::optional<at::Tensor>& bias_in, double eps, bool inside) {
    at::Tensor bias = bias_in.value_or(at::Tensor());
    const Kernels& kernels = ActiveKernels();
    at::Tensor x = x_in.contiguous();
    at::Tensor branch = branch_in ? branch_in->contiguous() : at::Tensor();
    int64_t rows = x.size(0), positions = x.size(1), d = x.size(2);
    int64_t stats_width = bias.defined() ? 2 : 1;
    at::Tensor y = at::empty_like(x), sum = branch.defined() ? at::empty_like(x) : at::Tensor();
    at::Tensor stats = at::empty({rows, positions, stats_width}, x.options());
    ForEachChunk(rows, positions, [&](int64_t k, int64_t first, int64_t n) {
      auto at_first = [&](const at::Tensor& t) {
        return t.defined() ? Row(t, k) + first * t.size(-1) : nullptr;
      };
      if (bias.defined()) {
        kernels.layer_norm(at_first(x), at_first(branch), Row(gain, k), Row(bias, k),
                           static_cast<float>(eps), at_first(sum), at_first(y), at_first(stats), n,
                           d);
      } else {
        kernels.rms_norm(at_first(x), at_first(branch), Row(gain, k),
                         inside ? static_cast<float>(eps) : 0, inside ? 0 : static_cast<float>(eps),
                         at_first(sum), at_first(y), at_first(stats), n, d);
      }
    });
    ctx->saved_data["has_branch"] = branch.defined();
    ctx->saved_data["eps_outside"] = inside ? 0.0 : eps;
    ctx->set_materialize_grads(false);
    if (!branch.defined()) {
      ctx->save_for_backward({x, gain, bias, stats});
      return {y};
    }
    ctx->save_for_backward({sum, gain, bias, stats});
    return {y, sum};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const Kernels& kernels = ActiveKernels();
    variable_list saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &gain = saved[1], &bias = saved[2], &stats = saved[3];
    bool has_branch = ctx->saved_data["has_branch"].toBool();
    at::Tensor dsum = has_branch && grads[1].defined() ? grads[1].contiguous() : at::Tensor();
    const float eps_outside = static_cast<float>(ctx->saved_data["eps_outside"].toDouble());
    at::Tensor none;
    if (!grads[0].defined()) return {dsum, dsum, none, none, none, none};
    at::Tensor dy = grads[0].contiguous(), dx = at::empty_like(x);
    GradTarget dgain(gain);
    int64_t rows = x.size(0), positions = x.size(1), d = x.size(2);
    at::Tensor dbias_for_autograd;
    auto at_first = [](const at::Tensor& t, int64_t k, int64_t first) {
      return t.defined() ? Row(t, k) + first * t.size(-1) : nullptr;
    };
    if (bias.defined()) {
      GradTarget dbias(bias);
      SumOverChunks(
          rows, positions, 2 * d,
          [&](int64_t k, int64_t first, int64_t n, float* partial) {
            kernels.layer_norm_backward(at_first(x, k, first), Row(gain, k),
                                        at_first(stats, k, first), at_first(dy, k, first),
                                        at_first(dsum, k, first), at_first(dx, k, first), partial,
                                        partial + d, n, d);
          },
          [&](int64_t k, const float* partial) {
            kernels.add(Row(dgain.sums, k), partial, d);
            kernels.add(Row(dbias.sums, k), partial + d, d);
          });
      dbias_for_autograd = dbias.ForAutograd();
    } else {
      SumOverChunks(
          rows, positions, d,
          [&](int64_t k, int64_t first, int64_t n, float* partial) {
            kernels.rms_norm_backward(at_first(x, k, first), Row(gain, k),
                                      at_first(stats, k, first), eps_outside,
                                      at_first(dy, k, first), at_first(dsum, k, first),
                                      at_first(dx, k, first), partial, n, d);
          },
          [&](int64_t k, const float* partial) { kernels.add(Row(dgain.sums, k), partial, d); });
    }
    return {dx, has_branch ? dx : none, dgain.ForAutograd(), dbias_for_autograd, none, none};
  }
};

}  // namespace

at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& gain, double eps, bool inside) {
  if (!HasKernels(x)) return composition::RmsNorm(x, gain, eps, inside);
  return NormFunction::apply(x, std::nullopt, gain, std::nullopt, eps, inside)[0];
}

at::Tensor LayerNorm(const at::Tensor& x, const at::Tensor& gain, const at::Tensor& bias,
                     double eps) {
  if (!HasKernels(x)) return composition::LayerNorm(x, gain, bias, eps);
  return NormFunction::apply(x, std::nullopt, gain, Optional(bias), eps, true)[0];
}

SumAndNorm AddRmsNorm(const at::Tensor& x, const at::Tensor& branch, const at::Tensor& gain,
                      double eps, bool inside) {
  if (!HasKernels(x)) {
    at::Tensor sum = x + branch;
    return {sum, composition::RmsNorm(sum, gain, eps, inside)};
  }
  variable_list out = NormFunction::apply(x, Optional(branch), gain, std::nullopt, eps, inside);
  return {out[1], out[0]};
}

SumAndNorm AddLayerNorm(const at::Tensor& x, const at::Tensor& branch, const at::Tensor& gain,
                        const at::Tensor& bias, double eps) {
  if (!HasKernels(x)) {
    at::Tensor sum = x + branch;
    return {sum, composition::LayerNorm(sum, gain, bias, eps)};
  }
  variable_list out = NormFunction::apply(x, Optional(branch), gain, Optional(bias), eps, true);
  return {out[1], out[0]};
}

}  // namespace plumb::trainer::ops
