// Fused operations for arrays of K trials. Row k never reads row j; every reduction over samples is
// per row and in an order that depends on neither K nor k, so that a row's numbers are the same
// bits alone or in company.
//
// Shapes: K rows, M = batch * time positions of a row, d width, f MLP width, V vocabulary. Weights
// and gains are views of an arena: their first stride is the arena's row size, their last is 1.
// Works on CPU and CUDA (there by ATen compositions where no kernel of our own exists).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace plumb::trainer::ops {

// x / sqrt(mean(x², -1) + eps) * gain. x [K, M, d], gain [K, d] → [K, M, d]. (Zhang & Sennrich
// 2019, eq. 4.) `inside` false: x / (sqrt(mean(x²)) + eps) * gain.
at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& gain, double eps, bool inside = true);
// (x − mean) / sqrt(var + eps) * gain + bias, biased variance. bias [K, d].
at::Tensor LayerNorm(const at::Tensor& x, const at::Tensor& gain, const at::Tensor& bias,
                     double eps);
// y = x W (+ b). x [K, M, in], weight [K, in, out] (a strided arena view), bias [K, out] or
// undefined → [K, M, out]. The bias gradient is a per-row sum. Where weight (or bias) is a leaf
// whose .grad is preset, its gradient is added there by the product itself, and autograd sees none:
// hooks on that leaf do not run.
at::Tensor Linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);
// y = x Wᵀ. weight [K, out, in]: the embedding table as a tied head, its gradient added in place as
// above.
at::Tensor LinearTransposed(const at::Tensor& x, const at::Tensor& weight);
// silu(gate) * up, gate = the first half. gate_up [K, M, 2f] → [K, M, f]. (Shazeer 2020.)
at::Tensor SwiGlu(const at::Tensor& gate_up);
// tanh form. (Hendrycks & Gimpel 2016; GPT-2.)
at::Tensor Gelu(const at::Tensor& x);
// Rotates the first and second half of each head of q and k in place of a copy per head. q, k [N,
// T, H, h]; cos, sin [T, h/2]. Half-rotation convention.
at::Tensor Rope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin);
// Causal self-attention from the packed projection. qkv [N, T, (H + 2G) h], contiguous: all query
// heads, then the key heads, then the value heads; query head j reads key/value head j / (H / G).
// Scores are scaled by `scale` (0: 1/√h). cos, sin [T, h/2] rotate q and k first as Rope does; both
// undefined: no rotation. qkv may be overwritten (a Linear's output can be handed in: its gradient
// does not need it). → [N, T, H h]. `causal` false: every position sees all.
at::Tensor CausalAttention(const at::Tensor& qkv, int64_t n_heads, int64_t n_kv_heads,
                           const at::Tensor& cos, const at::Tensor& sin, double scale = 0,
                           bool causal = true);
// x [K, M, d] times the row's gains [K, n], n dividing d: gain j for the j-th d/n values.
at::Tensor ScaleRows(const at::Tensor& x, const at::Tensor& gain);
// x [K, M, d] plus the row's bias [K, d].
at::Tensor AddRows(const at::Tensor& x, const at::Tensor& bias);
// Value-SkipInit and shaped attention (He & Hofmann 2023, eq. 4 and 5), after a plain attention:
// alpha v + beta attended - gamma C v, with C v the running mean of v over time (causal) or its
// mean over the text. attended, values [K, B T, d]; gains [K, n], n dividing d; gamma undefined: 0.
// The same as the matrix alpha I + beta A - gamma C on v, without any T x T matrix of its own.
at::Tensor ShapedMix(const at::Tensor& attended, const at::Tensor& values, const at::Tensor& alpha,
                     const at::Tensor& beta, const at::Tensor& gamma, int64_t T, bool causal);
// The residual stream and its norm at once: sum = x + branch, normed = norm(sum). Saves a pass
// forward and the sum of two gradients backward. Shapes as above; `branch` [K, M, d].
struct SumAndNorm {
  at::Tensor sum, normed;
};
SumAndNorm AddRmsNorm(const at::Tensor& x, const at::Tensor& branch, const at::Tensor& gain,
                      double eps, bool inside = true);
SumAndNorm AddLayerNorm(const at::Tensor& x, const at::Tensor& branch, const at::Tensor& gain,
                        const at::Tensor& bias, double eps);
// Rows of the table by token. table [K, V, d], ids [K, M] int64 → [K, M, d]. The gradient is
// scatter-added per row, in order of position, straight into a preset .grad of a leaf table.
at::Tensor Embedding(const at::Tensor& table, const at::Tensor& ids);
// Sum over a row's positions of −log softmax(logits)[target], nats; targets < 0 are not scored.
// logits [K, M, V] may be overwritten by its own gradient in the backward pass. → [K]
// `z_loss`, one a row where not empty: the gradient, not the value, is that of the sum with z_loss
// (log sum exp logits)² of each scored position added (Chowdhery et al. 2022, section 5).
at::Tensor CrossEntropySum(const at::Tensor& logits, const at::Tensor& targets,
                           const std::vector<double>& z_loss = {});
// The same without gradient, per position: [K, M].
at::Tensor CrossEntropyEach(const at::Tensor& logits, const at::Tensor& targets);

// Sum of squares of each row of [K, n] (contiguous rows, any first stride), in float64, in a fixed
// order. → K values.
std::vector<double> RowSquares(const at::Tensor& rows);

// Per row of the arena: what one AdamW step needs (Loshchilov & Hutter 2019, algorithm 2, decoupled
// decay).
struct AdamWRow {
  bool active = true;  // false: the row is left as it is, bit for bit
  double lr = 0, beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
  int64_t step = 1;       // 1 for the first update: bias correction
  double grad_scale = 1;  // gradient is multiplied by it first (clipping)
};
// Per parameter of the layout: where it lies in a row, and its factors.
struct AdamWSegment {
  int64_t offset = 0, size = 0;  // floats
  double lr_factor = 1;          // times the row's lr
  double weight_decay = 0;       // the segment's decay for row k is weight_decay_row[k] * this
  double eps_factor = 1;         // times the row's eps
};
// One pass over weights, gradients and both moments, all [K, row_size] float32; gradients are
// zeroed on the way.
//   m ← β1 m + (1−β1) g;  v ← β2 v + (1−β2) g²;  w ← w − lr f (λ w + m̂ / (√v̂ + ε))
void AdamWStep(at::Tensor weights, at::Tensor grads, at::Tensor m, at::Tensor v,
               const std::vector<AdamWRow>& rows, const std::vector<double>& weight_decay_row,
               const std::vector<AdamWSegment>& segments);

}  // namespace plumb::trainer::ops
