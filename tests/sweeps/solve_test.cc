#include "sweeps/solve.h"

#include <cmath>
#include <random>

#include "gtest/gtest.h"
#include "trainer/spec/cost.h"
#include "trainer/spec/parse.h"

namespace plumb::sweeps {
namespace {

// Every candidate in turn; the smaller of two equally near.
std::optional<Solution> BruteForce(
    int64_t low, int64_t high, int64_t multiple_of, double target,
    const std::function<std::optional<double>(int64_t)>& measure_at) {
  std::optional<Solution> best;
  for (int64_t v = (low + multiple_of - 1) / multiple_of * multiple_of; v <= high;
       v += multiple_of) {
    const auto m = measure_at(v);
    if (m && (!best || std::abs(*m - target) < std::abs(best->reached - target)))
      best = Solution{v, *m};
  }
  return best;
}

struct Shape {
  const char* preset;
  int64_t n_layers, head_dim, n_heads, multiple_of;
};

TEST(Solve, FindsTheWidthThatTryingAllOfThemFinds) {
  for (const Shape& shape :
       {Shape{"llama", 2, 16, 0, 8}, Shape{"llama", 12, 0, 6, 1}, Shape{"gpt2", 4, 0, 4, 3},
        Shape{"gpt2", 8, 64, 0, 32}, Shape{"llama", 1, 8, 2, 1}}) {
    const auto measure_at = [&](int64_t d) -> std::optional<double> {
      spec::TrialSpec s;
      s.model.preset = shape.preset;
      s.model.n_layers = shape.n_layers, s.model.head_dim = shape.head_dim,
      s.model.n_heads = shape.n_heads;
      s.model.d_model = d;
      s.train.steps = 1;
      if (!spec::Resolve(&s).empty()) return std::nullopt;
      return spec::CountParameters(s.model).non_embedding;
    };
    for (double target : {1.0, 5e4, 3e5, 1e6, 1.234e6, 1e9}) {
      const auto want = BruteForce(1, 600, shape.multiple_of, target, measure_at);
      const auto got = SolveInteger(1, 600, shape.multiple_of, target, measure_at);
      ASSERT_TRUE(want && got);
      EXPECT_EQ(got->value, want->value) << shape.n_layers << " layers, target " << target;
      EXPECT_EQ(got->reached, want->reached);
    }
  }
}

TEST(Solve, AgreesWithBruteForceOnRandomStairs) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 500; ++round) {
    const int64_t high = 1 + random() % 80, m = 1 + random() % 5;
    const uint64_t gaps = 1 + random() % 4;
    std::vector<std::optional<double>> stairs(high + 1);
    double level = 0;
    for (auto& s : stairs) {
      level += 1 + random() % 10;  // strictly rising
      if (random() % gaps == 0) s = level;
    }
    const auto at = [&](int64_t v) { return stairs[v]; };
    const double target = random() % 500;
    const auto want = BruteForce(1, high, m, target, at),
               got = SolveInteger(1, high, m, target, at);
    ASSERT_EQ(want.has_value(), got.has_value()) << round;
    if (want) {
      EXPECT_EQ(want->value, got->value) << round;
    }
  }
}

TEST(Solve, HasNoAnswerWhereNoCandidateIsValid) {
  EXPECT_FALSE(SolveInteger(1, 100, 8, 5, [](int64_t) { return std::nullopt; }).has_value());
  EXPECT_FALSE(SolveInteger(1, 7, 8, 5, [](int64_t) { return 1.0; }).has_value());
}

}  // namespace
}  // namespace plumb::sweeps
