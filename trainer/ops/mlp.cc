#include "trainer/ops/composition.h"
#include "trainer/ops/ops.h"
#include "trainer/ops/rows.h"

namespace plumb::trainer::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

struct SwiGluFunction : torch::autograd::Function<SwiGluFunction> {
  static Variable forward(AutogradContext* ctx, const Variable& gate_up_in) {
    at::Tensor gate_up = gate_up_in.contiguous();
    int64_t rows = gate_up.size(0), positions = gate_up.size(1), f = gate_up.size(2) / 2;
    at::Tensor y = at::empty({rows, positions, f}, gate_up.options());
    ForEachChunk(rows, positions, [&](int64_t k, int64_t first, int64_t n) {
      ActiveKernels().swiglu(Row(gate_up, k) + first * 2 * f, Row(y, k) + first * f, n, f);
    });
    ctx->save_for_backward({gate_up});
    return y;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    at::Tensor gate_up = ctx->get_saved_variables()[0], dy = grads[0].contiguous();
    at::Tensor dgate_up = at::empty_like(gate_up);
    int64_t f = dy.size(2);
    ForEachChunk(dy.size(0), dy.size(1), [&](int64_t k, int64_t first, int64_t n) {
      ActiveKernels().swiglu_backward(Row(gate_up, k) + first * 2 * f, Row(dy, k) + first * f,
                                      Row(dgate_up, k) + first * 2 * f, n, f);
    });
    return {dgate_up};
  }
};

struct GeluFunction : torch::autograd::Function<GeluFunction> {
  static Variable forward(AutogradContext* ctx, const Variable& x_in) {
    at::Tensor x = x_in.contiguous(), y = at::empty_like(x);
    int64_t d = x.size(-1);
    ForEachChunk(x.size(0), x.size(1), [&](int64_t k, int64_t first, int64_t n) {
      ActiveKernels().gelu(Row(x, k) + first * d, Row(y, k) + first * d, n * d);
    });
    ctx->save_for_backward({x});
    return y;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    at::Tensor x = ctx->get_saved_variables()[0], dy = grads[0].contiguous(),
               dx = at::empty_like(x);
    int64_t d = x.size(-1);
    ForEachChunk(x.size(0), x.size(1), [&](int64_t k, int64_t first, int64_t n) {
      ActiveKernels().gelu_backward(Row(x, k) + first * d, Row(dy, k) + first * d,
                                    Row(dx, k) + first * d, n * d);
    });
    return {dx};
  }
};

}  // namespace

at::Tensor SwiGlu(const at::Tensor& gate_up) {
  return HasKernels(gate_up) ? SwiGluFunction::apply(gate_up) : composition::SwiGlu(gate_up);
}

at::Tensor Gelu(const at::Tensor& x) {
  return HasKernels(x) ? GeluFunction::apply(x) : composition::Gelu(x);
}

}  // namespace plumb::trainer::ops
