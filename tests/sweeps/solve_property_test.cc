// For every preset and random targets: the shape that is printed has the count that is printed, and
// no admissible neighbour is nearer.
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "sweeps/draw.h"
#include "tests/sweeps/corpora.h"
#include "trainer/spec/fields.h"
#include "trainer/spec/parameter_layout.h"
#include "trainer/spec/parse.h"
#include "trainer/spec/presets.h"

namespace plumb::sweeps {
namespace {

struct Knob {
  const char* field;
  const char* rest;  // of the model
  int64_t multiple_of;
};

double CountOf(const spec::TrialSpec& resolved, const std::string& measure) {
  const spec::ParameterCounts counts = spec::CountParameters(resolved.model);
  if (measure == "params_total") return static_cast<double>(counts.total);
  if (measure == "params_non_embedding") return static_cast<double>(counts.non_embedding);
  return static_cast<double>(spec::TrainingFlopsPerToken(resolved.model, resolved.data.seq_len));
}

// The measure with the field at another value; nullopt where no such model can be built.
std::optional<double> At(const spec::TrialSpec& base, const std::string& field, int64_t value,
                         const std::string& measure) {
  spec::TrialSpec s = base;
  for (const spec::Field& f : spec::Fields(s)) {
    if (f.path == field && !f.set(value).empty()) return std::nullopt;
  }
  if (!spec::Resolve(&s).empty()) return std::nullopt;
  return CountOf(s, measure);
}

TEST(Solve, EveryPresetsShapeIsTheNearestToItsTarget) {
  const Knob knobs[] = {{"model.d_model", "n_heads: 4", 8},
                        {"model.d_model", "head_dim: 16", 16},
                        {"model.d_ff", "n_heads: 4, d_model: 64", 1},
                        {"model.n_layers", "n_heads: 4, d_model: 64", 1}};
  const char* const measures[] = {"params_total", "params_non_embedding", "flops_per_token"};
  const auto presets = spec::PresetNames();
  int64_t solved = 0, refused = 0;
  std::map<std::string, int64_t> by_preset;
  for (uint64_t i = 0; i < 520; ++i) {
    const std::string& preset = presets[i % presets.size()];
    const Knob& knob = knobs[Mix(i) % 4];
    const std::string measure = measures[Mix(i + 1000) % 3];
    const double target = std::round(1e5 * std::pow(30, Uniform(1, i, 0)));
    const std::string yaml = absl::StrCat(
        "sweep: s\ntrial: {model: {preset: ", preset, ", ", knob.rest,
        "}, data: {corpus: docs, seq_len: 32}, train: {steps: 1, batch_tokens: 1024}}\naxes: {",
        knob.field, ": {solve: ", measure, ", target: ", static_cast<int64_t>(target),
        ", multiple_of: ", knob.multiple_of, ", tolerance: 100%}}\n");
    const auto plan = PlanSweep(yaml, "f.yaml", TestCorpora);
    if (!plan.ok()) {  // twice the target, and more, for the smallest shape
      EXPECT_NE(plan.status().message().find("; the nearest is"), absl::string_view::npos)
          << yaml << plan.status().message();
      ++refused;
      continue;
    }
    ++solved, ++by_preset[preset];
    ASSERT_EQ(plan->trials.size(), 1u);
    ASSERT_EQ(plan->residuals.size(), 1u);
    const PlannedTrial& t = plan->trials[0];
    const SolveResidual& r = plan->residuals[0];
    EXPECT_EQ(r.target, target);
    EXPECT_EQ(r.reached, CountOf(t.config, measure)) << yaml;
    int64_t constructed = 0;
    for (const spec::Parameter& p : spec::LayoutOf(t.config.model).parameters)
      constructed += p.size();
    EXPECT_EQ(t.params.total, constructed) << yaml;
    const auto value =
        nlohmann::json::parse(plan->cells[0].axes_json).at(knob.field).get<int64_t>();
    EXPECT_EQ(value % knob.multiple_of, 0);
    // The unresolved trial, so that what follows from the field follows again.
    nlohmann::json flat = {{"model.preset", preset},
                           {"data.seq_len", 32},
                           {"train.steps", 1},
                           {"train.batch_tokens", 1024},
                           {"data.corpus", "docs"}};
    const std::string rest = knob.rest;
    if (rest.find("n_heads: 4") == 0) flat["model.n_heads"] = 4;
    if (rest.find("d_model: 64") != std::string::npos) flat["model.d_model"] = 64;
    if (rest.find("head_dim: 16") == 0) flat["model.head_dim"] = 16;
    spec::TrialSpec base;
    ASSERT_TRUE(spec::Parse(flat, &base).empty());
    ASSERT_EQ(At(base, knob.field, value, measure), r.reached) << yaml;
    for (int64_t step = -20; step <= 20; ++step) {
      const int64_t other = value + step * knob.multiple_of;
      if (other < 1) continue;
      const auto there = At(base, knob.field, other, measure);
      if (!there) continue;
      EXPECT_LE(std::abs(r.reached - target), std::abs(*there - target))
          << yaml << "solved " << value << ", but " << other << " has " << *there;
    }
  }
  EXPECT_GE(solved, 500);
  for (const std::string& preset : presets) EXPECT_GE(by_preset[preset], 10) << preset;
  EXPECT_LE(refused, 20);
}

}  // namespace
}  // namespace plumb::sweeps
