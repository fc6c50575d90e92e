// Intervals and paired differences, with their n. Pure functions.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

namespace plumb::analysis {

// A mean and what the spread says of it. With n < 2 there is no interval: low and high are -inf and
// +inf.
struct Interval {
  double mean = 0, low = 0, high = 0, sd = 0;
  int64_t n = 0;
  bool Contains(double v) const { return low <= v && v <= high; }
};

// Two-sided quantile of Student's t: P(|T| <= q) = level with `df` degrees of freedom.
double StudentQuantile(double level, int64_t df);

// Mean of independent values with a t interval: mean ± t · sd / √n, sd with n − 1.
Interval MeanInterval(const std::vector<double>& values, double level);

// a − b over the replicates both have (equal seeds: the same data order), as the mean of the paired
// differences.
Interval PairedDifference(const std::map<int64_t, double>& a, const std::map<int64_t, double>& b,
                          double level);

// a − b of two independent samples of possibly unequal spread (Welch 1947, degrees of freedom
// rounded down).
Interval WelchDifference(const std::vector<double>& a, const std::vector<double>& b, double level);

// Its degrees of freedom, not rounded; 1 where there is no spread at all. Both samples have two
// values or more.
double WelchFreedom(const std::vector<double>& a, const std::vector<double>& b);

// Standard deviation of the noise of one run, pooled over groups: √(Σ (x − group mean)² / Σ (n −
// 1)); nullopt when every group has fewer than two values.
std::optional<double> PooledDeviation(const std::vector<std::vector<double>>& groups);

}  // namespace plumb::analysis
