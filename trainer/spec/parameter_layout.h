// The parameters of a model, declared without Torch: names, shapes, init, roles and places in an
// arena row.
//
// Invariants:
//  1. The planner's parameter count is the trainer's, because both are this list.
//  2. Offsets are multiples of 16 floats (64 bytes); so is `row_size`. Padding counts in
//  `row_size`, never in a count.
//  3. Names are the checkpoint format ("blocks.0.attn.q.weight"); changed only with a converter.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/spec/trial_spec.h"

namespace plumb::spec {

enum class Role { kEmbedding, kPosition, kHidden, kReadout, kGain, kBias };
const char* Name(Role role);

struct Init {
  enum class Kind { kNormal, kOnes, kZeros } kind = Kind::kNormal;
  double std = 0;  // kNormal only
};

struct Parameter {
  std::string name;
  std::vector<int64_t> shape;  // linear weights are [in, out]; y = x W
  Init init;
  Role role = Role::kHidden;
  int64_t layer = -1;  // block index; -1 outside the blocks
  int64_t offset = 0;  // in floats, into an arena row
  int64_t size() const {
    int64_t n = 1;
    for (int64_t s : shape) n *= s;
    return n;
  }
};

struct ParameterLayout {
  std::vector<Parameter> parameters;
  int64_t row_size = 0;  // floats per arena row, with padding

  const Parameter& at(const std::string& name) const;  // throws std::out_of_range
  bool contains(const std::string& name) const;
};

// The layout of a resolved model. Names, for each block l:
//   embed.weight [V, d] · position.weight [P, d] (learned) ·
//   blocks.l.attn_norm.{weight,bias} [d] · blocks.l.attn.qkv.weight [d, (H + 2G) h] (all q heads,
//   then k, then v) (+ .bias) · blocks.l.attn.out.weight [H h, d] (+ .bias) ·
//   blocks.l.mlp_norm.{weight,bias} [d] · SwiGLU: blocks.l.mlp.gate_up.weight [d, 2 f] (gate first)
//   ; GELU: blocks.l.mlp.up.weight [d, f] · blocks.l.mlp.down.weight [f, d] (+ biases) ·
//   final_norm.{weight,bias} · head.weight [d, V] (untied)
ParameterLayout LayoutOf(const ModelSpec& resolved);

}  // namespace plumb::spec
