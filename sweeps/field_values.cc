#include "sweeps/field_values.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "sweeps/measures.h"
#include "sweeps/number.h"
#include "trainer/spec/field_table.h"

namespace plumb::sweeps {
namespace {

using nlohmann::json;

bool IsNumeric(const spec::Field& f) {
  return f.type == spec::FieldType::kInteger || f.type == spec::FieldType::kNumber;
}

// Numbers in the text that FormatNumber gives, so that names, tables and keys agree.
std::string ToText(const json& v) {
  return v.is_number_float() ? FormatNumber(v.get<double>()) : v.dump();
}

json ToJson(const YamlNode& node, const spec::Field& field) {
  if (node.quoted || !node.is_scalar()) return node.text;
  if (IsNumeric(field)) {
    if (const auto number = ParseNumber(node.text)) {
      const bool whole = *number == std::floor(*number) && std::abs(*number) <= 9007199254740992.0;
      if (field.type == spec::FieldType::kInteger && whole) return static_cast<int64_t>(*number);
      return *number;
    }
  }
  if (field.type == spec::FieldType::kBoolean && (node.text == "true" || node.text == "false"))
    return node.text == "true";
  return node.text;
}

std::optional<std::string> Checked(const json& value, Position at, const spec::Field& field,
                                   std::vector<Problem>* problems) {
  const std::string wrong = field.set(value);
  if (!wrong.empty()) {
    problems->push_back({at, field.path + ": " + wrong});
    return std::nullopt;
  }
  // A field may keep text in a form of its own.
  return ToText(field.type == spec::FieldType::kString ? field.get() : value);
}

// {en: 0.7, ja: 30%} as "en=0.7,ja=0.3"; a scalar is text already.
std::optional<std::string> MixAsText(const YamlNode& node, std::vector<Problem>* problems) {
  if (node.is_scalar()) return node.text;
  if (!node.is_map() || node.entries.empty()) {
    problems->push_back({node.at, absl::StrCat("expected parts and weights, as {ja: 0.7, en: 0.3}; "
                                               "got ",
                                               Describe(node))});
    return std::nullopt;
  }
  std::vector<std::string> parts;
  for (const YamlEntry& e : node.entries) {
    const auto weight = ReadNumber(e.value, problems);
    if (!weight) return std::nullopt;
    parts.push_back(absl::StrCat(e.key.text, "=", FormatNumber(*weight)));
  }
  return absl::StrJoin(parts, ",");
}

// [{part: 50%, mix: {ja: 1}}, …] as "0.5:ja=1;…".
std::optional<std::string> PhasesAsText(const YamlNode& node, std::vector<Problem>* problems) {
  if (node.is_scalar()) return node.text;
  std::vector<std::string> phases;
  for (const YamlNode& item : node.items) {
    const YamlEntry* part = item.Find("part");
    const YamlEntry* mix = item.Find("mix");
    if (part == nullptr || mix == nullptr) {
      problems->push_back({item.at, absl::StrCat("expected a phase, as {part: 50%, mix: {ja: 1}}; "
                                                 "got ",
                                                 Describe(item))});
      return std::nullopt;
    }
    ReportUnknownKeys(item, {"part", "mix"}, problems);
    const auto share = ReadNumber(part->value, problems);
    const auto text = MixAsText(mix->value, problems);
    if (!share || !text) return std::nullopt;
    phases.push_back(absl::StrCat(FormatNumber(*share), ":", *text));
  }
  if (phases.empty()) {
    problems->push_back({node.at, absl::StrCat("expected a list of phases, as [{part: 50%, mix: "
                                               "{ja: 1}}, …]; got ",
                                               Describe(node))});
    return std::nullopt;
  }
  return absl::StrJoin(phases, ";");
}

}  // namespace

std::vector<spec::Field> SweepFields(spec::TrialSpec& spec, OwnBudget& own) {
  spec::Table more;
  more.Real(
      "train.seconds", own.seconds, 1e-3, 1e12,
      {"training and evaluation of one trial, by the file's calibration; one of the budgets", "s"});
  more.Real("train.tokens_per_param", own.tokens_per_param, 1e-6, 1e9,
            {"tokens for each of params_total; one of the budgets"});
  std::vector<spec::Field> out = spec::Fields(spec);
  auto at = std::find_if(out.begin(), out.end(),
                         [](const spec::Field& f) { return f.path == "train.epochs"; });
  if (at != out.end()) ++at;
  out.insert(at, more.fields.begin(), more.fields.end());
  return out;
}

FieldTable::FieldTable() : fields_(SweepFields(scratch_, own_)) {}

const spec::Field* FieldTable::Find(const std::string& path) const {
  for (const spec::Field& f : fields_) {
    if (f.path == path) return &f;
  }
  return nullptr;
}

const spec::Field* FieldTable::FindOrReport(const YamlNode& name,
                                            std::vector<Problem>* problems) const {
  if (!name.is_scalar()) {
    problems->push_back({name.at, "expected the path of a field, as model.d_model"});
    return nullptr;
  }
  if (const spec::Field* f = Find(name.text)) return f;
  const spec::Field* found = nullptr;
  std::vector<std::string> same;
  for (const spec::Field& f : fields_) {
    if (spec::ShortName(f.path) == name.text) found = &f, same.push_back(f.path);
  }
  if (same.size() == 1) return found;
  const std::string near = spec::NearestField(name.text);
  problems->push_back(
      {name.at, same.size() > 1 ? absl::StrCat("\"", name.text, "\" could be ",
                                               absl::StrJoin(same, " or "), "; write the full path")
                                : absl::StrCat(name.text, ": no such field",
                                               near.empty() ? "; `plumb schema trial` lists them"
                                                            : "; did you mean " + near + "?")});
  return nullptr;
}

std::optional<std::string> ReadFieldValue(const YamlNode& node, const spec::Field& field,
                                          std::vector<Problem>* problems) {
  if (node.is_map() && field.path == "data.tokenizer" && node.entries.size() == 1 &&
      node.entries[0].key.text == "sentencepiece") {  // {sentencepiece: 4096}
    const auto size = ReadInteger(node.entries[0].value, 300, 9999999, problems);
    if (!size) return std::nullopt;
    return json("sentencepiece:" + std::to_string(*size)).dump();
  }
  if (field.path == "data.mix" || field.path == "data.phases") {
    const auto text =
        field.path == "data.mix" ? MixAsText(node, problems) : PhasesAsText(node, problems);
    if (!text) return std::nullopt;
    return Checked(*text, node.at, field, problems);
  }
  if (!node.is_scalar()) {
    problems->push_back(
        {node.at, absl::StrCat(field.path, ": expected one value, got ", Describe(node))});
    return std::nullopt;
  }
  return Checked(ToJson(node, field), node.at, field, problems);
}

std::optional<std::string> NumberAsFieldValue(double value, Position at, const spec::Field& field,
                                              std::vector<Problem>* problems) {
  if (field.type == spec::FieldType::kInteger) {
    return Checked(static_cast<int64_t>(std::llround(value)), at, field, problems);
  }
  return Checked(value, at, field, problems);
}

std::optional<double> ReadNumber(const YamlNode& node, std::vector<Problem>* problems) {
  const auto number = node.is_scalar() && !node.quoted ? ParseNumber(node.text) : std::nullopt;
  if (!number) {
    problems->push_back(
        {node.at, absl::StrCat("expected a number (64, 1e-3, 300k, 5%), got ", Describe(node))});
  }
  return number;
}

std::optional<int64_t> ReadInteger(const YamlNode& node, int64_t low, int64_t high,
                                   std::vector<Problem>* problems) {
  const auto number = ReadNumber(node, problems);
  if (!number) return std::nullopt;
  if (*number != std::floor(*number) || *number < static_cast<double>(low) ||
      *number > static_cast<double>(high)) {
    problems->push_back({node.at, absl::StrCat("expected a whole number from ", low, " to ", high,
                                               ", got ", node.text)});
    return std::nullopt;
  }
  return static_cast<int64_t>(*number);
}

std::string Suggest(const std::string& given, const std::vector<std::string>& known) {
  std::string near;
  int best = std::max<int>(1, given.size() / 3) + 1;
  for (const std::string& k : known) {
    if (const int d = spec::EditDistance(given, k); d < best) best = d, near = k;
  }
  return near.empty() ? absl::StrCat("; known are ", absl::StrJoin(known, ", "))
                      : absl::StrCat("; did you mean ", near, "?");
}

void ReportUnknownKeys(const YamlNode& map, const std::vector<std::string>& known,
                       std::vector<Problem>* problems) {
  for (const YamlEntry& e : map.entries) {
    if (e.key.is_scalar() && std::find(known.begin(), known.end(), e.key.text) != known.end())
      continue;
    problems->push_back(
        {e.key.at, absl::StrCat("unknown key ", Describe(e.key), Suggest(e.key.text, known))});
  }
}

}  // namespace plumb::sweeps
