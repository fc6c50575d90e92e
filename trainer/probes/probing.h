// Linear probes on every state of a trained row's residual stream: fitted on some documents, judged
// on others (docs/probes.md).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "trainer/probes/logistic.h"
#include "trainer/probes/ridge.h"
#include "trainer/probes/sources.h"
#include "trainer/probes/tally.h"
#include "trainer/protocol/engine.h"

namespace plumb::trainer::probes {

// Metrics by name, in the order of docs/probes.md.
using Metrics = std::vector<std::pair<std::string, double>>;

struct ProbeFinding {
  std::string property, method;  // "ridge", "logistic"
  int64_t state = 0;
  Metrics metrics;
};
// What a property's probes are read beside.
struct PropertyFinding {
  std::string property;
  std::string fit_on, score_on;  // "tune", "val"; of texts "train" and "test" or "dev"
  std::vector<std::string> classes;
  Metrics metrics;  // majority, prior_loss, what they are of
  std::vector<std::string> warnings;
};
struct Findings {
  std::vector<PropertyFinding> properties;
  std::vector<ProbeFinding> probes;
};
// Series as docs/probes.md names them.
std::vector<PointValue> PointsOf(const Findings& findings);

struct Methods {
  bool ridge = true, logistic = true;
};

// Of one source, in small pieces, so that the trainer stays open to commands between them.
class Probing {
 public:
  Probing(std::unique_ptr<Source> source, int64_t moves, Methods methods);

  int64_t pieces() const;  // that there are in all
  // The next of them. Throws std::runtime_error where there is too little to ask, or where states
  // are not finite.
  void Advance();
  Findings Finish() const;  // after the last

 private:
  // What is asked of one state, and how it did.
  struct Fitted {
    AffineMap ridge;                    // columns of all questions, one after another
    std::vector<double> penalty;        // of ridge, by question
    std::vector<LogisticFit> logistic;  // by question; none of controls and numbers
  };
  struct Judged {
    Tally ridge, beyond_control, loss, logistic;  // beyond: right minus right about the control
    double left = 0;                              // squared error of a number
  };
  void Begin();
  void FitOn(int64_t pass);
  void Fit(int64_t state);
  void ScoreOn(int64_t pass);
  void Score(int64_t state, const at::Tensor& x, int64_t first);
  at::Tensor Answered(int64_t first, int64_t count) const;
  Metrics OfRidge(int64_t state, size_t question) const;
  PropertyFinding Beside(size_t question) const;

  const std::unique_ptr<Source> source_;
  const int64_t states_;
  const Methods methods_;
  int64_t next_ = 0;
  Material material_;
  std::vector<Columns> columns_;   // by question
  std::vector<int64_t> document_;  // of an example to judge on, numbered from 0
  int64_t documents_ = 0;
  int64_t fitted_on_ = 0, judged_on_ = 0;  // examples that went by
  std::unique_ptr<LabelMoments> fit_, choosing_;
  std::vector<std::vector<at::Tensor>> sample_;  // by state
  at::Tensor sample_chooses_;                    // [sample] bool
  std::vector<Fitted> fits_;                     // by state
  std::vector<std::vector<Judged>> judged_;      // by state, question
};

}  // namespace plumb::trainer::probes
