#include "trainer/linearity/geometry.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace plumb::trainer::linearity {

using at::Tensor;

void Shape::Add(const Tensor& state, int64_t T) {
  const Tensor x = state.to(at::kDouble);
  const int64_t n = x.size(0), B = n / T;
  const Tensor squares = x.square().sum(1).sqrt();
  norm += squares.sum().item<double>();
  const Tensor deviation = x - x.mean(1, true);
  const Tensor second = deviation.square(), variance = second.mean(1);
  const Tensor fourth = second.square().mean(1) / variance.square().clamp_min(1e-300);
  kurtosis += fourth.sum().item<double>();
  if (T > 1) {
    const Tensor unit = (x / squares.clamp_min(1e-150).unsqueeze(1)).view({B, T, x.size(1)});
    // |sum of units|² has the T cosines of each with itself, which are 1 (0 for a state of zeros).
    const Tensor own = unit.square().sum({1, 2});
    const Tensor pairs = (unit.sum(1).square().sum(1) - own) / static_cast<double>(T * (T - 1));
    token_cosine += pairs.sum().item<double>();
  }
  tokens += n, texts += B;
}

Shape Shape::Means() const {
  Shape out = *this;
  const auto n = static_cast<double>(tokens);
  out.norm /= n, out.kurtosis /= n;
  out.token_cosine /= static_cast<double>(texts);
  return out;
}

double IntrinsicDimension(const Tensor& points) {
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  constexpr int64_t kLeast = 20;
  const Tensor x = std::get<0>(at::unique_dim(points.to(at::kDouble).cpu(), 0));
  if (x.size(0) < kLeast) return kNone;
  // Not by the Gram matrix: of near neighbours its differences are rounding.
  const Tensor distances = at::cdist(x, x, 2, /*compute_mode=*/2);
  distances.fill_diagonal_(std::numeric_limits<double>::infinity());
  const Tensor nearest = std::get<0>(at::topk(distances, 2, 1, /*largest=*/false)).contiguous();
  std::vector<double> logs;
  for (int64_t i = 0; i < x.size(0); ++i) {
    const double first = nearest.data_ptr<double>()[2 * i],
                 second = nearest.data_ptr<double>()[2 * i + 1];
    if (first > 0 && second / first > 1 + 1e-8) logs.push_back(std::log(second / first));
  }
  const auto n = static_cast<int64_t>(logs.size());
  if (n < kLeast) return kNone;
  std::sort(logs.begin(), logs.end());
  double xy = 0, xx = 0;
  for (int64_t i = 0; i < n / 5; ++i) {
    const double share = static_cast<double>(i + 1) / static_cast<double>(n);
    xy += logs[i] * -std::log1p(-share), xx += logs[i] * logs[i];
  }
  return xx > 0 ? xy / xx : kNone;
}

}  // namespace plumb::trainer::linearity
