#include "trainer/spec/field_table.h"
#include "trainer/spec/presets.h"

namespace plumb::spec {
namespace {

void AddShape(ModelSpec& m, Table& t) {
  t.Named("model.preset", m.preset, PresetNames(),
          {"a row of defaults; the other model fields override it", "", Identity::kResult,
           Fusion::kFree});
  t.Integer("model.n_layers", m.n_layers, 1, 4096, {"depth: transformer blocks"});
  t.Integer("model.d_model", m.d_model, 1, 1 << 20, {"width of the residual stream"});
  t.Integer("model.n_heads", m.n_heads, 0, 65536,
            {"query heads; 0: d_model / head_dim, or 4 where head_dim is 0 too"});
  t.Integer("model.n_kv_heads", m.n_kv_heads, 0, 65536,
            {"key and value heads; 0: n_heads; fewer is grouped-query attention"});
  t.Integer("model.head_dim", m.head_dim, 0, 65536, {"width of a head; 0: d_model / n_heads"});
  t.Integer("model.d_ff", m.d_ff, 0, 1 << 22,
            {"width of the MLP; 0: gated kinds 8/3 d_model rounded up to a multiple of 8, others "
             "4 d_model"});
  t.Integer("model.vocab_size", m.vocab_size, 0, 1 << 24,
            {"0: the tokenizer's, and one more (the mask) where train.objective is mlm", "tokens"});
}

void AddNorms(ModelSpec& m, Table& t) {
  t.Text("model.block_plugin", m.block_plugin,
         {"folder of a block from outside the tree (plumb block new), an absolute path; the fields "
          "of blocks then mean nothing",
          "", Identity::kExecution, Fusion::kFree});
  t.Text("model.block_digest", m.block_digest,
         {"digest of that block, set when a sweep is planned; another block is refused"});
  t.Choice("model.block", m.block,
           {"sequential: attention, then the MLP; parallel: both read the same norm"});
  t.Choice("model.parallel_norms", m.parallel_norms,
           {"parallel blocks: one norm for both branches (GPT-J) or one each (GPT-NeoX)"});
  t.Choice("model.norm", m.norm, {"kind of the norms (dyt: tanh(a x) w + b)"});
  t.Choice("model.norm_place", m.norm_place,
           {"pre: x + F(N(x)); post: N(x + F(x)); peri: x + N(F(N(x))); out: x + N(F(x))"});
  t.Real("model.norm_eps", m.norm_eps, 0, 1,
         {"added to the mean square (rmsnorm) or variance (layernorm)"});
  t.Flag("model.norm_eps_inside", m.norm_eps_inside,
         {"rmsnorm: eps under the root; false: added to the root"});
  t.Flag("model.norm_weight", m.norm_weight, {"rmsnorm has a gain"});
  t.Flag("model.norm_unit_offset", m.norm_unit_offset,
         {"rmsnorm's gain is 1 + w, w from 0 (Gemma)"});
  t.Choice("model.norm_scaling", m.norm_scaling,
           {"depth: the outputs of block l's norms are divided by sqrt(l), l from 1 (LayerNorm "
            "scaling)"});
  t.Choice("model.final_norm", m.final_norm, {"norm before the head; same: as model.norm"});
  t.Choice("model.embed_norm", m.embed_norm, {"norm between the embedding and block 0"});
  t.Real("model.dyt_alpha_attn", m.dyt_alpha_attn, 0, 100,
         {"dyt: first scalar of the norms before attention"});
  t.Real("model.dyt_alpha_other", m.dyt_alpha_other, 0, 100,
         {"dyt: first scalar of the other norms"});
  t.Flag("model.dyt_bias", m.dyt_bias, {"dyt has a bias"});
}

void AddGains(ModelSpec& m, Table& t) {
  t.Real("model.skip_attn", m.skip_attn, -10, 10,
         {"gain of the skip around attention (sequential blocks)"});
  t.Real("model.branch_attn", m.branch_attn, -10, 10, {"gain of the attention branch"});
  t.Real("model.skip_mlp", m.skip_mlp, -10, 10,
         {"gain of the skip around the MLP; of the block's one skip in parallel blocks"});
  t.Real("model.branch_mlp", m.branch_mlp, -10, 10, {"gain of the MLP branch"});
  t.Flag("model.skip_attn_trainable", m.skip_attn_trainable, {"the gain is trained"});
  t.Flag("model.branch_attn_trainable", m.branch_attn_trainable, {"the gain is trained"});
  t.Flag("model.skip_mlp_trainable", m.skip_mlp_trainable, {"the gain is trained"});
  t.Flag("model.branch_mlp_trainable", m.branch_mlp_trainable, {"the gain is trained"});
  t.Choice("model.branch_scale", m.branch_scale,
           {"depth: both branch gains are divided by sqrt(n_layers)"});
}

void AddAttention(ModelSpec& m, Table& t) {
  t.Choice("model.attn_matrix", m.attn_matrix,
           {"plain A; vskip alpha I + beta A; shaped alpha I + beta A - gamma C, C the value of A "
            "at zero scores; differential A1 - lambda A2, two heads each"});
  t.Choice("model.attn_gains", m.attn_gains, {"vskip, shaped: gains per head or per layer"});
  t.Choice("model.vp", m.vp,
           {"value and output projection: full; identity (absent); reparam alpha W0 + beta dW"});
  t.Choice("model.vp_init", m.vp_init,
           {"full: init of value and output; reparam: W0 (tied_orthogonal: output = transpose of "
            "value)"});
  t.Real("model.vp_alpha", m.vp_alpha, -10, 10, {"reparam: gain of W0"});
  t.Real("model.vp_beta", m.vp_beta, -10, 10, {"reparam: gain of dW"});
  t.Flag("model.vp_gains_trainable", m.vp_gains_trainable, {"reparam: the gains are trained"});
  t.Choice("model.first_value", m.first_value,
           {"vp identity: block 0 keeps a value alpha I + beta dW, gains 1, trained"});
  t.Choice("model.query_init", m.query_init, {"zero: all scores are 0 at init"});
  t.Choice("model.qkv", m.qkv, {"one linear for query, key and value, or one each"});
  t.Choice("model.attn_bias", m.attn_bias, {"biases of query, key, value; default: as model.bias"});
  t.Choice("model.attn_out_bias", m.attn_out_bias,
           {"bias of attention's output projection; default: as model.bias"});
  t.Choice("model.qkv_act", m.qkv_act, {"after the qkv linear, before positions (gelu: erf form)"});
  t.Choice("model.score_bias", m.score_bias,
           {"added to the scores: dense Linear(x) over key positions; mlp: two layers"});
  t.Integer("model.score_bias_max", m.score_bias_max, 0, 1 << 24,
            {"columns of the score bias; 0: the longest sequence used", "tokens"});
  t.Integer("model.score_bias_hidden", m.score_bias_hidden, 0, 1 << 20,
            {"score_bias mlp: hidden width; 0: d_model"});
  t.Choice("model.score_bias_init", m.score_bias_init, {"zero starts as the model without it"});
  t.Choice("model.qk_norm", m.qk_norm,
           {"rmsnorm of queries and keys before positions: per head, or over all heads"});
  t.Real("model.attn_scale", m.attn_scale, 0, 100,
         {"factor of the scores; 0: 1/sqrt(head_dim), under muP 1/head_dim"});
  t.Real("model.attn_softcap", m.attn_softcap, 0, 1e6, {"scores become c tanh(s / c); 0: none"});
  t.Integer("model.attn_window", m.attn_window, 0, 1 << 24,
            {"keys that a query sees, its own included; 0: all", "tokens"});
  t.Choice("model.attn_window_pattern", m.attn_window_pattern,
           {"alternate: blocks 0, 2, 4, … only (Gemma 2)"});
  t.Flag("model.causal", m.causal, {"false: every position sees all (with train.objective mlm)"});
  t.Choice("model.value_residual", m.value_residual,
           {"v = (1 - mix) v + mix v of block 0 (ResFormer)"});
  t.Real("model.value_residual_mix", m.value_residual_mix, -10, 10, {"its mix, or first mix"});
}

void AddRest(ModelSpec& m, Table& t) {
  t.Choice("model.position", m.position, {"position information"});
  t.Integer("model.max_positions", m.max_positions, 0, 1 << 24,
            {"rows of the learned position table; 0: the longest sequence used", "tokens"});
  t.Real("model.rope_base", m.rope_base, 1, 1e12, {"base of the rotary angles"});
  t.Real("model.rotary_fraction", m.rotary_fraction, 0, 1,
         {"part of each head that rotates (GPT-NeoX: 0.25)"});
  t.Choice("model.rope_style", m.rope_style,
           {"pairs are the two halves of a head, or neighbours (GPT-J)"});
  t.Choice("model.mlp", m.mlp,
           {"kind of the MLP (gelu and geglu_tanh: tanh form; gelu_erf and geglu: erf form)"});
  t.Real("model.leaky_slope", m.leaky_slope, 0, 1, {"leaky_relu: slope below 0"});
  t.Choice("model.mlp_bias", m.mlp_bias, {"biases of the MLP; default: as model.bias"});
  t.Flag("model.bias", m.bias, {"biases of the linear layers; a layernorm always has one"});
  t.Flag("model.tied_head", m.tied_head, {"the head is the token embedding"});
  t.Real("model.embed_scale", m.embed_scale, -1, 1e4, {"times the embedding; -1: sqrt(d_model)"});
  t.Flag("model.embed_scale_trainable", m.embed_scale_trainable, {"the scale is trained"});
  t.Flag("model.embed_shortcut", m.embed_shortcut,
         {"before each block x = l0 x + l1 x0, trained from (1, 0); x0 the embedding"});
  t.Real("model.logit_softcap", m.logit_softcap, 0, 1e6, {"logits become c tanh(z / c); 0: none"});
  t.Choice("model.head_init", m.head_init, {"zero: the first loss is ln V exactly"});
  t.Choice("model.residual_init", m.residual_init,
           {"outputs of the branches: depth init_std / sqrt(2 n_layers), plain init_std, zero"});
  t.Real("model.init_std", m.init_std, 0, 10,
         {"normal init of linears and embeddings", "", Identity::kResult, Fusion::kRow});
  t.Choice("model.parametrization", m.parametrization,
           {"how init, rates, decay and multipliers follow the shape"});
  t.Real("model.depth_alpha", m.depth_alpha, 0, 2, {"completep: exponent of the depth ratio"});
  t.Integer("base.d_model", m.base_d_model, 0, 1 << 20,
            {"muP, completep: the width at which the hyperparameters are stated"});
  t.Integer("base.n_layers", m.base_n_layers, 0, 4096,
            {"muP, completep: the depth at which the hyperparameters are stated"});
}

void AddRouter(RouterSpec& r, Table& t) {
  t.Choice("router.gate", r.gate,
           {"how a text's router picks a block per step and how it learns; none: no router"});
  t.Integer("router.steps", r.steps, 0, 4096, {"steps of a text through the blocks; 0: n_layers"});
  t.Choice("router.pool", r.pool,
           {"what the router reads: the mean of the first tokens, of all (sees the future), or "
            "the first token"});
  t.Integer("router.prefix", r.prefix, 1, 1 << 20,
            {"pool prefix: tokens read; only positions from here on are scored", "tokens"});
  t.Real("router.balance", r.balance, 0, 100,
         {"coefficient of the balance loss (L + 1) sum f P, mean over steps"});
  t.Choice("router.balance_scope", r.balance_scope, {"balanced at each step, or over all steps"});
  t.Choice("router.init", r.init, {"identity: step s starts on block s"});
  t.Real("router.init_std", r.init_std, 0, 10, {"random: normal init of the router's weight"});
  t.Real("router.init_bias", r.init_bias, -100, 100, {"identity: bias of block s at step s"});
  t.Flag("router.shared", r.shared, {"one router for all steps"});
  t.Real("router.temperature", r.temperature, 1e-6, 1e6, {"gumbel_st: of the logits in training"});
  t.Real("router.noise", r.noise, 0, 100,
         {"Gumbel noise on the choice in training, times this (switch, unit_st)"});
  t.Text("router.path", r.path, {"fixed: one choice a step, from 0, -1 skips: \"0,1,2,3\""});
}

}  // namespace

void AddModelFields(ModelSpec& m, Table* t) {
  AddShape(m, *t);
  AddNorms(m, *t);
  AddGains(m, *t);
  AddAttention(m, *t);
  AddRest(m, *t);
  AddRouter(m.router, *t);
}

}  // namespace plumb::spec
