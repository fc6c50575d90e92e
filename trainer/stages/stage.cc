#include "trainer/stages/stage.h"

#include <map>

namespace plumb::trainer {
namespace {

// Made at the first use, which is before main().
std::map<std::string, StagePlan>& Plans() {
  static auto* const plans = new std::map<std::string, StagePlan>;
  return *plans;
}

}  // namespace

RegisterStage::RegisterStage(const char* kind, StagePlan plan) { Plans().emplace(kind, plan); }

bool HasStage(const std::string& kind) { return Plans().count(kind) > 0; }

StageWork PlanStage(const std::string& kind, const StageContext& context) {
  return Plans().at(kind)(context);
}

}  // namespace plumb::trainer
