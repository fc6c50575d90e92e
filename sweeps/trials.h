// The trials of a cell.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sweeps/plan.h"
#include "sweeps/sweep_file.h"

namespace plumb::sweeps {

// A replicate's stages are `stages`; the first one's target is the config's steps, 1 of a noop,
// what it says of an external.
PlannedTrial TrialOf(int64_t cell, const spec::TrialSpec& resolved,
                     std::vector<PlannedStage> stages);

// The trial as replicate `replicate`, its seeds counted up by `seed`, and its key. Trials of a
// sweep of noops are told apart by the sweep's name.
PlannedTrial WithSeeds(PlannedTrial trial, int64_t replicate, int64_t seed,
                       const std::string& sweep_name);

// The stages of a replicate, without its timing.
std::vector<PlannedStage> StagesOf(const SweepFile& file);
// The cell's replicates, the first of them timed where the file asks for that.
std::vector<PlannedTrial> ReplicatesOf(const SweepFile& file, int64_t cell,
                                       const spec::TrialSpec& resolved);

// Whether it may begin from another's checkpoint, and others from its own. What is judged on its
// way, or by more than its last value, measures all of its way itself.
bool SharesTrunk(const SweepPlan& plan, const PlannedTrial& trial);
// Adds the stage that measures speed, after all training.
void AddTiming(PlannedTrial* trial);

// A/A replicate r has the base seeds plus this plus r.
constexpr int64_t kAaSeeds = 100000;

}  // namespace plumb::sweeps
