// The block catalogue: what presets count, which combinations are refused, and how rates follow the
// shape. Figures: He & Hofmann 2023 and its repository, seed 002, arXiv 2505.01618.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/spec/specs.h"
#include "trainer/spec/choices.h"
#include "trainer/spec/cost.h"
#include "trainer/spec/parametrization.h"
#include "trainer/spec/presets.h"

namespace plumb::spec {
namespace {

// CodeParrot's shape with the repository's 1,024 learned positions.
ModelSpec CodeParrot(const std::string& preset, const std::string& more = "", int64_t layers = 18,
                     int64_t d_ff = 3072) {
  return ResolvedOrDie(
             R"({"model": {"preset": ")" + preset + R"(", "n_layers": )" + std::to_string(layers) +
             R"(, "d_ff": )" + std::to_string(d_ff) +
             R"(, "d_model": 768, "n_heads": 12, "vocab_size": 50000,
                       "max_positions": 1024)" +
             more + R"(}, "data": {"seq_len": 128}, "train": {"steps": 1, "batch_tokens": 128}})")
      .model;
}

int64_t Total(const std::string& preset) { return CountParameters(CodeParrot(preset)).total; }

// The published totals count a dead gain per skipless block (alpha_SA, declared and never used)
// and, in parallel blocks, a dead second norm. Ours create neither.
TEST(Counts, OfSeed001AreTheRepositorysLessWhatItNeverUses) {
  constexpr int64_t kBlocks = 18, kDeadGain = kBlocks, kDeadNorm = kBlocks * 768;
  EXPECT_EQ(Total("preln"), 166'645'248);
  EXPECT_EQ(Total("gptj_parallel"), 166'631'424);
  EXPECT_EQ(Total("gptj_parallel") + kDeadNorm, 166'645'248);
  EXPECT_EQ(Total("vskipinit") + kDeadGain, 166'645'968);
  EXPECT_EQ(Total("sas") + kDeadGain, 146'002'130);
  EXPECT_EQ(Total("sas_p"), 145'988'270);
  EXPECT_EQ(Total("sas_p") + kDeadNorm, 146'002'094);
  EXPECT_EQ(Total("sas_p_nonorm"), 145'975'982);
}

TEST(Counts, OfTheDepthFigure) {
  const auto at = [](const std::string& preset, int64_t layers) {
    return static_cast<double>(CountParameters(CodeParrot(preset, "", layers, 1536)).total);
  };
  // Printed in millions, one decimal.
  EXPECT_NEAR(at("preln", 18) / 1e6, 124.2, 0.05);
  EXPECT_NEAR(at("sas", 18) / 1e6, 103.5, 0.05);
  EXPECT_NEAR(at("preln", 72) / 1e6, 379.1, 0.05);
  EXPECT_NEAR(at("sas", 72) / 1e6, 294.8, 0.05);
}

TEST(Counts, OfSeed002) {
  const auto total = [](const std::string& preset) {
    return CountParameters(
               ResolvedOrDie(R"({"model": {"preset": ")" + preset +
                             R"(", "n_layers": 10, "d_model": 704, "n_heads": 1, "d_ff": 1856,
                             "vocab_size": 32000}, "data": {"seq_len": 2048},
                             "train": {"steps": 1, "batch_tokens": 2048}})")
                   .model)
        .total;
  };
  constexpr int64_t kLayers = 10, kWidth = 704, kLongest = 2048;
  EXPECT_EQ(total("llama_base"), 104'094'144);
  EXPECT_EQ(total("llama_gelu_qkv"), 104'094'144 + kLayers * 3 * kWidth);
  EXPECT_EQ(total("llama_sep_qkv"), 104'094'144);
  EXPECT_EQ(total("llama_score_bias"), 104'094'144 + kLayers * (kWidth * kLongest + kLongest));
}

TEST(Counts, OfTheRouterAreItsWeightsAndBiases) {
  const std::string rest =
      R"(, "n_layers": 4, "d_model": 256, "n_heads": 8}, "train": {"steps": 1}})";
  const auto plain =
      CountParameters(ResolvedOrDie(R"({"model": {"preset": "phi3_static")" + rest).model);
  const auto routed =
      CountParameters(ResolvedOrDie(R"({"model": {"preset": "phi3_dynamic")" + rest).model);
  EXPECT_EQ(routed.total, plain.total + 4 * (5 * 256 + 5));
  EXPECT_EQ(routed.by_role.at("router"), 4 * (5 * 256 + 5));
}

// Four vectors of a head's width and the norm of a pair, in each block.
TEST(Counts, OfDifferentialAttentionAreALlamasAndSixHeadWidths) {
  const std::string rest =
      R"(, "n_layers": 3, "d_model": 64, "n_heads": 4}, "train": {"steps": 1}})";
  const auto total = [&](const std::string& preset) {
    return CountParameters(ResolvedOrDie(R"({"model": {"preset": ")" + preset + '"' + rest).model)
        .total;
  };
  EXPECT_EQ(total("differential"), total("llama_base") + 3 * (4 + 2) * 16);
}

TEST(Counts, SplitFrozenFromTrainable) {
  const auto c =
      CountParameters(CodeParrot("preln", R"(, "vp": "reparam", "vp_init": "orthogonal")"));
  EXPECT_EQ(c.frozen, 18 * 2 * 768 * 768);
  EXPECT_EQ(c.total, c.trainable + c.frozen);
  EXPECT_EQ(c.trainable, Total("preln"));
}

TEST(Counts, FlopsAreTheMatricesThatPositionsMeet) {
  const ModelSpec preln = CodeParrot("preln"), sas = CodeParrot("sas");
  constexpr int64_t kMatrices = 18 * (4 * 768 * 768 + 2 * 768 * 3072) + 768 * 50000;
  EXPECT_EQ(ForwardFlopsPerToken(preln, 128), 2 * kMatrices + 4 * 128 * 768 * 18);
  // Value and output are gone but for the first block's value.
  EXPECT_EQ(ForwardFlopsPerToken(preln, 128) - ForwardFlopsPerToken(sas, 128),
            2 * (2 * 18 - 1) * 768 * 768);
  for (const ModelSpec& m : {preln, sas, CodeParrot("op"), CodeParrot("modded")}) {
    int64_t sum = 0, parameters = 0;
    for (const ComponentCost& c : Components(m, 128)) sum += c.flops, parameters += c.parameters;
    EXPECT_EQ(sum, ForwardFlopsPerToken(m, 128));
    EXPECT_EQ(parameters, CountParameters(m).total);
  }
}

TEST(Presets, AllResolveAndNameTheirSource) {
  EXPECT_EQ(PresetNames().size(), 20u);
  for (const std::string& name : PresetNames()) {
    EXPECT_FALSE(PresetSource(name).empty()) << name;
    ResolvedOrDie(R"({"model": {"preset": ")" + name + R"("}, "train": {"steps": 1}})");
  }
}

TEST(Resolve, RefusesCombinationsThatMeanNothing) {
  const auto wrong = [](const std::string& model, const std::string& rest = "") {
    TrialSpec spec;
    return Format(ParseResolved(
        R"({"model": {)" + model + R"(}, "train": {"steps": 1})" + rest + "}", &spec));
  };
  EXPECT_EQ(
      wrong(R"("vp": "identity", "qkv": "separate", "n_kv_heads": 2)"),
      "model.vp: identity needs values as wide as the model: n_heads * head_dim = d_model and "
      "no grouped heads");
  EXPECT_EQ(wrong(R"("vp": "identity")"),
            "model.qkv: vp: identity has no value in a fused linear; say qkv: separate");
  EXPECT_EQ(wrong(R"("score_bias": "dense", "score_bias_max": 64)"),
            "model.score_bias_max: its columns are absolute key positions: 64 is less than the "
            "longest sequence, 128");
  EXPECT_EQ(
      wrong(R"("query_init": "zero", "qkv": "separate", "qk_norm": "head")"),
      "model.query_init: a zero query stays zero under QK-norm, its gradient scaled by 1/eps; "
      "choose one");
  EXPECT_EQ(
      wrong(R"("qk_norm": "head", "parametrization": "mup")",
            R"(, "base": {"d_model": 64, "n_layers": 2})"),
      "model.attn_scale: QK-norm with scores / head_dim needs its own scale; give attn_scale");
  EXPECT_EQ(wrong(R"("parametrization": "completep")"),
            "base: completep needs the shape at which the hyperparameters are stated: base: "
            "{d_model: …, n_layers: …}");
  EXPECT_EQ(wrong(R"("preset": "phi3_dynamic", "norm_scaling": "depth")"),
            "model.norm_scaling: which index, step or block? Not defined with a router");
  EXPECT_EQ(wrong(R"("preset": "differential", "n_kv_heads": 2)"),
            "model.attn_matrix: differential takes heads in pairs: n_heads even, no grouped heads");
  EXPECT_EQ(wrong(R"("preset": "differential", "position": "alibi")"),
            "model.attn_matrix: differential compares two maps; ALiBi would bend them differently");
  EXPECT_EQ(wrong(R"("causal": false)"),
            "model.causal: without it every position sees its target; say train.objective: mlm");
  EXPECT_EQ(wrong("", R"(, "router": {"gate": "fixed", "path": "0,1,9,2"})"),
            "router.path: fixed needs 4 choices from -1 (skip) to 3, like \"0,1,-1,2\"");
}

// m_N = 4, m_L = 8, rate 1e-2, decay 0.1, epsilon 1e-8 (shape_and_linearity.md, 4.1).
TEST(Parametrization, HasTheFactorsOfTheTable) {
  const auto model = [](const std::string& kind, double alpha) {
    return ResolvedOrDie(R"({"model": {"d_model": 256, "n_layers": 16, "parametrization": ")" +
                         kind + R"(", "depth_alpha": )" + std::to_string(alpha) +
                         R"(}, "base": {"d_model": 64, "n_layers": 2}, "train": {"steps": 1}})")
        .model;
  };
  const auto factors = [](const ModelSpec& m, const char* name) {
    return FactorsOf(m, LayoutOf(m).at(name));
  };
  const char* hidden = "blocks.3.mlp.down.weight";
  ModelSpec m = model("completep", 1);
  EXPECT_DOUBLE_EQ(ResidualMultiplier(m), 0.125);
  EXPECT_DOUBLE_EQ(1e-2 * factors(m, hidden).lr, 2.5e-3);
  EXPECT_DOUBLE_EQ(0.1 * factors(m, hidden).weight_decay, 0.4);
  EXPECT_DOUBLE_EQ(1e-8 * factors(m, hidden).eps, 3.125e-10);
  EXPECT_DOUBLE_EQ(factors(m, "blocks.3.mlp_norm.weight").lr, 1);
  EXPECT_DOUBLE_EQ(factors(m, "blocks.3.mlp_norm.weight").weight_decay, 0);
  EXPECT_DOUBLE_EQ(factors(m, "embed.weight").lr, 1);
  EXPECT_DOUBLE_EQ(factors(m, "head.weight").weight_decay, 1);
  EXPECT_DOUBLE_EQ(LogitMultiplier(m), 0.25);
  EXPECT_DOUBLE_EQ(ScoreScale(m), 1.0 / 64);
  EXPECT_DOUBLE_EQ(LayoutOf(m).at(hidden).init.std, 0.01);  // 0.02 / sqrt(4), no depth shrink
  EXPECT_DOUBLE_EQ(LayoutOf(m).at("embed.weight").init.std, 0.02);
  m = model("completep", 0.5);
  EXPECT_NEAR(ResidualMultiplier(m), 0.35355, 1e-5);
  EXPECT_NEAR(1e-2 * factors(m, hidden).lr, 8.8388e-4, 1e-8);
  EXPECT_NEAR(1e-8 * factors(m, hidden).eps, 8.8388e-10, 1e-14);
  EXPECT_NEAR(factors(m, "blocks.3.mlp_norm.weight").lr, std::pow(8, -0.5), 1e-12);
  m = model("mup", 1);
  EXPECT_DOUBLE_EQ(factors(m, hidden).lr, 0.25);
  EXPECT_DOUBLE_EQ(factors(m, hidden).weight_decay, 1);
  EXPECT_DOUBLE_EQ(factors(m, hidden).eps, 1);
  EXPECT_DOUBLE_EQ(ResidualMultiplier(m), 1);
  m = model("mup_repo", 1);
  EXPECT_DOUBLE_EQ(factors(m, hidden).weight_decay, 4);
  EXPECT_DOUBLE_EQ(factors(m, hidden).eps, 0.25);
  EXPECT_DOUBLE_EQ(factors(m, "embed.weight").eps, 1);
  m = model("sp", 1);
  EXPECT_DOUBLE_EQ(factors(m, hidden).lr, 1);
  EXPECT_DOUBLE_EQ(ScoreScale(m), 1 / 8.0);
}

}  // namespace
}  // namespace plumb::spec
