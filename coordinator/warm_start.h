// Warm starts that name a trial: which checkpoint that is, where a sweep is planned.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "coordinator/planner.h"

namespace plumb::coordinator {

// Fills in init.checkpoint and init.digest of trials that begin with the weights of another
// (init.trial), and makes their keys again. InvalidArgument: there is no such trial, its training
// has not succeeded, or its model has other tensors.
absl::Status FillInits(const std::string& db_path, std::vector<sweeps::PlannedTrial>* trials);

// The plans of `plan` with that done.
PlanFn WithWarmStarts(PlanFn plan, std::string db_path);

}  // namespace plumb::coordinator
