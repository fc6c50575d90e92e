#include "interchange/hf_names.h"

#include <map>

namespace plumb::interchange {
namespace {

std::string Stem(const std::string& model_type) {
  static const auto* const stems = new std::map<std::string, std::string>{
      {"llama", "Llama"}, {"mistral", "Mistral"},  {"phi3", "Phi3"},   {"gpt2", "GPT2"},
      {"gptj", "GPTJ"},   {"gpt_neox", "GPTNeoX"}, {"olmo2", "Olmo2"}, {"gemma2", "Gemma2"}};
  return stems->at(model_type);
}

}  // namespace

const std::vector<NamePair>& GatedActivations() {
  static const auto* const pairs =
      new std::vector<NamePair>{{"silu", "swiglu"},    {"swish", "swiglu"},
                                {"gelu", "geglu"},     {"gelu_pytorch_tanh", "geglu_tanh"},
                                {"relu", "reglu"},     {"gelu_new", "geglu_tanh"},
                                {"linear", "bilinear"}};
  return *pairs;
}

const std::vector<NamePair>& PlainActivations() {
  static const auto* const pairs = new std::vector<NamePair>{
      {"gelu_new", "gelu"}, {"gelu_pytorch_tanh", "gelu"}, {"gelu", "gelu_erf"}, {"relu", "relu"},
      {"relu2", "relu2"},   {"leaky_relu", "leaky_relu"},  {"silu", "silu"},     {"swish", "silu"}};
  return *pairs;
}

std::string ClassName(const std::string& model_type) {
  // GPT-2's and its heirs' class with the head on a language model.
  if (model_type == "gpt2") return "GPT2LMHeadModel";
  return Stem(model_type) + "ForCausalLM";
}
std::string BaseClassName(const std::string& model_type) { return Stem(model_type) + "Model"; }

}  // namespace plumb::interchange
