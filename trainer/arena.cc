#include "trainer/arena.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <numbers>
#include <stdexcept>

#include "trainer/counter_random.h"

namespace plumb::trainer {

at::Tensor Slice(const at::Tensor& arena, const spec::Parameter& p, int64_t first, int64_t n) {
  std::vector<int64_t> sizes = {n}, strides = {arena.stride(0)};
  sizes.insert(sizes.end(), p.shape.begin(), p.shape.end());
  int64_t stride = p.size();
  for (int64_t s : p.shape) {
    stride /= s;
    strides.push_back(stride);
  }
  return arena.as_strided(sizes, strides,
                          arena.storage_offset() + first * arena.stride(0) + p.offset);
}

Arena::Arena(spec::ParameterLayout layout, int64_t capacity, at::Device device)
    : layout_(std::move(layout)) {
  const auto options = at::TensorOptions().dtype(at::kFloat).device(device);
  const auto make = [&] { return at::zeros({capacity, layout_.row_size}, options); };
  weights_ = make(), grads_ = make(), m_ = make(), v_ = make();
}

ParameterView Arena::View(int64_t first, int64_t n) const {
  ParameterView out;
  for (const spec::Parameter& p : layout_.parameters) out[p.name] = Slice(weights_, p, first, n);
  return out;
}

const ParameterView& Arena::Leaves(int64_t n) {
  if (n == leaves_rows_) return leaves_;
  leaves_.clear();
  for (const spec::Parameter& p : layout_.parameters) {
    at::Tensor leaf = Slice(weights_, p, 0, n).detach();
    leaf.requires_grad_(true);
    leaf.mutable_grad() = Slice(grads_, p, 0, n).detach();
    leaves_[p.name] = leaf;
  }
  leaves_rows_ = n;
  return leaves_;
}

void Arena::InitRow(int64_t k, int64_t seed, const spec::ParameterLayout& drawn) {
  if (drawn.row_size != layout_.row_size)
    throw std::invalid_argument("InitRow: a layout of another shape");
  at::NoGradGuard no_grad;
  at::Tensor row = at::zeros({layout_.row_size}, at::kFloat);
  float* w = row.data_ptr<float>();
  for (const spec::Parameter& p : drawn.parameters) {
    switch (p.init.kind) {
      case spec::Init::Kind::kZeros:
        break;
      case spec::Init::Kind::kOnes:
        std::fill_n(w + p.offset, p.size(), 1.0f);
        break;
      case spec::Init::Kind::kNormal: {
        const CounterRandom random(HashOf(p.name) ^ Mix(static_cast<uint64_t>(seed)));
        for (int64_t i = 0; i < p.size(); ++i)
          w[p.offset + i] = static_cast<float>(p.init.std * random.Normal(i));
        break;
      }
    }
  }
  weights_.select(0, k).copy_(row);
  grads_.select(0, k).zero_();
  m_.select(0, k).zero_();
  v_.select(0, k).zero_();
}

void Arena::CopyRow(int64_t from, int64_t to) {
  at::NoGradGuard no_grad;
  for (at::Tensor* t : {&weights_, &grads_, &m_, &v_}) t->select(0, to).copy_(t->select(0, from));
}

}  // namespace plumb::trainer
