// What becomes of a sweep that decides as it goes: which values its cells' tuning chose, what then
// runs, and which trials go on. A function of its plan and of what its trials have shown, so that
// it comes out the same after a restart.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/contest.h"
#include "coordinator/core/events.h"
#include "store/read.h"
#include "sweeps/plan.h"

namespace plumb::coordinator {

// Whether the sweep's later trials follow from the results of earlier ones.
bool NeedsAdvice(const sweeps::SweepPlan& plan);

// The trials of one addition that Advise made; `added`: those of the additions before it. DataLoss
// for a payload that it never makes.
absl::StatusOr<std::vector<sweeps::PlannedTrial>> TrialsOf(
    const sweeps::SweepPlan& plan, const std::vector<sweeps::PlannedTrial>& added,
    const AdditionRow& addition);

// `added`: the trials of `additions`, in order. `contest` has all of them and the looks that the
// database has; `results` is that database, or a simulated one.
absl::StatusOr<core::AdviseSweep> Advise(const sweeps::SweepPlan& plan,
                                         const std::vector<sweeps::PlannedTrial>& added,
                                         const std::vector<AdditionRow>& additions, SweepId sweep,
                                         Contest& contest, store::Results& results);

}  // namespace plumb::coordinator
