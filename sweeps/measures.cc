#include "sweeps/measures.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "sweeps/field_values.h"
#include "trainer/spec/cost.h"
#include "trainer/spec/fields.h"

namespace plumb::sweeps {
namespace {

struct Names {
  std::set<std::string> paths;
  std::map<std::string, std::vector<std::string>> by_last_part;
  std::set<std::string> choices;
};

const Names& AllNames() {
  static const Names* const names = [] {
    auto* n = new Names;
    spec::TrialSpec spec;
    for (const spec::Field& f : spec::Fields(spec)) {
      n->paths.insert(f.path);
      if (const std::string name = spec::ShortName(f.path); !name.empty()) {
        n->by_last_part[name].push_back(f.path);
      }
      n->choices.insert(f.choices.begin(), f.choices.end());
    }
    return n;
  }();
  return *names;
}

}  // namespace

const std::vector<std::string>& MeasureNames() {
  static const auto* const names = new std::vector<std::string>{"params_total",
                                                                "params_non_embedding",
                                                                "params_embedding",
                                                                "flops_per_token",
                                                                "tokens",
                                                                "flops",
                                                                "steps",
                                                                "seconds"};
  return *names;
}

bool IsMeasure(const std::string& name) {
  const auto& all = MeasureNames();
  return std::find(all.begin(), all.end(), name) != all.end();
}

double Measure(const std::string& name, const spec::TrialSpec& s) {
  if (name == "params_total") return spec::CountParameters(s.model).total;
  if (name == "params_non_embedding") return spec::CountParameters(s.model).non_embedding;
  if (name == "params_embedding") return spec::CountParameters(s.model).embedding;
  if (name == "flops_per_token") return spec::TrainingFlopsPerToken(s.model, s.data.seq_len);
  if (name == "tokens") return spec::TotalTokens(s);
  if (name == "flops") return spec::TotalTrainingFlops(s);
  return s.train.steps;
}

absl::StatusOr<std::string> ResolveName(const std::string& name) {
  const Names& names = AllNames();
  if (name == "epochs" || name == "train.epochs") {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", name, "\" has become steps before an expression is computed; write tokens or steps"));
  }
  if (IsMeasure(name) || names.paths.count(name) > 0) return name;
  if (name == "params" || name == "parameters") {
    return absl::InvalidArgumentError(
        absl::StrCat("bare `", name, "` is ambiguous: write params_total or params_non_embedding"));
  }
  if (const auto it = names.by_last_part.find(name); it != names.by_last_part.end()) {
    if (it->second.size() == 1) return it->second[0];
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", name, "\" could be ", absl::StrJoin(it->second, " or "), "; write the full path"));
  }
  if (names.choices.count(name) > 0) return "'" + name + "'";
  std::string near;
  int best = std::max<int>(2, name.size() / 3) + 1;
  const auto consider = [&](const std::string& candidate) {
    if (const int d = spec::EditDistance(name, candidate); d < best) best = d, near = candidate;
  };
  for (const std::string& m : MeasureNames()) consider(m);
  for (const auto& [last, paths] : names.by_last_part) consider(last);
  for (const std::string& p : names.paths) consider(p);
  return absl::InvalidArgumentError(absl::StrCat(
      "no field or measure \"", name, "\"",
      near.empty() ? absl::StrCat("; the measures are ", absl::StrJoin(MeasureNames(), ", "))
                   : absl::StrCat("; did you mean ", near, "?")));
}

absl::StatusOr<std::string> ResolveName(const std::string& name, const NameContext& context) {
  const auto& variants = context.variants;
  if (const auto reference = AsReference(name)) {
    if (variants.empty()) {
      return absl::InvalidArgumentError(
          "ref() names a variant, and this file has none; write variants: {NAME: {…}, …}");
    }
    if (std::find(variants.begin(), variants.end(), reference->variant) == variants.end()) {
      return absl::InvalidArgumentError(absl::StrCat("no variant \"", reference->variant, "\"",
                                                     Suggest(reference->variant, variants)));
    }
    absl::StatusOr<std::string> inner = ResolveName(reference->name);
    if (!inner.ok()) return inner;
    if (inner->front() == '\'') {
      return absl::InvalidArgumentError(
          absl::StrCat("ref(", reference->variant, ").", reference->name, ": ", reference->name,
                       " is a word, no field or measure of the variant"));
    }
    return absl::StrCat("ref(", reference->variant, ").", *inner);
  }
  if (name == "variant" && !variants.empty()) return name;
  absl::StatusOr<std::string> resolved = ResolveName(name);
  if (!resolved.ok() && std::find(variants.begin(), variants.end(), name) != variants.end())
    return "'" + name + "'";
  for (const std::string& v : variants) {
    const bool near = spec::EditDistance(name, v) <= std::max<int>(1, name.size() / 3);
    if (!resolved.ok() && near &&
        resolved.status().message().find("did you mean") == absl::string_view::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat("no field, measure or variant \"", name, "\"; did you mean ", v, "?"));
    }
  }
  return resolved;
}

Phase KnownIn(const std::string& name) {
  if (name == "tokens" || name == "flops" || name == "steps" || name == "train.tokens" ||
      name == "train.flops" || name == "train.steps" || name == "seconds") {
    return Phase::kBudget;
  }
  return IsMeasure(name) ? Phase::kCounts : Phase::kFields;
}

bool IsShapeField(const std::string& path) {
  for (const char* section : {"model.", "base.", "router.", "data."}) {
    if (path.rfind(section, 0) == 0) return true;
  }
  return false;
}

absl::StatusOr<Value> SpecValues::operator()(const std::string& given) const {
  absl::StatusOr<std::string> name = ResolveName(given);
  if (!name.ok()) return name.status();
  if (*name == "seconds") {
    const absl::StatusOr<double> seconds = seconds_();
    if (!seconds.ok()) return seconds.status();
    return Value::Number(*seconds);
  }
  if (IsMeasure(*name)) return Value::Number(Measure(*name, spec_));
  if (name->front() == '\'') return Value::Text(given);
  // Resolving turned the budget into steps; these two still mean what they say.
  if (*name == "train.tokens") return Value::Number(Measure("tokens", spec_));
  if (*name == "train.flops") return Value::Number(Measure("flops", spec_));
  // The table is built once: expressions are evaluated for every cell.
  struct Bound {
    Bound() {
      for (spec::Field& f : spec::Fields(spec)) fields.emplace(f.path, std::move(f));
    }
    spec::TrialSpec spec;
    std::map<std::string, spec::Field> fields;
  };
  thread_local Bound bound;
  bound.spec = spec_;
  const nlohmann::json v = bound.fields.at(*name).get();
  if (v.is_boolean()) return Value::Boolean(v.get<bool>());
  if (v.is_string()) return Value::Text(v.get<std::string>());
  return Value::Number(v.get<double>());
}

}  // namespace plumb::sweeps
