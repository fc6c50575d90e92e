// Central moments of the states of a residual stream, streamed: what least-squares maps from one
// state to another are made of, in double, over any number of tokens.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace plumb::trainer::linearity {

// From one state to another, by their places among the states.
struct Pair {
  int64_t from = 0, to = 1;
  friend bool operator==(const Pair&, const Pair&) = default;
};

// Memory: d² for each state and each pair, whatever the tokens. Two that saw different tokens are
// merged to what one would be that saw all of them (Chan, Golub & LeVeque 1979); nothing is
// subtracted from sums of squares, so large means cost no digits.
class Moments {
 public:
  // A `from` and `to` is below `states`.
  Moments(int64_t states, std::vector<Pair> pairs);

  // states [n, d] of the same n tokens, of any type and device.
  void Add(const std::vector<at::Tensor>& states);
  void Merge(const Moments& other);

  int64_t n() const { return n_; }
  int64_t states() const { return static_cast<int64_t>(mean_.size()); }
  const std::vector<Pair>& pairs() const { return pairs_; }
  // Of a state: mean [d], and the sum of outer products of its deviations [d, d].
  const at::Tensor& mean(int64_t state) const { return mean_[state]; }
  const at::Tensor& gram(int64_t state) const { return gram_[state]; }
  // Of a pair: sum over tokens of (x - mean)(y - mean)ᵀ [d, d], and of the move f = y - x its mean
  // [d] and its squared deviations [d]. The move has moments of its own because a small one would
  // drown in the rounding of y's.
  const at::Tensor& cross(size_t pair) const { return cross_[pair]; }
  const at::Tensor& move_mean(size_t pair) const { return move_mean_[pair]; }
  const at::Tensor& move_squares(size_t pair) const { return move_squares_[pair]; }

 private:
  int64_t n_ = 0;
  std::vector<Pair> pairs_;
  std::vector<at::Tensor> mean_, gram_, cross_, move_mean_, move_squares_;
};

}  // namespace plumb::trainer::linearity
