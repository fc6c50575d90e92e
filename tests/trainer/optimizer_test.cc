// Optimizers against others' (optimizers/make_optimizer_fixtures.py), and rows beside rows.
#include "trainer/optimizer.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/trainer/engine_fixture.h"
#include "trainer/spec/choices.h"

namespace plumb::trainer {
namespace {

using at::Tensor;
using nlohmann::json;
using spec::OptimizerKind;

const json& Fixture() {
  static const json* const fixture = [] {
    std::ifstream in(std::string(PLUMB_SOURCE_DIR) + "/tests/trainer/optimizers/fixtures.json");
    return new json(json::parse(in));
  }();
  return *fixture;
}

// A matrix [6, 4] and a vector [5] of a block, and a frozen value.
spec::ParameterLayout Layout() {
  spec::ParameterLayout layout;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape, spec::Role role,
                       bool trainable) {
    spec::Parameter p{.name = name, .shape = std::move(shape), .role = role, .layer = 0};
    p.trainable = trainable, p.offset = layout.row_size;
    layout.row_size += (p.size() + 15) / 16 * 16;
    layout.parameters.push_back(p);
  };
  add("w", {6, 4}, spec::Role::kHidden, true);
  add("b", {5}, spec::Role::kBias, true);
  add("frozen", {3}, spec::Role::kHidden, false);
  return layout;
}

class Rows {
 public:
  explicit Rows(int64_t n)
      : arena_(Layout(), n, at::kCPU), optimizer_(spec::ModelSpec(), arena_.layout()) {
    for (int64_t k = 0; k < n; ++k) Set(arena_.weights(), k, Fixture());
  }
  void Set(Tensor& to, int64_t k, const json& values) {
    at::NoGradGuard no_grad;
    for (const char* name : {"w", "b"}) {
      const spec::Parameter& p = arena_.layout().at(name);
      Slice(to, p, k, 1)
          .copy_(at::tensor(values.at(name).get<std::vector<double>>(), at::kFloat).view(p.shape));
    }
  }
  void Step(const std::vector<RowUpdate>& updates, const json& grads,
            const std::vector<double>& scale) {
    const std::vector<bool> active(updates.size(), true);
    for (size_t k = 0; k < updates.size(); ++k) Set(arena_.grads(), static_cast<int64_t>(k), grads);
    optimizer_.Step(arena_, updates, scale, active);
  }
  double Off(int64_t k, const json& expected) const {
    double off = 0;
    for (const char* name : {"w", "b"}) {
      const Tensor e = at::tensor(expected.at(name).get<std::vector<double>>(), at::kDouble);
      const Tensor w = arena_.View(k, 1).at(name).to(at::kDouble).reshape({-1});
      off = std::max(off, (w - e).abs().max().item<double>());
    }
    return off;
  }
  Arena& arena() { return arena_; }

 private:
  Arena arena_;
  Optimizer optimizer_;
};

RowUpdate Update(OptimizerKind kind, int64_t step) {
  const json& f = Fixture();
  return {.optimizer = kind,
          .lr = f["lr"],
          .beta1 = f["beta1"],
          .beta2 = f["beta2"],
          .eps = f["eps"],
          .momentum = f["momentum"],
          .weight_decay = f["decay"],
          .step = step};
}

class OptimizerOf : public ::testing::TestWithParam<OptimizerKind> {};

TEST_P(OptimizerOf, FollowsTheReference) {
  Rows rows(1);
  const std::string name = spec::Name(GetParam());
  const bool muon = GetParam() == OptimizerKind::kMuon;
  for (int64_t step = 1; step <= 5; ++step) {
    rows.Step({Update(GetParam(), step)}, Fixture()["grads"][step - 1], {1.0});
    // float32 against float64; Newton and Schulz's polynomial triples differences each time.
    EXPECT_LE(rows.Off(0, Fixture()[name][step - 1]), muon ? 2e-5 : 2e-6) << name << " " << step;
    EXPECT_EQ(rows.arena().grads().abs().max().item<float>(), 0);
    EXPECT_EQ(rows.arena().View(0, 1).at("frozen").abs().max().item<float>(), 0);
  }
}

TEST_P(OptimizerOf, ScalesTheGradientBeforeAnythingElse) {
  Rows halved(1), half(1);
  json grads = Fixture()["grads"][0];
  for (const char* name : {"w", "b"}) {
    for (json& g : grads[name]) g = g.get<double>() / 2;
  }
  halved.Step({Update(GetParam(), 1)}, Fixture()["grads"][0], {0.5});
  half.Step({Update(GetParam(), 1)}, grads, {1.0});
  EXPECT_TRUE(at::allclose(halved.arena().weights(), half.arena().weights(), 1e-6, 1e-7));
}

TEST_P(OptimizerOf, ARunResumesBitForBit) {
  spec::TrialSpec base;
  base.model.n_layers = 2, base.model.d_model = 16, base.model.n_heads = 2;
  base.data.corpus = "c", base.data.seq_len = 16;
  base.train.steps = 9, base.train.batch_tokens = 32, base.train.lr = 0.01;
  base.train.optimizer = GetParam();
  base.eval.points = 1, base.eval.tokens = 32;
  base.execution.checkpoint_seconds = 0;
  ASSERT_TRUE(spec::Resolve(&base).empty());
  const plumb::testing::TempDir data, work;
  std::filesystem::create_directories(data.path());
  WriteCorpus(data.path());
  const auto run = [&](const std::string& name, int64_t until, std::optional<CheckpointRef> from) {
    Ear ear;
    auto engine = MakeTorchEngine(ear);
    engine->Open("b", 1, data.path(), 1);
    engine->AddRow({.row = name,
                    .kind = "pretrain",
                    .spec = base,
                    .until_step = until,
                    .checkpoint = from,
                    .checkpoint_dir = work / name});
    while (engine->Step()) {
    }
    return ear.told[name].checkpoints.back();
  };
  const auto bytes = [](const CheckpointRef& c, const char* file) {
    std::ifstream in(c.path + "/" + file, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  const CheckpointRef whole = run("whole", -1, std::nullopt);
  const CheckpointRef rest = run("rest", -1, run("first", 4, std::nullopt));
  for (const char* file : {"weights.safetensors", "optimizer.safetensors"})
    EXPECT_EQ(bytes(whole, file), bytes(rest, file)) << file;
}

INSTANTIATE_TEST_SUITE_P(Kinds, OptimizerOf,
                         ::testing::Values(OptimizerKind::kAdamW, OptimizerKind::kAdam,
                                           OptimizerKind::kSgd, OptimizerKind::kAdafactor,
                                           OptimizerKind::kMuon),
                         [](const auto& info) { return spec::Name(info.param); });

TEST(Optimizers, AdafactorIsHuggingFacesToo) {
  Rows rows(1);
  for (int64_t step = 1; step <= 5; ++step) {
    RowUpdate u = Update(OptimizerKind::kAdafactor, step);
    u.weight_decay = 0;
    rows.Step({u}, Fixture()["grads"][step - 1], {1.0});
    EXPECT_LE(rows.Off(0, Fixture()["adafactor_hf"][step - 1]), 2e-6) << step;
  }
}

TEST(Optimizers, EachRowHasItsOwn) {
  const OptimizerKind kinds[] = {OptimizerKind::kAdamW, OptimizerKind::kAdam, OptimizerKind::kSgd,
                                 OptimizerKind::kAdafactor, OptimizerKind::kMuon};
  Rows together(5);
  std::vector<std::unique_ptr<Rows>> alone;
  for (int i = 0; i < 5; ++i) alone.push_back(std::make_unique<Rows>(1));
  for (int64_t step = 1; step <= 5; ++step) {
    std::vector<RowUpdate> updates;
    for (int i = 0; i < 5; ++i) {
      updates.push_back(Update(kinds[i], step));
      updates.back().lr *= i + 1;
      alone[i]->Step({updates.back()}, Fixture()["grads"][step - 1], {1.0});
    }
    together.Step(updates, Fixture()["grads"][step - 1], std::vector<double>(5, 1.0));
  }
  for (int i = 0; i < 5; ++i)
    EXPECT_TRUE(at::equal(together.arena().weights()[i], alone[i]->arena().weights()[0])) << i;
}

TEST(Optimizers, ARowThatIsNotActiveKeepsEveryBit) {
  for (const OptimizerKind kind : {OptimizerKind::kAdamW, OptimizerKind::kMuon}) {
    Rows rows(1);
    const Tensor before = rows.arena().weights().clone();
    rows.Set(rows.arena().grads(), 0, Fixture()["grads"][0]);
    rows.arena().grads().fill_(NAN);
    Optimizer(spec::ModelSpec(), rows.arena().layout())
        .Step(rows.arena(), {Update(kind, 1)}, {1.0}, {false});
    EXPECT_TRUE(at::equal(rows.arena().weights(), before));
    EXPECT_EQ(rows.arena().grads().abs().max().item<float>(), 0);
    EXPECT_EQ(rows.arena().m().abs().max().item<float>(), 0);
  }
}

}  // namespace
}  // namespace plumb::trainer
