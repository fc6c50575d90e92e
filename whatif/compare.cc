#include "whatif/compare.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "domain/status_macros.h"
#include "sim/random.h"
#include "sweeps/tuning.h"

namespace plumb::whatif {
namespace {

using sweeps::PlannedTrial;
using sweeps::StopSpec;
using sweeps::SweepPlan;
using sweeps::TrialRole;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// A random order of 0 … n - 1.
std::vector<int64_t> Order(int64_t n, sim::Random& random) {
  std::vector<int64_t> out(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) out[i] = i;
  for (int64_t i = n - 1; i > 0; --i) std::swap(out[i], out[random.Between(0, i)]);
  return out;
}

// What is chosen among: a cell's tuned values, or a cell.
using Candidate = std::pair<int64_t, std::string>;
Candidate CandidateOf(const PlannedTrial& t, Scope scope) {
  return scope == Scope::kTune ? Candidate(t.cell, PointOf(t)) : Candidate(0, absl::StrCat(t.cell));
}
bool Chooses(const PlannedTrial& t, Scope scope) {
  return scope == Scope::kTune ? t.role == TrialRole::kTune : t.role == TrialRole::kMain;
}

// The plan with the strategy's rules, with its part of the candidates, in the seed's order.
SweepPlan Arranged(const SweepPlan& plan, const Strategy& strategy, uint64_t seed, bool shuffle) {
  SweepPlan out = plan;
  const Scope scope = ScopeOf(plan);
  if (!strategy.as_written) {
    out.stop.reset();
    if (scope == Scope::kTune) {
      sweeps::TunePlan tune = *plan.tune;
      tune.stop = strategy.stop;
      out.tune = std::make_shared<const sweeps::TunePlan>(std::move(tune));
    } else {
      out.stop = strategy.stop;
      if (out.stop) out.stop->across_cells = true;
    }
  }
  if (!shuffle && strategy.share >= 1) return out;
  // Candidates of one group, each with its trials, in their order.
  std::map<int64_t, std::vector<std::vector<PlannedTrial>>> groups;
  std::map<Candidate, size_t> place;
  std::vector<PlannedTrial> rest;
  for (PlannedTrial& t : out.trials) {
    if (!Chooses(t, scope)) {
      rest.push_back(std::move(t));
      continue;
    }
    const Candidate c = CandidateOf(t, scope);
    auto& group = groups[c.first];
    const auto [it, is_new] = place.try_emplace(c, group.size());
    if (is_new) group.emplace_back();
    group[it->second].push_back(std::move(t));
  }
  sim::Random random(sim::HashOf("order", seed));
  out.trials.clear();
  for (auto& [id, group] : groups) {
    const auto n = std::ssize(group);
    std::vector<int64_t> order = Order(n, random);
    const auto kept =
        std::max<int64_t>(1, std::llround(std::min(1.0, strategy.share) * static_cast<double>(n)));
    order.resize(static_cast<size_t>(kept));
    if (!shuffle) std::sort(order.begin(), order.end());
    for (const int64_t i : order)
      std::move(group[i].begin(), group[i].end(), std::back_inserter(out.trials));
  }
  std::move(rest.begin(), rest.end(), std::back_inserter(out.trials));
  return out;
}

// By group: the best and the worst finite truth of the whole plan's candidates.
struct Reach {
  double best = kInfinity, worst = -kInfinity;
};
std::map<int64_t, Reach> ReachOf(const SweepPlan& plan, const Curves& curves, Scope scope) {
  std::map<int64_t, Reach> out;
  for (const PlannedTrial& t : plan.trials) {
    if (!Chooses(t, scope)) continue;
    const double truth = curves.Truth(t);
    if (!std::isfinite(truth)) continue;
    Reach& r = out[CandidateOf(t, scope).first];
    r.best = std::min(r.best, truth), r.worst = std::max(r.worst, truth);
  }
  return out;
}

// By group, the truth of what was chosen. Of a tuned cell that is its replicates' value; of cells
// the least mean over those of a cell's replicates that came to their end.
std::map<int64_t, double> Chosen(const Outcome& outcome, const Curves& curves, Scope scope) {
  std::map<int64_t, double> out;
  if (scope == Scope::kTune) {
    for (const Ran& r : outcome.trials) {
      if (r.trial->role == TrialRole::kMain) out[r.trial->cell] = curves.Truth(*r.trial);
    }
    return out;
  }
  struct Seen {
    double sum = 0;
    int64_t n = 0;
    const PlannedTrial* trial = nullptr;
  };
  std::map<int64_t, Seen> cells;
  for (const Ran& r : outcome.trials) {
    if (r.trial->role != TrialRole::kMain || r.trial->rung() || r.state != StageState::kSucceeded ||
        !r.last)
      continue;
    Seen& c = cells[r.trial->cell];
    c.sum += *r.last, ++c.n, c.trial = r.trial;
  }
  double least = kInfinity;
  for (const auto& [cell, seen] : cells) {
    const double mean = seen.sum / static_cast<double>(seen.n);
    if (mean < least) least = mean, out[0] = curves.Truth(*seen.trial);
  }
  return out;
}

absl::StatusOr<Score> Play(const SweepPlan& plan, const Cluster& cluster, const Strategy& strategy,
                           const MakeCurves& make, uint64_t seed, bool shuffle) {
  const Scope scope = ScopeOf(plan);
  const std::shared_ptr<const Curves> curves = make(seed);
  const SweepPlan arranged = Arranged(plan, strategy, seed, shuffle);
  ASSIGN_OR_RETURN(const Outcome outcome,
                   Simulate(arranged, cluster, [&](const PlannedTrial& t, int64_t step) {
                     return curves->At(t, step);
                   }));
  Score out{.steps = static_cast<double>(outcome.steps),
            .flops = outcome.flops,
            .slot_hours = outcome.slot_seconds / 3600,
            .hours = absl::ToDoubleHours(outcome.end)};
  for (const Ran& r : outcome.trials) {
    out.trials += r.steps > 0;
    if (Chooses(*r.trial, scope)) out.choosing_steps += static_cast<double>(r.steps);
  }
  const std::map<int64_t, Reach> reach = ReachOf(plan, *curves, scope);
  const std::map<int64_t, double> chosen = Chosen(outcome, *curves, scope);
  if (reach.empty()) {
    return absl::InvalidArgumentError(
        "every candidate diverges; nothing can be chosen: give smaller rates");
  }
  for (const auto& [group, r] : reach) {
    const auto it = chosen.find(group);
    const bool decided = it != chosen.end() && std::isfinite(it->second);
    out.undecided += !decided;
    out.regret += ((decided ? it->second : r.worst) - r.best) / static_cast<double>(reach.size());
  }
  return out;
}

}  // namespace

Scope ScopeOf(const SweepPlan& plan) { return plan.tune != nullptr ? Scope::kTune : Scope::kCells; }

std::vector<Strategy> Strategies(const SweepPlan& plan, double random_share) {
  const StopSpec* own = plan.tune != nullptr && plan.tune->stop ? &*plan.tune->stop
                        : plan.stop                             ? &*plan.stop
                                                                : nullptr;
  const sweeps::Rational third = *sweeps::Rational::Parse("1/3"),
                         ninth = *sweeps::Rational::Parse("1/9");
  sweeps::AshaRule asha{.rungs = {ninth, third}, .keep = third};
  if (own != nullptr && own->asha) asha = *own->asha;
  sweeps::HyperbandRule hyperband{.from = asha.rungs.front(), .keep = asha.keep};
  if (own != nullptr && own->hyperband) hyperband = *own->hyperband;
  sweeps::MedianRule median{.from = asha.rungs.front()};
  if (own != nullptr && own->median) median = *own->median;

  std::vector<Strategy> out = {{.name = "grid", .rule = "all to their end"}};
  const auto add = [&](const char* name, StopSpec s) {
    out.push_back({.name = name, .rule = sweeps::InWords(s), .stop = std::move(s)});
  };
  StopSpec s;
  s.asha = asha, s.asha->mode = sweeps::RungMode::kStop;
  add("asha-stop", s);
  s.asha->mode = sweeps::RungMode::kPromote;
  add("asha-promote", s);
  s = {};
  s.hyperband = hyperband;
  add("hyperband", s);
  s = {};
  s.median = median;
  add("median", s);
  out.push_back({.name = "random",
                 .rule = absl::StrCat("a random ", absl::StrFormat("%.3g", 100 * random_share),
                                      "% of the candidates, to their end"),
                 .share = random_share});
  if (own != nullptr) {
    std::string rule;
    if (plan.tune != nullptr && plan.tune->stop) rule = sweeps::InWords(*plan.tune->stop);
    if (plan.stop) absl::StrAppend(&rule, rule.empty() ? "" : "; ", sweeps::InWords(*plan.stop));
    out.push_back({.name = "file", .rule = rule, .as_written = true});
  }
  return out;
}

absl::StatusOr<std::vector<Row>> Compare(const SweepPlan& plan, const Cluster& cluster,
                                         const std::vector<Strategy>& strategies,
                                         const MakeCurves& curves, const CompareOptions& options) {
  std::vector<Row> out;
  std::map<int64_t, double> grid;
  for (const Strategy& strategy : strategies) {
    Row row{.strategy = strategy};
    std::map<int64_t, double> regret;
    for (int64_t i = 0; i < options.seeds; ++i) {
      ASSIGN_OR_RETURN(Score score,
                       Play(plan, cluster, strategy, curves,
                            options.first_seed + static_cast<uint64_t>(i), options.shuffle));
      regret[i] = score.regret;
      if (options.progress)
        options.progress(std::ssize(out) * options.seeds + i + 1,
                         std::ssize(strategies) * options.seeds);
      row.undecided += score.undecided;
      row.scores.push_back(score);
    }
    const auto over = [&](double Score::*field) {
      std::vector<double> values;
      for (const Score& s : row.scores) values.push_back(s.*field);
      return analysis::MeanInterval(values, options.level);
    };
    row.regret = over(&Score::regret), row.steps = over(&Score::steps);
    row.choosing_steps = over(&Score::choosing_steps), row.flops = over(&Score::flops);
    row.slot_hours = over(&Score::slot_hours), row.hours = over(&Score::hours);
    if (out.empty()) {
      grid = regret;
    } else {
      row.regret_minus_grid = analysis::PairedDifference(regret, grid, options.level);
    }
    out.push_back(std::move(row));
  }
  return out;
}

analysis::PointsFigure Figure(const std::vector<Row>& rows, const std::string& title,
                              const std::string& metric) {
  analysis::PointsFigure out{
      .title = title, .x_label = "training FLOPs", .y_label = absl::StrCat("regret, ", metric)};
  for (const Row& r : rows) {
    out.points.push_back({.label = r.strategy.name,
                          .x = r.flops.mean,
                          .x_low = r.flops.low,
                          .x_high = r.flops.high,
                          .y = r.regret.mean,
                          .y_low = r.regret.low,
                          .y_high = r.regret.high});
  }
  return out;
}

}  // namespace plumb::whatif
