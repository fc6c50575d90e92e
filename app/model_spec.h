// A trial's spec from a preset and a line of fields, for commands about models.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "trainer/spec/trial_spec.h"

namespace plumb::app {

// `shape`: "n_layers=4,d_model=64,router.gate=soft", names as in sweep files; "" for none. The
// trial has one step of one sequence unless it says more. The error names what is wrong.
absl::StatusOr<spec::TrialSpec> SpecOfPreset(const std::string& preset, const std::string& shape);

}  // namespace plumb::app
