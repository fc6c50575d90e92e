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

  // {NAME: {from: PARENT, KIND: {settings}}, …}: a tree below one first stage, which is a training
  // unless the file says otherwise.
  void Stages(const YamlNode& v) {
    if (!v.is_map() || v.entries.empty())
      return Wrong(v.at, "expected stages, as {probes: {probe: {prompts: [\"…\"], top_k: 5}}}");
    for (const YamlEntry& e : v.entries) {
      if (auto stage = ReadStageEntry(e)) {
        entries_.push_back(std::move(*stage));
      } else if (e.key.is_scalar()) {
        broken_.push_back(e.key.text);
      }
    }
    FindFirst();
    for (StageEntry& stage : entries_) {
      if (&stage != first_) Place(stage);
    }
  }

  std::optional<LoneStage> Lone(const YamlNode& v) {
    if (!v.is_map() || v.entries.size() != 1) {
      Wrong(v.at, "expected one stage, as {scores: {from: base, evaluate: {splits: [test]}}}");
      return std::nullopt;
    }
    const auto stage = ReadStageEntry(v.entries[0]);
    if (!stage) return std::nullopt;
    if (stage->kind == "pretrain") {
      Wrong(stage->at, spec::CannotFollow("pretrain", "", "pretrain"));
      return std::nullopt;
    }
    const auto settings = StageSettings(*stage);
    if (!settings) return std::nullopt;
    LoneStage out{.name = stage->name,
                  .kind = stage->kind,
                  .fans_out = stage->fans_out,
                  .settings_json = *settings};
    for (const YamlNode* from : stage->from) out.from.push_back(from->text);
    return out;
  }

 private:
  void Wrong(Position at, std::string message) { problems_->push_back({at, std::move(message)}); }

  // A stage of the file; of several parents it makes as many stages of a trial.
  struct StageEntry {
    std::string name;
    std::string kind;
    Position at, key_at;
    const YamlNode* settings;
    std::vector<const YamlNode*> from;  // empty where it is not said
    bool fans_out = false;
    enum { kNew, kUnderWay, kPlaced } state = kNew;
    std::vector<std::string> made;  // their names
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
      Wrong(e.value.at,
            "expected what the stage does, as {from: base, probe: {prompts: [\"…\"], top_k: 5}}");
      return std::nullopt;
    }
    StageEntry out{.name = name, .key_at = e.key.at};
    const YamlEntry *kind = nullptr, *from = nullptr;
    for (const YamlEntry& member : e.value.entries) {
      if (member.key.text == "from") {
        from = &member;
      } else if (member.key.text == "after") {
        Wrong(member.key.at,
              absl::StrCat("beside the kind the word is from: {from: ", member.value.text, ", …}"));
        return std::nullopt;
      } else if (kind != nullptr) {
        Wrong(member.key.at,
              absl::StrCat("a stage is of one kind; this one is a ", kind->key.text));
        return std::nullopt;
      } else {
        kind = &member;
      }
    }
    if (kind == nullptr) {
      Wrong(e.value.at, "the stage's kind is missing, as {from: base, evaluate: {}}");
      return std::nullopt;
    }
    if (!ReadKind(*kind)) return std::nullopt;
    out.kind = kind->key.text, out.at = kind->key.at, out.settings = &kind->value;
    const YamlEntry* after = kind->value.is_map() ? kind->value.Find("after") : nullptr;
    if (after != nullptr && from != nullptr) {
      Wrong(after->key.at, "after: and from: say the same; keep from:");
      return std::nullopt;
    }
    if (after != nullptr) out.from = {&after->value};
    if (from != nullptr && !ReadFrom(from->value, &out)) return std::nullopt;
    return out;
  }

  bool ReadKind(const YamlEntry& kind) {
    std::vector<std::string> kinds;
    for (const spec::StageKind& k : spec::StageKindTable()) kinds.push_back(k.name);
    const std::string& text = kind.key.text;
    if (std::find(kinds.begin(), kinds.end(), text) == kinds.end()) {
      Wrong(kind.key.at,
            absl::StrCat("unknown kind of stage ", Describe(kind.key), Suggest(text, kinds)));
    } else if (kind.value.kind != YamlNode::Kind::kNull && !kind.value.is_map()) {
      Wrong(kind.value.at, "expected a map of settings, or {}");
    } else {
      return true;
    }
    return false;
  }

  bool ReadFrom(const YamlNode& from, StageEntry* out) {
    out->fans_out = from.is_list();
    if (from.is_scalar()) out->from.push_back(&from);
    for (const YamlNode& item : from.items) {
      const bool again = std::any_of(out->from.begin(), out->from.end(),
                                     [&](const YamlNode* n) { return n->text == item.text; });
      if (again) {
        Wrong(item.at, absl::StrCat(item.text, " is there twice"));
        return false;
      }
      out->from.push_back(&item);
    }
    if (!out->from.empty() && std::all_of(out->from.begin(), out->from.end(),
                                          [](const YamlNode* n) { return n->is_scalar(); }))
      return true;
    Wrong(from.at, "expected the name of a stage, or a list of names, as from: [base, cut]");
    return false;
  }

  // Without a parent a stage that may be the first is meant to be.
  void FindFirst() {
    const auto may_be = [](const StageEntry& e) {
      return e.from.empty() && spec::FindStageKind(e.kind)->first;
    };
    for (StageEntry& e : entries_) {
      if (may_be(e) && (first_ == nullptr || (e.kind == "pretrain" && first_->kind != "pretrain")))
        first_ = &e;
    }
    if (first_ == nullptr) return;
    for (StageEntry& e : entries_) {
      if (&e == first_ || !may_be(e)) continue;
      Wrong(e.key_at, absl::StrCat(e.name, ": a second first stage; ", first_->name,
                                   " is one already. Write ",
                                   e.kind == "pretrain" ? "another kind, and " : "",
                                   "{from: ", first_->name, ", …}"));
      e.state = StageEntry::kPlaced;
    }
    file_.stage_name = first_->name;
    file_.stage_kind = first_->kind;
    if (first_->name == "timing") WrongName(*first_);
    if (const auto settings = StageSettings(*first_)) file_.stage_settings = *settings;
    first_->state = StageEntry::kPlaced;
  }

  void WrongName(const StageEntry& stage) {
    Wrong(stage.key_at, absl::StrCat("the name ", stage.name,
                                     " is taken by a stage of every sweep; choose another"));
  }

  // Of the stages of a trial that `from` may mean, each with its kind; empty after an error.
  std::vector<std::pair<std::string, std::string>> Parents(const YamlNode* from,
                                                           const StageEntry& child) {
    const std::string& root = file_.stage_name;
    if (from == nullptr || from->text == root) return {{root, file_.stage_kind}};
    const std::string& text = from->text;
    const std::string entry = text.substr(0, text.find(':'));
    std::vector<std::string> known = {root};
    for (StageEntry& e : entries_) {
      if (&e != &child && &e != first_) known.push_back(e.name);
      if (e.name != entry) continue;
      if (e.state == StageEntry::kUnderWay) {
        Circle(*from, e);
        return {};
      }
      Place(e);
      std::vector<std::pair<std::string, std::string>> out;
      for (const std::string& name : e.made) {
        if (entry == text || name == text) out.emplace_back(name, e.kind);
      }
      if (out.empty() && !e.made.empty())
        Wrong(from->at, absl::StrCat("no stage ", Describe(*from), Suggest(text, e.made)));
      return out;
    }
    if (std::find(broken_.begin(), broken_.end(), entry) == broken_.end())
      Wrong(from->at,
            absl::StrCat("no stage ", Describe(*from), " to follow", Suggest(text, known)));
    return {};
  }

  void Circle(const YamlNode& from, const StageEntry& again) {
    std::string way;
    for (auto it = std::find(under_way_.begin(), under_way_.end(), again.name);
         it != under_way_.end(); ++it)
      absl::StrAppend(&way, *it, " from ");
    Wrong(from.at, absl::StrCat("a circle: ", way, again.name,
                                "; a stage cannot come from itself, however far back"));
  }

  // Into the file's children, its parents before it.
  void Place(StageEntry& stage) {
    if (stage.state != StageEntry::kNew) return;
    stage.state = StageEntry::kUnderWay;
    under_way_.push_back(stage.name);
    if (stage.name == file_.stage_name || stage.name == "timing") WrongName(stage);
    if (stage.kind == "pretrain")
      Wrong(stage.at, spec::CannotFollow("pretrain", "", "pretrain") + "; leave from: out");
    std::vector<const YamlNode*> from = stage.from;
    if (from.empty()) from.push_back(nullptr);
    std::vector<std::pair<std::string, std::string>> parents;
    for (const YamlNode* node : from) {
      for (const auto& [name, kind] : Parents(node, stage)) {
        const std::string wrong =
            stage.kind == "pretrain" ? "" : spec::CannotFollow(stage.kind, name, kind);
        if (!wrong.empty()) {
          Wrong(node == nullptr ? stage.at : node->at, wrong);
        } else {
          parents.emplace_back(name, kind);
        }
      }
    }
    const auto settings = StageSettings(stage);
    if (parents.size() + file_.children.size() > kMaxStages) {
      Wrong(stage.key_at, absl::StrCat("more than ", kMaxStages, " stages in each trial"));
      parents.clear();
    }
    for (const auto& [parent, kind] : parents) {
      const bool one = !stage.fans_out && parents.size() == 1;
      stage.made.push_back(one ? stage.name : absl::StrCat(stage.name, ":", parent));
      if (settings)
        file_.children.push_back({stage.at, stage.made.back(), parent, stage.kind, *settings});
    }
    under_way_.pop_back();
    stage.state = StageEntry::kPlaced;
  }

  // The canonical settings of a stage, every error at its place.
  std::optional<std::string> StageSettings(const StageEntry& stage) {
    if (stage.kind == "pretrain") {
      if (stage.settings->is_map()) ReportUnknownKeys(*stage.settings, {"after"}, problems_);
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
                         (e.path.back() == ']' || SettingAt(stage.kind, e.path) != nullptr);
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
        return ScalarSetting(v, SettingAt(kind, path));
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
      } else if (path.empty() && e.key.text == "from" &&
                 spec::FindStageSetting(kind, "from") == nullptr) {
        Wrong(e.key.at, absl::StrCat("write it beside the kind, as {from: ", e.value.text, ", ",
                                     kind, ": {…}}"));
      } else if (!path.empty() || e.key.text != "after") {
        const std::string inner = path.empty() ? e.key.text : path + "." + e.key.text;
        (*keys)[inner] = e.key.at;
        out[e.key.text] = ToSettings(e.value, kind, inner, keys, values);
      }
    }
    return out;
  }

  // What a scalar at that place is a value of, or lies in.
  static const spec::StageSetting* SettingAt(const std::string& kind, const std::string& path) {
    const spec::StageSetting* whole =
        spec::FindStageSetting(kind, path.substr(0, path.find_first_of(".[")));
    if (whole != nullptr && whole->type == spec::SettingType::kMap) return whole;
    if (whole != nullptr && whole->type == spec::SettingType::kTasks) {  // tasks.NAME.SETTING
      const size_t name = path.find('.');
      const size_t of_task = name == std::string::npos ? name : path.find('.', name + 1);
      return of_task == std::string::npos
                 ? nullptr
                 : spec::FindStageSetting("task", path.substr(of_task + 1));
    }
    return spec::FindStageSetting(kind, path.substr(0, path.find('[')));
  }

  static json ScalarSetting(const YamlNode& v, const spec::StageSetting* setting) {
    using Type = spec::SettingType;
    const bool any = setting != nullptr && setting->type == Type::kMap;
    const bool number =
        any ||
        (setting != nullptr && (setting->type == Type::kInteger || setting->type == Type::kNumber));
    const bool flag = any || (setting != nullptr && setting->type == Type::kBoolean);
    if (!v.quoted && number) {
      const auto parsed = ParseNumber(v.text);
      const bool whole = parsed && *parsed == std::floor(*parsed) && std::abs(*parsed) < 1e15;
      if (whole) return static_cast<int64_t>(*parsed);
      if (parsed) return *parsed;
    }
    if (!v.quoted && flag && (v.text == "true" || v.text == "false")) return v.text == "true";
    return v.text;
  }

  static constexpr size_t kMaxStages = 1000;

  SweepFile& file_;
  std::vector<Problem>* problems_;
  std::vector<StageEntry> entries_;
  std::vector<std::string> broken_;  // names of entries that could not be read
  StageEntry* first_ = nullptr;
  std::vector<std::string> under_way_;
};

}  // namespace

void ReadStages(const YamlNode& stages, SweepFile* file, std::vector<Problem>* problems) {
  StageReader(file, problems).Stages(stages);
}

std::optional<LoneStage> ReadLoneStage(const std::string& yaml, std::vector<Problem>* problems) {
  SweepFile scratch;
  const size_t before = problems->size();
  const auto tree = ReadYaml(yaml, problems);
  if (!tree || problems->size() > before) return std::nullopt;
  auto out = StageReader(&scratch, problems).Lone(*tree);
  return problems->size() > before ? std::nullopt : out;
}

}  // namespace plumb::sweeps
