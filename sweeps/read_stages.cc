#include "sweeps/read_stages.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "sweeps/field_values.h"
#include "sweeps/number.h"
#include "trainer/spec/parse.h"
#include "trainer/spec/stage_settings.h"

namespace plumb::sweeps {
namespace {

using nlohmann::json;

class StageReader {
 public:
  StageReader(SweepFile* file, std::vector<Problem>* problems)
      : file_(*file), problems_(problems) {}

  // {NAME: {KIND: {settings}}, …}: at most one first stage (pretrain, or noop without `after`); the
  // others follow it.
  void Stages(const YamlNode& v) {
    if (!v.is_map() || v.entries.empty())
      return Wrong(v.at, "expected stages, as {probes: {probe: {prompts: [\"…\"], top_k: 5}}}");
    const YamlEntry* first = nullptr;
    std::vector<StageEntry> children;
    for (const YamlEntry& e : v.entries) {
      const auto stage = ReadStageEntry(e);
      if (!stage) continue;
      if (stage->kind != "pretrain" && (stage->kind != "noop" || stage->after != nullptr)) {
        children.push_back(*stage);
      } else if (first != nullptr) {
        Wrong(e.key.at,
              absl::StrCat(stage->name, ": a second first stage; ", first->key.text,
                           " is one already. Write after: ", first->key.text, " among its settings",
                           stage->kind == "pretrain" ? ", and another kind" : ""));
      } else {
        first = &e;
        file_.stage_name = stage->name;
        file_.stage_kind = stage->kind;
        if (const auto settings = StageSettings(*stage)) file_.stage_settings = *settings;
      }
    }
    for (const StageEntry& stage : children) Child(stage, children);
  }

 private:
  void Wrong(Position at, std::string message) { problems_->push_back({at, std::move(message)}); }

  struct StageEntry {
    std::string name;
    std::string kind;
    Position at;
    const YamlNode* settings;
    const YamlEntry* after;  // nullptr where it is not said
  };

  std::optional<StageEntry> ReadStageEntry(const YamlEntry& e) {
    const std::string& name = e.key.text;
    if (!e.key.is_scalar() || name.empty() || name.size() > 64 ||
        name.find_first_not_of(
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") !=
            std::string::npos) {
      Wrong(e.key.at, "the name of a stage is 1 to 64 letters, digits, - _ .");
      return std::nullopt;
    }
    if (!e.value.is_map() || e.value.entries.empty()) {
      Wrong(e.value.at, "expected what the stage does, as {probe: {prompts: [\"…\"], top_k: 5}}");
      return std::nullopt;
    }
    const YamlEntry& kind = e.value.entries[0];
    for (const YamlEntry& other : e.value.entries) {
      if (other.key.text == "after" || other.key.text == "from") {
        Wrong(other.key.at, absl::StrCat("write it among the settings, as {probe: {after: ",
                                         other.value.text, ", …}}"));
        return std::nullopt;
      }
      if (&other == &kind) continue;
      Wrong(other.key.at, "a stage is of one kind");
      return std::nullopt;
    }
    static const std::vector<std::string> kPlanned = {"linearity", "prune", "replace", "distil"};
    std::vector<std::string> kinds = spec::StageKinds();
    kinds.insert(kinds.begin(), "pretrain");
    if (std::find(kPlanned.begin(), kPlanned.end(), kind.key.text) != kPlanned.end()) {
      Wrong(kind.key.at, absl::StrCat("stage kind ", kind.key.text,
                                      ": not supported yet; this "
                                      "version has ",
                                      absl::StrJoin(kinds, ", ")));
      return std::nullopt;
    }
    if (std::find(kinds.begin(), kinds.end(), kind.key.text) == kinds.end()) {
      Wrong(kind.key.at, absl::StrCat("unknown kind of stage ", Describe(kind.key),
                                      Suggest(kind.key.text, kinds)));
      return std::nullopt;
    }
    if (kind.value.kind != YamlNode::Kind::kNull && !kind.value.is_map()) {
      Wrong(kind.value.at, "expected a map of settings, or {}");
      return std::nullopt;
    }
    const YamlEntry* after = kind.value.is_map() ? kind.value.Find("after") : nullptr;
    return StageEntry{name, kind.key.text, kind.key.at, &kind.value, after};
  }

  void Child(const StageEntry& stage, const std::vector<StageEntry>& children) {
    const std::string& root = file_.stage_name;
    if (stage.after != nullptr && stage.after->value.text != root) {
      const YamlNode& after = stage.after->value;
      const bool child = std::any_of(children.begin(), children.end(),
                                     [&](const StageEntry& c) { return c.name == after.text; });
      Wrong(after.at,
            child ? absl::StrCat(after.text, " leaves no model to start from; only ", root, " does")
                  : absl::StrCat("no stage ", Describe(after), " to follow",
                                 Suggest(after.text, {root})));
    } else if ((stage.kind == "noop") != (file_.stage_kind == "noop")) {
      Wrong(stage.at, stage.kind == "noop"
                          ? "a noop follows a noop; after a pretraining it would do nothing"
                          : absl::StrCat(root, " is a noop, which leaves no model for a ",
                                         stage.kind, "; only a noop can follow it"));
    } else if (stage.name == root || stage.name == "timing") {
      Wrong(stage.at, absl::StrCat("the name ", stage.name,
                                   " is taken by a stage of every sweep; choose another"));
    }
    if (const auto settings = StageSettings(stage))
      file_.children.push_back({stage.at, stage.name, stage.kind, *settings});
  }

  // The canonical settings of a stage, every error at its place.
  std::optional<std::string> StageSettings(const StageEntry& stage) {
    if (stage.kind == "pretrain") {
      if (stage.settings->is_map()) ReportUnknownKeys(*stage.settings, {}, problems_);
      return "{}";
    }
    std::map<std::string, Position> keys, values;
    json given = json::object();
    if (stage.settings->is_map())
      given = ToSettings(*stage.settings, stage.kind, "", &keys, &values);
    if (!given.is_object()) return std::nullopt;
    json canonical;
    const auto errors = spec::ReadStageSettings(stage.kind, given, &canonical, nullptr);
    for (const spec::SpecError& e : errors) {
      const bool known = values.count(e.path) > 0 &&
                         (e.path.back() == ']' || spec::FindStageSetting(stage.kind, e.path));
      const Position at = known ? values[e.path] : keys.count(e.path) > 0 ? keys[e.path] : stage.at;
      Wrong(at, e.path.empty() ? e.message : absl::StrCat(e.path, ": ", e.message));
    }
    if (!errors.empty()) return std::nullopt;
    return canonical.dump();
  }

  // As JSON, with the place of every path. `after` is not a setting.
  json ToSettings(const YamlNode& v, const std::string& kind, const std::string& path,
                  std::map<std::string, Position>* keys, std::map<std::string, Position>* values) {
    if (!path.empty()) (*values)[path] = v.at;
    switch (v.kind) {
      case YamlNode::Kind::kNull:
        Wrong(v.at, path + " has no value");
        return nullptr;
      case YamlNode::Kind::kScalar:
        return ScalarSetting(v, spec::FindStageSetting(kind, path.substr(0, path.find('['))));
      case YamlNode::Kind::kList: {
        json out = json::array();
        for (size_t i = 0; i < v.items.size(); ++i)
          out.push_back(
              ToSettings(v.items[i], kind, absl::StrCat(path, "[", i, "]"), keys, values));
        return out;
      }
      case YamlNode::Kind::kMap:
        break;
    }
    json out = json::object();
    for (const YamlEntry& e : v.entries) {
      if (!e.key.is_scalar()) {
        Wrong(e.key.at, "expected the name of a setting");
      } else if (!path.empty() || e.key.text != "after") {
        const std::string inner = path.empty() ? e.key.text : path + "." + e.key.text;
        (*keys)[inner] = e.key.at;
        out[e.key.text] = ToSettings(e.value, kind, inner, keys, values);
      }
    }
    return out;
  }

  static json ScalarSetting(const YamlNode& v, const spec::StageSetting* setting) {
    const bool number = setting != nullptr && (setting->type == spec::SettingType::kInteger ||
                                               setting->type == spec::SettingType::kNumber);
    const bool flag = setting != nullptr && setting->type == spec::SettingType::kBoolean;
    if (!v.quoted && number) {
      const auto parsed = ParseNumber(v.text);
      const bool whole = parsed && *parsed == std::floor(*parsed) && std::abs(*parsed) < 1e15;
      if (whole) return static_cast<int64_t>(*parsed);
      if (parsed) return *parsed;
    }
    if (!v.quoted && flag && (v.text == "true" || v.text == "false")) return v.text == "true";
    return v.text;
  }

  SweepFile& file_;
  std::vector<Problem>* problems_;
};

}  // namespace

void ReadStages(const YamlNode& stages, SweepFile* file, std::vector<Problem>* problems) {
  StageReader(file, problems).Stages(stages);
}

}  // namespace plumb::sweeps
