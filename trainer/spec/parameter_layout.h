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

enum class Role { kEmbedding, kPosition, kHidden, kReadout, kGain, kBias, kRouter };
const char* Name(Role role);

struct Init {
  enum class Kind {
    kNormal,  // std
    kOnes,
    kZeros,
    kConstant,     // value
    kOrthogonal,   // square; uniform over the orthogonal group (QR of a normal matrix)
    kOneHot,       // value at index `source`, 0 elsewhere
    kTransposeOf,  // of the square parameter `source`, declared before
  } kind = Kind::kNormal;
  double std = 0;
  double value = 0;
  std::string source;
};

struct Parameter {
  std::string name;
  std::vector<int64_t> shape;  // linear weights are [in, out]; y = x W
  Init init;
  Role role = Role::kHidden;
  int64_t layer = -1;     // block index; -1 outside the blocks
  bool trainable = true;  // false: a constant that is drawn once
  bool product = false;   // a matrix that each position is multiplied by: 2 FLOPs per element
  int64_t offset = 0;     // in floats, into an arena row
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

// The layout of a resolved model (names: docs/model.md, "Parameters").
ParameterLayout LayoutOf(const ModelSpec& resolved);

// Names of block l's parameters begin so.
std::string BlockName(int64_t l);
// The kind that final_norm or embed_norm stands for.
NormKind KindOf(OuterNorm v, NormKind same);
// Gain of a residual branch at the start: branch_attn or branch_mlp with branch_scale applied.
double BranchGain(const ModelSpec& resolved, double branch);

}  // namespace plumb::spec
