#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "interchange/hf_config.h"
#include "interchange/hf_names.h"
#include "interchange/hf_tensors.h"
#include "trainer/spec/fields.h"
#include "trainer/spec/parameter_layout.h"

namespace plumb::interchange {
namespace {

using nlohmann::json;
using spec::SpecError;

constexpr char kUnreadable[] = "config.json";  // path of what makes a config none of its layout

using FieldValues = std::map<std::string, json>;  // by path, "model.d_model"

FieldValues ValuesOf(spec::TrialSpec spec) {
  FieldValues values;
  for (const spec::Field& f : spec::Fields(spec)) values[f.path] = f.get();
  return values;
}

class Writer {
 public:
  Writer(const FieldValues& values, int64_t positions) : v_(values), positions_(positions) {}

  json Config(const std::string& type) const {
    json c = {{"model_type", type},
              {"architectures", {ClassName(type)}},
              {"dtype", "float32"},
              {"vocab_size", At("vocab_size")},
              {"tie_word_embeddings", At("tied_head")},
              {"initializer_range", At("init_std")},
              {"use_cache", true},
              {"bos_token_id", nullptr},
              {"eos_token_id", nullptr},
              {"pad_token_id", nullptr}};
    if (type == "gpt2" || type == "gptj") {
      OldNames(type, &c);
    } else if (type == "gpt_neox") {
      NeoX(&c);
    } else {
      LlamaFamily(type, &c);
    }
    return c;
  }

 private:
  // What a trainer without the field computes is the field's default.
  json Or(const std::string& field, json otherwise) const {
    const auto it = v_.find("model." + field);
    return it == v_.end() ? otherwise : it->second;
  }
  const json& At(const std::string& field) const { return v_.at("model." + field); }
  // An activation of another kind of MLP is caught when the config is read back.
  std::string Activation(const std::vector<NamePair>& known) const {
    for (const NamePair& pair : known) {
      if (At("mlp") == pair.ours) return pair.theirs;
    }
    return known.front().theirs;
  }
  bool AttentionBias() const {
    const json kind = Or("attn_bias", "default");
    return kind == "default" ? At("bias").get<bool>() : kind != "none";
  }
  bool MlpBias() const {
    const json kind = Or("mlp_bias", "default");
    return kind == "default" ? At("bias").get<bool>() : kind != "none";
  }
  json Rope() const { return {{"rope_type", "default"}, {"rope_theta", At("rope_base")}}; }
  json Window() const {
    const json window = Or("attn_window", 0);
    return window == 0 ? json() : window;
  }

  void LlamaFamily(const std::string& type, json* c) const {
    json& j = *c;
    j["hidden_size"] = At("d_model");
    j["num_hidden_layers"] = At("n_layers");
    j["num_attention_heads"] = At("n_heads");
    j["num_key_value_heads"] = At("n_kv_heads");
    j["head_dim"] = At("head_dim");
    j["intermediate_size"] = At("d_ff");
    j["max_position_embeddings"] = positions_;
    j["rms_norm_eps"] = At("norm_eps");
    j["rope_parameters"] = Rope();
    j["attention_dropout"] = 0.0;
    j[type == "gemma2" ? "hidden_activation" : "hidden_act"] = Activation(GatedActivations());
    if (type == "llama" || type == "olmo2" || type == "gemma2")
      j["attention_bias"] = AttentionBias();
    if (type == "llama") j["mlp_bias"] = MlpBias();
    if (type == "mistral" || type == "phi3" || type == "gemma2") j["sliding_window"] = Window();
    if (type == "phi3") {
      j["rope_parameters"]["partial_rotary_factor"] = Or("rotary_fraction", 1.0);
      j["original_max_position_embeddings"] = positions_;
      j["resid_pdrop"] = j["embd_pdrop"] = 0.0;
    }
    if (type == "gemma2") {
      const bool alternate = Or("attn_window_pattern", "all") == "alternate";
      json types = json::array();
      for (int64_t l = 0; l < At("n_layers").get<int64_t>(); ++l) {
        const bool slides = !Window().is_null() && (!alternate || l % 2 == 0);
        types.push_back(slides ? "sliding_attention" : "full_attention");
      }
      j["layer_types"] = types;
      const auto cap = [&](const char* field) {
        const json value = Or(field, 0.0);
        return value.get<double>() == 0 ? json() : value;
      };
      j["attn_logit_softcapping"] = cap("attn_softcap");
      j["final_logit_softcapping"] = cap("logit_softcap");
      const double scale = Or("attn_scale", 0.0).get<double>();
      // transformers wants a whole number here; another scale is caught when it is read back.
      j["query_pre_attn_scalar"] =
          scale == 0 ? At("head_dim")
                     : json(std::max<int64_t>(1, std::llround(1.0 / (scale * scale))));
    }
  }
  void OldNames(const std::string& type, json* c) const {
    json& j = *c;
    j["n_embd"] = At("d_model");
    j["n_layer"] = At("n_layers");
    j["n_head"] = At("n_heads");
    j["n_inner"] = At("d_ff");
    j["n_positions"] = type == "gpt2" ? At("max_positions") : json(positions_);
    if (type == "gpt2" && j["n_positions"] == 0) j["n_positions"] = positions_;
    j["layer_norm_epsilon"] = At("norm_eps");
    j["activation_function"] = Activation(PlainActivations());
    j["resid_pdrop"] = j["embd_pdrop"] = j["attn_pdrop"] = 0.0;
    if (type == "gptj") {
      j["rotary_dim"] = std::max<int64_t>(
          1, std::llround(Or("rotary_fraction", 1.0).get<double>() * At("head_dim").get<double>()));
    }
  }
  void NeoX(json* c) const {
    json& j = *c;
    j["hidden_size"] = At("d_model");
    j["num_hidden_layers"] = At("n_layers");
    j["num_attention_heads"] = At("n_heads");
    j["intermediate_size"] = At("d_ff");
    j["max_position_embeddings"] = positions_;
    j["layer_norm_eps"] = At("norm_eps");
    j["hidden_act"] = Activation(PlainActivations());
    j["use_parallel_residual"] = Or("block", "sequential") == "parallel";
    j["attention_bias"] = AttentionBias();
    j["rope_parameters"] = Rope();
    j["rope_parameters"]["partial_rotary_factor"] = Or("rotary_fraction", 1.0);
    j["attention_dropout"] = j["hidden_dropout"] = 0.0;
  }

  const FieldValues& v_;
  const int64_t positions_;
};

// Fields of a model that say how it was drawn, or how its parameters are cut, not what it computes.
// Where there are biases shows in the parameters.
bool ComputesNothing(const std::string& path) {
  static const auto* const paths = new std::set<std::string>{
      "model.preset",          "model.init_std", "model.residual_init", "model.head_init",
      "model.query_init",      "model.vp_init",  "model.qkv",           "model.max_positions",
      "model.score_bias_init", "model.bias",     "model.attn_bias",     "model.mlp_bias"};
  return paths->count(path) > 0;
}

bool Same(const json& a, const json& b) {
  if (!a.is_number() || !b.is_number()) return a == b;
  const double x = a.get<double>(), y = b.get<double>();
  return std::abs(x - y) <= 1e-14 * std::max(std::abs(x), std::abs(y));
}

// What the layout would make another model of.
std::vector<SpecError> Differences(const spec::TrialSpec& spec, const FieldValues& values,
                                   const std::string& type, const json& config) {
  HfConfig back;
  std::vector<SpecError> errors = ConfigFromHf(config, &back);
  if (!errors.empty()) {
    for (SpecError& e : errors) e = {kUnreadable, e.path + ": " + e.message};
    return errors;
  }
  const FieldValues theirs = ValuesOf(back.spec);
  for (const auto& [path, value] : values) {
    const bool of_model = path.rfind("model.", 0) == 0 || path.rfind("router.", 0) == 0;
    if (!of_model || ComputesNothing(path) || Same(value, theirs.at(path))) continue;
    errors.push_back({path, value.dump() + " cannot be said in the layout of " + type +
                                " (it has " + theirs.at(path).dump() + " there)"});
  }
  if (!errors.empty()) return errors;
  try {
    HfTensors(type, spec.model);
  } catch (const std::invalid_argument& e) {
    return {{"model", e.what()}};
  }
  // The same parameters, but for how q, k and v are cut.
  const auto counts = [](const spec::ModelSpec& m) {
    std::map<std::string, int64_t> out;
    for (const spec::Parameter& p : spec::LayoutOf(m).parameters) {
      std::string name = p.name;
      for (const char* part : {"attn.q.", "attn.k.", "attn.v."}) {
        if (const size_t at = name.find(part); at != std::string::npos)
          name.replace(at, 7, "attn.qkv.");
      }
      out[name] += p.size();
    }
    return out;
  };
  const auto ours = counts(spec.model), other = counts(back.spec.model);
  for (const auto& [name, size] : ours) {
    if (other.count(name) == 0 || other.at(name) != size) {
      errors.push_back({"model", "the layout of " + type + " has no " + name + " of " +
                                     std::to_string(size) + " numbers"});
      break;
    }
  }
  for (const auto& [name, size] : other) {
    if (ours.count(name) == 0) {
      errors.push_back(
          {"model", "the layout of " + type + " needs " + name + ", which this model has not"});
      break;
    }
  }
  return errors;
}

}  // namespace

std::vector<SpecError> ConfigToHf(const spec::TrialSpec& resolved, const std::string& model_type,
                                  json* config) {
  const FieldValues values = ValuesOf(resolved);
  const int64_t positions = std::max(resolved.data.seq_len, resolved.eval.seq_len);
  const Writer writer(values, positions);
  std::vector<std::string> types = {"llama",  "mistral", "phi3",     "olmo2",
                                    "gemma2", "gpt2",    "gpt_neox", "gptj"};
  if (!model_type.empty()) {
    if (std::find(types.begin(), types.end(), model_type) == types.end())
      return {{"", "\"" + model_type + "\" is not a layout that Plumb writes"}};
    types = {model_type};
  }
  // The nearest is the one with the fewest differences; one whose config does not even read is far.
  std::vector<SpecError> nearest;
  size_t distance = std::numeric_limits<size_t>::max();
  for (const std::string& type : types) {
    json candidate = writer.Config(type);
    std::vector<SpecError> errors = Differences(resolved, values, type, candidate);
    if (errors.empty()) {
      *config = std::move(candidate);
      return {};
    }
    const size_t here = errors.size() + (errors.front().path == kUnreadable ? 1000 : 0);
    if (here < distance) distance = here, nearest = std::move(errors);
  }
  return nearest;
}

}  // namespace plumb::interchange
