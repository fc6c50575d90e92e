// What a cell's trials read of their corpus.
#pragma once

#include <string>

#include "sweeps/plan.h"
#include "trainer/spec/trial_spec.h"

namespace plumb::sweeps {

// Gives the resolved trial the corpus's digest, and the cell its tokens, parts and flags; a mix of
// a corpus of one part is dropped. Returns "" or why the trial cannot read it.
std::string UseCorpus(const CorpusInfo& corpus, spec::TrialSpec* resolved, PlannedCell* cell);

}  // namespace plumb::sweeps
