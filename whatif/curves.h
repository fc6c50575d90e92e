// What trials would show: a family of invented curves, or recorded ones.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sweeps/plan.h"

namespace plumb::whatif {

class Curves {
 public:
  virtual ~Curves() = default;
  // What an evaluation of the trial shows at a step, noise included. Infinite from where it has
  // diverged.
  virtual double At(const sweeps::PlannedTrial& trial, int64_t step) const = 0;
  // What the trial's configuration is worth at its end, whatever the seed: what regret is measured
  // in. Infinite where it diverges.
  virtual double Truth(const sweeps::PlannedTrial& trial) const = 0;
};

// A power law of parameters and tokens, with a best rate that falls as training goes on, so that
// curves of different rates cross; noise of seeds and of evaluations. With u the part of the steps
// that is done, N parameters without embeddings and D tokens seen, in millions:
//
//   L = 0.8 + 0.5 N^-0.2 + 1.2 (D + 0.01)^-0.25 + 0.3 q^2 + cell + point + e * crossing * (1 - u)
//   q = log10(lr / lr*),  lr* = 3e-3 N^-0.25 10^(crossing * (1 - u) + shift)
//
// `cell` and `point` are what nobody can predict of a cell and of its other tuned values, normal
// with deviation `spread`, `e` the same with deviation 0.2, and `shift`, of the cell, with 0.15;
// all of them follow from the realisation's seed. A rate more than 10^1.2 times lr* at the end
// diverges within the first fifth. A run differs from its truth by a normal deviation `seed_sd`,
// half of whose variance replicates of one number share, and each of its evaluations by `noise`.
struct Family {
  uint64_t seed = 1;
  double spread = 0.03;
  double crossing = 0.5;  // decades by which the best rate falls; 0: no curves cross but by noise
  double seed_sd = 0.01;
  double noise = 0.005;
};
std::unique_ptr<Curves> Invented(const sweeps::SweepPlan& plan, const Family& family);

// One recorded training.
struct Recording {
  std::string cell;                                // its cell's name
  std::string values;                              // of tuned fields, as of PointOf
  std::vector<std::pair<int64_t, double>> points;  // step, value; ascending
  bool diverged = false;
  bool whole = false;  // it came to its end, or diverged
};
// Names a cell's tuned values: JSON texts with commas.
std::string PointOf(const sweeps::PlannedTrial& trial);

// By trial key; a trial that was not recorded shows what another of its cell and values did.
// Between recorded steps the curve is a straight line. The truth is the mean of the last values of
// the same cell and values.
class Recorded : public Curves {
 public:
  // `plan` must outlive it.
  Recorded(const sweeps::SweepPlan& plan, std::map<std::string, Recording> by_key);
  Recorded(const Recorded&) = delete;
  bool Has(const sweeps::PlannedTrial& trial) const { return Of(trial) != nullptr; }
  double At(const sweeps::PlannedTrial& trial, int64_t step) const override;
  double Truth(const sweeps::PlannedTrial& trial) const override;

 private:
  const Recording* Of(const sweeps::PlannedTrial& trial) const;

  const sweeps::SweepPlan& plan_;
  std::map<std::string, Recording> by_key_;
  std::map<std::pair<std::string, std::string>, std::vector<const Recording*>> by_point_;
};

}  // namespace plumb::whatif
