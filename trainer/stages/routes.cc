#include "trainer/stages/routes.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

namespace plumb::trainer {

using nlohmann::json;

RouteSummary Summarise(const std::vector<std::vector<TextRoute>>& by_part) {
  std::set<std::vector<int64_t>> paths;
  double evaluations = 0;
  size_t texts = 0;
  for (const auto& part : by_part) {
    texts += part.size();
    for (const TextRoute& r : part) {
      paths.insert(r.route.path);
      evaluations += static_cast<double>(r.route.evaluations);
    }
  }
  return {.layer_evaluations = texts == 0 ? 0 : evaluations / static_cast<double>(texts),
          .distinct_paths = static_cast<int64_t>(paths.size())};
}

void RecordRoutes(EventSink& sink, const std::string& row, int64_t step,
                  const spec::ModelSpec& model, const std::string& split,
                  const std::vector<data::Part>& parts,
                  const std::vector<std::vector<TextRoute>>& by_part) {
  for (size_t p = 0; p < by_part.size(); ++p) {
    const std::vector<TextRoute>& texts = by_part[p];
    const std::string& part = parts[p].name;
    // [steps][choices]; choice 0 is the skip.
    std::vector<std::vector<int64_t>> counts(model.router.steps,
                                             std::vector<int64_t>(model.n_layers + 1));
    std::set<std::vector<int64_t>> paths;
    for (const TextRoute& t : texts) {
      paths.insert(t.route.path);
      for (size_t s = 0; s < t.route.path.size(); ++s) ++counts[s][t.route.path[s] + 1];
    }
    sink.Record(row, step, "route_counts", split + "/" + part, 0,
                json{{"split", split},
                     {"part", part},
                     {"counts", counts},
                     {"texts", texts.size()},
                     {"distinct_paths", paths.size()}}
                    .dump());
    for (size_t i = 0; i < std::min(texts.size(), kMostRoutes); ++i) {
      const Route& r = texts[i].route;
      sink.Record(row, step, "route", split + "/" + part, static_cast<int64_t>(i),
                  json{{"split", split},
                       {"part", part},
                       {"document", texts[i].document},
                       {"path", r.path},
                       {"probabilities", r.probabilities},
                       {"layer_evaluations", r.evaluations}}
                      .dump());
    }
  }
}

}  // namespace plumb::trainer
