// Scores of a row on a split. The split's token stream is cut into consecutive windows of a fixed
// length; when fewer tokens are asked for than there are, evenly spread windows are taken, always
// the same ones. Separators are context, never scored; so are the positions of each window before
// Scored::from. Masks of the mlm objective are a function of the position in the split alone, the
// same for every row and step.
#pragma once

#include <cstdint>
#include <vector>

#include "data/dataset.h"
#include "trainer/bundle.h"
#include "trainer/protocol/engine.h"
#include "trainer/samples.h"

namespace plumb::trainer {

struct Score {
  double nll = 0;      // nats over the tokens scored
  int64_t tokens = 0;  // scored
  double bytes = 0;  // UTF-8 bytes of what was scored: exact for whole documents, else the split's
                     // bytes per scored token
  double loss() const { return nll / static_cast<double>(tokens); }
  double perplexity() const;
  double bits_per_byte() const;
  Score& operator+=(const Score& other);
};

// What a router did with one window, and the document its first scored position is in.
struct TextRoute {
  int64_t document = 0;
  Route route;
};

struct EvaluationPlan {
  int64_t seq_len = 0;    // inputs of a window
  int64_t tokens = 0;     // about so many in all; 0: every window
  int64_t documents = 0;  // only the first so many documents; 0: all
  Scored scored;
  const LayerSchedule* schedule = nullptr;   // another order of the blocks
  const Substitutes* substitutes = nullptr;  // blocks that do not run
  bool argmax = false;                       // of a soft router
  // Received when not null: the score of each document (where windows were chosen, of each one they
  // touch): `tokens` says how many of its tokens were scored. The way of each window.
  std::vector<DocumentScore>* document_scores = nullptr;
  std::vector<TextRoute>* routes = nullptr;
};
EvaluationPlan PlanOf(const spec::TrialSpec& resolved, int64_t tokens);

// The last window of the split may be shorter than the others; it is scored in a whole evaluation
// of a causal model alone.
Score Evaluate(const Bundle& bundle, int64_t row, const data::Shard& shard,
               const EvaluationPlan& plan);

// The same of a split, part by part: each by itself, on its own windows and its share of
// plan.tokens, so that a part's score does not depend on its neighbours and their sum is the
// split's. Documents are numbered through the split. `routes`, when not null, receives those of
// each part.
std::vector<Score> EvaluateParts(const Bundle& bundle, int64_t row, const data::Dataset& dataset,
                                 data::Split split, const EvaluationPlan& plan,
                                 std::vector<std::vector<TextRoute>>* routes = nullptr);

}  // namespace plumb::trainer
