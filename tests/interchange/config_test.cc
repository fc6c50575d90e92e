#include <gmock/gmock.h>

#include "interchange/hf_config.h"
#include "tests/interchange/configs.h"

namespace plumb::interchange {
namespace {

using nlohmann::json;
using testing::Contains;
using testing::Field;
using testing::HasSubstr;
using testing::IsEmpty;

json Llama() { return FixtureConfig("llama"); }

TEST(ConfigFromHf, ReadsAShape) {
  HfConfig c;
  ASSERT_THAT(ConfigFromHf(FixtureConfig("llama_gqa"), &c), IsEmpty());
  EXPECT_EQ(c.model_type, "llama");
  EXPECT_EQ(c.spec.model.n_layers, 2);
  EXPECT_EQ(c.spec.model.d_model, 16);
  EXPECT_EQ(c.spec.model.n_kv_heads, 2);
  EXPECT_EQ(c.spec.model.head_dim, 6);
  EXPECT_EQ(c.spec.model.d_ff, 24);
  EXPECT_EQ(c.spec.model.vocab_size, 40);
  EXPECT_EQ(c.spec.model.rope_base, 500);
  EXPECT_TRUE(c.spec.model.tied_head);
  EXPECT_EQ(c.spec.data.seq_len, 32);
}

TEST(ConfigFromHf, ReadsTheSpellingOfTransformers4) {
  json old = Llama();
  old.erase("rope_parameters");
  old["rope_theta"] = 500.0;
  old["rope_scaling"] = nullptr;
  old["torch_dtype"] = "bfloat16";
  old["pretraining_tp"] = 1;
  HfConfig a, b;
  ASSERT_THAT(ConfigFromHf(old, &a), IsEmpty());
  ASSERT_THAT(ConfigFromHf(Llama(), &b), IsEmpty());
  EXPECT_EQ(spec::Key(a.spec), spec::Key(b.spec));
}

TEST(ConfigFromHf, RefusesByNameWhatItCannotCompute) {
  const struct {
    const char* base;
    const char* key;
    json value;
  } cases[] = {
      {"llama", "model_type", "bert"},
      {"llama", "architectures", {"LlamaForSequenceClassification"}},
      {"llama", "hidden_act", "quick_gelu"},
      {"llama", "rope_scaling", {{"rope_type", "llama3"}, {"factor", 8.0}}},
      {"llama", "rope_parameters", {{"rope_type", "yarn"}, {"rope_theta", 10000.0}}},
      {"llama", "partial_rotary_factor", 0.5},
      {"llama", "num_attention_heads", 3},
      {"llama", "hidden_size", 16.5},
      {"llama", "quantization_config", {{"bits", 4}}},
      {"llama", "is_encoder_decoder", true},
      {"llama", "layer_types", {"full_attention", "linear_attention"}},
      {"llama", "residual_multiplier", 0.22},  // Granite's
      {"phi3", "rope_scaling", {{"type", "longrope"}}},
      {"phi3", "attention_bias", true},
      {"gpt2", "scale_attn_by_inverse_layer_idx", true},
      {"gpt2", "scale_attn_weights", false},
      {"gpt2", "activation_function", "gelu_fast"},
      {"gpt_neox", "num_key_value_heads", 1},
      {"gptj", "tie_word_embeddings", true},
      {"gemma2", "use_bidirectional_attention", true},
      {"gemma2", "query_pre_attn_scalar", -1},
      {"mistral", "sliding_window", "wide"},
  };
  for (const auto& c : cases) {
    json config = FixtureConfig(c.base);
    config[c.key] = c.value;
    HfConfig out;
    const auto errors = ConfigFromHf(config, &out);
    EXPECT_THAT(errors, Contains(Field(&spec::SpecError::path, testing::StartsWith(c.key))))
        << c.key << ": " << spec::Format(errors);
  }
}

TEST(ConfigFromHf, LeavesDropoutOutAndSaysSo) {
  json config = FixtureConfig("gpt2");
  config["resid_pdrop"] = 0.1;
  HfConfig out;
  ASSERT_THAT(ConfigFromHf(config, &out), IsEmpty());
  EXPECT_THAT(out.notes, testing::ElementsAre(HasSubstr("resid_pdrop 0.1")));
}

class Configs : public testing::TestWithParam<std::string> {};

TEST_P(Configs, GoOutAndComeBackTheSameModel) {
  HfConfig in, back;
  ASSERT_THAT(ConfigFromHf(FixtureConfig(GetParam()), &in), IsEmpty());
  json written;
  const auto errors = ConfigToHf(in.spec, in.model_type, &written);
  ASSERT_THAT(errors, IsEmpty()) << spec::Format(errors);
  EXPECT_EQ(written.at("model_type"), in.model_type);
  ASSERT_THAT(ConfigFromHf(written, &back), IsEmpty());
  EXPECT_EQ(spec::Key(back.spec), spec::Key(in.spec));
}

INSTANTIATE_TEST_SUITE_P(Models, Configs,
                         testing::Values("llama", "llama_gqa", "llama_bias", "mistral", "phi3",
                                         "gpt2", "gpt_neox", "gptj", "olmo2", "gemma2"),
                         [](const auto& info) { return info.param; });

TEST(ConfigToHf, RefusesByNameWhatALayoutCannotHold) {
  HfConfig in;
  ASSERT_THAT(ConfigFromHf(FixtureConfig("gpt2"), &in), IsEmpty());
  json out;
  EXPECT_THAT(ConfigToHf(in.spec, "llama", &out),
              Contains(Field(&spec::SpecError::path, "model.norm")));
  EXPECT_THAT(ConfigToHf(in.spec, "bert", &out), testing::SizeIs(1));
  EXPECT_TRUE(out.is_null());

  in.spec.model.norm = spec::NormKind::kRmsNorm;  // now no layout holds it
  const auto errors = ConfigToHf(in.spec, "", &out);
  EXPECT_THAT(errors, testing::Not(IsEmpty()));
  EXPECT_TRUE(out.is_null());
}

TEST(ConfigToHf, FindsTheLayout) {
  HfConfig in;
  json out;
  ASSERT_THAT(ConfigFromHf(FixtureConfig("gpt2"), &in), IsEmpty());
  ASSERT_THAT(ConfigToHf(in.spec, "", &out), IsEmpty());
  EXPECT_EQ(out.at("model_type"), "gpt2");
  // What phi3 computes, llama says too.
  ASSERT_THAT(ConfigFromHf(FixtureConfig("phi3"), &in), IsEmpty());
  ASSERT_THAT(ConfigToHf(in.spec, "", &out), IsEmpty());
  EXPECT_EQ(out.at("model_type"), "llama");
}

}  // namespace
}  // namespace plumb::interchange
