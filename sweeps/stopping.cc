#include "sweeps/stopping.h"

#include <algorithm>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "sweeps/number.h"
#include "sweeps/rungs.h"

namespace plumb::sweeps {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// How many of n a rung lets go on.
int64_t Kept(const Rational& keep, int64_t n) {
  const auto product = Rational::Multiply(keep, Rational(n));
  return product ? product->Floor() : 0;
}

std::string Number(double value) { return absl::StrFormat("%.6g", value); }

}  // namespace

std::string Stopping::Shown(double value) const { return Number(sign_ * value); }

int64_t Stopping::BracketFor(int64_t group) {
  const HyperbandRule& rule = *spec_.hyperband;
  const auto rungs = static_cast<int64_t>(RungFractions(spec_).size());
  const int64_t brackets =
      std::max<int64_t>(1, rule.brackets > 0 ? std::min(rule.brackets, rungs) : rungs);
  std::vector<int64_t>& joined = joined_[group];
  joined.resize(static_cast<size_t>(brackets));
  int64_t best = 0;
  double least = kInfinity;
  for (int64_t b = 0; b < brackets; ++b) {
    const double r = static_cast<double>(rungs - b);
    const double share = std::ceil(std::pow(1 / rule.keep.ToDouble(), r) *
                                   static_cast<double>(brackets) / (r + 1) * (1 - 1e-12));
    const double behind = static_cast<double>(joined[static_cast<size_t>(b)] + 1) / share;
    if (behind < least) best = b, least = behind;
  }
  ++joined[static_cast<size_t>(best)];
  return best;
}

void Stopping::Add(const Contestant& c) {
  const auto trial = contestants();
  Run run{.is = c};
  int64_t bracket = 0;
  if (spec_.asha) run.rungs = RungSteps(spec_.asha->rungs, c.steps);
  if (spec_.hyperband) {
    bracket = BracketFor(c.group);
    std::vector<Rational> fractions = RungFractions(spec_);
    fractions.erase(fractions.begin(),
                    fractions.begin() + std::min(bracket, std::ssize(fractions)));
    run.rungs = RungSteps(fractions, c.steps);
  }
  Ladder& ladder = ladders_[{c.group, bracket}];
  ladder.rungs.resize(std::max(ladder.rungs.size(), run.rungs.size()));
  ladder.waiting.resize(ladder.rungs.size());
  ladder.trials.push_back(trial);
  ++ladder.running;
  run.ladder = &ladder;
  if (!run.rungs.empty()) run.verdict.until_step = run.rungs.front();
  groups_[c.group].push_back(trial);
  cells_[c.cell].trials.push_back(trial);
  runs_.push_back(std::move(run));
}

bool Stopping::Wants(int64_t trial, int64_t step) const {
  const Run& r = runs_[static_cast<size_t>(trial)];
  if (r.out) return false;
  if (spec_.median || spec_.divergence || step >= r.is.steps) return true;
  return r.passed < r.rungs.size() && step >= r.rungs[r.passed];
}

void Stopping::Take(const Look& look) {
  ++looks_;
  Run& r = At(look.trial);
  if (look.step < 0) {
    if (const auto rung = Ready(*r.ladder)) Promote(*r.ladder, *rung);
    return;
  }
  if (r.out) return;
  const bool failed = !look.value || !std::isfinite(*look.value);
  const bool last = failed || look.step >= r.is.steps;
  const double value = failed ? kInfinity : sign_ * *look.value;
  if (!failed && (spec_.median || spec_.divergence)) {
    r.best = r.seen.empty() ? value : std::min(r.best, value);
    r.seen.emplace_back(look.step, value);
  }
  // A run that was further than a rung when it was first seen has been there all the same.
  while (!r.out && r.passed < r.rungs.size() && (failed || look.step >= r.rungs[r.passed])) {
    if (failed && Waits(r)) break;  // it was on its way to none
    Record(look.trial, look.step, value);
    if (failed) break;
  }
  if (last && !r.out) Leave(look.trial, !failed);
  if (failed) r.verdict.reason = absl::StrCat("step ", look.step, ": no value to compare");
  if (!failed && !r.out && spec_.divergence) Divergence(look.trial, look.step, value);
  if (!failed && !r.out && spec_.median) Median(look.trial, look.step);
  if (spec_.racing && look.step >= r.is.steps && !failed) {
    Racing(look.trial, value);
    for (auto& [key, ladder] : ladders_) {
      if (ladder.running == 0) Close(ladder);
    }
  }
  if (r.ladder->running == 0) Close(*r.ladder);
}

int64_t Stopping::KeptOf(const std::vector<Entry>& board) const {
  return Kept(spec_.asha ? spec_.asha->keep : spec_.hyperband->keep, std::ssize(board));
}

void Stopping::Record(int64_t trial, int64_t step, double value) {
  Run& r = At(trial);
  const bool waited = Waits(r);
  const size_t rung = r.passed++;
  if (!waited && Waits(r)) --r.ladder->running;
  std::vector<Entry>& board = r.ladder->rungs[rung];
  const Entry entry{value, looks_, trial};
  const auto inserted = board.insert(std::upper_bound(board.begin(), board.end(), entry), entry);
  const auto place = inserted - board.begin();
  const auto n = std::ssize(board);
  if (value == kInfinity) return;  // it is out by itself
  if (Mode() == RungMode::kPromote) {
    if (step > r.rungs[rung]) {  // it has gone on already, for another sweep
      Allow(trial, std::max(r.allowed, rung + 1), r.verdict.reason);
    } else {
      r.entry = entry;
      if (Waits(r)) r.ladder->waiting[rung].insert(entry);
    }
    return;
  }
  const int64_t best = std::max<int64_t>(1, KeptOf(board));
  const std::string where = absl::StrCat("rung ", rung + 1, " (step ", r.rungs[rung], "): ");
  if (place < best) {
    if (r.allowed > rung) return;
    Allow(trial, rung + 1,
          absl::StrCat(where, Shown(value), " is among the best ", best, " of ", n));
    return;
  }
  Stop(trial,
       absl::StrCat(where, Shown(value), " is not among the best ", best, " of ", n,
                    "; the last of them has ", Shown(board[static_cast<size_t>(best - 1)].value)));
}

std::optional<size_t> Stopping::Ready(const Ladder& ladder) const {
  for (size_t rung = 0; rung < ladder.rungs.size(); ++rung) {
    if (ladder.waiting[rung].empty()) continue;
    const std::vector<Entry>& board = ladder.rungs[rung];
    const auto best = std::lower_bound(board.begin(), board.end(), *ladder.waiting[rung].begin());
    if (best - board.begin() < KeptOf(board)) return rung;
  }
  return std::nullopt;
}

void Stopping::Promote(Ladder& ladder, size_t rung) {
  const Entry e = *ladder.waiting[rung].begin();
  const std::vector<Entry>& board = ladder.rungs[rung];
  Allow(e.trial, rung + 1,
        absl::StrCat("rung ", rung + 1, " (step ", At(e.trial).rungs[rung], "): ", Shown(e.value),
                     " is among the best ", KeptOf(board), " of ", board.size()));
}

std::vector<Stopping::Held> Stopping::HeldBack() const {
  std::vector<Held> out;
  for (const auto& [key, ladder] : ladders_) {
    if (Ready(ladder)) out.push_back({ladder.trials.front(), &ladder.trials});
  }
  return out;
}

void Stopping::Allow(int64_t trial, size_t rungs, std::string reason) {
  Run& r = At(trial);
  const bool waited = Waits(r);
  if (waited) r.ladder->waiting[r.passed - 1].erase(r.entry);
  r.allowed = std::max(r.allowed, rungs);
  if (waited && !Waits(r)) ++r.ladder->running;
  r.verdict.until_step = r.allowed < r.rungs.size() ? r.rungs[r.allowed] : -1;
  r.verdict.reason = std::move(reason);
}

void Stopping::Leave(int64_t trial, bool finished) {
  Run& r = At(trial);
  if (Waits(r)) {
    r.ladder->waiting[r.passed - 1].erase(r.entry);
  } else {
    --r.ladder->running;
  }
  r.ladder->finished += finished;
  r.out = true;
  r.verdict.until_step = -1;
}

void Stopping::Stop(int64_t trial, std::string reason) {
  Run& r = At(trial);
  if (Waits(r)) {
    r.ladder->waiting[r.passed - 1].erase(r.entry);
  } else {
    --r.ladder->running;
  }
  r.out = true;
  r.verdict.stop = true;
  r.verdict.reason = std::move(reason);
}

// Nobody runs any more: of the lowest rung at which some are among the best, all of those go on.
// Where there are none, no further promotion follows by itself: if none has come to the end, the
// best of the furthest goes on, so that a group has a result; else the rest ends.
void Stopping::Close(Ladder& ladder) {
  if (const auto rung = Ready(ladder)) {
    while (Ready(ladder) == rung) Promote(ladder, *rung);
    return;
  }
  for (size_t rung = ladder.rungs.size(); ladder.finished == 0 && rung-- > 0;) {
    if (ladder.waiting[rung].empty()) continue;
    const int64_t first = ladder.waiting[rung].begin()->trial;
    Allow(first, rung + 1,
          absl::StrCat("rung ", rung + 1, " (step ", At(first).rungs[rung],
                       "): the best that is left, and none has come to its end"));
    return;
  }
  for (const int64_t t : ladder.trials) {
    Run& r = At(t);
    if (!Waits(r)) continue;
    const size_t at = r.passed - 1;
    r.out = true;
    r.verdict.stop = true;
    r.verdict.reason =
        absl::StrCat("rung ", at + 1, " (step ", r.rungs[at],
                     "): all others have come as far as they go, and it is not among the best ",
                     KeptOf(ladder.rungs[at]), " of ", ladder.rungs[at].size());
  }
}

void Stopping::Divergence(int64_t trial, int64_t step, double value) {
  const Run& r = At(trial);
  if (value > spec_.divergence->factor * r.best) {
    Stop(trial, absl::StrCat("step ", step, ": ", Shown(value), " is above ",
                             FormatNumber(spec_.divergence->factor), " times its own best, ",
                             Shown(r.best)));
  }
}

void Stopping::Median(int64_t trial, int64_t step) {
  const Run& r = At(trial);
  if (step < StepAt(spec_.median->from, r.is.steps)) return;
  std::vector<double> means;
  for (const int64_t t : groups_[r.is.group]) {
    const Run& other = At(t);
    if (t == trial || other.seen.empty() || other.seen.back().first < step) continue;
    double sum = 0;
    int64_t n = 0;
    for (const auto& [at, value] : other.seen) {
      if (at > step) break;
      sum += value, ++n;
    }
    if (n > 0) means.push_back(sum / static_cast<double>(n));
  }
  const size_t n = means.size();
  if (static_cast<int64_t>(n) < spec_.median->min_trials || n == 0) return;
  std::sort(means.begin(), means.end());
  const double median = n % 2 == 1 ? means[n / 2] : (means[n / 2 - 1] + means[n / 2]) / 2;
  if (r.best > median) {
    Stop(trial, absl::StrCat("step ", step, ": its best, ", Shown(r.best),
                             sign_ > 0 ? ", is above the median of " : ", is below the median of ",
                             n, " others' means, ", Shown(median)));
  }
}

void Stopping::Racing(int64_t trial, double value) {
  Cell& own = cells_[At(trial).is.cell];
  own.values[At(trial).is.replicate] = value;
  const RacingRule& rule = *spec_.racing;
  const auto mean = [](const Cell& c) {
    double sum = 0;
    for (const auto& [replicate, v] : c.values) sum += v;
    return sum / static_cast<double>(c.values.size());
  };
  const auto ready = [&](const Cell& c) {
    return std::ssize(c.values) >= std::max<int64_t>(2, rule.min_replicates);
  };
  const Cell* best = nullptr;
  int64_t most = 0, best_cell = 0;
  for (const auto& [id, c] : cells_) {
    most = std::max<int64_t>(most, std::ssize(c.trials));
    if (c.out || !ready(c)) continue;
    if (best == nullptr || mean(c) < mean(*best)) best = &c, best_cell = id;
  }
  if (best == nullptr) return;
  const int64_t looks = std::max<int64_t>(1, most - std::max<int64_t>(2, rule.min_replicates) + 1);
  const double alpha =
      rule.alpha / static_cast<double>(looks * std::max<int64_t>(1, most_cells_ - 1));
  for (auto& [id, c] : cells_) {
    if (&c == best || c.out) continue;
    std::vector<double> d;
    for (const auto& [replicate, v] : c.values) {
      const auto other = best->values.find(replicate);
      if (other != best->values.end()) d.push_back(v - other->second);
    }
    const auto n = static_cast<double>(d.size());
    if (std::ssize(d) < std::max<int64_t>(2, rule.min_replicates)) continue;
    double sum = 0, squares = 0;
    for (double x : d) sum += x;
    for (double x : d) squares += (x - sum / n) * (x - sum / n);
    const double error = std::sqrt(squares / (n - 1) / n);
    if (!(sum > 0)) continue;
    const double p = error == 0 ? 0
                                : boost::math::cdf(boost::math::complement(
                                      boost::math::students_t(n - 1), sum / n / error));
    if (p > alpha) continue;
    c.out = true;
    for (const int64_t t : c.trials) {
      if (At(t).out) continue;
      Stop(t, absl::StrCat("its cell is worse than cell ", best_cell, " by ", Number(sum / n),
                           " over ", d.size(), " replicates (paired t-test, p = ", Number(p),
                           ", below ", Number(alpha), ")"));
    }
  }
}

}  // namespace plumb::sweeps
