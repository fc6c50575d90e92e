#include "trainer/ops/composition.h"
#include "trainer/ops/ops.h"
#include "trainer/ops/rows.h"

namespace plumb::trainer::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

// weight [K, in, out], or [K, out, in] where `transposed`. The products run on views of the arena;
// the weight's gradient is added to its place in the gradient arena by the product.
struct LinearFunction : torch::autograd::Function<LinearFunction> {
  static Variable forward(AutogradContext* ctx, const Variable& x, const Variable& weight,
                          const std::optional<at::Tensor>& bias_in, bool transposed) {
    at::Tensor bias = bias_in.value_or(at::Tensor());
    ctx->saved_data["transposed"] = transposed;
    ctx->save_for_backward({x, weight, bias});
    at::Tensor y = at::bmm(x, transposed ? weight.transpose(1, 2) : weight);
    if (bias.defined()) {
      int64_t d = y.size(2);
      ForEachChunk(y.size(0), y.size(1), [&](int64_t k, int64_t first, int64_t n) {
        ActiveKernels().add_to_each(Row(y, k) + first * d, Row(bias, k), n, d);
      });
    }
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    variable_list saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &bias = saved[2];
    bool transposed = ctx->saved_data["transposed"].toBool();
    at::Tensor dy = grads[0].contiguous(), dx, dweight, dbias;
    if (ctx->needs_input_grad(0)) dx = at::bmm(dy, transposed ? weight : weight.transpose(1, 2));
    if (ctx->needs_input_grad(1)) {
      const at::Tensor &left = transposed ? dy : x, &right = transposed ? x : dy;
      at::Tensor preset = PresetGrad(weight);
      if (preset.defined()) {
        preset.baddbmm_(left.transpose(1, 2), right);
      } else {
        dweight = at::bmm(left.transpose(1, 2), right);
      }
    }
    if (bias.defined() && ctx->needs_input_grad(2)) {
      GradTarget target(bias);
      int64_t d = dy.size(2);
      SumOverChunks(
          dy.size(0), dy.size(1), d,
          [&](int64_t k, int64_t first, int64_t n, float* partial) {
            ActiveKernels().column_sums(Row(dy, k) + first * d, partial, n, d);
          },
          [&](int64_t k, const float* partial) {
            ActiveKernels().add(Row(target.sums, k), partial, d);
          });
      dbias = target.ForAutograd();
    }
    return {dx, dweight, dbias, at::Tensor()};
  }
};

}  // namespace

at::Tensor Linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  if (!HasKernels(x)) return composition::Linear(x, weight, bias);
  return LinearFunction::apply(x.contiguous(), weight, Optional(bias), /*transposed=*/false);
}

at::Tensor LinearTransposed(const at::Tensor& x, const at::Tensor& weight) {
  if (!HasKernels(x)) return composition::Linear(x, weight.transpose(1, 2), {});
  return LinearFunction::apply(x.contiguous(), weight, std::nullopt, /*transposed=*/true);
}

}  // namespace plumb::trainer::ops
