#include "trainer/stages/stage.h"

#include <map>

namespace plumb::trainer {
namespace {
const std::map<std::string, StageWork (*)(const StageContext&)>& Plans() {
  static const auto* const plans =
      new std::map<std::string, StageWork (*)(const StageContext&)>{{"probe", PlanProbe},
                                                                    {"painters", PlanPainters},
                                                                    {"finetune", PlanFinetune},
                                                                    {"evaluate", PlanEvaluate}};
  return *plans;
}
}  // namespace

bool HasStage(const std::string& kind) { return Plans().count(kind) > 0; }

StageWork PlanStage(const std::string& kind, const StageContext& context) {
  return Plans().at(kind)(context);
}

}  // namespace plumb::trainer
