#include "trainer/bundle.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <stdexcept>

namespace plumb::trainer {
namespace {

std::vector<double> Doubles(const at::Tensor& t) {
  const at::Tensor d = t.detach().to(at::kDouble).cpu().contiguous();
  return {d.data_ptr<double>(), d.data_ptr<double>() + d.numel()};
}

}  // namespace

Bundle::Bundle(const spec::ModelSpec& model, int64_t longest, int64_t capacity, at::Device device)
    : model_(model),
      device_(device),
      arena_(spec::LayoutOf(model), capacity, device),
      tables_(model, longest, device) {
  for (const spec::Parameter& p : arena_.layout().parameters) {
    const bool decays = p.role != spec::Role::kGain && p.role != spec::Role::kBias;
    segments_.push_back(
        {.offset = p.offset, .size = p.size(), .lr_factor = 1, .weight_decay = decays ? 1.0 : 0.0});
  }
}

int64_t Bundle::Add(int64_t seed, const spec::ModelSpec& model) {
  if (rows_ == capacity())
    throw std::length_error("all " + std::to_string(capacity()) + " rows of the bundle are taken");
  arena_.InitRow(rows_, seed, spec::LayoutOf(model));
  return rows_++;
}

void Bundle::Remove(int64_t k) {
  --rows_;
  if (k != rows_) arena_.CopyRow(rows_, k);
}

StepResult Bundle::Step(const at::Tensor& ids, const at::Tensor& targets,
                        const std::vector<RowUpdate>& updates, int64_t micro_batch,
                        std::vector<std::vector<double>>* layer_norms) {
  const int64_t n = rows_;
  if (ids.size(0) != n || !ids.sizes().equals(targets.sizes()) ||
      static_cast<int64_t>(updates.size()) != n) {
    throw std::invalid_argument("Step: " + std::to_string(n) + " rows, but ids have " +
                                std::to_string(ids.size(0)) + " and updates " +
                                std::to_string(updates.size()));
  }
  const int64_t batch = ids.size(1);
  const int64_t micro = micro_batch > 0 ? std::min(micro_batch, batch) : batch;
  const ParameterView& leaves = arena_.Leaves(n);

  // Tokens scored, per row, over the whole batch: each micro-batch's sum is divided by it.
  const at::Tensor scored = targets.ge(0).sum({1, 2}).to(at::kFloat);  // [n]
  at::Tensor loss;
  for (int64_t first = 0; first < batch; first += micro) {
    const int64_t count = std::min(micro, batch - first);
    const at::Tensor logits = Forward(model_, tables_, leaves, ids.narrow(1, first, count));
    const at::Tensor each =
        ops::CrossEntropySum(logits,
                             targets.narrow(1, first, count).reshape({n, count * ids.size(2)})) /
        scored;             // [n]
    each.sum().backward();  // a sum over rows: no row's gradient sees another
    loss = loss.defined() ? loss + each.detach() : each.detach();
  }

  at::NoGradGuard no_grad;
  StepResult out;
  out.loss = Doubles(loss);
  const at::Tensor grads = arena_.grads().narrow(0, 0, n);
  const std::vector<double> squares = ops::RowSquares(grads);
  if (layer_norms != nullptr) {
    layer_norms->assign(n, std::vector<double>(model_.n_layers, 0.0));
    for (const spec::Parameter& p : arena_.layout().parameters) {
      if (p.layer < 0) continue;
      const std::vector<double> part = ops::RowSquares(grads.narrow(1, p.offset, p.size()));
      for (int64_t k = 0; k < n; ++k) (*layer_norms)[k][p.layer] += part[k];
    }
    for (auto& row : *layer_norms) {
      for (double& v : row) v = std::sqrt(v);
    }
  }
  std::vector<ops::AdamWRow> rows(n);
  std::vector<double> decay(n);
  for (int64_t k = 0; k < n; ++k) {
    const RowUpdate& u = updates[k];
    const double norm = std::sqrt(squares[k]);
    out.grad_norm.push_back(norm);
    out.finite.push_back(std::isfinite(norm) && std::isfinite(out.loss[k]));
    const double scale = u.grad_clip > 0 && norm > u.grad_clip ? u.grad_clip / norm : 1.0;
    rows[k] = {.active = u.active && out.finite[k],
               .lr = u.lr,
               .beta1 = u.beta1,
               .beta2 = u.beta2,
               .eps = u.eps,
               .step = u.step,
               .grad_scale = scale};
    decay[k] = u.weight_decay;
  }
  ops::AdamWStep(arena_.weights().narrow(0, 0, n), grads, arena_.m().narrow(0, 0, n),
                 arena_.v().narrow(0, 0, n), rows, decay, segments_);
  for (int64_t k = 0; k < n; ++k) {
    if (!rows[k].active)
      arena_.grads().select(0, k).zero_();  // by assignment: 0 * NaN would stay NaN
  }
  return out;
}

at::Tensor Bundle::NegativeLogLikelihoods(int64_t first, int64_t n, const at::Tensor& ids,
                                          const at::Tensor& targets) const {
  at::NoGradGuard no_grad;
  const at::Tensor logits = Forward(model_, tables_, arena_.View(first, n), ids);
  return ops::CrossEntropyEach(logits, targets.reshape({n, -1}));
}

}  // namespace plumb::trainer
