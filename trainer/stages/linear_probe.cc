// Stage "linear_probe": what a linear map reads from each state of a trained model's residual
// stream (docs/probes.md).
#include <algorithm>
#include <cmath>

#include "data/tokenizer.h"
#include "trainer/model.h"
#include "trainer/probes/probing.h"
#include "trainer/stages/stage.h"

namespace plumb::trainer {
namespace {

using nlohmann::json;
using probes::Findings;
using probes::Probing;

json ToJson(const probes::Metrics& metrics) {
  json out = json::object();
  for (const auto& [name, value] : metrics) {
    if (name == "steps" || name.rfind("n", 0) == 0) {
      out[name] = static_cast<int64_t>(value);
    } else {
      out[name] = std::isfinite(value) ? json(value) : json();
    }
  }
  return out;
}

void Tell(const StageContext& c, const Findings& findings) {
  c.sink->Points(c.name, 1, PointsOf(findings));
  const json& s = c.settings;
  for (const probes::PropertyFinding& p : findings.properties) {
    const bool texts = p.property == "label";
    json about = ToJson(p.metrics);
    about["property"] = p.property, about["definition"] = probes::kDefinition;
    about["fit"] = p.fit_on, about["score_on"] = p.score_on;
    about["file"] = texts ? s.at("file").at("path") : json();
    about["pool"] = texts ? s.at("pool") : json();
    about["classes"] = p.classes, about["warnings"] = p.warnings;
    c.Record("linear_probe_property", p.property, 0, about);
    for (const probes::ProbeFinding& probe : findings.probes) {
      if (probe.property != p.property) continue;
      json value = ToJson(probe.metrics);
      value["property"] = probe.property, value["method"] = probe.method;
      value["state"] = probe.state, value["definition"] = probes::kDefinition;
      c.Record("linear_probe", probe.property + "/" + probe.method, probe.state, value);
    }
  }
}

std::unique_ptr<probes::Source> Tokens(const StageContext& c, std::vector<std::string> properties,
                                       const data::Tokenizer* tokenizer) {
  const json& s = c.settings;
  return probes::TokenSource(*c.bundle, 0, *c.dataset, tokenizer, c.spec,
                             {.properties = std::move(properties),
                              .fit = SplitNamed(s.at("fit")),
                              .score = SplitNamed(s.at("score")),
                              .tokens = s.at("tokens"),
                              .score_tokens = s.at("score_tokens"),
                              .sample = s.at("logistic_tokens"),
                              .frequency_classes = s.at("frequency_classes")});
}

std::unique_ptr<probes::Source> Texts(const StageContext& c, const data::Tokenizer& tokenizer) {
  const json& s = c.settings;
  const spec::ModelSpec& m = c.spec.model;
  const auto asked = s.at("max_tokens").get<int64_t>();
  const int64_t context = asked > 0 ? asked : c.spec.data.seq_len;
  if (m.max_positions > 0 && context > m.max_positions)
    throw Infeasible("max_tokens " + std::to_string(context) + ": the model has " +
                     std::to_string(m.max_positions) + " positions");
  if (const int64_t longest = std::max(c.spec.data.seq_len, c.spec.eval.seq_len); context > longest)
    throw Infeasible("max_tokens " + std::to_string(context) +
                     " is longer than what the trial was made for, " + std::to_string(longest));
  return probes::TextSource(
      *c.bundle, 0,
      data::ReadClassification(
          CheckedFile(s.at("file")), tokenizer,
          {.seq_len = context, .holdout = s.at("holdout").get<double>(), .max_classes = 256}),
      s.at("pool") == "last" ? probes::Pool::kLast : probes::Pool::kMean, s.at("logistic_tokens"));
}

StageWork PlanLinearProbe(const StageContext& c) {
  const json& s = c.settings;
  auto properties = s.at("properties").get<std::vector<std::string>>();
  const bool labels = std::erase(properties, "label") > 0;
  const bool characters = std::count(properties.begin(), properties.end(), "character_class") > 0;
  std::shared_ptr<data::Tokenizer> tokenizer;
  try {
    tokenizer = data::OpenTokenizer(c.data_dir);
  } catch (const data::DataError& e) {
    if (labels || characters) {
      throw Infeasible(std::string(e.what()) + ": leave out " +
                       (labels ? "label" : "character_class"));
    }
  }
  const json& methods = s.at("methods");
  const probes::Methods which = {
      .ridge = std::count(methods.begin(), methods.end(), "ridge") > 0,
      .logistic = std::count(methods.begin(), methods.end(), "logistic") > 0};
  const int64_t moves = StreamMoves(c.spec.model);
  std::vector<std::shared_ptr<Probing>> all;
  try {
    if (!properties.empty())
      all.push_back(
          std::make_shared<Probing>(Tokens(c, properties, tokenizer.get()), moves, which));
    if (labels) all.push_back(std::make_shared<Probing>(Texts(c, *tokenizer), moves, which));
  } catch (const std::runtime_error& e) {  // too few texts, or a file that is none
    throw Infeasible(e.what());
  }
  StageWork work;
  for (const std::shared_ptr<Probing>& probing : all) {
    for (int64_t i = 0; i < probing->pieces(); ++i) {
      work.push_back([probing, tokenizer] {
        try {
          probing->Advance();
        } catch (const std::runtime_error& e) {  // too little to ask; not LibTorch's own errors
          throw Infeasible(e.what());
        }
      });
    }
    work.push_back([probing, &c] { Tell(c, probing->Finish()); });
  }
  return work;
}

const RegisterStage kLinearProbe("linear_probe", PlanLinearProbe);

}  // namespace
}  // namespace plumb::trainer
