#include "sweeps/overlay.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "sweeps/number.h"
#include "sweeps/shape_names.h"
#include "trainer/spec/fields.h"

namespace plumb::sweeps {
namespace {

int FileOf(int line, const std::vector<int>& starts) {
  return static_cast<int>(std::upper_bound(starts.begin(), starts.end(), line) - starts.begin());
}

bool IsNumeric(const spec::Field& f) {
  return f.type == spec::FieldType::kInteger || f.type == spec::FieldType::kNumber;
}

// A formula and not a number: 20 * params_total, ceil_to(d_model, 64), d_model - 8.
bool LooksComputed(const YamlNode& v, const spec::Field& field) {
  if (!v.is_scalar() || !IsNumeric(field)) return false;
  if (IsBudget(field.path)) return v.text.find_first_of("*+/(") != std::string::npos;
  if (ParseNumber(v.text)) return false;
  return v.text.find_first_of("*+/%(") != std::string::npos ||
         v.text.find(" - ") != std::string::npos;
}

class OverlayReader {
 public:
  OverlayReader(const FieldTable& fields, const NameContext& names, const std::vector<int>& starts,
                Overlay* overlay, std::vector<Problem>* problems)
      : table_(fields), names_(names), starts_(starts), out_(*overlay), problems_(problems) {}

  // model.shape, before the fields that override its own.
  void Shapes(const YamlNode& map, const std::string& prefix) {
    for (const YamlEntry& e : map.entries) {
      const std::string path = prefix.empty() ? e.key.text : prefix + "." + e.key.text;
      if (path == "model.shape") Shape(e);
      if (path == "model" && e.value.is_map()) Shapes(e.value, path);
    }
  }

  void Section(const YamlNode& map, const std::string& prefix) {
    for (const YamlEntry& e : map.entries) {
      if (e.key.is_scalar() &&
          (prefix.empty() ? e.key.text : prefix + "." + e.key.text) == "model.shape") {
        continue;
      }
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
        Field(e, *field);
      }
    }
  }

 private:
  void Wrong(Position at, std::string message) { problems_->push_back({at, std::move(message)}); }

  void Shape(const YamlEntry& e) {
    const auto fields =
        e.value.is_scalar()
            ? ShapeByName(e.value.text)
            : absl::InvalidArgumentError(absl::StrCat(
                  "expected the name of a shape, as gpt2-medium; got ", Describe(e.value)));
    if (!fields.ok()) return Wrong(e.value.at, std::string(fields.status().message()));
    for (const auto& [path, value] : *fields) {
      const auto [first, is_new] = out_.at.emplace(path, e.value.at);
      if (!is_new && FileOf(first->second.line, starts_) == FileOf(e.value.at.line, starts_)) {
        return Wrong(e.key.at, absl::StrCat("model.shape is given twice; the first is at line ",
                                            first->second.line));
      }
      first->second = e.value.at;
      out_.values[path] = std::to_string(value);
      out_.of_shape.insert(path);
    }
  }

  void Field(const YamlEntry& e, const spec::Field& field) {
    if (const auto shape = out_.at.find(field.path); out_.of_shape.count(field.path) > 0) {
      // A shape of a later file overrides the fields of an earlier one.
      if (FileOf(shape->second.line, starts_) > FileOf(e.value.at.line, starts_)) return;
      out_.at.erase(shape);
      out_.values.erase(field.path), out_.of_shape.erase(field.path);
    }
    const auto [first, is_new] = out_.at.emplace(field.path, e.value.at);
    if (!is_new) {
      if (FileOf(first->second.line, starts_) == FileOf(e.value.at.line, starts_)) {
        return Wrong(e.key.at, absl::StrCat(field.path, " is given twice; the first is at line ",
                                            first->second.line));
      }
      first->second = e.value.at;
      out_.values.erase(field.path), out_.computed.erase(field.path);
    }
    if (field.path == "data.digest")
      return Wrong(e.key.at, "data.digest is set from the prepared corpus; leave it out");
    if (IsBudget(field.path)) DropOtherFilesBudgets(field.path, e.value.at.line);
    if (LooksComputed(e.value, field) && IsOwnBudget(field.path)) {
      return Wrong(
          e.value.at,
          absl::StrCat(field.path,
                       " is a number; a formula is for train.tokens, train.steps or train.flops"));
    }
    if (LooksComputed(e.value, field)) return Formula(e.value, field.path);
    if (e.value.kind == YamlNode::Kind::kNull) return Wrong(e.key.at, field.path + " has no value");
    if (const auto value = ReadFieldValue(e.value, field, problems_))
      out_.values[field.path] = *value;
  }

  // A file's budget takes the place of the one in the file it includes, whatever its unit.
  void DropOtherFilesBudgets(const std::string& keep, int line) {
    for (const std::string& path : BudgetFields()) {
      const auto it = out_.at.find(path);
      if (path == keep || it == out_.at.end() ||
          FileOf(it->second.line, starts_) == FileOf(line, starts_)) {
        continue;
      }
      out_.at.erase(it);
      out_.values.erase(path), out_.computed.erase(path);
    }
  }

  void Formula(const YamlNode& v, const std::string& path) {
    const auto expression = ReadExpression(v, names_, problems_);
    if (!expression) return;
    for (const Expression::Name& name : expression->names()) {
      const std::string resolved = *ResolveName(name.text, names_);
      if (AsReference(resolved)) continue;  // judged when it is known whose they are
      if (resolved == path) return Wrong(v.at, path + " is computed from itself");
      const Phase known = KnownIn(resolved);
      if (known == Phase::kBudget) {
        return Wrong(v.at, IsBudget(path)
                               ? absl::StrCat("a budget cannot be computed from ", name.text,
                                              ", which follows from it")
                               : absl::StrCat(path, " cannot be computed from ", name.text,
                                              ", which is known last; ", kOrder));
      }
      if (known == Phase::kCounts && IsShapeField(path)) {
        return Wrong(v.at, absl::StrCat(path, " is part of the shape, and ", name.text,
                                        " is counted from the shape; ", kOrder));
      }
      if (IsShapeField(path) && !IsShapeField(resolved) && resolved != "variant" &&
          resolved.front() != '\'' && IsTrainField(resolved)) {
        return Wrong(v.at, absl::StrCat(path, " is part of the shape, and ", name.text, " is not; ",
                                        kOrder));
      }
    }
    out_.computed[path] = {v.at, path, v.text, *expression};
  }

  // Of training, evaluation or execution: what may itself be computed after the counts.
  static bool IsTrainField(const std::string& path) {
    return path.rfind("train.", 0) == 0 || path.rfind("eval.", 0) == 0 ||
           path.rfind("execution.", 0) == 0;
  }

  static constexpr char kOrder[] =
      "the order is axes, shape, solve, counts, budget, where: an earlier one cannot name a later "
      "one";

  const FieldTable& table_;
  const NameContext& names_;
  const std::vector<int>& starts_;
  Overlay& out_;
  std::vector<Problem>* problems_;
};

}  // namespace

const std::vector<std::string>& BudgetFields() {
  static const auto* const fields =
      new std::vector<std::string>{"train.steps",  "train.tokens",  "train.flops",
                                   "train.epochs", "train.seconds", "train.tokens_per_param"};
  return *fields;
}

bool IsOwnBudget(const std::string& path) {
  return path == "train.seconds" || path == "train.tokens_per_param";
}

bool IsBudget(const std::string& path) {
  const auto& all = BudgetFields();
  return std::find(all.begin(), all.end(), path) != all.end();
}

std::optional<Expression> ReadExpression(const YamlNode& v, const NameContext& names,
                                         std::vector<Problem>* problems) {
  Expression::Error error;
  auto expression = Expression::Parse(v.text, &error);
  const auto at = [&](int offset) {
    return Position{v.at.line, v.at.column + offset + (v.quoted ? 1 : 0)};
  };
  if (!expression) {
    problems->push_back({at(error.offset), error.message});
    return std::nullopt;
  }
  bool known = true;
  for (const Expression::Name& name : expression->names()) {
    if (const auto resolved = ResolveName(name.text, names); !resolved.ok()) {
      problems->push_back({at(name.offset), std::string(resolved.status().message())});
      known = false;
    }
  }
  return known ? std::move(expression) : std::nullopt;
}

void ReadOverlay(const YamlNode& map, const FieldTable& fields, const NameContext& names,
                 const std::vector<int>& file_starts, Overlay* overlay,
                 std::vector<Problem>* problems) {
  OverlayReader reader(fields, names, file_starts, overlay, problems);
  reader.Shapes(map, "");
  reader.Section(map, "");
}

}  // namespace plumb::sweeps
