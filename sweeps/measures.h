// What an expression may ask of a resolved trial: its fields and what is counted from them.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "sweeps/expression.h"
#include "trainer/spec/trial_spec.h"

namespace plumb::sweeps {

// params_total, params_non_embedding, params_embedding, flops_per_token (of training), tokens,
// flops, steps.
const std::vector<std::string>& MeasureNames();
bool IsMeasure(const std::string& name);
// Of a resolved spec; `name` must be a measure.
double Measure(const std::string& name, const spec::TrialSpec& resolved);

// The measure, the full path of a field ("model.d_model" for "d_model"), or a word that some field
// may have as its value ("rmsnorm", returned with quotes). InvalidArgument with the nearest name,
// or the paths a bare name could mean.
absl::StatusOr<std::string> ResolveName(const std::string& name);

// Evaluates names of an expression on one resolved spec.
class SpecValues {
 public:
  explicit SpecValues(const spec::TrialSpec& resolved) : spec_(resolved) {}
  absl::StatusOr<Value> operator()(const std::string& name) const;

 private:
  const spec::TrialSpec& spec_;
};

}  // namespace plumb::sweeps
