// Exact counts of a resolved spec: parameters, training FLOPs, predicted memory.
//
// FLOP convention (stated wherever a FLOP is printed): a multiply-add is 2 FLOPs; matrix products
// of the blocks and the head are counted, and the two products of attention over the full T x T
// score matrix (not halved for causality); look-ups, norms, activations, softmax, RoPE, biases,
// loss and optimizer are not; backward is twice forward. Per token: forward = 2 (sum of the
// matrices that a position is multiplied by, head included, tied or not) + 4 T H h n_layers;
// training = 3 forward.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "trainer/spec/trial_spec.h"

namespace plumb::spec {

struct ParameterCounts {
  int64_t total = 0;
  int64_t embedding =
      0;  // roles embedding, position and readout (token table, learned positions, untied head)
  int64_t non_embedding = 0;  // total - embedding
  int64_t frozen = 0;         // drawn once, never trained
  int64_t trainable = 0;      // total - frozen
  std::map<std::string, int64_t> by_role;
  friend bool operator==(const ParameterCounts&, const ParameterCounts&) = default;
};
ParameterCounts CountParameters(const ModelSpec& resolved);

// One row a component and block, in the order of the layout: parameters and forward FLOPs per
// token.
struct ComponentCost {
  std::string name;    // "attn.qkv", "attn.scores", "embed", …
  int64_t layer = -1;  // -1 outside the blocks
  int64_t parameters = 0, frozen = 0;
  int64_t flops = 0;
};
std::vector<ComponentCost> Components(const ModelSpec& resolved, int64_t seq_len);

// With a router: as planned, every step on a block (none skipped), every block tried where the gate
// is dense (st, gumbel_st, soft).
int64_t ForwardFlopsPerToken(const ModelSpec& resolved, int64_t seq_len);
int64_t TrainingFlopsPerToken(const ModelSpec& resolved, int64_t seq_len);  // 3 x forward

// Of a routed model: blocks computed for a text in training as planned above, and the forward FLOPs
// per token of one of them.
int64_t PlannedBlockEvaluations(const ModelSpec& resolved);
int64_t BlockFlopsPerToken(const ModelSpec& resolved, int64_t seq_len);

int64_t TotalTokens(const TrialSpec& resolved);  // steps * batch_tokens
double TotalTrainingFlops(
    const TrialSpec& resolved);  // tokens * FLOPs per token, evaluation not counted

// Predicted high-water mark of a trainer's memory, bytes, for `rows` rows in one bundle: a constant
// for the process, 16 bytes per parameter (weight, gradient, two moments) and what autograd keeps
// for one micro-batch. An estimate; the measured value is recorded beside it.
int64_t PredictedPeakBytes(const TrialSpec& resolved, int64_t rows);

}  // namespace plumb::spec
