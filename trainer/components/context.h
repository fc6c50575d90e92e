// What the components of one forward pass share.
#pragma once

#include <ATen/ATen.h>

#include <string>

#include "trainer/model.h"
#include "trainer/ops/ops.h"

namespace plumb::trainer::components {

// K rows, B texts a row, T positions a text, M = B * T. The residual stream is [K, M, d].
struct Context {
  const spec::ModelSpec& m;
  const ForwardTables& tables;
  const ParameterView& parameters;
  int64_t K, B, T;
  Extras* extras;  // may be null

  const at::Tensor& At(const std::string& name) const { return parameters.at(name); }
  // Undefined where the model has no such parameter.
  at::Tensor Find(const std::string& name) const {
    const auto it = parameters.find(name);
    return it == parameters.end() ? at::Tensor() : it->second;
  }
  at::Tensor Linear(const at::Tensor& x, const std::string& name) const {
    return ops::Linear(x, At(name + ".weight"), Find(name + ".bias"));
  }
  // gain x, the gain a trained parameter [K, n] where `name` is one, else the constant.
  at::Tensor Scaled(const at::Tensor& x, const std::string& name, double constant) const {
    const at::Tensor gain = Find(name);
    if (gain.defined()) return ops::ScaleRows(x, gain);
    return constant == 1 ? x : x * constant;
  }
};

// The residual stream as it now is, for a caller who wants it.
inline void KeepState(const Context& c, const at::Tensor& x) {
  if (c.extras == nullptr || !c.extras->want_states) return;
  c.extras->states.push_back(c.extras->graph_of_states ? x : x.detach());
}

// Of the given kind, by the parameters under `name`. x [K, M, d]; kind none: x itself.
at::Tensor Norm(const Context& c, const at::Tensor& x, const std::string& name,
                spec::NormKind kind);
// A norm whose sum with a branch can be fused.
bool CanAddNorm(const Context& c, spec::NormKind kind);
ops::SumAndNorm AddNorm(const Context& c, const at::Tensor& x, const at::Tensor& branch,
                        const std::string& name, spec::NormKind kind);

// What attention carries from block to block.
struct AttentionState {
  at::Tensor first_value;  // of block 0, for value residuals
  at::Tensor mask;         // [1 or H, T, T], 0 or -inf or a bias; undefined: plain causality
  at::Tensor windowed_mask;
};
AttentionState StartAttention(const Context& c);
// Block l's attention on normed x [K, M, d] → [K, M, d], without its residual.
at::Tensor Attention(const Context& c, const at::Tensor& x, int64_t l, AttentionState* state);

at::Tensor Mlp(const Context& c, const at::Tensor& x, int64_t l);

// Block l from outside the tree, its residuals included (trainer/block_plugin.h). x [K, M, d].
at::Tensor Plugin(const Context& c, const at::Tensor& x, int64_t l);

}  // namespace plumb::trainer::components
