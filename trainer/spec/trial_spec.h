// What one trial computes: the config of a model, its data, its training and its evaluation, as
// plain values.
//
// Every field is described once, in fields.cc; the strict parser, the canonical form, JSON Schema
// and the names of sweep axes all come from that table. Torch-free.
#pragma once

#include <cstdint>
#include <string>

namespace plumb::spec {

enum class NormKind { kRmsNorm, kLayerNorm };
enum class PositionKind { kRope, kLearned };
enum class MlpKind { kSwiGlu, kGelu };
enum class ScheduleKind { kConstant, kCosine, kWsd };
enum class DeviceKind { kCpu, kCuda };

// A decoder-only transformer put together from components. 0 in a shape field means "derived";
// Resolve() fills it.
struct ModelSpec {
  std::string preset = "llama";  // a row of defaults; the fields below override it
  int64_t n_layers = 4;
  int64_t d_model = 128;
  int64_t n_heads = 0;     // 0: d_model / head_dim, or 4 where head_dim is 0 too
  int64_t n_kv_heads = 0;  // 0: n_heads (multi-head attention); fewer is grouped-query attention
  int64_t head_dim = 0;    // 0: d_model / n_heads
  int64_t d_ff = 0;        // 0: SwiGLU: 8/3 d_model rounded up to a multiple of 8; GELU: 4 d_model
  int64_t vocab_size = 0;  // 0: the tokenizer's
  NormKind norm = NormKind::kRmsNorm;
  double norm_eps = 1e-5;
  PositionKind position = PositionKind::kRope;
  int64_t max_positions =
      0;  // rows of the learned position table; 0: max(data.seq_len, eval.seq_len)
  double rope_base = 10000.0;
  MlpKind mlp = MlpKind::kSwiGlu;
  bool bias = false;       // biases of the linear layers (norms of kind layernorm always have one)
  bool tied_head = false;  // the output head is the token embedding
  double init_std = 0.02;  // normal init of linears and embeddings; outputs of a residual branch: /
                           // sqrt(2 n_layers)
};

struct DataSpec {
  std::string corpus;               // a prepared corpus's name
  std::string tokenizer = "bytes";  // "bytes" or "sentencepiece:<vocabulary size>"
  std::string
      digest;  // SHA-256 of the prepared corpus's manifest content; set when a sweep is submitted
  int64_t seq_len = 128;  // tokens
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
  double grad_clip = 1.0;  // global norm per trial; 0: none
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

struct SeedSpec {
  int64_t init = 0;
  int64_t data = 0;
};

// How, on what kind of arithmetic: part of the result's identity.
struct NumericsSpec {
  DeviceKind device = DeviceKind::kCpu;
  std::string dtype = "float32";
};

// How it is carried out: not part of the identity.
struct ExecutionSpec {
  int64_t threads = 1;
  int64_t micro_batch = 0;         // sequences per forward pass; 0: the whole batch
  double checkpoint_seconds = 30;  // cadence of checkpoints; 0: only on request and at the end
  int64_t checkpoint_steps = 0;    // and every so many steps; 0: by time alone
};

struct TrialSpec {
  ModelSpec model;
  DataSpec data;
  TrainSpec train;
  EvalSpec eval;
  SeedSpec seed;
  NumericsSpec numerics;
  ExecutionSpec execution;
};

// Names as they stand in configs, tables and figures.
const char* Name(NormKind v);
const char* Name(PositionKind v);
const char* Name(MlpKind v);
const char* Name(ScheduleKind v);
const char* Name(DeviceKind v);

}  // namespace plumb::spec
