// A whole cluster under virtual time: one scenario in, what came of it out. The same scenario gives
// the same result, to the last bit of its history.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "sim/scenario.h"
#include "sim/storage.h"

namespace plumb::sim {

struct Result {
  std::string wrong;  // empty: all that must hold held
  uint64_t history = 0;
  absl::Duration end;  // when everything had ended
  int64_t steps = 0;   // things that happened
  int64_t trials_ended = 0;
  int64_t faults = 0;           // that took place
  double slot_seconds = 0;      // of trainers at work
  double seconds_computed = 0;  // of steps, at speed 1
  double seconds_kept = 0;      // of those, what is in the database in the end
  double slots = 0;
  std::map<std::string, int64_t> counts;
  // Trainers at work and stages that wait, once a `sample`.
  struct Sample {
    absl::Duration at;
    int64_t running = 0, waiting = 0, workers = 0;
  };
  std::vector<Sample> samples;
  std::vector<double> waits;  // seconds from submit to the trial's first grant
  Contents contents;
};

Result Simulate(const Scenario& scenario);

// The shortest list of faults (then fewest sweeps) with which the scenario still goes wrong, by
// leaving out halves, quarters, … and single ones; at most `tries` runs.
Scenario Shrink(const Scenario& failing, int tries = 200);

}  // namespace plumb::sim
