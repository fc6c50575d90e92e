#include "coordinator/contest.h"

#include <cmath>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "domain/status_macros.h"
#include "sweeps/rungs.h"
#include "sweeps/tuning.h"

namespace plumb::coordinator {
namespace {

using sweeps::TrialRole;

constexpr int64_t kJoins = 1 << 20;  // of a cell, at most

}  // namespace

Contest::Contest(const sweeps::SweepPlan& plan) : cools_(plan.search == nullptr) {
  if (plan.tune != nullptr && plan.tune->stop) {
    tune_ = static_cast<int>(rules_.size());
    rules_.push_back({{.metric = plan.tune->metric, .maximize = plan.tune->maximize},
                      *plan.tune->stop,
                      sweeps::Stopping(*plan.tune->stop, 1, plan.tune->maximize)});
  }
  if (plan.stop) {
    main_ = static_cast<int>(rules_.size());
    across_ = plan.stop->across_cells;
    const sweeps::PlannedObjective by = sweeps::StoppingBy(plan);
    rules_.push_back(
        {by, *plan.stop, sweeps::Stopping(*plan.stop, std::ssize(plan.cells), by.maximize)});
  }
}

void Contest::Join(const std::vector<sweeps::PlannedTrial>& trials) {
  for (const sweeps::PlannedTrial& t : trials) {
    Place place{.rules = t.role == TrialRole::kTune   ? tune_
                         : t.role == TrialRole::kMain ? main_
                                                      : -1,
                .steps = t.stages.front().target_step};
    if (place.rules >= 0 && t.rung_of >= 0) {
      const Place& first = places_[t.rung_of];
      place.contestant = first.contestant;
      place.whole = first.whole;
      rules_[place.rules].last[first.contestant] = std::ssize(places_);
    } else if (place.rules >= 0) {
      Rules& rules = rules_[place.rules];
      sweeps::Stopping& stopping = rules.stopping;
      place.contestant = stopping.contestants();
      rules.trials.push_back(std::ssize(places_));
      rules.last.push_back(std::ssize(places_));
      const bool apart = place.rules == tune_ || !across_;
      stopping.Add({.group = apart ? t.cell * kJoins + joins_ : 0,
                    .cell = t.cell,
                    .replicate = t.replicate,
                    .steps = place.steps});
      const int64_t rung = stopping.Of(place.contestant).until_step;
      if (cools_ && !t.own && rung >= 0 && sweeps::CoolsRungs(rules.rule, t)) {
        place.whole = place.steps;
        place.first_run = std::make_shared<const sweeps::PlannedTrial>(
            sweeps::RungOf(t, std::ssize(places_), rung));
        place.steps = rung;
      }
    }
    places_.push_back(place);
  }
  ++joins_;
}

int64_t Contest::UntilOf(int64_t idx) const {
  const Place& p = places_[idx];
  return p.rules < 0 || p.whole > 0 ? -1 : rules_[p.rules].stopping.Of(p.contestant).until_step;
}

const sweeps::PlannedTrial& Contest::RunAt(int64_t idx, const sweeps::PlannedTrial& trial) const {
  return places_[idx].first_run == nullptr ? trial : *places_[idx].first_run;
}

bool Contest::GoesOn(int64_t idx) const { return places_[idx].whole > 0 && !Out(places_[idx]); }

bool Contest::IsReplaced(int64_t idx) const {
  const Place& p = places_[idx];
  return p.whole > 0 && rules_[p.rules].last[p.contestant] != idx;
}

int64_t Contest::Allowed(const Place& p) const {
  const int64_t until = rules_[p.rules].stopping.Of(p.contestant).until_step;
  return until < 0 ? p.whole : until;
}

std::vector<Contest::Next> Contest::NextRuns() const {
  std::vector<Next> out;
  for (const Rules& rules : rules_) {
    for (size_t c = 0; c < rules.last.size(); ++c) {
      const Place& p = places_[rules.last[c]];
      if (p.whole == 0 || p.looked < p.steps || Out(p) || Allowed(p) <= p.steps) continue;
      out.push_back({.of = rules.trials[c],
                     .steps = Allowed(p),
                     .reason = rules.stopping.Of(p.contestant).reason});
    }
  }
  return out;
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
        const store::TrialProgress* t = by_idx[rules.last[contestant]];
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
  if (rules.stopping.Out(p.contestant) || (p.whole > 0 && p.looked >= p.steps))
    return absl::OkStatus();
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
  if (main_ >= 0) {
    for (const int64_t idx : rules_[main_].last) on_ |= GoesOn(idx);
  }
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
