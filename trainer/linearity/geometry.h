// What a state of the residual stream looks like by itself.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace plumb::trainer::linearity {

// Streamed over texts; means over tokens or, of token_cosine, over texts.
struct Shape {
  int64_t tokens = 0, texts = 0;
  double norm = 0;          // |h|
  double kurtosis = 0;      // of a token's values: fourth central moment over squared second; a
                            // Gaussian has 3, one large value among d has about d
  double token_cosine = 0;  // mean cosine of two different tokens of a text: near 1, they collapsed
  // state [B * T, d], B texts of T tokens each.
  void Add(const at::Tensor& state, int64_t T);
  Shape Means() const;  // of the sums that Add() makes
};

// TwoNN (Facco et al. 2017): the dimension of the manifold on which the points lie, from the ratio
// of the distances to the second and the first neighbour, by a line through 0 over the smallest
// fifth of them. points [n, d], those that are equal counted once; NaN for fewer than 20 distinct.
double IntrinsicDimension(const at::Tensor& points);

}  // namespace plumb::trainer::linearity
