#include "trainer/spec/cost.h"

#include "tests/spec/specs.h"

namespace plumb::spec {
namespace {

TEST(Counts, MatchTheClosedFormOfALlama) {
  const TrialSpec s = ResolvedOrDie(
      R"({"model": {"n_layers": 10, "d_model": 704, "n_heads": 1, "d_ff": 1856, "vocab_size": 32000},
                                        "train": {"steps": 1}})");
  const ParameterCounts c = CountParameters(s.model);
  // 2 V d + L (4 d^2 + 3 d f + 2 d) + d
  EXPECT_EQ(c.total, 104094144);
  EXPECT_EQ(c.embedding, 2 * 32000 * 704);
  EXPECT_EQ(c.non_embedding, 104094144 - 2 * 32000 * 704);
  EXPECT_EQ(c.by_role.at("gain"), 10 * 2 * 704 + 704);
}

TEST(Counts, MatchThePublishedGpt2) {
  const TrialSpec s = ResolvedOrDie(
      R"({"model": {"preset": "gpt2", "n_layers": 12, "d_model": 768, "n_heads": 12, "vocab_size": 50257,
                                        "max_positions": 1024}, "train": {"steps": 1}})");
  const ParameterCounts c = CountParameters(s.model);
  EXPECT_EQ(c.total, 124439808);
  EXPECT_EQ(c.embedding, 50257 * 768 + 1024 * 768);
}

TEST(Counts, AreTheClosedFormForRandomShapes) {
  std::mt19937_64 random(20);
  for (int i = 0; i < 200; ++i) {
    const TrialSpec s = RandomSpec(random);
    const ModelSpec& m = s.model;
    const int64_t d = m.d_model, qkv = (m.n_heads + 2 * m.n_kv_heads) * m.head_dim,
                  out = m.n_heads * m.head_dim;
    const int64_t up = m.mlp == MlpKind::kSwiGlu ? 2 * m.d_ff : m.d_ff;
    const int64_t norm = m.norm == NormKind::kLayerNorm ? 2 * d : d;
    int64_t block = d * qkv + out * d + d * up + m.d_ff * d + 2 * norm;
    if (m.bias) block += qkv + d + up + d;
    int64_t total = m.vocab_size * d + m.n_layers * block + norm;
    if (m.position == PositionKind::kLearned) total += m.max_positions * d;
    if (!m.tied_head) total += m.vocab_size * d;
    const ParameterCounts c = CountParameters(m);
    EXPECT_EQ(c.total, total);
    int64_t sum = 0;
    for (const auto& [role, n] : c.by_role) sum += n;
    EXPECT_EQ(sum, total);
    EXPECT_EQ(c.embedding + c.non_embedding, total);
  }
}

TEST(Flops, AreTheClosedForm) {
  // d 64, L 2, H 4 of 16, f 176, V 256, T 32: weights of products = L (4 d^2 + 3 d f) + d V.
  const TrialSpec s =
      ResolvedOrDie(R"({"model": {"n_layers": 2, "d_model": 64}, "data": {"seq_len": 32},
                                        "train": {"steps": 7, "batch_tokens": 64}})");
  ASSERT_EQ(s.model.d_ff, 176);
  const int64_t weights = 2 * (4 * 64 * 64 + 3 * 64 * 176) + 64 * 256;
  const int64_t forward = 2 * weights + 4 * 32 * 64 * 2;
  EXPECT_EQ(ForwardFlopsPerToken(s.model, 32), forward);
  EXPECT_EQ(TrainingFlopsPerToken(s.model, 32), 3 * forward);
  EXPECT_EQ(TotalTokens(s), 7 * 64);
  EXPECT_EQ(TotalTrainingFlops(s), 3.0 * static_cast<double>(forward) * 7 * 64);
}

TEST(Flops, CountATiedHeadLikeAnUntiedOne) {
  TrialSpec s = ResolvedOrDie(R"({"train": {"steps": 1}})");
  const int64_t untied = ForwardFlopsPerToken(s.model, 128);
  s.model.tied_head = true;
  EXPECT_EQ(ForwardFlopsPerToken(s.model, 128), untied);
}

TEST(Memory, GrowsWithTheModelTheBatchAndTheRows) {
  const TrialSpec small = ResolvedOrDie(R"({"train": {"steps": 1}})");
  const TrialSpec wide = ResolvedOrDie(R"({"model": {"d_model": 256}, "train": {"steps": 1}})");
  TrialSpec micro = small;
  micro.execution.micro_batch = 1;
  EXPECT_GT(PredictedPeakBytes(wide, 1), PredictedPeakBytes(small, 1));
  EXPECT_GT(PredictedPeakBytes(small, 2), PredictedPeakBytes(small, 1));
  EXPECT_LT(PredictedPeakBytes(micro, 1), PredictedPeakBytes(small, 1));
}

TEST(Counts, OfTheLargestShapesAllowedStayWithin64Bits) {
  const TrialSpec s = ResolvedOrDie(
      R"({"model": {"n_layers": 4096, "d_model": 1048576, "n_heads": 1024, "head_dim": 4096,
      "d_ff": 4194304, "vocab_size": 16777216}, "data": {"seq_len": 16777216}, "train": {"steps": 1, "batch_tokens": 9982443520}})");
  const ParameterCounts c = CountParameters(s.model);
  const double d = 1 << 20, blocks = 4096.0 * (4 * d * (1 << 22) + 3 * d * (1 << 22) + 2 * d);
  EXPECT_NEAR(static_cast<double>(c.total), blocks + 2 * d * (1 << 24) + d, 1e3);
  EXPECT_GT(TrainingFlopsPerToken(s.model, s.data.seq_len), 0);
  EXPECT_GT(PredictedPeakBytes(s, 64), int64_t{1} << 60);
  EXPECT_EQ(Format(ErrorsOf(
                R"({"model": {"n_heads": 65536, "head_dim": 65536}, "train": {"steps": 1}})")),
            "model.head_dim: 65536 heads of width 65536 are wider than 4194304 together");
  EXPECT_EQ(Format(ErrorsOf(R"({"train": {"steps": 1e12, "batch_tokens": 128000}})")),
            "train: 1000000000000 steps of 128000 tokens are more than 2^53 tokens");
}

}  // namespace
}  // namespace plumb::spec
