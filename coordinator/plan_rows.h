// From a plan to the rows of the database.
#pragma once

#include <string>
#include <vector>

#include "coordinator/contest.h"
#include "coordinator/core/events.h"
#include "sweeps/plan.h"

namespace plumb::coordinator {

// `request_id` salts the keys of the A/A control, so that no other sweep shares its trials.
core::NewTrial ToNewTrial(const sweeps::PlannedTrial& trial, const std::string& request_id,
                          const std::string& labels, int64_t bundle);

// Trials [from, from + limit) of the plan's and then of the `added`, and the cells that no earlier
// trial uses. `contest` says where they pause.
core::MaterializeSlice ToSlice(const sweeps::SweepPlan& plan,
                               const std::vector<sweeps::PlannedTrial>& added,
                               const Contest& contest, SweepId sweep, const std::string& request_id,
                               int64_t from, int64_t limit);

}  // namespace plumb::coordinator
