#include "sweeps/search.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "sweeps/corpus_use.h"
#include "sweeps/draw.h"
#include "sweeps/measures.h"
#include "sweeps/number.h"
#include "sweeps/trials.h"
#include "trainer/spec/parse.h"

namespace plumb::sweeps {
namespace {

using nlohmann::json;
using Kind = SearchAxis::Kind;

constexpr double kRounding = 1e-9;  // relative: how far beyond a bound is the bound

std::string Shown(const FieldValue& value) {
  const json parsed = json::parse(value);
  return parsed.is_string() ? parsed.get<std::string>() : value;
}

std::string NameOf(const Axis& axis) {
  if (!axis.name.empty()) return axis.name;
  return axis.fields.size() == 1 ? axis.fields[0]
                                 : absl::StrCat("[", absl::StrJoin(axis.fields, ", "), "]");
}

// The numbers, where all are some and rise.
std::vector<double> Rising(const std::vector<std::string>& choices) {
  std::vector<double> out;
  for (const std::string& choice : choices) {
    const json value = json::parse(choice, nullptr, false);
    if (!value.is_number() || (!out.empty() && value.get<double>() <= out.back())) return {};
    out.push_back(value.get<double>());
  }
  return out;
}

SearchAxis AxisOf(const Axis& axis) {
  SearchAxis out{.name = NameOf(axis), .conditional = axis.when.has_value()};
  if (!axis.solved() && axis.points.empty()) {
    out.kind = axis.integer ? Kind::kWhole : Kind::kReal;
    out.low = axis.low, out.high = axis.high, out.logarithmic = axis.logarithmic;
    return out;
  }
  for (const double target : axis.targets) out.choices.push_back(FormatNumber(target));
  for (size_t i = 0; i < axis.points.size(); ++i) {
    std::vector<std::string> shown;
    for (const FieldValue& value : axis.points[i]) shown.push_back(Shown(value));
    out.choices.push_back(axis.name.empty() ? absl::StrJoin(shown, ", ") : axis.point_names[i]);
  }
  const bool plain = axis.solved() || (axis.fields.size() == 1 && axis.name.empty());
  if (plain) out.numbers = Rising(out.choices);
  return out;
}

// "" where the number is a value of the axis; `value` is then as it is kept.
std::string Take(const SearchAxis& axis, double given, double* value) {
  const auto wrong = [&](const std::string& why) {
    return absl::StrCat(axis.name, " = ", FormatNumber(given), why);
  };
  if (!std::isfinite(given)) return absl::StrCat(axis.name, " is not a finite number");
  if (axis.kind == Kind::kChoice) {
    const auto n = static_cast<double>(axis.choices.size());
    if (given != std::floor(given) || given < 0 || given >= n) {
      return wrong(absl::StrCat(" is no place among its ", axis.choices.size(),
                                " choices, which are counted from 0"));
    }
    *value = given;
    return "";
  }
  const double low = axis.low - kRounding * std::abs(axis.low);
  const double high = axis.high + kRounding * std::abs(axis.high);
  if (given < low)
    return wrong(absl::StrCat(" is below ", FormatNumber(axis.low), ", the least of its axis"));
  if (given > high)
    return wrong(absl::StrCat(" is above ", FormatNumber(axis.high), ", the greatest of its axis"));
  if (axis.kind == Kind::kWhole && given != std::floor(given))
    return wrong(" is no whole number, and its axis has only those");
  *value =
      std::clamp(axis.kind == Kind::kWhole ? given : RoundToFourDigits(given), axis.low, axis.high);
  return "";
}

}  // namespace

std::vector<std::string> SearchArms(const SweepFile& file) {
  std::vector<std::string> out;
  for (size_t v = 0; v < file.variants.size(); ++v) {
    out.push_back(file.variants[v].name);
    for (const Match& m : file.also_match) {
      if (v > 0) out.push_back(absl::StrCat(file.variants[v].name, "@", m.measure));
    }
  }
  return out;
}

std::vector<SearchAxis> SearchAxes(const SweepFile& file) {
  std::vector<SearchAxis> out;
  for (const Axis& axis : file.axes) out.push_back(AxisOf(axis));
  if (!file.variants.empty()) out.push_back({.name = "variant", .choices = SearchArms(file)});
  return out;
}

SearchPoint PointOf(const SweepFile& file, const SpacePoint& from, const Candidate& candidate) {
  SearchPoint out;
  for (size_t a = 0; a < file.axes.size(); ++a) {
    const Axis& axis = file.axes[a];
    if (!candidate.active[a]) {
      out.push_back(std::nullopt);
    } else if (axis.solved()) {
      out.push_back(static_cast<double>(
          std::find(axis.targets.begin(), axis.targets.end(), from.target) - axis.targets.begin()));
    } else if (!axis.points.empty()) {
      out.push_back(static_cast<double>(
          std::find(axis.points.begin(), axis.points.end(), from.values[a]) - axis.points.begin()));
    } else {
      out.push_back(json::parse(from.values[a].front()).get<double>());
    }
  }
  if (const std::vector<std::string> arms = SearchArms(file); !arms.empty()) {
    out.push_back(
        static_cast<double>(std::find(arms.begin(), arms.end(), candidate.arm) - arms.begin()));
  }
  return out;
}

Search::Search(const SweepFile& file, const CorpusLookup& corpora, std::vector<SearchPoint> initial,
               bool repeats_allowed)
    : file_(file),
      corpora_(corpora),
      completer_(file_, corpora_, &problems_),
      axes_(SearchAxes(file_)),
      initial_(std::move(initial)),
      repeats_allowed_(repeats_allowed) {}

Search::Judged Search::Judge(const std::vector<double>& values, int64_t cell) {
  Judged out;
  if (values.size() != axes_.size()) {
    out.refused = absl::StrCat("it has ", values.size(), " values, and the space ", axes_.size(),
                               axes_.size() == 1 ? " axis" : " axes");
    return out;
  }
  SpacePoint point;
  point.values.resize(file_.axes.size());
  std::string arm;
  for (size_t a = 0; a < axes_.size(); ++a) {
    double value = 0;
    out.refused = Take(axes_[a], values[a], &value);
    if (!out.refused.empty()) return out;
    const auto place = static_cast<size_t>(value);
    if (a == file_.axes.size()) {
      arm = axes_[a].choices[place];
    } else if (file_.axes[a].solved()) {
      point.target = file_.axes[a].targets[place];
    } else if (axes_[a].kind == Kind::kChoice) {
      point.values[a] = file_.axes[a].points[place];
    } else {
      point.values[a] = {FormatNumber(value)};
    }
  }
  problems_.clear();
  for (Candidate& c : completer_.Complete(point)) {
    if (c.arm != arm) continue;
    out.refused = problems_.empty() ? c.refused : problems_.front().message;
    if (!out.refused.empty()) return out;
    for (const std::string& flag : c.cell.flags) {
      if (repeats_allowed_ || flag.rfind("more_than_one_epoch", 0) != 0) continue;
      out.refused = "it reads the corpus more than once; `allow: [more_than_one_epoch]` takes it";
      return out;
    }
    out.point = PointOf(file_, point, c);
    out.key = spec::Key(c.config);
    out.cell = std::move(c.cell);
    out.cell.flags.push_back("search");
    out.trials = ReplicatesOf(file_, cell, c.config);
    for (PlannedTrial& t : out.trials) {
      if (t.predicted_peak_bytes > 0) t.predicted_peak_bytes += MappedBytes(out.cell, c.config);
    }
    return out;
  }
  out.refused = "it makes no cell";
  return out;
}

std::optional<SearchPoint> Search::Place(const std::string& config_json,
                                         const std::string& axes_json) const {
  spec::TrialSpec s;
  if (!spec::ParseResolved(config_json, &s).empty()) return std::nullopt;
  const json coordinates = json::parse(axes_json, nullptr, false);
  json config = json::object();
  for (const spec::Field& f : spec::Fields(s)) config[f.path] = f.get();
  // What a cell says of itself comes first: a preset, a budget as it was given.
  const auto value_of = [&](const std::string& name) -> json {
    if (coordinates.is_object() && coordinates.contains(name)) return coordinates[name];
    if (IsBudget(name) && name != "train.steps") return nullptr;
    return config.contains(name) ? config[name] : json();
  };
  SearchPoint out;
  for (size_t a = 0; a < file_.axes.size(); ++a) {
    const Axis& axis = file_.axes[a];
    if (axis.when && !(coordinates.is_object() && coordinates.contains(NameOf(axis)))) {
      out.push_back(std::nullopt);
      continue;
    }
    if (axis.solved()) {
      const double measured = Measure(axis.measure, s);
      const auto near = std::find_if(axis.targets.begin(), axis.targets.end(), [&](double t) {
        return std::abs(measured / t - 1) <= axis.tolerance;
      });
      if (near == axis.targets.end()) return std::nullopt;
      out.push_back(static_cast<double>(near - axis.targets.begin()));
      continue;
    }
    if (axis.points.empty()) {
      const json value = value_of(axis.fields[0]);
      double kept = 0;
      if (!value.is_number() || !Take(axes_[a], value.get<double>(), &kept).empty())
        return std::nullopt;
      out.push_back(kept);
      continue;
    }
    const auto equal = [&](const std::vector<FieldValue>& point) {
      for (size_t f = 0; f < point.size(); ++f) {
        if (value_of(axis.fields[f]) != json::parse(point[f])) return false;
      }
      return true;
    };
    const auto found = std::find_if(axis.points.begin(), axis.points.end(), equal);
    if (found == axis.points.end()) return std::nullopt;
    out.push_back(static_cast<double>(found - axis.points.begin()));
  }
  if (file_.variants.empty()) return out;
  const auto& arms = axes_.back().choices;
  const json variant = value_of("variant");
  const auto found = variant.is_string()
                         ? std::find(arms.begin(), arms.end(), variant.get<std::string>())
                         : arms.end();
  if (found == arms.end()) return std::nullopt;
  out.push_back(static_cast<double>(found - arms.begin()));
  return out;
}

}  // namespace plumb::sweeps
