// What a model reads of a window of tokens, and what of it is scored: the objective as data.
#pragma once

#include <cstdint>

#include "data/dataset.h"
#include "trainer/counter_random.h"
#include "trainer/mixed_order.h"
#include "trainer/spec/trial_spec.h"

namespace plumb::trainer {

// causal: position t is scored on token t + 1, from position `from` on.
// mlm (Devlin et al. 2019, 3.1): a share of the tokens is chosen and predicted at its own position;
// of those the model reads the mask in 80 %, a random token in 10 %, the token itself in 10 %.
struct Scored {
  bool mlm = false;
  double mask_fraction = 0;
  int64_t mask = 0;  // the token id after the tokenizer's last
  int64_t from = 0;  // earlier positions are context
  // Position t is scored on the token at t + shift().
  int64_t shift() const { return mlm ? 0 : 1; }
};
Scored ScoredOf(const spec::TrialSpec& resolved);

// tokens [T + 1] → ids [T], targets [T]; a target of -1 is not scored. Of mlm, the choices of
// position t are a function of (random, counter + t) alone.
void FillSample(const Scored& scored, const int64_t* tokens, int64_t T, const CounterRandom& random,
                uint64_t counter, int64_t* ids, int64_t* targets);

// The training batch of one row at `step` (0 for the first): ids, targets [batch, T]. A pure
// function of the spec and the corpus.
void FillBatch(const spec::TrialSpec& resolved, const data::Dataset& dataset,
               const MixedOrder& order, int64_t step, int64_t* ids, int64_t* targets);

}  // namespace plumb::trainer
