// From measured runs to the prices of sweeps/predict.h.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "sweeps/predict.h"

namespace plumb::sweeps {

// What one run did and how long it took: a step of a shape, a pass, a whole training.
struct Measured {
  std::string shape;  // runs of one name are of one shape, and are left out together when the error
                      // is judged
  std::string kind;   // KindOf
  Work work{};
  double seconds = 0;  // above 0
  double weight = 1;   // of its relative error
};

// What is not size about a trial: block, activation, optimizer, arithmetic. Trials of one kind
// share a factor.
std::string KindOf(const spec::TrialSpec& resolved);

// Prices by non-negative least squares of the relative error, with one factor for each kind where
// there are several. `band`: of shapes that were left out of the fit in turn. FailedPrecondition
// where there are too few runs to say anything (fewer than three shapes).
absl::StatusOr<Prices> FitPrices(const std::string& device, int64_t threads,
                                 const std::vector<Measured>& runs);

// {"device", "threads", "band", "shapes", "seconds": {"step": …}, "kinds": {…}}; numbers read back
// bit for bit.
nlohmann::json ToJson(const Prices& prices);

}  // namespace plumb::sweeps
