#include "sweeps/rungs.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "sweeps/tuning.h"
#include "trainer/spec/cost.h"
#include "trainer/spec/parse.h"

namespace plumb::sweeps {
namespace {

constexpr size_t kMaxRungs = 64;

// from, from / keep, … below 1: the rungs of the first bracket.
std::vector<Rational> Fractions(const HyperbandRule& rule) {
  std::vector<Rational> out;
  std::optional<Rational> at = rule.from;
  while (at && at->Compare(Rational(1)) < 0 && out.size() < kMaxRungs) {
    out.push_back(*at);
    at = Rational::Divide(*at, rule.keep);
  }
  return out;
}

spec::TrialSpec WithSteps(const PlannedTrial& whole, int64_t steps) {
  spec::TrialSpec out = whole.config;
  out.train.steps = steps;  // resolved: the one budget, and the warm-up is in steps
  return out;
}

}  // namespace

std::vector<Rational> RungFractions(const StopSpec& stop) {
  if (stop.asha) return stop.asha->rungs;
  return stop.hyperband ? Fractions(*stop.hyperband) : std::vector<Rational>();
}

int64_t StepAt(const Rational& fraction, int64_t steps) {
  const auto product = Rational::Multiply(fraction, Rational(steps));
  return product
             ? product->Ceil()
             : static_cast<int64_t>(std::ceil(fraction.ToDouble() * static_cast<double>(steps)));
}

std::vector<int64_t> RungSteps(const std::vector<Rational>& fractions, int64_t steps) {
  std::vector<int64_t> out;
  for (const Rational& f : fractions) {
    const int64_t at = std::max<int64_t>(1, StepAt(f, steps));
    if (at < steps && (out.empty() || at > out.back())) out.push_back(at);
  }
  return out;
}

bool CoolsRungs(const StopSpec& stop, const PlannedTrial& t) {
  const spec::TrainSpec& train = t.config.train;
  return stop.cooled.value_or(true) && (stop.asha || stop.hyperband) &&
         t.stages.front().kind == "pretrain" && train.schedule == spec::ScheduleKind::kWsd &&
         train.decay_fraction > 0 && ComparesBefore(stop, 1 - train.decay_fraction);
}

const StopSpec* StopOf(const SweepPlan& plan, const PlannedTrial& t) {
  if (t.role == TrialRole::kTune)
    return plan.tune != nullptr && plan.tune->stop ? &*plan.tune->stop : nullptr;
  return t.role == TrialRole::kMain && plan.stop ? &*plan.stop : nullptr;
}

bool CoolsRungs(const SweepPlan& plan, const PlannedTrial& t) {
  const StopSpec* const stop = StopOf(plan, t);
  return plan.search == nullptr && !t.own && stop != nullptr && CoolsRungs(*stop, t);
}

PlannedTrial RungOf(const PlannedTrial& whole, int64_t place, int64_t steps) {
  PlannedTrial out = whole;
  out.rung_of = place;
  if (steps >= whole.config.train.steps) return out;
  out.whole_key = whole.key;
  out.config = WithSteps(whole, steps);
  out.key = spec::Key(out.config);
  out.fusion_key = spec::FusionKey(out.config);
  out.stages.resize(1);  // what follows a training follows the whole one
  out.stages.front().target_step = steps;
  out.flops = spec::TotalTrainingFlops(out.config);
  return out;
}

std::string WrongRung(const StopSpec& stop, const PlannedTrial& t) {
  for (const int64_t at : RungSteps(RungFractions(stop), t.config.train.steps)) {
    const spec::TrialSpec s = WithSteps(t, at);
    const int64_t trunk =
        at - static_cast<int64_t>(std::round(s.train.decay_fraction * static_cast<double>(at)));
    const std::string run = absl::StrCat("the run to the rung at step ", at);
    constexpr char kInstead[] = "; put the rung later, or say cooled: false";
    if (trunk == at) return absl::StrCat(run, " has no step for a cooldown", kInstead);
    if (trunk < s.train.warmup_steps)
      return absl::StrCat(run, " would cool down from step ", trunk, ", before its warm-up of ",
                          s.train.warmup_steps, " steps has ended", kInstead);
    if (s.init.step >= at)
      return absl::StrCat(run, " ends before step ", s.init.step, ", where the trial begins",
                          kInstead);
  }
  return "";
}

int64_t StepsOfRungs(const StopSpec& stop, const PlannedTrial& t, bool shares) {
  int64_t out = 0;
  for (const int64_t at : RungSteps(RungFractions(stop), t.config.train.steps))
    out += at - (shares ? spec::TrunkSteps(WithSteps(t, at)) : 0);
  return out;
}

}  // namespace plumb::sweeps
