// What a block from outside the tree includes (docs/how-to/add-a-block.md): its forward pass as a
// function of Torch tensors. Gradients are autograd's. Built with the compiler and the LibTorch
// that Plumb was built with; kInterface grows when this file changes what it means.
#pragma once

#include <ATen/ATen.h>

#include <map>
#include <stdexcept>
#include <string>

namespace plumb::block {

inline constexpr int kInterface = 1;

// One call, for one block of K trials. Tensors are float32, or float64 when the mathematics is
// tested. Row k of the result may depend on row k alone.
struct Input {
  at::Tensor x;  // [K, B, T, d] the residual stream
  int64_t layer = 0, n_layers = 0;
  int64_t n_heads = 0, n_kv_heads = 0, head_dim = 0, d_ff = 0;
  bool causal = true;   // position t may read positions up to t alone
  at::Tensor cos, sin;  // [T, h/2] of RoPE, halves as pairs; undefined without
  std::map<std::string, at::Tensor> parameters;  // as block.json names them, each [K, shape…]

  const at::Tensor& operator[](const std::string& name) const {
    const auto it = parameters.find(name);
    if (it == parameters.end()) throw std::out_of_range("block.json declares no " + name);
    return it->second;
  }
};

}  // namespace plumb::block

// `function`: at::Tensor(const plumb::block::Input&), the new residual stream [K, B, T, d].
#define PLUMB_BLOCK(function)                                                         \
  extern "C" int PlumbBlockInterface() { return plumb::block::kInterface; }           \
  extern "C" void PlumbBlockForward(const plumb::block::Input* in, at::Tensor* out) { \
    *out = function(*in);                                                             \
  }
