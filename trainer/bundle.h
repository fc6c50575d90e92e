// K trials trained together: arena, forward, loss, clipping, AdamW. Knows nothing of files,
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
#include "trainer/ops/ops.h"

namespace plumb::trainer {

// What one row's update needs beyond its gradient.
struct RowUpdate {
  double lr = 0;
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
  double weight_decay = 0;  // on matrices, embeddings and heads; never on gains and biases
  double grad_clip = 0;     // largest global norm; 0: none
  int64_t step = 1;         // 1 for the first update
  bool active = true;       // false: the row is left as it is, bit for bit
};

struct StepResult {
  std::vector<double> loss;       // [n] mean over the row's scored tokens, nats, before the update
  std::vector<double> grad_norm;  // [n] before clipping
  std::vector<bool>
      finite;  // [n] false: loss or gradient is not finite, and the row was not updated
};

class Bundle {
 public:
  // All rows share `model` (resolved). `longest`: the longest sequence that will be given.
  Bundle(const spec::ModelSpec& model, int64_t longest, int64_t capacity, at::Device device);

  int64_t capacity() const { return arena_.capacity(); }
  int64_t rows() const { return rows_; }
  // Appends a row initialised from `seed`; returns its index; throws std::length_error when full.
  // `model`: the row's own, equal to model() but for init_std.
  int64_t Add(int64_t seed, const spec::ModelSpec& model);
  int64_t Add(int64_t seed) { return Add(seed, model_); }
  void Remove(int64_t k);  // the last row takes its place
  Arena& arena() { return arena_; }
  const spec::ModelSpec& model() const { return model_; }
  at::Device device() const { return device_; }

  // One optimizer step of all live rows. ids, targets [n, B, T] int64; a target < 0 is not scored.
  // The loss of a row is the sum over its scored tokens divided by their number, over all
  // micro-batches of `micro_batch` sequences (0: B at once). `layer_norms`: when not null, receives
  // per row the gradient norm of each block.
  StepResult Step(const at::Tensor& ids, const at::Tensor& targets,
                  const std::vector<RowUpdate>& updates, int64_t micro_batch = 0,
                  std::vector<std::vector<double>>* layer_norms = nullptr);

  // −log p of each target, rows [first, first + n), without gradient: [n, B*T].
  at::Tensor NegativeLogLikelihoods(int64_t first, int64_t n, const at::Tensor& ids,
                                    const at::Tensor& targets) const;

 private:
  const spec::ModelSpec model_;
  const at::Device device_;
  Arena arena_;
  ForwardTables tables_;
  std::vector<ops::AdamWSegment> segments_;
  int64_t rows_ = 0;
};

}  // namespace plumb::trainer
