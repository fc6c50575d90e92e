#include "trainer/bundle.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "tests/trainer/specs.h"
#include "trainer/counter_random.h"
#include "trainer/spec/cost.h"

namespace plumb::trainer {
namespace {

at::Tensor Ids(int64_t rows, int64_t batch, int64_t length, int64_t vocab, uint64_t key) {
  at::Tensor t = at::empty({rows, batch, length}, at::kLong);
  const CounterRandom random(key);
  for (int64_t i = 0; i < t.numel(); ++i)
    t.data_ptr<int64_t>()[i] = static_cast<int64_t>(random.Bits(i) % static_cast<uint64_t>(vocab));
  return t;
}

std::vector<RowUpdate> Updates(int64_t rows, double lr, int64_t step) {
  return std::vector<RowUpdate>(
      rows, RowUpdate{.lr = lr, .weight_decay = 0.1, .grad_clip = 1.0, .step = step});
}

class EveryPreset : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { at::set_num_threads(1); }
};

TEST_P(EveryPreset, ArenaHoldsExactlyTheCountedParameters) {
  std::mt19937 random(1);
  for (int i = 0; i < 20; ++i) {
    const int64_t kv = 1 + random() % 3, heads = kv * (1 + random() % 3),
                  head_dim = 2 * (1 + random() % 4);
    const nlohmann::json j = {{"model",
                               {{"preset", GetParam()},
                                {"n_layers", 1 + random() % 4},
                                {"d_model", 4 * (1 + random() % 12)},
                                {"n_heads", heads},
                                {"n_kv_heads", kv},
                                {"head_dim", head_dim},
                                {"d_ff", 1 + random() % 50}}},
                              {"train", {{"steps", 1}, {"batch_tokens", 8}}},
                              {"data", {{"seq_len", 8}}}};
    const spec::TrialSpec s = Resolved(j.dump());
    Bundle bundle(s.model, 8, 1, at::kCPU);
    bundle.Add(0);
    int64_t constructed = 0;
    for (const auto& [name, view] : bundle.arena().View(0, 1)) constructed += view.numel();
    ASSERT_EQ(constructed, spec::CountParameters(s.model).total) << j.dump();
    // And the model runs: every parameter is used.
    const at::Tensor ids = Ids(1, 1, 8, s.model.vocab_size, 3);
    const StepResult r = bundle.Step(ids, ids, Updates(1, 0, 1));
    ASSERT_TRUE(std::isfinite(r.loss[0]));
  }
}

TEST_P(EveryPreset, StartsNearTheLossOfAUniformGuess) {
  const spec::TrialSpec s = Tiny(GetParam());
  Bundle bundle(s.model, 16, 1, at::kCPU);
  bundle.Add(5);
  const StepResult r = bundle.Step(Ids(1, 8, 16, 256, 1), Ids(1, 8, 16, 256, 2), Updates(1, 0, 1));
  EXPECT_NEAR(r.loss[0], std::log(256.0), 0.05 * std::log(256.0));
}

TEST_P(EveryPreset, ALaterTokenChangesNoEarlierScore) {
  const spec::TrialSpec s = Tiny(GetParam());
  Bundle bundle(s.model, 16, 1, at::kCPU);
  bundle.Add(5);
  at::Tensor ids = Ids(1, 1, 16, 256, 1);
  const at::Tensor targets = Ids(1, 1, 16, 256, 2);
  const at::Tensor before = bundle.NegativeLogLikelihoods(0, 1, ids, targets);
  ids[0][0][9] = (ids[0][0][9] + 1) % 256;
  const at::Tensor after = bundle.NegativeLogLikelihoods(0, 1, ids, targets);
  EXPECT_TRUE(at::equal(before.narrow(1, 0, 9), after.narrow(1, 0, 9)));
  EXPECT_FALSE(at::equal(before.narrow(1, 9, 1), after.narrow(1, 9, 1)));
}

TEST_P(EveryPreset, OverfitsOneBatch) {
  const spec::TrialSpec s = Tiny(GetParam());
  Bundle bundle(s.model, 16, 1, at::kCPU);
  bundle.Add(5);
  const at::Tensor ids = Ids(1, 2, 17, 256, 1);
  const at::Tensor x = ids.narrow(2, 0, 16).contiguous(), y = ids.narrow(2, 1, 16).contiguous();
  double loss = 0;
  for (int64_t step = 1; step <= 120; ++step)
    loss = bundle.Step(x, y, Updates(1, 1e-2, step)).loss[0];
  EXPECT_LT(loss, 0.3);
}

TEST_P(EveryPreset, GradientsAgreeWithFiniteDifferences) {
  // Along a random direction: (L(w + e) - L(w - e)) / 2e against the sum of the gradient's parts,
  // in float32.
  const spec::TrialSpec s = Tiny(GetParam());
  const at::Tensor ids = Ids(1, 4, 16, 256, 1), targets = Ids(1, 4, 16, 256, 2);
  Bundle bundle(s.model, 16, 1, at::kCPU);
  bundle.Add(5);
  at::Tensor& w = bundle.arena().weights();
  w.mul_(3);  // away from the flat start
  const at::Tensor start = w.clone();
  const auto loss = [&] {
    return bundle.NegativeLogLikelihoods(0, 1, ids, targets).to(at::kDouble).mean().item<double>();
  };
  // The gradient's norm, without clipping, is what Step reports; a step along it of length e must
  // raise the loss by norm * e.
  std::vector<RowUpdate> u = {{.lr = 0, .step = 1, .active = false}};
  const double norm = bundle.Step(ids, targets, u).grad_norm[0];
  const ParameterView& leaves = bundle.arena().Leaves(0, 1);
  // Recompute the gradient by a step that leaves it in place: one SGD-like probe through AdamW's
  // first moment.
  u[0] = {.lr = 0, .beta1 = 0, .beta2 = 0, .step = 1};
  bundle.Step(ids, targets, u);
  const at::Tensor gradient = bundle.arena().m().clone();
  EXPECT_NEAR(gradient.to(at::kDouble).norm().item<double>(), norm, 1e-5 * norm);
  const double e = 3e-3;
  w.copy_(start + gradient * (e / norm));
  const double up = loss();
  w.copy_(start - gradient * (e / norm));
  const double down = loss();
  EXPECT_NEAR((up - down) / (2 * e), norm, 0.01 * norm);
  EXPECT_FALSE(leaves.empty());
}

TEST_P(EveryPreset, EveryParameterReceivesAGradient) {
  const spec::TrialSpec s = Tiny(GetParam());
  Bundle bundle(s.model, 16, 1, at::kCPU);
  bundle.Add(5);
  bundle.Step(Ids(1, 4, 16, 256, 1), Ids(1, 4, 16, 256, 2), {{.lr = 0, .beta1 = 0, .step = 1}});
  for (const spec::Parameter& p : bundle.arena().layout().parameters) {
    EXPECT_GT(Slice(bundle.arena().m(), p, 0, 1).abs().sum().item<double>(), 0) << p.name;
  }
}

TEST_P(EveryPreset, MicroBatchesGiveTheWholeBatchsLossAndGradientAlsoWhenUnequal) {
  const spec::TrialSpec s = Tiny(GetParam());
  const at::Tensor ids = Ids(1, 5, 16, 256, 1);
  at::Tensor targets = Ids(1, 5, 16, 256, 2);
  targets[0][0].slice(0, 3, 16).fill_(-1);  // the micro-batches score different numbers of tokens
  std::vector<at::Tensor> gradients;
  std::vector<double> losses;
  for (int64_t micro : {0, 2, 1}) {
    Bundle bundle(s.model, 16, 1, at::kCPU);
    bundle.Add(5);
    losses.push_back(bundle.Step(ids, targets, {{.lr = 0, .beta1 = 0, .step = 1}}, micro).loss[0]);
    gradients.push_back(bundle.arena().m().clone());
  }
  for (size_t i : {1, 2}) {
    EXPECT_NEAR(losses[i], losses[0], 1e-5);
    EXPECT_TRUE(at::allclose(gradients[i], gradients[0], 1e-3, 1e-6));
  }
}

TEST_P(EveryPreset, ARowRemovedMakesRoomAndLeavesTheOthersBits) {
  const spec::TrialSpec s = Tiny(GetParam());
  const at::Tensor a = Ids(1, 2, 16, 256, 1), b = Ids(1, 2, 16, 256, 2), c = Ids(1, 2, 16, 256, 3);
  Bundle alone(s.model, 16, 1, at::kCPU);
  alone.Add(30);
  std::vector<double> expected;
  for (int64_t step = 1; step <= 6; ++step)
    expected.push_back(alone.Step(c, c, Updates(1, 1e-3, step)).loss[0]);

  Bundle bundle(s.model, 16, 3, at::kCPU);
  for (int64_t seed : {10, 20, 30}) bundle.Add(seed);
  std::vector<double> got;
  for (int64_t step = 1; step <= 3; ++step)
    got.push_back(
        bundle.Step(at::cat({a, b, c}), at::cat({a, b, c}), Updates(3, 1e-3, step)).loss[2]);
  bundle.Remove(0);  // the last row, 30, moves to the front
  for (int64_t step = 4; step <= 6; ++step)
    got.push_back(bundle.Step(at::cat({c, b}), at::cat({c, b}), Updates(2, 1e-3, step)).loss[0]);
  EXPECT_EQ(got, expected);
  EXPECT_NO_THROW(bundle.Add(40));
  EXPECT_THROW(bundle.Add(50), std::length_error);
}

TEST_P(EveryPreset, SharedParametersStartFromTheSameValuesInEveryModel) {
  spec::TrialSpec shallow = Tiny(GetParam()),
                  deep = Resolved(R"({"model": {"preset": ")" + GetParam() +
                                  R"(", "n_layers": 2, "d_model": 32, "d_ff": 40},
      "data": {"seq_len": 16}, "train": {"steps": 1, "batch_tokens": 16}})");
  Bundle a(shallow.model, 16, 1, at::kCPU), b(deep.model, 16, 1, at::kCPU);
  a.Add(9), b.Add(9);
  EXPECT_TRUE(
      at::equal(a.arena().View(0, 1).at("embed.weight"), b.arena().View(0, 1).at("embed.weight")));
  EXPECT_TRUE(at::equal(a.arena().View(0, 1).at("blocks.1.attn.out.weight"),
                        b.arena().View(0, 1).at("blocks.1.attn.out.weight")));
}

INSTANTIATE_TEST_SUITE_P(Presets, EveryPreset, testing::Values("llama", "gpt2"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace plumb::trainer
