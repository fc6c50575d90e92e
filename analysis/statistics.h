// What a spread over seeds carries, and what it does not. Pure functions.
//
// 1. Two cells are compared seed by seed, never mean against mean, where both have the seed.
// 2. A diverged or missing replicate is counted and never averaged away: such a cell has no mean.
// 3. With one seed there is no interval, and nothing can be told apart.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace plumb::analysis {

struct Interval {
  int64_t n = 0;
  double mean = 0;           // NaN where n = 0
  double low = 0, high = 0;  // -inf, +inf where n < 2
  bool contains(double x) const { return low <= x && x <= high; }
};

// Student's t interval of the mean of independent values.
Interval TInterval(const std::vector<double>& values, double confidence = 0.9);

double Mean(const std::vector<double>& values);               // NaN of nothing
double StandardDeviation(const std::vector<double>& values);  // n - 1; NaN below 2 values
double Median(std::vector<double> values);                    // NaN of nothing

struct Replicate {
  std::string seed;  // equal in two cells: the pair shares its random numbers
  bool aa = false;   // of the A/A control
  std::string state;
  std::optional<double> value;  // of the objective; absent: none yet, or not finite
};

struct Cell {
  int64_t id = 0;
  std::string name;
  std::vector<std::pair<std::string, std::string>>
      axes;  // path, value as JSON text; in the sweep's order
  std::vector<std::string> flags;
  std::vector<Replicate> replicates;
  // cost of one replicate
  int64_t params_total = 0, params_non_embedding = 0;
  double flops = 0, seconds = 0, solo_tokens_per_s = 0;  // NaN: not measured
};

// What the replicates outside the A/A control say.
struct CellSummary {
  int64_t n = 0;  // with a value
  int64_t planned = 0;
  int64_t diverged = 0;
  bool complete = false;  // all have a value and none diverged: only then may it be compared
  double mean = 0, sd = 0, low = 0, high = 0;  // NaN unless complete; low and high are the extremes
  double median = 0;                           // of what there is
};
CellSummary Summarize(const Cell& cell);

// cell - reference over the seeds both have.
Interval PairedDifference(const Cell& cell, const Cell& reference, double confidence = 0.9);

// Differences between a cell's mean and the mean of its A/A control: the same thing measured twice.
struct AaNoise {
  int64_t cells = 0;
  double mean_absolute = 0;  // NaN where there is no cell
  double root_mean_square = 0;
  double largest = 0;
};
AaNoise NoiseOf(const std::vector<Cell>& cells);

struct Comparison {
  int64_t best = -1;                 // index; -1: no complete cell
  std::vector<bool> tied;            // cannot be told from the best (the best itself included)
  std::vector<Interval> difference;  // to the best, paired; n = 0 where there is no pair
};
// Smaller is better. A complete cell is tied when the interval of its difference to the best
// contains 0, or its mean difference is within the A/A noise (mean absolute), or the pairs are
// fewer than two. Incomplete cells are never tied: they were not compared.
Comparison CompareToBest(const std::vector<Cell>& cells, double confidence = 0.9);

// One sentence that claims what the spread carries and no more. `value` names the objective ("test
// bits per byte").
std::string Reading(const std::vector<Cell>& cells, const Comparison& comparison,
                    const AaNoise& noise, const std::string& value);

}  // namespace plumb::analysis
