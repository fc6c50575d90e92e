#include "coordinator/advisor.h"

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "domain/status_macros.h"
#include "sweeps/rungs.h"
#include "sweeps/tuning.h"

namespace plumb::coordinator {
namespace {

using nlohmann::json;
using sweeps::PlannedTrial;
using sweeps::SweepPlan;
using sweeps::TrialRole;
using Point = std::vector<std::string>;

constexpr char kTune[] = "tune", kWinner[] = "winner", kRung[] = "rung";

// A cell whose values are not chosen yet.
struct Tuning {
  int64_t running = 0;
  std::vector<sweeps::TuneResult> results;
};

std::string Payload(const char* kind, int64_t cell, const std::vector<Point>& points) {
  return json({{"kind", kind}, {"cell", cell}, {"points", points}}).dump();
}

// {"train.lr": 0.01}
std::string TunedJson(const sweeps::TunePlan& tune, const Point& values) {
  json out = json::object();
  for (size_t a = 0; a < values.size(); ++a) out[tune.axes[a].field] = json::parse(values[a]);
  return out.dump();
}

absl::StatusOr<std::vector<PlannedTrial>> Make(const SweepPlan& plan, const std::string& kind,
                                               int64_t cell, const std::vector<Point>& points) {
  std::vector<PlannedTrial> out;
  for (const Point& point : points) {
    ASSIGN_OR_RETURN(std::vector<PlannedTrial> trials,
                     kind == kTune ? sweeps::TuneTrials(plan, cell, point)
                                   : sweeps::WinnerTrials(plan, cell, point));
    std::move(trials.begin(), trials.end(), std::back_inserter(out));
  }
  return out;
}

absl::StatusOr<core::AdviseSweep::Addition> Add(const SweepPlan& plan, const char* kind,
                                                int64_t cell, const std::vector<Point>& points,
                                                std::string why) {
  ASSIGN_OR_RETURN(const std::vector<PlannedTrial> trials, Make(plan, kind, cell, points));
  std::string name = absl::StrCat(kind, " of cell ", cell);
  if (kind == kTune) {
    for (const Point& p : points) absl::StrAppend(&name, ": ", absl::StrJoin(p, ", "));
  }
  return core::AdviseSweep::Addition{.name = std::move(name),
                                     .payload_json = Payload(kind, cell, points),
                                     .trials = std::ssize(trials),
                                     .why = std::move(why)};
}

absl::StatusOr<std::map<int64_t, Tuning>> ReadTunings(
    const SweepPlan& plan, const std::vector<PlannedTrial>& added, const std::vector<bool>& decided,
    SweepId sweep, const Contest& contest, const std::vector<store::TrialProgress>& trials,
    store::Results& results) {
  std::map<int64_t, Tuning> out;
  std::map<TrialId, store::NamedStage> later;  // whose series chooses, where it is not the first's
  if (!plan.tune->metric_stage.empty()) {
    ASSIGN_OR_RETURN(later, results.Stages(sweep, plan.tune->metric_stage));
  }
  const auto judged = [&](const store::TrialProgress& t) -> store::NamedStage {
    const auto it = later.find(t.trial);
    if (t.state != StageState::kSucceeded || it == later.end()) return {t.stage, t.state};
    return it->second;
  };
  const auto planned = std::ssize(plan.trials);
  const auto of = [&](const store::TrialProgress& t) -> const PlannedTrial& {
    return t.idx < planned ? plan.trials[t.idx] : added.at(t.idx - planned);
  };
  const auto counts = [&](const PlannedTrial& t) {
    return t.role == TrialRole::kTune && !decided[t.cell];
  };
  for (const store::TrialProgress& t : trials) {
    if (counts(of(t)))
      out[of(t).cell].running += !IsTerminal(judged(t).state) || contest.GoesOn(t.idx);
  }
  for (const store::TrialProgress& t : trials) {
    if (!counts(of(t)) || out[of(t).cell].running > 0 || contest.IsReplaced(t.idx)) continue;
    sweeps::TuneResult result{.values = of(t).tune_values};
    // One that did not come further than a rung counts as stopped.
    if (judged(t).state == StageState::kSucceeded && !contest.RunAt(t.idx, of(t)).rung()) {
      ASSIGN_OR_RETURN(const auto points, results.Points(judged(t).stage, plan.tune->metric, -1));
      std::vector<double> values;
      for (const store::StepValue& p : points) values.push_back(p.value);
      result.value = sweeps::ValueAt(plan.tune->metric_at, values, plan.tune->maximize);
    }
    out[of(t).cell].results.push_back(std::move(result));
  }
  return out;
}

// What the cells whose tune trials have ended come to.
absl::Status Tune(const SweepPlan& plan, const std::vector<PlannedTrial>& added,
                  const std::vector<AdditionRow>& additions, SweepId sweep, const Contest& contest,
                  const std::vector<store::TrialProgress>& trials, store::Results& results,
                  core::AdviseSweep* out) {
  std::vector<bool> decided(plan.cells.size());
  for (const AdditionRow& a : additions) {
    const json payload = json::parse(a.payload_json);
    if (payload.at("kind") == kWinner) decided.at(payload.at("cell").get<size_t>()) = true;
  }
  ASSIGN_OR_RETURN(const auto tunings,
                   ReadTunings(plan, added, decided, sweep, contest, trials, results));
  for (const auto& [cell, tuning] : tunings) {
    if (tuning.running > 0) continue;
    const sweeps::TuneDecision decision = sweeps::ChooseWinner(*plan.tune, tuning.results);
    const std::string why = sweeps::InWords(*plan.tune, decision);
    if (!decision.extension.empty()) {
      ASSIGN_OR_RETURN(auto more, Add(plan, kTune, cell, decision.extension, why));
      out->additions.push_back(std::move(more));
      continue;
    }
    std::vector<Point> winner;
    if (!decision.winner.empty()) winner.push_back(decision.winner);
    ASSIGN_OR_RETURN(auto replicates, Add(plan, kWinner, cell, winner, why));
    out->additions.push_back(std::move(replicates));
    std::vector<std::string> flags = plan.cells[cell].flags;
    for (std::string& flag : sweeps::TuneFlags(*plan.tune, decision))
      flags.push_back(std::move(flag));
    out->tuned.push_back({.cell_idx = cell,
                          .flags_json = json(flags).dump(),
                          .tuned_json = TunedJson(*plan.tune, decision.winner)});
    decided[cell] = true;
  }
  for (const bool d : decided) out->open |= !d;
  return absl::OkStatus();
}

}  // namespace

bool NeedsAdvice(const SweepPlan& plan) {
  return plan.tune != nullptr || plan.stop || plan.search != nullptr || plan.population != nullptr;
}

absl::StatusOr<std::vector<PlannedTrial>> TrialsOf(const SweepPlan& plan,
                                                   const std::vector<PlannedTrial>& added,
                                                   const AdditionRow& addition) {
  const json payload = json::parse(addition.payload_json, nullptr, false);
  const auto wrong = [&] {
    return absl::DataLossError(absl::StrCat("addition \"", addition.name, "\" of sweep ",
                                            addition.sweep.value,
                                            " cannot be read: ", addition.payload_json));
  };
  if (!payload.is_object()) return wrong();
  const std::string kind = payload.value("kind", "");
  if (kind == kRung) {
    const int64_t of = payload.value("of", int64_t{-1}), steps = payload.value("steps", int64_t{0});
    const auto planned = std::ssize(plan.trials);
    if (of < 0 || of >= planned + std::ssize(added) || steps < 1) return wrong();
    const PlannedTrial& whole = of < planned ? plan.trials[of] : added[of - planned];
    if (whole.rung_of >= 0 || addition.trials != 1) return wrong();
    return std::vector<PlannedTrial>{sweeps::RungOf(whole, of, steps)};
  }
  if (plan.tune == nullptr) return wrong();
  const int64_t cell = payload.value("cell", int64_t{-1});
  if ((kind != kTune && kind != kWinner) || cell < 0 || cell >= std::ssize(plan.cells))
    return wrong();
  ASSIGN_OR_RETURN(std::vector<PlannedTrial> trials,
                   Make(plan, kind, cell, payload.value("points", std::vector<Point>())));
  if (std::ssize(trials) != addition.trials) return wrong();
  return trials;
}

absl::StatusOr<core::AdviseSweep> Advise(const SweepPlan& plan,
                                         const std::vector<PlannedTrial>& added,
                                         const std::vector<AdditionRow>& additions, SweepId sweep,
                                         Contest& contest, store::Results& results) {
  core::AdviseSweep out{.sweep = sweep};
  ASSIGN_OR_RETURN(const std::vector<store::TrialProgress> trials, results.Progress(sweep));
  if (!contest.empty()) {
    RETURN_IF_ERROR(contest.Look(sweep, trials, results, &out));
    out.open = contest.IsOn();
    for (Contest::Next& next : contest.NextRuns()) {
      const json payload = {{"kind", kRung}, {"of", next.of}, {"steps", next.steps}};
      out.additions.push_back({.name = absl::StrCat("place ", next.of, " to step ", next.steps),
                               .payload_json = payload.dump(),
                               .trials = 1,
                               .why = std::move(next.reason)});
    }
  }
  if (plan.tune != nullptr)
    RETURN_IF_ERROR(Tune(plan, added, additions, sweep, contest, trials, results, &out));
  return out;
}

}  // namespace plumb::coordinator
