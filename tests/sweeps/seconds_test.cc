// Budgets, targets and arms in seconds, by prices that stand in the file.
#include <cmath>
#include <nlohmann/json.hpp>

#include "sweeps/predict.h"
#include "sweeps/read_calibration.h"
#include "tests/sweeps/corpora.h"
#include "trainer/spec/cost.h"

namespace plumb::sweeps {
namespace {

Prices SomePrices() {
  Prices p{.device = "cpu: \"x\"", .band = 0.07, .shapes = 9};
  p.seconds = {1e-4, 3e-4,  1.0 / 3e10, 2e-9,  2e-10, 1e-10, 2e-9, 1e-4,
               1e-4, 1e-11, 1e-9,       1e-10, 1e-10, 0.05,  1e-8};
  p.kinds = {{"123e4567abcd", 1.1}, {"0123456789ab", 0.9}};
  return p;
}

std::string File(const std::string& budget, const std::string& more) {
  return "sweep: s\ntrial: {model: {head_dim: 8, d_model: 32, n_layers: 2}, data: {corpus: docs, "
         "seq_len: 32}, train: {" +
         budget + (budget.empty() ? "" : ", ") +
         "batch_tokens: 1024}, eval: {points: 2, tokens: 4096, final_tokens: 4096}}\n" + more;
}

double SecondsOf(const PlannedTrial& t) { return PredictSeconds(SomePrices(), t.config, {}); }

TEST(Calibration, IsWrittenIntoTheFileOnceAndReadBackBitForBit) {
  const std::string file = File("seconds: 60", "# ä comment\n");
  ASSERT_TRUE(WantsPrices(file));
  const std::string with = WithPrices(file, SomePrices());
  EXPECT_FALSE(WantsPrices(with));
  const SweepPlan plan = PlanOrDie(with);
  ASSERT_TRUE(plan.prices);
  EXPECT_EQ(*plan.prices, SomePrices());
  // In place of a name.
  const std::string named = WithPrices("calibration: \"cpu: y\"  # mine\n" + file, SomePrices());
  EXPECT_EQ(WantsPrices("calibration: \"cpu: y\"\n" + file)->device, "cpu: y");
  EXPECT_EQ(*PlanOrDie(named).prices, SomePrices());
  EXPECT_NE(named.find("}  # mine\n"), std::string::npos) << named;
  EXPECT_FALSE(WantsPrices(File("steps: 5", "")));
}

TEST(Seconds, WithoutACalibrationAreRefusedAtTheirPlace) {
  for (const std::string& file :
       {File("seconds: 60", ""), File("", "axes: {train.seconds: [60, 120]}\n"),
        File("steps: 9", "where: seconds < 9\n"),
        File("steps: 9", "axes: {model.d_ff: {solve: seconds, target: 60}}\n"),
        File("steps: 9", "variants: {a: {}, b: {model.n_layers: 3}}\nalso_match: [seconds]\n")}) {
    EXPECT_NE(Errors(file).find("seconds need a calibration of the machine that trains: run `plumb "
                                "sweep plan --calibrate`"),
              std::string::npos)
        << file << Errors(file);
  }
  EXPECT_NE(Errors(File("seconds: 60", "calibration: a10\n")).find("4:"), std::string::npos);
}

TEST(Seconds, AsABudgetAreWholeStepsAndAlwaysTheSame) {
  const std::string file = WithPrices(
      File("", "axes: {train.seconds: [30, 60], model.n_layers: [1, 4]}\n"), SomePrices());
  const SweepPlan plan = PlanOrDie(file), again = PlanOrDie(file);
  ASSERT_EQ(plan.trials.size(), 4u);
  for (size_t i = 0; i < plan.trials.size(); ++i) {
    const spec::TrialSpec& s = plan.trials[i].config;
    EXPECT_EQ(plan.trials[i].key, again.trials[i].key);
    spec::TrialSpec one_more = s;
    one_more.train.steps += 1;
    const double step = PredictSeconds(SomePrices(), one_more, {}) - SecondsOf(plan.trials[i]);
    EXPECT_LE(std::abs(SecondsOf(plan.trials[i]) - (i < 2 ? 30 : 60)), step / 2 * (1 + 1e-9)) << i;
  }
  EXPECT_EQ(plan.cells[0].name, "seconds=30 n_layers=1");
}

TEST(Seconds, TooFewForTheEvaluationsRefuseTheCell) {
  EXPECT_NE(Errors(WithPrices(File("seconds: 0.01", ""), SomePrices()))
                .find("are not enough for its evaluations"),
            std::string::npos);
}

TEST(Seconds, AreSolvedFor) {
  const SweepPlan plan =
      PlanOrDie(WithPrices(File("steps: 100",
                                "axes:\n  model.n_layers: [1, 2, 4]\n  model.d_ff: {solve: "
                                "seconds, target: 10, multiple_of: 4}\n"),
                           SomePrices()));
  ASSERT_EQ(plan.trials.size(), 3u);
  for (const PlannedTrial& t : plan.trials) {
    for (const int64_t by : {-4, 4}) {
      spec::TrialSpec other = t.config;
      other.model.d_ff += by;
      EXPECT_LE(std::abs(SecondsOf(t) - 10),
                std::abs(PredictSeconds(SomePrices(), other, {}) - 10));
    }
  }
  EXPECT_EQ(plan.residuals[0].measure, "seconds");
  EXPECT_NE(
      Errors(WithPrices(File("seconds: 60", "axes: {model.d_ff: {solve: seconds, target: 9}}\n"),
                        SomePrices()))
          .find("the budget is given in seconds, whatever the shape"),
      std::string::npos);
}

TEST(Seconds, AreMatchedByTheBudget) {
  const SweepPlan plan =
      PlanOrDie(WithPrices(File("steps: 200",
                                "variants: {thin: {}, deep: {model.n_layers: 6}}\nalso_match: "
                                "[seconds]\nwhere: seconds > 0\n"),
                           SomePrices()));
  ASSERT_EQ(plan.cells.size(), 3u);
  EXPECT_EQ(plan.cells[2].name, "variant=deep@seconds");
  EXPECT_EQ(plan.trials[1].config.train.steps, 200);
  EXPECT_LT(plan.trials[2].config.train.steps, 100);
  EXPECT_NEAR(SecondsOf(plan.trials[2]) / SecondsOf(plan.trials[0]), 1, 0.02);
}

TEST(Seconds, OfAnotherNumberOfThreadsAreNotKnown) {
  const std::string file = File("seconds: 60", "");
  std::string more = file;
  more.replace(more.find("eval:"), 5, "execution: {threads: 2}, eval:");
  EXPECT_EQ(WantsPrices(more)->threads, 2);
  EXPECT_NE(Errors(WithPrices(more, SomePrices())).find("is calibrated for 1 thread(s) a trial"),
            std::string::npos);
}

TEST(TokensPerParam, AreOfAllParameters) {
  const SweepPlan plan =
      PlanOrDie(File("", "axes: {train.tokens_per_param: [2, 20], model.d_model: [32, 64]}\n"));
  ASSERT_EQ(plan.trials.size(), 4u);
  for (const PlannedTrial& t : plan.trials) {
    const double each = t.cell < 2 ? 2 : 20;
    EXPECT_NEAR(static_cast<double>(spec::TotalTokens(t.config)),
                each * static_cast<double>(t.params.total), 512);
  }
  EXPECT_NE(Errors(File("tokens_per_param: 20, tokens: 9", "")).find("a second budget"),
            std::string::npos);
  EXPECT_NE(Errors(File("tokens_per_param: 20 * n_layers", "")).find("is a number"),
            std::string::npos);
  // Solving for what the budget makes of it.
  const SweepPlan solved =
      PlanOrDie(File("tokens_per_param: 20",
                     "axes: {model.d_ff: {solve: flops, target: 2e11, multiple_of: 4}}\n"));
  EXPECT_NEAR(solved.residuals[0].relative(), 0, 0.05);
}

}  // namespace
}  // namespace plumb::sweeps
