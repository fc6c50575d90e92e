// Every preset, and every value of every switch of a model in some block that makes sense of it, at
// a size at which a test takes milliseconds.
#pragma once

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "trainer/spec/parse.h"
#include "trainer/spec/presets.h"

namespace plumb::trainer {

struct BlockCase {
  std::string name;
  nlohmann::json fields;  // by path; over the base of SpecOf()
};

inline void PrintTo(const BlockCase& c, std::ostream* out) { *out << c.name; }

inline std::vector<BlockCase> EveryBlock() {
  using nlohmann::json;
  std::vector<BlockCase> cases;
  for (const std::string& preset : spec::PresetNames())
    cases.push_back({"preset_" + preset, {{"model.preset", preset}, {"router.init_std", 2.0}}});
  const auto add = [&](const std::string& name, json fields) {
    cases.push_back({name, std::move(fields)});
  };
  add("parallel", {{"model.block", "parallel"}});
  add("parallel_separate", {{"model.block", "parallel"}, {"model.parallel_norms", "separate"}});
  add("layernorm", {{"model.norm", "layernorm"}});
  // DyT enlarges no small stream: its authors scale the embedding.
  add("dyt", {{"model.norm", "dyt"},
              {"model.embed_scale", 50},
              {"model.dyt_alpha_attn", 0.8},
              {"model.dyt_alpha_other", 0.2}});
  add("dyt_plain", {{"model.norm", "dyt"}, {"model.embed_scale", 50}, {"model.dyt_bias", false}});
  add("no_norm", {{"model.norm", "none"}});
  for (const char* place : {"post", "peri", "out"})
    add(std::string("place_") + place, {{"model.norm_place", place}});
  add("eps_outside", {{"model.norm_eps_inside", false}, {"model.norm_eps", 1e-3}});
  add("no_gain", {{"model.norm_weight", false}});
  add("unit_offset", {{"model.norm_unit_offset", true}});
  add("norm_scaling", {{"model.norm_scaling", "depth"}});
  for (const char* kind : {"rmsnorm", "layernorm", "none", "same"}) {
    add(std::string("final_") + kind, {{"model.norm", "layernorm"}, {"model.final_norm", kind}});
    add(std::string("embed_") + kind, {{"model.embed_norm", kind}});
  }
  add("gains", {{"model.skip_attn", 0.9},
                {"model.branch_attn", 0.5},
                {"model.skip_mlp", 0.8},
                {"model.branch_mlp", 0.7},
                {"model.branch_scale", "depth"}});
  add("trained_gains", {{"model.skip_attn_trainable", true},
                        {"model.branch_attn_trainable", true},
                        {"model.skip_mlp_trainable", true},
                        {"model.branch_mlp_trainable", true}});
  for (const char* matrix : {"vskip", "shaped"}) {
    add(matrix, {{"model.attn_matrix", matrix}});
    add(std::string(matrix) + "_layer",
        {{"model.attn_matrix", matrix}, {"model.attn_gains", "layer"}});
  }
  add("shaped_alibi", {{"model.attn_matrix", "shaped"}, {"model.position", "alibi"}});
  for (const char* vp : {"identity", "reparam"})
    add(std::string("vp_") + vp, {{"model.vp", vp}, {"model.qkv", "separate"}});
  for (const char* init : {"orthogonal", "identity", "tied_orthogonal"})
    add(std::string("vp_init_") + init, {{"model.vp", "reparam"},
                                         {"model.qkv", "separate"},
                                         {"model.vp_init", init},
                                         {"model.vp_alpha", 0.9},
                                         {"model.vp_beta", 0.3},
                                         {"model.vp_gains_trainable", true}});
  add("v_orthogonal", {{"model.qkv", "separate"}, {"model.vp_init", "orthogonal"}});
  add("first_value",
      {{"model.vp", "identity"}, {"model.qkv", "separate"}, {"model.first_value", "reparam"}});
  add("zero_query", {{"model.qkv", "separate"}, {"model.query_init", "zero"}});
  for (const char* bias : {"none", "qk", "qkv"})
    add(std::string("attn_bias_") + bias,
        {{"model.qkv", "separate"}, {"model.attn_bias", bias}, {"model.bias", true}});
  for (const char* bias : {"none", "yes"}) {
    add(std::string("out_bias_") + bias, {{"model.attn_out_bias", bias}, {"model.bias", true}});
    add(std::string("mlp_bias_") + bias, {{"model.mlp_bias", bias}, {"model.mlp", "gelu"}});
  }
  add("gelu_qkv", {{"model.qkv_act", "gelu"}, {"model.attn_bias", "qkv"}});
  add("score_bias", {{"model.score_bias", "dense"},
                     {"model.score_bias_max", 12},
                     {"model.score_bias_init", "normal"}});
  add("score_bias_mlp", {{"model.score_bias", "mlp"}, {"model.score_bias_hidden", 6}});
  for (const char* norm : {"head", "full"})
    add(std::string("qk_norm_") + norm, {{"model.qk_norm", norm}});
  add("scale", {{"model.attn_scale", 0.2}});
  add("softcap", {{"model.attn_softcap", 5}, {"model.logit_softcap", 30}});
  add("window", {{"model.attn_window", 3}});
  add("window_alternate", {{"model.attn_window", 3}, {"model.attn_window_pattern", "alternate"}});
  for (const char* kind : {"fixed", "trainable"})
    add(std::string("value_residual_") + kind,
        {{"model.value_residual", kind}, {"model.value_residual_mix", 0.3}});
  for (const char* position : {"learned", "sinusoidal", "alibi", "none"})
    add(position, {{"model.position", position}});
  add("longer_positions", {{"model.position", "learned"}, {"model.max_positions", 20}});
  add("rope", {{"model.rope_base", 500},
               {"model.rotary_fraction", 0.5},
               {"model.rope_style", "interleaved"}});
  for (const char* mlp :
       {"gelu", "geglu", "geglu_tanh", "reglu", "bilinear", "gelu_erf", "relu", "relu2", "silu"})
    add(std::string("mlp_") + mlp, {{"model.mlp", mlp}});
  add("mlp_leaky_relu", {{"model.mlp", "leaky_relu"}, {"model.leaky_slope", 0.1}});
  add("bias", {{"model.bias", true}});
  add("tied", {{"model.tied_head", true}, {"model.vocab_size", 260}});
  add("embed_scale", {{"model.embed_scale", 4}, {"model.embed_scale_trainable", true}});
  add("shortcut", {{"model.embed_shortcut", true}});
  add("zero_head", {{"model.head_init", "zero"}});
  for (const char* init : {"plain", "zero"})
    add(std::string("residual_") + init, {{"model.residual_init", init}});
  add("init_std", {{"model.init_std", 0.04}});
  for (const char* p : {"mup", "mup_repo", "completep"})
    add(p, {{"model.parametrization", p}, {"base.d_model", 8}, {"base.n_layers", 1}});
  add("alpha", {{"model.parametrization", "completep"},
                {"base.d_model", 8},
                {"base.n_layers", 1},
                {"model.depth_alpha", 0.5}});
  add("grouped", {{"model.n_heads", 4}, {"model.n_kv_heads", 1}});
  add("wide_heads",
      {{"model.head_dim", 12}, {"model.d_ff", 20}, {"model.n_layers", 3}, {"model.d_model", 20}});
  add("masked", {{"model.causal", false}, {"train.objective", "mlm"}});
  // Wide init, so that texts take different ways.
  const auto route = [&](const std::string& name, json fields) {
    if (!fields.contains("router.init")) fields["router.init_std"] = 2.0;
    add("router_" + name, fields);
  };
  for (const char* gate : {"switch", "unit_st", "st", "gumbel_st", "soft", "frozen", "random"})
    route(gate, {{"router.gate", gate}});
  route("fixed", {{"router.gate", "fixed"}, {"router.path", "1,-1,0"}, {"router.steps", 3}});
  for (const char* pool : {"full", "bos"})
    route(pool, {{"router.gate", "switch"}, {"router.pool", pool}});
  route("balance", {{"router.gate", "switch"},
                    {"router.balance", 0.01},
                    {"router.balance_scope", "joint"},
                    {"router.noise", 0.5}});
  route("identity",
        {{"router.gate", "unit_st"}, {"router.init", "identity"}, {"router.init_bias", 2}});
  route("shared", {{"router.gate", "switch"}, {"router.shared", true}, {"router.steps", 3}});
  route("tempered", {{"router.gate", "gumbel_st"}, {"router.temperature", 2}});
  return cases;
}

// d 16, 2 blocks of 2 heads, sequences of 8, bytes.
inline spec::TrialSpec SpecOf(const BlockCase& c) {
  nlohmann::json j = {{"model.n_layers", 2}, {"model.d_model", 16}, {"model.n_heads", 2},
                      {"data.seq_len", 8},   {"train.steps", 60},   {"train.batch_tokens", 32},
                      {"router.prefix", 2}};
  j.update(c.fields);
  spec::TrialSpec s;
  const auto errors = spec::ParseResolved(j.dump(), &s);
  EXPECT_TRUE(errors.empty()) << c.name << ": " << spec::Format(errors);
  return s;
}

}  // namespace plumb::trainer
