// How linear a trained row's layers are: maps fitted on one split's texts, judged on another's.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "data/dataset.h"
#include "trainer/bundle.h"
#include "trainer/linearity/geometry.h"
#include "trainer/linearity/held_out.h"
#include "trainer/linearity/moments.h"
#include "trainer/linearity/score.h"
#include "trainer/linearity/transitions.h"
#include "trainer/protocol/engine.h"
#include "trainer/spec/trial_spec.h"

namespace plumb::trainer::linearity {

struct MeasurementPlan {
  data::Split fit = data::Split::kTune, score = data::Split::kVal;
  int64_t tokens = 0;        // to fit on; 0: 50 d_model
  int64_t score_tokens = 0;  // 0: a quarter of those
  int64_t from_position = 0;
  int64_t twonn_points = 0;
  bool logit_lens = false;
};

// Metrics by name, in the order of docs/linearity.md.
using Metrics = std::vector<std::pair<std::string, double>>;

struct TransitionFinding {
  Transition transition;
  Metrics metrics;
};
struct StateFinding {
  int64_t state = 0;
  Metrics metrics;
};
struct Findings {
  std::vector<TransitionFinding> transitions;
  std::vector<StateFinding> states;   // h_0 … h_S
  std::vector<std::string> warnings;  // what a reader of the numbers must know
};
// Series as docs/linearity.md names them.
std::vector<PointValue> PointsOf(const Findings& findings);

// In small pieces, so that the trainer stays open to commands between them.
class Measurement {
 public:
  // All must outlive it. Throws std::runtime_error where the texts do not suffice.
  Measurement(const Bundle& bundle, int64_t row, const data::Dataset& dataset,
              const spec::TrialSpec& resolved, const MeasurementPlan& plan);

  int64_t pieces() const;  // that there are in all
  void Advance();          // the next of them
  Findings Finish();       // after the last

 private:
  struct Lens {
    double nll = 0;
    int64_t right = 0;
  };
  std::vector<at::Tensor> States(const at::Tensor& ids) const;  // all positions
  std::vector<at::Tensor> Kept(const std::vector<at::Tensor>& states) const;
  at::Tensor Ids(data::Split split, const std::vector<int64_t>& begins, int64_t piece) const;
  void FitOn(int64_t piece);
  void FitMaps();
  void ScoreOn(int64_t piece);
  at::Tensor PointsOfPass(int64_t piece, int64_t count) const;
  void Look(const at::Tensor& ids, int64_t piece, const std::vector<at::Tensor>& states);

  const Bundle& bundle_;
  const int64_t row_;
  const data::Dataset& dataset_;
  const spec::TrialSpec& spec_;
  const MeasurementPlan plan_;
  const int64_t T_, moves_;
  int64_t per_pass_ = 1, next_ = 0;
  std::vector<int64_t> fit_begins_, score_begins_;
  std::vector<Transition> transitions_;
  std::vector<size_t> pair_of_;  // a transition's pair: two may share one
  std::unique_ptr<Moments> moments_;
  std::vector<Fit> fits_;           // by pair
  std::vector<double> anisotropy_;  // by state
  std::unique_ptr<HeldOutScores> held_out_;
  std::vector<Shape> shapes_;                    // by state
  std::vector<std::vector<at::Tensor>> points_;  // by state, for TwoNN
  std::vector<Lens> lens_;                       // by state
  int64_t lens_tokens_ = 0;
};

// All of it at once: a row's scores at a step of its training.
std::vector<PointValue> MeasureLinearity(const Bundle& bundle, int64_t row,
                                         const data::Dataset& dataset,
                                         const spec::TrialSpec& resolved);

}  // namespace plumb::trainer::linearity
