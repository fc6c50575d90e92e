// Is one arm better than another? t tests of paired replicates, with what they may claim.
//
// Two arms are compared seed by seed: replicate r of every cell sees the same data in the same
// order, so much of the noise is common and cancels in the difference. Nothing is dropped in
// silence: a value that is not finite leaves the difference without an interval.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

namespace plumb::analysis {

using BySeed = std::map<int64_t, double>;  // seed → value

// a − b. `p` is two-sided, against "no difference"; absent where the data hold no spread to judge
// by: fewer than two pairs, or pairs that all differ by the same (not 0).
struct Difference {
  double mean = 0, low = 0, high = 0;  // t interval; without one -inf and +inf
  double error = 0;                    // standard error of the mean
  double freedom = 0;                  // degrees of it
  int64_t n_a = 0, n_b = 0;            // runs; paired: both the number of pairs
  bool paired = true;
  std::optional<double> p;
  // Equal pairs: an interval that is a point, by whatever accident.
  bool SameInAll() const { return n_a >= 2 && error == 0 && low == high; }
};

// Over the seeds that both have.
Difference PairedT(const BySeed& a, const BySeed& b, double level);
// Of two independent samples of possibly unequal spread (Welch 1947).
Difference UnpairedT(const BySeed& a, const BySeed& b, double level);
// Paired where two seeds or more are shared, or where the one run that an arm has is shared; else
// unpaired.
Difference CompareArms(const BySeed& a, const BySeed& b, double level);

// One value per seed: its mean over the slices, for the seeds that every slice has. Slices that
// share a seed share its noise; a mean per seed counts it once.
BySeed MeanOverSlices(const std::vector<BySeed>& slices);

// Holm (1979): adjusted p values, in the order given. The chance of one false claim or more among
// all is at most alpha when those <= alpha are claimed, however they depend on each other. Absent
// ones make no claim and are not counted.
std::vector<std::optional<double>> Holm(const std::vector<std::optional<double>>& p);

// The largest difference, either way, inside the interval; infinite where there is none.
double LargestCompatible(const Difference& d);

// What an A/A control says: one group per cell, its replicates and those of the control together.
// Under "nothing differs but the seeds" that is one sample of the noise of a run.
struct SeedNoise {
  double sd = 0;  // of one run
  int64_t freedom = 0;
  // Two means over n_a and n_b independent runs of one and the same cell differ by less than this,
  // in `level` of all cases.
  double Floor(int64_t n_a, int64_t n_b, double level) const;
};
std::optional<SeedNoise> PoolNoise(const std::vector<std::vector<double>>& groups);

}  // namespace plumb::analysis
