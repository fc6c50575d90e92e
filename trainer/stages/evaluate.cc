// Stage "evaluate": scores of a trained trial beyond those of its training.
#include "trainer/measure_plan.h"
#include "trainer/stages/routes.h"
#include "trainer/stages/stage.h"

namespace plumb::trainer {

static StageWork PlanEvaluate(const StageContext& c) {
  const bool routes = c.settings.at("routes").get<bool>();
  if (routes && !spec::Routed(c.spec.model))
    throw Infeasible("routes: the model has no router (router.gate is none)");
  const auto from = c.settings.at("from_position").get<int64_t>();
  if (from >= c.spec.eval.seq_len) {
    throw Infeasible("from_position " + std::to_string(from) + " leaves nothing to score of " +
                     std::to_string(c.spec.eval.seq_len) + " tokens");
  }
  StageWork work;
  for (const auto& name : c.settings.at("splits")) {
    work.push_back([&c, from, routes, name = name.get<std::string>()] {
      for (const data::Split split : data::kAllSplits) {
        if (name != data::Name(split)) continue;
        EvaluationPlan plan = PlanOf(c.spec, c.settings.at("tokens"));
        plan.documents = c.settings.at("documents");
        plan.scored.from = std::max(plan.scored.from, from);
        std::vector<DocumentScore> documents;
        std::vector<std::vector<TextRoute>> by_part;
        plan.document_scores = &documents;
        const std::vector<Score> parts =
            EvaluateParts(*c.bundle, 0, *c.dataset, split, plan, routes ? &by_part : nullptr);
        Score all;
        for (const Score& part : parts) all += part;
        const auto report = [&](const std::string& of, const Score& e) {
          const std::string series = "evaluate/" + of;
          c.Point(series + "/loss", e.loss());
          c.Point(series + "/perplexity", e.perplexity());
          c.Point(series + "/tokens", static_cast<double>(e.tokens));
          if (HasBitsPerByte(c.spec, c.dataset->manifest().reversible))
            c.Point(series + "/bits_per_byte", e.bits_per_byte());
        };
        report(name, all);
        for (size_t p = 0; parts.size() > 1 && p < parts.size(); ++p)
          report(name + "/" + c.dataset->parts()[p].name, parts[p]);
        if (!documents.empty()) c.sink->Documents(c.name, name, documents);
        if (!routes) continue;
        const RouteSummary r = Summarise(by_part);
        c.Point("evaluate/" + name + "/layer_evaluations", r.layer_evaluations);
        c.Point("evaluate/" + name + "/distinct_paths", static_cast<double>(r.distinct_paths));
        RecordRoutes(*c.sink, c.name, 1, c.spec.model, name, c.dataset->parts(), by_part);
      }
    });
  }
  return work;
}

static const RegisterStage kEvaluate("evaluate", PlanEvaluate);

}  // namespace plumb::trainer
