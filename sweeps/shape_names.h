// Shapes by name: gpt2-medium, pythia-160m, llama2-7b, gpt2-nl24-dm512.
//
// A name is a family's size and any number of knobs, each its letters and a number: nl (blocks), dm
// (d_model), ff (d_ff), nh (heads), kv (width of a head); what no knob names stays as in the size,
// as in the names of Tay et al. 2021 (arXiv 2109.10686). A shape says nothing of the block's kind:
// that is model.preset.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace plumb::sweeps {

// model.n_layers, d_model, n_heads, n_kv_heads, head_dim, d_ff, each with its value.
// InvalidArgument names the nearest size, the knobs, or why a known shape cannot be built.
using ShapeFields = std::vector<std::pair<std::string, int64_t>>;
absl::StatusOr<ShapeFields> ShapeByName(const std::string& name);

// The sizes that can be built, in the order of their families. deepnarrow-… has the widths of a T5
// size and needs its depth: deepnarrow-small-nl24.
std::vector<std::string> ShapeNames();
// A regular expression of all names that can be built.
std::string ShapeNamePattern();

// An encoder-decoder of T5 v1.0, which this version counts and cannot build.
struct T5Shape {
  int64_t encoder_layers = 0, decoder_layers = 0;
  int64_t d_model = 0, d_ff = 0, head_dim = 0, n_heads = 0;
  int64_t vocab_size = 32128;  // SentencePiece 32,000, sentinels and padding
};
// t5-tiny, t5-efficient-small-el16-dl4: knobs nl (both depths), el, dl, dm, ff, kv, nh.
absl::StatusOr<T5Shape> T5ByName(const std::string& name);

// Each parameter's name and shape: tied embedding, RMSNorm gains, no biases, one relative-position
// table of 32 buckets for each stack (Raffel et al. 2020).
struct T5Parameter {
  std::string name;
  std::vector<int64_t> shape;
};
std::vector<T5Parameter> T5Layout(const T5Shape& shape);
int64_t CountT5(const T5Shape& shape);

}  // namespace plumb::sweeps
