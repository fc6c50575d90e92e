// AdamW against the formulas of algorithm 2, written out here in double.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "trainer/ops/ops.h"

namespace plumb::trainer::ops {
namespace {

constexpr int64_t kRowSize = 70016, kFirst = 69000, kSecondOffset = 69008, kSecond = 1000;

struct Arenas {
  at::Tensor w, g, m, v;
};

Arenas Make(int64_t rows, int64_t stride) {
  at::manual_seed(11);
  auto arena = [&](bool random) {
    at::Tensor all = random ? at::randn({rows, stride}) : at::zeros({rows, stride});
    return all.narrow(1, 0, kRowSize);
  };
  return {arena(true), arena(false), arena(false), arena(false)};
}

at::Tensor Gradient(int64_t rows, int64_t step) {
  at::manual_seed(100 + step);
  return at::randn({rows, kRowSize}) * 0.3;
}

std::vector<AdamWSegment> Segments() {
  return {{.offset = 0, .size = kFirst, .lr_factor = 1, .weight_decay = 1},
          {.offset = kSecondOffset, .size = kSecond, .lr_factor = 0.5, .weight_decay = 0}};
}

std::vector<AdamWRow> Rows(int64_t step) {
  return {
      {.lr = 1e-2, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .step = step, .grad_scale = 0.7},
      {.active = false, .lr = 5, .step = step},
      {.lr = 3e-3, .beta1 = 0.8, .beta2 = 0.99, .eps = 1e-6, .step = step + 4, .grad_scale = 1}};
}
const std::vector<double> kDecay = {0.1, 0.1, 0.3};

TEST(AdamW, FollowsTheClosedFormOverManyStepsRowsAndSegments) {
  Arenas a = Make(3, kRowSize + 32);
  at::Tensor start = a.w.clone();
  int64_t n = kRowSize;
  std::vector<double> w(3 * n), m(3 * n), v(3 * n);
  for (int64_t k = 0; k < 3; ++k) {
    for (int64_t j = 0; j < n; ++j) w[k * n + j] = a.w.data_ptr<float>()[k * (n + 32) + j];
  }
  for (int64_t step = 1; step <= 6; ++step) {
    at::Tensor gradient = Gradient(3, step);
    a.g.copy_(gradient);
    std::vector<AdamWRow> rows = Rows(step);
    for (int64_t k : {0, 2}) {
      for (const AdamWSegment& s : Segments()) {
        for (int64_t j = s.offset; j < s.offset + s.size; ++j) {
          const AdamWRow& r = rows[k];
          double g = gradient.data_ptr<float>()[k * n + j] * r.grad_scale;
          double &mean = m[k * n + j], &square = v[k * n + j];
          mean = r.beta1 * mean + (1 - r.beta1) * g;
          square = r.beta2 * square + (1 - r.beta2) * g * g;
          double m_hat = mean / (1 - std::pow(r.beta1, r.step)),
                 v_hat = square / (1 - std::pow(r.beta2, r.step));
          w[k * n + j] -=
              r.lr * s.lr_factor *
              (kDecay[k] * s.weight_decay * w[k * n + j] + m_hat / (std::sqrt(v_hat) + r.eps));
        }
      }
    }
    AdamWStep(a.w, a.g, a.m, a.v, rows, kDecay, Segments());
  }
  double worst = 0;
  for (int64_t k = 0; k < 3; ++k) {
    for (int64_t j = 0; j < n; ++j) {
      double expected = k == 1 ? start.data_ptr<float>()[k * n + j] : w[k * n + j];
      worst = std::max(worst, std::abs(a.w.data_ptr<float>()[k * (n + 32) + j] - expected));
    }
  }
  EXPECT_LT(worst, 2e-6);
  EXPECT_TRUE(a.w.narrow(1, kFirst, kSecondOffset - kFirst)
                  .eq(start.narrow(1, kFirst, kSecondOffset - kFirst))
                  .all()
                  .item<bool>());
}

TEST(AdamW, ZeroesGradientsOfActiveRowsAndLeavesAnInactiveRowAsItIs) {
  Arenas a = Make(3, kRowSize);
  at::Tensor gradient = Gradient(3, 1), start = a.w.clone();
  a.g.copy_(gradient);
  AdamWStep(a.w, a.g, a.m, a.v, Rows(1), kDecay, Segments());
  EXPECT_EQ(a.g[0].narrow(0, 0, kFirst).abs().max().item<float>(), 0);
  EXPECT_EQ(a.g[2].narrow(0, kSecondOffset, kSecond).abs().max().item<float>(), 0);
  EXPECT_TRUE(at::equal(a.w[1], start[1]));
  EXPECT_TRUE(at::equal(a.g[1], gradient[1]));
  EXPECT_EQ(a.m[1].abs().max().item<float>() + a.v[1].abs().max().item<float>(), 0);
}

TEST(AdamW, GivesARowTheSameBitsAloneAndBesideANanRow) {
  Arenas together = Make(3, kRowSize), alone = Make(3, kRowSize);
  at::Tensor gradient = Gradient(3, 1);
  together.g.copy_(gradient);
  together.g[0].fill_(std::nan(""));
  AdamWStep(together.w, together.g, together.m, together.v, Rows(1), kDecay, Segments());
  Arenas row{alone.w.narrow(0, 2, 1), alone.g.narrow(0, 2, 1), alone.m.narrow(0, 2, 1),
             alone.v.narrow(0, 2, 1)};
  row.g.copy_(gradient.narrow(0, 2, 1));
  AdamWStep(row.w, row.g, row.m, row.v, {Rows(1)[2]}, {kDecay[2]}, Segments());
  EXPECT_TRUE(at::equal(row.w[0], together.w[2]));
  EXPECT_TRUE(at::equal(row.v[0], together.v[2]));
  EXPECT_TRUE(together.w[0].narrow(0, 0, kFirst).isnan().all().item<bool>());
}

TEST(AdamW, RefusesACoefficientTableOfAnotherLength) {
  Arenas a = Make(2, kRowSize);
  EXPECT_THROW(AdamWStep(a.w, a.g, a.m, a.v, Rows(1), kDecay, Segments()), c10::Error);
}

}  // namespace
}  // namespace plumb::trainer::ops
