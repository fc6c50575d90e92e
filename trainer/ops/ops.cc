#include "trainer/ops/ops.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "trainer/ops/composition.h"

namespace plumb::trainer::ops {

at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& gain, double eps) {
  return composition::RmsNorm(x, gain, eps);
}
at::Tensor LayerNorm(const at::Tensor& x, const at::Tensor& gain, const at::Tensor& bias,
                     double eps) {
  return composition::LayerNorm(x, gain, bias, eps);
}
SumAndNorm AddRmsNorm(const at::Tensor& x, const at::Tensor& branch, const at::Tensor& gain,
                      double eps) {
  at::Tensor sum = x + branch;
  return {sum, RmsNorm(sum, gain, eps)};
}
SumAndNorm AddLayerNorm(const at::Tensor& x, const at::Tensor& branch, const at::Tensor& gain,
                        const at::Tensor& bias, double eps) {
  at::Tensor sum = x + branch;
  return {sum, LayerNorm(sum, gain, bias, eps)};
}
at::Tensor Linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  return composition::Linear(x, weight, bias);
}
at::Tensor SwiGlu(const at::Tensor& gate_up) { return composition::SwiGlu(gate_up); }
at::Tensor Gelu(const at::Tensor& x) { return composition::Gelu(x); }
at::Tensor Rope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  return composition::Rope(x, cos, sin);
}
at::Tensor CausalAttention(const at::Tensor& qkv, int64_t n_heads, int64_t n_kv_heads,
                           const at::Tensor& cos, const at::Tensor& sin) {
  return composition::CausalAttention(qkv, n_heads, n_kv_heads, cos, sin);
}
at::Tensor Embedding(const at::Tensor& table, const at::Tensor& ids) {
  return composition::Embedding(table, ids);
}
at::Tensor CrossEntropySum(const at::Tensor& logits, const at::Tensor& targets) {
  return composition::CrossEntropySum(logits, targets);
}
at::Tensor CrossEntropyEach(const at::Tensor& logits, const at::Tensor& targets) {
  c10::NoGradGuard no_grad;
  return composition::CrossEntropyEach(logits, targets);
}
std::vector<double> RowSquares(const at::Tensor& rows) { return composition::RowSquares(rows); }
void AdamWStep(at::Tensor weights, at::Tensor grads, at::Tensor m, at::Tensor v,
               const std::vector<AdamWRow>& rows, const std::vector<double>& weight_decay_row,
               const std::vector<AdamWSegment>& segments) {
  composition::AdamWStep(weights, grads, m, v, rows, weight_decay_row, segments);
}

}  // namespace plumb::trainer::ops
