// Rungs: the steps at which successive halving looks at its trials, and what is looked at there.
//
// Under schedule: wsd a run has its full rate until its cooldown, and a value from before that says
// little of what the run will come to: a high rate looks worse than it will be, and losses of
// different shapes cannot be compared (Hägele et al. 2024, arXiv 2405.18392). So a rung of such a
// trial is a run of its own: the same trial with the rung as its budget, cooldown and all. It is a
// trial like any other, found again by its key; and its rate is constant up to the cooldown, so the
// next rung, and the whole trial in the end, begins from its last step before that (one trunk).
// Over rungs r_1 < … < r_k = T with a part c of cooldown a trial costs T + c (r_1 + … + r_(k-1)).
//
//   rung 1   ────────╲
//   rung 2           └───────────────╲
//   whole                            └───────────────────────────╲
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sweeps/plan.h"
#include "sweeps/stop_spec.h"

namespace plumb::sweeps {

// The fractions of asha's rungs, or of the first bracket of hyperband (bracket b begins with the
// b-th of them), ascending; empty where there is neither.
std::vector<Rational> RungFractions(const StopSpec& stop);
// The first whole step at or after the fraction.
int64_t StepAt(const Rational& fraction, int64_t steps);
// Ascending, each at least 1 and below `steps`.
std::vector<int64_t> RungSteps(const std::vector<Rational>& fractions, int64_t steps);

// The rule that judges `trial`: of a tune trial that of `tune:`. nullptr: none does.
const StopSpec* StopOf(const SweepPlan& plan, const PlannedTrial& trial);

// Whether the rungs of that rule are cooled for it: it is trained under wsd, some rung comes before
// its cooldown, and neither the file says `cooled: false` nor a search chooses its points as it
// goes.
bool CoolsRungs(const SweepPlan& plan, const PlannedTrial& trial);
bool CoolsRungs(const StopSpec& stop, const PlannedTrial& trial);

// The run to step `steps` of a trial that CoolsRungs; `place`: the trial's, in its sweep. The trial
// itself, marked as its last run, where these are all of its steps.
PlannedTrial RungOf(const PlannedTrial& whole, int64_t place, int64_t steps);

// Why some rung of a trial that CoolsRungs cannot be cooled, with what to do instead; "": all can.
std::string WrongRung(const StopSpec& stop, const PlannedTrial& trial);

// What the runs to the rungs of such a trial take beyond the trial itself where it passes all of
// them, in steps; `shares`: one begins where the one before left the trunk.
int64_t StepsOfRungs(const StopSpec& stop, const PlannedTrial& trial, bool shares);

}  // namespace plumb::sweeps
