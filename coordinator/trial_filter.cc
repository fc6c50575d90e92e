#include "coordinator/trial_filter.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "domain/status_macros.h"
#include "sweeps/field_values.h"
#include "sweeps/measures.h"
#include "trainer/spec/parse.h"

namespace plumb::coordinator {
namespace {

using nlohmann::json;
using sweeps::Value;

// What a trial is beside its config and its cell.
constexpr std::array<const char*, 8> kOwn = {"trial", "replicate", "aa",     "tune",
                                             "state", "cell",      "shared", "objective"};

bool IsOwn(const std::string& name) {
  return std::find(kOwn.begin(), kOwn.end(), name) != kOwn.end();
}

Value OwnValue(const std::string& name, const store::TrialView& t) {
  if (name == "trial") return Value::Number(static_cast<double>(t.row.id.value));
  if (name == "replicate") return Value::Number(static_cast<double>(t.link.replicate));
  if (name == "aa") return Value::Boolean(t.link.aa != 0);
  if (name == "tune") return Value::Boolean(t.link.tune != 0);
  if (name == "shared") return Value::Boolean(t.link.shared != 0);
  if (name == "cell") return Value::Text(t.cell.name);
  if (name == "objective") return Value::Inexact(t.objective);
  return Value::Text(std::string(Name(t.row.state)));
}

std::string LastPart(const std::string& path) { return path.substr(path.rfind('.') + 1); }

// The axis of the cell that the name means, by its path or the last part of it.
const json* AxisValue(const json& axes, const std::string& name) {
  if (!axes.is_object()) return nullptr;
  for (const auto& [path, value] : axes.items()) {
    if (path == name) return &value;
  }
  for (const auto& [path, value] : axes.items()) {
    if (LastPart(path) == name) return &value;
  }
  return nullptr;
}

}  // namespace

absl::StatusOr<TrialFilter> TrialFilter::Create(const std::string& text,
                                                const std::vector<store::TrialView>& among) {
  TrialFilter out;
  out.text_ = text;
  if (text.empty()) return out;
  const auto wrong = [&](int offset, const std::string& message) {
    return absl::InvalidArgumentError(
        absl::StrCat("where: ", message, "\n  ", text, "\n  ",
                     std::string(static_cast<size_t>(std::max(0, offset)), ' '), "^"));
  };
  sweeps::Expression::Error error;
  out.expression_ = sweeps::Expression::Parse(text, &error);
  if (!out.expression_) return wrong(error.offset, error.message);
  std::set<std::string> known(kOwn.begin(), kOwn.end());
  for (StageState s : kAllStageStates) known.emplace(Name(s));
  for (const store::TrialView& t : among) {
    const json axes = json::parse(t.cell.axes_json, nullptr, false);
    if (!axes.is_object()) continue;
    for (const auto& [path, value] : axes.items()) {
      known.insert(path);
      known.insert(LastPart(path));
      if (path == "variant" && value.is_string()) known.insert(value.get<std::string>());
    }
  }
  for (const sweeps::Expression::Name& n : out.expression_->names()) {
    if (known.contains(n.text)) continue;
    const auto resolved = sweeps::ResolveName(n.text);
    if (resolved.ok()) continue;
    const std::string hint = sweeps::Suggest(n.text, {known.begin(), known.end()});
    const bool near = hint.rfind("; did you mean", 0) == 0;
    return wrong(n.offset, near ? absl::StrCat("nothing is called \"", n.text, "\"", hint)
                                : std::string(resolved.status().message()));
  }
  return out;
}

absl::StatusOr<bool> TrialFilter::Takes(const store::TrialView& trial) const {
  if (!expression_) return true;
  const json axes = json::parse(trial.cell.axes_json, nullptr, false);
  spec::TrialSpec config;
  const bool has_config = spec::ParseResolved(trial.row.config_json, &config).empty();
  const auto lookup = [&](const std::string& name) -> absl::StatusOr<Value> {
    if (IsOwn(name)) return OwnValue(name, trial);
    if (const json* v = AxisValue(axes, name)) {
      if (v->is_boolean()) return Value::Boolean(v->get<bool>());
      if (v->is_number()) return Value::Number(v->get<double>());
      if (v->is_string()) return Value::Text(v->get<std::string>());
    }
    const auto resolved = sweeps::ResolveName(name);
    if (resolved.ok() && resolved->front() != '\'' && has_config)
      return sweeps::SpecValues(config, [] {
        return absl::StatusOr<double>(
            absl::InvalidArgumentError("seconds: a prediction, which nothing here is filtered by"));
      })(name);
    return Value::Text(name);
  };
  ASSIGN_OR_RETURN(const Value value, expression_->Evaluate(lookup));
  if (value.kind != Value::Kind::kBoolean) {
    return absl::InvalidArgumentError(absl::StrCat(
        "where: ", text_, " is no condition: it must be true or false, as n_layers >= 4"));
  }
  return value.boolean;
}

}  // namespace plumb::coordinator
