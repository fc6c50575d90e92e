// What a simulated trial does: a function of its key alone, so that the database can be compared
// with it at the end, to the last point.
#pragma once

#include <string>
#include <vector>

#include "coordinator/core/events.h"
#include "domain/state.h"
#include "sim/scenario.h"

namespace plumb::sim {

enum class Fate {
  kSucceeds,
  kDiverges,      // at `fate_step`
  kInfeasible,    // at once
  kCrashes,       // its trainer dies at `fate_step`, whenever it comes there
  kOutOfMemory,   // the same, for memory
  kKillsMachine,  // the same, and its machine with it
};

struct Truth {
  int64_t target_step = 100;
  int64_t point_every = 10;
  int64_t checkpoint_every = 25;
  double seconds_per_step = 1;
  Fate fate = Fate::kSucceeds;
  int64_t fate_step = 0;
};
Truth TruthOf(const Work& work, const std::string& key, const std::string& stage);

// The value of "train/loss" there.
double ValueAt(const std::string& key, const std::string& stage, int64_t step);
std::string DigestAt(const std::string& key, const std::string& stage, int64_t step);

// The trial as a plan would give it.
core::NewTrial TrialOf(const Work& work, const std::string& key, int64_t cell_idx);

}  // namespace plumb::sim
