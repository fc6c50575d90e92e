// What holds for every block that can be put together.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "tests/protocol/temp_dir.h"
#include "tests/trainer/every_block.h"
#include "trainer/bundle.h"
#include "trainer/checkpoint.h"
#include "trainer/counter_random.h"
#include "trainer/spec/cost.h"
#include "trainer/spec/fields.h"

namespace plumb::trainer {
namespace {

constexpr int64_t kT = 8;

at::Tensor Tokens(int64_t rows, int64_t texts, uint64_t key, int64_t vocab = 256) {
  at::Tensor t = at::empty({rows, texts, kT}, at::kLong);
  const CounterRandom random(key);
  for (int64_t i = 0; i < t.numel(); ++i)
    t.data_ptr<int64_t>()[i] = static_cast<int64_t>(random.Bits(i) % static_cast<uint64_t>(vocab));
  return t;
}

TEST(EveryBlock, HasACaseForEveryValueOfEverySwitch) {
  std::map<std::string, std::set<std::string>> seen;
  for (const BlockCase& c : EveryBlock()) {
    spec::TrialSpec s = SpecOf(c);
    for (const spec::Field& f : spec::Fields(s)) seen[f.path].insert(f.get().dump());
  }
  spec::TrialSpec fresh;
  for (const spec::Field& f : spec::Fields(fresh)) {
    const std::string section = f.path.substr(0, f.path.find('.'));
    if (section != "model" && section != "base" && section != "router") continue;
    if (f.path.starts_with("model.block_")) continue;  // of outside the tree: block_plugin_test
    if (f.type == spec::FieldType::kChoice && f.path != "model.preset") {
      for (const std::string& choice : f.choices) {
        // "default" and "same" are always said in other words.
        EXPECT_TRUE(seen[f.path].count('"' + choice + '"')) << f.path << " " << choice;
      }
    } else {
      EXPECT_GE(seen[f.path].size(), 2u) << f.path << " has one value in all cases";
    }
  }
}

class Universal : public ::testing::TestWithParam<BlockCase> {
 protected:
  Universal() : s_(SpecOf(GetParam())), m_(s_.model) { at::set_num_threads(1); }

  bool routed() const { return spec::Routed(m_); }
  bool learns_route() const {
    const spec::RouterGate g = m_.router.gate;
    return routed() && g != spec::RouterGate::kFrozen && g != spec::RouterGate::kRandom &&
           g != spec::RouterGate::kFixed;
  }
  Bundle Make(int64_t rows = 1, int64_t seed = 5) const {
    Bundle b(m_, kT, rows, at::kCPU);
    for (int64_t k = 0; k < rows; ++k) b.Add(seed + k);
    return b;
  }
  RowUpdate Update(int64_t step, double lr) const {
    RowUpdate u = UpdateOf(s_, 1);
    u.lr = lr, u.step = step, u.weight_decay = 0, u.grad_clip = 1, u.noise = 77 + step;
    return u;
  }
  // A batch that the objective can learn.
  std::pair<at::Tensor, at::Tensor> Batch(int64_t rows, int64_t texts, uint64_t key) const {
    const at::Tensor ids = Tokens(rows, texts, key);
    at::Tensor targets = Tokens(rows, texts, key + 1);
    if (s_.data.score_from > 0) targets.narrow(2, 0, s_.data.score_from).fill_(-1);
    return {ids, targets};
  }

  const spec::TrialSpec s_;
  const spec::ModelSpec& m_;
};

TEST_P(Universal, StartsNearAUniformGuess) {
  Bundle bundle = Make();
  const auto [ids, targets] = Batch(1, 16, 1);
  const StepResult r = bundle.Step(ids, targets, {Update(1, 0)});
  // The head sees a normed stream of 16 numbers: logits of standard deviation 0.02 sqrt(16), and
  // more where the initial weights are larger or nothing norms the stream.
  const double V = static_cast<double>(m_.vocab_size);
  EXPECT_TRUE(r.finite[0]);
  EXPECT_NEAR(r.loss[0], std::log(V), 0.05 * std::log(V));
}

TEST_P(Universal, ALaterTokenChangesNoEarlierLogit) {
  Bundle bundle = Make();
  at::Tensor ids = Tokens(1, 6, 1);
  const auto logits = [&] {
    Extras extras;
    return bundle.Logits(0, ids, &extras).view({6, kT, -1}).clone();
  };
  bundle.arena().weights().mul_(3);  // away from the flat start
  const at::Tensor before = logits();
  bool early = false, late = true;
  for (int64_t j = 3; j < kT; ++j) {
    const at::Tensor kept = ids.clone();
    ids.select(2, j).add_(1).remainder_(256);
    const at::Tensor after = logits();
    early |= !at::equal(before.narrow(1, 0, j), after.narrow(1, 0, j));
    late &= !at::equal(before.narrow(1, j, 1), after.narrow(1, j, 1));
    ids.copy_(kept);
  }
  // Attention to both sides, or a router that reads the whole text, does see it.
  const bool looks_ahead = !m_.causal || (routed() && m_.router.pool == spec::RouterPool::kFull);
  EXPECT_EQ(early, looks_ahead);
  EXPECT_TRUE(late || m_.head_init == spec::ZeroOrNormal::kZero);
}

TEST_P(Universal, ATextsScoreDoesNotDependOnItsNeighbours) {
  const Bundle bundle = Make();
  const auto [ids, targets] = Batch(1, 5, 3);
  Extras a, b;
  const at::Tensor together = bundle.NegativeLogLikelihoods(0, 1, ids, targets, &a);
  // A random way is drawn by place in the batch.
  if (m_.router.gate == spec::RouterGate::kRandom) return;
  const at::Tensor alone = bundle.NegativeLogLikelihoods(0, 1, ids.narrow(1, 3, 1).contiguous(),
                                                         targets.narrow(1, 3, 1).contiguous(), &b);
  EXPECT_TRUE(at::allclose(alone, together.narrow(1, 3 * kT, kT), 1e-5, 1e-6));
}

TEST_P(Universal, GradientsReachWhatIsTrainedAndNothingElse) {
  Bundle bundle = Make();
  const at::Tensor start = bundle.arena().weights().clone();
  at::Tensor reached = at::zeros_like(start);
  // Some steps first: what starts at zero holds back the gradient of what is behind it.
  for (int64_t step = 1; step <= 8; ++step) {
    const auto [ids, targets] = Batch(1, 16, 10 + 2 * step);
    RowUpdate u = Update(step, 1e-2);
    u.beta1 = 0;  // the first moment is the gradient
    bundle.Step(ids, targets, {u});
    reached += bundle.arena().m().abs();
  }
  for (const spec::Parameter& p : bundle.arena().layout().parameters) {
    const bool changed =
        !at::equal(Slice(start, p, 0, 1), Slice(bundle.arena().weights(), p, 0, 1));
    EXPECT_EQ(changed, p.trainable) << p.name;
    EXPECT_EQ(Slice(reached, p, 0, 1).sum().item<double>() > 0, p.trainable) << p.name;
  }
}

TEST_P(Universal, TheArenaHoldsWhatIsCounted) {
  const spec::ParameterCounts counts = spec::CountParameters(m_);
  Bundle bundle = Make();
  const ParameterView& leaves = bundle.arena().Leaves(0, 1);
  int64_t total = 0, trainable = 0, embedding = 0;
  for (const auto& [name, value] : leaves) {
    total += value.numel();
    if (value.requires_grad()) trainable += value.numel();
    if (name == "embed.weight" || name == "position.weight" || name == "head.weight")
      embedding += value.numel();
  }
  EXPECT_EQ(total, counts.total);
  EXPECT_EQ(trainable, counts.trainable);
  EXPECT_EQ(total - trainable, counts.frozen);
  EXPECT_EQ(embedding, counts.embedding);
  int64_t parameters = 0, flops = 0;
  for (const spec::ComponentCost& c : spec::Components(m_, kT)) {
    parameters += c.parameters, flops += c.flops;
  }
  EXPECT_EQ(parameters, counts.total);
  if (!routed()) {
    EXPECT_EQ(flops, spec::ForwardFlopsPerToken(m_, kT));
  }
}

TEST_P(Universal, ASavedRowIsTheSameRow) {
  Bundle bundle = Make(), other = Make(1, 99);
  const auto [ids, targets] = Batch(1, 4, 3);
  bundle.Step(ids, targets, {Update(1, 1e-2)});
  const plumb::testing::TempDir dir;
  const SavedCheckpoint saved = SaveCheckpoint(dir.path(), bundle.arena(), 0, {.step = 1}, "{}");
  LoadCheckpoint({.path = saved.path, .digest = saved.digest, .step = 1}, other.arena(), 0);
  Extras a, b;
  EXPECT_TRUE(at::equal(bundle.Logits(0, ids, &a), other.Logits(0, ids, &b)));
  EXPECT_EQ(bundle.Step(ids, targets, {Update(2, 1e-2)}).loss,
            other.Step(ids, targets, {Update(2, 1e-2)}).loss);
  EXPECT_TRUE(at::equal(bundle.arena().weights(), other.arena().weights()));
}

TEST_P(Universal, LearnsOneBatchByHeart) {
  Bundle bundle = Make();
  const auto [ids, targets] = Batch(1, 2, 3);
  double first = 0, last = 0;
  for (int64_t step = 1; step <= 60; ++step) {
    last = bundle.Step(ids, targets, {Update(step, 2e-2)}).loss[0];
    if (step == 1) first = last;
  }
  // A random way is another model every time.
  EXPECT_LT(last, m_.router.gate == spec::RouterGate::kRandom ? first : 0.25 * first);
}

TEST_P(Universal, ARowOfAnArrayIsTheRowAlone) {
  Bundle array = Make(3, 5);
  const auto [ids, targets] = Batch(3, 4, 3);
  std::vector<std::vector<double>> losses(3);
  const auto update = [&](int64_t k, int64_t step) {
    RowUpdate u = Update(step, 1e-2 * static_cast<double>(k + 1));
    u.noise += 1000 * static_cast<uint64_t>(k);
    return u;
  };
  for (int64_t step = 1; step <= 4; ++step) {
    const StepResult r =
        array.Step(ids, targets, {update(0, step), update(1, step), update(2, step)});
    for (int64_t k = 0; k < 3; ++k) losses[k].push_back(r.loss[k]);
  }
  for (int64_t k = 0; k < 3; ++k) {
    Bundle alone = Make(1, 5 + k);
    std::vector<double> own;
    for (int64_t step = 1; step <= 4; ++step) {
      own.push_back(alone
                        .Step(ids.narrow(0, k, 1).contiguous(),
                              targets.narrow(0, k, 1).contiguous(), {update(k, step)})
                        .loss[0]);
    }
    EXPECT_EQ(own, losses[k]) << "row " << k;
    EXPECT_TRUE(at::equal(alone.arena().weights()[0], array.arena().weights()[k])) << "row " << k;
  }
}

TEST_P(Universal, GradientsAreThoseOfFiniteDifferencesInFloat64) {
  // What is straight-through is no derivative; the path of a choice jumps.
  const spec::RouterGate g = m_.router.gate;
  if (g == spec::RouterGate::kUnitSt || g == spec::RouterGate::kSt ||
      g == spec::RouterGate::kGumbelSt)
    return;
  Bundle bundle = Make();
  const auto [ids, targets] = Batch(1, 3, 3);
  const ForwardTables tables(m_, kT, at::kCPU);
  ParameterView leaves, direction;
  uint64_t key = 1;
  for (const auto& [name, value] : bundle.arena().View(0, 1)) {
    at::Tensor d = at::empty(value.sizes(), at::kDouble);
    const CounterRandom random(++key);
    for (int64_t i = 0; i < d.numel(); ++i) d.data_ptr<double>()[i] = random.Normal(i);
    direction[name] = d;
    // Away from zeros and ones, where much of a block is asleep.
    const bool trainable = bundle.arena().layout().at(name).trainable;
    leaves[name] = (value.to(at::kDouble) + (trainable ? 0.05 : 0.0) * d.roll(1)).clone();
    leaves[name].requires_grad_(trainable);
  }
  const auto loss = [&](const ParameterView& p) {
    Extras extras;
    const at::Tensor logits = Forward(m_, tables, p, ids, &extras);
    return at::cross_entropy_loss(logits[0], targets.view({-1}), {}, at::Reduction::Mean, -1);
  };
  loss(leaves).backward();
  double along = 0;
  for (const auto& [name, leaf] : leaves) {
    if (leaf.requires_grad() && leaf.grad().defined())
      along += (leaf.grad() * direction[name]).sum().item<double>();
  }
  const auto moved = [&](double e) {
    ParameterView p;
    for (const auto& [name, leaf] : leaves)
      p[name] = leaf.detach() + (leaf.requires_grad() ? e : 0.0) * direction[name];
    return loss(p).item<double>();
  };
  // Small steps, and several: a relu may turn within one.
  double nearest = INFINITY;
  for (const double e : {1e-6, 1e-7, 1e-8})
    nearest = std::min(nearest, std::abs((moved(e) - moved(-e)) / (2 * e) - along));
  EXPECT_LE(nearest, 1e-6 * std::max(1.0, std::abs(along)));
}

INSTANTIATE_TEST_SUITE_P(Blocks, Universal, ::testing::ValuesIn(EveryBlock()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace plumb::trainer
