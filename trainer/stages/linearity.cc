// Stage "linearity": how linear the moves of a trained model's residual stream are.
#include <algorithm>
#include <cmath>

#include "trainer/linearity/measurement.h"
#include "trainer/stages/stage.h"

namespace plumb::trainer {
namespace {

using linearity::Findings;
using linearity::Measurement;
using linearity::MeasurementPlan;
using nlohmann::json;

MeasurementPlan PlanOf(const StageContext& c) {
  const json& s = c.settings;
  MeasurementPlan plan{.fit = SplitNamed(s.at("fit")),
                       .score = SplitNamed(s.at("score")),
                       .tokens = s.at("tokens"),
                       .score_tokens = s.at("score_tokens"),
                       .from_position = s.at("from_position"),
                       .twonn_points = s.at("twonn_points"),
                       .logit_lens = s.at("logit_lens")};
  if (plan.from_position >= c.spec.eval.seq_len) {
    throw Infeasible("from_position " + std::to_string(plan.from_position) +
                     " leaves nothing of texts of " + std::to_string(c.spec.eval.seq_len) +
                     " tokens");
  }
  if (plan.logit_lens && c.spec.train.objective == spec::Objective::kMlm)
    throw Infeasible("logit_lens: a model of the mlm objective has no next token");
  return plan;
}

json ToJson(const linearity::Metrics& metrics) {
  json out = json::object();
  for (const auto& [name, value] : metrics) {
    if (name == "rank" || name == "n" || name == "n_held_out") {
      out[name] = static_cast<int64_t>(value);
    } else {
      out[name] = std::isfinite(value) ? json(value) : json();
    }
  }
  return out;
}

void Tell(const StageContext& c, const Findings& findings) {
  c.sink->Points(c.name, 1, PointsOf(findings));
  const auto record = [&](const char* kind, const std::string& name, int64_t index, json value) {
    value["definition"] = linearity::kDefinition;
    value["fit"] = c.settings.at("fit"), value["score_on"] = c.settings.at("score");
    value["warnings"] = findings.warnings;
    c.Record(kind, name, index, value);
  };
  for (const auto& [transition, metrics] : findings.transitions) {
    json value = ToJson(metrics);
    value["group"] = transition.group, value["from"] = transition.from;
    value["to"] = transition.to;
    record("linearity", transition.group, transition.index, std::move(value));
  }
  for (const auto& [state, metrics] : findings.states) {
    json value = ToJson(metrics);
    value["state"] = state;
    record("linearity_state", "state", state, std::move(value));
  }
}

StageWork PlanLinearity(const StageContext& c) {
  std::shared_ptr<Measurement> measurement;
  try {
    measurement = std::make_shared<Measurement>(*c.bundle, 0, *c.dataset, c.spec, PlanOf(c));
  } catch (const std::runtime_error& e) {  // too few texts
    throw Infeasible(e.what());
  }
  StageWork work;
  for (int64_t i = 0; i < measurement->pieces(); ++i)
    work.push_back([measurement] { measurement->Advance(); });
  work.push_back([measurement, &c] { Tell(c, measurement->Finish()); });
  return work;
}

const RegisterStage kLinearity("linearity", PlanLinearity);

}  // namespace
}  // namespace plumb::trainer
