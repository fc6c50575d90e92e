// The parameters of K trials in one block of memory: weights, gradients and AdamW's two moments,
// each [K, P], row k one trial; float32, or float64 for tests of the mathematics. What a layer sees
// is a strided view [K, in, out] of it; nothing is copied, forward or backward.
//
// Invariants:
//  1. Row k of a tensor is written only on behalf of trial k.
//  2. The leaves of Leaves() alias their rows of the weights, and their preset .grad the same
//  rows of the gradients, so
//     that backward accumulates in place. Gradients are zero outside of a step (AdamW zeroes what
//     it reads).
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "trainer/spec/parameter_layout.h"

namespace plumb::trainer {

// Parameters by name, each [rows, shape…]; a view, or leaves with gradients.
using ParameterView = std::map<std::string, at::Tensor>;

class Arena {
 public:
  Arena(spec::ParameterLayout layout, int64_t capacity, at::Device device,
        at::ScalarType type = at::kFloat);

  const spec::ParameterLayout& layout() const { return layout_; }
  int64_t capacity() const { return weights_.size(0); }

  // Rows [first, first + n) as plain views (no gradient): evaluation, checkpoints.
  ParameterView View(int64_t first, int64_t n) const;
  // Rows [first, first + n) as leaves with preset gradients; frozen parameters are plain views.
  const ParameterView& Leaves(int64_t first, int64_t n);

  // Draws row k from `seed`: each parameter has a stream of its own, keyed by its name, so that two
  // models that share a parameter share its values. Moments and gradients become zero. Bits depend
  // on seed, name and shape alone. `drawn`: the layout whose inits to use, equal to layout() but
  // for them (a row's init_std is its own).
  void InitRow(int64_t k, int64_t seed) { InitRow(k, seed, layout_); }
  void InitRow(int64_t k, int64_t seed, const spec::ParameterLayout& drawn);
  // Moves a row: weights, moments, gradients.
  void CopyRow(int64_t from, int64_t to);

  at::Tensor& weights() { return weights_; }  // [K, P]
  at::Tensor& grads() { return grads_; }
  at::Tensor& m() { return m_; }
  at::Tensor& v() { return v_; }

 private:
  spec::ParameterLayout layout_;
  at::Tensor weights_, grads_, m_, v_;
  std::map<std::pair<int64_t, int64_t>, ParameterView> leaves_;
};

// A parameter's place in a [K, P] tensor, as [n, shape…] from row `first`.
at::Tensor Slice(const at::Tensor& arena, const spec::Parameter& p, int64_t first, int64_t n);

}  // namespace plumb::trainer
