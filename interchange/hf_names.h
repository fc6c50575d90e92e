// Words of the two sides that mean the same.
#pragma once

#include <string>
#include <vector>

namespace plumb::interchange {

struct NamePair {
  const char* theirs;
  const char* ours;
};

// hidden_act by the kind of MLP; the first of several that mean the same is the one written.
const std::vector<NamePair>& GatedActivations();
const std::vector<NamePair>& PlainActivations();

// "llama" → "LlamaForCausalLM", "LlamaModel".
std::string ClassName(const std::string& model_type);
std::string BaseClassName(const std::string& model_type);

}  // namespace plumb::interchange
