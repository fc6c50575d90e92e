// How well the best affine map explains where a state goes: the linearity score of Razzhigaev et
// al. 2024 (arXiv 2405.12250), and what it has to be read beside. docs/linearity.md has the
// derivations.
#pragma once

#include <cstdint>
#include <vector>

#include "trainer/linearity/moments.h"
#include "trainer/spec/stage_settings.h"

namespace plumb::trainer::linearity {

// Of the definitions below and in held_out.h and geometry.h.
inline constexpr int64_t kDefinition = spec::kLinearityDefinition;

// A state's directions, from its correlation matrix: eigenvalues above d·epsilon·the largest, so
// that neither a repeated column nor one a million times as large as the others costs a digit.
struct Spectrum {
  at::Tensor inverse_sd;  // [d] of n - 0 deviations; 0 for a constant column
  at::Tensor values;      // [rank]
  at::Tensor vectors;     // [d, rank]
  int64_t rank = 0;
  double anisotropy = 0;  // share of the variance in the first principal direction
};
Spectrum SpectrumOf(const at::Tensor& gram);

// Of a pair, with residual: y is the later state; without: y is the move f = later - earlier.
// In sample: 1 - (what least squares leave) / (all), both sums over the dimensions of y centred.
struct Linearity {
  int64_t n = 0, rank = 0;
  double score = 0, score_without = 0;
  // Corrected for the dimensions that were fitted: 1 - (1 - s)(n - 1) / (n - 1 - rank). NaN where
  // n leaves nothing to correct with.
  double adjusted = 0, adjusted_without = 0;
  // What is expected of a y that has nothing to do with x: rank / (n - 1).
  double floor = 0;
  // Each dimension of y divided by its deviation first: the mean over dimensions of their R².
  double standardized = 0, standardized_without = 0;
  // |f| / |x|, both centred; a move that is not correlated with x has exactly 1 / (1 + rho²).
  double rho = 0, rho_law = 0;
};

// The least-squares map x -> y with its offset: y ≈ x weight + bias.
struct AffineMap {
  at::Tensor weight;  // [d, d] in double
  at::Tensor bias;    // [d]
};
struct Fit {
  Linearity linearity;
  AffineMap with;     // to the later state
  AffineMap without;  // to the move
};
Fit FitPair(const Moments& moments, size_t pair, const Spectrum& from);

// The same of states as they are, for those who hold them all: x, y [n, d].
Linearity ScoreOf(const at::Tensor& x, const at::Tensor& y);

}  // namespace plumb::trainer::linearity
