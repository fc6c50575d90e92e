// The operations of ops.h as plain ATen compositions with ATen's own gradients: what runs in
// float64 and on CUDA, and what the float32 CPU kernels are tested against. Same contracts as in
// ops.h, and nothing is overwritten.
#pragma once

#include "trainer/ops/ops.h"

namespace plumb::trainer::ops::composition {

at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& gain, double eps, bool inside);
at::Tensor LayerNorm(const at::Tensor& x, const at::Tensor& gain, const at::Tensor& bias,
                     double eps);
at::Tensor Linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);
at::Tensor SwiGlu(const at::Tensor& gate_up);
at::Tensor Gelu(const at::Tensor& x);
at::Tensor Rope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin);
at::Tensor CausalAttention(const at::Tensor& qkv, int64_t n_heads, int64_t n_kv_heads,
                           const at::Tensor& cos, const at::Tensor& sin, double scale, bool causal);
at::Tensor ScaleRows(const at::Tensor& x, const at::Tensor& gain);
at::Tensor AddRows(const at::Tensor& x, const at::Tensor& bias);
at::Tensor ShapedMix(const at::Tensor& attended, const at::Tensor& values, const at::Tensor& alpha,
                     const at::Tensor& beta, const at::Tensor& gamma, int64_t T, bool causal);
at::Tensor Embedding(const at::Tensor& table, const at::Tensor& ids);
at::Tensor CrossEntropySum(const at::Tensor& logits, const at::Tensor& targets,
                           const std::vector<double>& z_loss);
at::Tensor CrossEntropyEach(const at::Tensor& logits, const at::Tensor& targets);
std::vector<double> RowSquares(const at::Tensor& rows);
void AdamWStep(at::Tensor weights, at::Tensor grads, at::Tensor m, at::Tensor v,
               const std::vector<AdamWRow>& rows, const std::vector<double>& weight_decay_row,
               const std::vector<AdamWSegment>& segments);

}  // namespace plumb::trainer::ops::composition
