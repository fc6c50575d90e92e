#include "trainer/spec/parameter_layout.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "tests/spec/specs.h"

namespace plumb::spec {
namespace {

TEST(ParameterLayout, OffsetsAreAlignedAndNothingOverlaps) {
  std::mt19937_64 random(4);
  for (int i = 0; i < 20; ++i) {
    const ParameterLayout layout = LayoutOf(RandomSpec(random).model);
    int64_t end = 0;
    std::set<std::string> names;
    for (const Parameter& p : layout.parameters) {
      EXPECT_EQ(p.offset % 16, 0) << p.name;
      EXPECT_GE(p.offset, end) << p.name;
      EXPECT_LT(p.offset - end, 16) << p.name;
      end = p.offset + p.size();
      EXPECT_TRUE(names.insert(p.name).second) << p.name;
    }
    EXPECT_EQ(layout.row_size % 16, 0);
    EXPECT_GE(layout.row_size, end);
    EXPECT_LT(layout.row_size - end, 16);
  }
}

TEST(ParameterLayout, NamesAndShapesAreTheCheckpointFormat) {
  TrialSpec s;
  s.model = {.n_layers = 1,
             .d_model = 12,
             .n_heads = 3,
             .n_kv_heads = 1,
             .head_dim = 4,
             .d_ff = 20,
             .vocab_size = 300};
  std::string text;
  for (const Parameter& p : LayoutOf(s.model).parameters) {
    text += p.name + std::string(" ") + Name(p.role);
    for (int64_t n : p.shape) text += " " + std::to_string(n);
    text += "\n";
  }
  EXPECT_EQ(text,
            "embed.weight embedding 300 12\n"
            "blocks.0.attn_norm.weight gain 12\n"
            "blocks.0.attn.qkv.weight hidden 12 20\n"
            "blocks.0.attn.out.weight hidden 12 12\n"
            "blocks.0.mlp_norm.weight gain 12\n"
            "blocks.0.mlp.gate_up.weight hidden 12 40\n"
            "blocks.0.mlp.down.weight hidden 20 12\n"
            "final_norm.weight gain 12\n"
            "head.weight readout 12 300\n");
}

TEST(ParameterLayout, Gpt2HasBiasesPositionsAndNoHead) {
  const TrialSpec s = ResolvedOrDie(
      R"({"model": {"preset": "gpt2", "n_layers": 1, "d_model": 8, "n_heads": 2}, "train": {"steps": 1}})");
  const ParameterLayout layout = LayoutOf(s.model);
  EXPECT_EQ(layout.at("position.weight").shape, (std::vector<int64_t>{128, 8}));
  EXPECT_EQ(layout.at("blocks.0.mlp.up.weight").shape, (std::vector<int64_t>{8, 32}));
  EXPECT_EQ(layout.at("blocks.0.attn.qkv.bias").shape, (std::vector<int64_t>{24}));
  EXPECT_TRUE(layout.contains("final_norm.bias"));
  EXPECT_FALSE(layout.contains("head.weight"));
  EXPECT_THROW(layout.at("nothing"), std::out_of_range);
}

TEST(ParameterLayout, ResidualOutputsStartSmallerWithDepth) {
  ModelSpec m = ResolvedOrDie(R"({"model": {"n_layers": 8}, "train": {"steps": 1}})").model;
  const ParameterLayout layout = LayoutOf(m);
  EXPECT_DOUBLE_EQ(layout.at("blocks.3.attn.qkv.weight").init.std, 0.02);
  EXPECT_DOUBLE_EQ(layout.at("blocks.3.attn.out.weight").init.std, 0.02 / 4);
  EXPECT_DOUBLE_EQ(layout.at("blocks.3.mlp.down.weight").init.std, 0.02 / 4);
  EXPECT_EQ(layout.at("blocks.3.attn_norm.weight").init.kind, Init::Kind::kOnes);
}

}  // namespace
}  // namespace plumb::spec
