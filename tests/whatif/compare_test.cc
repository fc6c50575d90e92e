// Searches beside each other, and the curves that they see.
#include "whatif/compare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>

#include "absl/strings/str_cat.h"
#include "whatif/curves.h"

namespace plumb::whatif {
namespace {

using sweeps::PlannedTrial;
using sweeps::SweepPlan;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

SweepPlan PlanOf(const std::string& rest) {
  const std::string yaml = absl::StrCat(R"(sweep: s
trial:
  model: {n_layers: 1, d_model: 32, head_dim: 16}
  data: {corpus: c, tokenizer: bytes, seq_len: 64}
  train: {steps: 90, batch_tokens: 1024, lr: 1e-3}
)",
                                        rest);
  auto plan = sweeps::PlanSweep(yaml, "f.yaml", [](const std::string&, const std::string&) {
    return sweeps::CorpusInfo{.digest = "d", .vocab_size = 256, .train_tokens = 1'000'000'000};
  });
  EXPECT_TRUE(plan.ok()) << plan.status();
  return TrainingsOf(*std::move(plan));
}
constexpr char kNine[] =
    "axes: {train.beta2: [0.9, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96, 0.97, 0.98]}\n";
constexpr char kRates[] =
    "axes: {model.d_model: [32, 64]}\n"
    "tune: {train.lr: {log: [1e-3, 1e-1], points: 9}}\nreplicates: 2\n";

Cluster Machines(int64_t workers) {
  Cluster out{.seconds_per_step = [](const PlannedTrial&) { return 1.0; }};
  for (int64_t i = 0; i < workers; ++i) out.machines.push_back({.slots = 1});
  return out;
}

// Worth what a function of the cell says, from the start.
class Known : public Curves {
 public:
  using Worth = std::function<double(const PlannedTrial&)>;
  explicit Known(Worth worth) : worth_(std::move(worth)) {}
  double At(const PlannedTrial& t, int64_t step) const override {
    return worth_(t) + 1 / static_cast<double>(step + 1);
  }
  double Truth(const PlannedTrial& t) const override { return worth_(t); }

 private:
  Worth worth_;
};
MakeCurves Always(Known::Worth worth) {
  return [worth](uint64_t) { return std::make_unique<Known>(worth); };
}

std::vector<std::string> Names(const std::vector<Row>& rows) {
  std::vector<std::string> out;
  for (const Row& r : rows) out.push_back(r.strategy.name);
  return out;
}

TEST(Compare, GridFindsTheBestAndCostsAll) {
  const SweepPlan plan = PlanOf(kNine);
  const auto rows =
      Compare(plan, Machines(2), Strategies(plan, 1.0 / 3),
              Always([](const PlannedTrial& t) { return 2 - 0.1 * static_cast<double>(t.cell); }),
              {.seeds = 5});
  ASSERT_TRUE(rows.ok()) << rows.status();
  EXPECT_THAT(Names(*rows),
              ElementsAre("grid", "asha-stop", "asha-promote", "hyperband", "median", "random"));
  const Row& grid = rows->front();
  EXPECT_EQ(grid.regret.mean, 0);
  EXPECT_EQ(grid.steps.mean, 9 * 90);
  EXPECT_DOUBLE_EQ(grid.slot_hours.mean, 9 * 90 / 3600.0);
  EXPECT_DOUBLE_EQ(grid.hours.mean, 5 * 90 / 3600.0);
  EXPECT_FALSE(grid.regret_minus_grid);
  // The worst order there is, each better than those before it: a third of nine, a third of three.
  const Row& promote = (*rows)[2];
  EXPECT_EQ(promote.regret.mean, 0);
  EXPECT_EQ(promote.steps.mean, 9 * 10 + 3 * 20 + 60);
  EXPECT_EQ(promote.regret_minus_grid->mean, 0);
  // Three of nine, drawn anew by each seed: a third of the steps, and not always the best.
  const Row& random = rows->back();
  EXPECT_EQ(random.steps.mean, 3 * 90);
  EXPECT_GT(random.regret.mean, 0);
  EXPECT_GT(random.regret.sd, 0);
}

TEST(Compare, OfATunedPlanRegretIsTheMeanOverCells) {
  const SweepPlan plan = PlanOf(kRates);
  EXPECT_EQ(ScopeOf(plan), Scope::kTune);
  // In cell 1 the best rate shows nothing: its run diverges, so the next best is chosen.
  const auto worth = [](const PlannedTrial& t) {
    return std::abs(std::log10(t.config.train.lr / 1e-2));
  };
  struct Dies : Known {
    using Known::Known;
    double At(const PlannedTrial& t, int64_t step) const override {
      const bool dies = t.cell == 1 && std::abs(Truth(t)) < 1e-9 && step > 5;
      return dies ? std::numeric_limits<double>::infinity() : Known::At(t, step);
    }
  };
  const auto rows = Compare(plan, Machines(2), {{.name = "grid"}},
                            [&](uint64_t) { return std::make_unique<Dies>(worth); }, {.seeds = 2});
  ASSERT_TRUE(rows.ok()) << rows.status();
  EXPECT_NEAR(rows->front().regret.mean, 0.25 / 2, 1e-4);  // a quarter of a decade, in one of two
  EXPECT_EQ(rows->front().choosing_steps.mean, 17 * 90 + 6);
  EXPECT_EQ(rows->front().steps.mean, 17 * 90 + 6 + 2 * 2 * 90);
  EXPECT_EQ(rows->front().undecided, 0);
}

TEST(Compare, TheFilesOwnRuleIsOneOfThem) {
  const SweepPlan plan = PlanOf(absl::StrCat(
      kNine, "stop: {asha: {rungs: [20%, 50%], keep: 1/2, mode: promote}, across: cells}\n"));
  const auto strategies = Strategies(plan, 0.5);
  EXPECT_EQ(strategies.back().name, "file");
  EXPECT_THAT(strategies.back().rule, HasSubstr("asha at 20%, 50%, keep 1/2, promote"));
  EXPECT_THAT(strategies[1].rule, HasSubstr("asha at 20%, 50%, keep 1/2, stop"));
  EXPECT_THAT(strategies[3].rule, HasSubstr("hyperband from 20%"));
  const auto worth = Always([](const PlannedTrial& t) { return static_cast<double>(t.cell); });
  const auto rows = Compare(plan, Machines(2), strategies, worth, {.seeds = 3});
  ASSERT_TRUE(rows.ok()) << rows.status();
  EXPECT_EQ(rows->back().steps.mean, (*rows)[2].steps.mean) << "it is asha with promotion";
  EXPECT_EQ(rows->front().steps.mean, 9 * 90) << "the grid runs without the file's rule";
}

TEST(Compare, IsReproducibleFromItsSeedAndAnotherSeedIsAnotherWorld) {
  const SweepPlan plan = PlanOf(kRates);
  const MakeCurves make = [&](uint64_t seed) { return Invented(plan, {.seed = seed}); };
  const auto regrets = [&](uint64_t seed) {
    const auto rows = Compare(plan, Machines(3), Strategies(plan, 1.0 / 3), make,
                              {.seeds = 4, .first_seed = seed});
    EXPECT_TRUE(rows.ok()) << rows.status();
    std::string out;
    for (const Row& r : *rows) {
      for (const Score& s : r.scores) absl::StrAppend(&out, s.regret, "/", s.steps, " ");
    }
    return out;
  };
  EXPECT_EQ(regrets(1), regrets(1));
  EXPECT_NE(regrets(1), regrets(2));
}

TEST(Compare, NothingCanBeChosenWhereAllDiverges) {
  const SweepPlan plan = PlanOf(kNine);
  const auto rows =
      Compare(plan, Machines(2), {{.name = "grid"}},
              Always([](const PlannedTrial&) { return std::numeric_limits<double>::infinity(); }),
              {.seeds = 1});
  EXPECT_THAT(rows.status().message(), HasSubstr("every candidate diverges"));
}

// ---- curves

TEST(Invented, WithoutNoiseAndCrossingIsThePowerLaw) {
  const SweepPlan plan = PlanOf(kRates);
  const Family clean{.seed = 3, .spread = 0, .crossing = 0, .seed_sd = 0, .noise = 0};
  const auto curves = Invented(plan, clean);
  const PlannedTrial& t = plan.trials[0];
  const double n = static_cast<double>(t.params.non_embedding) * 1e-6, d = 90 * 1024 * 1e-6;
  // The cell's best rate is shifted by what only the seed knows; three rates give the parabola's
  // curvature, 0.3 a decade squared: second differences at quarter decades are 0.6 / 16.
  const double a = curves->Truth(plan.trials[0]), b = curves->Truth(plan.trials[1]),
               c = curves->Truth(plan.trials[2]);
  EXPECT_NEAR(a - 2 * b + c, 0.6 / 16, 1e-4);
  const double least = 0.8 + 0.5 * std::pow(n, -0.2) + 1.2 * std::pow(d + 0.01, -0.25);
  EXPECT_GE(a, least);
  EXPECT_LT(b, least + 0.3);
  EXPECT_DOUBLE_EQ(curves->At(t, 90), a);
  // Tokens alone: the same rate at a third of the steps.
  const double third = curves->At(t, 30);
  EXPECT_NEAR(third - a, 1.2 * (std::pow(d / 3 + 0.01, -0.25) - std::pow(d + 0.01, -0.25)), 1e-9);
}

TEST(Invented, LargeRatesLeadEarlyAndTooLargeOnesDiverge) {
  const SweepPlan plan =
      PlanOf("axes: {model.d_model: [32]}\ntune: {train.lr: [1e-3, 3e-2, 1e1]}\n");
  const auto curves = Invented(plan, {.seed = 1, .crossing = 1, .seed_sd = 0, .noise = 0});
  const PlannedTrial &small = plan.trials[0], &large = plan.trials[1], &huge = plan.trials[2];
  EXPECT_LT(curves->At(large, 1), curves->At(small, 1));
  EXPECT_FALSE(std::isfinite(curves->Truth(huge)));
  EXPECT_TRUE(std::isfinite(curves->At(huge, 1)));
  EXPECT_FALSE(std::isfinite(curves->At(huge, 30)));
}

TEST(Invented, NoiseHasTheGivenDeviationAndReplicatesShareHalfOfIt) {
  SweepPlan plan = PlanOf(absl::StrCat(kNine, "replicates: 200\n"));
  const auto curves = Invented(plan, {.seed = 5, .seed_sd = 0.1, .noise = 0});
  double sum = 0, squares = 0, products = 0;
  for (size_t r = 0; r < 200; ++r) {
    const PlannedTrial &a = plan.trials[r], &b = plan.trials[200 + r];  // of cells 0 and 1
    ASSERT_EQ(a.replicate, b.replicate);
    const double x = curves->At(a, 90) - curves->Truth(a), y = curves->At(b, 90) - curves->Truth(b);
    sum += x, squares += x * x, products += x * y;
  }
  EXPECT_NEAR(sum / 200, 0, 0.03);
  EXPECT_NEAR(std::sqrt(squares / 200), 0.1, 0.02);
  EXPECT_NEAR(products / squares, 0.5, 0.2);
}

TEST(Recorded, ShowsWhatWasRecordedAndLinesBetween) {
  const SweepPlan plan = PlanOf(kRates);
  const PlannedTrial &a = plan.trials[0], &b = plan.trials[1], &c = plan.trials[2];
  const std::string cell = plan.cells[0].name;
  Recorded curves(plan, {{a.key, {cell, PointOf(a), {{30, 3.0}, {90, 2.0}}, false, true}},
                         {b.key, {cell, PointOf(b), {{30, 4.0}}, true, true}},
                         {c.key, {cell, PointOf(c), {{30, 4.0}}, false, false}}});
  EXPECT_TRUE(curves.Has(a));
  EXPECT_DOUBLE_EQ(curves.At(a, 10), 3);
  EXPECT_DOUBLE_EQ(curves.At(a, 60), 2.5);
  EXPECT_DOUBLE_EQ(curves.At(a, 90), 2);
  EXPECT_DOUBLE_EQ(curves.Truth(a), 2);
  EXPECT_DOUBLE_EQ(curves.At(b, 30), 4);
  EXPECT_FALSE(std::isfinite(curves.At(b, 31)));
  EXPECT_FALSE(std::isfinite(curves.Truth(b)));
  EXPECT_FALSE(curves.Has(c)) << "it was stopped: nobody knows its end";
  PlannedTrial replicate = a;  // of the winner, on another seed
  replicate.key = "other";
  EXPECT_DOUBLE_EQ(curves.At(replicate, 60), 2.5);
}

TEST(Figure, HasAPointWithItsIntervalForEachSearch) {
  const SweepPlan plan = PlanOf(kNine);
  const auto rows =
      Compare(plan, Machines(2), Strategies(plan, 0.5),
              [&](uint64_t seed) { return Invented(plan, {.seed = seed}); }, {.seeds = 4});
  ASSERT_TRUE(rows.ok());
  const analysis::PointsFigure f = Figure(*rows, "what if", "test/loss");
  ASSERT_EQ(f.points.size(), 6);
  EXPECT_LT(f.points[5].x, f.points[0].x);
  const std::string text = analysis::Terminal(f, {});
  EXPECT_THAT(text, HasSubstr("asha-promote"));
  EXPECT_THAT(analysis::Svg(f), HasSubstr("</svg>"));
  EXPECT_THAT(analysis::Csv(f), HasSubstr("label,x,x_low,x_high,y,y_low,y_high\ngrid,"));
}

}  // namespace
}  // namespace plumb::whatif
