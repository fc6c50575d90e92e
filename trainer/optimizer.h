// One update of K rows of an arena, each by its own optimizer.
//
// State lives in the arena's two moments, whatever the optimizer: m holds a momentum, v a second
// moment; Adafactor keeps a matrix's row and column factors at the start of its place in v.
#pragma once

#include <cstdint>
#include <vector>

#include "trainer/arena.h"
#include "trainer/layer_penalty.h"
#include "trainer/ops/ops.h"
#include "trainer/spec/trial_spec.h"

namespace plumb::trainer {

// What one row's update needs beyond its gradient.
struct RowUpdate {
  spec::OptimizerKind optimizer = spec::OptimizerKind::kAdamW;
  double lr = 0;
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
  double momentum = 0.95;   // sgd, muon
  double weight_decay = 0;  // on matrices, embeddings and heads; never on gains and biases
  double grad_clip = 0;     // largest global norm; 0: none
  double z_loss = 0;        // times the squared log-sum-exp of each scored position
  LayerPenalty penalty;
  int64_t step = 1;    // 1 for the first update
  uint64_t noise = 0;  // key of a router's noise at this step
  bool active = true;  // false: the row is left as it is, bit for bit
};

// The update that makes step `step` (1 for the first) of a resolved spec's run.
RowUpdate UpdateOf(const spec::TrialSpec& resolved, int64_t step);

class Optimizer {
 public:
  // The factors of `model`'s parametrisation (trainer/spec/parametrization.h).
  Optimizer(const spec::ModelSpec& model, const spec::ParameterLayout& layout);

  // Updates rows [0, updates.size()) from their gradients times scale[k], and zeroes the gradients.
  // A row that is not active keeps its weights; its gradients are zeroed too.
  //   adamw      Loshchilov & Hutter 2019, algorithm 2
  //   adam       the same with the decay in the gradient (Kingma & Ba 2015)
  //   sgd        m <- momentum m + g;  w <- w - lr m, the decay in the gradient
  //   adafactor  Shazeer & Stern 2018, algorithm 5 without momentum: beta2_t = 1 - t^-0.8, updates
  //              clipped at an RMS of 1, steps relative to max(1e-3, RMS(w)); vectors unfactored
  //   muon       Jordan 2024 for the blocks' matrices: Nesterov momentum, orthogonalised by five
  //              Newton-Schulz steps, times 0.2 sqrt(max(rows, columns)) (arXiv 2502.16982) so that
  //              rate and decay are AdamW's; AdamW for the rest
  void Step(Arena& arena, const std::vector<RowUpdate>& updates, const std::vector<double>& scale,
            const std::vector<bool>& active) const;

 private:
  struct Segment {
    spec::Parameter parameter;
    ops::AdamWSegment adamw;
    double decay = 0;  // factor of the row's weight decay
  };
  void StepAlone(Arena& arena, int64_t k, const RowUpdate& update, double scale) const;

  std::vector<Segment> segments_;
};

}  // namespace plumb::trainer
