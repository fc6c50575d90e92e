#include "trainer/bundle.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "trainer/counter_random.h"
#include "trainer/ranks/collective.h"

namespace plumb::trainer {
namespace {

std::vector<double> Doubles(const at::Tensor& t) {
  const at::Tensor d = t.detach().to(at::kDouble).cpu().contiguous();
  return {d.data_ptr<double>(), d.data_ptr<double>() + d.numel()};
}

// Layer penalties of rows [first, first + n), over the parts of a batch.
class Penalties {
 public:
  Penalties(const std::vector<RowUpdate>& updates, int64_t first, int64_t n, int64_t positions,
            int64_t d, at::Device device)
      : how_(updates[first].penalty), scale_(ScaleOf(how_.reduction, positions, d)) {
    // Of the bundle's rows, not of these alone: whether a penalty is told depends on no pass.
    for (const RowUpdate& u : updates) cosine_ |= u.penalty.cosine > 0, mse_ |= u.penalty.mse > 0;
    if (!any()) return;
    std::vector<double> cosine, mse;
    for (int64_t k = first; k < first + n; ++k) {
      cosine.push_back(updates[k].penalty.cosine * scale_.cosine);
      mse.push_back(updates[k].penalty.mse * scale_.mse);
    }
    of_cosine_ = at::tensor(cosine, at::kDouble).to(device).unsqueeze(1);
    of_mse_ = at::tensor(mse, at::kDouble).to(device).unsqueeze(1);
    sums_cosine_.assign(n, 0.0), sums_mse_.assign(n, 0.0);
  }
  bool any() const { return cosine_ || mse_; }

  // What is added to the objective for these states; a sum over rows.
  at::Tensor Of(const std::vector<at::Tensor>& states) {
    const PenaltySums p = NeighbourPenalties(states, how_.embedding, cosine_, mse_);
    at::Tensor out;
    const auto add = [&](const at::Tensor& value, const at::Tensor& coefficient,
                         std::vector<double>* sums) {
      if (!value.defined()) return;
      const at::Tensor term = (value * coefficient.to(value.scalar_type())).sum();
      out = out.defined() ? out + term : term;
      for (size_t k = 0; k < sums->size(); ++k)  // a row at a time: the same bits in any company
        (*sums)[k] += value.detach()[static_cast<int64_t>(k)].to(at::kDouble).sum().item<double>();
    };
    add(p.cosine, of_cosine_, &sums_cosine_);
    add(p.mse, of_mse_, &sums_mse_);
    return out;
  }
  void Report(StepResult* out) const {
    for (const double v : sums_cosine_) out->layer_cosine.push_back(v * scale_.cosine);
    for (const double v : sums_mse_) out->layer_mse.push_back(v * scale_.mse);
  }

 private:
  const LayerPenalty how_;
  const PenaltyScale scale_;
  bool cosine_ = false, mse_ = false;
  at::Tensor of_cosine_, of_mse_;  // [n, 1]
  std::vector<double> sums_cosine_, sums_mse_;
};

}  // namespace

Bundle::Bundle(const spec::ModelSpec& model, int64_t longest, int64_t capacity, at::Device device,
               at::ScalarType type)
    : model_(model),
      device_(device),
      arena_(spec::LayoutOf(model), capacity, device, type),
      tables_(model, longest, device),
      optimizer_(model, arena_.layout()) {}

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
                        std::vector<std::vector<double>>* layer_norms, Collective* ranks) {
  const int64_t n = rows_, batch = ids.size(1);
  if (ids.size(0) != n || !ids.sizes().equals(targets.sizes()) ||
      static_cast<int64_t>(updates.size()) != n) {
    throw std::invalid_argument("Step: " + std::to_string(n) + " rows, but ids have " +
                                std::to_string(ids.size(0)) + " and updates " +
                                std::to_string(updates.size()));
  }
  if (ranks != nullptr && (n != 1 || batch % ranks->ranks() != 0 || spec::Routed(model_))) {
    throw std::invalid_argument(
        "Step: ranks share the batch of one row that is not routed, evenly; not " +
        std::to_string(n) + " rows or " + std::to_string(batch) + " sequences on " +
        std::to_string(ranks->ranks()) + " ranks");
  }
  StepResult out;
  const int64_t share = ranks != nullptr ? batch / ranks->ranks() : batch;
  const int64_t begin = ranks != nullptr ? share * ranks->rank() : 0;
  // Rows that cannot share a pass take one each.
  const int64_t together = BatchingOf(model_) == Batching::kBatched ? n : 1;
  for (int64_t k = 0; k < n; k += together) {
    const at::Tensor all = targets.narrow(0, k, together);
    // Tokens scored, per row, over the whole batch: each part's sum is divided by it.
    const at::Tensor scored = all.ge(0).sum({1, 2}).to(at::kFloat);  // [together]
    Accumulate(k, together, ids.narrow(0, k, together).narrow(1, begin, share),
               all.narrow(1, begin, share), scored, batch * ids.size(2), updates, micro_batch,
               &out);
  }

  at::NoGradGuard no_grad;
  const at::Tensor grads = arena_.grads().narrow(0, 0, n);
  if (ranks != nullptr) {
    ranks->Sum(grads);
    for (std::vector<double>* v : {&out.loss, &out.layer_cosine, &out.layer_mse}) {
      if (v->empty()) continue;
      const at::Tensor sum = at::tensor(*v, at::kDouble).to(device_);
      ranks->Sum(sum);
      *v = Doubles(sum);
    }
  }
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
  std::vector<double> scale(n, 1.0);
  std::vector<bool> active(n);
  for (int64_t k = 0; k < n; ++k) {
    const RowUpdate& u = updates[k];
    const double norm = std::sqrt(squares[k]);
    out.grad_norm.push_back(norm);
    out.finite.push_back(std::isfinite(norm) && std::isfinite(out.loss[k]));
    if (u.grad_clip > 0 && norm > u.grad_clip) scale[k] = u.grad_clip / norm;
    active[k] = u.active && out.finite[k];
  }
  optimizer_.Step(arena_, updates, scale, active);
  return out;
}

void Bundle::Accumulate(int64_t first_row, int64_t n, const at::Tensor& ids,
                        const at::Tensor& targets, const at::Tensor& scored, int64_t positions,
                        const std::vector<RowUpdate>& updates, int64_t micro_batch,
                        StepResult* out) {
  const int64_t batch = ids.size(1);
  const int64_t micro = micro_batch > 0 ? std::min(micro_batch, batch) : batch;
  const ParameterView& leaves = arena_.Leaves(first_row, n);
  const bool routed = spec::Routed(model_);
  std::vector<double> z_loss;
  for (int64_t k = 0; k < n; ++k) z_loss.push_back(updates[first_row + k].z_loss);
  if (std::all_of(z_loss.begin(), z_loss.end(), [](double z) { return z == 0; })) z_loss.clear();

  Penalties penalties(updates, first_row, n, positions, model_.d_model, device_);

  at::Tensor loss;
  double balance = 0, evaluations = 0;
  for (int64_t first = 0; first < batch; first += micro) {
    const int64_t count = std::min(micro, batch - first);
    Extras extras{.training = true,
                  .noise = Mix(updates[first_row].noise + first),
                  .want_states = penalties.any(),
                  .graph_of_states = penalties.any()};
    const at::Tensor logits = Forward(model_, tables_, leaves, ids.narrow(1, first, count),
                                      routed || penalties.any() ? &extras : nullptr);
    const at::Tensor each =
        ops::CrossEntropySum(logits,
                             targets.narrow(1, first, count).reshape({n, count * ids.size(2)}),
                             z_loss) /
        scored;                         // [n]
    at::Tensor objective = each.sum();  // a sum over rows: no row's gradient sees another
    if (extras.balance.defined()) {
      const double share = static_cast<double>(count) / static_cast<double>(batch);
      objective = objective + extras.balance.sum() * (model_.router.balance * share);
      balance += extras.balance.detach().item<double>() * share;
    }
    if (penalties.any()) objective = objective + penalties.Of(extras.states);
    for (const Route& r : extras.routes) evaluations += static_cast<double>(r.evaluations);
    objective.backward();
    loss = loss.defined() ? loss + each.detach() : each.detach();
  }
  for (const double v : Doubles(loss)) out->loss.push_back(v);
  penalties.Report(out);
  if (routed) {
    out->balance.push_back(balance);
    out->block_evaluations.push_back(evaluations / static_cast<double>(batch));
  }
}

at::Tensor Bundle::NegativeLogLikelihoods(int64_t first, int64_t n, const at::Tensor& ids,
                                          const at::Tensor& targets, Extras* extras) const {
  at::NoGradGuard no_grad;
  const at::Tensor logits = Forward(model_, tables_, arena_.View(first, n), ids, extras);
  return ops::CrossEntropyEach(logits, targets.reshape({n, -1}));
}

at::Tensor Bundle::Logits(int64_t row, const at::Tensor& ids, Extras* extras) const {
  at::NoGradGuard no_grad;
  return Forward(model_, tables_, arena_.View(row, 1), ids, extras);
}

at::Tensor Bundle::Readout(int64_t row, const at::Tensor& stream) const {
  at::NoGradGuard no_grad;
  return trainer::Readout(model_, tables_, arena_.View(row, 1), stream);
}

}  // namespace plumb::trainer
