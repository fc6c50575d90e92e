// The forward pass of a transformer, as a function of (spec, parameters of any rows, token ids). No
// module owns a parameter: training, evaluation, probes and timing are the same code.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <vector>

#include "trainer/arena.h"
#include "trainer/spec/trial_spec.h"

namespace plumb::trainer {

// What does not depend on parameters or tokens: RoPE's tables. One per model and longest sequence.
class ForwardTables {
 public:
  ForwardTables(const spec::ModelSpec& resolved, int64_t longest, at::Device device);
  // [T, rotating width / 2] in the given type (float32 or float64); undefined without RoPE.
  at::Tensor cos(int64_t T, at::ScalarType type) const;
  at::Tensor sin(int64_t T, at::ScalarType type) const;

 private:
  at::Tensor cos_, sin_, cos64_, sin64_;
};

// Which blocks run, in order. Each step holds the blocks that get the same input, whose outputs
// (residual included) are averaged; no block: nothing happens. Default: {{0}, {1}, …}.
using LayerSchedule = std::vector<std::vector<int64_t>>;

// What a router did with one text.
struct Route {
  std::vector<int64_t> path;                       // per step the block, -1: none
  std::vector<std::vector<double>> probabilities;  // [steps][L + 1], choice 0 the skip
  int64_t evaluations = 0;                         // blocks computed for this text
};

// What runs in place of a block: the stream x becomes x weight + bias, or, where they are
// undefined, stays as it is.
struct Substitute {
  at::Tensor weight;  // [d, d], of the parameters' type
  at::Tensor bias;    // [d]
};
using Substitutes = std::map<int64_t, Substitute>;  // by block

// What a caller wants beside the logits, and what it may change.
struct Extras {
  // In.
  bool training = false;                     // a router's noise and straight-through gates
  uint64_t noise = 0;                        // key of that noise
  const LayerSchedule* schedule = nullptr;   // another order of execution; not with a router
  const Substitutes* substitutes = nullptr;  // not with a router or a schedule
  bool want_states = false;
  bool graph_of_states = false;  // they keep their gradient
  bool want_attention = false;
  int64_t attention_layer = -1;  // whose map; -1: the last block's
  bool argmax = false;           // a soft router takes the likeliest block alone
  bool features = false;         // return the normed residual stream [K, B*T, d] in place of logits
  // Out.
  // Residual stream [K, M, d]: before block 0, and after each block or, of a router, each step.
  std::vector<at::Tensor> states;
  at::Tensor attention;       // of attention_layer, after softmax: [K*B, H, T, T]
  at::Tensor balance;         // [K] balance loss, differentiable; undefined without a router
  std::vector<Route> routes;  // one a text
};

// Whether the model's rows can share one pass. Components that do not batch (the router, whose
// texts take their own paths) ask for a pass a row; the numbers are the same.
enum class Batching { kBatched, kRowLoop };
Batching BatchingOf(const spec::ModelSpec& resolved);

// How often the residual stream moves: once a block, of a routed model once a step.
inline int64_t StreamMoves(const spec::ModelSpec& m) {
  return spec::Routed(m) ? m.router.steps : m.n_layers;
}

// What the model says of a residual stream [K, M, d] as if it were the last: its final norm and
// head. → [K, M, V].
at::Tensor Readout(const spec::ModelSpec& resolved, const ForwardTables& tables,
                   const ParameterView& parameters, const at::Tensor& stream);

// ids [K, B, T] int64 → logits [K, B*T, V], in the parameters' type (float32 through fused
// operations, float64 for tests of the mathematics). A kRowLoop model takes K = 1.
at::Tensor Forward(const spec::ModelSpec& resolved, const ForwardTables& tables,
                   const ParameterView& parameters, const at::Tensor& ids,
                   Extras* extras = nullptr);

}  // namespace plumb::trainer
