// What an expression may ask of a resolved trial: its fields and what is counted from them.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "sweeps/expression.h"
#include "trainer/spec/trial_spec.h"

namespace plumb::sweeps {

// params_total, params_non_embedding, params_embedding, flops_per_token (of training), tokens,
// flops, steps, seconds.
const std::vector<std::string>& MeasureNames();
bool IsMeasure(const std::string& name);
// Of a resolved spec; `name` must be a measure other than seconds, which are a prediction
// (sweeps/predict.h).
double Measure(const std::string& name, const spec::TrialSpec& resolved);

// The measure, the full path of a field ("model.d_model" for "d_model"), or a word that some field
// may have as its value ("rmsnorm", returned with quotes). InvalidArgument with the nearest name,
// or the paths a bare name could mean.
absl::StatusOr<std::string> ResolveName(const std::string& name);

// What names of one file's expressions may mean beside fields and measures: its variants.
struct NameContext {
  std::vector<std::string> variants;  // in the order of the file
};
// The same; "variant" is itself, a variant's name is a quoted word, ref(VARIANT).NAME is
// "ref(VARIANT).full.path".
absl::StatusOr<std::string> ResolveName(const std::string& name, const NameContext& context);

// When a resolved name is known: axes → shape expressions → solve → counts → budget → where.
enum class Phase { kFields, kCounts, kBudget };
Phase KnownIn(const std::string& resolved_name);
// Whether an expression for this field is evaluated with the shape, before anything is counted;
// else it is evaluated after the counts.
bool IsShapeField(const std::string& path);

// Evaluates names of an expression on one resolved spec.
class SpecValues {
 public:
  // `seconds`: what gives the measure of that name.
  SpecValues(const spec::TrialSpec& resolved, std::function<absl::StatusOr<double>()> seconds)
      : spec_(resolved), seconds_(std::move(seconds)) {}
  absl::StatusOr<Value> operator()(const std::string& name) const;

 private:
  const spec::TrialSpec& spec_;
  const std::function<absl::StatusOr<double>()> seconds_;
};

}  // namespace plumb::sweeps
