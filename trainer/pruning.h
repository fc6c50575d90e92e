// Layers taken away from a trained model, one after another: left out, replaced by their
// least-squares map, or by maps distilled from the whole model (Razzhigaev et al. 2024, arXiv
// 2405.12250, section 5). docs/pruning.md.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "trainer/bundle.h"
#include "trainer/evaluation.h"
#include "trainer/linearity/moments.h"
#include "trainer/linearity/score.h"
#include "trainer/model.h"
#include "trainer/spec/trial_spec.h"

namespace plumb::trainer {

struct PruningPlan {
  data::Split fit = data::Split::kTune, score = data::Split::kVal;
  int64_t fit_tokens = 0;  // 0: 50 for each of d_model
  int64_t tokens = 0;      // scored; 0: all
  std::string order = "score";
  int64_t seed = 0;
  bool everything = false;  // distil the other layers too
  int64_t steps = 100, windows = 8;
  double lr = 1e-4;
};

// What is known of a layer in the whole model, on the texts of the fit.
struct LayerFinding {
  linearity::Linearity linearity;
  // Mean squares for each token and dimension: of the layer's move, which is what leaving it out
  // gets wrong, and of what its map gets wrong. Least squares could choose the identity, so the
  // second is never above the first.
  double identity_error = 0, map_error = 0;
};

// What is left of the model, and how good it is.
struct PruningResult {
  std::string method;
  std::vector<int64_t> removed;  // in the order in which they went
  Score score;
  // How far the residual stream is from the whole model's on the texts of the fit: mean over the
  // states after each layer of the mean squared difference over the state's variance.
  double stream_error = 0;
  int64_t parameters = 0;
  int64_t flops_per_token = 0;   // forward, at eval.seq_len
  double tokens_per_second = 0;  // forward, the fastest of three passes here
};

// A model with what runs in place of its layers.
struct Student {
  const Bundle* bundle = nullptr;
  int64_t row = 0;
  Substitutes substitutes;
  std::shared_ptr<const Bundle> own;  // where it has been trained: what `bundle` points to
};

struct Remains {
  PruningResult result;
  Student student;
};

class Pruning {
 public:
  // All must outlive it. `bundle` has the trained weights in `row`. Throws std::invalid_argument
  // for models whose layers cannot be taken away, std::runtime_error for texts that do not suffice.
  Pruning(const Bundle& bundle, int64_t row, const data::Dataset& dataset,
          const spec::TrialSpec& resolved, const PruningPlan& plan);
  ~Pruning();

  int64_t fit_pieces() const;
  void FitOn(int64_t piece);
  // After all pieces.
  const std::vector<LayerFinding>& FitMaps();
  // Which layer goes first. Of order "loss" each is left out once.
  const std::vector<int64_t>& Rank();
  Remains Whole() const;
  // After Rank(): without the first `layers` of them, by "remove", "replace" or "distil".
  Remains Left(const std::string& method, int64_t layers) const;

 private:
  class Distillation;
  Student Without(const std::vector<int64_t>& removed, bool mapped) const;
  at::Tensor FitIds(int64_t piece) const;
  Score Evaluated(const Student& student) const;
  double StreamError(const Student& student) const;
  double Speed(const Student& student) const;
  Remains Judged(const std::string& method, const std::vector<int64_t>& removed,
                 const Student& student, double stream_error) const;

  const Bundle& bundle_;
  const int64_t row_;
  const data::Dataset& dataset_;
  const spec::TrialSpec& spec_;
  const PruningPlan plan_;
  const int64_t layers_, T_;
  std::vector<int64_t> begins_;
  int64_t per_pass_ = 1;
  std::unique_ptr<linearity::Moments> moments_;
  std::vector<linearity::AffineMap> maps_;
  std::vector<LayerFinding> findings_;
  std::vector<int64_t> order_;
};

}  // namespace plumb::trainer
