// What the operations share: when the kernels apply, how work is cut, and preset gradients.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "trainer/ops/kernels/kernels.h"

namespace plumb::trainer::ops {

inline bool HasKernels(const at::Tensor& x) { return x.is_cpu() && x.scalar_type() == at::kFloat; }

// Positions in one partial sum. Fixed, so that sums depend neither on K nor on the thread count.
inline constexpr int64_t kChunk = 256;

// Row k of a tensor whose rows are contiguous, whatever the first stride.
inline float* Row(const at::Tensor& t, int64_t k) { return t.data_ptr<float>() + k * t.stride(0); }

// fn(k, first, n) for every chunk of every row, in parallel.
template <typename Fn>
void ForEachChunk(int64_t rows, int64_t positions, const Fn& fn) {
  int64_t chunks = (positions + kChunk - 1) / kChunk;
  at::parallel_for(0, rows * chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      int64_t first = i % chunks * kChunk;
      fn(i / chunks, first, std::min(kChunk, positions - first));
    }
  });
}

// The preset gradient of a leaf that asked for one, else an undefined tensor. A caller that finds
// one adds to it and hands autograd nothing: one pass less than returning a gradient for autograd
// to add.
inline at::Tensor PresetGrad(const at::Tensor& leaf) {
  return leaf.defined() && leaf.is_leaf() && leaf.requires_grad() ? leaf.grad() : at::Tensor();
}

// autograd::Function takes absent tensors only as empty optionals.
inline std::optional<at::Tensor> Optional(const at::Tensor& t) {
  return t.defined() ? std::optional<at::Tensor>(t) : std::nullopt;
}

// Where the per-row sums [K, d] of a backward pass go: into the preset gradient, or into a tensor
// returned to autograd.
struct GradTarget {
  explicit GradTarget(const at::Tensor& parameter) : preset(PresetGrad(parameter)) {
    sums = preset.defined()
               ? preset
               : at::zeros(parameter.sizes(), parameter.options().requires_grad(false));
  }
  at::Tensor ForAutograd() const { return preset.defined() ? at::Tensor() : sums; }
  at::Tensor preset, sums;
};

// Runs fn(k, first, n, partial) on every chunk, where partial is `width` zeroed floats of that
// chunk's own, then adds the partials to target(k) in order of position.
template <typename Fn, typename Target>
void SumOverChunks(int64_t rows, int64_t positions, int64_t width, const Fn& fn,
                   const Target& target) {
  int64_t chunks = (positions + kChunk - 1) / kChunk;
  at::Tensor partials = at::zeros({rows, chunks, width}, at::kFloat);
  float* data = partials.data_ptr<float>();
  ForEachChunk(rows, positions, [&](int64_t k, int64_t first, int64_t n) {
    fn(k, first, n, data + (k * chunks + first / kChunk) * width);
  });
  for (int64_t k = 0; k < rows; ++k) {
    for (int64_t c = 0; c < chunks; ++c) target(k, data + (k * chunks + c) * width);
  }
}

}  // namespace plumb::trainer::ops
