#include "analysis/statistics.h"

#include <algorithm>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <cstdio>
#include <limits>

namespace plumb::analysis {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

std::vector<double> Values(const Cell& cell, bool aa) {
  std::vector<double> values;
  for (const Replicate& r : cell.replicates) {
    if (r.aa == aa && r.value && r.state != "diverged") values.push_back(*r.value);
  }
  return values;
}

std::string F(const char* format, double a, double b = 0, double c = 0) {
  char text[160];
  std::snprintf(text, sizeof text, format, a, b, c);
  return text;
}

}  // namespace

double Mean(const std::vector<double>& values) {
  double sum = 0;
  for (double v : values) sum += v;
  return values.empty() ? kNaN : sum / static_cast<double>(values.size());
}

double StandardDeviation(const std::vector<double>& values) {
  if (values.size() < 2) return kNaN;
  const double mean = Mean(values);
  double sum = 0;
  for (double v : values) sum += (v - mean) * (v - mean);
  return std::sqrt(sum / static_cast<double>(values.size() - 1));
}

double Median(std::vector<double> values) {
  if (values.empty()) return kNaN;
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

Interval TInterval(const std::vector<double>& values, double confidence) {
  Interval i{
      .n = static_cast<int64_t>(values.size()), .mean = Mean(values), .low = -kInf, .high = kInf};
  if (i.n < 2) return i;
  const boost::math::students_t t(static_cast<double>(i.n - 1));
  const double half = boost::math::quantile(t, 0.5 + confidence / 2) * StandardDeviation(values) /
                      std::sqrt(static_cast<double>(i.n));
  i.low = i.mean - half;
  i.high = i.mean + half;
  return i;
}

CellSummary Summarize(const Cell& cell) {
  CellSummary s;
  for (const Replicate& r : cell.replicates) {
    if (r.aa) continue;
    ++s.planned;
    if (r.state == "diverged") ++s.diverged;
  }
  const std::vector<double> values = Values(cell, false);
  s.n = static_cast<int64_t>(values.size());
  s.complete = s.planned > 0 && s.n == s.planned;
  s.median = Median(values);
  s.mean = s.complete ? Mean(values) : kNaN;
  s.sd = s.complete ? StandardDeviation(values) : kNaN;
  s.low = s.complete ? *std::min_element(values.begin(), values.end()) : kNaN;
  s.high = s.complete ? *std::max_element(values.begin(), values.end()) : kNaN;
  return s;
}

Interval PairedDifference(const Cell& cell, const Cell& reference, double confidence) {
  std::map<std::string, double> of_reference;
  for (const Replicate& r : reference.replicates) {
    if (!r.aa && r.value && r.state != "diverged") of_reference[r.seed] = *r.value;
  }
  std::vector<double> differences;
  for (const Replicate& r : cell.replicates) {
    const auto it = of_reference.find(r.seed);
    if (!r.aa && r.value && r.state != "diverged" && it != of_reference.end()) {
      differences.push_back(*r.value - it->second);
    }
  }
  return TInterval(differences, confidence);
}

AaNoise NoiseOf(const std::vector<Cell>& cells) {
  AaNoise noise{.mean_absolute = kNaN, .root_mean_square = kNaN, .largest = kNaN};
  double sum = 0, squares = 0, largest = 0;
  for (const Cell& cell : cells) {
    const CellSummary s = Summarize(cell);
    const std::vector<double> control = Values(cell, true);
    if (!s.complete || control.empty()) continue;
    const double d = Mean(control) - s.mean;
    ++noise.cells;
    sum += std::abs(d);
    squares += d * d;
    largest = std::max(largest, std::abs(d));
  }
  if (noise.cells > 0) {
    const auto n = static_cast<double>(noise.cells);
    noise.mean_absolute = sum / n;
    noise.root_mean_square = std::sqrt(squares / n);
    noise.largest = largest;
  }
  return noise;
}

Comparison CompareToBest(const std::vector<Cell>& cells, double confidence) {
  Comparison c;
  c.tied.resize(cells.size());
  c.difference.resize(cells.size());
  double lowest = kInf;
  for (size_t i = 0; i < cells.size(); ++i) {
    const CellSummary s = Summarize(cells[i]);
    if (s.complete && s.mean < lowest) {
      lowest = s.mean;
      c.best = static_cast<int64_t>(i);
    }
  }
  if (c.best < 0) return c;
  const AaNoise noise = NoiseOf(cells);
  for (size_t i = 0; i < cells.size(); ++i) {
    if (!Summarize(cells[i]).complete) continue;
    const Interval d = PairedDifference(cells[i], cells[c.best], confidence);
    c.difference[i] = d;
    c.tied[i] = static_cast<int64_t>(i) == c.best || d.n < 2 || d.contains(0) ||
                (noise.cells > 0 && d.mean <= noise.mean_absolute);
  }
  return c;
}

std::string Reading(const std::vector<Cell>& cells, const Comparison& comparison,
                    const AaNoise& noise, const std::string& value) {
  if (comparison.best < 0) return "No cell has all its replicates yet, so nothing can be compared.";
  const Cell& best = cells[comparison.best];
  const CellSummary s = Summarize(best);
  int64_t compared = 0, tied = 0, left_out = 0, worst = -1;
  for (size_t i = 0; i < cells.size(); ++i) {
    if (!Summarize(cells[i]).complete) {
      ++left_out;
      continue;
    }
    if (static_cast<int64_t>(i) == comparison.best) continue;
    ++compared;
    tied += comparison.tied[i];
    if (!comparison.tied[i] &&
        (worst < 0 || comparison.difference[i].mean > comparison.difference[worst].mean)) {
      worst = static_cast<int64_t>(i);
    }
  }
  double least = kInf, most = 0;
  for (const Cell& c : cells) {
    if (c.flops > 0) {
      least = std::min(least, c.flops);
      most = std::max(most, c.flops);
    }
  }
  std::string out = most > 0 && most / least < 1.05 ? "At equal training FLOPs, "
                                                    : "Shapes trained with different FLOPs: ";
  out += best.name + " has the lowest mean " + value + " (" + F("%.4f", s.mean) +
         ", n = " + std::to_string(s.n) + (s.n == 1 ? " seed" : " seeds") + ")";
  if (compared == 0) {
    out += ", and there is no other cell to compare it with";
  } else if (s.n < 2) {
    out += "; with one seed nothing can be told apart";
  } else if (tied == compared) {
    out += ", but none of the " + std::to_string(compared) + " other cells can be told from it";
  } else {
    out += tied > 0 ? "; " + std::to_string(tied) + " of the " + std::to_string(compared) +
                          " other cells cannot be told from it, and the other " +
                          std::to_string(compared - tied) +
                          (compared - tied == 1 ? " is" : " are") + " worse"
                    : "; all " + std::to_string(compared) + " other cells are worse";
    const Interval& d = comparison.difference[worst];
    out += ", " + cells[worst].name + " by the most" +
           F(" (%.4f, 90 %% interval %.4f to %.4f", d.mean, d.low, d.high) +
           ", paired, n = " + std::to_string(d.n) + ")";
  }
  if (noise.cells > 0)
    out += F("; the same cell measured twice differs by %.4f", noise.mean_absolute);
  if (left_out > 0)
    out += "; " + std::to_string(left_out) + " incomplete or diverged cells are not compared";
  out += ".";
  if (s.n >= 2 && s.n < 5 && compared > 0)
    out +=
        " With so few seeds the intervals are wide; these are single comparisons, not corrected "
        "for their number.";
  return out;
}

}  // namespace plumb::analysis
