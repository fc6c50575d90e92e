#include "trainer/probes/ridge.h"

#include <ATen/ATen.h>

#include <limits>

namespace plumb::trainer::probes {
namespace {

using at::Tensor;
using linearity::Spectrum;

// Of some columns, in the directions of the state: from x to them [d, rank], and what is to be
// divided by (eigenvalue + penalty).
struct Directions {
  Tensor of_x;    // [d, rank]
  Tensor values;  // [rank, 1]
  Tensor of_y;    // [rank, K]
};
Directions DirectionsOf(const LabelMoments& m, int64_t state, const Spectrum& s, const Columns& c) {
  const Tensor of_x = s.vectors * s.inverse_sd.unsqueeze(1);
  return {of_x, s.values.unsqueeze(1),
          at::mm(of_x.t(), m.cross(state).cpu().narrow(1, c.first, c.width))};
}

// The squared error of a map on examples of which only the moments are known.
double ErrorOf(const LabelMoments& m, int64_t state, const Columns& c, const AffineMap& map) {
  const Tensor cross = m.cross(state).cpu().narrow(1, c.first, c.width);
  const Tensor& w = map.weight;
  const Tensor within = m.answer_squares().cpu().narrow(0, c.first, c.width) -
                        2 * (w * cross).sum(0) + (w * at::mm(m.gram(state).cpu(), w)).sum(0);
  const Tensor off = m.answer_mean().cpu().narrow(0, c.first, c.width) -
                     at::mv(w.t(), m.mean(state).cpu()) - map.bias;
  return (within + static_cast<double>(m.n()) * off.square()).sum().item<double>();
}

}  // namespace

void LabelMoments::Add(const std::vector<Tensor>& states, const Tensor& answers) {
  LabelMoments one(static_cast<int64_t>(states.size()));
  one.n_ = answers.size(0);
  if (one.n_ == 0) return;
  one.answer_mean_ = answers.mean(0);
  const Tensor y = answers - one.answer_mean_;
  one.answer_squares_ = y.square().sum(0);
  for (size_t s = 0; s < states.size(); ++s) {
    const Tensor wide = states[s].to(at::kDouble);
    one.mean_[s] = wide.mean(0);
    const Tensor x = wide - one.mean_[s];
    one.gram_[s] = at::mm(x.t(), x);
    one.cross_[s] = at::mm(x.t(), y);
  }
  Merge(one);
}

void LabelMoments::Merge(const LabelMoments& other) {
  if (other.n_ == 0) return;
  if (n_ == 0) {
    *this = other;
    return;
  }
  const auto a = static_cast<double>(n_), b = static_cast<double>(other.n_);
  const double weight = a / (a + b) * b, share = b / (a + b);
  const Tensor moved = other.answer_mean_ - answer_mean_;
  for (size_t s = 0; s < mean_.size(); ++s) {
    const Tensor apart = other.mean_[s] - mean_[s];
    gram_[s] = gram_[s] + other.gram_[s] + weight * at::outer(apart, apart);
    cross_[s] = cross_[s] + other.cross_[s] + weight * at::outer(apart, moved);
    mean_[s] = mean_[s] + share * apart;
  }
  answer_squares_ = answer_squares_ + other.answer_squares_ + weight * moved.square();
  answer_mean_ = answer_mean_ + share * moved;
  n_ += other.n_;
}

const std::vector<double>& RidgePenalties() {
  static const std::vector<double> kPenalties = {1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1, 10, 100};
  return kPenalties;
}

AffineMap Ridge(const LabelMoments& m, int64_t state, const Spectrum& spectrum, const Columns& c,
                double penalty) {
  const Directions in = DirectionsOf(m, state, spectrum, c);
  AffineMap map{.weight = at::mm(in.of_x, in.of_y / (in.values + penalty))};
  map.bias = m.answer_mean().cpu().narrow(0, c.first, c.width) -
             at::mv(map.weight.t(), m.mean(state).cpu());
  return map;
}

RidgeFit FitRidge(const LabelMoments& fit, const LabelMoments& choosing, int64_t state,
                  const std::vector<Columns>& questions) {
  LabelMoments both = fit;
  both.Merge(choosing);
  const Spectrum of_fit = linearity::SpectrumOf(fit.gram(state)),
                 of_both = linearity::SpectrumOf(both.gram(state));
  RidgeFit out;
  std::vector<Tensor> weights, biases;
  for (const Columns& c : questions) {
    double least = std::numeric_limits<double>::infinity(), best = RidgePenalties().back();
    for (const double penalty : RidgePenalties()) {
      const double error = ErrorOf(choosing, state, c, Ridge(fit, state, of_fit, c, penalty));
      if (error < least) least = error, best = penalty;
    }
    const AffineMap map = Ridge(both, state, of_both, c, best);
    out.penalty.push_back(best);
    weights.push_back(map.weight), biases.push_back(map.bias);
  }
  out.map = {at::cat(weights, 1), at::cat(biases, 0)};
  return out;
}

}  // namespace plumb::trainer::probes
