#include "trainer/linearity/moments.h"

#include <ATen/ATen.h>

#include <stdexcept>

namespace plumb::trainer::linearity {

using at::Tensor;

Moments::Moments(int64_t states, std::vector<Pair> pairs)
    : pairs_(std::move(pairs)),
      mean_(states),
      gram_(states),
      cross_(pairs_.size()),
      move_mean_(pairs_.size()),
      move_squares_(pairs_.size()) {
  for (const Pair& p : pairs_) {
    if (p.from < 0 || p.to < 0 || p.from >= states || p.to >= states)
      throw std::out_of_range("a pair of states that are not there");
  }
}

void Moments::Add(const std::vector<Tensor>& states) {
  if (static_cast<int64_t>(states.size()) != this->states())
    throw std::invalid_argument("Moments: another number of states");
  // What these tokens alone have, to be merged. A state's deviations are made once and dropped
  // after the last pair that needs them.
  Moments one(this->states(), pairs_);
  one.n_ = states.front().size(0);
  if (one.n_ == 0) return;
  std::vector<Tensor> deviation(states.size());
  const auto deviation_of = [&](int64_t s) -> const Tensor& {
    if (!deviation[s].defined()) {
      const Tensor x = states[s].to(at::kDouble);
      one.mean_[s] = x.mean(0);
      deviation[s] = x - one.mean_[s];
      one.gram_[s] = at::mm(deviation[s].t(), deviation[s]);
    }
    return deviation[s];
  };
  for (int64_t s = 0; s < this->states(); ++s) {
    deviation_of(s);
    for (size_t p = 0; p < pairs_.size(); ++p) {
      if (pairs_[p].from != s) continue;
      const Tensor f = states[pairs_[p].to].to(at::kDouble) - states[s].to(at::kDouble);
      one.move_mean_[p] = f.mean(0);
      one.move_squares_[p] = (f - one.move_mean_[p]).square().sum(0);
      one.cross_[p] = at::mm(deviation_of(s).t(), deviation_of(pairs_[p].to));
    }
    bool needed = false;
    for (const Pair& p : pairs_) needed |= p.to == s && p.from > s;
    if (!needed) deviation[s] = Tensor();
  }
  Merge(one);
}

void Moments::Merge(const Moments& other) {
  if (other.pairs_ != pairs_ || other.states() != states())
    throw std::invalid_argument("Moments: other states or pairs");
  if (other.n_ == 0) return;
  if (n_ == 0) {
    *this = other;
    return;
  }
  const auto a = static_cast<double>(n_), b = static_cast<double>(other.n_);
  const double weight = a / (a + b) * b, share = b / (a + b);
  std::vector<Tensor> apart;
  for (int64_t s = 0; s < states(); ++s) apart.push_back(other.mean_[s] - mean_[s]);
  for (size_t p = 0; p < pairs_.size(); ++p) {
    const auto [from, to] = pairs_[p];
    cross_[p] = cross_[p] + other.cross_[p] + weight * at::outer(apart[from], apart[to]);
    const Tensor moved = other.move_mean_[p] - move_mean_[p];
    move_squares_[p] = move_squares_[p] + other.move_squares_[p] + weight * moved.square();
    move_mean_[p] = move_mean_[p] + share * moved;
  }
  for (int64_t s = 0; s < states(); ++s) {
    gram_[s] = gram_[s] + other.gram_[s] + weight * at::outer(apart[s], apart[s]);
    mean_[s] = mean_[s] + share * apart[s];
  }
  n_ += other.n_;
}

}  // namespace plumb::trainer::linearity
