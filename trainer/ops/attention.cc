#include "trainer/ops/composition.h"
#include "trainer/ops/ops.h"
#include "trainer/ops/rows.h"

namespace plumb::trainer::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

// Rotates the first `heads` heads of x [N, T, ·, h], contiguous, in place.
void RotateInPlace(const at::Tensor& x, int64_t heads, const at::Tensor& cos, const at::Tensor& sin,
                   float sign) {
  int64_t t = x.size(1), h = x.size(3), stride = x.size(2) * h, positions = x.size(0) * t;
  float* data = x.data_ptr<float>();
  ForEachChunk(1, positions, [&](int64_t, int64_t first, int64_t n) {
    ActiveKernels().rope(data + first * stride, cos.data_ptr<float>(), sin.data_ptr<float>(), sign,
                         first % t, t, n, stride, heads, h);
  });
}

struct RopeFunction : torch::autograd::Function<RopeFunction> {
  static Variable forward(AutogradContext* ctx, const Variable& x, const Variable& cos,
                          const Variable& sin) {
    ctx->save_for_backward({cos, sin});
    at::Tensor y = x.clone(at::MemoryFormat::Contiguous);
    RotateInPlace(y, y.size(2), cos, sin, 1);
    return y;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    variable_list saved = ctx->get_saved_variables();
    at::Tensor dx = grads[0].clone(at::MemoryFormat::Contiguous);
    RotateInPlace(dx, dx.size(2), saved[0], saved[1], -1);
    return {dx, at::Tensor(), at::Tensor()};
  }
};

struct Heads {
  at::Tensor q, k, v;  // [N, H, T, h], any strides with the last 1
};

Heads Split(const at::Tensor& qkv, int64_t n_heads, int64_t n_kv_heads) {  // [N, T, H + 2G, h]
  auto part = [&](int64_t first, int64_t n) { return qkv.narrow(2, first, n); };
  auto widen = [&](const at::Tensor& kv) {
    if (n_kv_heads == n_heads) return kv;
    return kv.unsqueeze(3)
        .expand({kv.size(0), kv.size(1), n_kv_heads, n_heads / n_kv_heads, kv.size(3)})
        .reshape({kv.size(0), kv.size(1), n_heads, kv.size(3)});
  };
  return {part(0, n_heads).transpose(1, 2), widen(part(n_heads, n_kv_heads)).transpose(1, 2),
          widen(part(n_heads + n_kv_heads, n_kv_heads)).transpose(1, 2)};
}

std::optional<double> Factor(double scale) {
  return scale > 0 ? std::optional<double>(scale) : std::nullopt;
}

struct AttentionFunction : torch::autograd::Function<AttentionFunction> {
  static Variable forward(AutogradContext* ctx, const Variable& packed, int64_t n_heads,
                          int64_t n_kv_heads, const std::optional<at::Tensor>& cos_in,
                          const std::optional<at::Tensor>& sin_in, double scale, bool causal) {
    at::Tensor cos = cos_in.value_or(at::Tensor()), sin = sin_in.value_or(at::Tensor());
    int64_t n = packed.size(0), t = packed.size(1), all_heads = n_heads + 2 * n_kv_heads;
    int64_t h = packed.size(2) / all_heads;
    at::Tensor qkv = packed.detach().view({n, t, all_heads, h});
    if (cos.defined()) RotateInPlace(qkv, n_heads + n_kv_heads, cos, sin, 1);
    Heads heads = Split(qkv, n_heads, n_kv_heads);
    auto [out, log_sum_exp] = at::_scaled_dot_product_flash_attention_for_cpu(
        heads.q, heads.k, heads.v, 0.0, causal, std::nullopt, Factor(scale));
    ctx->saved_data["scale"] = scale;
    ctx->saved_data["causal"] = causal;
    ctx->saved_data["n_heads"] = n_heads;
    ctx->saved_data["n_kv_heads"] = n_kv_heads;
    ctx->save_for_backward({qkv, out, log_sum_exp, cos, sin});
    return out.transpose(1, 2).reshape({n, t, n_heads * h});
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    variable_list saved = ctx->get_saved_variables();
    const at::Tensor &qkv = saved[0], &out = saved[1], &log_sum_exp = saved[2], &cos = saved[3],
                     &sin = saved[4];
    int64_t n_heads = ctx->saved_data["n_heads"].toInt(),
            n_kv_heads = ctx->saved_data["n_kv_heads"].toInt();
    int64_t n = qkv.size(0), t = qkv.size(1), h = qkv.size(3);
    Heads heads = Split(qkv, n_heads, n_kv_heads);
    at::Tensor dout = grads[0].contiguous().view({n, t, n_heads, h}).transpose(1, 2);
    auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
        dout, heads.q, heads.k, heads.v, out, log_sum_exp, 0.0, ctx->saved_data["causal"].toBool(),
        std::nullopt, Factor(ctx->saved_data["scale"].toDouble()));
    at::Tensor dqkv = at::empty_like(qkv);
    dqkv.narrow(2, 0, n_heads).copy_(dq.transpose(1, 2));
    auto narrow_back = [&](const at::Tensor& wide, int64_t first) {
      at::Tensor target = dqkv.narrow(2, first, n_kv_heads), source = wide.transpose(1, 2);
      if (n_kv_heads == n_heads) {
        target.copy_(source);
      } else {
        at::Tensor grouped = source.reshape({n, t, n_kv_heads, n_heads / n_kv_heads, h});
        target.copy_(grouped.select(3, 0));
        for (int64_t j = 1; j < grouped.size(3); ++j) target.add_(grouped.select(3, j));
      }
    };
    narrow_back(dk, n_heads);
    narrow_back(dv, n_heads + n_kv_heads);
    if (cos.defined()) RotateInPlace(dqkv, n_heads + n_kv_heads, cos, sin, -1);
    at::Tensor none;
    return {dqkv.view({n, t, qkv.size(2) * h}), none, none, none, none, none, none};
  }
};

}  // namespace

at::Tensor Rope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  return HasKernels(x) ? RopeFunction::apply(x, cos, sin) : composition::Rope(x, cos, sin);
}

at::Tensor CausalAttention(const at::Tensor& qkv, int64_t n_heads, int64_t n_kv_heads,
                           const at::Tensor& cos, const at::Tensor& sin, double scale,
                           bool causal) {
  if (!HasKernels(qkv)) {
    return composition::CausalAttention(qkv, n_heads, n_kv_heads, cos, sin, scale, causal);
  }
  TORCH_CHECK(qkv.is_contiguous(), "CausalAttention: qkv must be contiguous");
  return AttentionFunction::apply(qkv, n_heads, n_kv_heads, Optional(cos), Optional(sin), scale,
                                  causal);
}

}  // namespace plumb::trainer::ops
