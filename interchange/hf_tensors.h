// The tensors of the Hugging Face layouts: one table of names per model_type.
#pragma once

#include <string>
#include <vector>

#include "interchange/tensor_map.h"
#include "trainer/spec/trial_spec.h"

namespace plumb::interchange {

// "llama", "mistral", "phi3", "gpt2", "gpt_neox", "gptj", "olmo2", "gemma2".
std::vector<std::string> HfModelTypes();

// The map between a resolved model and a layout that can express it (ConfigToHf, ConfigFromHf).
// Throws std::invalid_argument naming a parameter that has no place in the layout.
TensorMap HfTensors(const std::string& model_type, const spec::ModelSpec& resolved);

}  // namespace plumb::interchange
