// Ridge probes in closed form from streamed moments, in double.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "trainer/linearity/score.h"

namespace plumb::trainer::probes {

using linearity::AffineMap;

// Central moments of the states of some examples and of what is asked of them, merged as
// linearity::Moments are. Memory: d² for each state, whatever the examples.
class LabelMoments {
 public:
  explicit LabelMoments(int64_t states) : mean_(states), gram_(states), cross_(states) {}

  // states [n, d] each, of any type; answers [n, K] in double, on the same device.
  void Add(const std::vector<at::Tensor>& states, const at::Tensor& answers);
  void Merge(const LabelMoments& other);

  int64_t n() const { return n_; }
  const at::Tensor& mean(int64_t state) const { return mean_[state]; }    // [d]
  const at::Tensor& gram(int64_t state) const { return gram_[state]; }    // [d, d]
  const at::Tensor& cross(int64_t state) const { return cross_[state]; }  // [d, K]
  const at::Tensor& answer_mean() const { return answer_mean_; }          // [K]
  const at::Tensor& answer_squares() const { return answer_squares_; }    // [K], of deviations

 private:
  int64_t n_ = 0;
  std::vector<at::Tensor> mean_, gram_, cross_;
  at::Tensor answer_mean_, answer_squares_;
};

// Columns of the answers that are one question.
struct Columns {
  int64_t first = 0, width = 1;
};

// What is tried: |y - z w - b|² / n + penalty |w|², z the state with each dimension of deviation 1.
const std::vector<double>& RidgePenalties();

// With a penalty that is given: the map x -> y. `spectrum` of the state's gram.
AffineMap Ridge(const LabelMoments& moments, int64_t state, const linearity::Spectrum& spectrum,
                const Columns& columns, double penalty);

struct RidgeFit {
  AffineMap map;                // of all columns
  std::vector<double> penalty;  // by question
};
// Of each question the penalty whose map, fitted on `fit`, has the least squared error on
// `choosing`; with it the map of both together. The error follows from the moments of `choosing`:
// nothing is read again.
RidgeFit FitRidge(const LabelMoments& fit, const LabelMoments& choosing, int64_t state,
                  const std::vector<Columns>& questions);

}  // namespace plumb::trainer::probes
