#include "sweeps/read_calibration.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "sweeps/field_values.h"
#include "sweeps/include.h"
#include "sweeps/number.h"
#include "sweeps/positions.h"

namespace plumb::sweeps {
namespace {

// A flow map on one line.
std::string Text(const Prices& p) {
  std::string out =
      absl::StrCat("{device: ", nlohmann::json(p.device).dump(), ", threads: ", p.threads,
                   ", band: ", FormatNumber(p.band), ", shapes: ", p.shapes, ", seconds: {");
  for (size_t i = 0; i < kUnits; ++i)
    absl::StrAppend(&out, i > 0 ? ", " : "", Name(static_cast<Unit>(i)), ": ",
                    FormatNumber(p.seconds[i]));
  absl::StrAppend(&out, "}");
  if (!p.kinds.empty()) {
    absl::StrAppend(&out, ", kinds: {");
    bool first = true;
    for (const auto& [kind, factor] : p.kinds) {
      absl::StrAppend(&out, first ? "" : ", ", "\"", kind, "\": ", FormatNumber(factor));
      first = false;
    }
    absl::StrAppend(&out, "}");
  }
  return out + "}";
}

double NotNegative(const YamlNode& v, const char* what, std::vector<Problem>* problems) {
  const auto number = ReadNumber(v, problems);
  if (number && !(*number >= 0))
    problems->push_back({v.at, absl::StrCat(what, ": expected 0 or more, got ", v.text)});
  return number.value_or(0);
}

}  // namespace

void ReadCalibration(const YamlEntry& entry, SweepFile* file, std::vector<Problem>* problems) {
  const YamlNode& v = entry.value;
  file->calibration_at = v.at;
  if (v.is_scalar() && !v.text.empty()) {
    file->calibration_device = v.text;
    return;
  }
  if (!v.is_map()) {
    problems->push_back(
        {v.at, absl::StrCat(
                   "expected the name of a calibrated device, as `plumb sweep plan` shows it; got ",
                   Describe(v))});
    return;
  }
  ReportUnknownKeys(v, {"device", "threads", "band", "shapes", "seconds", "kinds"}, problems);
  Prices p;
  if (const YamlEntry* e = v.Find("device"); e != nullptr && e->value.is_scalar())
    p.device = e->value.text;
  if (p.device.empty())
    problems->push_back({v.at, "a calibration says of which device it is: {device: NAME, …}"});
  if (const YamlEntry* e = v.Find("threads"))
    p.threads = ReadInteger(e->value, 1, 4096, problems).value_or(1);
  if (const YamlEntry* e = v.Find("shapes"))
    p.shapes = ReadInteger(e->value, 1, 1000000, problems).value_or(1);
  if (const YamlEntry* e = v.Find("band")) p.band = NotNegative(e->value, "band", problems);
  const YamlEntry* seconds = v.Find("seconds");
  if (seconds == nullptr || !seconds->value.is_map()) {
    problems->push_back(
        {v.at, "a calibration says what a unit of work takes: seconds: {step: 1e-4, …}"});
    return;
  }
  std::vector<std::string> units;
  for (size_t i = 0; i < kUnits; ++i) {
    units.push_back(Name(static_cast<Unit>(i)));
    if (const YamlEntry* e = seconds->value.Find(units.back()))
      p.seconds[i] = NotNegative(e->value, units.back().c_str(), problems);
  }
  ReportUnknownKeys(seconds->value, units, problems);
  const auto of_pass = p.seconds.begin() + static_cast<size_t>(Unit::kPass);
  if (std::all_of(p.seconds.begin(), of_pass, [](double s) { return s == 0; })) {
    problems->push_back({seconds->value.at, "a step takes some time: give step or step_flops"});
  }
  if (const YamlEntry* kinds = v.Find("kinds"); kinds != nullptr && kinds->value.is_map()) {
    for (const YamlEntry& e : kinds->value.entries) {
      const double factor = NotNegative(e.value, "a kind's factor", problems);
      if (factor == 0) problems->push_back({e.value.at, "a factor is above 0"});
      p.kinds[e.key.text] = factor;
    }
  }
  file->prices = std::move(p);
}

std::optional<WantedPrices> WantsPrices(const std::string& yaml) {
  std::vector<Problem> problems;
  const SweepFile file = ReadSweepFile(yaml, &problems);
  if (!file.counts_seconds || file.prices) return std::nullopt;
  WantedPrices out{.device = file.calibration_device};
  const auto threads = file.trial.values.find("execution.threads");
  if (threads != file.trial.values.end())
    out.threads = nlohmann::json::parse(threads->second).get<int64_t>();
  return out;
}

std::string WithPrices(const std::string& yaml, const Prices& prices) {
  std::vector<Problem> problems;
  const auto root = ReadTree(yaml, &problems);
  const YamlEntry* given = root && root->is_map() ? root->Find("calibration") : nullptr;
  if (given == nullptr)
    return absl::StrCat(yaml, yaml.empty() || yaml.back() == '\n' ? "" : "\n",
                        "calibration: ", Text(prices), "\n");
  const size_t begin = OffsetOf(yaml, given->value.at),
               end = EndOfScalar(yaml, begin, given->value);
  if (end == std::string::npos) return yaml;
  std::string out = yaml;
  return out.replace(begin, end - begin, Text(prices));
}

}  // namespace plumb::sweeps
