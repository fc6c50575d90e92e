// Takes out of train what the small splits have too, so that a test score is of text that nobody
// trained on.
#pragma once

#include <cstdint>

#include "data/split.h"

namespace plumb::data {

// Units (data/units.h) in a run that train and a small split must not share: as many as
// overlap_13gram looks for, after Brown et al. 2020 (GPT-3), appendix C.
inline constexpr size_t kSharedRun = 13;

struct Cut {
  int64_t documents = 0;  // of train that lost something
  int64_t bytes = 0;      // that train lost
};

// Cuts every run of kSharedRun units that a document of tune, val or test has too out of train's
// documents, widened to whole lines. What is left between cuts are documents of their own, so that
// no run is made by joining; those of fewer than 64 bytes go too. tune, val and test stay as they
// are, also where they share text with each other. Throws DataError where nothing of train is left.
Cut CutOutOfTrain(SplitDocuments* split);

}  // namespace plumb::data
