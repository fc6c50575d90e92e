// How fast a shape trains alone: K = 1, nothing else on the machine (the scheduler sees to that).
#pragma once

#include "data/dataset.h"
#include "trainer/bundle.h"
#include "trainer/mixed_order.h"
#include "trainer/spec/trial_spec.h"

namespace plumb::trainer {

struct TimingResult {
  double tokens_per_s = 0;  // from the median step
  int64_t steps = 0;        // timed
};

// Trains row 0 for about `seconds` after a few steps of warm-up. The weights are of no use
// afterwards.
TimingResult TimeTraining(Bundle& bundle, const spec::TrialSpec& spec, const data::Dataset& dataset,
                          const MixedOrder& order, double seconds);

}  // namespace plumb::trainer
