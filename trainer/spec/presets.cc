#include "trainer/spec/presets.h"

#include <nlohmann/json.hpp>

namespace plumb::spec {
namespace {

using nlohmann::json;

struct Preset {
  const char* name;
  const char* source;
  json row;
};

json With(json row, const json& more) {
  row.update(more);
  return row;
}

std::vector<Preset> Rows() {
  // Seed 001, settings of the paper's repository (He & Hofmann, arXiv 2311.01906).
  const json preln = {{"model.position", "learned"},
                      {"model.tied_head", true},
                      {"model.mlp", "relu"},
                      {"model.qkv", "separate"},
                      {"model.attn_bias", "qk"},
                      {"model.norm_eps_inside", false},
                      {"model.final_norm", "layernorm"},
                      {"model.residual_init", "plain"}};
  const json skipless = With(preln, {{"model.attn_matrix", "shaped"},
                                     {"model.query_init", "zero"},
                                     {"model.skip_attn", 0},
                                     {"model.branch_attn_trainable", true},
                                     {"model.skip_mlp_trainable", true},
                                     {"model.branch_mlp", 0.1},
                                     {"model.branch_mlp_trainable", true}});
  const json sas = With(skipless, {{"model.vp", "identity"}, {"model.first_value", "reparam"}});
  const json sas_p = With(sas, {{"model.block", "parallel"},
                                {"model.skip_attn", 1},
                                {"model.skip_mlp", 0},
                                {"model.skip_mlp_trainable", false}});
  const json no_norm = {{"model.norm", "none"}, {"model.embed_norm", "layernorm"}};
  // Seed 002: lit-gpt's Llama-2 block.
  const json llama_base = {{"model.residual_init", "plain"}};
  const json routed = {{"router.gate", "switch"}, {"router.balance", 0.01}};
  return {
      {"llama", "Llama (Touvron et al. 2023), residual outputs initialised as in GPT-2",
       json::object()},
      {"gpt2",
       "GPT-2 (Radford et al. 2019)",
       {{"model.norm", "layernorm"},
        {"model.position", "learned"},
        {"model.mlp", "gelu"},
        {"model.bias", true},
        {"model.tied_head", true}}},
      {"preln", "Pre-LN baseline of He & Hofmann 2023, Eq. 1", preln},
      {"gptj_parallel", "parallel block with one norm (Wang & Komatsuzaki 2021); He & Hofmann 2023",
       With(preln, {{"model.block", "parallel"}})},
      {"vskipinit",
       "Value-SkipInit baseline of He & Hofmann 2023: shaped attention, orthogonal V, P",
       With(skipless, {{"model.vp_init", "orthogonal"}})},
      {"sas", "Simplified Attention Sub-block, He & Hofmann 2023, section 4.2", sas},
      {"sas_p", "SAS-P: parallel, He & Hofmann 2023, Eq. 7 and section 4.3", sas_p},
      {"sas_p_nonorm", "SAS-P without block norms, He & Hofmann 2023, section 4.4",
       With(sas_p, no_norm)},
      {"op", "OP block, arXiv 2405.19279: Pre-LN without norms, branches 0.2, QK-norm per head",
       With(With(preln, no_norm),
            {{"model.branch_attn", 0.2}, {"model.branch_mlp", 0.2}, {"model.qk_norm", "head"}})},
      {"llama_base", "seed 002's base: Llama-2 block of lit-gpt, normal init everywhere",
       llama_base},
      {"llama_gelu_qkv", "seed 002's model 1: GELU and bias on the fused qkv linear",
       With(llama_base, {{"model.attn_bias", "qkv"}, {"model.qkv_act", "gelu"}})},
      {"llama_sep_qkv", "seed 002's model 2: query, key and value as three linears",
       With(llama_base, {{"model.qkv", "separate"}})},
      {"llama_score_bias", "seed 002's model 3: a dense layer's output added to the scores",
       With(llama_base, {{"model.score_bias", "dense"}})},
      {"differential",
       "Differential Transformer (Ye et al. 2024, arXiv 2410.05258): a llama that subtracts maps",
       With(llama_base, {{"model.attn_matrix", "differential"}})},
      {"phi3_static", "seed 000's base: Phi-3 block (Abdin et al. 2024)", llama_base},
      {"phi3_dynamic", "seed 000: Phi-3 blocks, a router picks one per step and text",
       With(llama_base, routed)},
      {"gptneox",
       "GPT-NeoX / Pythia: parallel residual, two norms, a quarter of RoPE",
       {{"model.block", "parallel"},
        {"model.parallel_norms", "separate"},
        {"model.norm", "layernorm"},
        {"model.bias", true},
        {"model.mlp", "gelu_erf"},
        {"model.rotary_fraction", 0.25}}},
      {"olmo2",
       "OLMo 2 (2024): norms on the branches' outputs, QK-norm over the projection",
       {{"model.norm_place", "out"},
        {"model.qk_norm", "full"},
        {"model.norm_eps", 1e-6},
        {"model.residual_init", "plain"}}},
      {"gemma2_small",
       "Gemma 2 (2024): peri-norm, 1 + w, soft-caps, alternating windows",
       {{"model.norm_place", "peri"},
        {"model.norm_unit_offset", true},
        {"model.norm_eps", 1e-6},
        {"model.mlp", "geglu_tanh"},
        {"model.embed_scale", -1},
        {"model.tied_head", true},
        {"model.attn_softcap", 50},
        {"model.logit_softcap", 30},
        {"model.attn_window", 4096},
        {"model.attn_window_pattern", "alternate"},
        {"model.residual_init", "plain"}}},
      {"modded",
       "modded-nanogpt, record of 2024-11-06: relu^2, QK-norm, value residual, shortcuts",
       {{"model.mlp", "relu2"},
        {"model.qk_norm", "head"},
        {"model.norm_weight", false},
        {"model.value_residual", "trainable"},
        {"model.embed_shortcut", true},
        {"model.embed_norm", "same"},
        {"model.logit_softcap", 30},
        {"model.residual_init", "zero"},
        {"model.head_init", "zero"}}},
  };
}

const std::vector<Preset>& Presets() {
  static const auto* const presets = new std::vector<Preset>(Rows());
  return *presets;
}

}  // namespace

std::vector<std::string> PresetNames() {
  std::vector<std::string> out;
  for (const Preset& p : Presets()) out.push_back(p.name);
  return out;
}

json PresetRow(const std::string& name) {
  for (const Preset& p : Presets()) {
    if (name == p.name) return p.row;
  }
  return json::object();
}

std::string PresetSource(const std::string& name) {
  for (const Preset& p : Presets()) {
    if (name == p.name) return p.source;
  }
  return "";
}

}  // namespace plumb::spec
