// What a stage beside pretraining is asked to do: one table of settings for each kind of stage,
// read by the sweep file, the planner and the trainer. Torch-free.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "trainer/spec/parse.h"

namespace plumb::spec {

enum class SettingType {
  kInteger,
  kNumber,
  kBoolean,
  kText,
  kChoice,
  kFile,   // {"path": absolute, "sha256": of its bytes}: whoever opens it checks the digest
  kGroup,  // a map of settings "group.name"; null where it is left out
};

// One setting of a kind of stage.
struct StageSetting {
  std::string path;  // "top_k", "generate.tokens"
  SettingType type = SettingType::kInteger;
  bool is_list = false;           // of 1 to 256 values, none twice but for texts
  std::string default_json = "";  // "" where it must be given
  double min = 0, max = 0;        // inclusive; numbers, and bytes of a text
  std::vector<std::string> choices;
  std::string doc;
};

// "probe", "painters", "finetune", "evaluate", "noop".
const std::vector<std::string>& StageKinds();
// In the order of the reference page; empty for a kind without a table.
const std::vector<StageSetting>& StageSettings(const std::string& kind);
const StageSetting* FindStageSetting(const std::string& kind, const std::string& path);

// Checks settings, strictly: unknown names (with the nearest known one), wrong types, values out of
// range, what must be given and is not, all at once. `path` of an error is "generate.tokens" or
// "prompts[1]", "" for what several settings say together. Where there is no error, `canonical`
// gets the settings that are not at their default, equal for equal work, and `full` all of them;
// either may be null.
std::vector<SpecError> ReadStageSettings(const std::string& kind, const nlohmann::json& given,
                                         nlohmann::json* canonical, nlohmann::json* full);

// A noop's `bowl`, "train.lr = 0.003, train.beta2 = 0.95": numeric fields and the values, above 0,
// where it is lowest. nullopt for anything else; of an empty text there are no sides.
struct BowlSide {
  std::string field;
  double lowest = 1;
};
std::optional<std::vector<BowlSide>> ReadBowl(const std::string& text);

// [{"kind", "path", "type", "default", "min", "max", "choices", "doc"}], for the reference page.
nlohmann::json StageSettingReference();

}  // namespace plumb::spec
