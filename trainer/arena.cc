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

Arena::Arena(spec::ParameterLayout layout, int64_t capacity, at::Device device, at::ScalarType type)
    : layout_(std::move(layout)) {
  const auto options = at::TensorOptions().dtype(type).device(device);
  const auto make = [&] { return at::zeros({capacity, layout_.row_size}, options); };
  weights_ = make(), grads_ = make(), m_ = make(), v_ = make();
}

ParameterView Arena::View(int64_t first, int64_t n) const {
  ParameterView out;
  for (const spec::Parameter& p : layout_.parameters) out[p.name] = Slice(weights_, p, first, n);
  return out;
}

const ParameterView& Arena::Leaves(int64_t first, int64_t n) {
  ParameterView& leaves = leaves_[{first, n}];
  if (!leaves.empty()) return leaves;
  for (const spec::Parameter& p : layout_.parameters) {
    at::Tensor leaf = Slice(weights_, p, first, n).detach();
    if (p.trainable) {
      leaf.requires_grad_(true);
      leaf.mutable_grad() = Slice(grads_, p, first, n).detach();
    }
    leaves[p.name] = leaf;
  }
  return leaves;
}

namespace {

// Uniform over the orthogonal group: Q of a normal matrix, with the signs that make it unique.
at::Tensor Orthogonal(int64_t n, const CounterRandom& random) {
  at::Tensor normal = at::empty({n, n}, at::kDouble);
  for (int64_t i = 0; i < n * n; ++i) normal.data_ptr<double>()[i] = random.Normal(i);
  const auto [q, r] = at::linalg_qr(normal);
  return (q * r.diagonal().sign().unsqueeze(0)).to(at::kFloat).contiguous();
}

}  // namespace

void Arena::InitRow(int64_t k, int64_t seed, const spec::ParameterLayout& drawn) {
  if (drawn.row_size != layout_.row_size)
    throw std::invalid_argument("InitRow: a layout of another shape");
  using Kind = spec::Init::Kind;
  at::NoGradGuard no_grad;
  at::Tensor row = at::zeros({layout_.row_size}, at::kFloat);
  float* w = row.data_ptr<float>();
  for (const spec::Parameter& p : drawn.parameters) {
    const CounterRandom random(HashOf(p.name) ^ Mix(static_cast<uint64_t>(seed)));
    switch (p.init.kind) {
      case Kind::kZeros:
        break;
      case Kind::kOnes:
        std::fill_n(w + p.offset, p.size(), 1.0f);
        break;
      case Kind::kConstant:
        std::fill_n(w + p.offset, p.size(), static_cast<float>(p.init.value));
        break;
      case Kind::kOneHot:
        w[p.offset + std::stoll(p.init.source)] = static_cast<float>(p.init.value);
        break;
      case Kind::kNormal:
        for (int64_t i = 0; i < p.size(); ++i)
          w[p.offset + i] = static_cast<float>(p.init.std * random.Normal(i));
        break;
      case Kind::kOrthogonal: {
        const at::Tensor q = Orthogonal(p.shape[0], random);
        std::copy_n(q.data_ptr<float>(), p.size(), w + p.offset);
        break;
      }
      case Kind::kTransposeOf: {
        const float* source = w + drawn.at(p.init.source).offset;
        const int64_t n = p.shape[0];
        for (int64_t i = 0; i < n; ++i) {
          for (int64_t j = 0; j < n; ++j) w[p.offset + i * n + j] = source[j * n + i];
        }
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
