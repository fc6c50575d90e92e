#include "trainer/ops/composition.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>

namespace plumb::trainer::ops::composition {
namespace {

// [K, d] → [K, M, d]. A product with ones rather than expand(): its gradient is then one product
// per row, whose order of summation does not depend on K, where the gradient of expand() is a
// reduction whose order does.
at::Tensor Repeat(const at::Tensor& row_vector, int64_t positions) {
  at::Tensor ones =
      at::ones({row_vector.size(0), positions, 1}, row_vector.options().requires_grad(false));
  return at::bmm(ones, row_vector.unsqueeze(1));
}

}  // namespace

at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& gain, double eps, bool inside) {
  at::Tensor mean = x.square().mean({-1}, /*keepdim=*/true);
  at::Tensor scale = inside ? (mean + eps).rsqrt() : (mean.sqrt() + eps).reciprocal();
  return x * scale * Repeat(gain, x.size(1));
}

at::Tensor LayerNorm(const at::Tensor& x, const at::Tensor& gain, const at::Tensor& bias,
                     double eps) {
  at::Tensor centred = x - x.mean({-1}, /*keepdim=*/true);
  at::Tensor scale = (centred.square().mean({-1}, /*keepdim=*/true) + eps).rsqrt();
  return centred * scale * Repeat(gain, x.size(1)) + Repeat(bias, x.size(1));
}

at::Tensor Linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  at::Tensor y = at::bmm(x, weight);
  return bias.defined() ? y + Repeat(bias, x.size(1)) : y;
}

at::Tensor SwiGlu(const at::Tensor& gate_up) {
  std::vector<at::Tensor> halves = gate_up.chunk(2, -1);
  return at::silu(halves[0]) * halves[1];
}

at::Tensor Gelu(const at::Tensor& x) { return at::gelu(x, "tanh"); }

at::Tensor Rope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  std::vector<at::Tensor> halves = x.chunk(2, -1);        // [N, T, H, h/2]
  at::Tensor c = cos.unsqueeze(1), s = sin.unsqueeze(1);  // [T, 1, h/2]
  return at::cat({halves[0] * c - halves[1] * s, halves[1] * c + halves[0] * s}, -1);
}

at::Tensor CausalAttention(const at::Tensor& qkv, int64_t n_heads, int64_t n_kv_heads,
                           const at::Tensor& cos, const at::Tensor& sin, double scale,
                           bool causal) {
  int64_t n = qkv.size(0), t = qkv.size(1), h = qkv.size(2) / (n_heads + 2 * n_kv_heads);
  std::vector<at::Tensor> parts = qkv.view({n, t, n_heads + 2 * n_kv_heads, h})
                                      .split_with_sizes({n_heads, n_kv_heads, n_kv_heads}, 2);
  if (cos.defined()) {
    parts[0] = Rope(parts[0], cos, sin);
    parts[1] = Rope(parts[1], cos, sin);
  }
  for (at::Tensor& part : parts) part = part.transpose(1, 2);  // [N, heads, T, h]
  if (n_kv_heads != n_heads) {
    for (int i : {1, 2}) {
      parts[i] = parts[i]
                     .unsqueeze(2)
                     .expand({n, n_kv_heads, n_heads / n_kv_heads, t, h})
                     .reshape({n, n_heads, t, h});
    }
  }
  std::optional<double> factor;
  if (scale > 0) factor = scale;
  at::Tensor out =
      at::scaled_dot_product_attention(parts[0], parts[1], parts[2], {}, 0.0, causal, factor);
  return out.transpose(1, 2).reshape({n, t, n_heads * h});
}

at::Tensor ScaleRows(const at::Tensor& x, const at::Tensor& gain) {
  int64_t n = gain.size(1);
  at::Tensor wide =
      n == x.size(2) ? gain : gain.unsqueeze(2).expand({gain.size(0), n, x.size(2) / n}).flatten(1);
  return x * Repeat(wide, x.size(1));
}

at::Tensor AddRows(const at::Tensor& x, const at::Tensor& bias) {
  return x + Repeat(bias, x.size(1));
}

at::Tensor ShapedMix(const at::Tensor& attended, const at::Tensor& values, const at::Tensor& alpha,
                     const at::Tensor& beta, const at::Tensor& gamma, int64_t t, bool causal) {
  at::Tensor y = ScaleRows(values, alpha) + ScaleRows(attended, beta);
  if (!gamma.defined()) return y;
  at::Tensor texts = values.reshape({values.size(0), -1, t, values.size(2)});
  at::Tensor count = at::arange(1, t + 1, values.options().requires_grad(false)).view({t, 1});
  at::Tensor mean =
      causal ? texts.cumsum(2) / count : texts.mean({2}, /*keepdim=*/true).expand(texts.sizes());
  return y - ScaleRows(mean.reshape(values.sizes()), gamma);
}

at::Tensor Embedding(const at::Tensor& table, const at::Tensor& ids) {
  std::vector<at::Tensor> rows;
  for (int64_t k = 0; k < table.size(0); ++k) rows.push_back(at::embedding(table[k], ids[k]));
  return at::stack(rows);
}

at::Tensor CrossEntropyEach(const at::Tensor& logits, const at::Tensor& targets) {
  at::Tensor log_p =
      at::log_softmax(logits, -1).gather(-1, targets.clamp_min(0).unsqueeze(-1)).squeeze(-1);
  return at::where(targets >= 0, -log_p, at::zeros({}, log_p.options()));
}

at::Tensor CrossEntropySum(const at::Tensor& logits, const at::Tensor& targets,
                           const std::vector<double>& z_loss) {
  std::vector<at::Tensor> sums;
  for (const at::Tensor& row : CrossEntropyEach(logits, targets).unbind(0))
    sums.push_back(row.sum());
  for (size_t k = 0; k < z_loss.size(); ++k) {
    at::Tensor squares = at::logsumexp(logits[k], {-1}).square();
    at::Tensor penalty = z_loss[k] * squares.masked_fill(targets[k] < 0, 0).sum();
    sums[k] = sums[k] + (penalty - penalty.detach());
  }
  return at::stack(sums);
}

std::vector<double> RowSquares(const at::Tensor& rows) {
  std::vector<double> sums;
  for (const at::Tensor& row : rows.unbind(0)) {
    sums.push_back(row.to(at::kDouble).square().sum().item<double>());
  }
  return sums;
}

void AdamWStep(at::Tensor weights, at::Tensor grads, at::Tensor m, at::Tensor v,
               const std::vector<AdamWRow>& rows, const std::vector<double>& weight_decay_row,
               const std::vector<AdamWSegment>& segments) {
  c10::NoGradGuard no_grad;
  for (size_t k = 0; k < rows.size(); ++k) {
    const AdamWRow& row = rows[k];
    if (!row.active) continue;
    double correction1 = 1 - std::pow(row.beta1, row.step),
           correction2 = 1 - std::pow(row.beta2, row.step);
    for (const AdamWSegment& segment : segments) {
      auto part = [&](const at::Tensor& arena) {
        return arena[k].narrow(0, segment.offset, segment.size);
      };
      at::Tensor w = part(weights), g = part(grads), mean = part(m), square = part(v);
      double lr = row.lr * segment.lr_factor;
      g.mul_(row.grad_scale);
      mean.mul_(row.beta1).add_(g, 1 - row.beta1);
      square.mul_(row.beta2).addcmul_(g, g, 1 - row.beta2);
      w.mul_(1 - lr * weight_decay_row[k] * segment.weight_decay);
      w.addcdiv_(mean, (square / correction2).sqrt_().add_(row.eps * segment.eps_factor),
                 -lr / correction1);
      g.zero_();
    }
  }
}

}  // namespace plumb::trainer::ops::composition
