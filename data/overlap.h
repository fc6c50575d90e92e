// How much of the small splits can be found in train.
#pragma once

#include <array>

#include "data/split.h"

namespace plumb::data {

// By split, the share of its documents that have a run of 13 units (data/units.h) in common with
// train; 0 for train. 13 after the contamination analyses of Brown et al. 2020 (GPT-3), appendix C.
std::array<double, 4> Overlap13(const SplitDocuments& split);

}  // namespace plumb::data
