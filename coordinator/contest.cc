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
    rules_.push_back({plan.tune->metric, sweeps::Stopping(*plan.tune->stop)});
  }
  if (plan.stop) {
    main_ = static_cast<int>(rules_.size());
    across_ = plan.stop->across_cells;
    rules_.push_back(
        {sweeps::StoppingSeries(plan), sweeps::Stopping(*plan.stop, std::ssize(plan.cells))});
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

bool Contest::Judges(int64_t idx) const { return places_[idx].rules >= 0; }

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

absl::Status Contest::Look(const std::vector<store::TrialProgress>& trials, store::Results& results,
                           core::AdviseSweep* out) {
  out->looks_before = looks_;
  for (const store::TrialProgress& t : trials) {
    const Place& p = places_[t.idx];
    if (p.rules < 0 || (t.step == 0 && !IsTerminal(t.state))) continue;
    const sweeps::Stopping& stopping = rules_[p.rules].stopping;
    if (stopping.Out(p.contestant)) continue;
    const auto look = [&](int64_t step, std::optional<double> value) {
      out->looks.push_back({.trial_idx = t.idx, .step = step, .value = value});
      Take(t.idx, step, value);
    };
    ASSIGN_OR_RETURN(const std::vector<store::StepValue> points,
                     results.Points(t.stage, rules_[p.rules].series, p.looked));
    for (const store::StepValue& point : points) {
      if (!stopping.Wants(p.contestant, point.step)) continue;
      look(point.step, std::isfinite(point.value) ? std::optional(point.value) : std::nullopt);
    }
    if (stopping.Out(p.contestant)) continue;
    // Ended without a value at its end: it diverged, failed, was cancelled. Paused without one:
    // there is no such series, nothing can be said of it, and it goes on.
    if (IsTerminal(t.state)) look(std::max(p.looked + 1, p.steps), std::nullopt);
    if (t.state == StageState::kPaused && p.looked < t.until_step) look(t.until_step, std::nullopt);
  }
  Spare(trials, out);
  for (const store::TrialProgress& t : trials) {
    const Place& p = places_[t.idx];
    if (p.rules < 0 || IsTerminal(t.state)) continue;
    const sweeps::Verdict& v = rules_[p.rules].stopping.Of(p.contestant);
    const bool further = t.until_step >= 0 && (v.until_step < 0 || v.until_step > t.until_step);
    if (!v.stop && !further) continue;
    out->verdicts.push_back(
        {.trial = t.trial, .stop = v.stop, .until_step = v.until_step, .reason = v.reason});
  }
  return absl::OkStatus();
}

bool Contest::IsOn(const std::vector<store::TrialProgress>& trials) const {
  for (const store::TrialProgress& t : trials) {
    if (main_ >= 0 && places_[t.idx].rules == main_ && !IsTerminal(t.state)) return true;
  }
  return false;
}

}  // namespace plumb::coordinator
