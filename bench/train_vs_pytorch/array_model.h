// An array of K models on the trainer's operations and nothing else: the arena, one forward pass,
// one optimizer step. What the operations themselves cost and compute, without data, schedules or
// checkpoints around them.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

#include "trainer/ops/ops.h"
#include "trainer/spec/parameter_layout.h"

namespace plumb::trainer {

class ArrayModel {
 public:
  ArrayModel(const spec::ModelSpec& resolved, int64_t rows, int64_t seq_len);

  // Row k's parameter, a view of the arena to write initial values to.
  at::Tensor Value(const std::string& name, int64_t k) const;
  // One step on ids, targets [K, B, T]: the mean loss of each row before the update. `rows` and
  // `decay` as in AdamWStep; grad_scale is set here from `clip` (0: none).
  std::vector<double> Step(const at::Tensor& ids, const at::Tensor& targets,
                           std::vector<ops::AdamWRow> rows, const std::vector<double>& decay,
                           double clip);
  int64_t parameters() const;

 private:
  at::Tensor Parameter(const std::string& name) const { return leaves_.at(name); }
  at::Tensor Forward(const at::Tensor& ids) const;  // [K, M, V]

  spec::ModelSpec model_;
  spec::ParameterLayout layout_;
  int64_t rows_, seq_len_;
  at::Tensor weights_, grads_, m_, v_, cos_, sin_;
  std::map<std::string, at::Tensor> leaves_;
  std::vector<ops::AdamWSegment> segments_;
};

}  // namespace plumb::trainer
