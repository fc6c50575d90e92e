// Populations: who gives way at the end of a generation, to whom, and with which values.
#include "sweeps/population.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/str_join.h"
#include "sweeps/describe.h"
#include "sweeps/tuning.h"
#include "tests/sweeps/corpora.h"
#include "trainer/spec/parse.h"

namespace plumb::sweeps {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::Ge;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Le;
using ::testing::SizeIs;

constexpr char kTrial[] =
    "sweep: s\n"
    "trial:\n"
    "  model: {head_dim: 16}\n"
    "  data: {corpus: docs, seq_len: 32}\n"
    "  train: {steps: 40, batch_tokens: 1024}\n";

std::string File(const std::string& rest) { return kTrial + rest; }

PopulationSpec Spec(int64_t members, const char* replace = "1/4", uint64_t seed = 1) {
  return {.members = members,
          .seed = seed,
          .every = *Rational::Parse("1/4"),
          .replace = *Rational::Parse(replace)};
}

constexpr double kInf = std::numeric_limits<double>::infinity();
const std::optional<double> kNone;

// "order | member<parent …", where the parent is drawn: "*" for one of the best.
std::string Drawn(const PopulationSpec& spec, const std::vector<std::optional<double>>& values) {
  const Ranking r = Rank(spec, 1, values);
  std::string out = absl::StrJoin(r.order, " ") + " |";
  const int64_t with_value = std::count_if(values.begin(), values.end(),
                                           [](const auto& v) { return v && std::isfinite(*v); });
  const int64_t best = std::min(spec.replaced(), with_value);
  for (const Exchange& e : r.exchanges) {
    const auto place = std::find(r.order.begin(), r.order.end(), e.from) - r.order.begin();
    EXPECT_LT(place, best) << "member " << e.from << " is none of the best";
    absl::StrAppend(&out, " ", e.member);
  }
  return out;
}

TEST(Population, TheWorstGiveWayToTheBest) {
  EXPECT_EQ(Drawn(Spec(8), {5, 3, 8, 1, 7, 2, 6, 4}), "3 5 1 7 0 6 4 2 | 2 4");
  EXPECT_EQ(Drawn(Spec(4), {4, 3, 2, 1}), "3 2 1 0 | 0");
  EXPECT_EQ(Drawn(Spec(2, "1/2"), {1, 2}), "0 1 | 1");
  EXPECT_EQ(Drawn(Spec(5, "1/2"), {1, 2, 3, 4, 5}), "0 1 2 3 4 | 3 4")
      << "at most half, rounded down";
  EXPECT_EQ(Drawn(Spec(5, "20%"), {1, 2, 3, 4, 5}), "0 1 2 3 4 | 4");
}

TEST(Population, OfEqualOnesTheSmallerNumberIsBetter) {
  EXPECT_EQ(Drawn(Spec(4), {1, 1, 1, 1}), "0 1 2 3 | 3");
  EXPECT_EQ(Drawn(Spec(4, "1/2"), {2, 1, 2, 1}), "1 3 0 2 | 0 2");
}

TEST(Population, WhatHasNoValueIsTheWorstAndIsAlwaysReplaced) {
  EXPECT_EQ(Drawn(Spec(4), {kNone, 3, 2, 1}), "3 2 1 0 | 0");
  EXPECT_EQ(Drawn(Spec(4), {1, kInf, 2, std::nan("")}), "0 2 1 3 | 1 3") << "more than a quarter";
  EXPECT_EQ(Drawn(Spec(4), {kNone, kNone, 7, kNone}), "2 0 1 3 | 0 1 3") << "all from the one left";
  EXPECT_EQ(Drawn(Spec(8, "1/2"), {kNone, kNone, kNone, 1, kNone, kNone, 2, 3}),
            "3 6 7 0 1 2 4 5 | 0 1 2 4 5")
      << "fewer than half have a value";
  EXPECT_EQ(Drawn(Spec(8, "1/2"), {1, 2, 3, 4, 5, kNone, kNone, kNone}),
            "0 1 2 3 4 5 6 7 | 4 5 6 7");
  EXPECT_EQ(Drawn(Spec(3, "1/3"), {kNone, kNone, kNone}), "0 1 2 |") << "nobody can be forked";
}

TEST(Population, ParentsAreDrawnEvenlyFromTheBestAndAgainTheSame) {
  const PopulationSpec spec = Spec(16);
  std::vector<std::optional<double>> values;
  for (int i = 0; i < 16; ++i) values.push_back(i);
  std::map<int64_t, int> drawn;
  for (int64_t g = 1; g <= 500; ++g) {
    const Ranking r = Rank(spec, g, values);
    EXPECT_EQ(r.exchanges, Rank(spec, g, values).exchanges);
    for (const Exchange& e : r.exchanges) ++drawn[e.from];
  }
  ASSERT_THAT(drawn, SizeIs(4));
  // 2,000 draws of 4: 500 each, with a standard deviation of 19.
  for (const auto& [member, n] : drawn) EXPECT_THAT(n, AllOf(Ge(400), Le(600))) << member;
  EXPECT_NE(Rank(Spec(16, "1/4", 2), 1, values).exchanges, Rank(spec, 1, values).exchanges);
}

TEST(Population, GenerationsEndAtTheFirstWholeStepAtOrAfterTheirFraction) {
  PopulationSpec spec = Spec(4);
  EXPECT_THAT(GenerationEnds(spec, 40), ElementsAre(10, 20, 30));
  EXPECT_THAT(GenerationEnds(spec, 10), ElementsAre(3, 5, 8));
  EXPECT_THAT(GenerationEnds(spec, 2), ElementsAre(1));
  EXPECT_THAT(GenerationEnds(spec, 1), IsEmpty());
  spec.every = *Rational::Parse("30%");
  EXPECT_THAT(GenerationEnds(spec, 100), ElementsAre(30, 60, 90));
  spec.every_steps = 15;
  EXPECT_THAT(GenerationEnds(spec, 45), ElementsAre(15, 30));
  EXPECT_THAT(GenerationEnds(spec, 46), ElementsAre(15, 30, 45));
}

std::vector<SearchAxis> Axes() {
  return {{.name = "train.lr",
           .kind = SearchAxis::Kind::kReal,
           .low = 1e-4,
           .high = 1e-2,
           .logarithmic = true},
          {.name = "train.grad_clip", .choices = {"0.5", "1", "2"}, .numbers = {0.5, 1, 2}},
          {.name = "train.schedule", .choices = {"cosine", "linear"}},
          {.name = "train.warmup_steps", .kind = SearchAxis::Kind::kWhole, .low = 1, .high = 9}};
}

TEST(Population, AValueBecomesLargerOrSmallerByTheFactorAndCategoriesStay) {
  PopulationSpec spec = Spec(4);
  spec.resample = 0, spec.factor = 1.25;
  std::map<double, int> rates, clips, warmups;
  for (int64_t g = 1; g <= 400; ++g) {
    const auto values = Explore(spec, Axes(), {0.004, 1.0, 1.0, 2.0}, g, 3, 0);
    EXPECT_EQ(values, Explore(spec, Axes(), {0.004, 1.0, 1.0, 2.0}, g, 3, 0));
    ++rates[values[0]], ++clips[values[1]], ++warmups[values[3]];
    EXPECT_EQ(values[2], 1.0);
  }
  ASSERT_THAT(rates, SizeIs(2));
  EXPECT_THAT(rates[0.005], AllOf(Ge(150), Le(250)));
  EXPECT_THAT(rates[0.0032], AllOf(Ge(150), Le(250)));
  EXPECT_THAT(clips[0] + clips[2], 400);
  EXPECT_THAT(warmups[1] + warmups[3], 400) << "at least one further";
}

TEST(Population, AtABoundItGoesTheOtherWay) {
  PopulationSpec spec = Spec(4);
  spec.resample = 0, spec.factor = 2;
  for (int64_t g = 1; g <= 50; ++g) {
    const auto high = Explore(spec, Axes(), {0.01, 2.0, 0.0, 9.0}, g, 0, 0);
    EXPECT_THAT(high, ElementsAre(0.005, 1.0, 0.0, 5.0));
    const auto low = Explore(spec, Axes(), {1e-4, 0.0, 0.0, 1.0}, g, 0, 0);
    EXPECT_THAT(low, ElementsAre(2e-4, 1.0, 0.0, 2.0));
    EXPECT_THAT(Explore(spec, Axes(), {0.007, 1.0, 0.0, 2.0}, g, 0, 0)[0],
                testing::AnyOf(0.01, 0.0035))
        << "within its bounds";
  }
}

TEST(Population, SomeValuesAreDrawnAnew) {
  PopulationSpec spec = Spec(4);
  spec.resample = 0.3;
  int anew = 0, other = 0;
  for (int64_t g = 1; g <= 1000; ++g) {
    const double lr = Explore(spec, Axes(), {0.004, 1.0, 1.0, 2.0}, g, 1, 0)[0];
    EXPECT_THAT(lr, AllOf(Ge(1e-4), Le(1e-2)));
    anew += lr != 0.0048 && lr != 0.003333;
    other += Explore(spec, Axes(), {0.004, 1.0, 1.0, 2.0}, g, 1, 1)[0] != lr;
  }
  EXPECT_THAT(anew, AllOf(Ge(240), Le(360)));  // 300, with a standard deviation of 14
  EXPECT_GT(other, 300) << "another attempt is another draw";
  spec.resample = 1;
  std::set<double> schedules;
  for (int64_t g = 1; g <= 50; ++g)
    schedules.insert(Explore(spec, Axes(), {0.004, 1.0, 1.0, 2.0}, g, 1, 0)[2]);
  EXPECT_THAT(schedules, SizeIs(2));
}

constexpr char kPopulation[] =
    "axes: {train.lr: {log: [1e-4, 1e-2]}, train.weight_decay: [0, 0.1, 0.2]}\n"
    "search: {population: {members: 8, seed: 3, every: 25%}}\n";

TEST(Population, ItsPlanIsItsMembersAsTheyBegin) {
  const SweepPlan plan = PlanOrDie(File(kPopulation));
  ASSERT_NE(plan.population, nullptr);
  EXPECT_EQ(plan.search, nullptr);
  EXPECT_THAT(plan.population->ends, ElementsAre(10, 20, 30));
  const SweepPlan random =
      PlanOrDie(File("axes: {train.lr: {log: [1e-4, 1e-2]}, train.weight_decay: [0, 0.1, 0.2]}\n"
                     "search: {random: {trials: 8, seed: 3}}\n"));
  ASSERT_THAT(plan.trials, SizeIs(8));
  for (size_t m = 0; m < 8; ++m) {
    const PlannedTrial& t = plan.trials[m];
    EXPECT_EQ(plan.cells[m].name,
              absl::StrCat(random.cells[m].name, " member=", m, " generation=0"));
    EXPECT_THAT(plan.cells[m].flags, ElementsAre("search"));
    EXPECT_EQ(t.config.train.lr, random.trials[m].config.train.lr);
    EXPECT_EQ(t.until_step, 10);
    EXPECT_TRUE(t.own);
    EXPECT_NE(t.key, random.trials[m].key) << "it is nobody else's";
    const auto axes = nlohmann::json::parse(plan.cells[m].axes_json);
    EXPECT_EQ(axes["member"], m);
    EXPECT_EQ(axes["generation"], 0);
  }
  EXPECT_THAT(InWords(*plan.population),
              AllOf(HasSubstr("8 members, 4 generations; at step 10, 20, 30 the worst 2")));
  EXPECT_TRUE(NotYetServed(plan).ok());
  EXPECT_THAT(
      NotYetServed(PlanOrDie(File(std::string(kPopulation) + "objective: finetune/accuracy\n")))
          .message(),
      HasSubstr("a population compares"));
}

TEST(Population, ThePlanSaysWhatItCosts) {
  const PlanSummary s = Summarize(PlanOrDie(File(kPopulation)), 0);
  EXPECT_EQ(s.trials, 8);
  EXPECT_THAT(SummaryText(s), HasSubstr("population: 8 members, 4 generations"));
  const auto j = nlohmann::json::parse(SummaryJson(s));
  EXPECT_EQ(j["population"]["ends"], nlohmann::json({10, 20, 30}));
  EXPECT_EQ(j["population"]["replaced"], 2);
}

TEST(Population, UnderWsdMembersAreComparedBeforeTheCooldownAndSaySo) {
  const SweepPlan plan = PlanOrDie(
      "sweep: s\n"
      "trial:\n"
      "  model: {head_dim: 16}\n"
      "  data: {corpus: docs, seq_len: 32}\n"
      "  train: {steps: 40, batch_tokens: 1024, schedule: wsd}\n" +
      std::string(kPopulation));
  EXPECT_THAT(plan.cells[0].flags, ElementsAre("search", "uncooled_rungs"));
}

class Forks : public testing::Test {
 protected:
  const SweepPlan plan_ = PlanOrDie(
      File("axes: {train.lr: {log: [1e-4, 1e-2]}, train.schedule: [cosine, linear]}\n"
           "where: lr < 0.005\n"
           "search: {population: {members: 8, seed: 3, every: 25%, resample: 50%, factor: 4}}\n"));
  const PopulationPlan& population_ = *plan_.population;
  Fork fork_{.member = 2,
             .from = 5,
             .generation = 2,
             .step = 20,
             .trial = 31,
             .stage = 33,
             .checkpoint = "/w/step-000000000020",
             .digest = std::string(64, 'a'),
             .values = {0.002, 1}};
};

TEST_F(Forks, TheirValuesKeepTheConditionsAndDifferFromThoseTheyComeFrom) {
  std::set<SearchPoint> seen;
  for (int64_t g = 1; g <= 100; ++g) {
    const SearchPoint from = {0.004, 1.0};
    std::vector<SearchPoint> taken;
    for (int64_t m = 0; m < 3; ++m) {
      const auto values = ChooseValues(population_, from, taken, g, m);
      EXPECT_EQ(values, ChooseValues(population_, from, taken, g, m));
      EXPECT_LT(values[0], 0.005);
      const SearchPoint point = {values[0], values[1]};
      EXPECT_NE(point, from);
      EXPECT_EQ(std::find(taken.begin(), taken.end(), point), taken.end());
      taken.push_back(point);
    }
  }
}

TEST_F(Forks, WithNowhereToGoTheyHaveTheValuesTheyComeFrom) {
  const SweepPlan plan = PlanOrDie(
      File("axes: {train.lr: [0.001, 0.002, 0.003, 0.004]}\n"
           "where: lr < 0.0025\n"
           "search: {population: {members: 2, every: 25%, replace: 1/2, resample: 0}}\n"));
  EXPECT_THAT(ChooseValues(*plan.population, {0.0}, {}, 1, 0), ElementsAre(1.0));
  EXPECT_THAT(
      ChooseValues(*plan.population, {0.0}, std::vector<SearchPoint>{SearchPoint{1.0}}, 1, 0),
      ElementsAre(0.0));
}

TEST_F(Forks, AForkIsATrialThatBeginsFromAnothersState) {
  const auto made = MakeFork(population_, fork_, 11);
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(made->cell.name, "lr=0.002 schedule=linear member=2 generation=2");
  EXPECT_THAT(made->cell.flags, ElementsAre("search"));
  ASSERT_THAT(made->trials, SizeIs(1));
  const PlannedTrial& t = made->trials[0];
  EXPECT_EQ(t.cell, 11);
  EXPECT_EQ(t.config.train.lr, 0.002);
  EXPECT_EQ(t.config.init.trial, 31);
  EXPECT_EQ(t.config.init.step, 20);
  EXPECT_EQ(t.config.init.digest, fork_.digest);
  EXPECT_EQ(t.config.seed.data, plan_.trials[0].config.seed.data) << "all see the same data";
  EXPECT_EQ(t.until_step, 30);
  EXPECT_EQ(t.branch_stage, 33);
  EXPECT_EQ(t.branch_step, 20);
  EXPECT_EQ(MakeFork(population_, fork_, 11)->trials[0].key, t.key);
  spec::TrialSpec read;  // as the worker reads it
  EXPECT_TRUE(
      spec::ParseResolved(spec::Canonical(t.config, spec::With::kExecution).dump(), &read).empty());
  EXPECT_EQ(spec::Key(read), spec::Key(t.config));
  Fork other = fork_;
  other.digest[0] = 'b';
  EXPECT_NE(MakeFork(population_, other, 11)->trials[0].key, t.key);
  other = fork_, other.member = 3;
  EXPECT_NE(MakeFork(population_, other, 11)->trials[0].key, t.key);
  other = fork_, other.step = 30;
  EXPECT_EQ(MakeFork(population_, other, 11)->trials[0].until_step, -1) << "to its end";
}

TEST_F(Forks, WhatNoForkWasEverIsDataLoss) {
  Fork wrong = fork_;
  wrong.values = {0.009, 1};
  EXPECT_EQ(MakeFork(population_, wrong, 11).status().code(), absl::StatusCode::kDataLoss);
  wrong.values = {0.002};
  EXPECT_EQ(MakeFork(population_, wrong, 11).status().code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace plumb::sweeps
