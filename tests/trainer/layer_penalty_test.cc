// Penalties on neighbouring layers: their values, their gradients, and what they leave alone.
#include "trainer/layer_penalty.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "tests/spec/specs.h"
#include "trainer/bundle.h"
#include "trainer/counter_random.h"

namespace plumb::trainer {
namespace {

[[maybe_unused]] const bool kOneThread = (at::set_num_threads(1), true);

constexpr int64_t kT = 6, kB = 4, kVocab = 40;

spec::TrialSpec Model(const std::string& more = "") {
  return spec::ResolvedOrDie(R"({"model": {"n_layers": 3, "d_model": 12, "n_heads": 2,
      "vocab_size": 256, "init_std": 0.3)" +
                             more + R"(}, "data": {"corpus": "c", "seq_len": 6},
      "train": {"steps": 50, "batch_tokens": 24}})");
}

at::Tensor Tokens(int64_t rows, uint64_t key) {
  at::Tensor out = at::empty({rows, kB, kT}, at::kLong);
  const CounterRandom random(Mix(key));
  for (int64_t i = 0; i < out.numel(); ++i)
    out.data_ptr<int64_t>()[i] = static_cast<int64_t>(random.Bits(i) % kVocab);
  return out;
}

// Plain gradient descent by 1: what a step takes away is the gradient.
RowUpdate Descent(const LayerPenalty& penalty, double lr = 1) {
  return {.optimizer = spec::OptimizerKind::kSgd, .lr = lr, .momentum = 0, .penalty = penalty};
}

bool SameBits(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a.contiguous(), y = b.contiguous();
  return x.sizes() == y.sizes() && std::memcmp(x.data_ptr(), y.data_ptr(), x.nbytes()) == 0;
}

// States (1, 0), (1, 1), (0, 1) of one token (shape_and_linearity.md, 2.4).
TEST(LayerPenalty, HasTheValuesThatAreKnown) {
  std::vector<at::Tensor> states;
  for (const auto& v : {std::pair{1.0, 0.0}, {1.0, 1.0}, {0.0, 1.0}})
    states.push_back(at::tensor({v.first, v.second}, at::kDouble).view({1, 1, 2}));
  const double step = 1 - std::sqrt(0.5);
  const PenaltySums both = NeighbourPenalties(states, true, true, true);
  EXPECT_NEAR(0.5 * both.cosine.item<double>(), 0.2928932188134524, 1e-12);
  EXPECT_NEAR(0.5 * both.mse.item<double>(), 1.0, 1e-12);
  const PenaltySums inner = NeighbourPenalties(states, false, true, false);
  EXPECT_NEAR(inner.cosine.item<double>(), step, 1e-12);
  EXPECT_FALSE(inner.mse.defined());
  // A state of zeros has no direction, and no gradient that is not a number.
  at::Tensor zero = at::zeros({1, 1, 2}, at::kDouble).requires_grad_(true);
  const at::Tensor cosine = NeighbourPenalties({zero, states[0]}, true, true, false).cosine;
  EXPECT_EQ(cosine.item<double>(), 1);
  cosine.sum().backward();
  EXPECT_TRUE(zero.grad().isfinite().all().item<bool>());
}

TEST(LayerPenalty, IsReducedAsAskedFor) {
  const PenaltyScale mean = ScaleOf(spec::LayerReduction::kMean, 24, 12),
                     sum = ScaleOf(spec::LayerReduction::kSum, 24, 12),
                     elements = ScaleOf(spec::LayerReduction::kElements, 24, 12);
  EXPECT_EQ(sum.cosine, 1);
  EXPECT_EQ(mean.mse, 1.0 / 24);
  EXPECT_EQ(elements.cosine, 1.0 / 24);
  EXPECT_DOUBLE_EQ(elements.mse, 1.0 / (24 * 12));
}

// The value that a step descends, as it tells it itself.
double Objective(const StepResult& r, const LayerPenalty& p) {
  return r.loss[0] + p.cosine * r.layer_cosine[0] + p.mse * r.layer_mse[0];
}

TEST(LayerPenalty, DescendsTheGradientOfFiniteDifferencesInFloat64) {
  const at::Tensor ids = Tokens(1, 1), targets = Tokens(1, 2);
  for (const char* more : {"", R"(, "norm_place": "post")", R"(, "block": "parallel")",
                           R"(, "norm": "layernorm", "embed_shortcut": true)"}) {
    for (const LayerPenalty& penalty :
         {LayerPenalty{.cosine = 0.7}, LayerPenalty{.mse = 0.4, .embedding = false},
          LayerPenalty{.cosine = 0.02, .mse = 0.01, .reduction = spec::LayerReduction::kSum},
          LayerPenalty{.mse = 0.9, .reduction = spec::LayerReduction::kElements}}) {
      const spec::TrialSpec s = Model(more);
      Bundle bundle(s.model, kT, 1, at::kCPU, at::kDouble);
      bundle.Add(3);
      at::Tensor weights = bundle.arena().weights();
      const at::Tensor start = weights.clone();
      bundle.Step(ids, targets, {Descent(penalty)}, /*micro_batch=*/3);
      const at::Tensor gradient = start - weights;
      at::Tensor direction = at::empty_like(start);
      const CounterRandom random(Mix(9));
      for (int64_t i = 0; i < direction.numel(); ++i)
        direction.data_ptr<double>()[i] = random.Normal(i);
      const auto moved = [&](double e) {
        weights.copy_(start + e * direction);
        RowUpdate look = Descent(penalty);
        look.active = false;
        return Objective(bundle.Step(ids, targets, {look}), penalty);
      };
      const double along = (gradient * direction).sum().item<double>();
      double nearest = INFINITY;
      for (const double e : {1e-5, 1e-6, 1e-7})
        nearest = std::min(nearest, std::abs((moved(e) - moved(-e)) / (2 * e) - along));
      EXPECT_LE(nearest, 1e-6 * std::max(1.0, std::abs(along))) << more;
    }
  }
}

TEST(LayerPenalty, TheFusedOperationsHaveTheSameGradient) {
  const at::Tensor ids = Tokens(1, 1), targets = Tokens(1, 2);
  const LayerPenalty penalty{.cosine = 0.7, .mse = 0.2};
  for (const char* more : {"", R"(, "preset": "gpt2")", R"(, "norm_place": "post")"}) {
    const spec::TrialSpec s = Model(more);
    Bundle fused(s.model, kT, 1, at::kCPU), plain(s.model, kT, 1, at::kCPU, at::kDouble);
    fused.Add(3), plain.Add(3);
    plain.arena().weights().copy_(fused.arena().weights());
    const at::Tensor start = fused.arena().weights().to(at::kDouble);
    fused.Step(ids, targets, {Descent(penalty)});
    plain.Step(ids, targets, {Descent(penalty)});
    const at::Tensor a = start - fused.arena().weights().to(at::kDouble),
                     b = start - plain.arena().weights();
    EXPECT_LE((a - b).norm().item<double>(), 1e-4 * b.norm().item<double>()) << more;
  }
}

TEST(LayerPenalty, ItsPartsAddUpToTheBatch) {
  const spec::TrialSpec s = Model();
  const at::Tensor ids = Tokens(1, 1), targets = Tokens(1, 2);
  const LayerPenalty penalty{.cosine = 0.5, .mse = 0.1};
  const auto run = [&](int64_t micro) {
    Bundle b(s.model, kT, 1, at::kCPU, at::kDouble);
    b.Add(3);
    const StepResult r = b.Step(ids, targets, {Descent(penalty)}, micro);
    return std::tuple(r.layer_cosine[0], r.layer_mse[0], b.arena().weights().clone());
  };
  const auto [cosine, mse, weights] = run(0);
  for (const int64_t micro : {1, 3}) {
    const auto [c, m, w] = run(micro);
    EXPECT_NEAR(c, cosine, 1e-12 * cosine);
    EXPECT_NEAR(m, mse, 1e-12 * mse);
    EXPECT_LE((w - weights).abs().max().item<double>(), 1e-10);
  }
}

// Rows with other coefficients beside it change no bit of a row, least of all where its own are 0.
TEST(LayerPenalty, ARowIsTheSameBitsAloneAndBesideOthers) {
  const spec::TrialSpec s = Model();
  const std::vector<LayerPenalty> rows = {
      {}, {.cosine = 0.5}, {.mse = 0.3}, {.cosine = 0.1, .mse = 2}};
  const auto n = static_cast<int64_t>(rows.size());
  const at::Tensor ids = Tokens(n, 1), targets = Tokens(n, 2);
  const auto update = [&](const LayerPenalty& p, int64_t step) {
    RowUpdate u{.lr = 0.01, .grad_clip = 1, .penalty = p, .step = step};
    return u;
  };
  Bundle together(s.model, kT, n, at::kCPU);
  for (int64_t k = 0; k < n; ++k) together.Add(k);
  std::vector<StepResult> told;
  for (int64_t step = 1; step <= 4; ++step) {
    std::vector<RowUpdate> updates;
    for (const LayerPenalty& p : rows) updates.push_back(update(p, step));
    told.push_back(together.Step(ids, targets, updates));
  }
  for (int64_t k = 0; k < n; ++k) {
    Bundle alone(s.model, kT, 1, at::kCPU);
    alone.Add(k);
    for (int64_t step = 1; step <= 4; ++step) {
      const StepResult r =
          alone.Step(ids.narrow(0, k, 1), targets.narrow(0, k, 1), {update(rows[k], step)});
      EXPECT_EQ(r.loss[0], told[step - 1].loss[k]) << k;
      if (rows[k].cosine > 0) {
        EXPECT_EQ(r.layer_cosine[0], told[step - 1].layer_cosine[k]) << k;
      }
      if (rows[k].mse > 0) {
        EXPECT_EQ(r.layer_mse[0], told[step - 1].layer_mse[k]) << k;
      }
      EXPECT_EQ(r.layer_cosine.empty(), !rows[k].any());
    }
    EXPECT_TRUE(SameBits(alone.arena().weights()[0], together.arena().weights()[k])) << k;
  }
}

TEST(LayerPenalty, DrawsNeighboursTogether) {
  const spec::TrialSpec s = Model();
  const at::Tensor ids = Tokens(2, 1), targets = Tokens(2, 2);
  for (const LayerPenalty& penalty : {LayerPenalty{.cosine = 1}, LayerPenalty{.mse = 1}}) {
    Bundle bundle(s.model, kT, 2, at::kCPU);
    bundle.Add(5), bundle.Add(5);
    const auto apart = [&](int64_t row) {
      Extras extras{.want_states = true};
      bundle.Logits(row, ids.narrow(0, 0, 1), &extras);
      const PenaltySums p = NeighbourPenalties(extras.states, true, true, true);
      return (penalty.cosine > 0 ? p.cosine : p.mse).mean().item<double>();
    };
    for (int64_t step = 1; step <= 60; ++step) {
      RowUpdate with{.lr = 0.01, .grad_clip = 1, .penalty = penalty, .step = step}, without = with;
      without.penalty = {};
      bundle.Step(ids, targets, {with, without});
    }
    EXPECT_LT(apart(0), 0.5 * apart(1));
  }
}

TEST(LayerPenalty, ARoutersStepsAreItsLayers) {
  const spec::TrialSpec s = Model(R"(}, "router": {"gate": "switch", "steps": 2, "pool": "full")");
  Bundle bundle(s.model, kT, 1, at::kCPU);
  bundle.Add(3);
  Extras extras{.want_states = true};
  bundle.Logits(0, Tokens(1, 1), &extras);
  EXPECT_EQ(extras.states.size(), 3u);
  const StepResult r = bundle.Step(Tokens(1, 1), Tokens(1, 2), {Descent({.cosine = 0.1}, 0.01)});
  ASSERT_EQ(r.layer_cosine.size(), 1u);
  EXPECT_GT(r.layer_cosine[0], 0);
}

}  // namespace
}  // namespace plumb::trainer
