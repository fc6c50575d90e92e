#include "trainer/stages/stage.h"

#include <map>

#include "trainer/spec/sha256.h"

namespace plumb::trainer {
namespace {

// Made at the first use, which is before main().
std::map<std::string, StagePlan>& Plans() {
  static auto* const plans = new std::map<std::string, StagePlan>;
  return *plans;
}

}  // namespace

RegisterStage::RegisterStage(const char* kind, StagePlan plan) { Plans().emplace(kind, plan); }

data::Split SplitNamed(const std::string& name) {
  for (const data::Split split : data::kAllSplits) {
    if (name == data::Name(split)) return split;
  }
  throw Infeasible("no split " + name);
}

std::string CheckedFile(const nlohmann::json& file) {
  if (file.is_null()) return "";
  const std::string path = file.at("path"), planned = file.at("sha256");
  std::string found;
  try {
    found = spec::Sha256HexOfFile(path);
  } catch (const std::exception& e) {
    throw Infeasible(e.what());
  }
  if (found != planned) {
    throw Infeasible(path + ": is not the file the stage was planned with (SHA-256 " +
                     found.substr(0, 12) + "…, planned " + planned.substr(0, 12) +
                     "…); hand it in again");
  }
  return path;
}

bool HasStage(const std::string& kind) { return Plans().count(kind) > 0; }

StageWork PlanStage(const std::string& kind, const StageContext& context) {
  return Plans().at(kind)(context);
}

}  // namespace plumb::trainer
