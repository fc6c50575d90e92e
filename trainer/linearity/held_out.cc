#include "trainer/linearity/held_out.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

namespace plumb::trainer::linearity {
namespace {

using at::Tensor;

constexpr size_t kMostErrors = 1 << 16;

// A mean and its squared deviations, with those of more values.
void Merge(const Tensor& values, int64_t n, Tensor* mean, Tensor* squares) {
  const Tensor own_mean = values.mean(0);
  const Tensor own = (values - own_mean).square().sum(0);
  if (n == 0) {
    *mean = own_mean, *squares = own;
    return;
  }
  const auto a = static_cast<double>(n), b = static_cast<double>(values.size(0));
  const Tensor apart = own_mean - *mean;
  *squares = *squares + own + (a / (a + b) * b) * apart.square();
  *mean = *mean + (b / (a + b)) * apart;
}

// The value that a share of them is not above, between neighbours linearly.
double Quantile(const std::vector<float>& sorted, double share) {
  const double at = share * static_cast<double>(sorted.size() - 1);
  const auto i = static_cast<size_t>(at);
  const double next = sorted[std::min(i + 1, sorted.size() - 1)];
  return sorted[i] + (at - static_cast<double>(i)) * (next - sorted[i]);
}

}  // namespace

HeldOutScores::HeldOutScores(std::vector<Pair> pairs, const std::vector<Fit>& fits,
                             at::Device device)
    : pairs_(std::move(pairs)), sums_(pairs_.size()) {
  for (size_t p = 0; p < pairs_.size(); ++p) {
    const auto there = [&](const AffineMap& m) {
      return AffineMap{m.weight.to(device), m.bias.to(device)};
    };
    sums_[p].full_rank = fits[p].linearity.rank == fits[p].with.weight.size(0);
    sums_[p].with = there(fits[p].with);
    if (!sums_[p].full_rank) sums_[p].without = there(fits[p].without);
  }
}

void HeldOutScores::Add(const std::vector<Tensor>& states) {
  const int64_t n = states.front().size(0);
  std::vector<Tensor> wide;
  for (const Tensor& s : states) wide.push_back(s.to(at::kDouble));
  for (size_t p = 0; p < pairs_.size(); ++p) {
    Sums& s = sums_[p];
    const Tensor &x = wide[pairs_[p].from], &y = wide[pairs_[p].to];
    const Tensor f = y - x;
    Merge(y, n_, &s.y_mean, &s.y_squares);
    Merge(f, n_, &s.f_mean, &s.f_squares);
    const Tensor left = (y - s.with.bias).addmm_(x, s.with.weight, 1, -1);
    const Tensor errors = left.square_().sum(1);
    const double sum = errors.sum().item<double>();
    s.left_y += sum;
    s.left_f += s.full_rank ? sum
                            : (f - s.without.bias)
                                  .addmm_(x, s.without.weight, 1, -1)
                                  .square_()
                                  .sum()
                                  .item<double>();
    const Tensor norms = (x.square().sum(1) * y.square().sum(1)).clamp_min(1e-300).sqrt();
    s.cosine += ((x * y).sum(1) / norms).sum().item<double>();
    const Tensor told = errors.to(at::kFloat).cpu().contiguous();
    for (int64_t i = 0; i < n; ++i) {
      if ((n_ + i) % stride_ == 0) s.errors.push_back(told.data_ptr<float>()[i]);
    }
  }
  n_ += n;
  while (!sums_.empty() && sums_.front().errors.size() > kMostErrors) Thin();
}

void HeldOutScores::Thin() {
  stride_ *= 2;
  for (Sums& s : sums_) {
    for (size_t i = 0; 2 * i < s.errors.size(); ++i) s.errors[i] = s.errors[2 * i];
    s.errors.resize((s.errors.size() + 1) / 2);
  }
}

HeldOut HeldOutScores::Of(size_t pair) const {
  const Sums& s = sums_[pair];
  HeldOut h{.n = n_};
  if (n_ == 0) return h;
  const auto n = static_cast<double>(n_);
  const double all_y = s.y_squares.sum().item<double>(), all_f = s.f_squares.sum().item<double>();
  h.score = 1 - s.left_y / all_y, h.score_without = 1 - s.left_f / all_f;
  h.neighbour_cosine = s.cosine / n;
  std::vector<float> sorted = s.errors;
  std::sort(sorted.begin(), sorted.end());
  const double mean = all_y / n;
  h.error_p50 = Quantile(sorted, 0.5) / mean;
  h.error_p90 = Quantile(sorted, 0.9) / mean;
  h.error_p99 = Quantile(sorted, 0.99) / mean;
  return h;
}

}  // namespace plumb::trainer::linearity
