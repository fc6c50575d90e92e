// Logistic probes: multinomial, L2, to the optimum, in double, always by the same steps.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "trainer/linearity/score.h"

namespace plumb::trainer::probes {

using linearity::AffineMap;

// What is tried, from the strongest on: mean cross-entropy in nats + penalty / 2 · |w|², z the
// state with each dimension of deviation 1, softmax(z w + b), b free.
const std::vector<double>& LogisticPenalties();

struct LogisticFit {
  AffineMap map;  // x -> logits
  double penalty = 0;
  double objective = 0;  // of the examples fitted on, penalty included
  double gradient = 0;   // its largest entry there
  int64_t steps = 0;
};

// The states that probes of several questions are fitted on.
class Logistic {
 public:
  // Gradients end below this; where the steps do not suffice, `gradient` says so.
  static constexpr double kTolerance = 1e-7;
  static constexpr int64_t kMostSteps = 2000;

  explicit Logistic(const at::Tensor& states);  // [n, d] of any type

  // label [n] int64 on the states' device, each below `classes`, all of which are there; examples
  // with -1 are left out.
  LogisticFit Fit(const at::Tensor& label, int64_t classes, double penalty) const;

  // From the strongest penalty on, as long as the loss of the `choosing` examples [n] bool falls;
  // then the fit of all with the best. Each class is among those that do not choose.
  LogisticFit Choose(const at::Tensor& label, int64_t classes, const at::Tensor& choosing) const;

 private:
  struct Weights {
    at::Tensor w;  // [rank, C], of the rotated z
    at::Tensor b;  // [C]
  };
  struct Optimum {
    Weights weights;
    double objective = 0, gradient = 0;
    int64_t steps = 0;
  };
  Optimum Minimise(const at::Tensor& z, const at::Tensor& label, int64_t classes, double penalty,
                   double tolerance, const Weights& from) const;
  AffineMap MapOf(const Weights& weights) const;

  at::Tensor mean_, rotation_, values_, z_;  // z_ [n, rank] = (x - mean) rotation
};

}  // namespace plumb::trainer::probes
