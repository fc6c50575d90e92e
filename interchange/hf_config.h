// config.json of Hugging Face transformers against the model section of a trial.
//
// Strict in both directions: a key that changes numbers and has no field of ours is refused by
// name, and so is a key nobody here has heard of; a field of ours that a layout cannot hold is
// refused by name. Both spellings of rotary settings are read: rope_parameters (5.x), and
// rope_theta with rope_scaling (4.x).
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "trainer/spec/parse.h"
#include "trainer/spec/trial_spec.h"

namespace plumb::interchange {

struct HfConfig {
  std::string model_type;
  spec::TrialSpec spec;            // resolved; data.seq_len is the layout's max_position_embeddings
  std::vector<std::string> notes;  // what was left out because training alone reads it (dropout)
};

// The path of an error is the key of config.json. `out` is written only when there is none.
std::vector<spec::SpecError> ConfigFromHf(const nlohmann::json& config, HfConfig* out);

// The config.json of a resolved spec in the layout of `model_type` ("": the first that can hold
// it), and that layout's name in "model_type". The path of an error is the field of ours that the
// layout, or the nearest of all, cannot hold. What comes out is read back by ConfigFromHf to the
// same model.
std::vector<spec::SpecError> ConfigToHf(const spec::TrialSpec& resolved,
                                        const std::string& model_type, nlohmann::json* config);

}  // namespace plumb::interchange
