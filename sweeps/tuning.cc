#include "sweeps/tuning.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "sweeps/corpus_use.h"
#include "sweeps/number.h"
#include "sweeps/trials.h"
#include "trainer/spec/fields.h"
#include "trainer/spec/parse.h"

namespace plumb::sweeps {
namespace {

using nlohmann::json;
using Point = std::vector<std::string>;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kEqualSteps = 1e-3;  // relative: values of a grid are rounded to four digits

double NumberOf(const std::string& value) { return json::parse(value).get<double>(); }

// The place of a value on its axis: its number, or its rank in the file.
double Place(const TuneAxis& axis, const std::string& value) {
  if (axis.ordered) return NumberOf(value);
  return static_cast<double>(std::find(axis.values.begin(), axis.values.end(), value) -
                             axis.values.begin());
}

// The mean of each point over its seeds, less being better, in the order in which ties are decided.
std::vector<std::pair<Point, double>> Means(const TunePlan& plan,
                                            const std::vector<TuneResult>& results) {
  std::map<std::vector<double>, std::pair<Point, std::vector<double>>> points;
  for (const TuneResult& r : results) {
    std::vector<double> place;
    for (size_t a = 0; a < plan.axes.size(); ++a) place.push_back(Place(plan.axes[a], r.values[a]));
    auto& [values, seen] = points[place];
    values = r.values;
    const bool finite = r.value && std::isfinite(*r.value);
    seen.push_back(!finite ? kInfinity : plan.maximize ? -*r.value : *r.value);
  }
  std::vector<std::pair<Point, double>> out;
  for (auto& [place, point] : points) {
    auto& [values, seen] = point;
    std::sort(seen.begin(), seen.end());  // a sum that does not depend on the order of results
    double sum = 0;
    for (double v : seen) sum += v;
    out.emplace_back(values, sum / static_cast<double>(seen.size()));
  }
  return out;
}

// Rounded to four digits and within the field's range; nullopt where there is no such value.
std::optional<std::string> ValueOf(const TuneAxis& axis, double number) {
  if (axis.integer) {
    number = std::round(number);
  } else {
    char buffer[40];
    std::snprintf(buffer, sizeof buffer, "%.4g", number);
    number = *ParseNumber(buffer);
  }
  if (!(number >= axis.least && number <= axis.most)) return std::nullopt;
  return FormatNumber(number);
}

// The number that continues ascending `values` beyond one end, by their own ratio where they are
// evenly spaced in the logarithm (or not evenly at all), by their own step otherwise.
std::optional<double> Next(const std::vector<double>& values, Edge end) {
  const size_t n = values.size();
  if (n < 2) return std::nullopt;
  const double first = values.front(), last = values.back();
  const double step = (last - first) / static_cast<double>(n - 1);
  const bool even = [&] {
    for (size_t i = 0; i + 1 < n; ++i) {
      if (std::abs(values[i + 1] - values[i] - step) > kEqualSteps * step) return false;
    }
    return n > 2;
  }();
  if (first > 0 && !even) {
    const double whole = std::pow(last / first, 1.0 / static_cast<double>(n - 1));
    const bool geometric = [&] {
      for (size_t i = 0; i + 1 < n; ++i) {
        if (std::abs(values[i + 1] / values[i] / whole - 1) > kEqualSteps) return false;
      }
      return true;
    }();
    const double ratio = geometric           ? whole
                         : end == Edge::kLow ? values[1] / first
                                             : last / values[n - 2];
    return end == Edge::kLow ? first / ratio : last * ratio;
  }
  const double at_end = even ? step : end == Edge::kLow ? values[1] - first : last - values[n - 2];
  const double next = end == Edge::kLow ? first - at_end : last + at_end;
  // A rate does not come down to 0 by steps; it is halved.
  if (end == Edge::kLow && first > 0 && next <= kEqualSteps * first) return first / 2;
  return next;
}

// Distinct values beyond the file's grid, over all axes: extensions that were made.
int64_t Added(const TunePlan& plan, const std::vector<TuneResult>& results) {
  std::set<std::pair<size_t, std::string>> added;
  for (const TuneResult& r : results) {
    for (size_t a = 0; a < plan.axes.size(); ++a) {
      const auto& grid = plan.axes[a].values;
      if (std::find(grid.begin(), grid.end(), r.values[a]) == grid.end())
        added.emplace(a, r.values[a]);
    }
  }
  return static_cast<int64_t>(added.size());
}

absl::StatusOr<PlannedTrial> CellTrial(const SweepPlan& plan, int64_t cell, const Point& values) {
  const TunePlan& tune = *plan.tune;
  if (values.size() != tune.axes.size())
    return absl::InvalidArgumentError("a value for each tuned field is needed");
  spec::TrialSpec s = tune.recipes[static_cast<size_t>(cell)];
  const std::string digest = s.data.digest;
  const auto fields = spec::Fields(s);
  for (size_t a = 0; a < values.size(); ++a) {
    const json value = json::parse(values[a], nullptr, false);
    for (const spec::Field& f : fields) {
      if (f.path != tune.axes[a].field) continue;
      const std::string wrong = value.is_discarded() ? "not JSON" : f.set(value);
      if (!wrong.empty())
        return absl::InvalidArgumentError(absl::StrCat(f.path, " = ", values[a], ": ", wrong));
    }
  }
  if (s.train.epochs > 0)
    spec::ResolveEpochs(&s, plan.cells[static_cast<size_t>(cell)].train_tokens);
  if (const auto errors = spec::Resolve(&s); !errors.empty())
    return absl::InvalidArgumentError(spec::Format(errors));
  if (plan.cells[static_cast<size_t>(cell)].parts.empty())
    s.data.mix.clear(), s.data.phases.clear();
  PlannedTrial t = TrialOf(cell, s, tune.stages);
  t.predicted_peak_bytes += MappedBytes(plan.cells[cell], s);
  t.tune_values = values;
  return t;
}

}  // namespace

double TunePlan::points() const {
  double n = 1;
  for (const TuneAxis& a : axes) n *= static_cast<double>(a.values.size());
  return n;
}

bool TuneDecision::at_edge() const {
  return std::any_of(edges.begin(), edges.end(), [](Edge e) { return e != Edge::kInside; });
}

TuneDecision ChooseWinner(const TunePlan& plan, const std::vector<TuneResult>& results) {
  TuneDecision out;
  out.edges.assign(plan.axes.size(), Edge::kInside);
  const auto means = Means(plan, results);
  out.tried = static_cast<int64_t>(means.size());
  if (means.empty()) return out;
  auto best = means.begin();
  for (auto it = means.begin(); it != means.end(); ++it) {
    if (it->second < best->second) best = it;
  }
  const bool any = std::isfinite(best->second);
  if (any) out.winner = best->first, out.value = plan.maximize ? -best->second : best->second;

  int64_t left = plan.extend - Added(plan, results);
  for (size_t a = 0; a < plan.axes.size(); ++a) {
    const TuneAxis& axis = plan.axes[a];
    if (!axis.ordered) continue;
    std::vector<double> tried;  // with the winner's other values
    for (const auto& [values, mean] : means) {
      bool beside = true;
      for (size_t b = 0; b < plan.axes.size(); ++b) beside &= b == a || values[b] == best->first[b];
      if (beside) tried.push_back(NumberOf(values[a]));
    }
    std::sort(tried.begin(), tried.end());
    if (tried.size() < 2) continue;
    const double at = any ? NumberOf(best->first[a]) : tried.front();
    out.edges[a] = at == tried.front()  ? Edge::kLow
                   : at == tried.back() ? Edge::kHigh
                                        : Edge::kInside;
    if (out.edges[a] == Edge::kInside || left <= 0) continue;
    const auto next = Next(tried, out.edges[a]);
    const auto value = next ? ValueOf(axis, *next) : std::nullopt;
    if (!value || NumberOf(*value) == at) continue;
    Point point = best->first;
    point[a] = *value;
    out.extension.push_back(std::move(point));
    --left;
  }
  return out;
}

std::vector<std::string> TuneFlags(const TunePlan& plan, const TuneDecision& decision) {
  if (decision.winner.empty()) return {"tune_failed"};
  std::vector<std::string> out;
  for (size_t a = 0; a < plan.axes.size(); ++a) {
    if (decision.edges[a] == Edge::kInside) continue;
    out.push_back(absl::StrCat("tune_edge:", plan.axes[a].field,
                               decision.edges[a] == Edge::kLow ? ":low" : ":high"));
  }
  return out;
}

std::string InWords(const TunePlan& plan, const TuneDecision& decision) {
  std::string out;
  for (size_t a = 0; a < plan.axes.size() && !decision.winner.empty(); ++a)
    absl::StrAppend(&out, a == 0 ? "" : ", ", plan.axes[a].field, " = ", decision.winner[a]);
  if (decision.winner.empty()) {
    out = absl::StrCat("all of ", decision.tried, " values diverged or failed");
  } else {
    absl::StrAppend(&out, plan.maximize ? " by the greatest mean " : " by the least mean ",
                    plan.metric_stage.empty() ? "" : plan.metric_stage + ": ", plan.metric, ", ",
                    FormatNumber(decision.value), ", of ", decision.tried,
                    decision.tried == 1 ? " value" : " values");
    for (size_t a = 0; a < plan.axes.size(); ++a) {
      if (decision.edges[a] == Edge::kInside) continue;
      absl::StrAppend(&out, "; the ", decision.edges[a] == Edge::kLow ? "least" : "greatest", " ",
                      plan.axes[a].field, " tried");
    }
  }
  for (size_t i = 0; i < decision.extension.size(); ++i) {
    absl::StrAppend(&out, i == 0 ? "; next: " : ", ",
                    absl::StrJoin(decision.extension[i], " and "));
  }
  return out;
}

void KeepWayTo(const std::string& last, std::vector<PlannedStage>* stages) {
  std::vector<PlannedStage> way;
  std::string wanted = last;
  for (auto it = stages->rbegin(); it != stages->rend(); ++it) {  // parents come before children
    const bool first = std::next(it) == stages->rend();
    if (!first && it->name != wanted) continue;
    wanted = it->parent;
    way.push_back(std::move(*it));
  }
  stages->assign(std::make_move_iterator(way.rbegin()), std::make_move_iterator(way.rend()));
}

absl::StatusOr<std::vector<PlannedTrial>> TuneTrials(const SweepPlan& plan, int64_t cell,
                                                     const Point& values) {
  absl::StatusOr<PlannedTrial> trial = CellTrial(plan, cell, values);
  if (!trial.ok()) return trial.status();
  trial->role = TrialRole::kTune;
  KeepWayTo(plan.tune->metric_stage, &trial->stages);  // the others are for replicates
  std::vector<PlannedTrial> out;
  for (int64_t r = 0; r < plan.tune->seeds; ++r)
    out.push_back(WithSeeds(*trial, r, kTuneSeeds + r, plan.name));
  return out;
}

absl::StatusOr<std::vector<PlannedTrial>> WinnerTrials(const SweepPlan& plan, int64_t cell,
                                                       const Point& values) {
  absl::StatusOr<PlannedTrial> trial = CellTrial(plan, cell, values);
  if (!trial.ok()) return trial.status();
  std::vector<PlannedTrial> out;
  for (int64_t r = 0; r < plan.tune->replicates; ++r) {
    out.push_back(WithSeeds(*trial, r, r, plan.name));
    if (r == 0 && plan.tune->timing) AddTiming(&out.back());
  }
  for (int64_t r = 0; r < plan.tune->replicates && plan.tune->controlled[static_cast<size_t>(cell)];
       ++r) {
    out.push_back(WithSeeds(*trial, r, kAaSeeds + r, plan.name));
    out.back().role = TrialRole::kAa, out.back().aa = true;
  }
  return out;
}

std::optional<double> ValueAt(const std::string& at, const std::vector<double>& values,
                              bool maximize) {
  if (values.empty()) return std::nullopt;
  size_t count = 1;
  if (at == "best") {
    count = values.size();
  } else if (absl::StartsWith(at, "mean_last(")) {
    if (!absl::SimpleAtoi(absl::StripSuffix(at.substr(10), ")"), &count) || count < 1)
      return std::nullopt;
    count = std::min(count, values.size());
  }
  double best = kInfinity, sum = 0;
  for (auto it = values.end() - static_cast<std::ptrdiff_t>(count); it != values.end(); ++it) {
    if (!std::isfinite(*it)) return std::nullopt;
    best = std::min(best, maximize ? -*it : *it);
    sum += *it;
  }
  if (at == "best") return maximize ? -best : best;
  return sum / static_cast<double>(count);
}

PlannedObjective WhileDeciding(PlannedObjective objective) {
  std::string& metric = objective.metric;
  if (!objective.stage.empty()) {
    if (absl::StartsWith(metric, "evaluate/test/")) {
      metric = absl::StrCat("evaluate/tune/", absl::StripPrefix(metric, "evaluate/test/"));
    } else if (absl::StartsWith(metric, "test/")) {
      metric.clear();
    }
    return objective;
  }
  for (const char* split : {"test/", "val/", "tune/"}) {
    if (!absl::StartsWith(metric, split)) continue;
    metric = absl::StrCat("tune/", absl::StripPrefix(metric, split));
    return objective;
  }
  metric.clear();
  return objective;
}

PlannedObjective StoppingBy(const SweepPlan& plan) {
  return WhileDeciding(plan.objectives.front());
}

absl::Status NotYetServed(const SweepPlan& plan) {
  if ((plan.stop || plan.population != nullptr) && StoppingBy(plan).metric.empty()) {
    return absl::UnimplementedError(
        absl::StrCat(plan.name, plan.stop ? ": stop:" : ": a population",
                     " compares the objective on the tune split; ", plan.objective,
                     " is not of a split. Set objective: to test/loss or test/bits_per_byte",
                     plan.stop ? ", or name the stage that measures it" : ""));
  }
  return absl::OkStatus();
}

}  // namespace plumb::sweeps
