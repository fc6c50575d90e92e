// A block from outside the tree as its folder tells it, without Torch: block.json declares the
// parameters, build/libblock.so computes (docs/how-to/add-a-block.md).
//
// Functions throw std::runtime_error whose message names the file and the fix. Answers are kept
// until the file changes; safe from any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/spec/trial_spec.h"

namespace plumb::spec {

struct BlockParameter {
  enum class Kind { kMatrix, kGain, kBias };  // a matrix multiplies each position
  std::string name;
  Kind kind = Kind::kMatrix;
  std::vector<std::string> shape;  // expressions, see EvaluateShape
  std::string init;                // normal, output, ones, zeros, or a number
};

struct BlockManifest {
  std::string name;
  bool causal = true;
  bool batched = false;     // one call serves K rows; else a call a row
  std::string flops = "0";  // forward, per position, beside the matrices; may use T
  std::vector<BlockParameter> parameters;
};

BlockManifest ReadBlockManifest(const std::string& folder);

std::string BlockLibrary(const std::string& folder);  // the path of its shared object
// SHA-256 (hex) of block.json and the shared object: what a trial that uses the block computes.
std::string BlockDigest(const std::string& folder);

// Whole numbers, + - * / and brackets over d (width), f (MLP width), H and G (heads, key/value
// heads), h (head width), L (blocks) and T (`seq_len`). A division that leaves a rest throws.
int64_t EvaluateShape(const std::string& expression, const ModelSpec& resolved,
                      int64_t seq_len = 0);

}  // namespace plumb::spec
