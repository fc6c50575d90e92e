// Per-row gains and biases, and the mix of shaped attention: what a trial's few scalars do to a
// stream, with their gradients summed per row in a fixed order.
#include "trainer/ops/composition.h"
#include "trainer/ops/ops.h"
#include "trainer/ops/rows.h"

namespace plumb::trainer::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

// gain j of n, for each of the d / n values it covers.
void Widen(const float* gain, int64_t n, float* wide, int64_t d) {
  for (int64_t j = 0; j < d; ++j) wide[j] = gain[j / (d / n)];
}
// The other way: adds up what a gain's values got.
void Narrow(const float* wide, int64_t d, float* gain, int64_t n) {
  for (int64_t j = 0; j < n; ++j) {
    double sum = 0;
    for (int64_t i = 0; i < d / n; ++i) sum += wide[j * (d / n) + i];
    gain[j] += static_cast<float>(sum);
  }
}

struct ScaleFunction : torch::autograd::Function<ScaleFunction> {
  static Variable forward(AutogradContext* ctx, const Variable& x_in, const Variable& gain) {
    at::Tensor x = x_in.contiguous(), y = at::empty_like(x);
    int64_t rows = x.size(0), d = x.size(2);
    at::Tensor wide = at::empty({rows, d}, at::kFloat);
    for (int64_t k = 0; k < rows; ++k) Widen(Row(gain, k), gain.size(1), Row(wide, k), d);
    ForEachChunk(rows, x.size(1), [&](int64_t k, int64_t first, int64_t n) {
      ActiveKernels().scale(Row(x, k) + first * d, Row(wide, k), Row(y, k) + first * d, n, d);
    });
    ctx->save_for_backward({x, gain, wide});
    return y;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    variable_list saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &gain = saved[1], &wide = saved[2];
    at::Tensor dy = grads[0].contiguous(), dx = at::empty_like(x);
    int64_t d = x.size(2);
    GradTarget target(gain);
    at::Tensor sums = at::zeros({x.size(0), d}, at::kFloat);
    SumOverChunks(
        x.size(0), x.size(1), d,
        [&](int64_t k, int64_t first, int64_t n, float* partial) {
          ActiveKernels().scale_backward(Row(x, k) + first * d, Row(wide, k),
                                         Row(dy, k) + first * d, Row(dx, k) + first * d, partial, n,
                                         d);
        },
        [&](int64_t k, const float* partial) { ActiveKernels().add(Row(sums, k), partial, d); });
    for (int64_t k = 0; k < x.size(0); ++k) {
      Narrow(Row(sums, k), d, Row(target.sums, k), gain.size(1));
    }
    return {dx, target.ForAutograd()};
  }
};

struct ShapedMixFunction : torch::autograd::Function<ShapedMixFunction> {
  static Variable forward(AutogradContext* ctx, const Variable& attended_in,
                          const Variable& values_in, const Variable& alpha, const Variable& beta,
                          const std::optional<at::Tensor>& gamma_in, int64_t t, bool causal) {
    at::Tensor attended = attended_in.contiguous(), values = values_in.contiguous();
    at::Tensor gamma = gamma_in.value_or(at::Tensor()), y = at::empty_like(values);
    int64_t rows = values.size(0), texts = values.size(1) / t, d = values.size(2);
    at::Tensor wide = at::zeros({rows, 3, d}, at::kFloat);
    for (int64_t k = 0; k < rows; ++k) {
      Widen(Row(alpha, k), alpha.size(1), Row(wide, k), d);
      Widen(Row(beta, k), beta.size(1), Row(wide, k) + d, d);
      if (gamma.defined()) Widen(Row(gamma, k), gamma.size(1), Row(wide, k) + 2 * d, d);
    }
    at::parallel_for(0, rows * texts, 1, [&](int64_t begin, int64_t end) {
      std::vector<float> work(d);
      for (int64_t i = begin; i < end; ++i) {
        int64_t k = i / texts, at = i % texts * t * d;
        ActiveKernels().shaped_mix(Row(attended, k) + at, Row(values, k) + at, Row(wide, k),
                                   work.data(), Row(y, k) + at, t, d, causal);
      }
    });
    ctx->saved_data["t"] = t;
    ctx->saved_data["causal"] = causal;
    ctx->save_for_backward({attended, values, alpha, beta, gamma, wide});
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    variable_list saved = ctx->get_saved_variables();
    const at::Tensor &attended = saved[0], &values = saved[1], &wide = saved[5];
    at::Tensor dy = grads[0].contiguous();
    at::Tensor da = at::empty_like(attended), dv = at::empty_like(values);
    int64_t t = ctx->saved_data["t"].toInt();
    bool causal = ctx->saved_data["causal"].toBool();
    int64_t rows = values.size(0), texts = values.size(1) / t, d = values.size(2);
    at::Tensor partials = at::zeros({rows * texts, 3 * d}, at::kFloat);
    at::parallel_for(0, rows * texts, 1, [&](int64_t begin, int64_t end) {
      std::vector<float> work(d);
      for (int64_t i = begin; i < end; ++i) {
        int64_t k = i / texts, at = i % texts * t * d;
        ActiveKernels().shaped_mix_backward(
            Row(attended, k) + at, Row(values, k) + at, Row(wide, k), work.data(), Row(dy, k) + at,
            Row(da, k) + at, Row(dv, k) + at, Row(partials, i), t, d, causal);
      }
    });
    at::Tensor sums = at::zeros({rows, 3, d}, at::kFloat);
    for (int64_t i = 0; i < rows * texts; ++i) {
      ActiveKernels().add(Row(sums, i / texts), Row(partials, i), 3 * d);
    }
    variable_list gains;
    for (int part = 0; part < 3; ++part) {
      const at::Tensor& gain = saved[2 + part];
      if (!gain.defined()) {
        gains.emplace_back();
        continue;
      }
      GradTarget target(gain);
      for (int64_t k = 0; k < rows; ++k) {
        Narrow(Row(sums, k) + part * d, d, Row(target.sums, k), gain.size(1));
      }
      gains.push_back(target.ForAutograd());
    }
    return {da, dv, gains[0], gains[1], gains[2], at::Tensor(), at::Tensor()};
  }
};

struct AddRowsFunction : torch::autograd::Function<AddRowsFunction> {
  static Variable forward(AutogradContext* ctx, const Variable& x, const Variable& bias) {
    at::Tensor y = x.clone(at::MemoryFormat::Contiguous);
    int64_t d = y.size(2);
    ForEachChunk(y.size(0), y.size(1), [&](int64_t k, int64_t first, int64_t n) {
      ActiveKernels().add_to_each(Row(y, k) + first * d, Row(bias, k), n, d);
    });
    ctx->save_for_backward({bias});
    return y;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    at::Tensor bias = ctx->get_saved_variables()[0], dy = grads[0].contiguous();
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
    return {dy, target.ForAutograd()};
  }
};

}  // namespace

at::Tensor ScaleRows(const at::Tensor& x, const at::Tensor& gain) {
  return HasKernels(x) ? ScaleFunction::apply(x, gain) : composition::ScaleRows(x, gain);
}

at::Tensor AddRows(const at::Tensor& x, const at::Tensor& bias) {
  return HasKernels(x) ? AddRowsFunction::apply(x, bias) : composition::AddRows(x, bias);
}

at::Tensor ShapedMix(const at::Tensor& attended, const at::Tensor& values, const at::Tensor& alpha,
                     const at::Tensor& beta, const at::Tensor& gamma, int64_t t, bool causal) {
  if (!HasKernels(values)) {
    return composition::ShapedMix(attended, values, alpha, beta, gamma, t, causal);
  }
  return ShapedMixFunction::apply(attended, values, alpha, beta, Optional(gamma), t, causal);
}

}  // namespace plumb::trainer::ops
