// What one trial computes: the config of a model, its data, its training and its evaluation, as
// plain values.
//
// Every field is described once, in fields.cc; the strict parser, the canonical form, JSON Schema
// and the names of sweep axes all come from that table. Torch-free.
#pragma once

#include <cstdint>
#include <string>

namespace plumb::spec {

enum class BlockForm { kSequential, kParallel };
enum class NormKind { kRmsNorm, kLayerNorm, kDyt, kNone };
enum class NormPlace { kPre, kPost, kPeri, kOut };
enum class OuterNorm { kSame, kRmsNorm, kLayerNorm, kNone };
enum class NormScaling { kNone, kDepth };
enum class ParallelNorms { kShared, kSeparate };
enum class BranchScale { kConstant, kDepth };
enum class AttentionMatrix { kPlain, kValueSkip, kShaped, kDifferential };
enum class GainScope { kHead, kLayer };
enum class ValueProjection { kFull, kIdentity, kReparam };
enum class ValueInit { kNormal, kOrthogonal, kIdentity, kTiedOrthogonal };
enum class FirstValue { kSame, kReparam };
enum class QueryInit { kNormal, kZero };
enum class QkvForm { kFused, kSeparate };
enum class AttentionBias { kDefault, kNone, kQk, kQkv };
enum class OnOff { kDefault, kOff, kOn };
enum class QkvActivation { kNone, kGelu };
enum class ScoreBias { kNone, kDense, kMlp };
enum class ZeroOrNormal { kZero, kNormal };
enum class QkNorm { kNone, kHead, kFull };
enum class WindowPattern { kAll, kAlternate };
enum class PositionKind { kRope, kLearned, kSinusoidal, kAlibi, kNone };
enum class RopeStyle { kHalf, kInterleaved };
enum class MlpKind {
  kSwiGlu,
  kGelu,
  kGeglu,
  kGegluTanh,
  kReglu,
  kBilinear,
  kGeluErf,
  kRelu,
  kRelu2,
  kLeakyRelu,
  kSilu
};
enum class ResidualInit { kDepth, kPlain, kZero };
enum class ValueResidual { kNone, kFixed, kTrainable };
enum class Parametrization { kSp, kMup, kMupRepo, kCompleteP };
enum class RouterGate { kNone, kSwitch, kUnitSt, kSt, kGumbelSt, kSoft, kFrozen, kRandom, kFixed };
enum class RouterPool { kPrefix, kFull, kBos };
enum class RouterInit { kRandom, kIdentity };
enum class BalanceScope { kStep, kJoint };
enum class Objective { kCausal, kMlm };
enum class OptimizerKind { kAdamW, kAdam, kSgd, kAdafactor, kMuon };
enum class ScheduleKind { kConstant, kCosine, kWsd, kLinear };
enum class DeviceKind { kCpu, kCuda };
enum class LayerReduction { kMean, kSum, kElements };

// Seed 000: at each of `steps` steps a router picks, per text, one of the L blocks or none.
struct RouterSpec {
  RouterGate gate = RouterGate::kNone;
  int64_t steps = 0;  // 0: n_layers
  RouterPool pool = RouterPool::kPrefix;
  int64_t prefix = 16;  // tokens that the router reads; earlier positions are not scored
  double balance = 0;   // coefficient of the balance loss, per step and text
  BalanceScope balance_scope = BalanceScope::kStep;
  RouterInit init = RouterInit::kRandom;
  double init_std = 0.002;   // random: normal, a tenth of the usual 0.02 (Switch, 2.4)
  double init_bias = 4.0;    // identity: bias of block s at step s
  bool shared = false;       // one router for all steps
  double temperature = 1.0;  // gumbel_st, in training
  double noise = 0;          // scale of Gumbel noise on the choice in training (switch, unit_st)
  std::string path;          // fixed: "0,1,2,3", -1 skips
};

// A transformer put together from components: switches, not classes (docs/model.md). 0 in a shape
// field means "derived"; Resolve() fills it. Every default is the plain llama block.
struct ModelSpec {
  std::string preset = "llama";  // a row of defaults; the fields below override it
  int64_t n_layers = 4;
  int64_t d_model = 128;
  int64_t n_heads = 0;     // 0: d_model / head_dim, or 4 where head_dim is 0 too
  int64_t n_kv_heads = 0;  // 0: n_heads (multi-head attention); fewer is grouped-query attention
  int64_t head_dim = 0;    // 0: d_model / n_heads
  int64_t d_ff = 0;        // 0: gated: 8/3 d_model rounded up to a multiple of 8; others: 4 d_model
  int64_t vocab_size =
      0;  // 0: the tokenizer's (and one more, the mask, where the objective is mlm)
  // A block from outside the tree takes the place of the one below (spec/block_manifest.h).
  std::string block_plugin;  // its folder, an absolute path
  std::string block_digest;  // of its manifest and shared object; Resolve() fills or compares it
  // Block form and norms.
  BlockForm block = BlockForm::kSequential;
  ParallelNorms parallel_norms = ParallelNorms::kShared;
  NormKind norm = NormKind::kRmsNorm;
  NormPlace norm_place = NormPlace::kPre;
  double norm_eps = 1e-5;
  bool norm_eps_inside = true;    // under the root; false: added to the root (rmsnorm only)
  bool norm_weight = true;        // rmsnorm has a gain
  bool norm_unit_offset = false;  // the gain is 1 + w (Gemma)
  NormScaling norm_scaling = NormScaling::kNone;  // depth: outputs of block l's norms / sqrt(l + 1)
  OuterNorm final_norm = OuterNorm::kSame;
  OuterNorm embed_norm = OuterNorm::kNone;  // before block 0
  double dyt_alpha_attn = 0.5;              // DyT's first scalar before attention
  double dyt_alpha_other = 0.5;             // and everywhere else
  bool dyt_bias = true;
  // x <- skip x + branch F(x).
  double skip_attn = 1, branch_attn = 1, skip_mlp = 1, branch_mlp = 1;
  bool skip_attn_trainable = false, branch_attn_trainable = false;
  bool skip_mlp_trainable = false, branch_mlp_trainable = false;
  BranchScale branch_scale = BranchScale::kConstant;  // depth: branches / sqrt(n_layers)
  // Attention.
  AttentionMatrix attn_matrix = AttentionMatrix::kPlain;
  GainScope attn_gains = GainScope::kHead;
  ValueProjection vp = ValueProjection::kFull;
  ValueInit vp_init = ValueInit::kNormal;
  double vp_alpha = 1, vp_beta = 0.2;
  bool vp_gains_trainable = false;
  FirstValue first_value = FirstValue::kSame;
  QueryInit query_init = QueryInit::kNormal;
  QkvForm qkv = QkvForm::kFused;
  AttentionBias attn_bias = AttentionBias::kDefault;
  OnOff attn_out_bias = OnOff::kDefault;
  QkvActivation qkv_act = QkvActivation::kNone;
  ScoreBias score_bias = ScoreBias::kNone;
  int64_t score_bias_max = 0;     // columns; 0: the longest sequence used
  int64_t score_bias_hidden = 0;  // mlp: hidden width; 0: d_model
  ZeroOrNormal score_bias_init = ZeroOrNormal::kZero;
  QkNorm qk_norm = QkNorm::kNone;
  double attn_scale = 0;  // of the scores; 0: 1/sqrt(head_dim), muP 1/head_dim
  double attn_softcap = 0;
  int64_t attn_window = 0;  // keys a query sees, itself included; 0: all
  WindowPattern attn_window_pattern = WindowPattern::kAll;
  bool causal = true;
  ValueResidual value_residual = ValueResidual::kNone;
  double value_residual_mix = 0.5;
  // Positions.
  PositionKind position = PositionKind::kRope;
  int64_t max_positions = 0;  // rows of the learned position table; 0: max(data, eval seq_len)
  double rope_base = 10000.0;
  double rotary_fraction = 1.0;
  RopeStyle rope_style = RopeStyle::kHalf;
  // MLP.
  MlpKind mlp = MlpKind::kSwiGlu;
  double leaky_slope = 0.2;
  OnOff mlp_bias = OnOff::kDefault;
  // Embedding, head, init.
  bool bias = false;       // biases of the linear layers (a layernorm always has one)
  bool tied_head = false;  // the output head is the token embedding
  double embed_scale = 1;  // times the embedding; -1: sqrt(d_model)
  bool embed_scale_trainable = false;
  bool embed_shortcut = false;  // x <- l0 x + l1 x0 before each block, trainable, from (1, 0)
  double logit_softcap = 0;
  ZeroOrNormal head_init = ZeroOrNormal::kNormal;
  ResidualInit residual_init = ResidualInit::kDepth;
  double init_std = 0.02;  // normal init; outputs of a residual branch: / sqrt(2 n_layers)
  // Which hyperparameters follow the shape (docs/parametrization.md).
  Parametrization parametrization = Parametrization::kSp;
  double depth_alpha = 1.0;   // CompleteP's exponent
  int64_t base_d_model = 0;   // base.d_model
  int64_t base_n_layers = 0;  // base.n_layers
  RouterSpec router;
};

struct DataSpec {
  std::string corpus;               // a prepared corpus's name
  std::string tokenizer = "bytes";  // "bytes" or "sentencepiece:<vocabulary size>"
  std::string
      digest;  // SHA-256 of the prepared corpus's manifest content; set when a sweep is submitted
  int64_t seq_len = 128;   // tokens
  int64_t score_from = 0;  // earlier positions of a sequence are context; with router.pool: prefix
                           // at least router.prefix
  // Of a corpus of several parts (trainer/spec/mixture.h); "": in proportion to their tokens.
  std::string mix;     // "en=0.7,ja=0.3"
  std::string phases;  // "0.5:ja=1;0.5:en=0.5,ja=0.5"; instead of mix
};

// Exactly one of steps, tokens, flops, epochs is the budget; Resolve() turns it into steps.
struct TrainSpec {
  int64_t steps = 0;
  int64_t tokens = 0;
  double flops = 0;
  double epochs = 0;            // of the whole corpus; ResolveEpochs() turns it into steps first
  int64_t batch_tokens = 4096;  // tokens per optimizer step, a multiple of data.seq_len
  int64_t ranks = 1;            // processes of one machine that share each step's sequences evenly
  Objective objective = Objective::kCausal;
  double mask_fraction = 0.25;  // mlm: share of the tokens that is predicted
  OptimizerKind optimizer = OptimizerKind::kAdamW;
  double lr = 1e-3;
  ScheduleKind schedule = ScheduleKind::kCosine;
  int64_t warmup_steps = 0;
  double warmup_fraction = 0;      // of all steps; only one of the two warm-ups may be set
  double final_lr_fraction = 0.1;  // the rate at the end of cosine or WSD, as a fraction of lr
  double decay_fraction = 0.2;  // WSD: the last part of the steps, in which the rate falls linearly
  double weight_decay = 0.1;    // on matrices; never on gains and biases
  double beta1 = 0.9;
  double beta2 = 0.95;
  double adam_eps = 1e-8;
  double momentum = 0.95;  // sgd, muon
  double z_loss = 0;       // + z_loss * (log sum exp of the logits)^2 per scored token
  // Added to the training loss, over neighbouring states h, h' of the residual stream:
  double layer_cosine = 0;                                 // + layer_cosine * sum (1 - cos(h, h'))
  double layer_mse = 0;                                    // + layer_mse * sum |h - h'|^2
  LayerReduction layer_reduction = LayerReduction::kMean;  // over tokens; pairs are summed
  bool layer_embedding = true;  // the first pair is the embedding's and block 0's
  double grad_clip = 1.0;       // global norm per trial; 0: none
  double divergence_factor =
      3.0;  // a smoothed loss above factor * (loss at the start) is divergence; 0: only non-finite
  int64_t log_every = 10;  // steps between points of train/loss
};

struct EvalSpec {
  int64_t points = 10;       // evaluations of tune and val during training, the last at the end
  int64_t seq_len = 0;       // 0: data.seq_len
  int64_t tokens = 16384;    // per split and evaluation, evenly spread windows; 0: the whole split
  int64_t final_tokens = 0;  // tune, val and test at the end; 0: the whole split
  int64_t train_tokens = 16384;  // the fixed subset of train, at each evaluation
};

// How linear the moves of the residual stream are, measured while it is trained
// (docs/linearity.md).
struct LinearitySpec {
  int64_t every = 0;         // steps, and at the last; 0: never
  int64_t tokens = 0;        // to fit on; 0: 50 d_model
  int64_t score_tokens = 0;  // of other documents; 0: a quarter of those to fit on
};

struct SeedSpec {
  int64_t init = 0;
  int64_t data = 0;
};

// What a run begins with in place of fresh weights: those of a checkpoint, with an optimizer that
// knows nothing, at step 0; or, with `step`, all of the checkpoint's state, at its step: a fork.
// The digest and the step decide what is computed, the rest says where it is.
struct InitSpec {
  int64_t trial = 0;       // whose last checkpoint it is; the server fills in the two below
  std::string checkpoint;  // its folder, an absolute path
  std::string digest;      // SHA-256 of its manifest.json; Resolve() fills it from the folder
  int64_t step = 0;        // the checkpoint's; 0: its weights alone
};

// How, on what kind of arithmetic: part of the result's identity.
struct NumericsSpec {
  DeviceKind device = DeviceKind::kCpu;
  std::string dtype = "float32";
};

// How it is carried out: not part of the identity.
struct ExecutionSpec {
  int64_t threads = 1;
  int64_t micro_batch = 0;            // sequences per forward pass; 0: the whole batch
  double checkpoint_seconds = 30;     // cadence of checkpoints; 0: only on request and at the end
  int64_t checkpoint_steps = 0;       // and every so many steps; 0: by time alone
  double rank_timeout_seconds = 600;  // with train.ranks: how long a rank waits for the others
  bool share_trunk = true;  // may begin from a checkpoint of a trial that is the same up to there
};

struct TrialSpec {
  ModelSpec model;
  DataSpec data;
  TrainSpec train;
  EvalSpec eval;
  LinearitySpec linearity;
  SeedSpec seed;
  InitSpec init;
  NumericsSpec numerics;
  ExecutionSpec execution;
};

// Names as they stand in configs, tables and figures.
template <typename E>
const char* Name(E v);

// Whether the MLP has a gate: two products of width d_ff into one.
inline bool Gated(MlpKind v) {
  return v == MlpKind::kSwiGlu || v == MlpKind::kGeglu || v == MlpKind::kGegluTanh ||
         v == MlpKind::kReglu || v == MlpKind::kBilinear;
}
// A penalty on neighbouring layers is in use.
inline bool Penalised(const TrainSpec& t) { return t.layer_cosine > 0 || t.layer_mse > 0; }
// The router is in use.
inline bool Routed(const ModelSpec& m) { return m.router.gate != RouterGate::kNone; }

}  // namespace plumb::spec
