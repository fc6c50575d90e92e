// What a plan takes of the machines that are there: each trial's seconds, memory and disk with
// where the figure is from, what finished work saves, which cells do not fit, and when all would be
// done. Pure functions of values.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "sweeps/plan.h"
#include "sweeps/predict.h"

namespace plumb::sweeps {

enum class Basis {
  kNone,        // nothing is known
  kFormula,     // exact counts and a formula or one rate
  kCalibrated,  // exact counts and prices fitted to other shapes on this device
  kMeasured,    // this very shape was measured
};
const char* Name(Basis basis);

// A prediction and the fraction it may be off by, either way.
struct Figure {
  double value = 0;
  double band = 0;
  Basis basis = Basis::kNone;
};

// What trainings of one CostKey took.
struct MeasuredShape {
  double seconds = 0;     // median, of all steps and evaluations; 0: not known
  double peak_bytes = 0;  // median; 0: not known
};

struct Machine {
  std::string name, device;
  int64_t slots = 1;
  int64_t memory_bytes = 0;         // 0: not known
  std::vector<std::string> labels;  // sorted
};

// What is known beside the plan.
struct Surroundings {
  std::vector<Prices> prices;  // of devices and threads a trial
  std::string device;  // whose prices count where a machine's are not known; "" for the first
  double flops_per_second = 0;  // of one slot, where there are no prices; 0: not known
  std::map<std::string, std::string> trials;      // that the database has: key to state
  std::map<std::string, MeasuredShape> measured;  // by CostKey
  int64_t memory_bytes = 0;       // of the device to fit on; 0: that of the largest machine
  std::vector<Machine> machines;  // that take trials now
};
// Prices of a device ("": any) for trials of so many threads; nullptr where there are none.
const Prices* PricesOf(const Surroundings& around, const std::string& device, int64_t threads);

// Of one trial on `device` ("": any).
Figure TrialSeconds(const PlannedTrial& trial, const SplitTokens& splits,
                    const Surroundings& around, const std::string& device);
Figure TrialMemory(const PlannedTrial& trial, const Surroundings& around);
// Of the stages that follow the training; those of a kind that nothing predicts count 0 and are
// named in `unknown`.
double StageSeconds(const PlannedTrial& trial, std::vector<std::string>* unknown);

// A trial to place: slots on one machine, seconds there.
struct Placing {
  int64_t slots = 1;
  double memory_bytes = 0;
  std::vector<double> seconds;  // by machine; infinite where it cannot run
};
// When the last of them ends, each begun in order as soon as a machine has room: what the scheduler
// does with nothing else to do. Infinite where one fits nowhere.
double MakeSpan(const std::vector<Placing>& trials, const std::vector<Machine>& machines);

// Why some cells do not fit, in the fewest words: "n_layers >= 32", "n_layers >= 16 and d_model >=
// 512". `rows`: each cell's numbers by name; all cells have the names of the first. Empty where no
// threshold on one or two of them parts the cells that fit from those that do not.
struct CellNumbers {
  std::vector<std::pair<std::string, double>> values;  // in the order to try
  bool fits = true;
};
std::string WhichDoNotFit(const std::vector<CellNumbers>& cells);

}  // namespace plumb::sweeps
