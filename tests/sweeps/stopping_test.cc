#include "sweeps/stopping.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <deque>
#include <map>
#include <random>

namespace plumb::sweeps {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

Rational Of(const std::string& text) { return *Rational::Parse(text); }

StopSpec Asha(RungMode mode, std::vector<std::string> rungs = {"10%", "30%"},
              const std::string& keep = "1/3") {
  StopSpec s;
  s.asha = AshaRule{.keep = Of(keep), .mode = mode};
  for (const std::string& r : rungs) s.asha->rungs.push_back(Of(r));
  return s;
}

Stopping With(StopSpec spec, int64_t trials, int64_t steps = 100) {
  Stopping out(std::move(spec));
  for (int64_t i = 0; i < trials; ++i) out.Add({.cell = i, .steps = steps});
  return out;
}

// "30 stop - wait": where each goes to, "-" its end.
std::string Draw(const Stopping& s) {
  std::string out;
  for (int64_t i = 0; i < s.contestants(); ++i) {
    const Verdict& v = s.Of(i);
    out += (i > 0 ? " " : "") + (v.stop             ? std::string("stop")
                                 : v.until_step < 0 ? std::string("-")
                                                    : std::to_string(v.until_step));
  }
  return out;
}

TEST(AshaStop, GoesOnIfItIsAmongTheBestOfThoseSeenSoFar) {
  Stopping s = With(Asha(RungMode::kStop), 5);
  EXPECT_EQ(Draw(s), "10 10 10 10 10");
  s.Take({0, 10, 3.0});  // the first of one
  EXPECT_EQ(Draw(s), "30 10 10 10 10");
  s.Take({1, 10, 3.5});  // of two, one goes on
  EXPECT_EQ(Draw(s), "30 stop 10 10 10");
  EXPECT_EQ(s.Of(1).reason,
            "rung 1 (step 10): 3.5 is not among the best 1 of 2; the last of them has 3");
  s.Take({2, 10, 2.0});
  s.Take({3, 10, 2.5});  // of four still one
  EXPECT_EQ(Draw(s), "30 stop 30 stop 10");
  s.Take({0, 30, 1.0});
  s.Take({2, 30, 1.5});
  EXPECT_EQ(Draw(s), "- stop stop stop 10");
}

TEST(AshaStop, OfEqualValuesTheEarlierGoesOn) {
  Stopping s = With(Asha(RungMode::kStop), 2);
  s.Take({1, 10, 3.0});
  s.Take({0, 10, 3.0});
  EXPECT_EQ(Draw(s), "stop 30");
}

// A place is spare for the trial's group.
Look Spare(int64_t trial = 0) { return {.trial = trial, .step = -1}; }

// Keep 1/3, so the first of three, the second of six.
TEST(AshaPromote, WaitsUntilItIsAmongTheBestAndAPlaceIsSpare) {
  Stopping s = With(Asha(RungMode::kPromote), 6);
  s.Take({0, 10, 3.0});
  s.Take({1, 10, 2.0});
  EXPECT_THAT(s.HeldBack(), IsEmpty()) << "the best third of two is nobody";
  s.Take(Spare());
  EXPECT_EQ(Draw(s), "10 10 10 10 10 10");
  s.Take({2, 10, 4.0});
  EXPECT_THAT(s.HeldBack(), SizeIs(1));
  EXPECT_EQ(Draw(s), "10 10 10 10 10 10") << "new trials first";
  s.Take({3, 10, 1.0});
  s.Take(Spare());
  EXPECT_EQ(Draw(s), "10 10 10 30 10 10") << "trial 1 was among the best only while 3 had not come";
  EXPECT_EQ(s.Of(3).reason, "rung 1 (step 10): 1 is among the best 1 of 4");
  s.Take(Spare());
  EXPECT_EQ(Draw(s), "10 10 10 30 10 10") << "the best of four has gone on";
  s.Take({4, 10, 5.0});
  s.Take({5, 10, 6.0});
  s.Take(Spare(5));  // any of the group
  EXPECT_EQ(Draw(s), "10 30 10 30 10 10");
  s.Take({1, 30, 1.5});
  EXPECT_EQ(Draw(s), "10 30 10 30 10 10");
  s.Take({3, 30, 1.4});
  // Nobody runs, the best third of two is nobody, and none has come to its end.
  EXPECT_EQ(Draw(s), "10 30 10 - 10 10");
  EXPECT_THAT(s.Of(3).reason, HasSubstr("the best that is left"));
  s.Take({3, 100, 1.0});
  EXPECT_EQ(Draw(s), "stop stop stop - stop stop");
  EXPECT_THAT(s.Of(0).reason, HasSubstr("not among the best 2 of 6"));
}

TEST(AshaPromote, WhenNobodyRunsAllOfTheLowestRungThatAreAmongTheBestGoOn) {
  Stopping s = With(Asha(RungMode::kPromote), 6);
  for (int64_t t = 0; t < 6; ++t) s.Take({t, 10, 1.0 + static_cast<double>(t)});
  EXPECT_EQ(Draw(s), "30 30 10 10 10 10");
}

TEST(AshaPromote, TheLowestRungComesFirst) {
  Stopping s =
      With(Asha(RungMode::kPromote, {"10%", "30%"}, "1/2"), 7);  // the last runs all the time
  const auto comes = [&](int64_t t, double value) { s.Take({t, 10, value}); };
  comes(0, 1), comes(1, 2), comes(2, 3), comes(3, 4);
  s.Take(Spare()), s.Take(Spare()), s.Take(Spare());
  EXPECT_EQ(Draw(s), "30 30 10 10 10 10 10");
  s.Take({0, 30, 1.0});
  s.Take({1, 30, 0.5});
  comes(4, 1.5);
  comes(5, 9);
  // At rung 1 trial 4 is now among the best three of six, at rung 2 trial 1 the best of two.
  s.Take(Spare());
  EXPECT_EQ(Draw(s), "30 30 10 10 30 10 10");
  s.Take(Spare());
  EXPECT_EQ(Draw(s), "30 - 10 10 30 10 10");
}

TEST(AshaPromote, ARunThatFailsCountsAsTheWorstAtItsRungAndIsNeverPromoted) {
  Stopping s = With(Asha(RungMode::kPromote), 3);
  s.Take({0, 7, std::nullopt});
  s.Take({1, 3, std::nullopt});
  EXPECT_EQ(Draw(s), "- - 10");
  s.Take({2, 10, 9.0});
  EXPECT_EQ(Draw(s), "- - 30");
  Stopping all = With(Asha(RungMode::kPromote), 2);
  all.Take({0, 5, std::nullopt});
  all.Take({1, 5, std::nullopt});
  EXPECT_EQ(Draw(all), "- -");
}

// Cancelled where it waits: it was on its way to no rung.
TEST(AshaPromote, OneThatEndsWhereItWaitsLeavesTheRung) {
  Stopping s = With(Asha(RungMode::kPromote), 3);
  s.Take({0, 10, 1.0});
  s.Take({0, 11, std::nullopt});
  s.Take({1, 10, 2.0});
  s.Take({2, 10, 3.0});
  EXPECT_EQ(Draw(s), "- 30 10") << "the best that is left";
}

TEST(AshaPromote, GroupsAreComparedEachByItself) {
  Stopping s(Asha(RungMode::kPromote, {"50%"}, "1/2"));
  for (int64_t group : {0, 1, 0, 1}) s.Add({.group = group, .steps = 10});
  s.Take({0, 5, 1.0});
  s.Take({2, 5, 2.0});
  EXPECT_EQ(Draw(s), "- 5 5 5");
  s.Take({1, 5, 9.0});
  s.Take({3, 5, 8.0});
  EXPECT_EQ(Draw(s), "- 5 5 -");
}

TEST(AshaPromote, OneThatIsSeenLateHasBeenAtAllRungsBefore) {
  Stopping s = With(Asha(RungMode::kPromote), 3);
  EXPECT_FALSE(s.Wants(0, 9));
  EXPECT_TRUE(s.Wants(0, 12));
  s.Take({0, 100, 1.0});
  EXPECT_FALSE(s.Wants(0, 100));
  s.Take({1, 10, 2.0});
  s.Take({2, 10, 3.0});
  EXPECT_EQ(Draw(s), "- stop stop") << "the best of three has come to its end already";
}

TEST(Rungs, AreTheFirstWholeStepAtOrAfterAndNeverTheEnd) {
  Stopping s(Asha(RungMode::kPromote, {"1%", "10%", "1/3", "99%"}));
  for (int64_t steps : {1, 2, 7, 100, 300}) s.Add({.steps = steps});
  EXPECT_EQ(Draw(s), "- 1 1 1 3");
  EXPECT_FALSE(s.Wants(2, 0));
}

TEST(Hyperband, BracketsBeginLaterAndAreFilledByTheirShares) {
  StopSpec spec;
  spec.hyperband = HyperbandRule{.from = Of("1/9"), .keep = Of("1/3"), .mode = RungMode::kPromote};
  Stopping s = With(spec, 8, 90);
  // Rungs at 10 and 30: two brackets, with the shares ceil(9 * 2 / 3) = 6 and ceil(3 * 2 / 2) = 3.
  std::map<int64_t, int64_t> first;
  for (int64_t i = 0; i < 8; ++i) ++first[s.Of(i).until_step];
  EXPECT_EQ(first, (std::map<int64_t, int64_t>{{10, 6}, {30, 2}}));
  EXPECT_EQ(s.Of(0).until_step, 10);
}

TEST(Median, EndsWhatIsWorseThanTheMedianOfTheOthersMeans) {
  StopSpec spec;
  spec.median = MedianRule{.from = Of("20%"), .min_trials = 3};
  Stopping s = With(spec, 4);
  const auto shows = [&](int64_t t, double a, double b) {
    s.Take({t, 10, a});
    s.Take({t, 20, b});
  };
  shows(0, 4, 2);  // mean 3
  shows(1, 6, 4);  // mean 5
  shows(2, 5, 3);  // mean 4
  s.Take({3, 10, 9.0});
  EXPECT_EQ(Draw(s), "- - - -") << "before 20 %";
  s.Take({3, 20, 4.5});
  EXPECT_EQ(Draw(s), "- - - stop");
  EXPECT_EQ(s.Of(3).reason, "step 20: its best, 4.5, is above the median of 3 others' means, 4");
  Stopping enough = With(spec, 3);
  for (int64_t t : {0, 1}) enough.Take({t, 20, 1.0});
  enough.Take({2, 20, 99.0});
  EXPECT_EQ(Draw(enough), "- - -") << "two others are too few";
}

TEST(Divergence, EndsWhatIsFarAboveItsOwnBest) {
  StopSpec spec;
  spec.divergence = DivergenceRule{.factor = 2};
  Stopping s = With(spec, 1);
  s.Take({0, 10, 3.0});
  s.Take({0, 20, 2.0});
  s.Take({0, 30, 4.0});
  EXPECT_FALSE(s.Of(0).stop);
  s.Take({0, 40, 4.1});
  EXPECT_TRUE(s.Of(0).stop);
  EXPECT_EQ(s.Of(0).reason, "step 40: 4.1 is above 2 times its own best, 2");
}

// Differences 1.0, 1.2, 0.8: mean 1, standard error 0.2 / sqrt(3) = 0.11547, t = 8.66, p = 0.00653
// one-sided with 2 degrees of freedom; alpha 0.05 over 1 other cell and 3 looks is 0.016667.
TEST(Racing, EndsACellThatCannotWin) {
  StopSpec spec;
  spec.racing = RacingRule{.alpha = 0.05, .min_replicates = 3};
  Stopping s(spec, /*cells=*/2);
  for (int64_t r = 0; r < 5; ++r) {
    for (int64_t cell : {0, 1}) s.Add({.cell = cell, .replicate = r, .steps = 10});
  }
  const double base[] = {3.0, 3.1, 2.9}, more[] = {1.0, 1.2, 0.8};
  for (int64_t r = 0; r < 3; ++r) {
    EXPECT_EQ(Draw(s), "- - - - - - - - - -");
    s.Take({2 * r, 10, base[r]});
    s.Take({2 * r + 1, 10, base[r] + more[r]});
  }
  EXPECT_EQ(Draw(s), "- - - - - - - stop - stop");
  EXPECT_THAT(s.Of(7).reason, HasSubstr("worse than cell 0 by 1 over 3 replicates"));
  EXPECT_THAT(s.Of(7).reason, HasSubstr("p = 0.00653"));
  EXPECT_THAT(s.Of(7).reason, HasSubstr("below 0.0166667"));
}

TEST(Racing, DoesNotEndWhatIsWithinTheNoise) {
  StopSpec spec;
  spec.racing = RacingRule{.alpha = 0.05, .min_replicates = 3};
  Stopping s(spec, /*cells=*/2);
  for (int64_t r = 0; r < 5; ++r) {
    for (int64_t cell : {0, 1}) s.Add({.cell = cell, .replicate = r, .steps = 10});
  }
  const double more[] = {1.0, -0.8, 0.6, -0.4};
  for (int64_t r = 0; r < 4; ++r) {
    s.Take({2 * r, 10, 3.0});
    s.Take({2 * r + 1, 10, 3.0 + more[r]});
  }
  EXPECT_EQ(Draw(s), "- - - - - - - - - -");
}

// A cluster of a few slots over curves that cross, whose every look is recorded; beside it, after
// each look, a new server that takes the record.
class EveryRule : public ::testing::TestWithParam<int> {};

TEST_P(EveryRule, DecidesTheSameAfterARestartAtAnyPointAndTakesNothingBack) {
  for (uint64_t seed = 0; seed < 12; ++seed) {
    std::mt19937_64 random(seed * 100 + static_cast<uint64_t>(GetParam()));
    const auto uniform = [&] { return std::uniform_real_distribution<>(0, 1)(random); };
    StopSpec spec;
    const RungMode mode = seed % 2 == 0 ? RungMode::kPromote : RungMode::kStop;
    if (GetParam() == 0) spec = Asha(mode);
    if (GetParam() == 1)
      spec.hyperband = HyperbandRule{.from = Of("1/27"), .keep = Of("1/3"), .mode = mode};
    if (GetParam() == 2) spec.median = MedianRule{.from = Of("10%"), .min_trials = 3};
    if (GetParam() == 3) spec = Asha(mode), spec.divergence = DivergenceRule{.factor = 1.2};
    if (GetParam() == 4) spec.racing = RacingRule{.alpha = 0.2, .min_replicates = 2};
    std::vector<Contestant> contestants;
    for (int64_t i = 0; i < 30; ++i) {
      contestants.push_back({.group = spec.racing ? 0 : i % 2,
                             .cell = i % 3,
                             .replicate = i / 3,
                             .steps = 60 + 20 * (i % 2)});
    }
    const auto fresh = [&] {
      Stopping s(spec, /*cells=*/3);
      for (const Contestant& c : contestants) s.Add(c);
      return s;
    };
    Stopping live = fresh();
    std::vector<Look> record;
    std::vector<int64_t> at(30, 0);
    std::vector<double> start(30), slope(30);
    for (int64_t i = 0; i < 30; ++i) start[i] = 2 + uniform(), slope[i] = uniform();
    std::vector<bool> ended(30, false);
    for (int guard = 0; guard < 5000; ++guard) {
      const std::vector<Stopping::Held> held = live.HeldBack();
      const bool spare = !held.empty() && uniform() < 0.2;
      std::vector<int64_t> can;
      for (int64_t i = 0; i < 30; ++i) {
        const Verdict& v = live.Of(i);
        if (!ended[i] && !v.stop && (v.until_step < 0 || v.until_step > at[i])) can.push_back(i);
      }
      if (can.empty() && !spare) break;
      const int64_t t = spare
                            ? held[0].trial
                            : can[static_cast<size_t>(uniform() * static_cast<double>(can.size()))];
      const int64_t until = live.Of(t).until_step;
      if (!spare)
        at[t] = std::min({at[t] + 5, contestants[t].steps, until < 0 ? INT64_MAX : until});
      const double share = static_cast<double>(at[t]) / static_cast<double>(contestants[t].steps);
      const bool dies = !spare && uniform() < 0.01;
      const double value = start[t] - slope[t] * std::sqrt(share) + 0.1 * uniform();
      if (!spare) ended[t] = dies || at[t] == contestants[t].steps;
      if (!dies && !spare && !live.Wants(t, at[t])) continue;
      std::vector<Verdict> before;
      for (int64_t i = 0; i < 30; ++i) before.push_back(live.Of(i));
      record.push_back({t, spare ? -1 - std::ssize(record) : at[t],
                        dies || spare ? std::nullopt : std::optional(value)});
      live.Take(record.back());
      Stopping again = fresh();
      for (const Look& look : record) again.Take(look);
      for (int64_t i = 0; i < 30; ++i) {
        const Verdict &now = live.Of(i), &then = before[i];
        ASSERT_EQ(now.stop, again.Of(i).stop);
        ASSERT_EQ(now.until_step, again.Of(i).until_step);
        ASSERT_EQ(now.reason, again.Of(i).reason);
        ASSERT_TRUE(now.stop || !then.stop) << "taken back";
        ASSERT_TRUE(now.until_step < 0 ||
                    (then.until_step >= 0 && now.until_step >= then.until_step));
        ASSERT_FALSE(now.stop && ended[i]);
      }
    }
    int64_t finished = 0;
    for (int64_t i = 0; i < 30; ++i) {
      ASSERT_TRUE(ended[i] || live.Of(i).stop) << "trial " << i << " waits for ever, seed " << seed;
      finished += at[i] == contestants[i].steps;
    }
    EXPECT_GT(finished, 0);
    if (!spec.racing) EXPECT_LT(finished, 30) << "nothing was stopped";
  }
}

INSTANTIATE_TEST_SUITE_P(Rules, EveryRule, ::testing::Range(0, 5));

TEST(Stopping, TenThousandTrialsAreJudgedQuickly) {
  Stopping s = With(Asha(RungMode::kPromote, {"1%", "3%", "9%", "27%"}), 10000, 1000);
  std::mt19937_64 random(1);
  std::deque<int64_t> queue;
  for (int64_t i = 0; i < 10000; ++i) queue.push_back(i);
  int64_t looks = 0;
  for (; !queue.empty(); ++looks) {
    const int64_t t = queue.front();
    queue.pop_front();
    const int64_t until = s.Of(t).until_step;
    s.Take({t, until < 0 ? 1000 : until, std::uniform_real_distribution<>(0, 1)(random)});
    if (queue.empty()) break;
  }
  EXPECT_EQ(looks, 9999);
}

// Each rule on a curve and on the same with the other sign decides the same.
TEST(Stopping, WhereMoreIsBetterAllIsTheOtherWay) {
  StopSpec asha;
  asha.asha = AshaRule{.rungs = {*Rational::Parse("1/2")}, .keep = *Rational::Parse("1/2")};
  StopSpec median;
  median.median = MedianRule{.from = *Rational::Parse("1/10"), .min_trials = 2};
  StopSpec racing;
  racing.racing = RacingRule{.alpha = 0.2, .min_replicates = 2};
  for (const StopSpec& spec : {asha, median, racing}) {
    Stopping less(spec, 2), more(spec, 2, /*maximize=*/true);
    const std::vector<double> values = {3, 1, 2, 4.5, 1.5, 0.5};
    for (int64_t t = 0; t < 6; ++t) {
      for (Stopping* s : {&less, &more}) s->Add({.cell = t % 2, .replicate = t / 2, .steps = 10});
    }
    for (const int64_t step : {5, 10}) {
      for (int64_t t = 0; t < 6; ++t) {
        less.Take({t, step, values[static_cast<size_t>(t)]});
        more.Take({t, step, -values[static_cast<size_t>(t)]});
      }
    }
    int64_t stopped = 0;
    for (int64_t t = 0; t < 6; ++t) {
      EXPECT_EQ(less.Of(t).stop, more.Of(t).stop) << t;
      EXPECT_EQ(less.Out(t), more.Out(t)) << t;
      stopped += less.Of(t).stop;
    }
    EXPECT_TRUE(stopped > 0 || spec.racing);
  }
  Stopping more(asha, 1, /*maximize=*/true);
  more.Add({.steps = 10}), more.Add({.steps = 10});
  more.Take({0, 5, 0.9}), more.Take({1, 5, 0.4});
  EXPECT_TRUE(more.Of(1).stop);
  EXPECT_NE(more.Of(1).reason.find("0.4 is not among the best 1 of 2; the last of them has 0.9"),
            std::string::npos)
      << more.Of(1).reason;
}

}  // namespace
}  // namespace plumb::sweeps
