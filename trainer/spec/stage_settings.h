// Kinds of stages, and what each is asked to do: one table, read by the sweep file, the planner,
// the schema, the server, the worker and the trainer. Torch-free. docs/how-to/add-a-stage.md adds
// one.
#pragma once

#include <cstdint>
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
  kMap,    // a map of anything, as the program that the stage runs understands it
  kTasks,  // a map of names, each with the settings of a stage of kind "task"
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

// What a stage leaves for another to start from.
enum class Leaves {
  kNothing,
  kModel,  // a checkpoint of ours
  kFiles,  // a checkpoint that only who wrote it understands
  kNoop,   // nothing, but a no-op asks for nothing
};

// Versions of what stages measure; docs/linearity.md and docs/probes.md say what they are of. What
// is computed changes only with them. They stand in every series and record.
inline constexpr int64_t kLinearityDefinition = 1;
inline constexpr int64_t kProbesDefinition = 1;

struct StageKind {
  std::string name;
  // The version of its numbers' definitions; 0: it has none. Canonical settings name it from 2 on,
  // so that under a new one the stage is another, to be run again over old checkpoints.
  int64_t definition = 0;
  bool first = false;        // it may be the first stage of a trial
  std::vector<Leaves> from;  // what a stage before it must leave; empty: it follows none
  Leaves leaves = Leaves::kNothing;
  std::vector<StageSetting> settings;  // in the order of the reference page
};
// Every kind that a sweep file may name, "pretrain" first.
const std::vector<StageKind>& StageKindTable();
const StageKind* FindStageKind(const std::string& kind);  // nullptr for an unknown one

// Why a stage of this kind cannot follow one of that kind; "" where it can. Both are known kinds;
// `parent` and `parent_kind` are of the stage that it would follow.
std::string CannotFollow(const std::string& kind, const std::string& parent,
                         const std::string& parent_kind);

// A label that workers need for such a stage, whose settings are canonical: "commands" for one that
// runs a command, "trainer=NAME" for one that runs another trainer; "" for none.
std::string WorkerLabel(const std::string& kind, const nlohmann::json& settings);
inline constexpr char kCommandsLabel[] = "commands";
inline constexpr char kTrainerLabel[] = "trainer=";

// The kinds that have settings: all but "pretrain".
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
std::vector<SpecError> ReadStageSettings(const StageKind& kind, const nlohmann::json& given,
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
