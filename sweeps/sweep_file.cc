#include "sweeps/sweep_file.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "sweeps/axes.h"
#include "sweeps/check_file.h"
#include "sweeps/field_values.h"
#include "sweeps/include.h"
#include "sweeps/measures.h"
#include "sweeps/number.h"
#include "sweeps/read_calibration.h"
#include "sweeps/read_stages.h"
#include "sweeps/read_tune.h"

namespace plumb::sweeps {
namespace {

constexpr int64_t kMaxReplicates = 10000;  // seeds of A/A members begin at 100,000

class Reader {
 public:
  Reader(const std::string& yaml, std::vector<Problem>* problems) : problems_(problems) {
    for (const SourcePart& part : PartsOf(yaml)) file_starts_.push_back(part.first_line);
    if (const auto root = ReadTree(yaml, problems)) Read(*root);
  }
  SweepFile Take() { return std::move(file_); }

 private:
  void Wrong(Position at, std::string message) { problems_->push_back({at, std::move(message)}); }

  void Read(const YamlNode& root) {
    if (!root.is_map())
      return Wrong(root.at, absl::StrCat("expected a map of keys (sweep, trial, axes, …), got ",
                                         Describe(root)));
    NameVariants(root);
    const std::vector<std::pair<std::string, std::function<void(const YamlEntry&)>>> keys = {
        {"sweep", [&](const YamlEntry& e) { Name(e.value); }},
        {"trial", [&](const YamlEntry& e) { Trial(e); }},
        {"axes", [&](const YamlEntry& e) { Axes(e); }},
        {"variants", [&](const YamlEntry& e) { Variants(e); }},
        {"also_match", [&](const YamlEntry& e) { AlsoMatch(e.value); }},
        {"tune", [&](const YamlEntry& e) { file_.tune = ReadTune(e, table_, names_, problems_); }},
        {"stop",
         [&](const YamlEntry& e) { file_.stop = ReadStop(e, StopScope::kSweep, problems_); }},
        {"where", [&](const YamlEntry& e) { Where(e.value); }},
        {"replicates", [&](const YamlEntry& e) { Replicates(e.value); }},
        {"search", [&](const YamlEntry& e) { Search(e.value); }},
        {"objective", [&](const YamlEntry& e) { Objective(e); }},
        {"report", [&](const YamlEntry& e) { Objective(e); }},
        {"limits", [&](const YamlEntry& e) { ReadLimits(e.value); }},
        {"priority", [&](const YamlEntry& e) { Priority(e.value); }},
        {"resources", [&](const YamlEntry& e) { Resources(e.value); }},
        {"allow", [&](const YamlEntry& e) { Allow(e.value); }},
        {"calibration", [&](const YamlEntry& e) { ReadCalibration(e, &file_, problems_); }},
        {"timing", [&](const YamlEntry& e) { file_.timing = Flag(e.value); }},
        {"stages", [&](const YamlEntry& e) { ReadStages(e.value, &file_, problems_); }},
        {"aa", [&](const YamlEntry& e) { aa_ = &e; }},
        {"include", [&](const YamlEntry& e) { Include(e.value); }},
    };
    std::vector<std::string> names;
    for (const auto& [name, read] : keys) names.push_back(name);
    for (const YamlEntry& e : root.entries) {
      const auto key = std::find_if(keys.begin(), keys.end(), [&](const auto& k) {
        return e.key.is_scalar() && k.first == e.key.text;
      });
      if (key != keys.end()) {
        key->second(e);
      } else {
        Wrong(e.key.at, absl::StrCat("unknown key ", Describe(e.key), Suggest(e.key.text, names)));
      }
    }
    if (root.Find("sweep") == nullptr) Wrong({}, "`sweep: NAME` is missing");
    if (root.Find("trial") == nullptr) {
      file_.trial_at = root.at;
      if (file_.stage_kind == "pretrain")
        Wrong({}, "`trial:` is missing: the base trial, as {model: {…}, data: {…}, train: {…}}");
    }
    if (root.Find("objective") != nullptr && root.Find("report") != nullptr) {
      Wrong(root.Find("report")->key.at,
            "`report` is another word for `objective`; give one of them");
    }
    if (aa_ != nullptr) Control(aa_->value);  // after the axes, whose values it names
    CheckFile(root, names_, &file_, problems_);
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

  void Include(const YamlNode& v) {
    if (file_starts_.size() > 1) return;
    Wrong(v.at, absl::StrCat("include: ", v.text,
                             " was not inlined; `plumb sweep plan` and `plumb sweep submit` do "
                             "that before they send a file"));
  }

  // ---- trial and variants

  void Trial(const YamlEntry& e) {
    file_.trial_at = e.key.at;
    if (!e.value.is_map())
      return Wrong(e.value.at, absl::StrCat("expected sections (model, data, train, …), got ",
                                            Describe(e.value)));
    ReadOverlay(e.value, table_, names_, file_starts_, &file_.trial, problems_);
  }

  // The names alone, before any expression that may use them is read.
  void NameVariants(const YamlNode& root) {
    const YamlEntry* e = root.Find("variants");
    if (e == nullptr || !e->value.is_map()) return;
    for (const YamlEntry& v : e->value.entries) {
      if (v.key.is_scalar()) names_.variants.push_back(v.key.text);
    }
  }

  void Variants(const YamlEntry& e) {
    if (!e.value.is_map() || e.value.entries.empty()) {
      return Wrong(e.value.at,
                   absl::StrCat("expected variants and what each sets, the baseline first, as "
                                "{preln: {model.preset: preln}, sas: {model.preset: sas}}; got ",
                                Describe(e.value)));
    }
    for (const YamlEntry& entry : e.value.entries) {
      Variant variant{.at = entry.key.at, .name = entry.key.text};
      if (!IsVariantName(entry.key)) {
        Wrong(entry.key.at,
              "the name of a variant is 1 to 64 letters, digits, - _ . and begins with a letter");
        continue;
      }
      if (entry.value.kind != YamlNode::Kind::kNull && !entry.value.is_map()) {
        Wrong(entry.value.at, absl::StrCat("expected the fields that ", variant.name,
                                           " sets, or {}; got ", Describe(entry.value)));
        continue;
      }
      if (const auto taken = ResolveName(variant.name);
          variant.name == "variant" || (taken.ok() && taken->front() != '\'')) {
        Wrong(entry.key.at, absl::StrCat(variant.name,
                                         " is a field or a measure in expressions; "
                                         "give the variant another name"));
      }
      ReadOverlay(entry.value, table_, names_, file_starts_, &variant.overlay, problems_);
      file_.variants.push_back(std::move(variant));
    }
  }

  static bool IsVariantName(const YamlNode& key) {
    const std::string& name = key.text;
    return key.is_scalar() && !name.empty() && name.size() <= 64 &&
           absl::ascii_isalpha(static_cast<unsigned char>(name[0])) &&
           name.find_first_not_of(
               "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") ==
               std::string::npos;
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
      const auto axis = ReadAxis(entry, table_, names_, problems_);
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

  // [flops, {params_total: model.d_ff, multiple_of: 8}]
  void AlsoMatch(const YamlNode& v) {
    if (!v.is_list() || v.items.empty()) {
      return Wrong(v.at, absl::StrCat("expected a list, as [flops]; got ", Describe(v)));
    }
    for (const YamlNode& item : v.items) {
      Match match{.at = item.at};
      const YamlNode* measure = item.is_scalar() ? &item : nullptr;
      if (item.is_map() && !item.entries.empty()) {
        measure = &item.entries[0].key;
        MatchKnob(item, &match);
      }
      if (measure == nullptr) {
        Wrong(item.at, absl::StrCat("expected a measure, as flops; got ", Describe(item)));
        continue;
      }
      match.measure = measure->text;
      static const std::vector<std::string> kMeasures = {"flops", "params_total",
                                                         "params_non_embedding", "seconds"};
      if (match.measure == "params") {
        Wrong(measure->at,
              "bare `params` is ambiguous: write params_total or params_non_embedding");
      } else if (std::find(kMeasures.begin(), kMeasures.end(), match.measure) == kMeasures.end()) {
        Wrong(measure->at,
              absl::StrCat("cannot match ", Describe(*measure), Suggest(match.measure, kMeasures)));
      } else if ((match.measure == "flops" || match.measure == "seconds") && item.is_map()) {
        Wrong(item.at, absl::StrCat(match.measure, " are matched by the budget; write ",
                                    match.measure, " alone"));
      }
      for (const Match& m : file_.also_match) {
        if (m.measure == match.measure) Wrong(item.at, m.measure + " is matched already");
      }
      file_.also_match.push_back(std::move(match));
    }
  }

  void MatchKnob(const YamlNode& item, Match* match) {
    const YamlNode& knob = item.entries[0].value;
    const spec::Field* field = table_.FindOrReport(knob, problems_);
    if (field != nullptr &&
        (field->type != spec::FieldType::kInteger || field->path.rfind("model.", 0) != 0)) {
      Wrong(knob.at, "the knob is a whole-number field of the model, as model.d_ff");
    }
    if (field != nullptr) match->knob = field->path;
    ReportUnknownKeys(item, {item.entries[0].key.text, "multiple_of", "tolerance"}, problems_);
    if (const YamlEntry* m = item.Find("multiple_of"))
      match->multiple_of = ReadInteger(m->value, 1, 1 << 20, problems_).value_or(1);
    if (const YamlEntry* t = item.Find("tolerance")) {
      match->tolerance = ReadNumber(t->value, problems_).value_or(0);
      if (!(match->tolerance >= 0 && match->tolerance <= 1))
        Wrong(t->value.at, "the tolerance is a fraction from 0 to 1, as 5%");
    }
  }

  void Where(const YamlNode& v) {
    const std::vector<YamlNode> one = {v};
    for (const YamlNode& item : v.is_list() ? v.items : one) {
      if (!item.is_scalar()) {
        Wrong(item.at, absl::StrCat("expected a condition, as d_model % n_heads == 0; got ",
                                    Describe(item)));
      } else if (const auto expression = ReadExpression(item, names_, problems_)) {
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
    if (!one)
      return Wrong(v.at,
                   "expected {grid: {}}, {random: {trials: 20, seed: 1}}, {sobol: {trials: 20}} or "
                   "{tpe: {trials: 60}}");
    const YamlEntry& e = v.entries[0];
    if (e.key.text == "grid") {
      if (e.value.is_map()) {
        for (const YamlEntry& inner : e.value.entries)
          Wrong(inner.key.at, "a grid has no settings: write search: {grid: {}}");
      } else if (e.value.kind != YamlNode::Kind::kNull) {
        Wrong(e.value.at, "a grid has no settings: write search: {grid: {}}");
      }
      return;
    }
    file_.sobol = e.key.text == "sobol";
    if (e.key.text == "asha" || e.key.text == "hyperband" || e.key.text == "median") {
      return Wrong(e.key.at, absl::StrCat(e.key.text,
                                          " ends trials early; it is a rule of stop:, "
                                          "inside tune: or beside it"));
    }
    std::vector<std::string> models = SamplerNames();
    models.push_back("external");
    if (std::find(models.begin(), models.end(), e.key.text) != models.end()) {
      file_.search = ReadSearchSpec(e, problems_);
      file_.random_points = file_.search ? file_.search->startup : 1;
      file_.random_seed = file_.search ? file_.search->seed : 0;
      return;
    }
    if (e.key.text == "population") {
      file_.population = ReadPopulationSpec(e, problems_);
      file_.random_points = file_.population ? file_.population->members : 1;
      file_.random_seed = file_.population ? file_.population->seed : 0;
      return;
    }
    if (e.key.text != "random" && !file_.sobol) {
      models.insert(models.begin(), {"grid", "random", "sobol"});
      models.push_back("population");
      return Wrong(e.key.at,
                   absl::StrCat("unknown search ", Describe(e.key), Suggest(e.key.text, models)));
    }
    if (!e.value.is_map()) return Wrong(e.value.at, "expected {trials: 20, seed: 1}");
    ReportUnknownKeys(e.value, {"trials", "seed"}, problems_);
    file_.random_points = 1;
    if (const YamlEntry* n = e.value.Find("trials")) {
      file_.random_points = ReadInteger(n->value, 1, 1000000, problems_).value_or(1);
    } else {
      Wrong(e.value.at, absl::StrCat(e.key.text, " search needs a number of draws: {trials: 20}"));
    }
    if (const YamlEntry* s = e.value.Find("seed"))
      file_.random_seed = ReadInteger(s->value, 0, int64_t{1} << 53, problems_).value_or(0);
  }

  void Objective(const YamlEntry& e) {
    file_.objectives.clear();
    const std::vector<YamlNode> one = {e.value};
    for (const YamlNode& v : e.value.is_list() ? e.value.items : one) {
      PlannedObjective objective;
      OneObjective(v, &objective);
      for (const PlannedObjective& o : file_.objectives) {
        if (o.metric == objective.metric && o.at == objective.at && o.stage == objective.stage)
          Wrong(v.at, absl::StrCat(o.stage.empty() ? "" : o.stage + ": ", o.metric, ", ", o.at,
                                   " is an objective already"));
      }
      file_.objectives.push_back(std::move(objective));
    }
    if (file_.objectives.empty()) {
      Wrong(e.value.at, "an objective is the name of a series, as test/bits_per_byte");
      file_.objectives = {{}};
    }
  }

  void OneObjective(const YamlNode& v, PlannedObjective* out) {
    const YamlNode* metric = &v;
    if (v.is_map()) {
      ReportUnknownKeys(v, {"stage", "metric", "split", "at", "goal"}, problems_);
      const YamlEntry* m = v.Find("metric");
      metric = m == nullptr ? nullptr : &m->value;
      const YamlEntry* stage = v.Find("stage");
      if (stage != nullptr) {
        ReadStageName(stage->value, &out->stage, problems_);
        if (m == nullptr) {
          Wrong(stage->value.at, absl::StrCat("name the series of it too: {stage: ", out->stage,
                                              ", metric: evaluate/test/bits_per_byte}"));
          out->stage.clear();  // one error is enough
        }
      }
      if (const YamlEntry* split = v.Find("split"); split != nullptr && stage != nullptr) {
        Wrong(
            split->key.at,
            "of a stage the metric is the whole name of a series, as evaluate/test/bits_per_byte");
        metric = nullptr;
        out->stage.clear();
      } else if (split != nullptr) {
        Split(split->value, metric, out);
        metric = nullptr;
      }
      if (const YamlEntry* at = v.Find("at")) ReadObjectiveAt(at->value, &out->at, problems_);
      if (const YamlEntry* goal = v.Find("goal")) ReadGoal(goal->value, &out->maximize, problems_);
    }
    if (metric != nullptr) ReadMetric(*metric, &out->metric, problems_);
  }

  // {metric: bits_per_byte, split: test}
  void Split(const YamlNode& split, const YamlNode* metric, PlannedObjective* out) {
    static const std::vector<std::string> kSplits = {"train", "tune", "val", "test"};
    if (!split.is_scalar() ||
        std::find(kSplits.begin(), kSplits.end(), split.text) == kSplits.end()) {
      return Wrong(split.at,
                   absl::StrCat("no split ", Describe(split), Suggest(split.text, kSplits)));
    }
    if (metric == nullptr || metric->text.find('/') != std::string::npos) {
      return Wrong(
          metric == nullptr ? split.at : metric->at,
          "with split: the metric is a bare name, as {metric: bits_per_byte, split: test}");
    }
    YamlNode whole = *metric;
    whole.text = split.text + "/" + metric->text;
    ReadMetric(whole, &out->metric, problems_);
  }

  // allow: [more_than_one_epoch]
  void Allow(const YamlNode& v) {
    if (!v.is_list())
      return Wrong(v.at,
                   absl::StrCat("expected a list, as [more_than_one_epoch]; got ", Describe(v)));
    static const std::vector<std::string> kKnown = {"more_than_one_epoch"};
    for (const YamlNode& item : v.items) {
      if (!item.is_scalar() || std::find(kKnown.begin(), kKnown.end(), item.text) == kKnown.end()) {
        Wrong(item.at,
              absl::StrCat("nothing is called ", Describe(item), Suggest(item.text, kKnown)));
      }
      file_.allowed.insert(item.text);
    }
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

  // aa: true, the name of a variant, or {model.n_layers: 2, variant: sas}: values of axes.
  void Control(const YamlNode& v) {
    const bool flag = !v.quoted && (v.text == "true" || v.text == "false");
    if (v.is_scalar() && !file_.variants.empty() && !flag) return ControlVariant(v);
    if (!v.is_map()) {
      file_.aa = Flag(v);
      return;
    }
    file_.aa = true;
    for (const YamlEntry& e : v.entries) {
      if (e.key.text == "variant" && !file_.variants.empty()) {
        ControlVariant(e.value);
        continue;
      }
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

  void ControlVariant(const YamlNode& v) {
    const auto& known = names_.variants;
    if (!v.is_scalar() || std::find(known.begin(), known.end(), v.text) == known.end()) {
      return Wrong(v.at, absl::StrCat("no variant ", Describe(v), Suggest(v.text, known)));
    }
    file_.aa = true;
    file_.aa_cells["variant"] = "\"" + v.text + "\"";
  }

  std::vector<Problem>* problems_;
  FieldTable table_;
  NameContext names_;
  std::vector<int> file_starts_;  // lines at which the files of the text begin
  SweepFile file_;
  const YamlEntry* aa_ = nullptr;
};

}  // namespace

SweepFile ReadSweepFile(const std::string& yaml, std::vector<Problem>* problems) {
  return Reader(yaml, problems).Take();
}

}  // namespace plumb::sweeps
