#include "sweeps/outlook.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/str_cat.h"
#include "sweeps/number.h"

namespace plumb::sweeps {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kRateBand = 1;        // one rate for all shapes is good for a factor of two
constexpr double kMemoryBand = 0.1;    // docs/results.md, "The planner against reality"
constexpr double kMeasuredBand = 0.1;  // of one shape from run to run, seconds and memory
constexpr double kTimingWarmUp = 0.3;  // of a timing stage beyond its own seconds

// A threshold from `value` on, upwards or downwards.
struct Threshold {
  size_t at = 0;  // which number
  double value = 0;
  bool up = true;
  bool Holds(const CellNumbers& c) const {
    const double x = c.values[at].second;
    return up ? x >= value : x <= value;
  }
  std::string Text(const CellNumbers& c) const {
    return absl::StrCat(c.values[at].first, up ? " >= " : " <= ", FormatNumber(value));
  }
};

const MeasuredShape* MeasuredOf(const PlannedTrial& t, const Surroundings& around) {
  if (around.measured.empty()) return nullptr;
  const auto it = around.measured.find(CostKey(t.config));
  return it == around.measured.end() ? nullptr : &it->second;
}

}  // namespace

const char* Name(Basis basis) {
  switch (basis) {
    case Basis::kNone:
      return "none";
    case Basis::kFormula:
      return "formula";
    case Basis::kCalibrated:
      return "calibrated";
    case Basis::kMeasured:
      return "measured";
  }
  return "";
}

const Prices* PricesOf(const Surroundings& around, const std::string& device, int64_t threads) {
  const auto find = [&](const std::string& wanted) -> const Prices* {
    for (const Prices& p : around.prices) {
      if (p.threads == threads && (wanted.empty() || p.device == wanted)) return &p;
    }
    return nullptr;
  };
  const Prices* const own = device.empty() ? nullptr : find(device);
  return own != nullptr ? own : find(around.device);
}

Figure TrialSeconds(const PlannedTrial& t, const SplitTokens& splits, const Surroundings& around,
                    const std::string& device) {
  const PlannedStage& first = t.stages.front();
  if (first.kind == "noop") {
    const auto settings = nlohmann::json::parse(first.settings_json);
    return {settings.value("seconds", 0.0), 0, Basis::kFormula};
  }
  if (const MeasuredShape* m = MeasuredOf(t, around); m != nullptr && m->seconds > 0)
    return {m->seconds, kMeasuredBand, Basis::kMeasured};
  if (const Prices* prices =
          PricesOf(around, device, std::max<int64_t>(1, t.config.execution.threads)))
    return {PredictSeconds(*prices, t.config, splits), prices->band, Basis::kCalibrated};
  if (around.flops_per_second > 0)
    return {t.flops / around.flops_per_second, kRateBand, Basis::kFormula};
  return {};
}

Figure TrialMemory(const PlannedTrial& t, const Surroundings& around) {
  if (t.predicted_peak_bytes == 0) return {};
  if (const MeasuredShape* m = MeasuredOf(t, around); m != nullptr && m->peak_bytes > 0)
    return {m->peak_bytes, kMeasuredBand, Basis::kMeasured};
  return {static_cast<double>(t.predicted_peak_bytes), kMemoryBand, Basis::kFormula};
}

double StageSeconds(const PlannedTrial& t, std::vector<std::string>* unknown) {
  double sum = 0;
  for (const PlannedStage& stage : t.stages) {
    if (stage.parent.empty()) continue;
    if (stage.kind != "timing" && stage.kind != "noop") {
      if (std::find(unknown->begin(), unknown->end(), stage.name) == unknown->end())
        unknown->push_back(stage.name);
      continue;
    }
    const auto settings = nlohmann::json::parse(stage.settings_json);
    sum += settings.value("seconds", 0.0) + (stage.kind == "timing" ? kTimingWarmUp : 0);
  }
  return sum;
}

double MakeSpan(const std::vector<Placing>& trials, const std::vector<Machine>& machines) {
  std::vector<std::multiset<double>> free(machines.size());  // when each slot is
  for (size_t m = 0; m < machines.size(); ++m) {
    for (int64_t i = 0; i < machines[m].slots; ++i) free[m].insert(0.0);
  }
  double last = 0;
  for (const Placing& t : trials) {
    size_t best = machines.size();
    double begin = kInfinity, end = kInfinity;
    for (size_t m = 0; m < machines.size(); ++m) {
      if (machines[m].slots < t.slots || !std::isfinite(t.seconds[m])) continue;
      if (machines[m].memory_bytes > 0 &&
          t.memory_bytes > static_cast<double>(machines[m].memory_bytes))
        continue;
      const double from = *std::next(free[m].begin(), t.slots - 1);
      if (from < begin || (from == begin && from + t.seconds[m] < end))
        best = m, begin = from, end = from + t.seconds[m];
    }
    if (best == machines.size()) return kInfinity;
    free[best].erase(free[best].begin(), std::next(free[best].begin(), t.slots));
    for (int64_t i = 0; i < t.slots; ++i) free[best].insert(end);
    last = std::max(last, end);
  }
  return last;
}

std::string WhichDoNotFit(const std::vector<CellNumbers>& cells) {
  const auto refused =
      std::find_if(cells.begin(), cells.end(), [](const CellNumbers& c) { return !c.fits; });
  if (refused == cells.end()) return "";
  // The tightest threshold on each number that all that do not fit keep.
  std::vector<Threshold> all;
  for (size_t at = 0; at < refused->values.size(); ++at) {
    for (const bool up : {true, false}) {
      Threshold t{at, up ? kInfinity : -kInfinity, up};
      for (const CellNumbers& c : cells) {
        const double x = c.values[at].second;
        if (!c.fits) t.value = up ? std::min(t.value, x) : std::max(t.value, x);
      }
      all.push_back(t);
    }
  }
  const auto parts = [&](const std::vector<Threshold>& conditions) {
    return std::all_of(cells.begin(), cells.end(), [&](const CellNumbers& c) {
      const bool holds = std::all_of(conditions.begin(), conditions.end(),
                                     [&](const Threshold& t) { return t.Holds(c); });
      return holds == !c.fits;
    });
  };
  for (const Threshold& t : all) {
    if (parts({t})) return t.Text(*refused);
  }
  for (size_t i = 0; i < all.size(); ++i) {
    for (size_t j = i + 1; j < all.size(); ++j) {
      if (all[i].at != all[j].at && parts({all[i], all[j]}))
        return absl::StrCat(all[i].Text(*refused), " and ", all[j].Text(*refused));
    }
  }
  return "";
}

}  // namespace plumb::sweeps
