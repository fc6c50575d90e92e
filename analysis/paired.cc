#include "analysis/paired.h"

#include <algorithm>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <limits>

#include "analysis/statistics.h"

namespace plumb::analysis {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
// Subtracting two values of size s leaves errors of some ε·s: a spread below that is none.
constexpr double kRounding = 8 * std::numeric_limits<double>::epsilon();

// P(T > t)
double Above(double t, double freedom) {
  if (std::isinf(t)) return t > 0 ? 0 : 1;
  return boost::math::cdf(boost::math::complement(boost::math::students_t(freedom), t));
}

std::vector<double> Values(const BySeed& m) {
  std::vector<double> out;
  for (const auto& [seed, value] : m) out.push_back(value);
  return out;
}

double Largest(const std::vector<double>& values) {
  double out = 0;
  for (double v : values) out = std::max(out, std::abs(v));
  return out;
}

bool Finite(const std::vector<double>& values) {
  return std::all_of(values.begin(), values.end(), [](double v) { return std::isfinite(v); });
}

Difference NoInterval(Difference d) {
  if (!std::isfinite(d.mean)) d.mean = kNaN;
  d.low = -kInfinity, d.high = kInfinity;
  return d;
}

// mean, error, freedom and n → interval and p. `scale`: of the values that were subtracted.
Difference Judge(Difference d, double scale, double level) {
  if (d.error <= kRounding * scale) {
    d.error = 0;
    if (std::abs(d.mean) <= kRounding * scale) d.mean = 0, d.p = 1;
    d.low = d.high = d.mean;
    return d;
  }
  const double half =
      boost::math::quantile(boost::math::students_t(d.freedom), 0.5 + level / 2) * d.error;
  d.low = d.mean - half, d.high = d.mean + half;
  d.p = std::min(1.0, 2 * Above(std::abs(d.mean) / d.error, d.freedom));
  return d;
}

}  // namespace

Difference PairedT(const BySeed& a, const BySeed& b, double level) {
  std::vector<double> differences, all;
  for (const auto& [seed, value] : a) {
    const auto it = b.find(seed);
    if (it == b.end()) continue;
    differences.push_back(value - it->second);
    all.push_back(value), all.push_back(it->second);
  }
  const Interval i = MeanInterval(differences, level);
  Difference d{.mean = i.mean, .n_a = i.n, .n_b = i.n};
  if (i.n < 2 || !Finite(all)) return NoInterval(d);
  d.error = i.sd / std::sqrt(static_cast<double>(i.n));
  d.freedom = static_cast<double>(i.n - 1);
  return Judge(d, Largest(all), level);
}

Difference UnpairedT(const BySeed& a, const BySeed& b, double level) {
  const std::vector<double> ours = Values(a), theirs = Values(b);
  std::vector<double> all = ours;
  all.insert(all.end(), theirs.begin(), theirs.end());
  Difference d{.mean = kNaN, .n_a = std::ssize(ours), .n_b = std::ssize(theirs), .paired = false};
  if (!Finite(all)) return NoInterval(d);
  const Interval i = WelchDifference(ours, theirs, level);
  d.mean = i.mean;
  if (i.n < 2) return NoInterval(d);
  d.error = i.sd, d.freedom = WelchFreedom(ours, theirs);
  return Judge(d, Largest(all), level);
}

Difference CompareArms(const BySeed& a, const BySeed& b, double level) {
  const Difference paired = PairedT(a, b, level);
  const bool one = paired.n_a == 1 && (a.size() == 1 || b.size() == 1);
  return paired.n_a >= 2 || one ? paired : UnpairedT(a, b, level);
}

BySeed MeanOverSlices(const std::vector<BySeed>& slices) {
  BySeed out;
  if (slices.empty()) return out;
  for (const auto& [seed, first] : slices[0]) {
    double sum = 0;
    size_t have = 0;
    for (const BySeed& s : slices) {
      if (const auto it = s.find(seed); it != s.end()) sum += it->second, ++have;
    }
    if (have == slices.size()) out[seed] = sum / static_cast<double>(have);
  }
  return out;
}

std::vector<std::optional<double>> Holm(const std::vector<std::optional<double>>& p) {
  std::vector<size_t> order;
  for (size_t i = 0; i < p.size(); ++i) {
    if (p[i]) order.push_back(i);
  }
  std::stable_sort(order.begin(), order.end(), [&](size_t i, size_t j) { return *p[i] < *p[j]; });
  std::vector<std::optional<double>> out(p.size());
  double so_far = 0;
  for (size_t k = 0; k < order.size(); ++k) {
    so_far = std::max(so_far, *p[order[k]] * static_cast<double>(order.size() - k));
    out[order[k]] = std::min(1.0, so_far);
  }
  return out;
}

double LargestCompatible(const Difference& d) { return std::max(-d.low, d.high); }

double SeedNoise::Floor(int64_t n_a, int64_t n_b, double level) const {
  return StudentQuantile(level, freedom) * sd *
         std::sqrt(1.0 / static_cast<double>(n_a) + 1.0 / static_cast<double>(n_b));
}

std::optional<SeedNoise> PoolNoise(const std::vector<std::vector<double>>& groups) {
  SeedNoise noise;
  for (const auto& g : groups) {
    if (!Finite(g)) return std::nullopt;
    noise.freedom += std::max<int64_t>(0, static_cast<int64_t>(g.size()) - 1);
  }
  const std::optional<double> sd = PooledDeviation(groups);
  if (!sd) return std::nullopt;
  noise.sd = *sd;
  return noise;
}

}  // namespace plumb::analysis
