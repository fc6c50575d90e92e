// A resolved model for people: its block as a picture in text, and its components with their
// counts, the formulas of these and where the component comes from. All derived from the spec's
// switches and the parameter layout; no preset has a picture of its own.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/spec/trial_spec.h"

namespace plumb::app {

// One component, equal blocks taken together.
struct ComponentRow {
  std::string name;                               // "attn.qkv"
  int64_t blocks = 0;                             // how many blocks have it so; 0: outside of them
  int64_t parameters = 0, frozen = 0, flops = 0;  // of one; FLOPs forward, per token
  // Of one: d d_model, L n_layers, H n_heads, G n_kv_heads, h head_dim, f d_ff, V vocabulary,
  // P max_positions, T seq_len. "0" where there is nothing.
  std::string parameters_formula, flops_formula;
  std::string source;
};
std::vector<ComponentRow> ComponentRows(const spec::ModelSpec& resolved, int64_t seq_len);

// The value of a letter of the formulas; throws std::out_of_range.
int64_t LetterValue(const spec::ModelSpec& resolved, int64_t seq_len, const std::string& letter);

// At most `width` columns, UTF-8, lines end with "\n".
std::string BlockPicture(const spec::ModelSpec& resolved);

}  // namespace plumb::app
