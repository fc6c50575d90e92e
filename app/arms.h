// Cells of a sweep as the arms of a comparison.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "analysis/compare.h"
#include "app/tables.h"

namespace plumb::app {

struct Arms {
  std::vector<analysis::Arm> arms;  // values keyed by seed.data, the A/A control's too
  std::string axis;                 // "variant", "n_layers"
  std::string baseline;             // the arm's value
  std::vector<std::string> notes;   // what moves together
};

// Values of `by` (a field, its last word, "variants", or several with commas, for axes that move
// together) against `baseline` ("": the first in the file's order). "" as `by`: the variants, or
// the only axis that varies.
absl::StatusOr<Arms> ArmsByAxis(const SweepResults& results, const std::string& by,
                                const std::string& baseline);

}  // namespace plumb::app
