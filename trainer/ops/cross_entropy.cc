#include "trainer/ops/composition.h"
#include "trainer/ops/ops.h"
#include "trainer/ops/rows.h"

namespace plumb::trainer::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

struct Losses {
  at::Tensor each, log_sum_exp;  // [K, M]
};

Losses Evaluate(const at::Tensor& logits, const at::Tensor& targets) {
  int64_t rows = logits.size(0), positions = logits.size(1), v = logits.size(2);
  at::Tensor each = at::empty({rows, positions}, logits.options().requires_grad(false));
  Losses losses{each, at::empty_like(each)};
  const int64_t* target = targets.data_ptr<int64_t>();
  ForEachChunk(rows, positions, [&](int64_t k, int64_t first, int64_t n) {
    ActiveKernels().cross_entropy(Row(logits, k) + first * v, target + k * positions + first,
                                  Row(losses.each, k) + first, Row(losses.log_sum_exp, k) + first,
                                  n, v);
  });
  return losses;
}

// Forward keeps one float a position; backward turns the logits into their gradient where they lie,
// scaled by the incoming gradient in the same pass, so that no second [K, M, V] tensor exists.
struct CrossEntropyFunction : torch::autograd::Function<CrossEntropyFunction> {
  static Variable forward(AutogradContext* ctx, const Variable& logits_in,
                          const Variable& targets_in, const std::vector<double>& z_loss) {
    at::Tensor logits = logits_in.contiguous(), targets = targets_in.contiguous();
    Losses losses = Evaluate(logits, targets);
    at::Tensor sums = at::empty({logits.size(0)}, losses.each.options());
    for (int64_t k = 0; k < logits.size(0); ++k) {
      double sum = 0;
      for (int64_t i = 0; i < logits.size(1); ++i) sum += Row(losses.each, k)[i];
      sums.data_ptr<float>()[k] = static_cast<float>(sum);
    }
    // Not save_for_backward: it would refuse the overwriting as a change of a saved value.
    ctx->saved_data["logits"] = logits.detach();
    ctx->saved_data["z_loss"] = z_loss;
    ctx->save_for_backward({targets, losses.log_sum_exp});
    return sums;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    variable_list saved = ctx->get_saved_variables();
    at::Tensor logits = ctx->saved_data["logits"].toTensor();
    ctx->saved_data.erase("logits");
    at::Tensor scale = grads[0].contiguous();
    const std::vector<double> z_loss = ctx->saved_data["z_loss"].toDoubleVector();
    int64_t positions = logits.size(1), v = logits.size(2);
    const int64_t* target = saved[0].data_ptr<int64_t>();
    ForEachChunk(logits.size(0), positions, [&](int64_t k, int64_t first, int64_t n) {
      ActiveKernels().cross_entropy_backward(
          Row(logits, k) + first * v, target + k * positions + first, Row(saved[1], k) + first,
          scale.data_ptr<float>()[k], z_loss.empty() ? 0.0f : static_cast<float>(z_loss[k]), n, v);
    });
    return {logits, at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor CrossEntropySum(const at::Tensor& logits, const at::Tensor& targets,
                           const std::vector<double>& z_loss) {
  return HasKernels(logits) ? CrossEntropyFunction::apply(logits, targets, z_loss)
                            : composition::CrossEntropySum(logits, targets, z_loss);
}

at::Tensor CrossEntropyEach(const at::Tensor& logits, const at::Tensor& targets) {
  c10::NoGradGuard no_grad;
  return HasKernels(logits) ? Evaluate(logits.contiguous(), targets.contiguous()).each
                            : composition::CrossEntropyEach(logits, targets);
}

}  // namespace plumb::trainer::ops
