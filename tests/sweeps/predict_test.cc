// Work is counted exactly, prices are found again from runs that they made, and seconds and steps
// are each other's inverse.
#include "sweeps/predict.h"

#include <cmath>
#include <random>

#include "gtest/gtest.h"
#include "sweeps/calibration.h"
#include "sweeps/nonnegative.h"
#include "trainer/spec/parse.h"

namespace plumb::sweeps {
namespace {

spec::TrialSpec Trial(const std::string& json) {
  spec::TrialSpec s;
  const auto wrong = spec::ParseResolved(json, &s);
  EXPECT_TRUE(wrong.empty()) << spec::Format(wrong);
  return s;
}

spec::TrialSpec Shape(int64_t layers, int64_t width, int64_t sequences = 16) {
  return Trial(
      R"({"model": {"head_dim": 16, "n_layers": )" + std::to_string(layers) + R"(, "d_model": )" +
      std::to_string(width) +
      R"(}, "data": {"corpus": "c", "seq_len": 64}, "train": {"steps": 50, "batch_tokens": )" +
      std::to_string(64 * sequences) + "}}");
}

double At(const Work& w, Unit unit) { return w[static_cast<size_t>(unit)]; }

TEST(NonNegative, IsOrdinaryLeastSquaresWhereThatIsPositive) {
  const std::vector<double> x = NonNegativeLeastSquares({{1, 0}, {0, 1}, {1, 1}}, {1, 2, 3});
  EXPECT_NEAR(x[0], 1, 1e-12);
  EXPECT_NEAR(x[1], 2, 1e-12);
}

TEST(NonNegative, LeavesOutWhatWouldBeNegative) {
  // Unbounded, the second would be -1; without it the first is the mean over its rows, (2 + 1) / 2.
  const std::vector<double> x = NonNegativeLeastSquares({{1, 0}, {1, 1}}, {2, 1});
  EXPECT_NEAR(x[0], 1.5, 1e-12);
  EXPECT_EQ(x[1], 0);
}

TEST(NonNegative, NoSubsetOfColumnsIsNearer) {
  std::mt19937_64 random(7);
  std::normal_distribution<double> normal;
  for (int round = 0; round < 50; ++round) {
    std::vector<std::vector<double>> rows(8, std::vector<double>(4));
    std::vector<double> b(8);
    for (auto& row : rows) {
      for (size_t c = 0; c < row.size(); ++c)
        row[c] = normal(random) * std::pow(1e3, static_cast<double>(c));
    }
    for (double& v : b) v = normal(random);
    const auto error = [&](const std::vector<double>& x) {
      double sum = 0;
      for (size_t r = 0; r < rows.size(); ++r) {
        double rest = b[r];
        for (size_t c = 0; c < x.size(); ++c) rest -= rows[r][c] * x[c];
        sum += rest * rest;
      }
      return sum;
    };
    const std::vector<double> best = NonNegativeLeastSquares(rows, b);
    for (const double v : best) EXPECT_GE(v, 0);
    // It satisfies Kuhn and Tucker's conditions: no step from it, in a direction that is allowed,
    // is downhill.
    for (size_t c = 0; c < best.size(); ++c) {
      const double step = 1e-6 * (best[c] + std::pow(1e-3, static_cast<double>(c)));
      for (const double by : {step, -step}) {
        std::vector<double> other = best;
        other[c] += by;
        if (other[c] >= 0) {
          EXPECT_GE(error(other), error(best) * (1 - 1e-12)) << round << " " << c;
        }
      }
    }
  }
}

TEST(Work, OfAStepIsCountedExactly) {
  const spec::TrialSpec s = Shape(2, 32);
  const Work w = StepWork(s);
  // d_ff 88 (8/3 of 32 up to a multiple of 8): qkv, out, gate and up, down; the head.
  const double block = 32 * 96 + 32 * 32 + 32 * 176 + 88 * 32, head = 32 * 256;
  EXPECT_EQ(At(w, Unit::kStep), 1);
  EXPECT_EQ(At(w, Unit::kStepBlock), 2);
  EXPECT_EQ(At(w, Unit::kStepFlops), 3 * 2 * 1024 * (2 * block + head));
  EXPECT_EQ(At(w, Unit::kStepTraffic),
            1024 * (2 * (32 + 96 + 32 + 32 + 32 + 176 + 88 + 32) + 32 + 256));
  EXPECT_EQ(At(w, Unit::kStepScores), 1024.0 * 2 * 64 * 32);
  EXPECT_EQ(At(w, Unit::kStepVocabulary), 1024.0 * 256);
  EXPECT_EQ(At(w, Unit::kStepParameters), 2 * (block + 2 * 32) + head + 256 * 32 + 32);
  EXPECT_EQ(At(w, Unit::kPass), 0);
}

TEST(Work, OfEvaluationsFollowsTheirScheduleAndTheSplits) {
  const spec::TrialSpec s = Trial(R"({"model": {"head_dim": 16, "n_layers": 2, "d_model": 32},
    "data": {"corpus": "c", "seq_len": 64}, "train": {"steps": 50, "batch_tokens": 1024},
    "eval": {"points": 4, "tokens": 8192, "final_tokens": 0, "train_tokens": 4096}})");
  // Three times tune and val of 2 passes; four times train of 1; at the end all of tune (1 pass, it
  // is short), of val (3) and of test (2).
  const Work w = WorkBesideSteps(s, {.tune = 4096, .val = 3 * 4096, .test = 8192});
  EXPECT_EQ(At(w, Unit::kPass), 3 * (1 + 2) + 4 + 1 + 3 + 2);
  EXPECT_EQ(At(w, Unit::kPassBlock), 2 * At(w, Unit::kPass));
  EXPECT_EQ(At(w, Unit::kTrial), 1);
  EXPECT_EQ(At(TrainingWork(s, {}), Unit::kStep), 50);
}

TEST(Work, AMicroBatchIsDispatchedOnItsOwn) {
  spec::TrialSpec s = Shape(3, 32);
  s.execution.micro_batch = 5;  // of 16: four times
  EXPECT_EQ(At(StepWork(s), Unit::kStepBlock), 3 * 4);
  EXPECT_EQ(At(StepWork(s), Unit::kStepFlops), At(StepWork(Shape(3, 32)), Unit::kStepFlops));
}

Prices Truth() {
  Prices p{.device = "d"};
  p.seconds = {1e-4, 3e-4,  1e-11, 2e-9,  2e-10, 1e-10, 2e-9, 1e-4,
               1e-4, 1e-11, 1e-9,  1e-10, 1e-10, 0.05,  1e-8};
  return p;
}

std::vector<Measured> RunsOf(const Prices& truth, double noise) {
  std::mt19937_64 random(3);
  std::uniform_real_distribution<double> off(-noise, noise);
  std::vector<Measured> out;
  for (const int64_t layers : {1, 2, 5, 12}) {
    for (const int64_t width : {32, 64, 160}) {
      for (const int64_t sequences : {4, 32}) {
        const spec::TrialSpec s = Shape(layers, width, sequences);
        const auto add = [&](const Work& w) {
          out.push_back({CostKey(s), KindOf(s), w, Seconds(truth, w) * (1 + off(random)), 1});
        };
        add(StepWork(s)), add(PassWork(s)), add(TrainingWork(s, {}));
      }
    }
  }
  return out;
}

TEST(Calibration, PredictsWhatThePricesItWasMadeByPredict) {
  const auto fit = FitPrices("d", 1, RunsOf(Truth(), 0));
  ASSERT_TRUE(fit.ok()) << fit.status();
  EXPECT_EQ(fit->band, 0.05);  // never less
  EXPECT_EQ(fit->shapes, 24);
  for (const int64_t layers : {1, 3, 8}) {
    for (const int64_t width : {48, 96, 128}) {
      const spec::TrialSpec s = Shape(layers, width, 16);
      EXPECT_NEAR(PredictSeconds(*fit, s, {}) / PredictSeconds(Truth(), s, {}), 1, 0.01)
          << layers << " " << width;
    }
  }
}

TEST(Calibration, SaysHowFarItIsOff) {
  const auto fit = FitPrices("d", 1, RunsOf(Truth(), 0.3));
  ASSERT_TRUE(fit.ok());
  EXPECT_GT(fit->band, 0.2);
  EXPECT_LT(fit->band, 0.5);
}

TEST(Calibration, GivesEachKindOfBlockItsFactor) {
  std::vector<Measured> runs = RunsOf(Truth(), 0);
  for (Measured m : RunsOf(Truth(), 0)) {
    m.kind = "slow", m.seconds *= 1.5, m.shape += "slow";
    runs.push_back(m);
  }
  const auto fit = FitPrices("d", 1, runs);
  ASSERT_TRUE(fit.ok());
  const double ratio = KindFactor(*fit, "slow") / KindFactor(*fit, KindOf(Shape(2, 32)));
  EXPECT_NEAR(ratio, 1.5, 0.02);
  EXPECT_EQ(KindFactor(*fit, "never seen"), 1);
  EXPECT_NE(
      KindOf(Trial(
          R"({"model": {"preset": "gpt2"}, "train": {"steps": 1}, "data": {"corpus": "c"}})")),
      KindOf(Shape(1, 32)));
  EXPECT_EQ(KindOf(Shape(9, 64, 3)), KindOf(Shape(1, 32)));
}

TEST(Calibration, RefusesToSpeakOfOneShape) {
  const Measured one{"a", "k", StepWork(Shape(1, 32)), 1, 1};
  EXPECT_FALSE(FitPrices("d", 1, {one, one}).ok());
}

TEST(StepsIn, IsTheInverseOfPredictedSeconds) {
  const Prices prices = Truth();
  spec::TrialSpec s = Shape(3, 64);
  s.eval.points = 10;
  for (const int64_t steps : {10, 57, 100000}) {
    s.train.steps = steps;
    EXPECT_EQ(StepsIn(prices, s, {}, PredictSeconds(prices, s, {})), steps);
  }
  EXPECT_EQ(StepsIn(prices, s, {}, 1e-3), 0) << "evaluations alone take longer";
}

TEST(CostKey, IsEqualForSeedsAndRatesAlone) {
  spec::TrialSpec a = Shape(1, 32), b = a;
  b.seed.init = 7, b.train.lr = 0.5;
  EXPECT_EQ(CostKey(a), CostKey(b));
  b.train.steps += 1;
  EXPECT_NE(CostKey(a), CostKey(b));
}

}  // namespace
}  // namespace plumb::sweeps
