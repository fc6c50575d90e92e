// K trials trained together: arena, forward, loss, clipping, optimizer. Knows nothing of files,
// schedules or protocols; parity tests and measurements drive it directly.
//
// Live rows are a prefix: rows [0, n). Add() appends, Remove(k) moves the last row into k.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/arena.h"
#include "trainer/model.h"
#include "trainer/optimizer.h"

namespace plumb::trainer {

class Collective;

struct StepResult {
  // [n] mean cross-entropy over the row's scored tokens, nats, before the update; z-loss, balance
  // loss and layer penalties steer the gradient and are not in it.
  std::vector<double> loss;
  std::vector<double> grad_norm;  // [n] before clipping
  std::vector<bool>
      finite;  // [n] false: loss or gradient is not finite, and the row was not updated
  // [n] routed models: the balance loss, and blocks computed per text; else empty.
  std::vector<double> balance, block_evaluations;
  // [n] layer penalties, reduced, before their coefficients; empty where no row has one.
  std::vector<double> layer_cosine, layer_mse;
};

class Bundle {
 public:
  // All rows share `model` (resolved). `longest`: the longest sequence that will be given. `type`:
  // of the arena.
  Bundle(const spec::ModelSpec& model, int64_t longest, int64_t capacity, at::Device device,
         at::ScalarType type = at::kFloat);

  int64_t capacity() const { return arena_.capacity(); }
  int64_t rows() const { return rows_; }
  // Appends a row initialised from `seed`; returns its index; throws std::length_error when full.
  // `model`: the row's own, equal to model() but for init_std.
  int64_t Add(int64_t seed, const spec::ModelSpec& model);
  int64_t Add(int64_t seed) { return Add(seed, model_); }
  void Remove(int64_t k);  // the last row takes its place
  Arena& arena() { return arena_; }
  const Arena& arena() const { return arena_; }
  const spec::ModelSpec& model() const { return model_; }
  at::Device device() const { return device_; }

  // One optimizer step of all live rows. ids, targets [n, B, T] int64; a target < 0 is not scored.
  // The loss of a row is the sum over its scored tokens divided by their number, over all
  // micro-batches of `micro_batch` sequences (0: B at once). `layer_norms`: when not null, receives
  // per row the gradient norm of each block.
  //
  // With `ranks`, every rank gives the whole batch and computes its share of the sequences, the
  // rank-th of equal parts; loss and gradients are summed over the ranks before anything looks at
  // them, so that all ranks make the same update, which is the one of a single process. Of one row
  // that is not routed; throws RankLost. The gradients are then of no use: leave the bundle.
  StepResult Step(const at::Tensor& ids, const at::Tensor& targets,
                  const std::vector<RowUpdate>& updates, int64_t micro_batch = 0,
                  std::vector<std::vector<double>>* layer_norms = nullptr,
                  Collective* ranks = nullptr);

  // −log p of each target, rows [first, first + n), without gradient: [n, B*T]. A routed model
  // takes n = 1. `extras`: see Forward.
  at::Tensor NegativeLogLikelihoods(int64_t first, int64_t n, const at::Tensor& ids,
                                    const at::Tensor& targets, Extras* extras = nullptr) const;
  // Logits of one row, without gradient. ids [1, B, T] → [1, B*T, V].
  at::Tensor Logits(int64_t row, const at::Tensor& ids, Extras* extras = nullptr) const;
  // What one row's final norm and head say of a residual stream [1, M, d], without gradient.
  at::Tensor Readout(int64_t row, const at::Tensor& stream) const;

 private:
  // Losses and gradients of rows [first_row, first_row + n); appends to `out`. `scored` [n]: tokens
  // to divide by; `positions`: of a row's whole batch, which `ids` may be a share of.
  void Accumulate(int64_t first_row, int64_t n, const at::Tensor& ids, const at::Tensor& targets,
                  const at::Tensor& scored, int64_t positions,
                  const std::vector<RowUpdate>& updates, int64_t micro_batch, StepResult* out);

  const spec::ModelSpec model_;
  const at::Device device_;
  Arena arena_;
  ForwardTables tables_;
  Optimizer optimizer_;
  int64_t rows_ = 0;
};

}  // namespace plumb::trainer
