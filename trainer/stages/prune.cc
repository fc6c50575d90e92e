// Stage "prune": what is left of a trained model without some of its layers (docs/pruning.md).
#include <algorithm>
#include <cmath>

#include "trainer/linearity/score.h"
#include "trainer/pruning.h"
#include "trainer/stages/stage.h"
#include "trainer/stages/task.h"

namespace plumb::trainer {
namespace {

using nlohmann::json;

json Finite(double value) { return std::isfinite(value) ? json(value) : json(); }

void TellLayers(const StageContext& c, const std::vector<LayerFinding>& layers) {
  for (size_t l = 0; l < layers.size(); ++l) {
    const LayerFinding& f = layers[l];
    c.Record("prune_layer", "layer", static_cast<int64_t>(l),
             {{"layer", l},
              {"score", Finite(f.linearity.score)},
              {"score_without", Finite(f.linearity.score_without)},
              {"rho", Finite(f.linearity.rho)},
              {"n", f.linearity.n},
              {"rank", f.linearity.rank},
              {"identity_error", Finite(f.identity_error)},
              {"map_error", Finite(f.map_error)},
              {"definition", linearity::kDefinition}});
  }
}

// The tasks that are asked of each model, by name.
using Tasks = std::vector<std::pair<std::string, AskedTask>>;

void Tell(const StageContext& c, const PruningResult& r, const Tasks& tasks) {
  json record = {{"method", r.method},
                 {"layers_removed", r.removed.size()},
                 {"removed", r.removed},
                 {"order", c.settings.at("order")},
                 {"split", c.settings.at("split")},
                 {"fit", c.settings.at("fit")},
                 {"loss", Finite(r.score.loss())},
                 {"perplexity", Finite(r.score.perplexity())},
                 {"tokens", r.score.tokens},
                 {"stream_error", Finite(r.stream_error)},
                 {"parameters", r.parameters},
                 {"flops_per_token", r.flops_per_token},
                 {"tokens_per_second", r.tokens_per_second},
                 {"distil", r.method == "distil" ? c.settings.at("distil_what") : json()},
                 {"definition", linearity::kDefinition}};
  for (const auto& [name, task] : tasks) {
    for (const auto& [group, scores] : TaskScores(task)) {
      if (group.empty()) record["tasks"][name] = scores;
    }
  }
  c.Record("prune", r.method, static_cast<int64_t>(r.removed.size()), record);
}

// Makes a model, asks it the tasks in pieces, and tells of it.
template <typename Make>
void AddModel(const StageContext& c, const Tasks& tasks, const Make& make, StageWork* work) {
  const auto remains = std::make_shared<Remains>();
  work->push_back([remains, make] { *remains = make(); });
  for (const auto& [name, task] : tasks) {
    for (size_t pass = 0; pass < task.run->passes(); ++pass)
      work->push_back([remains, run = task.run, pass] {
        const Student& s = remains->student;
        run->Pass(pass, *s.bundle, s.row, &s.substitutes);
      });
  }
  work->push_back([remains, tasks, &c] {
    Tell(c, remains->result, tasks);
    *remains = {};
  });
}

StageWork PlanPrune(const StageContext& c) {
  const json& s = c.settings;
  const PruningPlan plan{.fit = SplitNamed(s.at("fit")),
                         .score = SplitNamed(s.at("split")),
                         .fit_tokens = s.at("fit_tokens"),
                         .tokens = s.at("tokens"),
                         .order = s.at("order"),
                         .seed = s.at("seed"),
                         .everything = s.at("distil_what") == "everything",
                         .steps = s.at("distil_steps"),
                         .windows = s.at("distil_windows"),
                         .lr = s.at("distil_lr")};
  std::shared_ptr<Pruning> pruning;
  try {
    pruning = std::make_shared<Pruning>(*c.bundle, 0, *c.dataset, c.spec, plan);
  } catch (const std::exception& e) {
    throw Infeasible(e.what());
  }
  Tasks tasks;
  for (const auto& [name, settings] : s.at("tasks").items())
    tasks.emplace_back(name, OpenTask(c, settings));
  StageWork work;
  for (int64_t i = 0; i < pruning->fit_pieces(); ++i)
    work.push_back([pruning, i] { pruning->FitOn(i); });
  work.push_back([pruning, &c] { TellLayers(c, pruning->FitMaps()); });
  work.push_back([pruning] { pruning->Rank(); });
  AddModel(
      c, tasks, [pruning] { return pruning->Whole(); }, &work);
  const int64_t L = c.spec.model.n_layers, asked = s.at("layers").get<int64_t>();
  const int64_t most = asked > 0 ? std::min(asked, L) : L - 1;
  for (int64_t n = 1; n <= most; ++n) {
    for (const json& method : s.at("methods")) {
      AddModel(
          c, tasks,
          [pruning, n, method = method.get<std::string>()] { return pruning->Left(method, n); },
          &work);
    }
  }
  return work;
}

const RegisterStage kPrune("prune", PlanPrune);

}  // namespace
}  // namespace plumb::trainer
