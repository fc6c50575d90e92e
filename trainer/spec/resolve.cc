// Derived values and the rules that say which combinations mean something.
#include <algorithm>
#include <cmath>
#include <sstream>

#include "trainer/spec/block_manifest.h"
#include "trainer/spec/choices.h"
#include "trainer/spec/cost.h"
#include "trainer/spec/init.h"
#include "trainer/spec/mixture.h"
#include "trainer/spec/parse.h"

namespace plumb::spec {
namespace {

constexpr int64_t kMaxAttentionWidth = 1 << 22;
constexpr double kMaxTokens = 9007199254740992.0;  // 2^53

std::string str(int64_t v) { return std::to_string(v); }

class Errors {
 public:
  void Add(const char* path, const std::string& message) { errors.push_back({path, message}); }
  // Refuses the combination when `bad`.
  void If(bool bad, const char* path, const std::string& message) {
    if (bad) Add(path, message);
  }
  bool empty() const { return errors.empty(); }
  std::vector<SpecError> errors;
};

void ResolveShape(TrialSpec& s, Errors& e) {
  ModelSpec& m = s.model;
  if (m.n_heads == 0) {
    if (m.head_dim == 0) {
      m.n_heads = 4;
    } else if (m.d_model % m.head_dim == 0) {
      m.n_heads = m.d_model / m.head_dim;
    } else {
      e.Add("model.head_dim", str(m.head_dim) + " does not divide d_model " + str(m.d_model) +
                                  "; give n_heads too, or another width");
    }
  }
  if (m.head_dim == 0 && m.n_heads > 0) {
    if (m.d_model % m.n_heads == 0) {
      m.head_dim = m.d_model / m.n_heads;
    } else {
      e.Add("model.n_heads", str(m.n_heads) + " does not divide d_model " + str(m.d_model) +
                                 "; give head_dim too, or another width");
    }
  }
  if (m.n_kv_heads == 0) m.n_kv_heads = m.n_heads;
  // Keeps every count of parameters and FLOPs within 64 bits.
  if (m.n_heads * m.head_dim > kMaxAttentionWidth) {
    e.Add("model.head_dim", str(m.n_heads) + " heads of width " + str(m.head_dim) +
                                " are wider than " + str(kMaxAttentionWidth) + " together");
  }
  if (m.n_kv_heads > 0 && m.n_heads % m.n_kv_heads != 0) {
    e.Add("model.n_kv_heads", str(m.n_kv_heads) + " does not divide n_heads " + str(m.n_heads));
  }
  if (m.position == PositionKind::kRope && m.rotary_fraction == 1 && m.head_dim % 2 != 0) {
    e.Add("model.head_dim",
          "RoPE turns pairs: the head width " + str(m.head_dim) + " must be even");
  }
  if (m.d_ff == 0) {
    m.d_ff = Gated(m.mlp) ? (8 * m.d_model + 23) / 24 * 8
                          : 4 * m.d_model;  // ceil(8d/3) to a multiple of 8
  }
  const auto vocab = TokenizerVocabSize(s.data.tokenizer);
  const int64_t mask = s.train.objective == Objective::kMlm ? 1 : 0;  // one token more
  if (!vocab) {
    e.Add("data.tokenizer",
          "unknown tokenizer \"" + s.data.tokenizer + "\"; bytes, or sentencepiece:<300 or more>");
  } else if (m.vocab_size == 0) {
    m.vocab_size = *vocab + mask;
  } else if (m.vocab_size < *vocab + mask) {
    e.Add("model.vocab_size", str(m.vocab_size) + " is less than the tokenizer's " + str(*vocab) +
                                  (mask ? " and the mask" : ""));
  }
  if (s.eval.seq_len == 0) s.eval.seq_len = s.data.seq_len;
  const int64_t longest = std::max(s.data.seq_len, s.eval.seq_len);
  if (m.position == PositionKind::kLearned) {
    if (m.max_positions == 0) m.max_positions = longest;
    e.If(m.max_positions < longest, "model.max_positions",
         str(m.max_positions) + " is less than the longest sequence, " + str(longest));
  } else {
    m.max_positions = 0;
  }
  if (m.score_bias != ScoreBias::kNone) {
    if (m.score_bias_max == 0) m.score_bias_max = longest;
    e.If(m.score_bias_max < longest, "model.score_bias_max",
         "its columns are absolute key positions: " + str(m.score_bias_max) +
             " is less than the longest sequence, " + str(longest));
  }
  if (m.attn_window >= longest) m.attn_window = 0;
}

void CheckAttention(const ModelSpec& m, Errors& e) {
  const bool square = m.n_heads * m.head_dim == m.d_model && m.n_kv_heads == m.n_heads;
  e.If(m.vp == ValueProjection::kIdentity && !square, "model.vp",
       "identity needs values as wide as the model: n_heads * head_dim = d_model and no grouped "
       "heads");
  e.If(m.vp == ValueProjection::kReparam && !square, "model.vp",
       "reparam needs square value and output matrices: n_heads * head_dim = d_model and no "
       "grouped heads");
  e.If(m.vp == ValueProjection::kFull && m.vp_init == ValueInit::kIdentity, "model.vp_init",
       "identity is for vp reparam; for absent matrices say vp: identity");
  e.If(m.vp == ValueProjection::kFull && m.vp_init != ValueInit::kNormal && !square,
       "model.vp_init", "an orthogonal init needs n_heads * head_dim = d_model, no grouped heads");
  e.If(m.first_value == FirstValue::kReparam && m.vp != ValueProjection::kIdentity,
       "model.first_value", "reparam is for vp: identity");
  if (m.qkv == QkvForm::kFused) {
    e.If(m.vp != ValueProjection::kFull, "model.qkv",
         std::string("vp: ") + Name(m.vp) + " has no value in a fused linear; say qkv: separate");
    e.If(m.vp_init != ValueInit::kNormal, "model.qkv",
         "another init of the value needs qkv: separate");
    e.If(m.query_init != QueryInit::kNormal, "model.qkv", "query_init: zero needs qkv: separate");
    e.If(m.attn_bias == AttentionBias::kQk, "model.qkv",
         "biases of query and key alone need qkv: separate");
  }
  e.If(m.qkv_act != QkvActivation::kNone && m.vp != ValueProjection::kFull, "model.qkv_act",
       "acts on query, key and value; vp must be full");
  e.If(m.query_init == QueryInit::kZero && m.qk_norm != QkNorm::kNone, "model.query_init",
       "a zero query stays zero under QK-norm, its gradient scaled by 1/eps; choose one");
  e.If(m.qk_norm != QkNorm::kNone && m.parametrization != Parametrization::kSp && m.attn_scale == 0,
       "model.attn_scale", "QK-norm with scores / head_dim needs its own scale; give attn_scale");
  if (m.attn_matrix == AttentionMatrix::kDifferential) {
    e.If(m.n_heads % 2 != 0 || m.n_kv_heads != m.n_heads, "model.attn_matrix",
         "differential takes heads in pairs: n_heads even, no grouped heads");
    e.If(m.position == PositionKind::kAlibi, "model.attn_matrix",
         "differential compares two maps; ALiBi would bend them differently");
  } else if (m.attn_matrix != AttentionMatrix::kPlain) {
    const std::string name = Name(m.attn_matrix);
    e.If(m.n_kv_heads != m.n_heads, "model.attn_matrix",
         name + " adds a head's own values: no grouped heads");
    e.If(m.attn_window > 0, "model.attn_matrix", name + " is not defined with a window");
    e.If(m.attn_matrix == AttentionMatrix::kShaped && m.score_bias != ScoreBias::kNone,
         "model.attn_matrix", "shaped centres on scores of 0; no score_bias");
  }
  e.If(m.value_residual != ValueResidual::kNone && m.vp != ValueProjection::kFull,
       "model.value_residual", "mixes values; vp must be full");
  if (m.position == PositionKind::kRope) {
    const double turning = m.rotary_fraction * static_cast<double>(m.head_dim);
    e.If(m.rotary_fraction == 0, "model.rotary_fraction", "0 turns nothing; say position: none");
    e.If(m.rotary_fraction > 0 && m.rotary_fraction < 1 &&
             (turning != std::floor(turning) || static_cast<int64_t>(turning) % 2 != 0 ||
              turning < 2),
         "model.rotary_fraction",
         "RoPE turns pairs: rotary_fraction * head_dim must be even, not " +
             std::to_string(turning));
  }
  e.If(!m.causal && m.attn_window > 0, "model.attn_window", "needs causal attention");
}

// Anywhere: around the branches, before or after the stack, on queries and keys, on pairs of maps.
bool HasRmsNorm(const ModelSpec& m) {
  return m.norm == NormKind::kRmsNorm || m.final_norm == OuterNorm::kRmsNorm ||
         m.embed_norm == OuterNorm::kRmsNorm || m.qk_norm != QkNorm::kNone ||
         m.attn_matrix == AttentionMatrix::kDifferential;
}

void CheckBlock(const ModelSpec& m, Errors& e) {
  const bool rms = m.norm == NormKind::kRmsNorm;
  e.If(m.norm_unit_offset && (!rms || !m.norm_weight), "model.norm_unit_offset",
       "is for an rmsnorm with a gain");
  e.If(!m.norm_eps_inside && !HasRmsNorm(m) && m.norm != NormKind::kNone, "model.norm_eps_inside",
       "false is for rmsnorm");
  e.If(!m.norm_weight && m.norm == NormKind::kLayerNorm, "model.norm_weight",
       "a layernorm has its gain and bias");
  e.If(m.embed_norm == OuterNorm::kSame && m.norm == NormKind::kNone, "model.embed_norm",
       "same as none; say which norm");
  e.If(m.tied_head && m.head_init == ZeroOrNormal::kZero, "model.head_init",
       "a tied head is the embedding, which cannot start at zero");
  const bool sp = m.parametrization == Parametrization::kSp;
  e.If(!sp && (m.base_d_model == 0 || m.base_n_layers == 0), "base",
       std::string(Name(m.parametrization)) +
           " needs the shape at which the hyperparameters are stated: base: {d_model: …, n_layers: "
           "…}");
}

void CheckRouter(const TrialSpec& s, Errors& e) {
  const ModelSpec& m = s.model;
  if (!Routed(m)) return;
  const RouterSpec& r = m.router;
  const char* why = "which index, step or block? Not defined with a router";
  e.If(m.norm_scaling == NormScaling::kDepth, "model.norm_scaling", why);
  e.If(m.value_residual != ValueResidual::kNone, "model.value_residual", why);
  e.If(m.embed_shortcut, "model.embed_shortcut", why);
  e.If(m.first_value == FirstValue::kReparam, "model.first_value", why);
  e.If(m.norm_place == NormPlace::kPost, "model.norm_place",
       "post norms what the skip carries; the router needs x + D(x)");
  if (r.pool == RouterPool::kPrefix) {
    e.If(r.prefix >= std::min(s.data.seq_len, s.eval.seq_len), "router.prefix",
         str(r.prefix) + " tokens leave nothing to score; sequences must be longer");
    e.If(s.train.objective == Objective::kMlm, "router.pool", "prefix is for a causal objective");
  }
  e.If(s.train.ranks > 1, "train.ranks", "a router draws and balances over the whole batch; 1");
  e.If(s.execution.micro_batch > 0, "execution.micro_batch",
       "a router balances and draws over the whole batch; 0");
  e.If(r.init == RouterInit::kIdentity && r.steps > m.n_layers, "router.init",
       "identity needs a block for each step");
  if (r.gate == RouterGate::kFixed) {
    const std::vector<int64_t> path = RouterPath(r.path);
    const bool good =
        static_cast<int64_t>(path.size()) == r.steps &&
        std::all_of(path.begin(), path.end(), [&](int64_t j) { return j >= -1 && j < m.n_layers; });
    e.If(!good, "router.path",
         "fixed needs " + str(r.steps) + " choices from -1 (skip) to " + str(m.n_layers - 1) +
             ", like \"0,1,-1,2\"");
  }
  e.If(r.balance > 0 && (r.gate == RouterGate::kFrozen || r.gate == RouterGate::kRandom ||
                         r.gate == RouterGate::kFixed),
       "router.balance", std::string(Name(r.gate)) + " learns nothing to balance; 0");
}

void ResolveMixture(DataSpec& d, Errors& e) {
  e.If(!d.mix.empty() && !d.phases.empty(), "data.phases",
       "give data.mix or data.phases, not both: each phase has its own mix");
  if (d.phases.empty()) return;
  std::vector<MixPhase> phases;
  if (const std::string bad = ParsePhases(d.phases, &phases); !bad.empty()) {
    e.Add("data.phases", bad);
  } else if (phases.size() == 1) {  // no other run than that of its mix, so no other key
    d.mix = MixText(phases[0].mix);
    d.phases.clear();
  }
}

void ResolveTraining(TrialSpec& s, Errors& e) {
  TrainSpec& t = s.train;
  const ModelSpec& m = s.model;
  e.If(s.data.score_from >= std::min(s.data.seq_len, s.eval.seq_len), "data.score_from",
       str(s.data.score_from) + " leaves nothing to score of " +
           str(std::min(s.data.seq_len, s.eval.seq_len)) + " tokens");
  e.If(t.objective == Objective::kMlm && t.mask_fraction == 0, "train.mask_fraction",
       "0 leaves nothing to predict; BERT has 0.15, crammed BERT 0.25");
  if (t.batch_tokens % s.data.seq_len != 0) {
    e.Add("train.batch_tokens",
          str(t.batch_tokens) + " is not a multiple of data.seq_len " + str(s.data.seq_len));
  }
  if (const int64_t batch = t.batch_tokens / s.data.seq_len;
      t.batch_tokens % s.data.seq_len == 0 && batch % t.ranks != 0) {
    std::string fits;
    for (int64_t r = 1; r <= std::min<int64_t>(batch, 64); ++r) {
      if (batch % r == 0) fits += (fits.empty() ? "" : ", ") + str(r);
    }
    e.Add("train.ranks", str(t.ranks) + " does not divide the batch of " + str(batch) +
                             (batch == 1 ? " sequence" : " sequences") +
                             " (batch_tokens / seq_len); give one of " + fits +
                             ", or another train.batch_tokens");
  }
  e.If(Penalised(t) && !t.layer_embedding && (Routed(m) ? m.router.steps : m.n_layers) < 2,
       "train.layer_embedding", "without the embedding one layer has no neighbour; true");
  const int budgets = (t.steps > 0) + (t.tokens > 0) + (t.flops > 0) + (t.epochs > 0);
  if (budgets != 1) {
    e.Add("train", std::string(budgets == 0 ? "no budget: give one of " : "give only one of ") +
                       "train.steps, train.tokens, train.flops, train.epochs");
  } else if (t.epochs > 0) {
    e.Add("train.epochs",
          "the length of an epoch is the corpus's, which is not known here; sweeps turn it into "
          "steps, elsewhere give train.steps or train.tokens");
  }
  if (t.warmup_steps > 0 && t.warmup_fraction > 0)
    e.Add("train.warmup_steps", "give warmup_steps or warmup_fraction, not both");
  if (!e.empty()) return;

  if (t.flops > 0) {
    const double per_step = static_cast<double>(TrainingFlopsPerToken(m, s.data.seq_len)) *
                            static_cast<double>(t.batch_tokens);
    const double steps = std::round(t.flops / per_step);
    if (steps < 1) {
      e.Add("train.flops", "less than one step of " + std::to_string(per_step) +
                               " FLOPs; raise it or make batch_tokens smaller");
    } else if (steps > 1e12) {
      e.Add("train.flops", "more than 1e12 steps");
    } else {
      t.steps = static_cast<int64_t>(steps);
    }
  } else if (t.tokens > 0) {
    t.steps = std::max<int64_t>(1, (t.tokens + t.batch_tokens / 2) / t.batch_tokens);
  }
  t.flops = 0, t.tokens = 0;
  if (t.warmup_fraction > 0 && e.empty()) {
    t.warmup_steps =
        static_cast<int64_t>(std::round(t.warmup_fraction * static_cast<double>(t.steps)));
    t.warmup_fraction = 0;
  }
  if (static_cast<double>(t.steps) * static_cast<double>(t.batch_tokens) > kMaxTokens) {
    e.Add("train",
          str(t.steps) + " steps of " + str(t.batch_tokens) + " tokens are more than 2^53 tokens");
  }
  if (t.warmup_steps > t.steps)
    e.Add("train.warmup_steps",
          str(t.warmup_steps) + " is more than the " + str(t.steps) + " steps");
}

// A block from outside: there, whole, as it was planned, and of shapes that exist.
void ResolvePlugin(TrialSpec& s, Errors& e) {
  ModelSpec& m = s.model;
  if (m.block_plugin.empty()) {
    e.If(!m.block_digest.empty(), "model.block_digest", "of no block; give block_plugin too");
    return;
  }
  try {
    if (m.block_plugin.front() != '/')
      throw std::runtime_error("give an absolute path: trials run in other folders");
    const BlockManifest manifest = ReadBlockManifest(m.block_plugin);
    const std::string digest = BlockDigest(m.block_plugin);
    if (m.block_digest.empty()) m.block_digest = digest;
    if (m.block_digest != digest) {
      throw std::runtime_error(m.block_plugin + " has changed: its digest is " + digest +
                               ", the trial's " + m.block_digest +
                               "; put the old one back, or plan the sweep again");
    }
    if (!manifest.causal && m.causal)
      throw std::runtime_error(manifest.name + " is not causal; say train.objective: mlm");
    if (Routed(m)) throw std::runtime_error("not defined with a router");
    for (const BlockParameter& p : manifest.parameters) {
      for (const std::string& size : p.shape) {
        const int64_t n = EvaluateShape(size, m);
        if (n < 1 || n > kMaxAttentionWidth)
          throw std::runtime_error(p.name + ": \"" + size + "\" is " + str(n));
      }
    }
    if (EvaluateShape(manifest.flops, m, s.data.seq_len) < 0)
      throw std::runtime_error("flops: fewer than none");
  } catch (const std::exception& error) {
    e.Add("model.block_plugin", error.what());
  }
}

// Of the model around a block from outside, and of what the block is told; the rest back to the
// defaults, so that it never splits a key.
void DropBlock(ModelSpec& m) {
  ModelSpec kept;
  const auto keep = [&](auto... fields) { ((kept.*fields = m.*fields), ...); };
  using M = ModelSpec;
  keep(&M::preset, &M::n_layers, &M::d_model, &M::n_heads, &M::n_kv_heads, &M::head_dim, &M::d_ff,
       &M::vocab_size, &M::block_plugin, &M::block_digest, &M::norm, &M::norm_eps,
       &M::norm_eps_inside, &M::norm_weight, &M::norm_unit_offset, &M::final_norm, &M::embed_norm,
       &M::dyt_alpha_other, &M::dyt_bias, &M::causal, &M::position, &M::max_positions,
       &M::rope_base, &M::rotary_fraction, &M::rope_style, &M::tied_head, &M::embed_scale,
       &M::embed_scale_trainable, &M::embed_shortcut, &M::logit_softcap, &M::head_init,
       &M::residual_init, &M::init_std, &M::parametrization, &M::depth_alpha, &M::base_d_model,
       &M::base_n_layers, &M::router);
  m = kept;
}

// Has alpha, beta and gamma, per head or per layer.
bool Gained(AttentionMatrix matrix) {
  return matrix == AttentionMatrix::kValueSkip || matrix == AttentionMatrix::kShaped;
}

// Fields that the chosen kinds do not read go back to their defaults, so that they never split a
// key.
void DropUnread(TrialSpec& s) {
  const TrialSpec defaults;
  const auto reset = [&](bool unread, auto section, auto field) {
    if (unread) s.*section.*field = defaults.*section.*field;
  };
  const auto model = [&](bool unread, auto field) { reset(unread, &TrialSpec::model, field); };
  const auto train = [&](bool unread, auto field) { reset(unread, &TrialSpec::train, field); };
  ModelSpec& m = s.model;
  const bool rope = m.position == PositionKind::kRope, parallel = m.block == BlockForm::kParallel;
  model(!rope, &ModelSpec::rope_base);
  model(!rope, &ModelSpec::rotary_fraction);
  model(!rope, &ModelSpec::rope_style);
  model(!parallel, &ModelSpec::parallel_norms);
  model(parallel, &ModelSpec::skip_attn);
  model(parallel, &ModelSpec::skip_attn_trainable);
  model(m.norm == NormKind::kNone, &ModelSpec::norm_place);
  model(m.norm == NormKind::kNone, &ModelSpec::norm_scaling);
  if (m.norm == NormKind::kNone && m.final_norm == OuterNorm::kSame) {
    m.final_norm = OuterNorm::kNone;
  }
  const bool dyt = m.norm == NormKind::kDyt;
  model(!dyt, &ModelSpec::dyt_alpha_attn);
  model(!dyt, &ModelSpec::dyt_alpha_other);
  model(!dyt, &ModelSpec::dyt_bias);
  model(!HasRmsNorm(m), &ModelSpec::norm_eps_inside);
  model(!Gained(m.attn_matrix), &ModelSpec::attn_gains);
  model(m.vp == ValueProjection::kIdentity, &ModelSpec::vp_init);
  const bool reparam = m.vp == ValueProjection::kReparam;
  model(!reparam, &ModelSpec::vp_alpha);
  model(!reparam, &ModelSpec::vp_beta);
  model(!reparam, &ModelSpec::vp_gains_trainable);
  model(m.vp != ValueProjection::kFull, &ModelSpec::attn_out_bias);
  if (m.score_bias == ScoreBias::kMlp && m.score_bias_hidden == 0) m.score_bias_hidden = m.d_model;
  model(m.score_bias == ScoreBias::kNone, &ModelSpec::score_bias_max);
  model(m.score_bias == ScoreBias::kNone, &ModelSpec::score_bias_init);
  model(m.score_bias != ScoreBias::kMlp, &ModelSpec::score_bias_hidden);
  model(m.attn_window == 0, &ModelSpec::attn_window_pattern);
  model(m.value_residual == ValueResidual::kNone, &ModelSpec::value_residual_mix);
  model(m.mlp != MlpKind::kLeakyRelu, &ModelSpec::leaky_slope);
  if (m.embed_scale < 0) m.embed_scale = std::sqrt(static_cast<double>(m.d_model));
  const bool sp = m.parametrization == Parametrization::kSp;
  model(sp, &ModelSpec::base_d_model);
  model(sp, &ModelSpec::base_n_layers);
  model(m.parametrization != Parametrization::kCompleteP, &ModelSpec::depth_alpha);
  // The shrink of residual outputs belongs to the standard parametrisation.
  if (!sp && m.residual_init == ResidualInit::kDepth) m.residual_init = ResidualInit::kPlain;
  RouterSpec& r = m.router;
  const RouterSpec fresh;
  if (!Routed(m)) r = fresh;
  if (r.gate != RouterGate::kFixed) r.path = fresh.path;
  if (r.gate != RouterGate::kGumbelSt) r.temperature = fresh.temperature;
  if (r.gate != RouterGate::kSwitch && r.gate != RouterGate::kUnitSt) r.noise = fresh.noise;
  if (r.pool != RouterPool::kPrefix) r.prefix = fresh.prefix;
  if (r.balance == 0) r.balance_scope = fresh.balance_scope;
  if (r.init == RouterInit::kIdentity) r.init_std = fresh.init_std;
  if (r.init != RouterInit::kIdentity) r.init_bias = fresh.init_bias;

  const TrainSpec& t = s.train;
  train(t.objective != Objective::kMlm, &TrainSpec::mask_fraction);
  const bool momentum = t.optimizer == OptimizerKind::kSgd || t.optimizer == OptimizerKind::kMuon;
  train(!momentum, &TrainSpec::momentum);
  train(t.schedule == ScheduleKind::kConstant, &TrainSpec::final_lr_fraction);
  train(t.schedule != ScheduleKind::kWsd, &TrainSpec::decay_fraction);
  train(!Penalised(t), &TrainSpec::layer_reduction);
  train(!Penalised(t), &TrainSpec::layer_embedding);
  if (s.linearity.every == 0) s.linearity = defaults.linearity;
}

}  // namespace

std::optional<int64_t> TokenizerVocabSize(const std::string& tokenizer) {
  if (tokenizer == "bytes") return 256;
  struct Kind {
    std::string prefix;
    int64_t least;
  };
  // SentencePiece: 256 bytes to fall back on, and some pieces. "bpe": byte-level BPE. "ids": token
  // ids that were made elsewhere.
  for (const auto& [prefix, least] :
       {Kind{"sentencepiece:", 300}, Kind{"bpe:", 257}, Kind{"ids:", 2}}) {
    if (tokenizer.rfind(prefix, 0) != 0) continue;
    const std::string digits = tokenizer.substr(prefix.size());
    if (digits.empty() || digits.size() > 7 || digits.front() == '0') continue;
    if (digits.find_first_not_of("0123456789") != std::string::npos) continue;
    if (const int64_t n = std::stoll(digits); n >= least) return n;
  }
  return std::nullopt;
}

std::vector<int64_t> RouterPath(const std::string& text) {
  std::vector<int64_t> path;
  std::istringstream in(text);
  for (std::string word; std::getline(in, word, ',');) {
    try {
      size_t used = 0;
      path.push_back(std::stoll(word, &used));
      if (word.find_first_not_of(' ', used) != std::string::npos) return {};
    } catch (const std::exception&) {
      return {};
    }
  }
  return path;
}

void ResolveEpochs(TrialSpec* spec, int64_t train_tokens) {
  TrainSpec& t = spec->train;
  if (!(t.epochs > 0) || t.steps > 0 || t.tokens > 0 || t.flops > 0) return;  // or Resolve() tells
  const double steps = t.epochs * static_cast<double>(train_tokens) /
                       static_cast<double>(std::max<int64_t>(1, t.batch_tokens));
  t.steps = std::max<int64_t>(1, static_cast<int64_t>(std::min(std::round(steps), 1e12)));
  t.epochs = 0;
}

std::vector<SpecError> Resolve(TrialSpec* spec) {
  TrialSpec s = *spec;
  Errors e;
  e.If(!s.model.causal && s.train.objective == Objective::kCausal, "model.causal",
       "without it every position sees its target; say train.objective: mlm");
  if (s.train.objective == Objective::kMlm) s.model.causal = false;
  if (Routed(s.model) && s.model.router.steps == 0) s.model.router.steps = s.model.n_layers;
  ResolveShape(s, e);
  ResolvePlugin(s, e);
  if (!s.model.block_plugin.empty() && e.empty()) DropBlock(s.model);
  CheckAttention(s.model, e);
  CheckBlock(s.model, e);
  CheckRouter(s, e);
  if (e.empty()) DropUnread(s);
  if (Routed(s.model) && s.model.router.pool == RouterPool::kPrefix) {
    s.data.score_from = std::max(s.data.score_from, s.model.router.prefix);
  }
  ResolveMixture(s.data, e);
  ResolveTraining(s, e);
  if (e.empty()) {
    if (const std::string wrong = ResolveInit(&s); !wrong.empty()) e.Add("init.checkpoint", wrong);
  }
  s.eval.points = std::min(s.eval.points, std::max<int64_t>(1, s.train.steps));
  if (e.empty()) *spec = s;
  return e.errors;
}

}  // namespace plumb::spec
