// What a cell's trials read of their corpus.
#pragma once

#include <string>

#include "sweeps/plan.h"
#include "trainer/spec/trial_spec.h"

namespace plumb::sweeps {

// Gives the resolved trial the corpus's digest, and the cell its tokens, parts and flags; a mix of
// a corpus of one part is dropped. Returns "" or why the trial cannot read it.
std::string UseCorpus(const CorpusInfo& corpus, spec::TrialSpec* resolved, PlannedCell* cell);

// Bytes of the corpus's files that a trainer of the cell's trials has mapped, as far as they are
// worth a reservation: the kernel takes them back where it needs them.
int64_t MappedBytes(const PlannedCell& cell, const spec::TrialSpec& resolved);

}  // namespace plumb::sweeps
