#include "sweeps/axes.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "sweeps/measures.h"
#include "sweeps/number.h"
#include "sweeps/shape_names.h"

namespace plumb::sweeps {
namespace {

constexpr int64_t kMaxPoints = 100000;  // of one axis

class AxisReader {
 public:
  AxisReader(const YamlEntry& entry, const FieldTable& table, const NameContext& names,
             std::vector<Problem>* problems)
      : entry_(entry), table_(table), names_(names), problems_(problems) {}

  std::optional<Axis> Run() {
    const size_t before = problems_->size();
    axis_.at = entry_.key.at;
    const YamlNode& v = entry_.value;
    const YamlEntry* points = v.Find("points");
    if (v.is_map() && v.Find("when") != nullptr) When(v.Find("when")->value);
    if (v.is_map() && points != nullptr && points->value.is_list()) {
      ReportUnknownKeys(v, {"points", "when"}, problems_);
      Points(points->value);
    } else if (v.is_list()) {
      Points(v);
    } else if (!v.is_map() || v.entries.empty()) {
      Wrong(v.at, absl::StrCat("expected a list of values, or one of {range: …}, {linear: …}, "
                               "{log: …}, {solve: …}; got ",
                               Describe(v)));
    } else if (v.Find("solve") != nullptr) {
      Solve(v);
    } else {
      Range(v);
    }
    if (problems_->size() > before) return std::nullopt;
    return std::move(axis_);
  }

 private:
  void Wrong(Position at, std::string message) { problems_->push_back({at, std::move(message)}); }

  // Names of the condition that are known too late are judged with the whole file.
  void When(const YamlNode& v) {
    if (!v.is_scalar()) {
      return Wrong(v.at, absl::StrCat("expected a condition, as when: mlp == leaky_relu; got ",
                                      Describe(v)));
    }
    if (const auto expression = ReadExpression(v, names_, problems_))
      axis_.when = Constraint{v.at, v.text, *expression};
  }

  const spec::Field* Name(const YamlNode& node) {
    const spec::Field* f = table_.FindOrReport(node, problems_);
    if (f == nullptr) return nullptr;
    if (f->path == "seed.init" || f->path == "seed.data") {
      Wrong(node.at,
            "seeds are no axis: write `replicates: N`, which counts both seeds up from the base "
            "trial's");
      return nullptr;
    }
    if (f->path == "data.digest") {
      Wrong(node.at, "data.digest is set from the prepared corpus; use data.corpus");
      return nullptr;
    }
    axis_.fields.push_back(f->path);
    return f;
  }
  // The one field of the key.
  const spec::Field* OneField() {
    if (entry_.key.is_scalar()) return Name(entry_.key);
    Wrong(entry_.key.at,
          "several fields at once take a list of lists: `[model.n_layers, model.d_model]: [[2, "
          "64], [4, 48]]`");
    return nullptr;
  }

  void Points(const YamlNode& list) {
    if (list.items.empty()) return Wrong(list.at, "an axis needs at least one value");
    if (list.items.size() > kMaxPoints)
      return Wrong(list.at, absl::StrCat("more than ", kMaxPoints, " values on one axis"));
    if (IsShape(list)) return Shapes(list);
    const bool one_value = list.items[0].Find("sentencepiece") != nullptr || IsMix(list.items[0]);
    if (list.items[0].is_map() && !one_value) return Maps(list);
    std::vector<const spec::Field*> fields;
    const bool several = entry_.key.is_list();
    if (several) {
      for (const YamlNode& part : entry_.key.items) fields.push_back(Name(part));
    } else {
      fields.push_back(Name(entry_.key));
    }
    if (std::count(fields.begin(), fields.end(), nullptr) > 0) return;
    for (const YamlNode& item : list.items) {
      if (several && (!item.is_list() || item.items.size() != fields.size())) {
        Wrong(item.at, absl::StrCat("expected a list of ", fields.size(), " values (",
                                    absl::StrJoin(axis_.fields, ", "), ")"));
        continue;
      }
      std::vector<FieldValue> point;
      for (size_t f = 0; f < fields.size(); ++f) {
        const auto value = ReadFieldValue(several ? item.items[f] : item, *fields[f], problems_);
        point.push_back(value.value_or(""));
      }
      AddPoint(std::move(point), item.at);
    }
  }

  // Under the path, or under the bare word where that lists names: `shape` is also a common name
  // for an axis of maps.
  bool IsShape(const YamlNode& list) const {
    const std::string& key = entry_.key.text;
    return key == "model.shape" || (key == "shape" && list.items[0].is_scalar());
  }

  // [gpt2, gpt2-medium]: named shapes, each several fields.
  void Shapes(const YamlNode& list) {
    axis_.name = "shape";
    for (const YamlNode& item : list.items) {
      const auto fields = ShapeByName(item.text);
      if (!item.is_scalar() || !fields.ok()) {
        Wrong(item.at, item.is_scalar() ? std::string(fields.status().message())
                                        : absl::StrCat("expected the name of a shape, as "
                                                       "gpt2-medium; got ",
                                                       Describe(item)));
        continue;
      }
      std::vector<FieldValue> point;
      axis_.fields.clear();
      for (const auto& [path, value] : *fields) {
        axis_.fields.push_back(path);
        point.push_back(std::to_string(value));
      }
      axis_.point_names.push_back(item.text);
      AddPoint(std::move(point), item.at);
    }
  }

  // A map of parts and weights on an axis of data.mix, not of fields: those have a section.
  bool IsMix(const YamlNode& item) const {
    const std::string& name = entry_.key.text;
    return item.is_map() && (name == "data.mix" || name == "mix") &&
           std::none_of(item.entries.begin(), item.entries.end(), [](const YamlEntry& e) {
             return e.key.text.find('.') != std::string::npos;
           });
  }

  // points: [{model.n_layers: 2, model.d_model: 64}, …]; every map has the same keys. The axis's
  // own name is free.
  void Maps(const YamlNode& list) {
    std::vector<const spec::Field*> fields;
    for (const YamlEntry& e : list.items[0].entries) fields.push_back(Name(e.key));
    if (std::count(fields.begin(), fields.end(), nullptr) > 0) return;
    for (const YamlNode& item : list.items) {
      std::vector<FieldValue> point(fields.size());
      std::vector<bool> given(fields.size());
      for (const YamlEntry& e : item.entries) {
        const spec::Field* f = table_.FindOrReport(e.key, problems_);
        if (f == nullptr) continue;
        const size_t i = std::find(fields.begin(), fields.end(), f) - fields.begin();
        if (i == fields.size()) {
          Wrong(e.key.at,
                absl::StrCat(f->path,
                             " is not in the first point; every point gives the same fields"));
          continue;
        }
        given[i] = true;
        point[i] = ReadFieldValue(e.value, *f, problems_).value_or("");
      }
      for (size_t i = 0; i < fields.size(); ++i) {
        if (!given[i])
          Wrong(item.at, absl::StrCat("this point does not give ", fields[i]->path,
                                      ", which the first point does"));
      }
      AddPoint(std::move(point), item.at);
    }
  }

  void AddPoint(std::vector<FieldValue> point, Position at) {
    if (!seen_.insert(point).second) {
      Wrong(at, absl::StrCat(absl::StrJoin(point, ", "), " is on this axis already"));
    }
    axis_.points.push_back(std::move(point));
  }

  // {range: [a, b], step: s} · {linear: [a, b], points: n} · {log: [a, b], points: n}
  void Range(const YamlNode& v) {
    static const std::vector<std::string> kKinds = {"range", "linear", "log"};
    std::string kind;
    for (const std::string& k : kKinds) {
      if (v.Find(k) != nullptr) kind = k;
    }
    if (kind.empty()) {
      const YamlNode& key = v.entries[0].key;
      return Wrong(key.at,
                   absl::StrCat("unknown kind of axis ", Describe(key),
                                Suggest(key.text, {"range", "linear", "log", "points", "solve"})));
    }
    const std::string count_key = kind == "range" ? "step" : "points";
    ReportUnknownKeys(v, {kind, count_key, "when"}, problems_);
    const spec::Field* field = OneField();
    const YamlNode& bounds = v.Find(kind)->value;
    if (!bounds.is_list() || bounds.items.size() != 2)
      return Wrong(bounds.at, absl::StrCat(kind, " takes two bounds: [1e-4, 1e-2]"));
    const auto low = ReadNumber(bounds.items[0], problems_),
               high = ReadNumber(bounds.items[1], problems_);
    if (!low || !high || field == nullptr) return;
    axis_.integer = field->type == spec::FieldType::kInteger;
    if (!axis_.integer && field->type != spec::FieldType::kNumber)
      return Wrong(bounds.at, field->path + " is no number; give a list of values");
    if (!(*low < *high)) return Wrong(bounds.at, "the first bound must be less than the second");
    if (kind == "log" && *low <= 0)
      return Wrong(bounds.items[0].at, "a logarithmic axis needs bounds above 0");
    if (axis_.integer && (*low != std::floor(*low) || *high != std::floor(*high))) {
      return Wrong(bounds.at, field->path + " is a whole number, so the bounds must be too");
    }
    for (const YamlNode& b : bounds.items) ReadFieldValue(b, *field, problems_);
    axis_.low = *low, axis_.high = *high, axis_.logarithmic = kind == "log";
    const YamlEntry* count = v.Find(count_key);
    if (kind == "range") {
      Steps(count, *field);
    } else if (count != nullptr) {
      const auto n = ReadInteger(count->value, 2, kMaxPoints, problems_);
      if (n) Spread(*n, count->value.at, *field);
    }
  }

  void Steps(const YamlEntry* given, const spec::Field& field) {
    std::optional<double> step = 1;
    if (given != nullptr)
      step = ReadNumber(given->value, problems_);
    else if (!axis_.integer)
      return;  // drawn from
    if (!step) return;
    const Position at = given == nullptr ? entry_.value.at : given->value.at;
    if (*step <= 0 || (axis_.integer && *step != std::floor(*step))) {
      return Wrong(at, axis_.integer ? "the step must be a whole number above 0"
                                     : "the step must be above 0");
    }
    const double count = std::floor((axis_.high - axis_.low) / *step + 1e-9) + 1;
    if (count > kMaxPoints)
      return Wrong(at,
                   absl::StrCat("more than ", kMaxPoints, " values on one axis; raise the step"));
    for (int64_t i = 0; i < static_cast<int64_t>(count); ++i)
      AddNumber(axis_.low + i * *step, 10, at, field);
  }

  void Spread(int64_t n, Position at, const spec::Field& field) {
    for (int64_t i = 0; i < n; ++i) {
      const double t = static_cast<double>(i) / static_cast<double>(n - 1);
      const double value = i == 0              ? axis_.low
                           : i == n - 1        ? axis_.high
                           : axis_.logarithmic ? axis_.low * std::pow(axis_.high / axis_.low, t)
                                               : axis_.low + (axis_.high - axis_.low) * t;
      const bool inner = i > 0 && i < n - 1;
      AddNumber(value, axis_.logarithmic && inner ? 4 : 10, at, field);
    }
  }

  // Rounded to significant digits, so that 0.1 + 0.2 is 0.3 and no platform's pow() shows; four are
  // plenty between the bounds of a logarithmic axis, and can be read.
  void AddNumber(double value, int digits, Position at, const spec::Field& field) {
    char buffer[40];
    std::snprintf(buffer, sizeof buffer, "%.*g", digits, value);
    const auto text = NumberAsFieldValue(*ParseNumber(buffer), at, field, problems_);
    if (text) AddPoint({*text}, at);
  }

  // {solve: MEASURE, target: x or list, multiple_of: m, tolerance: 5%}
  void Solve(const YamlNode& v) {
    ReportUnknownKeys(v, {"solve", "target", "multiple_of", "tolerance"}, problems_);
    const spec::Field* field = OneField();
    const bool shape = field != nullptr && field->type == spec::FieldType::kInteger &&
                       field->path.rfind("model.", 0) == 0;
    if (field != nullptr && !shape)
      Wrong(entry_.key.at,
            "solve finds a whole-number field of the model, as model.d_model or model.n_layers");
    static const std::vector<std::string> kMeasures = {
        "params_total", "params_non_embedding", "params_embedding", "flops_per_token", "flops",
        "seconds"};
    const YamlNode& measure = v.Find("solve")->value;
    if (!measure.is_scalar() ||
        std::find(kMeasures.begin(), kMeasures.end(), measure.text) == kMeasures.end()) {
      const bool bare = measure.text == "params";
      Wrong(measure.at,
            bare ? "bare `params` is ambiguous: write params_total or params_non_embedding"
                 : absl::StrCat("cannot solve for ", Describe(measure),
                                Suggest(measure.text, kMeasures)));
    } else {
      axis_.measure = measure.text;
    }
    const YamlEntry* target = v.Find("target");
    if (target == nullptr)
      return Wrong(v.at, "solve needs a target: a number, or a list of numbers");
    const std::vector<YamlNode> one = {target->value};
    for (const YamlNode& t : target->value.is_list() ? target->value.items : one) {
      const auto number = ReadNumber(t, problems_);
      if (number && *number <= 0) Wrong(t.at, "a target must be above 0");
      if (number &&
          std::find(axis_.targets.begin(), axis_.targets.end(), *number) != axis_.targets.end())
        Wrong(t.at, t.text + " is a target already");
      if (number) axis_.targets.push_back(*number);
    }
    if (axis_.targets.empty()) Wrong(target->value.at, "solve needs at least one target");
    if (const YamlEntry* m = v.Find("multiple_of"))
      axis_.multiple_of = ReadInteger(m->value, 1, 1 << 20, problems_).value_or(1);
    if (const YamlEntry* t = v.Find("tolerance")) {
      axis_.tolerance = ReadNumber(t->value, problems_).value_or(0);
      if (!(axis_.tolerance >= 0 && axis_.tolerance <= 1))
        Wrong(t->value.at, "the tolerance is a fraction from 0 to 1, as 5%");
    }
  }

  const YamlEntry& entry_;
  const FieldTable& table_;
  const NameContext& names_;
  std::vector<Problem>* problems_;
  Axis axis_;
  std::set<std::vector<FieldValue>> seen_;
};

}  // namespace

std::optional<Axis> ReadAxis(const YamlEntry& entry, const FieldTable& fields,
                             const NameContext& names, std::vector<Problem>* problems) {
  return AxisReader(entry, fields, names, problems).Run();
}

}  // namespace plumb::sweeps
