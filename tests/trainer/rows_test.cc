// The bundle without files: layout, causality, arrays, NaN, what a first and a hundredth step look
// like.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gmock/gmock.h>

#include <cmath>
#include <cstring>

#include "tests/spec/specs.h"
#include "trainer/bundle.h"
#include "trainer/counter_random.h"
#include "trainer/spec/cost.h"

namespace plumb::trainer {
namespace {

// One thread unless a test says otherwise: a second one spins where cores are shared.
[[maybe_unused]] const bool kOneThread = (at::set_num_threads(1), true);

constexpr const char* kPresets[] = {"llama", "gpt2"};

spec::TrialSpec Small(const std::string& preset) {
  return spec::ResolvedOrDie(R"({"model": {"preset": ")" + preset +
                             R"(", "n_layers": 2, "d_model": 32, "n_heads": 4},
      "data": {"corpus": "c", "seq_len": 16}, "train": {"steps": 50, "batch_tokens": 64}})");
}

// Tokens in [0, vocab) by a counter: [rows, B, T].
at::Tensor Tokens(int64_t rows, int64_t B, int64_t T, int64_t vocab, uint64_t key) {
  at::Tensor out = at::empty({rows, B, T}, at::kLong);
  for (int64_t i = 0; i < out.numel(); ++i)
    out.data_ptr<int64_t>()[i] =
        static_cast<int64_t>(CounterRandom(key).Bits(i) % static_cast<uint64_t>(vocab));
  return out;
}

bool SameBits(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a.contiguous(), y = b.contiguous();
  return x.sizes() == y.sizes() && std::memcmp(x.data_ptr(), y.data_ptr(), x.nbytes()) == 0;
}

TEST(Layout, CountsWhatTheArenaHoldsAndEveryShapeTrains) {
  std::mt19937_64 random(11);
  std::vector<spec::TrialSpec> specs = {Small("llama"), Small("gpt2")};
  while (specs.size() < 22) specs.push_back(spec::RandomSpec(random));
  for (spec::TrialSpec& s : specs) {
    s.model.vocab_size = std::min<int64_t>(s.model.vocab_size, 300);
    const int64_t T = std::min<int64_t>(s.data.seq_len, 12);
    Bundle bundle(s.model, s.data.seq_len, 2, at::kCPU);
    bundle.Add(1), bundle.Add(2);
    int64_t held = 0, reached = 0;
    at::Tensor before = bundle.arena().weights().clone();
    for (const auto& [name, view] : bundle.arena().View(0, 1)) held += view.numel();
    EXPECT_EQ(held, spec::CountParameters(s.model).total);
    const StepResult r =
        bundle.Step(Tokens(2, 2, T, s.model.vocab_size, 3), Tokens(2, 2, T, s.model.vocab_size, 4),
                    {{.lr = 0.01, .weight_decay = 0.1}, {.lr = 0.01, .weight_decay = 0.1}});
    EXPECT_TRUE(r.finite[0] && r.finite[1]);
    EXPECT_EQ(at::count_nonzero(bundle.arena().grads()).item<int64_t>(), 0);
    for (const spec::Parameter& p : bundle.arena().layout().parameters) {
      reached += !SameBits(Slice(before, p, 0, 2), Slice(bundle.arena().weights(), p, 0, 2));
    }
    EXPECT_EQ(reached, static_cast<int64_t>(bundle.arena().layout().parameters.size()))
        << "every parameter moves";
  }
}

TEST(Init, IsOfSeedNameAndShapeAloneAndOfTheRowsOwnStd) {
  spec::ModelSpec model = Small("llama").model, wide = model, deep = model;
  wide.init_std = 2 * model.init_std, deep.n_layers = 3;
  Bundle alone(model, 16, 1, at::kCPU), together(model, 16, 4, at::kCPU),
      deeper(deep, 16, 1, at::kCPU);
  alone.Add(5), deeper.Add(5);
  together.Add(4), together.Add(5, wide), together.Add(6), together.Add(5);
  EXPECT_TRUE(SameBits(alone.arena().weights()[0], together.arena().weights()[3]));
  EXPECT_FALSE(SameBits(together.arena().weights()[0], together.arena().weights()[2]));
  const auto embed = [](Bundle& b, int64_t k) { return b.arena().View(k, 1).at("embed.weight"); };
  EXPECT_TRUE(SameBits(embed(alone, 0) * 2, embed(together, 1))) << "a row's init_std is its own";
  EXPECT_TRUE(SameBits(embed(alone, 0), embed(deeper, 0)))
      << "variants share what they have in common";
  EXPECT_NEAR(embed(alone, 0).std().item<double>(), model.init_std, 0.02 * model.init_std);
}

TEST(Bundle, StartsNearTheLogOfTheVocabulary) {
  for (const char* preset : kPresets) {
    const spec::TrialSpec s = Small(preset);
    Bundle bundle(s.model, 16, 1, at::kCPU);
    bundle.Add(1);
    const StepResult r = bundle.Step(Tokens(1, 8, 16, 256, 1), Tokens(1, 8, 16, 256, 2), {{}});
    EXPECT_NEAR(r.loss[0], std::log(256), 0.05) << preset;
  }
}

TEST(Bundle, LearnsOneBatchByHeart) {
  for (const char* preset : kPresets) {
    const spec::TrialSpec s = Small(preset);
    Bundle bundle(s.model, 16, 1, at::kCPU);
    bundle.Add(1);
    const at::Tensor ids = Tokens(1, 4, 16, 256, 1), targets = Tokens(1, 4, 16, 256, 2);
    double loss = 0;
    for (int64_t step = 1; step <= 200; ++step)
      loss = bundle.Step(ids, targets, {{.lr = 0.01, .step = step}}).loss[0];
    EXPECT_LT(loss, 0.05) << preset;
  }
}

TEST(Bundle, NoPositionSeesALaterToken) {
  for (const char* preset : kPresets) {
    const spec::TrialSpec s = Small(preset);
    Bundle bundle(s.model, 16, 1, at::kCPU);
    bundle.Add(1);
    const at::Tensor ids = Tokens(1, 1, 16, 256, 1), targets = Tokens(1, 1, 16, 256, 2);
    const at::Tensor base = bundle.NegativeLogLikelihoods(0, 1, ids, targets);
    for (int64_t t = 0; t < 16; ++t) {
      at::Tensor other = ids.clone();
      other[0][0][t] = (other[0][0][t].item<int64_t>() + 1) % 256;
      const at::Tensor changed = bundle.NegativeLogLikelihoods(0, 1, other, targets);
      EXPECT_TRUE(SameBits(base.narrow(1, 0, t), changed.narrow(1, 0, t)))
          << preset << " position " << t;
      EXPECT_FALSE(at::equal(base[0][t], changed[0][t]))
          << preset << " position " << t << " sees itself";
    }
  }
}

// Trains rows of the given seeds and rates for 50 steps, each on data of its own; weights and
// moments after it.
struct Ran {
  std::vector<at::Tensor> w, m, v;
  std::vector<std::vector<double>> losses;
};
Ran Train(const spec::TrialSpec& s, const std::vector<int64_t>& seeds, int64_t poisoned = -1,
          int64_t steps = 50) {
  Bundle bundle(s.model, 16, static_cast<int64_t>(seeds.size()), at::kCPU);
  for (int64_t seed : seeds) bundle.Add(seed);
  Ran out;
  out.losses.resize(seeds.size());
  for (int64_t step = 1; step <= steps; ++step) {
    std::vector<at::Tensor> ids, targets;
    std::vector<RowUpdate> updates;
    for (int64_t seed : seeds) {
      ids.push_back(Tokens(1, 4, 16, 256, static_cast<uint64_t>(1000 * seed + step)));
      targets.push_back(Tokens(1, 4, 16, 256, static_cast<uint64_t>(1000 * seed + step + 500)));
      updates.push_back({.lr = 1e-3 * static_cast<double>(seed),
                         .weight_decay = 0.1,
                         .grad_clip = 1,
                         .step = step});
    }
    if (step == 10 && poisoned >= 0) bundle.arena().weights()[poisoned].fill_(std::nan(""));
    const StepResult r = bundle.Step(at::cat(ids), at::cat(targets), updates);
    for (size_t k = 0; k < seeds.size(); ++k) out.losses[k].push_back(r.loss[k]);
  }
  for (size_t k = 0; k < seeds.size(); ++k) {
    out.w.push_back(bundle.arena().weights()[k].clone());
    out.m.push_back(bundle.arena().m()[k].clone());
    out.v.push_back(bundle.arena().v()[k].clone());
  }
  return out;
}

TEST(Bundle, FourTrialsTogetherAreTheBitsOfFourAlone) {
  for (int threads : {1, 2}) {
    at::set_num_threads(threads);
    for (const char* preset : kPresets) {
      const spec::TrialSpec s = Small(preset);
      const Ran together = Train(s, {1, 2, 3, 4});
      for (int64_t k = 0; k < 4; ++k) {
        const Ran alone = Train(s, {k + 1});
        EXPECT_EQ(together.losses[k], alone.losses[0])
            << preset << " row " << k << " threads " << threads;
        EXPECT_TRUE(SameBits(together.w[k], alone.w[0]) && SameBits(together.m[k], alone.m[0]) &&
                    SameBits(together.v[k], alone.v[0]))
            << preset << " row " << k << " threads " << threads;
      }
    }
  }
  at::set_num_threads(1);
}

// Products large enough for the blocked and threaded kernels of the BLAS.
TEST(Bundle, WideTrialsTogetherAreTheBitsOfTrialsAlone) {
  spec::TrialSpec s = spec::ResolvedOrDie(
      R"({"model": {"n_layers": 1, "d_model": 192, "n_heads": 3, "n_kv_heads": 1, "vocab_size": 1000},
          "data": {"corpus": "c", "seq_len": 96}, "train": {"steps": 3, "batch_tokens": 480}})");
  for (int threads : {1, 2}) {
    at::set_num_threads(threads);
    const auto train = [&](const std::vector<int64_t>& seeds) {
      Bundle bundle(s.model, 96, static_cast<int64_t>(seeds.size()), at::kCPU);
      for (int64_t seed : seeds) bundle.Add(seed);
      for (int64_t step = 1; step <= 2; ++step) {
        std::vector<at::Tensor> ids;
        for (int64_t seed : seeds)
          ids.push_back(Tokens(1, 5, 96, 1000, static_cast<uint64_t>(10 * seed + step)));
        bundle.Step(
            at::cat(ids), at::cat(ids).roll(-1, 2),
            std::vector<RowUpdate>(seeds.size(), {.lr = 1e-3, .grad_clip = 1, .step = step}));
      }
      return bundle.arena().weights().clone();
    };
    const at::Tensor together = train({1, 2, 3});
    for (int64_t k = 0; k < 3; ++k) {
      EXPECT_TRUE(SameBits(together[k], train({k + 1})[0]))
          << "row " << k << ", " << threads << " threads";
    }
  }
  at::set_num_threads(1);
}

TEST(Bundle, ARowOfNanChangesNoBitOfAnother) {
  for (const char* preset : kPresets) {
    const spec::TrialSpec s = Small(preset);
    const Ran clean = Train(s, {1, 2, 3}, -1, 20), dirty = Train(s, {1, 2, 3}, 1, 20);
    EXPECT_TRUE(std::isnan(dirty.losses[1].back()));
    for (int64_t k : {0, 2}) {
      EXPECT_EQ(clean.losses[k], dirty.losses[k]);
      EXPECT_TRUE(SameBits(clean.w[k], dirty.w[k]) && SameBits(clean.v[k], dirty.v[k]))
          << preset << " row " << k;
    }
  }
}

TEST(Bundle, AnInactiveRowKeepsItsBitsAndLeavesNoGradientBehind) {
  const spec::TrialSpec s = Small("llama");
  Bundle bundle(s.model, 16, 2, at::kCPU);
  bundle.Add(1), bundle.Add(2);
  const at::Tensor before = bundle.arena().weights()[0].clone();
  bundle.Step(Tokens(2, 4, 16, 256, 1), Tokens(2, 4, 16, 256, 2),
              {{.lr = 0.1, .active = false}, {.lr = 0.1}});
  EXPECT_TRUE(SameBits(before, bundle.arena().weights()[0]));
  EXPECT_EQ(at::count_nonzero(bundle.arena().grads()).item<int64_t>(), 0);
}

TEST(Bundle, RemovingARowMovesTheLastIntoItsPlaceAndTrainingGoesOn) {
  const spec::TrialSpec s = Small("gpt2");
  Bundle bundle(s.model, 16, 3, at::kCPU), alone(s.model, 16, 1, at::kCPU);
  bundle.Add(1), bundle.Add(2), bundle.Add(3), alone.Add(3);
  EXPECT_THROW(bundle.Add(4), std::length_error);
  const at::Tensor ids = Tokens(1, 4, 16, 256, 1), targets = Tokens(1, 4, 16, 256, 2);
  bundle.Step(ids.repeat({3, 1, 1}), targets.repeat({3, 1, 1}),
              std::vector<RowUpdate>(3, {.lr = 0.01}));
  alone.Step(ids, targets, {{.lr = 0.01}});
  bundle.Remove(0);  // row 2 is now row 0
  ASSERT_EQ(bundle.rows(), 2);
  bundle.Step(ids.repeat({2, 1, 1}), targets.repeat({2, 1, 1}),
              std::vector<RowUpdate>(2, {.lr = 0.01, .step = 2}));
  alone.Step(ids, targets, {{.lr = 0.01, .step = 2}});
  EXPECT_TRUE(SameBits(bundle.arena().weights()[0], alone.arena().weights()[0]));
  bundle.Add(9);
  EXPECT_EQ(at::count_nonzero(bundle.arena().m()[2]).item<int64_t>(), 0)
      << "a new row starts without moments";
}

TEST(Bundle, MicroBatchesAddUpToTheBatchWithUnscoredTokensAnywhere) {
  const spec::TrialSpec s = Small("llama");
  const at::Tensor ids = Tokens(1, 5, 16, 256, 1);
  at::Tensor targets = Tokens(1, 5, 16, 256, 2);
  targets.narrow(1, 0, 1).narrow(2, 0, 10).fill_(
      -1);  // micro-batches hold different numbers of scored tokens
  std::vector<double> loss, norm;
  for (int64_t micro : {0, 1, 2, 5}) {
    Bundle bundle(s.model, 16, 1, at::kCPU);
    bundle.Add(1);
    std::vector<std::vector<double>> layers;
    const StepResult r = bundle.Step(ids, targets, {{.lr = 0.01}}, micro, &layers);
    loss.push_back(r.loss[0]), norm.push_back(r.grad_norm[0]);
    ASSERT_EQ(layers[0].size(), 2u);
    EXPECT_LT(std::hypot(layers[0][0], layers[0][1]), r.grad_norm[0]);
  }
  for (size_t i = 1; i < loss.size(); ++i) {
    EXPECT_NEAR(loss[i], loss[0], 1e-5 * loss[0]);
    EXPECT_NEAR(norm[i], norm[0], 1e-4 * norm[0]);
  }
}

TEST(Bundle, ClipsEachRowByItsOwnNorm) {
  // AdamW hardly feels a gradient's scale: the first moment shows it. m = (1 − β1) · scale · g.
  const spec::TrialSpec s = Small("llama");
  Bundle bundle(s.model, 16, 2, at::kCPU);
  bundle.Add(1), bundle.Add(1);
  const at::Tensor ids = Tokens(1, 4, 16, 256, 1).repeat({2, 1, 1}),
                   targets = Tokens(1, 4, 16, 256, 2).repeat({2, 1, 1});
  const StepResult r =
      bundle.Step(ids, targets, {{.lr = 0, .grad_clip = 0.01}, {.lr = 0, .grad_clip = 0}});
  ASSERT_GT(r.grad_norm[0], 0.01);
  EXPECT_NEAR(bundle.arena().m()[0].norm().item<double>(), 0.1 * 0.01, 1e-6);
  EXPECT_NEAR(bundle.arena().m()[1].norm().item<double>(), 0.1 * r.grad_norm[1],
              1e-4 * r.grad_norm[1]);
}

TEST(Bundle, RefusesShapesThatDoNotFit) {
  const spec::TrialSpec s = Small("gpt2");
  Bundle bundle(s.model, 16, 2, at::kCPU);
  bundle.Add(1);
  EXPECT_THROW(bundle.Step(Tokens(2, 1, 8, 256, 1), Tokens(2, 1, 8, 256, 2), {{}}),
               std::invalid_argument);
  EXPECT_THROW(bundle.Step(Tokens(1, 1, 8, 256, 1), Tokens(1, 2, 8, 256, 2), {{}}),
               std::invalid_argument);
  EXPECT_THROW(bundle.Step(Tokens(1, 1, 17, 256, 1), Tokens(1, 1, 17, 256, 2), {{}}),
               std::invalid_argument)
      << "longer than the position table";
}

}  // namespace
}  // namespace plumb::trainer
