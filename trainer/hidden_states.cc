#include "trainer/hidden_states.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <stdexcept>
#include <string>

namespace plumb::trainer {

std::vector<at::Tensor> HiddenStates(const Bundle& bundle, int64_t row, const at::Tensor& ids) {
  Extras extras{.want_states = true, .features = true};
  const at::Tensor normed = bundle.Logits(row, ids.to(bundle.device()), &extras);
  std::vector<at::Tensor> out;
  for (const at::Tensor& state : extras.states) out.push_back(state[0]);
  out.push_back(normed[0]);
  return out;
}

std::vector<int64_t> SpreadWindows(const data::Shard& shard, int64_t length, int64_t tokens) {
  const int64_t full = shard.tokens() / length;
  if (full == 0) {
    throw std::runtime_error("the split has " + std::to_string(shard.tokens()) +
                             " tokens, fewer than a sequence of " + std::to_string(length));
  }
  const int64_t windows =
      tokens == 0 ? full : std::clamp<int64_t>((tokens + length - 1) / length, 1, full);
  std::vector<int64_t> begins(windows);
  for (int64_t i = 0; i < windows; ++i) begins[i] = i * full / windows * length;
  return begins;
}

at::Tensor WindowIds(const data::Shard& shard, const std::vector<int64_t>& begins, size_t first,
                     size_t count, int64_t length) {
  at::Tensor ids = at::empty({1, static_cast<int64_t>(count), length}, at::kLong);
  for (size_t i = 0; i < count; ++i)
    shard.Copy(begins[first + i], length,
               ids.data_ptr<int64_t>() + static_cast<int64_t>(i) * length);
  return ids;
}

}  // namespace plumb::trainer
