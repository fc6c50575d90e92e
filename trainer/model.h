// The forward pass of a decoder-only transformer, as a function of (spec, parameters of any rows,
// token ids). No module owns a parameter: training, evaluation and timing are the same code.
#pragma once

#include <ATen/core/Tensor.h>

#include "trainer/arena.h"
#include "trainer/spec/trial_spec.h"

namespace plumb::trainer {

// What does not depend on parameters or tokens: RoPE's tables. One per model and longest sequence.
class ForwardTables {
 public:
  ForwardTables(const spec::ModelSpec& resolved, int64_t longest, at::Device device);
  at::Tensor cos(int64_t T) const;  // [T, h/2], undefined without RoPE
  at::Tensor sin(int64_t T) const;

 private:
  at::Tensor cos_, sin_;
};

// ids [K, B, T] int64 → logits [K, B*T, V]. Pre-norm blocks:
//   x ← x + Wo attention(norm(x));  x ← x + mlp(norm(x));  logits = head(norm(x))
at::Tensor Forward(const spec::ModelSpec& resolved, const ForwardTables& tables,
                   const ParameterView& parameters, const at::Tensor& ids);

}  // namespace plumb::trainer
