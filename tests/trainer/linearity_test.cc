// The linearity score against closed forms (shape_and_linearity.md, 2.3: Hadamard columns), against
// least squares by LAPACK, and its invariances.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "trainer/counter_random.h"
#include "trainer/linearity/geometry.h"
#include "trainer/linearity/held_out.h"
#include "trainer/linearity/score.h"
#include "trainer/linearity/transitions.h"

namespace plumb::trainer::linearity {
namespace {

using at::Tensor;

constexpr double kTight = 1e-10;

// Column j of the Hadamard matrix of order 8: mean 0 and squared norm 8 for j >= 1.
Tensor H(int j) {
  Tensor h = at::empty({8}, at::kDouble);
  for (int i = 0; i < 8; ++i)
    h.data_ptr<double>()[i] = __builtin_popcount(static_cast<unsigned>(i & j)) % 2 ? -1 : 1;
  return h;
}
Tensor Columns(const std::vector<Tensor>& columns) { return at::stack(columns, 1); }

Tensor Normal(int64_t n, int64_t d, uint64_t key) {
  const CounterRandom random(Mix(key));
  Tensor t = at::empty({n, d}, at::kDouble);
  for (int64_t i = 0; i < n * d; ++i)
    t.data_ptr<double>()[i] = std::sqrt(-2 * std::log(1 - random.Uniform(2 * i))) *
                              std::cos(2 * M_PI * random.Uniform(2 * i + 1));
  return t;
}

// What least squares leave, by another way: LAPACK's SVD on the centred states themselves.
double LeftOf(const Tensor& x, const Tensor& y) {
  const Tensor xc = x - x.mean(0), yc = y - y.mean(0);
  const Tensor u = std::get<0>(at::linalg_svd(xc, false));
  const Tensor s = std::get<1>(at::linalg_svd(xc, false));
  const Tensor kept = u.narrow(1, 0, s.gt(1e-12 * s[0].item<double>()).sum().item<int64_t>());
  return (yc - kept.mm(kept.t().mm(yc))).square().sum().item<double>();
}
double All(const Tensor& y) { return (y - y.mean(0)).square().sum().item<double>(); }

// x + tanh of another map of it: neither linear nor unrelated.
struct Data {
  Tensor x, y;
};
Data Curved(int64_t n, int64_t d, double size = 0.5) {
  const Tensor x = Normal(n, d, 1);
  return {x, x + size * at::tanh(x.mm(Normal(d, d, 2)))};
}

TEST(Linearity, T1IsFiveSevenths) {
  const Tensor x = Columns({H(1), H(2)}), y = Columns({H(1) + H(3), 2 * H(2) + H(4)});
  const Linearity l = ScoreOf(x, y);
  EXPECT_NEAR(l.score, 5.0 / 7, kTight);
  EXPECT_NEAR(l.score_without, 1.0 / 3, kTight);
  EXPECT_EQ(l.n, 8);
  EXPECT_EQ(l.rank, 2);
  EXPECT_NEAR(l.floor, 2.0 / 7, kTight);
  EXPECT_NEAR(l.adjusted, 1 - (2.0 / 7) * 7 / 5, kTight);
  // Of its dimensions: 8 of 16 are explained, and 32 of 40.
  EXPECT_NEAR(l.standardized, (0.5 + 0.8) / 2, kTight);
  const Linearity moved = ScoreOf(x + 1000, y - 3e4);
  EXPECT_NEAR(moved.score, 5.0 / 7, kTight);
  EXPECT_NEAR(moved.score_without, 1.0 / 3, kTight);
}

// "Procrustes similarity" is the paper's name alone: with a rotation in place of any matrix the
// same states score otherwise, 2 s - 1 and, at the best scale, s^2, of the nuclear norm s.
TEST(Linearity, T1bOrthogonalProcrustesIsAnotherNumber) {
  const Tensor x = Columns({H(1), H(2)}), y = Columns({H(1) + H(3), 2 * H(2) + H(4)});
  const auto unit = [](const Tensor& t) {
    const Tensor c = t - t.mean(0);
    return c / c.square().sum().sqrt();
  };
  const double s = std::get<1>(at::linalg_svd(unit(x).t().mm(unit(y)))).sum().item<double>();
  EXPECT_NEAR(s * s, 9.0 / 14, kTight);
  EXPECT_NEAR(2 * s - 1, 0.6035675, 1e-7);
  EXPECT_GT(std::abs(ScoreOf(x, y).score - s * s), 0.07);
}

TEST(Linearity, T2AnAffineImageIsExact) {
  const Tensor x = Normal(50, 6, 3);
  const Linearity l = ScoreOf(x, x.mm(Normal(6, 6, 4)) + Normal(1, 6, 5));
  EXPECT_NEAR(l.score, 1, kTight);
  EXPECT_NEAR(l.score_without, 1, kTight);
  EXPECT_NEAR(l.standardized, 1, kTight);
}

TEST(Linearity, T3UncorrelatedIsZero) {
  EXPECT_NEAR(ScoreOf(Columns({H(1), H(2)}), Columns({H(3), H(4)})).score, 0, kTight);
}

TEST(Linearity, T4AnUncorrelatedMoveHasTheLawOfItsSize) {
  const Tensor x = Columns({H(1), H(2)});
  for (const double rho : {1e-4, 0.1, 0.2, 0.5, 1.0, 30.0}) {
    const Linearity l = ScoreOf(x, x + rho * Columns({H(3), H(4)}));
    EXPECT_NEAR(l.score, 1 / (1 + rho * rho), kTight) << rho;
    EXPECT_NEAR(l.rho, rho, kTight * rho);
    EXPECT_NEAR(l.rho_law, l.score, kTight);
    EXPECT_NEAR(l.score_without, 0, kTight) << rho;
  }
}

TEST(Linearity, T5ARepeatedColumnIsFiniteAndTwoThirds) {
  const Linearity l = ScoreOf(Columns({H(1), H(1)}), Columns({H(1) + H(3), H(1)}));
  EXPECT_EQ(l.rank, 1);
  EXPECT_NEAR(l.score, 2.0 / 3, kTight);
  EXPECT_NEAR(l.score_without, 0, kTight);
}

TEST(Linearity, T6IndependentStatesHaveTheChanceFloor) {
  for (const auto& [n, d] : std::vector<std::pair<int64_t, int64_t>>{{1000, 10}, {300, 200}}) {
    double sum = 0, squares = 0, adjusted = 0;
    constexpr int kDraws = 12;
    double floor = 0;
    for (uint64_t i = 0; i < kDraws; ++i) {
      const Linearity l = ScoreOf(Normal(n, d, 100 + i), Normal(n, d, 200 + i));
      sum += l.score, squares += l.score * l.score, adjusted += l.adjusted, floor = l.floor;
    }
    const double mean = sum / kDraws;
    const double se = std::sqrt((squares / kDraws - mean * mean) / (kDraws - 1));
    EXPECT_NEAR(floor, static_cast<double>(d) / static_cast<double>(n - 1), kTight);
    EXPECT_NEAR(mean, floor, 3 * se);
    EXPECT_NEAR(adjusted / kDraws, 0, 3 * se / (1 - floor));
  }
}

TEST(Linearity, T7WithNoMoreTokensThanDimensionsItSaysNothing) {
  const Linearity l = ScoreOf(Normal(7, 6, 8), Normal(7, 6, 9));
  EXPECT_NEAR(l.score, 1, kTight);
  EXPECT_EQ(l.floor, 1);
  EXPECT_TRUE(std::isnan(l.adjusted)) << "nothing is left to correct with";
}

TEST(Linearity, AgreesWithLeastSquaresByAnotherWay) {
  const auto [x, y] = Curved(400, 24);
  const Linearity l = ScoreOf(x, y);
  EXPECT_NEAR(l.score, 1 - LeftOf(x, y) / All(y), kTight);
  EXPECT_NEAR(l.score_without, 1 - LeftOf(x, y) / All(y - x), kTight);
  EXPECT_LT(l.score_without, 0.99);
  EXPECT_NEAR(l.rho, std::sqrt(All(y - x) / All(x)), kTight);
}

// linearity/make_linearity_fixtures.py: NumPy, float64.
TEST(Linearity, IsWhatNumPysLeastSquaresSay) {
  std::ifstream file(PLUMB_SOURCE_DIR "/tests/trainer/linearity/linearity.json");
  for (const nlohmann::json& c : nlohmann::json::parse(file)) {
    const auto states = [&](const char* name) {
      const int64_t n = c["n"], d = static_cast<int64_t>(c[name][0].size());
      Tensor t = at::empty({n, d}, at::kDouble);
      for (int64_t i = 0; i < n * d; ++i) t.data_ptr<double>()[i] = c[name][i / d][i % d];
      return t;
    };
    const Tensor x = states("x");
    const Linearity l = ScoreOf(x, states("y"));
    const std::string name = c["name"];
    EXPECT_EQ(l.rank, c["rank"]) << name;
    EXPECT_NEAR(l.score, c["score"].get<double>(), kTight) << name;
    EXPECT_NEAR(l.score_without, c["score_without"].get<double>(), kTight) << name;
    EXPECT_NEAR(l.adjusted, c["adjusted"].get<double>(), kTight) << name;
    EXPECT_NEAR(l.standardized, c["standardized"].get<double>(), kTight) << name;
    EXPECT_NEAR(l.rho, c["rho"].get<double>(), kTight * l.rho) << name;
    Moments m(1, {});
    m.Add({x});
    EXPECT_NEAR(SpectrumOf(m.gram(0)).anisotropy, c["anisotropy"].get<double>(), kTight) << name;
  }
}

TEST(Linearity, DependsOnNoInvertibleMapOfItsInputAndNoScale) {
  const auto [x, y] = Curved(300, 12);
  const double score = ScoreOf(x, y).score;
  const Tensor map = Normal(12, 12, 11);
  EXPECT_NEAR(ScoreOf(x.mm(map) + 5, y).score, score, kTight);
  EXPECT_NEAR(ScoreOf(1e6 * x, y).score, score, kTight);
  EXPECT_NEAR(ScoreOf(x, 1e-6 * y).score, score, kTight);
  Tensor stretched = x.clone();
  stretched.select(1, 3).mul_(1e6);
  EXPECT_NEAR(ScoreOf(stretched, y).score, score, kTight)
      << "one dimension a million times as large";
  // Without residual: under one scale of both.
  EXPECT_NEAR(ScoreOf(1e4 * x, 1e4 * y).score_without, ScoreOf(x, y).score_without, kTight);
}

TEST(Linearity, AMassiveDimensionDecidesTheScoreAndNotTheStandardizedOne) {
  const auto [x, y] = Curved(500, 16);
  Tensor big_x = x.clone(), big_y = y.clone();
  big_x.select(1, 0).mul_(1e4), big_y.select(1, 0).copy_(big_x.select(1, 0)).add_(y.select(1, 1));
  const Linearity plain = ScoreOf(x, y), massive = ScoreOf(big_x, big_y);
  EXPECT_GT(massive.score, 0.9999999);
  EXPECT_NEAR(massive.score, 1 - LeftOf(big_x, big_y) / All(big_y), kTight);
  EXPECT_NEAR(massive.standardized, plain.standardized, 0.05);
  EXPECT_LT(massive.standardized, 0.98);
}

TEST(Linearity, RankDeficientStatesLoseNothingButTheirRank) {
  const auto [x, y] = Curved(300, 8);
  const Tensor wide = at::cat({x, x.mm(Normal(8, 8, 12))}, 1), far = at::cat({y, y}, 1);
  const Linearity l = ScoreOf(wide, far);
  EXPECT_EQ(l.rank, 8);
  EXPECT_NEAR(l.score, ScoreOf(x, y).score, kTight);
  const Linearity constant = ScoreOf(at::cat({x, at::ones({300, 1}, at::kDouble)}, 1),
                                     at::cat({y, at::ones({300, 1}, at::kDouble)}, 1));
  EXPECT_EQ(constant.rank, 8);
  EXPECT_NEAR(constant.score, ScoreOf(x, y).score, kTight);
  EXPECT_NEAR(constant.standardized, ScoreOf(x, y).standardized, kTight);
}

TEST(Moments, MergedAreThoseOfTheWhole) {
  const Tensor x = Normal(200, 5, 20) + 1e5, y = x + at::tanh(Normal(200, 5, 21)),
               z = Normal(200, 5, 22);
  const std::vector<Pair> pairs = {{0, 1}, {1, 2}, {0, 2}};
  Moments whole(3, pairs), parts(3, pairs), empty(3, pairs);
  whole.Add({x, y, z});
  parts.Merge(empty);
  for (const auto& [begin, count] :
       std::vector<std::pair<int64_t, int64_t>>{{0, 1}, {1, 99}, {100, 3}, {103, 97}}) {
    Moments one(3, pairs);
    one.Add({x.narrow(0, begin, count), y.narrow(0, begin, count), z.narrow(0, begin, count)});
    parts.Merge(one);
  }
  EXPECT_EQ(parts.n(), 200);
  for (size_t p = 0; p < pairs.size(); ++p) {
    const auto score = [&](const Moments& m) {
      return FitPair(m, p, SpectrumOf(m.gram(m.pairs()[p].from))).linearity;
    };
    const Linearity a = score(whole), b = score(parts);
    EXPECT_NEAR(a.score, b.score, kTight);
    EXPECT_NEAR(a.score_without, b.score_without, kTight);
    EXPECT_NEAR(a.rho, b.rho, kTight);
    const Tensor from = pairs[p].from == 0 ? x : y, to = pairs[p].to == 1 ? y : z;
    EXPECT_NEAR(a.score, 1 - LeftOf(from, to) / All(to), kTight);
  }
  EXPECT_THROW(parts.Merge(Moments(3, {{0, 1}})), std::invalid_argument);
}

TEST(HeldOut, OnTheTokensOfTheFitIsTheScoreInSample) {
  const auto [x, y] = Curved(300, 8);
  Moments m(2, {{0, 1}});
  m.Add({x, y});
  const Fit fit = FitPair(m, 0, SpectrumOf(m.gram(0)));
  HeldOutScores same({{0, 1}}, {fit}, at::kCPU);
  same.Add({x.narrow(0, 0, 100), y.narrow(0, 0, 100)});
  same.Add({x.narrow(0, 100, 200), y.narrow(0, 100, 200)});
  EXPECT_NEAR(same.Of(0).score, fit.linearity.score, kTight);
  EXPECT_NEAR(same.Of(0).score_without, fit.linearity.score_without, kTight);
  EXPECT_NEAR(same.Of(0).neighbour_cosine, at::cosine_similarity(x, y, 1).mean().item<double>(),
              kTight);
  // Quantiles of the tokens' own errors.
  const Tensor errors =
      (y - x.mm(fit.with.weight) - fit.with.bias).square().sum(1) / (All(y) / 300);
  EXPECT_NEAR(same.Of(0).error_p90, at::quantile(errors, 0.9).item<double>(), 1e-6);
  // Chance fitted is no chance kept.
  Moments noise(2, {{0, 1}});
  noise.Add({Normal(60, 30, 31), Normal(60, 30, 32)});
  const Fit chance = FitPair(noise, 0, SpectrumOf(noise.gram(0)));
  EXPECT_GT(chance.linearity.score, 0.4);
  HeldOutScores fresh({{0, 1}}, {chance}, at::kCPU);
  fresh.Add({Normal(500, 30, 33), Normal(500, 30, 34)});
  EXPECT_LT(fresh.Of(0).score, 0);
}

TEST(HeldOut, OfARankDeficientFitHasAnErrorForEachOfItsMaps) {
  const Tensor x = Normal(200, 3, 40), twice = at::cat({x, x}, 1), y = at::tanh(twice);
  Moments m(2, {{0, 1}});
  m.Add({twice, y});
  const Fit fit = FitPair(m, 0, SpectrumOf(m.gram(0)));
  HeldOutScores h({{0, 1}}, {fit}, at::kCPU);
  h.Add({twice, y});
  EXPECT_NEAR(h.Of(0).score, fit.linearity.score, kTight);
  EXPECT_NEAR(h.Of(0).score_without, fit.linearity.score_without, kTight);
}

TEST(Fit, TheAffineMapIsNeverWorseThanStayingOrThanTheMean) {
  for (const double size : {0.01, 0.5, 5.0}) {
    const auto [x, y] = Curved(120, 10, size);
    Moments m(2, {{0, 1}});
    m.Add({x, y});
    const Fit fit = FitPair(m, 0, SpectrumOf(m.gram(0)));
    const double left = (y - x.mm(fit.with.weight) - fit.with.bias).square().sum().item<double>();
    EXPECT_LE(left, (y - x).square().sum().item<double>());
    EXPECT_NEAR(left, LeftOf(x, y), kTight * All(y));
    const Tensor by_move = x + x.mm(fit.without.weight) + fit.without.bias;
    EXPECT_NEAR((y - by_move).square().sum().item<double>(), left, kTight * All(y));
  }
}

TEST(Geometry, AnisotropyIsTheFirstDirectionsShare) {
  const Tensor x = Columns({3 * H(1), H(2)}) + 7;
  Moments m(1, {});
  m.Add({x});
  EXPECT_NEAR(SpectrumOf(m.gram(0)).anisotropy, 0.9, kTight);
}

TEST(Geometry, ShapeOfStatesThatAreKnown) {
  // Two texts of two tokens: one repeats itself, one turns by a right angle.
  const Tensor x =
      at::tensor({3.0, 4.0, 0.0, 0.0, 6.0, 8.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0})
          .view({4, 4});
  Shape s;
  s.Add(x, 2);
  const Shape m = s.Means();
  EXPECT_NEAR(m.norm, (5.0 + 10 + 1 + 1) / 4, kTight);
  EXPECT_NEAR(m.token_cosine, 0.5, kTight);
  // One value among four: deviations 3/4 and -1/4, kurtosis 7/3.
  Shape one;
  one.Add(x.narrow(0, 2, 2), 2);
  EXPECT_NEAR(one.Means().kurtosis, 7.0 / 3, kTight);
}

TEST(Geometry, TwoNnFindsTheDimensionOfACube) {
  const CounterRandom random(Mix(50));
  for (const auto& [d, expected, within] : std::vector<std::tuple<int64_t, double, double>>{
           {1, 1.02, 0.15}, {2, 1.95, 0.25}, {5, 4.65, 0.9}}) {
    Tensor cube = at::empty({2000, d}, at::kDouble);
    for (int64_t i = 0; i < cube.numel(); ++i)
      cube.data_ptr<double>()[i] = random.Uniform(static_cast<uint64_t>(i + 100000 * d));
    EXPECT_NEAR(IntrinsicDimension(cube), expected, within);
    EXPECT_NEAR(IntrinsicDimension(cube.mm(Normal(d, 64, 51))), expected, 1.3 * within);
  }
  EXPECT_TRUE(std::isnan(IntrinsicDimension(at::ones({100, 3}, at::kDouble))));
}

TEST(Transitions, AreNamedAndCutAtEqualShares) {
  const auto spans = [](int64_t S) {
    std::string out;
    for (const Transition& t : TransitionsOf(S))
      out += t.group + " " + std::to_string(t.from) + "-" + std::to_string(t.to) + "; ";
    return out;
  };
  EXPECT_EQ(spans(1), "layer 0-1; final 0-2; whole 0-1; ");
  EXPECT_EQ(spans(6),
            "layer 0-1; layer 1-2; layer 2-3; layer 3-4; layer 4-5; layer 5-6; final 5-7; "
            "whole 0-6; half 0-3; half 3-6; quarter 0-2; quarter 2-3; quarter 3-5; quarter 5-6; ");
}

}  // namespace
}  // namespace plumb::trainer::linearity
