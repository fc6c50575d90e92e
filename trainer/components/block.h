// One transformer block, and the stream that runs through a stack of them.
#pragma once

#include "trainer/components/context.h"

namespace plumb::trainer::components {

// The residual stream, and its norm where the addition that made it could be fused with that norm.
struct Stream {
  at::Tensor x;       // [K, M, d]
  at::Tensor normed;  // undefined, or the norm `normed_by` of x
  std::string normed_by;
  at::Tensor embedding;  // x before block 0, for embedding shortcuts
};

// Runs block l. `next`: the norm that reads the result first (its name and kind), so that it can be
// fused with the last addition; "" for none.
void RunBlock(const Context& c, int64_t l, AttentionState* state, Stream* stream,
              const std::string& next, spec::NormKind next_kind);

// The norm of the stream: what is there already, or computed.
at::Tensor NormOf(const Context& c, Stream* stream, const std::string& name, spec::NormKind kind);

// Seed 000: the router's steps in place of the stack. Fills extras->routes and ->balance. K = 1.
void RunRouted(const Context& c, AttentionState* state, Stream* stream);

}  // namespace plumb::trainer::components
