// Drops documents that nearly repeat an earlier one, so that none of them can be in train and in
// test.
//
// Similarity is Jaccard's over sets of 5 consecutive units (data/units.h). Candidates come from
// MinHash (Broder 1997) by one permutation in 64 bins (Li, Owen, Zhang 2012), 16 bands of 4; each
// is then verified on the full sets. A pair at 0.8 is missed as a candidate with probability below
// 0.001.
#pragma once

#include <cstdint>
#include <vector>

#include "data/sources.h"

namespace plumb::data {

inline constexpr double kNearDuplicate = 0.8;

// Keeps the order; `*dropped` counts what was removed. Documents of fewer than 5 units are kept.
std::vector<Document> WithoutNearDuplicates(std::vector<Document> documents, int64_t* dropped);

}  // namespace plumb::data
