#include "trainer/linearity/score.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace plumb::trainer::linearity {
namespace {

using at::Tensor;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

double Number(const Tensor& t) { return t.item<double>(); }

// What is left of `all` when `left` is unexplained.
double Explained(double left, double all) {
  return all > 0 ? std::clamp(1 - left / all, 0.0, 1.0) : kNaN;
}

double Adjusted(double score, double n, double rank) {
  return n - 1 - rank > 0 ? 1 - (1 - score) * (n - 1) / (n - 1 - rank) : kNaN;
}

// Mean over the dimensions that vary of their own R².
double MeanOfDimensions(const Tensor& left, const Tensor& all) {
  const Tensor varies = all.gt(0);
  if (!varies.any().item<bool>()) return kNaN;
  const Tensor r2 = (1 - left / all).clamp(0, 1);
  return Number(at::where(varies, r2, at::zeros_like(r2)).sum() / varies.sum());
}

}  // namespace

Spectrum SpectrumOf(const Tensor& gram) {
  const Tensor g = gram.cpu();
  const int64_t d = g.size(0);
  const Tensor variance = g.diagonal();
  Spectrum s;
  s.inverse_sd =
      at::where(variance.gt(0), variance.clamp_min(1e-300).rsqrt(), at::zeros_like(variance));
  const Tensor correlation = g * s.inverse_sd.unsqueeze(0) * s.inverse_sd.unsqueeze(1);
  if (!correlation.isfinite().all().item<bool>()) {  // a row that is about to diverge
    s.values = at::empty({0}, g.options()), s.vectors = at::empty({d, 0}, g.options());
    s.anisotropy = kNaN;
    return s;
  }
  const auto [values, vectors] = at::linalg_eigh(correlation);  // ascending
  const double largest = Number(values[d - 1]);
  const double least = static_cast<double>(d) * std::numeric_limits<double>::epsilon() * largest;
  s.rank = largest > 0 ? Number(values.gt(least).sum()) : 0;
  s.values = values.narrow(0, d - s.rank, s.rank);
  s.vectors = vectors.narrow(1, d - s.rank, s.rank);
  const double all = Number(variance.sum());
  s.anisotropy = all > 0 ? Number(at::linalg_eigvalsh(g)[d - 1]) / all : kNaN;
  return s;
}

Fit FitPair(const Moments& m, size_t pair, const Spectrum& from) {
  const auto [x, y] = m.pairs()[pair];
  const Tensor gram = m.gram(x).cpu(), cross = m.cross(pair).cpu();
  const Tensor move_cross = cross - gram;  // of x and f
  // In the directions of x: what it says of each dimension of y and of f.
  const Tensor directions = from.vectors * from.inverse_sd.unsqueeze(1);  // [d, rank]
  const Tensor of_y = at::mm(directions.t(), cross), of_f = at::mm(directions.t(), move_cross);
  const Tensor inverse = from.values.reciprocal().unsqueeze(1);
  const Tensor all_y = m.gram(y).cpu().diagonal(), all_f = m.move_squares(pair).cpu();
  const Tensor all_x = gram.diagonal();
  const Tensor left_y = all_y - (of_y.square() * inverse).sum(0),
               left_f = all_f - (of_f.square() * inverse).sum(0);
  // Least squares leave the same of y as of f, since x explains itself: the smaller of the two was
  // computed with fewer digits lost. A negative one is rounding.
  const Tensor left = at::where(all_f.lt(all_y), left_f, left_y).clamp_min(0);

  Fit fit;
  Linearity& l = fit.linearity;
  const auto n = static_cast<double>(m.n()), rank = static_cast<double>(from.rank);
  const double sum = Number(left.sum()), y_sum = Number(all_y.sum()), f_sum = Number(all_f.sum()),
               x_sum = Number(all_x.sum());
  l.n = m.n(), l.rank = from.rank;
  l.score = Explained(sum, y_sum), l.score_without = Explained(sum, f_sum);
  l.adjusted = Adjusted(l.score, n, rank);
  l.adjusted_without = Adjusted(l.score_without, n, rank);
  l.floor = n > 1 ? std::min(1.0, rank / (n - 1)) : 1;
  l.standardized = MeanOfDimensions(left, all_y);
  l.standardized_without = MeanOfDimensions(left, all_f);
  l.rho = x_sum > 0 ? std::sqrt(f_sum / x_sum) : kNaN;
  l.rho_law = 1 / (1 + l.rho * l.rho);

  const Tensor back = directions * from.values.reciprocal().unsqueeze(0);  // [d, rank]
  fit.with.weight = at::mm(back, of_y), fit.without.weight = at::mm(back, of_f);
  const Tensor mean_x = m.mean(x).cpu();
  fit.with.bias = m.mean(y).cpu() - at::mv(fit.with.weight.t(), mean_x);
  fit.without.bias = m.move_mean(pair).cpu() - at::mv(fit.without.weight.t(), mean_x);
  return fit;
}

Linearity ScoreOf(const Tensor& x, const Tensor& y) {
  Moments m(2, {{.from = 0, .to = 1}});
  m.Add({x, y});
  return FitPair(m, 0, SpectrumOf(m.gram(0))).linearity;
}

}  // namespace plumb::trainer::linearity
