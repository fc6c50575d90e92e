#include "analysis/statistics.h"

#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <limits>

namespace plumb::analysis {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

double Mean(const std::vector<double>& v) {
  double sum = 0;
  for (double x : v) sum += x;
  return v.empty() ? std::numeric_limits<double>::quiet_NaN() : sum / static_cast<double>(v.size());
}
double SquaresAbout(const std::vector<double>& v, double mean) {
  double sum = 0;
  for (double x : v) sum += (x - mean) * (x - mean);
  return sum;
}

double SquaredError(const std::vector<double>& v) {  // of the mean
  const double n = static_cast<double>(v.size());
  return SquaresAbout(v, Mean(v)) / (n - 1) / n;
}

}  // namespace

double StudentQuantile(double level, int64_t df) {
  return boost::math::quantile(boost::math::students_t(static_cast<double>(df)), 0.5 + level / 2);
}

Interval MeanInterval(const std::vector<double>& values, double level) {
  Interval out{.mean = Mean(values),
               .low = -kInfinity,
               .high = kInfinity,
               .n = static_cast<int64_t>(values.size())};
  if (out.n < 2) return out;
  out.sd = std::sqrt(SquaresAbout(values, out.mean) / static_cast<double>(out.n - 1));
  const double half =
      StudentQuantile(level, out.n - 1) * out.sd / std::sqrt(static_cast<double>(out.n));
  out.low = out.mean - half, out.high = out.mean + half;
  return out;
}

Interval PairedDifference(const std::map<int64_t, double>& a, const std::map<int64_t, double>& b,
                          double level) {
  std::vector<double> differences;
  for (const auto& [replicate, value] : a) {
    if (const auto it = b.find(replicate); it != b.end()) differences.push_back(value - it->second);
  }
  return MeanInterval(differences, level);
}

Interval WelchDifference(const std::vector<double>& a, const std::vector<double>& b, double level) {
  Interval out{.mean = Mean(a) - Mean(b),
               .low = -kInfinity,
               .high = kInfinity,
               .n = static_cast<int64_t>(std::min(a.size(), b.size()))};
  if (out.n < 2) return out;
  const double ea = SquaredError(a), eb = SquaredError(b);
  if (ea + eb == 0) {
    out.low = out.high = out.mean;
    return out;
  }
  out.sd = std::sqrt(ea + eb);
  const double half =
      StudentQuantile(level, std::max<int64_t>(1, static_cast<int64_t>(WelchFreedom(a, b)))) *
      out.sd;
  out.low = out.mean - half, out.high = out.mean + half;
  return out;
}

double WelchFreedom(const std::vector<double>& a, const std::vector<double>& b) {
  const double ea = SquaredError(a), eb = SquaredError(b);
  if (ea + eb == 0) return 1;
  return (ea + eb) * (ea + eb) /
         (ea * ea / static_cast<double>(a.size() - 1) +
          eb * eb / static_cast<double>(b.size() - 1));
}

std::optional<double> PooledDeviation(const std::vector<std::vector<double>>& groups) {
  double squares = 0;
  int64_t freedom = 0;
  for (const auto& g : groups) {
    if (g.size() < 2) continue;
    squares += SquaresAbout(g, Mean(g));
    freedom += static_cast<int64_t>(g.size()) - 1;
  }
  if (freedom == 0) return std::nullopt;
  return std::sqrt(squares / static_cast<double>(freedom));
}

}  // namespace plumb::analysis
