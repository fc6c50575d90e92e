// Means over tokens of which those of one document are not independent.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace plumb::trainer::probes {

class Tally {
 public:
  explicit Tally(int64_t documents = 0) : of_(documents) {}
  void Add(int64_t document, double value) {
    of_[document].sum += value, ++of_[document].n;
    sum_ += value, ++n_;
  }
  int64_t n() const { return n_; }
  double mean() const { return sum_ / static_cast<double>(n_); }  // NaN of none
  // By clusters (the ratio estimator, Cochran 1977, 6.3): sqrt(G / (G - 1) · Σ (sum_g - mean n_g)²)
  // / n, over the G documents that have a token. NaN for fewer than two.
  double standard_error() const {
    double squares = 0, documents = 0;
    for (const Cluster& c : of_) {
      if (c.n == 0) continue;
      const double off = c.sum - mean() * static_cast<double>(c.n);
      squares += off * off, ++documents;
    }
    if (documents < 2) return std::numeric_limits<double>::quiet_NaN();
    return std::sqrt(documents / (documents - 1) * squares) / static_cast<double>(n_);
  }

 private:
  struct Cluster {
    double sum = 0;
    int64_t n = 0;
  };
  std::vector<Cluster> of_;
  double sum_ = 0;
  int64_t n_ = 0;
};

}  // namespace plumb::trainer::probes
