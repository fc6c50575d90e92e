// What is read and what is scored: masked language modelling, positions that are context alone.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "tests/trainer/engine_fixture.h"
#include "trainer/evaluation.h"
#include "trainer/measure_plan.h"
#include "trainer/samples.h"

namespace plumb::trainer {
namespace {

constexpr int64_t kT = 20000;

std::vector<int64_t> Tokens(int64_t n) {
  std::vector<int64_t> tokens;
  const CounterRandom random(7);
  for (int64_t i = 0; i < n; ++i) tokens.push_back(static_cast<int64_t>(random.Bits(i) % 100));
  return tokens;
}

struct Sample {
  explicit Sample(const Scored& scored, uint64_t key = 1, uint64_t counter = 0, int64_t T = kT)
      : tokens(Tokens(T + 1)), ids(T), targets(T) {
    FillSample(scored, tokens.data(), T, CounterRandom(key), counter, ids.data(), targets.data());
  }
  std::vector<int64_t> tokens, ids, targets;
};

TEST(Samples, CausalScoresEveryNextTokenFromAPositionOn) {
  const Sample s({.from = 5}, 1, 0, 9);
  EXPECT_EQ(s.ids, std::vector<int64_t>(s.tokens.begin(), s.tokens.end() - 1));
  for (int64_t t = 0; t < 9; ++t) EXPECT_EQ(s.targets[t], t < 5 ? -1 : s.tokens[t + 1]) << t;
}

TEST(Samples, MasksTheShareOfDevlin) {
  const Scored scored{.mlm = true, .mask_fraction = 0.25, .mask = 100};
  const Sample s(scored);
  double chosen = 0, masked = 0, kept = 0, other = 0;
  for (int64_t t = 0; t < kT; ++t) {
    if (s.targets[t] < 0) {
      EXPECT_EQ(s.ids[t], s.tokens[t]);
      continue;
    }
    EXPECT_EQ(s.targets[t], s.tokens[t]);  // itself, not the next
    ++chosen;
    masked += s.ids[t] == 100;
    kept += s.ids[t] == s.tokens[t];
    other += s.ids[t] != 100 && s.ids[t] != s.tokens[t];
  }
  // Within 4 standard deviations of a binomial.
  const auto near = [](double count, double n, double p) {
    EXPECT_NEAR(count, n * p, 4 * std::sqrt(n * p * (1 - p)));
  };
  near(chosen, kT, 0.25);
  near(masked, chosen, 0.8);
  near(kept, chosen, 0.1 + 0.1 / 100);  // a random token may be the same
  near(other, chosen, 0.1 * 0.99);
}

TEST(Samples, MasksAreAFunctionOfKeyAndPosition) {
  const Scored scored{.mlm = true, .mask_fraction = 0.25, .mask = 100};
  EXPECT_EQ(Sample(scored, 1).targets, Sample(scored, 1).targets);
  EXPECT_NE(Sample(scored, 1).targets, Sample(scored, 2).targets);
  // A window that begins later has the same masks at the same positions.
  const std::vector<int64_t> tokens = Tokens(41);
  std::vector<int64_t> ids(40), targets(40), late_ids(30), late_targets(30);
  FillSample(scored, tokens.data(), 40, CounterRandom(3), 0, ids.data(), targets.data());
  FillSample(scored, tokens.data() + 10, 30, CounterRandom(3), 10, late_ids.data(),
             late_targets.data());
  EXPECT_EQ(std::vector<int64_t>(ids.begin() + 10, ids.end()), late_ids);
  EXPECT_EQ(std::vector<int64_t>(targets.begin() + 10, targets.end()), late_targets);
}

TEST_F(EngineTest, TrainsAMaskedModelAndLeavesTheCountedPoints) {
  spec::TrialSpec s = Spec(0.01, 1, 60);
  s.model.vocab_size = 0, s.train.objective = spec::Objective::kMlm, s.train.mask_fraction = 0.25;
  ASSERT_TRUE(spec::Resolve(&s).empty());
  EXPECT_EQ(s.model.vocab_size, 257);
  EXPECT_FALSE(s.model.causal);
  const Told t = Alone(Request("r", s));
  ASSERT_EQ(t.outcome, RowOutcome::kSucceeded) << t.cause;
  EXPECT_EQ(static_cast<int64_t>(t.points.size()), CountPoints(s, true));
  EXPECT_EQ(t.points.count({"test/bits_per_byte", -1, 60}), 0u);
  // Tokens are uniform over 63: ln 63 = 4.14 is the best there is.
  EXPECT_NEAR(t.at("train/loss", 5), 5.0, 0.8);
  EXPECT_NEAR(t.at("val/loss", 60), 4.2, 0.35);
  EXPECT_EQ(Results(t), Results(Alone(Request("again", s))));
}

TEST_F(EngineTest, ScoresNoPositionBeforeScoreFrom) {
  const auto dataset = data::Dataset::Open(data_.path());
  const data::Shard& shard = dataset.split(data::Split::kTrain);
  const spec::TrialSpec s = Spec();
  Bundle bundle(s.model, 16, 1, at::kCPU);
  bundle.Add(1);
  const auto score = [&](int64_t from, std::vector<DocumentScore>* documents = nullptr) {
    return Evaluate(bundle, 0, shard,
                    {.seq_len = 16, .scored = {.from = from}, .document_scores = documents});
  };
  // 1904 tokens, 1903 targets: 118 windows of 16 and one of 15; 3 of the 4 separators are targets.
  const int64_t all = score(0).tokens;
  EXPECT_EQ(all, 1900);
  EXPECT_EQ(score(15).tokens, 118);  // a position a full window; no separator is among them
  int64_t by_position = 0;
  double nll = 0;
  for (int64_t from = 0; from < 16; ++from) {
    const Score here = score(from);
    const Score next = from < 15 ? score(from + 1) : Score{};
    by_position += here.tokens - next.tokens, nll += here.nll - next.nll;
  }
  EXPECT_EQ(by_position, all);
  EXPECT_NEAR(nll, score(0).nll, 1e-9 * nll);
  std::vector<DocumentScore> documents;
  const Score scored = score(8, &documents);
  int64_t tokens = 0;
  for (const DocumentScore& d : documents) {
    tokens += d.tokens;
    EXPECT_GT(d.tokens, 0);
  }
  EXPECT_EQ(tokens, scored.tokens);
}

TEST_F(EngineTest, TrainingTakesNoGradientFromPositionsBeforeScoreFrom) {
  // Of a model without attention to them, they would not matter at all; here the logits of scored
  // positions are all that the loss sees.
  spec::TrialSpec s = Spec();
  s.data.score_from = 12;
  ASSERT_TRUE(spec::Resolve(&s).empty());
  const auto dataset = data::Dataset::Open(data_.path());
  const MixedOrder order = OrderOf(s, dataset);
  std::vector<int64_t> ids(64), targets(64);
  FillBatch(s, dataset, order, 3, ids.data(), targets.data());
  int64_t scored = 0;
  for (size_t i = 0; i < 64; ++i) {
    EXPECT_EQ(targets[i] >= 0, i % 16 >= 12);
    scored += targets[i] >= 0;
  }
  EXPECT_EQ(scored, 16);
  EXPECT_NE(spec::Key(s), spec::Key(Spec()));
}

}  // namespace
}  // namespace plumb::trainer
