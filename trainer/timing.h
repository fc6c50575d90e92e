// How fast a shape trains alone: K = 1, nothing else on the machine (the scheduler sees to that).
#pragma once

#include "data/dataset.h"
#include "trainer/bundle.h"
#include "trainer/mixed_order.h"
#include "trainer/spec/trial_spec.h"

namespace plumb::trainer {

class Gang;

struct TimingResult {
  double tokens_per_s = 0;  // from the median step
  int64_t steps = 0;        // timed
};

// The update of a timed step: a rate of 0 is the same work, and loses no meaning however long it
// goes on.
RowUpdate TimingUpdate(const spec::TrialSpec& resolved, int64_t step);

// Trains row 0 for about `seconds` after a few steps of warm-up, with the gang's ranks where there
// is one. The weights are of no use afterwards.
TimingResult TimeTraining(Bundle& bundle, const spec::TrialSpec& spec, const data::Dataset& dataset,
                          const MixedOrder& order, double seconds, Gang* gang = nullptr);

}  // namespace plumb::trainer
