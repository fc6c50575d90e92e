#include "coordinator/contest.h"

#include <cmath>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "domain/status_macros.h"
#include "sweeps/tuning.h"

namespace plumb::coordinator {
namespace {

using sweeps::TrialRole;

constexpr int64_t kJoins = 1 << 20;  // of a cell, at most

}  // namespace

Contest::Contest(const sweeps::SweepPlan& plan) {
  if (plan.tune != nullptr && plan.tune->stop) {
    tune_ = static_cast<int>(rules_.size());
    rules_.push_back({{.metric = plan.tune->metric, .maximize = plan.tune->maximize},
                      sweeps::Stopping(*plan.tune->stop, 1, plan.tune->maximize)});
  }
  if (plan.stop) {
    main_ = static_cast<int>(rules_.size());
    across_ = plan.stop->across_cells;
    const sweeps::PlannedObjective by = sweeps::StoppingBy(plan);
    rules_.push_back({by, sweeps::Stopping(*plan.stop, std::ssize(plan.cells), by.maximize)});
  }
}

void Contest::Join(const std::vector<sweeps::PlannedTrial>& trials) {
  for (const sweeps::PlannedTrial& t : trials) {
    Place place{.rules = t.role == TrialRole::kTune   ? tune_
                         : t.role == TrialRole::kMain ? main_
                                                      : -1,
                .steps = t.stages.front().target_step};
    if (place.rules >= 0) {
      sweeps::Stopping& stopping = rules_[place.rules].stopping;
      place.contestant = stopping.contestants();
      rules_[place.rules].trials.push_back(std::ssize(places_));
      const bool apart = place.rules == tune_ || !across_;
      stopping.Add({.group = apart ? t.cell * kJoins + joins_ : 0,
                    .cell = t.cell,
                    .replicate = t.replicate,
                    .steps = place.steps});
    }
    places_.push_back(place);
  }
  ++joins_;
}

int64_t Contest::UntilOf(int64_t idx) const {
  const Place& p = places_[idx];
  return p.rules < 0 ? -1 : rules_[p.rules].stopping.Of(p.contestant).until_step;
}

void Contest::Take(int64_t idx, int64_t step, std::optional<double> value) {
  Place& p = places_[idx];
  p.looked = std::max(p.looked, step);
  ++looks_;
  rules_[p.rules].stopping.Take({p.contestant, step, value});
}

absl::Status Contest::Take(const std::vector<LookRow>& looks) {
  for (const LookRow& look : looks) {
    if (look.seq != looks_ || look.trial_idx < 0 || look.trial_idx >= std::ssize(places_) ||
        places_[look.trial_idx].rules < 0) {
      return absl::DataLossError(absl::StrCat("look ", look.seq, " of sweep ", look.sweep.value,
                                              " is of no trial that its rules judge"));
    }
    Take(look.trial_idx, look.step, look.value);
  }
  return absl::OkStatus();
}

// A place is spare for a group when none of its trials waits for one, or none runs (what waits then
// cannot have the places that there are). What is promoted waits itself, so that one at a time goes
// on, until the next is looked for when it has got its place.
void Contest::Spare(const std::vector<store::TrialProgress>& trials, core::AdviseSweep* out) {
  std::vector<const store::TrialProgress*> by_idx(places_.size());
  for (const store::TrialProgress& t : trials) by_idx[t.idx] = &t;
  for (Rules& rules : rules_) {
    for (const sweeps::Stopping::Held& held : rules.stopping.HeldBack()) {
      bool waits = false, runs = false;
      for (const int64_t contestant : *held.group) {
        const store::TrialProgress* t = by_idx[rules.trials[contestant]];
        if (t == nullptr) continue;
        const int64_t until = rules.stopping.Of(contestant).until_step;
        const bool promoted = until < 0 || until > t->until_step;
        waits |= t->state == StageState::kPending ||
                 (t->state == StageState::kPaused && promoted && t->until_step >= 0);
        runs |= t->state == StageState::kRunning;
      }
      if (waits && runs) continue;
      const int64_t idx = rules.trials[held.trial];
      const int64_t step = -1 - looks_;  // a look of its own
      out->looks.push_back({.trial_idx = idx, .step = step});
      Take(idx, step, std::nullopt);
    }
  }
}

StageState Contest::StateOf(const store::TrialProgress& t, const Judged& judged) {
  if (t.state != StageState::kSucceeded) return t.state;
  const auto it = judged.find(t.trial);
  return it == judged.end() ? t.state : it->second.state;
}

absl::Status Contest::LookAt(const store::TrialProgress& t, const Judged& judged,
                             store::Results& results, core::AdviseSweep* out) {
  const Place& p = places_[t.idx];
  const Rules& rules = rules_[p.rules];
  const auto look = [&](int64_t step, double value) {
    const auto shown = std::isfinite(value) ? std::optional(value) : std::nullopt;
    out->looks.push_back({.trial_idx = t.idx, .step = step, .value = shown});
    Take(t.idx, step, shown);
  };
  const double none = std::nan("");
  const StageState state = StateOf(t, judged);
  if (!rules.by.stage.empty()) {
    // What a later stage measured is judged when it has ended, as a value at the training's end.
    if (!IsTerminal(state)) return absl::OkStatus();
    std::vector<double> values;
    const auto it = judged.find(t.trial);
    if (it != judged.end() && state == StageState::kSucceeded) {
      ASSIGN_OR_RETURN(const auto points, results.Points(it->second.stage, rules.by.metric, -1));
      for (const store::StepValue& point : points) values.push_back(point.value);
    }
    look(std::max(p.looked + 1, p.steps),
         sweeps::ValueAt(rules.by.at, values, rules.by.maximize).value_or(none));
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const std::vector<store::StepValue> points,
                   results.Points(t.stage, rules.by.metric, p.looked));
  for (const store::StepValue& point : points) {
    if (rules.stopping.Wants(p.contestant, point.step)) look(point.step, point.value);
  }
  if (rules.stopping.Out(p.contestant)) return absl::OkStatus();
  // Ended without a value at its end: it diverged, failed, was cancelled. Paused without one:
  // there is no such series, nothing can be said of it, and it goes on.
  if (IsTerminal(state)) look(std::max(p.looked + 1, p.steps), none);
  if (state == StageState::kPaused && p.looked < t.until_step) look(t.until_step, none);
  return absl::OkStatus();
}

absl::Status Contest::Look(SweepId sweep, const std::vector<store::TrialProgress>& trials,
                           store::Results& results, core::AdviseSweep* out) {
  out->looks_before = looks_;
  std::vector<Judged> judged(rules_.size());
  for (size_t i = 0; i < rules_.size(); ++i) {
    if (rules_[i].by.stage.empty()) continue;
    ASSIGN_OR_RETURN(judged[i], results.Stages(sweep, rules_[i].by.stage));
  }
  for (const store::TrialProgress& t : trials) {
    const Place& p = places_[t.idx];
    if (p.rules < 0 || (t.step == 0 && !IsTerminal(t.state))) continue;
    if (rules_[p.rules].stopping.Out(p.contestant)) continue;
    RETURN_IF_ERROR(LookAt(t, judged[p.rules], results, out));
  }
  Spare(trials, out);
  on_ = false;
  for (const store::TrialProgress& t : trials) {
    const Place& p = places_[t.idx];
    if (p.rules < 0 || IsTerminal(StateOf(t, judged[p.rules]))) continue;
    on_ |= p.rules == main_;
    const sweeps::Verdict& v = rules_[p.rules].stopping.Of(p.contestant);
    const bool further = t.until_step >= 0 && (v.until_step < 0 || v.until_step > t.until_step);
    if (!v.stop && !further) continue;
    out->verdicts.push_back(
        {.trial = t.trial, .stop = v.stop, .until_step = v.until_step, .reason = v.reason});
  }
  return absl::OkStatus();
}

}  // namespace plumb::coordinator
