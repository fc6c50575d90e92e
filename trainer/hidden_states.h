// The residual stream of a trained row on some texts, and texts to look at it on.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "data/dataset.h"
#include "trainer/bundle.h"

namespace plumb::trainer {

// h_0, the embedding as block 0 reads it; then the stream after each block (of a routed model: each
// step), h_1 … h_S with S = StreamMoves(); last the final norm of h_S, which the head reads.
// [B * T, d] each, without gradient. ids [1, B, T] int64, on any device.
std::vector<at::Tensor> HiddenStates(const Bundle& bundle, int64_t row, const at::Tensor& ids);

// First tokens of evenly spread windows of `length` tokens of a split's stream, about `tokens` of
// them in all (0: as many as there are), always the same ones. Throws std::runtime_error where the
// split is shorter than a window.
std::vector<int64_t> SpreadWindows(const data::Shard& shard, int64_t length, int64_t tokens);

// Those windows' tokens as they are, none masked: [1, count, length] int64.
at::Tensor WindowIds(const data::Shard& shard, const std::vector<int64_t>& begins, size_t first,
                     size_t count, int64_t length);

}  // namespace plumb::trainer
