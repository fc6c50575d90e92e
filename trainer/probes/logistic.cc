#include "trainer/probes/logistic.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <limits>

namespace plumb::trainer::probes {
namespace {

using at::Tensor;

constexpr size_t kMemory = 10;           // pairs of L-BFGS
constexpr double kPathTolerance = 1e-4;  // where only the next penalty is to be found

double Number(const Tensor& t) { return t.item<double>(); }

Tensor OneHot(const Tensor& label, int64_t classes) {
  return at::zeros({label.size(0), classes}, label.options().dtype(at::kDouble))
      .scatter_(1, label.unsqueeze(1), 1.0);
}

double CrossEntropy(const Tensor& logits, const Tensor& label) {
  return -Number(at::log_softmax(logits, 1).gather(1, label.unsqueeze(1)).mean());
}

}  // namespace

const std::vector<double>& LogisticPenalties() {
  static const std::vector<double> kPenalties = {10, 1, 0.1, 1e-2, 1e-3, 1e-4, 1e-5};
  return kPenalties;
}

Logistic::Logistic(const Tensor& states) {
  const Tensor wide = states.to(at::kDouble);
  mean_ = wide.mean(0);
  const Tensor x = wide - mean_;
  const linearity::Spectrum s = linearity::SpectrumOf(at::mm(x.t(), x));
  const double n = static_cast<double>(states.size(0));
  rotation_ =
      (s.vectors * (s.inverse_sd * std::sqrt(n)).unsqueeze(1)).to(states.device());  // [d, rank]
  values_ = s.values.to(states.device());
  z_ = at::mm(x, rotation_);
}

// L-BFGS (Liu & Nocedal 1989) in coordinates in which the curvature is about 1 in every direction:
// w = t · scale, scale = (c · eigenvalue + penalty)^-1/2 with c the mean variance of a class.
Logistic::Optimum Logistic::Minimise(const Tensor& z, const Tensor& label, int64_t classes,
                                     double penalty, double tolerance, const Weights& from) const {
  const Tensor hot = OneHot(label, classes);
  const Tensor share = hot.mean(0);
  const double c = std::max(1e-3, Number((share * (1 - share)).mean()));
  const double n = static_cast<double>(z.size(0));
  const Tensor one = at::ones({1}, z.options());
  const Tensor scale =
      at::cat({(c * values_ + penalty).rsqrt(), one / std::sqrt(c)}).unsqueeze(1);  // [rank + 1, 1]
  const Tensor features = at::cat({z, at::ones({z.size(0), 1}, z.options())}, 1) * scale.t();
  Tensor decay = penalty * scale.square();
  decay[-1].zero_();

  struct At {
    double value = 0;
    Tensor slope;  // [rank + 1, C]
  };
  const auto look = [&](const Tensor& t) -> At {
    const Tensor log_p = at::log_softmax(at::mm(features, t), 1);
    const double loss = -Number((log_p * hot).sum()) / n;
    return {loss + 0.5 * Number((decay * t.square()).sum()),
            at::mm(features.t(), log_p.exp() - hot) / n + decay * t};
  };
  const auto dot = [](const Tensor& a, const Tensor& b) { return Number((a * b).sum()); };
  const auto largest = [&](const At& at) { return Number((at.slope / scale).abs().max()); };

  Tensor t = at::cat({from.w, from.b.unsqueeze(0)}) / scale;
  At here = look(t);
  Optimum out;
  struct Pair {
    Tensor moved, turned;
    double product;
  };
  std::deque<Pair> pairs;
  for (; out.steps < kMostSteps && largest(here) > tolerance; ++out.steps) {
    Tensor direction = -here.slope;
    std::vector<double> weight(pairs.size());
    for (size_t i = pairs.size(); i-- > 0;) {
      weight[i] = dot(pairs[i].moved, direction) / pairs[i].product;
      direction = direction - weight[i] * pairs[i].turned;
    }
    if (!pairs.empty())
      direction =
          direction * (pairs.back().product / dot(pairs.back().turned, pairs.back().turned));
    for (size_t i = 0; i < pairs.size(); ++i) {
      const double back = dot(pairs[i].turned, direction) / pairs[i].product;
      direction = direction + (weight[i] - back) * pairs[i].moved;
    }
    const double falls = dot(here.slope, direction);
    // Half as far until it is lower; near the optimum, where the value has no digits left to say
    // so, until it is no steeper.
    At next;
    Tensor to;
    bool lower = false;
    for (double step = 1; !lower && step > 1e-12; step *= 0.5) {
      to = t + step * direction;
      next = look(to);
      lower = next.value <= here.value + 1e-4 * step * falls ||
              (next.value <= here.value + 1e-13 * std::abs(here.value) &&
               std::abs(dot(next.slope, direction)) <= 0.9 * std::abs(falls));
    }
    if (!lower) {
      if (pairs.empty()) break;
      pairs.clear();  // once more, straight down
      continue;
    }
    const Tensor moved = to - t, turned = next.slope - here.slope;
    const double product = dot(moved, turned);
    if (product > 0) pairs.push_back({moved, turned, product});
    if (pairs.size() > kMemory) pairs.pop_front();
    t = to, here = next;
  }
  out.objective = here.value, out.gradient = largest(here);
  const Tensor unscaled = t * scale;
  out.weights = {unscaled.narrow(0, 0, z.size(1)), unscaled[-1]};
  return out;
}

AffineMap Logistic::MapOf(const Weights& weights) const {
  const Tensor w = at::mm(rotation_, weights.w);
  return {w, weights.b - at::mv(w.t(), mean_)};
}

LogisticFit Logistic::Fit(const Tensor& label, int64_t classes, double penalty) const {
  const Tensor rows = label.ge(0).nonzero().squeeze(1);
  const Weights zero = {at::zeros({z_.size(1), classes}, z_.options()),
                        at::zeros({classes}, z_.options())};
  const Optimum o = Minimise(z_.index_select(0, rows), label.index_select(0, rows), classes,
                             penalty, kTolerance, zero);
  return {MapOf(o.weights), penalty, o.objective, o.gradient, o.steps};
}

LogisticFit Logistic::Choose(const Tensor& label, int64_t classes, const Tensor& choosing) const {
  const Tensor asked = label.ge(0);
  const auto rows = [&](const Tensor& which) { return which.nonzero().squeeze(1); };
  const Tensor fit = rows(asked.logical_and(choosing.logical_not())),
               judge = rows(asked.logical_and(choosing)), all = rows(asked);
  const Tensor z_fit = z_.index_select(0, fit), z_judge = z_.index_select(0, judge);
  const Tensor of_fit = label.index_select(0, fit), of_judge = label.index_select(0, judge);
  Weights from = {at::zeros({z_.size(1), classes}, z_.options()),
                  at::zeros({classes}, z_.options())},
          best = from;
  double least = std::numeric_limits<double>::infinity(), penalty = LogisticPenalties().front();
  int64_t steps = 0;
  for (const double tried : LogisticPenalties()) {
    if (judge.size(0) == 0) break;
    const Optimum o = Minimise(z_fit, of_fit, classes, tried, kPathTolerance, from);
    steps += o.steps;
    from = o.weights;
    const double loss = CrossEntropy(at::addmm(o.weights.b, z_judge, o.weights.w), of_judge);
    if (!(loss < least)) break;
    least = loss, penalty = tried, best = o.weights;
  }
  const Optimum o = Minimise(z_.index_select(0, all), label.index_select(0, all), classes, penalty,
                             kTolerance, best);
  return {MapOf(o.weights), penalty, o.objective, o.gradient, o.steps + steps};
}

}  // namespace plumb::trainer::probes
