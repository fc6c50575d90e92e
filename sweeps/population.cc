#include "sweeps/population.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "sweeps/draw.h"
#include "sweeps/number.h"
#include "sweeps/overlay.h"
#include "trainer/spec/fields.h"
#include "trainer/spec/parse.h"
#include "trainer/spec/sha256.h"

namespace plumb::sweeps {
namespace {

using nlohmann::ordered_json;
using Kind = SearchAxis::Kind;

constexpr int64_t kAttempts = 16;  // to find values that make a trial

// What a draw is for. All draws of a population are different cells of one table.
enum class Use { kParent, kWhether, kAnew, kDirection };

double Draw(const PopulationSpec& spec, Use use, int64_t generation, int64_t member,
            int64_t attempt, size_t axis) {
  const uint64_t table = Mix(Mix(spec.seed ^ 0x706F70u) ^ static_cast<uint64_t>(generation));
  return Uniform(table, static_cast<uint64_t>(member * kAttempts + attempt),
                 axis * 4 + static_cast<uint64_t>(use));
}

double Anew(const SearchAxis& axis, double u) {
  if (axis.kind == Kind::kChoice) return std::floor(u * static_cast<double>(axis.choices.size()));
  // As RandomPoint: a whole number stands for the unit interval above it.
  const double high = axis.kind == Kind::kWhole ? axis.high + 1 : axis.high;
  const double v = axis.logarithmic ? axis.low * std::exp(u * std::log(high / axis.low))
                                    : axis.low + u * (high - axis.low);
  return std::clamp(axis.kind == Kind::kWhole ? std::floor(v) : RoundToFourDigits(v), axis.low,
                    axis.high);
}

double Moved(const SearchAxis& axis, double from, double factor, bool up) {
  if (axis.kind == Kind::kChoice) {
    if (axis.numbers.empty()) return from;
    return std::clamp(from + (up ? 1.0 : -1.0), 0.0, static_cast<double>(axis.choices.size() - 1));
  }
  double v = up ? from * factor : from / factor;
  if (axis.kind == Kind::kWhole) {
    v = std::round(v);
    if (v == from) v += up ? 1 : -1;
  } else {
    v = RoundToFourDigits(v);
  }
  return std::clamp(v, axis.low, axis.high);
}

std::string Model(const spec::TrialSpec& s) {
  return spec::Canonical(s, spec::With::kResultOnly)
      .value("model", nlohmann::json::object())
      .dump();
}

// Why the judged point is no fork of this population; "" where it is one.
std::string Unfit(const PopulationPlan& plan, const Search::Judged& judged) {
  if (!judged.refused.empty()) return judged.refused;
  const spec::TrialSpec& config = judged.trials.front().config;
  if (config.train.steps != plan.steps) return "its budget is another";
  return Model(config) == plan.model ? "" : "its model is another";
}

}  // namespace

bool MayChangeOnTheWay(const std::string& field) {
  static const std::vector<std::string> kNot = {"train.optimizer", "train.log_every",
                                                "train.mask_fraction"};
  if (!absl::StartsWith(field, "train.") || IsBudget(field)) return false;
  if (std::find(kNot.begin(), kNot.end(), field) != kNot.end()) return false;
  spec::TrialSpec scratch;
  for (const spec::Field& f : spec::Fields(scratch)) {
    if (f.path == field)
      return f.fusion == spec::Fusion::kRow && f.identity == spec::Identity::kResult;
  }
  return false;
}

std::string FieldsThatMayChange() {
  std::vector<std::string> out;
  spec::TrialSpec scratch;
  for (const spec::Field& f : spec::Fields(scratch)) {
    if (MayChangeOnTheWay(f.path)) out.push_back(f.path);
  }
  return absl::StrJoin(out, ", ");
}

Ranking Rank(const PopulationSpec& spec, int64_t generation,
             const std::vector<std::optional<double>>& values) {
  Ranking out;
  const auto good = [&](int64_t m) {
    const auto& v = values[static_cast<size_t>(m)];
    return v && std::isfinite(*v);
  };
  for (int64_t m = 0; m < std::ssize(values); ++m) out.order.push_back(m);
  std::stable_sort(out.order.begin(), out.order.end(), [&](int64_t a, int64_t b) {
    if (good(a) != good(b)) return good(a);
    return good(a) && *values[static_cast<size_t>(a)] < *values[static_cast<size_t>(b)];
  });
  const int64_t with_value = std::count_if(out.order.begin(), out.order.end(), good);
  const int64_t n = std::ssize(values);
  // The best are never among those that give way, however few have a value.
  const int64_t best = std::min(spec.replaced(), with_value);
  const int64_t worst = std::min(std::max(spec.replaced(), n - with_value), n - best);
  if (best == 0) return out;
  for (int64_t place = n - worst; place < n; ++place) {
    const int64_t member = out.order[static_cast<size_t>(place)];
    const double u = Draw(spec, Use::kParent, generation, member, 0, 0);
    const auto which = std::min(best - 1, static_cast<int64_t>(u * static_cast<double>(best)));
    out.exchanges.push_back({member, out.order[static_cast<size_t>(which)]});
  }
  std::sort(out.exchanges.begin(), out.exchanges.end(),
            [](const Exchange& a, const Exchange& b) { return a.member < b.member; });
  return out;
}

std::vector<double> Explore(const PopulationSpec& spec, const std::vector<SearchAxis>& axes,
                            const SearchPoint& from, int64_t generation, int64_t member,
                            int64_t attempt) {
  std::vector<double> out;
  for (size_t a = 0; a < axes.size(); ++a) {
    const auto draw = [&](Use use) { return Draw(spec, use, generation, member, attempt, a); };
    if (!from[a] || draw(Use::kWhether) < spec.resample) {
      out.push_back(Anew(axes[a], draw(Use::kAnew)));
      continue;
    }
    const bool up = draw(Use::kDirection) < 0.5;
    double moved = Moved(axes[a], *from[a], spec.factor, up);
    if (moved == *from[a]) moved = Moved(axes[a], *from[a], spec.factor, !up);  // it is at a bound
    out.push_back(moved);
  }
  return out;
}

std::vector<double> ChooseValues(const PopulationPlan& plan, const SearchPoint& from,
                                 const std::vector<SearchPoint>& taken, int64_t generation,
                                 int64_t member) {
  for (int64_t attempt = 0; attempt < kAttempts; ++attempt) {
    std::vector<double> values =
        Explore(plan.spec, plan.space->axes(), from, generation, member, attempt);
    const Search::Judged judged = plan.space->Judge(values, 0);
    if (Unfit(plan, judged).empty() && judged.point != from &&
        std::find(taken.begin(), taken.end(), judged.point) == taken.end())
      return values;
  }
  std::vector<double> own;
  for (size_t a = 0; a < from.size(); ++a)
    own.push_back(from[a].value_or(Anew(plan.space->axes()[a], 0)));
  return own;
}

absl::StatusOr<Forked> MakeFork(const PopulationPlan& plan, const Fork& fork, int64_t cell) {
  Search::Judged judged = plan.space->Judge(fork.values, cell);
  if (const std::string wrong = Unfit(plan, judged); !wrong.empty()) {
    return absl::DataLossError(absl::StrCat("the fork for member ", fork.member, " of generation ",
                                            fork.generation, " cannot be made again: ", wrong));
  }
  Forked out{.point = std::move(judged.point),
             .cell = std::move(judged.cell),
             .trials = std::move(judged.trials)};
  PlannedTrial& t = out.trials.front();
  t.config.init = {
      .trial = fork.trial, .checkpoint = fork.checkpoint, .digest = fork.digest, .step = fork.step};
  t.key = spec::Key(t.config);
  t.fusion_key = spec::FusionKey(t.config);
  t.branch_stage = fork.stage, t.branch_step = fork.step;
  const auto next = std::upper_bound(plan.ends.begin(), plan.ends.end(), fork.step);
  MarkMember(fork.member, fork.generation, next == plan.ends.end() ? -1 : *next, &out.cell, &t);
  return out;
}

void MarkMember(int64_t member, int64_t generation, int64_t until_step, PlannedCell* cell,
                PlannedTrial* trial) {
  absl::StrAppend(&cell->name, " member=", member, " generation=", generation);
  ordered_json axes = ordered_json::parse(cell->axes_json.empty() ? "{}" : cell->axes_json);
  axes["member"] = member;
  axes["generation"] = generation;
  cell->axes_json = axes.dump();
  trial->until_step = until_step;
  trial->own = true;
  trial->key =
      spec::Sha256Hex(absl::StrCat(trial->key, "\nmember ", member, " generation ", generation));
}

std::string InWords(const std::vector<SearchAxis>& axes, const SearchPoint& point) {
  std::vector<std::string> out;
  for (size_t a = 0; a < axes.size(); ++a) {
    if (!point[a]) continue;
    out.push_back(absl::StrCat(axes[a].name.substr(axes[a].name.rfind('.') + 1), " = ",
                               axes[a].kind == Kind::kChoice
                                   ? axes[a].choices[static_cast<size_t>(*point[a])]
                                   : FormatNumber(*point[a])));
  }
  return absl::StrJoin(out, ", ");
}

std::string InWords(const PopulationPlan& plan) {
  constexpr size_t kShown = 4;
  const int64_t n = plan.spec.replaced();
  std::vector<std::string> steps;
  for (size_t i = 0; i < plan.ends.size(); ++i) {
    const bool is_last = i + 1 == plan.ends.size();
    if (i < kShown || is_last) steps.push_back(absl::StrCat(plan.ends[i]));
    if (i == kShown && !is_last) steps.push_back("…");
  }
  return absl::StrCat("population: ", plan.spec.members, " members, ", plan.ends.size() + 1,
                      " generations; at step ", absl::StrJoin(steps, ", "), " the worst ",
                      n == 1 ? "gives way to a fork of the best"
                             : absl::StrCat(n, " give way to forks of the best ", n));
}

}  // namespace plumb::sweeps
