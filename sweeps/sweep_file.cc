#include "sweeps/sweep_file.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "sweeps/axes.h"
#include "sweeps/field_values.h"
#include "sweeps/measures.h"
#include "sweeps/number.h"
#include "trainer/spec/parse.h"
#include "trainer/spec/stage_settings.h"

namespace plumb::sweeps {
namespace {

using nlohmann::json;

const std::string kBudgets[] = {"train.steps", "train.tokens", "train.flops", "train.epochs"};
constexpr char kBudgetNames[] = "train.steps, train.tokens, train.flops, train.epochs";
constexpr int64_t kMaxReplicates = 10000;  // seeds of A/A members begin at 100,000

// Words of the language that this version cannot carry out, and what to write instead.
struct Later {
  const char* key;
  const char* instead;
};
constexpr Later kLater[] = {
    {"tune",
     "put the tuned field under axes:, as train.lr: {log: [1e-3, 3e-2], points: 5}, and compare "
     "the best cells"},
    {"variants",
     "use an axis over model.preset, or points: [{model.norm: rmsnorm}, {model.norm: layernorm}]"},
    {"also_match", "write a second file whose trial gives train.flops"},
    {"stop", "every trial runs to the end of its budget"},
};

class Reader {
 public:
  Reader(const std::string& yaml, std::vector<Problem>* problems) : problems_(problems) {
    if (const auto root = ReadYaml(yaml, problems)) Read(*root);
  }
  SweepFile Take() { return std::move(file_); }

 private:
  void Wrong(Position at, std::string message) { problems_->push_back({at, std::move(message)}); }

  void Read(const YamlNode& root) {
    if (!root.is_map())
      return Wrong(root.at, absl::StrCat("expected a map of keys (sweep, trial, axes, …), got ",
                                         Describe(root)));
    const std::vector<std::pair<std::string, std::function<void(const YamlEntry&)>>> keys = {
        {"sweep", [&](const YamlEntry& e) { Name(e.value); }},
        {"trial", [&](const YamlEntry& e) { Trial(e); }},
        {"axes", [&](const YamlEntry& e) { Axes(e); }},
        {"where", [&](const YamlEntry& e) { Where(e.value); }},
        {"replicates", [&](const YamlEntry& e) { Replicates(e.value); }},
        {"search", [&](const YamlEntry& e) { Search(e.value); }},
        {"objective", [&](const YamlEntry& e) { Objective(e); }},
        {"report", [&](const YamlEntry& e) { Objective(e); }},
        {"limits", [&](const YamlEntry& e) { ReadLimits(e.value); }},
        {"priority", [&](const YamlEntry& e) { Priority(e.value); }},
        {"resources", [&](const YamlEntry& e) { Resources(e.value); }},
        {"timing", [&](const YamlEntry& e) { file_.timing = Flag(e.value); }},
        {"stages", [&](const YamlEntry& e) { Stages(e.value); }},
        {"aa", [&](const YamlEntry& e) { aa_ = &e; }},
    };
    std::vector<std::string> names;
    for (const auto& [name, read] : keys) names.push_back(name);
    for (const YamlEntry& e : root.entries) {
      const auto key = std::find_if(keys.begin(), keys.end(), [&](const auto& k) {
        return e.key.is_scalar() && k.first == e.key.text;
      });
      const auto later = std::find_if(std::begin(kLater), std::end(kLater),
                                      [&](const Later& l) { return e.key.text == l.key; });
      if (key != keys.end()) {
        key->second(e);
      } else if (later != std::end(kLater)) {
        Wrong(e.key.at, absl::StrCat(later->key, ": not supported yet; ", later->instead));
      } else {
        Wrong(e.key.at, absl::StrCat("unknown key ", Describe(e.key), Suggest(e.key.text, names)));
      }
    }
    if (root.Find("sweep") == nullptr) Wrong({}, "`sweep: NAME` is missing");
    if (root.Find("trial") == nullptr) {
      file_.trial_at = root.at;
      if (file_.stage_kind != "noop")
        Wrong({}, "`trial:` is missing: the base trial, as {model: {…}, data: {…}, train: {…}}");
    }
    if (root.Find("objective") != nullptr && root.Find("report") != nullptr) {
      Wrong(root.Find("report")->key.at,
            "`report` is another word for `objective`; give one of them");
    }
    if (aa_ != nullptr) Control(aa_->value);  // after the axes, whose values it names
    CheckTogether(root);
  }

  void Name(const YamlNode& v) {
    const bool plain = v.is_scalar() && !v.text.empty() && v.text.size() <= 100 &&
                       v.text.find_first_not_of(
                           "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") ==
                           std::string::npos;
    if (!plain) return Wrong(v.at, "the name of a sweep is 1 to 100 letters, digits, - _ .");
    file_.name = v.text;
  }

  bool Flag(const YamlNode& v) {
    if (v.is_scalar() && !v.quoted && (v.text == "true" || v.text == "false"))
      return v.text == "true";
    Wrong(v.at, absl::StrCat("expected true or false, got ", Describe(v)));
    return false;
  }

  // ---- trial

  void Trial(const YamlEntry& e) {
    file_.trial_at = e.key.at;
    if (!e.value.is_map())
      return Wrong(e.value.at, absl::StrCat("expected sections (model, data, train, …), got ",
                                            Describe(e.value)));
    Section(e.value, "");
  }

  void Section(const YamlNode& map, const std::string& prefix) {
    for (const YamlEntry& e : map.entries) {
      if (!e.key.is_scalar()) {
        Wrong(e.key.at, "expected the name of a field");
        continue;
      }
      const std::string path = prefix.empty() ? e.key.text : prefix + "." + e.key.text;
      const spec::Field* field = table_.Find(path);
      if (field == nullptr && e.value.is_map() && prefix.size() < 100) {
        Section(e.value, path);
      } else if (field == nullptr) {
        const std::string near = spec::NearestField(path);
        Wrong(e.key.at, absl::StrCat(path, ": no such field",
                                     near.empty() ? "; `plumb schema trial` lists them"
                                                  : "; did you mean " + near + "?"));
      } else {
        BaseField(e, *field);
      }
    }
  }

  void BaseField(const YamlEntry& e, const spec::Field& field) {
    if (const auto [first, is_new] = file_.base_at.emplace(field.path, e.value.at); !is_new) {
      return Wrong(e.key.at, absl::StrCat(field.path, " is given twice; the first is at line ",
                                          first->second.line));
    }
    if (field.path == "data.digest")
      return Wrong(e.key.at, "data.digest is set from the prepared corpus; leave it out");
    const bool is_budget = std::count(std::begin(kBudgets), std::end(kBudgets), field.path) > 0;
    if (is_budget && e.value.is_scalar() && e.value.text.find_first_of("*+/(") != std::string::npos)
      return Budget(e.value, field.path);
    if (e.value.kind == YamlNode::Kind::kNull) return Wrong(e.key.at, field.path + " has no value");
    if (const auto value = ReadFieldValue(e.value, field, problems_))
      file_.base[field.path] = *value;
  }

  std::optional<Expression> ReadExpression(const YamlNode& v) {
    Expression::Error error;
    const auto expression = Expression::Parse(v.text, &error);
    const auto at = [&](int offset) {
      return Position{v.at.line, v.at.column + offset + (v.quoted ? 1 : 0)};
    };
    if (!expression) {
      Wrong(at(error.offset), error.message);
      return std::nullopt;
    }
    bool known = true;
    for (const Expression::Name& name : expression->names()) {
      if (const auto resolved = ResolveName(name.text); !resolved.ok()) {
        Wrong(at(name.offset), std::string(resolved.status().message()));
        known = false;
      }
    }
    return known ? expression : std::nullopt;
  }

  void Budget(const YamlNode& v, const std::string& path) {
    const auto expression = ReadExpression(v);
    if (!expression) return;
    for (const Expression::Name& name : expression->names()) {
      const std::string resolved = *ResolveName(name.text);
      if (resolved == "tokens" || resolved == "flops" || resolved == "steps" ||
          resolved == "train.tokens" || resolved == "train.flops" || resolved == "train.steps") {
        return Wrong(v.at, absl::StrCat("a budget cannot be computed from ", name.text,
                                        ", which follows from it"));
      }
    }
    if (file_.budget)
      return Wrong(v.at, absl::StrCat("only one of ", kBudgetNames, " can be given"));
    file_.budget = ComputedBudget{path, v.text, *expression};
  }

  // ---- axes and constraints

  void Axes(const YamlEntry& e) {
    file_.axes_at = e.key.at;
    if (!e.value.is_map())
      return Wrong(e.value.at,
                   absl::StrCat("expected fields and their values, as model.n_layers: [2, 4]; got ",
                                Describe(e.value)));
    std::map<std::string, Position> used;
    for (const YamlEntry& entry : e.value.entries) {
      const auto axis = ReadAxis(entry, table_, problems_);
      if (!axis) continue;
      for (const std::string& f : axis->fields) {
        const auto [first, is_new] = used.emplace(f, axis->at);
        if (!is_new)
          Wrong(axis->at,
                absl::StrCat(f, " is on another axis already, at line ", first->second.line));
      }
      if (axis->solved() && std::any_of(file_.axes.begin(), file_.axes.end(),
                                        [](const Axis& a) { return a.solved(); })) {
        Wrong(axis->at, "only one axis can be solved; give the other as a list");
      }
      file_.axes.push_back(*axis);
    }
  }

  void Where(const YamlNode& v) {
    const std::vector<YamlNode> one = {v};
    for (const YamlNode& item : v.is_list() ? v.items : one) {
      if (!item.is_scalar()) {
        Wrong(item.at, absl::StrCat("expected a condition, as d_model % n_heads == 0; got ",
                                    Describe(item)));
      } else if (const auto expression = ReadExpression(item)) {
        file_.where.push_back({item.at, item.text, *expression});
      }
    }
  }

  // ---- the rest

  void Replicates(const YamlNode& v) {
    if (!v.is_map()) {
      file_.replicates = ReadInteger(v, 1, kMaxReplicates, problems_).value_or(1);
      return;
    }
    ReportUnknownKeys(v, {"n", "pair"}, problems_);
    if (const YamlEntry* n = v.Find("n")) {
      file_.replicates = ReadInteger(n->value, 1, kMaxReplicates, problems_).value_or(1);
    } else {
      Wrong(v.at, "give the number of replicates: {n: 3, pair: data}");
    }
    if (const YamlEntry* pair = v.Find("pair"); pair != nullptr && pair->value.text != "data") {
      Wrong(pair->value.at,
            "only `pair: data` is supported: replicate r of every cell sees the same data order");
    }
  }

  void Search(const YamlNode& v) {
    if (v.is_scalar() && v.text == "grid") return;
    const bool one = v.is_map() && v.entries.size() == 1 && v.entries[0].key.is_scalar();
    if (!one) return Wrong(v.at, "expected {grid: {}} or {random: {trials: 20, seed: 1}}");
    const YamlEntry& e = v.entries[0];
    if (e.key.text == "grid") {
      if (e.value.is_map()) ReportUnknownKeys(e.value, {}, problems_);
      return;
    }
    if (e.key.text != "random") {
      const bool known = e.key.text == "tpe" || e.key.text == "asha" || e.key.text == "sobol" ||
                         e.key.text == "hyperband";
      return Wrong(e.key.at,
                   known ? e.key.text + ": not supported yet; use {random: {trials: 20, seed: 1}}"
                         : absl::StrCat("unknown search ", Describe(e.key),
                                        Suggest(e.key.text, {"grid", "random"})));
    }
    if (!e.value.is_map()) return Wrong(e.value.at, "expected {trials: 20, seed: 1}");
    ReportUnknownKeys(e.value, {"trials", "seed"}, problems_);
    file_.random_points = 1;
    if (const YamlEntry* n = e.value.Find("trials")) {
      file_.random_points = ReadInteger(n->value, 1, 1000000, problems_).value_or(1);
    } else {
      Wrong(e.value.at, "random search needs a number of draws: {trials: 20}");
    }
    if (const YamlEntry* s = e.value.Find("seed"))
      file_.random_seed = ReadInteger(s->value, 0, int64_t{1} << 53, problems_).value_or(0);
  }

  void Objective(const YamlEntry& e) {
    const YamlNode* metric = &e.value;
    if (e.value.is_map()) {
      ReportUnknownKeys(e.value, {"metric", "at"}, problems_);
      const YamlEntry* m = e.value.Find("metric");
      metric = m == nullptr ? nullptr : &m->value;
      if (const YamlEntry* at = e.value.Find("at")) ObjectiveAt(at->value);
    }
    if (metric == nullptr) return;
    static constexpr char kAllowed[] = "abcdefghijklmnopqrstuvwxyz0123456789_-/.";
    const size_t slash = metric->text.find('/');
    if (!metric->is_scalar() || slash == std::string::npos || slash == 0 ||
        slash + 1 == metric->text.size() ||
        metric->text.find_first_not_of(kAllowed) != std::string::npos) {
      return Wrong(
          metric->at,
          absl::StrCat("expected the name of a series, as test/bits_per_byte or val/loss; got ",
                       Describe(*metric)));
    }
    file_.objective = metric->text;
  }

  void ObjectiveAt(const YamlNode& v) {
    int64_t k = 0;
    const bool mean = v.text.rfind("mean_last(", 0) == 0 && v.text.back() == ')' &&
                      absl::SimpleAtoi(v.text.substr(10, v.text.size() - 11), &k) && k > 0;
    if (!v.is_scalar() || (v.text != "last" && v.text != "best" && !mean)) {
      return Wrong(v.at, absl::StrCat("expected last, best or mean_last(5), got ", Describe(v)));
    }
    file_.objective_at = v.text;
  }

  void Priority(const YamlNode& v) {
    file_.priority = ReadInteger(v, -1000, 1000, problems_).value_or(0);
  }

  void Resources(const YamlNode& v) {
    if (!v.is_map()) return Wrong(v.at, "expected {labels: [a100]}: labels of workers it needs");
    ReportUnknownKeys(v, {"bundle", "labels"}, problems_);
    if (const YamlEntry* bundle = v.Find("bundle"))
      file_.bundle = ReadInteger(bundle->value, 1, 256, problems_).value_or(1);
    const YamlEntry* labels = v.Find("labels");
    if (labels == nullptr) return;
    if (!labels->value.is_list()) return Wrong(labels->value.at, "expected a list, as [a100]");
    for (const YamlNode& item : labels->value.items) {
      const std::string& text = item.text;
      if (!item.is_scalar() || text.empty() || text.size() > 64 ||
          text.find_first_not_of(
              "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.=") !=
              std::string::npos)
        return Wrong(item.at, "a label is 1 to 64 letters, digits, - _ . =");
      file_.labels.push_back(text);
    }
    std::sort(file_.labels.begin(), file_.labels.end());
    file_.labels.erase(std::unique(file_.labels.begin(), file_.labels.end()), file_.labels.end());
  }

  void ReadLimits(const YamlNode& v) {
    file_.limits_at = v.at;
    if (!v.is_map()) return Wrong(v.at, "expected {trials: 100, device_hours: 2}");
    ReportUnknownKeys(v, {"trials", "device_hours"}, problems_);
    if (const YamlEntry* t = v.Find("trials")) {
      file_.limits_at = t->value.at;
      file_.limits.trials = ReadInteger(t->value, 1, 1000000, problems_).value_or(0);
    }
    if (const YamlEntry* h = v.Find("device_hours")) {
      file_.limits.device_hours = ReadNumber(h->value, problems_).value_or(1);
      if (file_.limits.device_hours <= 0) Wrong(h->value.at, "device_hours must be above 0");
    }
  }

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

  // aa: true, or {model.n_layers: 2}: values of axes.
  void Control(const YamlNode& v) {
    if (!v.is_map()) {
      file_.aa = Flag(v);
      return;
    }
    file_.aa = true;
    for (const YamlEntry& e : v.entries) {
      const spec::Field* field = table_.FindOrReport(e.key, problems_);
      if (field == nullptr) continue;
      const auto value = ReadFieldValue(e.value, *field, problems_);
      if (!value) continue;
      const Axis* axis = nullptr;
      size_t place = 0;
      for (const Axis& a : file_.axes) {
        const auto it = std::find(a.fields.begin(), a.fields.end(), field->path);
        if (it != a.fields.end()) axis = &a, place = it - a.fields.begin();
      }
      if (axis == nullptr) {
        Wrong(e.key.at,
              absl::StrCat(field->path, " is not an axis; the A/A control names values of axes"));
      } else if (axis->solved() || axis->points.empty()) {
        Wrong(e.key.at,
              absl::StrCat(
                  field->path,
                  " has no list of values to choose from; name another axis, or write aa: true"));
      } else if (std::none_of(axis->points.begin(), axis->points.end(),
                              [&](const auto& p) { return p[place] == *value; })) {
        Wrong(e.value.at, absl::StrCat(*value, " is not on the axis ", field->path));
      } else {
        file_.aa_cells[field->path] = *value;
      }
    }
  }

  // ---- what several keys say together

  void CheckTogether(const YamlNode& root) {
    std::vector<std::pair<std::string, Position>> budgets;
    for (const std::string& path : kBudgets) {
      bool on_axis = false;
      for (const Axis& a : file_.axes) {
        if (std::count(a.fields.begin(), a.fields.end(), path) > 0)
          on_axis = true, budgets.push_back({path, a.at});
      }
      const auto it = file_.base_at.find(path);
      if (!on_axis && it != file_.base_at.end()) budgets.push_back({path, it->second});
    }
    if (budgets.size() > 1) {
      std::sort(budgets.begin(), budgets.end(),
                [](const auto& a, const auto& b) { return a.second < b.second; });
      Wrong(budgets[1].second,
            absl::StrCat("a second budget: line ", budgets[0].second.line, " gives ",
                         budgets[0].first, "; give one of ", kBudgetNames));
    }
    if (budgets.size() == 1 && file_.budget &&
        budgets[0].second != file_.base_at[file_.budget->field]) {
      Wrong(budgets[0].second, "the trial computes this budget; give it in one place");
    }
    if (file_.stage_kind == "noop" && file_.timing)
      Wrong(root.Find("timing")->key.at,
            "a noop stage trains nothing that could be timed; leave timing out");
    if (file_.stage_kind == "noop") return;
    if (budgets.empty() && root.Find("trial") != nullptr) {
      Wrong(file_.trial_at,
            absl::StrCat("no budget: give one of ", kBudgetNames, ", here or as an axis"));
    }
    const bool corpus = file_.base_at.count("data.corpus") > 0 ||
                        std::any_of(file_.axes.begin(), file_.axes.end(), [](const Axis& a) {
                          return std::count(a.fields.begin(), a.fields.end(), "data.corpus") > 0;
                        });
    if (!corpus && root.Find("trial") != nullptr)
      Wrong(file_.trial_at, "data.corpus is missing; `plumb data list` shows the prepared corpora");
    for (const Axis& a : file_.axes) {
      if (!file_.random_points && !a.solved() && a.points.empty()) {
        Wrong(a.at,
              "a grid needs to know the values: add points: 5 (or step: for a range), or write "
              "search: {random: {trials: 20}}");
      }
    }
  }

  std::vector<Problem>* problems_;
  FieldTable table_;
  SweepFile file_;
  const YamlEntry* aa_ = nullptr;
};

}  // namespace

SweepFile ReadSweepFile(const std::string& yaml, std::vector<Problem>* problems) {
  return Reader(yaml, problems).Take();
}

}  // namespace plumb::sweeps
