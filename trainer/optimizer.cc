#include "trainer/optimizer.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>

#include "trainer/counter_random.h"
#include "trainer/schedule.h"
#include "trainer/spec/parametrization.h"

namespace plumb::trainer {
namespace {

using at::Tensor;
using spec::OptimizerKind;

// The nearest orthogonal matrix, roughly: singular values end in about [0.7, 1.2]. Coefficients of
// Jordan 2024.
Tensor NewtonSchulz(const Tensor& g) {
  const bool tall = g.size(0) > g.size(1);
  Tensor x = tall ? g.t() : g;
  x = x / (x.norm() + 1e-7);
  for (int i = 0; i < 5; ++i) {
    const Tensor a = at::mm(x, x.t());
    const Tensor b = -4.7750 * a + 2.0315 * at::mm(a, a);
    x = 3.4445 * x + at::mm(b, x);
  }
  return tall ? x.t() : x;
}

double Rms(const Tensor& t) { return std::sqrt(t.square().mean().item<double>()); }

// g [r, c] or a vector; `state` the parameter's place in v, flat.
Tensor AdafactorUpdate(const Tensor& g, Tensor state, int64_t step) {
  const double beta2 = 1 - std::pow(static_cast<double>(step), -0.8);
  const Tensor square = g.square() + 1e-30;
  Tensor update;
  if (g.dim() == 2 && g.size(0) > 1 && g.size(1) > 1) {
    Tensor rows = state.narrow(0, 0, g.size(0)), columns = state.narrow(0, g.size(0), g.size(1));
    rows.mul_(beta2).add_(square.mean(1), 1 - beta2);
    columns.mul_(beta2).add_(square.mean(0), 1 - beta2);
    const Tensor scaled_rows = (rows / rows.mean()).rsqrt().unsqueeze(1);
    update = g * scaled_rows * columns.rsqrt().unsqueeze(0);
  } else {
    const Tensor v = state.view(g.sizes());
    v.mul_(beta2).add_(square, 1 - beta2);
    update = g * v.rsqrt();
  }
  return update / std::max(1.0, Rms(update));
}

bool IsMuonMatrix(const spec::Parameter& p) {
  return p.role == spec::Role::kHidden && p.layer >= 0 && p.shape.size() == 2;
}

}  // namespace

RowUpdate UpdateOf(const spec::TrialSpec& s, int64_t step) {
  const spec::TrainSpec& t = s.train;
  return {.optimizer = t.optimizer,
          .lr = LearningRate(t, step),
          .beta1 = t.beta1,
          .beta2 = t.beta2,
          .eps = t.adam_eps,
          .momentum = t.momentum,
          .weight_decay = t.weight_decay,
          .grad_clip = t.grad_clip,
          .z_loss = t.z_loss,
          .penalty = {.cosine = t.layer_cosine,
                      .mse = t.layer_mse,
                      .reduction = t.layer_reduction,
                      .embedding = t.layer_embedding},
          .step = step,
          .noise = Mix(HashOf("noise") + static_cast<uint64_t>(s.seed.data)) +
                   static_cast<uint64_t>(step)};
}

Optimizer::Optimizer(const spec::ModelSpec& model, const spec::ParameterLayout& layout) {
  for (const spec::Parameter& p : layout.parameters) {
    if (!p.trainable) continue;
    const spec::Factors f = spec::FactorsOf(model, p);
    segments_.push_back({p,
                         {.offset = p.offset,
                          .size = p.size(),
                          .lr_factor = f.lr,
                          .weight_decay = f.weight_decay,
                          .eps_factor = f.eps},
                         f.weight_decay});
  }
}

void Optimizer::Step(Arena& arena, const std::vector<RowUpdate>& updates,
                     const std::vector<double>& scale, const std::vector<bool>& active) const {
  at::NoGradGuard no_grad;
  const auto n = static_cast<int64_t>(updates.size());
  std::vector<ops::AdamWRow> rows(n);
  std::vector<double> decay(n);
  std::vector<ops::AdamWSegment> segments;
  for (const Segment& s : segments_) segments.push_back(s.adamw);
  for (int64_t k = 0; k < n; ++k) {
    const RowUpdate& u = updates[k];
    const bool fused = u.optimizer == OptimizerKind::kAdamW;
    rows[k] = {.active = active[k] && fused,
               .lr = u.lr,
               .beta1 = u.beta1,
               .beta2 = u.beta2,
               .eps = u.eps,
               .step = u.step,
               .grad_scale = scale[k]};
    decay[k] = u.weight_decay;
    if (active[k] && !fused) StepAlone(arena, k, u, scale[k]);
  }
  ops::AdamWStep(arena.weights().narrow(0, 0, n), arena.grads().narrow(0, 0, n),
                 arena.m().narrow(0, 0, n), arena.v().narrow(0, 0, n), rows, decay, segments);
  for (int64_t k = 0; k < n; ++k) {
    if (!rows[k].active)
      arena.grads().select(0, k).zero_();  // by assignment: 0 * NaN would stay NaN
  }
}

void Optimizer::StepAlone(Arena& arena, int64_t k, const RowUpdate& u, double scale) const {
  const auto part = [&](const Tensor& all, const spec::Parameter& p) {
    return all[k].narrow(0, p.offset, p.size());
  };
  std::vector<ops::AdamWSegment> by_adamw;
  for (const Segment& s : segments_) {
    const spec::Parameter& p = s.parameter;
    Tensor w = part(arena.weights(), p), g = part(arena.grads(), p), m = part(arena.m(), p),
           v = part(arena.v(), p);
    const double lr = u.lr * s.adamw.lr_factor, decay = u.weight_decay * s.decay;
    switch (u.optimizer) {
      case OptimizerKind::kAdamW:
        break;
      case OptimizerKind::kAdam: {
        g.mul_(scale).add_(w, decay);
        ops::AdamWSegment plain = s.adamw;
        plain.weight_decay = 0;
        by_adamw.push_back(plain);
        break;
      }
      case OptimizerKind::kSgd:
        m.mul_(u.momentum).add_(g * scale + w * decay);
        w.sub_(m, lr);
        break;
      case OptimizerKind::kAdafactor: {
        const Tensor update = AdafactorUpdate((g * scale).view(p.shape), v, u.step);
        const double step = lr * std::max(1e-3, Rms(w));
        w.mul_(1 - lr * decay).sub_(update.reshape(-1), step);
        break;
      }
      case OptimizerKind::kMuon: {
        if (!IsMuonMatrix(p)) {
          g.mul_(scale);
          by_adamw.push_back(s.adamw);
          break;
        }
        m.mul_(u.momentum).add_(g, scale);
        const Tensor direction = NewtonSchulz((g * scale + m * u.momentum).view(p.shape));
        const double size = 0.2 * std::sqrt(static_cast<double>(std::max(p.shape[0], p.shape[1])));
        w.mul_(1 - lr * decay).sub_(direction.reshape(-1), lr * size);
        break;
      }
    }
  }
  if (by_adamw.empty()) return;
  const std::vector<ops::AdamWRow> row = {{.active = true,
                                           .lr = u.lr,
                                           .beta1 = u.beta1,
                                           .beta2 = u.beta2,
                                           .eps = u.eps,
                                           .step = u.step,
                                           .grad_scale = 1}};
  ops::AdamWStep(arena.weights().narrow(0, k, 1), arena.grads().narrow(0, k, 1),
                 arena.m().narrow(0, k, 1), arena.v().narrow(0, k, 1), row, {u.weight_decay},
                 by_adamw);
}

}  // namespace plumb::trainer
