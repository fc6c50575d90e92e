#include <cmath>
#include <map>
#include <set>

#include "interchange/hf_config.h"
#include "interchange/hf_names.h"

namespace plumb::interchange {
namespace {

using nlohmann::json;
using spec::SpecError;

// Keys that change no logit: who made the file, how to generate, how to classify.
const std::set<std::string>& Harmless() {
  static const auto* const keys = new std::set<std::string>{"_name_or_path",
                                                            "_attn_implementation_autoset",
                                                            "_flash_attn_2_enabled",
                                                            "_commit_hash",
                                                            "architectures",
                                                            "attn_implementation",
                                                            "attention_implementation",
                                                            "attn_config",
                                                            "auto_map",
                                                            "bad_words_ids",
                                                            "begin_suppress_tokens",
                                                            "bos_token_id",
                                                            "cache_implementation",
                                                            "chunk_size_feed_forward",
                                                            "classifier_bias",
                                                            "classifier_dropout",
                                                            "decoder_start_token_id",
                                                            "diversity_penalty",
                                                            "do_sample",
                                                            "dtype",
                                                            "early_stopping",
                                                            "encoder_no_repeat_ngram_size",
                                                            "eos_token_id",
                                                            "finetuning_task",
                                                            "forced_bos_token_id",
                                                            "forced_eos_token_id",
                                                            "gradient_checkpointing",
                                                            "id2label",
                                                            "initializer_range",
                                                            "is_decoder",
                                                            "keys_to_ignore_at_inference",
                                                            "label2id",
                                                            "length_penalty",
                                                            "max_length",
                                                            "min_length",
                                                            "model_type",
                                                            "n_ctx",
                                                            "no_repeat_ngram_size",
                                                            "num_beam_groups",
                                                            "num_beams",
                                                            "num_return_sequences",
                                                            "original_max_position_embeddings",
                                                            "output_attentions",
                                                            "output_hidden_states",
                                                            "output_scores",
                                                            "pad_token_id",
                                                            "prefix",
                                                            "pretraining_tp",
                                                            "problem_type",
                                                            "reorder_and_upcast_attn",
                                                            "repetition_penalty",
                                                            "return_dict",
                                                            "return_dict_in_generate",
                                                            "scale_attn_weights_dtype",
                                                            "sep_token_id",
                                                            "summary_activation",
                                                            "summary_first_dropout",
                                                            "summary_proj_to_labels",
                                                            "summary_type",
                                                            "summary_use_proj",
                                                            "suppress_tokens",
                                                            "task_specific_params",
                                                            "temperature",
                                                            "tf_legacy_loss",
                                                            "tie_encoder_decoder",
                                                            "tokenizer_class",
                                                            "top_k",
                                                            "top_p",
                                                            "torch_dtype",
                                                            "torchscript",
                                                            "transformers_version",
                                                            "typical_p",
                                                            "unk_token_id",
                                                            "use_bfloat16",
                                                            "use_cache"};
  return *keys;
}
// Regularisers of training that Plumb does not have; at evaluation they are off there too.
const std::set<std::string>& Dropouts() {
  static const auto* const keys =
      new std::set<std::string>{"attention_dropout", "attn_pdrop",     "embd_pdrop",
                                "embedding_dropout", "hidden_dropout", "resid_pdrop"};
  return *keys;
}

std::string Listed(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& n : names) out += (out.empty() ? "" : ", ") + n;
  return out;
}

class Reader {
 public:
  explicit Reader(const json& config) : j_(config) {}
  std::vector<SpecError> errors;
  std::map<std::string, json> fields;  // of ours, by path

  void Wrong(const std::string& key, const std::string& message) {
    errors.push_back({key, message});
  }
  bool Has(const std::string& key) { return !Get(key).is_null(); }
  bool Explicit(const std::string& key) const { return j_.contains(key); }  // even as null
  // A null is an absent key.
  const json& Get(const std::string& key) {
    static const json null;
    used_.insert(key);
    const auto it = j_.find(key);
    return it == j_.end() ? null : *it;
  }
  int64_t Integer(const std::string& key, std::optional<int64_t> otherwise = std::nullopt) {
    const json& v = Get(key);
    if (v.is_null() && otherwise) return *otherwise;
    if (!v.is_number_integer() || v.get<double>() < 1 || v.get<double>() > 1e12) {
      Wrong(key, v.is_null() ? "missing" : "expected a positive whole number, got " + v.dump());
      return otherwise.value_or(1);
    }
    return v.get<int64_t>();
  }
  double Real(const std::string& key, double otherwise) {
    const json& v = Get(key);
    if (v.is_null()) return otherwise;
    if (!v.is_number()) {
      Wrong(key, "expected a number, got " + v.dump());
      return otherwise;
    }
    return v.get<double>();
  }
  bool Flag(const std::string& key, bool otherwise) {
    const json& v = Get(key);
    if (v.is_null()) return otherwise;
    if (!v.is_boolean()) {
      Wrong(key, "expected true or false, got " + v.dump());
      return otherwise;
    }
    return v.get<bool>();
  }
  std::string Text(const std::string& key, const std::string& otherwise) {
    const json& v = Get(key);
    if (v.is_null()) return otherwise;
    if (!v.is_string()) {
      Wrong(key, "expected a string, got " + v.dump());
      return otherwise;
    }
    return v.get<std::string>();
  }
  // A key that is understood only at one value.
  void Only(const std::string& key, const json& value, const std::string& otherwise_reason) {
    const json& v = Get(key);
    if (!v.is_null() && v != value) Wrong(key, v.dump() + ": " + otherwise_reason);
  }
  // Ours, where it differs from what is left out.
  template <typename T>
  void Set(const std::string& field, const T& value, const T& left_out) {
    if (value != left_out) fields["model." + field] = value;
  }
  template <typename T>
  void Set(const std::string& field, const T& value) {
    fields["model." + field] = value;
  }
  void Set(const std::string& field, const char* value) { fields["model." + field] = value; }

  // After everything else.
  std::vector<std::string> Finish() {
    std::vector<std::string> notes;
    for (const auto& [key, value] : j_.items()) {
      if (used_.count(key) > 0 || Harmless().count(key) > 0 || value.is_null()) continue;
      if (Dropouts().count(key) > 0) {
        if (value.is_number() && value.get<double>() == 0) continue;
        notes.push_back(key + " " + value.dump() + " is left out: Plumb trains without dropout");
      } else {
        Wrong(key,
              "not a key that this layout is known to have; remove it if it changes no number");
      }
    }
    return notes;
  }

 private:
  const json& j_;
  std::set<std::string> used_;
};

void Activation(Reader& r, const std::string& key, const std::string& otherwise,
                const std::vector<NamePair>& known) {
  const std::string name = r.Text(key, otherwise);
  for (const NamePair& pair : known) {
    if (name != pair.theirs) continue;
    r.Set("mlp", std::string(pair.ours));
    if (name == "leaky_relu") r.Set("leaky_slope", 0.01);
    return;
  }
  std::vector<std::string> names;
  for (const NamePair& pair : known) names.push_back(pair.theirs);
  r.Wrong(key, "\"" + name + "\" is not an activation that Plumb has here; " + Listed(names));
}

// Base and part of the head that turns; `part` is the layout's default of the latter.
void Rotary(Reader& r, double part, const char* base_key = "rope_theta",
            const char* part_key = "partial_rotary_factor") {
  double base = r.Real(base_key, 10000.0);
  part = r.Real(part_key, part);
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    const json& v = r.Get(key);
    if (v.is_null()) continue;
    if (!v.is_object()) {
      r.Wrong(key, "expected an object, got " + v.dump());
      continue;
    }
    for (const auto& [name, value] : v.items()) {
      const std::string path = std::string(key) + "." + name;
      if (name == "rope_type" || name == "type") {
        if (value != "default")
          r.Wrong(path, value.dump() + " scales the angles, which Plumb does not; only default");
      } else if (name == "rope_theta" && value.is_number()) {
        base = value.get<double>();
      } else if (name == "partial_rotary_factor" && value.is_number()) {
        part = value.get<double>();
      } else {
        r.Wrong(path, "not a rotary setting that Plumb has (rope_theta, partial_rotary_factor)");
      }
    }
  }
  r.Set("rope_base", base, 10000.0);
  r.Set("rotary_fraction", part, 1.0);
}

// A part of the head that must be all of it.
void WholeRotary(Reader& r, const std::string& type) {
  Rotary(r, 1.0);
  if (r.fields.count("model.rotary_fraction") > 0) {
    r.Wrong("partial_rotary_factor", "transformers turns whole heads in a " + type);
    r.fields.erase("model.rotary_fraction");
  }
}

void Window(Reader& r, std::optional<int64_t> window, const std::string& pattern_without_types) {
  std::string pattern = pattern_without_types;
  if (const json& types = r.Get("layer_types"); !types.is_null()) {
    size_t sliding = 0, alternating = 0;
    bool readable = types.is_array();
    if (readable) {
      for (size_t l = 0; l < types.size(); ++l) {
        const bool slides = types[l] == "sliding_attention";
        readable &= slides || types[l] == "full_attention";
        sliding += slides;
        alternating += slides == (l % 2 == 0);
      }
    }
    if (!readable || (sliding != 0 && sliding != types.size() && alternating != types.size())) {
      r.Wrong("layer_types",
              "Plumb has windows in no layer, in all, or in layers 0, 2, 4, … (sliding_attention, "
              "full_attention)");
    } else if (sliding == 0) {
      window.reset();
    } else {
      pattern = sliding == types.size() ? "all" : "alternate";
    }
  }
  if (!window) return;
  r.Set("attn_window", *window);
  r.Set("attn_window_pattern", pattern, std::string("all"));
}

void Biases(Reader& r, bool attention, bool mlp) {
  if (attention) r.Set("bias", true);
  if (attention && !mlp) r.Set("mlp_bias", "none");
  if (!attention && mlp) r.Set("mlp_bias", "yes");
}

// Width, depth and heads under the Llama family's names.
void Shape(Reader& r, std::optional<int64_t> kv_otherwise = std::nullopt) {
  const int64_t d = r.Integer("hidden_size"), heads = r.Integer("num_attention_heads");
  r.Set("d_model", d);
  r.Set("n_layers", r.Integer("num_hidden_layers"));
  r.Set("n_heads", heads);
  r.Set("n_kv_heads", r.Integer("num_key_value_heads", kv_otherwise.value_or(heads)));
  if (d % heads != 0)
    r.Wrong("num_attention_heads", "transformers wants heads that divide hidden_size");
  r.Set("head_dim", r.Integer("head_dim", std::max<int64_t>(1, d / heads)));
  r.Set("d_ff", r.Integer("intermediate_size"));
}

void LlamaFamily(Reader& r, const std::string& type) {
  const double eps_otherwise = type == "phi3" || type == "olmo2" ? 1e-5 : 1e-6;
  Shape(r, type == "mistral"  ? std::optional<int64_t>(8)
           : type == "gemma2" ? std::optional<int64_t>(4)
                              : std::nullopt);
  r.Set("norm_eps", r.Real("rms_norm_eps", eps_otherwise), 1e-5);
  r.Set("tied_head", r.Flag("tie_word_embeddings", type == "gemma2"), false);
  if (type == "gemma2") {
    // Old files have both names; hidden_activation is the one that is used.
    if (!r.Has("hidden_activation") && r.Has("hidden_act")) {
      Activation(r, "hidden_act", "", GatedActivations());
    } else {
      r.Get("hidden_act");
      Activation(r, "hidden_activation", "gelu_pytorch_tanh", GatedActivations());
    }
  } else {
    Activation(r, "hidden_act", "silu", GatedActivations());
  }
  if (type == "phi3") {
    Rotary(r, 1.0);
  } else {
    WholeRotary(r, type);
  }
  const bool has_bias = type == "llama" || type == "olmo2" || type == "gemma2";
  Biases(r, has_bias && r.Flag("attention_bias", false),
         type == "llama" && r.Flag("mlp_bias", false));
  if (type == "mistral" || type == "phi3") {
    r.Only("attention_bias", false, "transformers has no such bias in a " + type);
    r.Only("mlp_bias", false, "transformers has no such bias in a " + type);
  }
  if (type == "mistral" || type == "phi3" || type == "gemma2") {
    // Absent is the class's default; an explicit null is none.
    const bool absent = !r.Has("sliding_window") && !r.Explicit("sliding_window");
    std::optional<int64_t> window;
    if (r.Has("sliding_window")) {
      window = r.Integer("sliding_window");
    } else if (absent && type != "phi3") {
      window = 4096;
    }
    Window(r, window, type == "gemma2" ? "alternate" : "all");
  } else {
    Window(r, std::nullopt, "all");
  }
  if (type == "olmo2") {
    r.Set("norm_place", "out");
    r.Set("qk_norm", "full");
  }
  if (type == "gemma2") {
    r.Set("norm_place", "peri");
    r.Set("norm_unit_offset", true);
    r.Set("embed_scale", -1.0);
    const double scalar = r.Real("query_pre_attn_scalar", 256.0);
    if (!(scalar > 0)) r.Wrong("query_pre_attn_scalar", "expected a number above 0");
    const bool usual = r.fields.at("model.head_dim") == json(static_cast<int64_t>(scalar)) &&
                       scalar == std::floor(scalar);
    r.Set("attn_scale", usual ? 0.0 : 1.0 / std::sqrt(scalar), 0.0);
    const auto cap = [&](const char* key, double otherwise) {
      return r.Has(key) || !r.Explicit(key) ? r.Real(key, otherwise) : 0.0;
    };
    r.Set("attn_softcap", cap("attn_logit_softcapping", 50.0), 0.0);
    r.Set("logit_softcap", cap("final_logit_softcapping", 30.0), 0.0);
    r.Only("use_bidirectional_attention", false, "Plumb reads this layout as causal");
  }
}

void Gpt2(Reader& r) {
  const int64_t d = r.Integer("n_embd");
  r.Set("d_model", d);
  r.Set("n_layers", r.Integer("n_layer"));
  r.Set("n_heads", r.Integer("n_head"));
  r.Set("d_ff", r.Integer("n_inner", 4 * d));
  r.Set("norm", "layernorm");
  r.Set("norm_eps", r.Real("layer_norm_epsilon", 1e-5), 1e-5);
  r.Set("position", "learned");
  r.Set("max_positions", r.Integer("n_positions"));
  Activation(r, "activation_function", "gelu_new", PlainActivations());
  r.Set("bias", true);
  r.Set("tied_head", r.Flag("tie_word_embeddings", true), false);
  r.Only("scale_attn_by_inverse_layer_idx", false, "scores divided by the layer's number");
  r.Only("scale_attn_weights", true, "scores without the factor 1/sqrt(head width)");
  r.Only("add_cross_attention", false, "Plumb has no encoder to attend to");
}

void GptNeoX(Reader& r) {
  Shape(r);
  if (r.fields["model.n_kv_heads"] != r.fields["model.n_heads"])
    r.Wrong("num_key_value_heads", "this layout has a key and a value for every head");
  if (r.Has("head_dim") &&
      r.Integer("head_dim") * r.Integer("num_attention_heads") != r.Integer("hidden_size"))
    r.Wrong("head_dim", "this layout has hidden_size / num_attention_heads");
  r.Set("norm", "layernorm");
  r.Set("norm_eps", r.Real("layer_norm_eps", 1e-5), 1e-5);
  if (r.Flag("use_parallel_residual", true)) {
    r.Set("block", "parallel");
    r.Set("parallel_norms", "separate");
  }
  Rotary(r, 0.25, "rotary_emb_base", "rotary_pct");
  Activation(r, "hidden_act", "gelu", PlainActivations());
  Biases(r, r.Flag("attention_bias", true), true);
  r.Set("tied_head", r.Flag("tie_word_embeddings", false), false);
}

void GptJ(Reader& r) {
  const int64_t d = r.Integer("n_embd"), heads = r.Integer("n_head");
  r.Set("d_model", d);
  r.Set("n_layers", r.Integer("n_layer"));
  r.Set("n_heads", heads);
  r.Set("d_ff", r.Integer("n_inner", 4 * d));
  r.Set("norm", "layernorm");
  r.Set("norm_eps", r.Real("layer_norm_epsilon", 1e-5), 1e-5);
  r.Set("block", "parallel");
  r.Set("parallel_norms", "shared");
  r.Set("rope_style", "interleaved");
  const double width = static_cast<double>(d) / static_cast<double>(heads);
  r.Set("rotary_fraction",
        static_cast<double>(r.Integer("rotary_dim", static_cast<int64_t>(width))) / width, 1.0);
  Activation(r, "activation_function", "gelu_new", PlainActivations());
  Biases(r, false, true);
  r.Only("tie_word_embeddings", false,
         "transformers has a bias on this layout's head, which a tied head of Plumb has not");
  r.Only("scale_attn_weights", true, "scores without the factor 1/sqrt(head width)");
  r.Only("rotary", true, "positions of another kind");
}

}  // namespace

std::vector<SpecError> ConfigFromHf(const json& config, HfConfig* out) {
  if (!config.is_object()) return {{"", "config.json is not an object"}};
  Reader r(config);
  const std::string type = r.Text("model_type", "");
  if (type == "gpt2") {
    Gpt2(r);
  } else if (type == "gpt_neox") {
    GptNeoX(r);
  } else if (type == "gptj") {
    GptJ(r);
  } else if (type == "llama" || type == "mistral" || type == "phi3" || type == "olmo2" ||
             type == "gemma2") {
    LlamaFamily(r, type);
  } else {
    return {{"model_type", "\"" + type +
                               "\" is not a layout that Plumb knows; llama, mistral, phi3, gpt2, "
                               "gpt_neox, gptj, olmo2, gemma2"}};
  }
  if (const json& names = r.Get("architectures");
      names.is_array() && names.size() == 1 && names[0].is_string()) {
    const std::string name = names[0];
    if (name != ClassName(type) && name != BaseClassName(type))
      r.Wrong("architectures", name + ": only the language model " + ClassName(type) + " is read");
  }
  r.Only("is_encoder_decoder", false, "Plumb has decoders alone");
  if (r.Has("quantization_config"))
    r.Wrong("quantization_config", "quantised weights are not read; dequantise the model first");
  const int64_t vocab = r.Integer("vocab_size");
  const int64_t positions =
      r.Integer(type == "gpt2" || type == "gptj" ? "n_positions" : "max_position_embeddings", 2048);
  r.Set("vocab_size", vocab);
  if (const double std = r.Real("initializer_range", 0.02); std != 0.02) r.Set("init_std", std);
  HfConfig result{.model_type = type, .notes = r.Finish()};
  if (!r.errors.empty()) return r.errors;

  json trial = json::object();
  for (const auto& [path, value] : r.fields) trial[path] = value;
  trial["data.tokenizer"] = "ids:" + std::to_string(vocab);
  trial["data.seq_len"] = positions;
  trial["train.batch_tokens"] = positions;
  trial["train.steps"] = 1;
  std::vector<SpecError> errors = spec::Parse(trial, &result.spec);
  if (errors.empty()) errors = spec::Resolve(&result.spec);
  if (errors.empty()) *out = std::move(result);
  return errors;
}

}  // namespace plumb::interchange
