#include "trainer/spec/parse.h"

#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/spec/specs.h"
#include "trainer/schedule.h"
#include "trainer/spec/cost.h"
#include "trainer/spec/sha256.h"

namespace plumb::spec {
namespace {

using nlohmann::json;

TEST(Parse, TakesNestedAndDottedKeys) {
  const TrialSpec nested =
      ResolvedOrDie(R"({"model": {"d_model": 64}, "train": {"steps": 5, "lr": 0.01}})");
  const TrialSpec dotted =
      ResolvedOrDie(R"({"model.d_model": 64, "train.steps": 5, "train": {"lr": 0.01}})");
  EXPECT_EQ(Key(nested), Key(dotted));
  EXPECT_EQ(dotted.model.d_model, 64);
  EXPECT_EQ(dotted.train.lr, 0.01);
}

TEST(Parse, ReportsEveryErrorWithItsPath) {
  const auto errors = ErrorsOf(
      R"({"model": {"d_modle": 64, "n_layers": 0, "mlp": "tanh"}, "train": {"steps": 1.5}, "tokenizer": "bytes", "zzz": 1})");
  EXPECT_EQ(Format(errors),
            "model.d_modle: no such field; did you mean model.d_model?\n"
            "model.mlp: expected one of swiglu, gelu, geglu, geglu_tanh, reglu, bilinear, "
            "gelu_erf, relu, relu2, leaky_relu, silu; got \"tanh\"\n"
            "model.n_layers: 0 is outside [1, 4096]\n"
            "tokenizer: no such field; did you mean data.tokenizer?\n"
            "train.steps: expected an integer, got 1.5\n"
            "zzz: no such field; plumb schema trial lists them");
}

TEST(Parse, RefusesWhatIsGivenTwiceAndWhatIsNotJson) {
  EXPECT_EQ(Format(ErrorsOf(R"({"model": {"d_model": 64}, "model.d_model": 65})")),
            "model.d_model: given twice");
  EXPECT_EQ(Format(ErrorsOf(R"({"model": {"d_model": 64, "d_model": 65}})")),
            "d_model: given twice");
  EXPECT_EQ(Format(ErrorsOf("{")).substr(0, 14), "not JSON: byte");
  EXPECT_EQ(Format(ErrorsOf(R"({"train": {"lr": 1e999}})")),
            "a number is too large: at most 1.7e308");
  EXPECT_EQ(Format(ErrorsOf("[]")), "expected an object of sections (model, data, train, …)");
  EXPECT_EQ(Format(ErrorsOf(std::string(2 << 20, ' '))), "config larger than 1 MiB");
  EXPECT_FALSE(ErrorsOf(std::string(100000, '[')).empty());
}

TEST(Parse, ABadConfigLeavesTheSpecAlone) {
  TrialSpec s;
  s.model.d_model = 48;
  EXPECT_FALSE(ParseText(R"({"model": {"n_layers": 7, "d_model": -1}})", &s).empty());
  EXPECT_EQ(s.model.d_model, 48);
  EXPECT_EQ(s.model.n_layers, 4);
}

TEST(Resolve, DerivesWhatIsLeftOut) {
  const TrialSpec s = ResolvedOrDie(
      R"({"model": {"d_model": 96, "head_dim": 16}, "data": {"seq_len": 32}, "train": {"steps": 3, "batch_tokens": 64}})");
  EXPECT_EQ(s.model.n_heads, 6);
  EXPECT_EQ(s.model.n_kv_heads, 6);
  EXPECT_EQ(s.model.d_ff, 256);
  EXPECT_EQ(s.model.vocab_size, 256);
  EXPECT_EQ(s.model.max_positions, 0);  // RoPE has no table
  EXPECT_EQ(s.eval.seq_len, 32);
  EXPECT_EQ(s.eval.points, 3);  // no more than steps
}

TEST(Resolve, IsIdempotent) {
  std::mt19937_64 random(9);
  for (int i = 0; i < 50; ++i) {
    const TrialSpec once = RandomSpec(random);
    TrialSpec twice = once;
    ASSERT_TRUE(Resolve(&twice).empty());
    EXPECT_EQ(Canonical(once, With::kExecution), Canonical(twice, With::kExecution));
  }
}

TEST(Resolve, NamesWhatDoesNotFitTogether) {
  const auto only = [](const std::string& text) { return Format(ErrorsOf(text)); };
  EXPECT_EQ(only(R"({"model": {"d_model": 65, "n_heads": 4}, "train": {"steps": 1}})"),
            "model.n_heads: 4 does not divide d_model 65; give head_dim too, or another width");
  EXPECT_EQ(only(R"({"model": {"head_dim": 3, "n_heads": 4}, "train": {"steps": 1}})"),
            "model.head_dim: RoPE turns pairs: the head width 3 must be even");
  EXPECT_EQ(only(R"({"model": {"n_kv_heads": 3}, "train": {"steps": 1}})"),
            "model.n_kv_heads: 3 does not divide n_heads 4");
  EXPECT_EQ(only(R"({"model": {"vocab_size": 100}, "train": {"steps": 1}})"),
            "model.vocab_size: 100 is less than the tokenizer's 256");
  EXPECT_EQ(only(R"({"data": {"tokenizer": "bpe"}, "train": {"steps": 1}})"),
            "data.tokenizer: unknown tokenizer \"bpe\"; bytes, or sentencepiece:<300 or more>");
  EXPECT_EQ(only(R"({"train": {"steps": 1, "batch_tokens": 100}})"),
            "train.batch_tokens: 100 is not a multiple of data.seq_len 128");
  EXPECT_EQ(
      only(R"({"train": {"steps": 1, "batch_tokens": 768, "ranks": 4}})"),
      "train.ranks: 4 does not divide the batch of 6 sequences (batch_tokens / seq_len); give "
      "one of 1, 2, 3, 6, or another train.batch_tokens");
  EXPECT_EQ(only(R"({"router": {"gate": "st"}, "train": {"steps": 1, "ranks": 2}})"),
            "train.ranks: a router draws and balances over the whole batch; 1");
  EXPECT_EQ(only("{}"),
            "train: no budget: give one of train.steps, train.tokens, train.flops, train.epochs");
  EXPECT_EQ(only(R"({"train": {"steps": 1, "tokens": 1}})"),
            "train: give only one of train.steps, train.tokens, train.flops, train.epochs");
  EXPECT_EQ(only(R"({"train": {"steps": 10, "warmup_steps": 11}})"),
            "train.warmup_steps: 11 is more than the 10 steps");
  EXPECT_EQ(only(R"({"train": {"flops": 1}})").substr(0, 36),
            "train.flops: less than one step of 2");
}

TEST(Canonical, LeavesDefaultsOutAndReadsBackTheSame) {
  const TrialSpec s = ResolvedOrDie(
      R"({"model": {"d_model": 64, "n_layers": 4}, "train": {"steps": 5, "lr": 0.001}})");
  const json c = Canonical(s, With::kResultOnly);
  EXPECT_FALSE(c["model"].contains("n_layers"));  // 4 is the default
  EXPECT_FALSE(c["train"].contains("lr"));
  EXPECT_EQ(c["model"]["d_model"], 64);
  std::mt19937_64 random(11);
  for (int i = 0; i < 50; ++i) {
    const TrialSpec original = RandomSpec(random);
    TrialSpec back;
    ASSERT_TRUE(ParseResolved(Canonical(original, With::kExecution).dump(), &back).empty());
    EXPECT_EQ(Canonical(back, With::kExecution), Canonical(original, With::kExecution));
    EXPECT_EQ(Key(back), Key(original));
  }
}

TEST(Canonical, APresetIsItsRowOfFields) {
  const TrialSpec preset =
      ResolvedOrDie(R"({"model": {"preset": "gpt2", "d_model": 64}, "train": {"steps": 5}})");
  const TrialSpec fields = ResolvedOrDie(
      R"({"model": {"norm": "layernorm", "position": "learned", "mlp": "gelu", "bias": true,
                                             "tied_head": true, "d_model": 64}, "train": {"steps": 5}})");
  EXPECT_EQ(Key(preset), Key(fields));
  const TrialSpec overridden = ResolvedOrDie(
      R"({"model": {"bias": false, "preset": "gpt2", "d_model": 64}, "train": {"steps": 5}})");
  EXPECT_FALSE(overridden.model.bias);
  EXPECT_EQ(overridden.model.norm, NormKind::kLayerNorm);
}

// These strings are in people's databases: a change here means that no finished trial is found
// again. A change of what is computed belongs into the semantics versions of parse.cc; then, and
// only then, are new strings right.
TEST(Key, IsTheSameForEver) {
  EXPECT_EQ(Key(ResolvedOrDie(R"({"train": {"steps": 100}})")),
            "ecb87c61c0638d0e3435f6529c1d9febc92bd86aa538a8245ff78509a4d6d57f");
  EXPECT_EQ(Key(ResolvedOrDie(
                R"({"model": {"preset": "gpt2", "n_layers": 2, "d_model": 96, "head_dim": 16},
                                  "data": {"corpus": "python-docs-en", "digest": "d", "seq_len": 64},
                                  "train": {"flops": 1.5e11, "batch_tokens": 1024, "lr": 3e-3, "warmup_fraction": 0.05},
                                  "seed": {"init": 1, "data": 2}})")),
            "f7eacc2edaba4272c819a248ccb77095086dff80b02de2f2e99c893ecad2f000");
  EXPECT_EQ(FusionKey(ResolvedOrDie(R"({"train": {"steps": 100}})")),
            "ef9f16df05c83078c626839605e2a1bf2e391bd2e78f48fc8e06a0943d34e3f9");
}

TEST(Key, BudgetsOfEqualStepsAreOneTrial) {
  const TrialSpec steps = ResolvedOrDie(R"({"train": {"steps": 10}})");
  const TrialSpec tokens = ResolvedOrDie(R"({"train": {"tokens": 40960}})");
  const TrialSpec nearly = ResolvedOrDie(R"({"train": {"tokens": 41000}})");
  const TrialSpec flops = ResolvedOrDie(
      "{\"train\": {\"flops\": " + std::to_string(static_cast<int64_t>(TotalTrainingFlops(steps))) +
      "}}");
  EXPECT_EQ(Key(steps), Key(tokens));
  EXPECT_EQ(Key(steps), Key(nearly));
  EXPECT_EQ(Key(steps), Key(flops));
}

TEST(Key, ExecutionFieldsDoNotChangeItAndResultFieldsDo) {
  const std::string base = R"("train.steps": 100, "train.batch_tokens": 4096)";
  const std::string key = Key(ResolvedOrDie("{" + base + "}"));
  for (const char* same : {R"("execution.threads": 4)", R"("execution.micro_batch": 2)",
                           R"("execution.checkpoint_seconds": 5)",
                           R"("execution.checkpoint_steps": 10)", R"("model.rope_base": 10000)",
                           R"("model.max_positions": 999)", R"("train.decay_fraction": 0.5)"}) {
    EXPECT_EQ(Key(ResolvedOrDie("{" + base + ", " + same + "}")), key) << same;
  }
  for (const char* other :
       {R"("seed.init": 1)", R"("seed.data": 1)", R"("train.lr": 0.002)", R"("data.digest": "x")",
        R"("model.tied_head": true)", R"("numerics.device": "cuda")", R"("eval.tokens": 1)",
        R"("train.ranks": 2)", R"("model.rope_base": 500)", R"("train.final_lr_fraction": 0)"}) {
    EXPECT_NE(Key(ResolvedOrDie("{" + base + ", " + other + "}")), key) << other;
  }
}

TEST(PrefixKey, BudgetsAndCooldownsOfOneRateShareWhatComesBeforeTheCooldown) {
  const auto of = [](const std::string& train, const std::string& rest = "") {
    return ResolvedOrDie("{\"train\": {" + train + "}" + (rest.empty() ? "" : ", " + rest) + "}");
  };
  const TrialSpec wsd =
      of(R"("schedule": "wsd", "decay_fraction": 0.1, "warmup_steps": 5, "steps": 100)");
  const std::string key = PrefixKey(wsd);
  ASSERT_FALSE(key.empty());
  EXPECT_EQ(TrunkSteps(wsd), 90);
  const TrialSpec constant = of(R"("schedule": "constant", "warmup_steps": 5, "steps": 700)");
  EXPECT_EQ(TrunkSteps(constant), 700);
  for (const TrialSpec& same :
       {constant,
        of(R"("schedule": "wsd", "decay_fraction": 0.3, "warmup_steps": 5, "tokens": 4096000)"),
        of(R"("schedule": "wsd", "final_lr_fraction": 0, "warmup_fraction": 0.05, "steps": 100)"),
        of(R"("schedule": "constant", "warmup_steps": 5, "steps": 9, "log_every": 1)",
           R"("eval": {"points": 3, "tokens": 0, "final_tokens": 9, "train_tokens": 0})")})
    EXPECT_EQ(PrefixKey(same), key) << Canonical(same, With::kResultOnly);
  for (const TrialSpec& other :
       {of(R"("schedule": "constant", "steps": 700)"),  // another warm-up
        of(R"("schedule": "wsd", "warmup_fraction": 0.05, "steps": 200)"),
        of(R"("schedule": "constant", "warmup_steps": 5, "steps": 700, "lr": 0.002)"),
        of(R"("schedule": "constant", "warmup_steps": 5, "steps": 700)", R"("seed.data": 1)"),
        of(R"("schedule": "constant", "warmup_steps": 5, "steps": 700)", R"("data.digest": "x")"),
        of(R"("schedule": "constant", "warmup_steps": 5, "steps": 700)",
           R"("execution.threads": 2)"),
        of(R"("schedule": "constant", "warmup_steps": 5, "steps": 700, "divergence_factor": 9)")})
    EXPECT_NE(PrefixKey(other), key) << Canonical(other, With::kExecution);
  for (const TrialSpec& none :
       {of(R"("steps": 100)"), of(R"("steps": 100, "schedule": "linear")"),
        of(R"("steps": 100, "schedule": "constant")", R"("execution.share_trunk": false)"),
        of(R"("steps": 100, "schedule": "constant")", R"("data.phases": "0.5:a=1;0.5:b=1")"),
        of(R"("steps": 100, "schedule": "wsd", "decay_fraction": 1)")})
    EXPECT_EQ(PrefixKey(none), "") << Canonical(none, With::kExecution);
}

TEST(PrefixKey, TheRateIsTheSameUpToWhereItIsShared) {
  for (const double fraction : {0.0, 0.001, 0.07, 0.1, 0.25, 0.999, 1.0}) {
    for (const int64_t steps : {1, 7, 10, 99, 1000}) {
      TrialSpec wsd = ResolvedOrDie(R"({"train": {"steps": 5, "schedule": "wsd"}})");
      wsd.train.steps = steps, wsd.train.decay_fraction = fraction;
      TrialSpec flat = wsd;
      flat.train.schedule = ScheduleKind::kConstant;
      const int64_t shared = TrunkSteps(wsd);
      ASSERT_LE(shared, steps);
      for (int64_t s = 1; s <= steps; ++s) {
        EXPECT_EQ(trainer::LearningRate(wsd.train, s) == trainer::LearningRate(flat.train, s),
                  s <= shared)
            << fraction << " of " << steps << " at " << s;
      }
    }
  }
}

class WarmStart : public ::testing::Test {
 protected:
  WarmStart() {
    std::string pattern = (std::filesystem::temp_directory_path() / "plumb-init-XXXXXX").string();
    dir_ = mkdtemp(pattern.data());
    Write(R"({"model": {"d_model": 32}, "train": {"steps": 5}})");
  }
  ~WarmStart() override { std::filesystem::remove_all(dir_); }
  void Write(const std::string& config) {
    std::ofstream(dir_ + "/manifest.json") << R"({"config": )" << config << "}";
    std::ofstream(dir_ + "/DONE") << "";
  }
  std::string Wrong(const std::string& model, const std::string& folder) {
    TrialSpec s;
    return Format(ParseResolved(R"({"train": {"steps": 9}, "model": )" + model +
                                    R"(, "init": {"checkpoint": ")" + folder + "\"}}",
                                &s));
  }
  std::string dir_;
};

TEST_F(WarmStart, TheDigestIsFilledInAndDecidesWhoTheTrialIs) {
  const auto of = [&](const std::string& init) {
    return ResolvedOrDie(
        R"({"train": {"steps": 9, "schedule": "constant"}, "model": {"d_model": 32})" + init + "}");
  };
  const TrialSpec fresh = of(""), warm = of(R"(, "init": {"checkpoint": ")" + dir_ + "\"}");
  EXPECT_EQ(warm.init.digest, Sha256HexOfFile(dir_ + "/manifest.json"));
  EXPECT_NE(Key(warm), Key(fresh));
  EXPECT_NE(PrefixKey(warm), PrefixKey(fresh));
  // The same weights from elsewhere are the same trial; with the digest the folder is not read.
  const TrialSpec moved =
      of(R"(, "init": {"checkpoint": "/elsewhere", "digest": ")" + warm.init.digest + "\"}");
  EXPECT_EQ(Key(moved), Key(warm));
  EXPECT_NE(Key(of(R"(, "init": {"trial": 3})")), Key(of(R"(, "init": {"trial": 4})")));
  EXPECT_EQ(Key(ResolvedOrDie(Canonical(warm, With::kExecution).dump())), Key(warm));
}

TEST_F(WarmStart, WhatIsNoCheckpointOrOfAnotherShapeIsRefused) {
  EXPECT_EQ(Wrong(R"({"d_model": 32})", dir_), "");
  EXPECT_NE(Wrong(R"({"d_model": 64})", dir_).find("in the checkpoint, and"), std::string::npos);
  EXPECT_NE(Wrong(R"({"d_model": 32, "n_layers": 5})", dir_).find("has no tensor blocks.4."),
            std::string::npos);
  EXPECT_NE(Wrong(R"({"d_model": 32})", "step-9").find("absolute path"), std::string::npos);
  EXPECT_NE(Wrong(R"({"d_model": 32})", "/nowhere").find("is no checkpoint"), std::string::npos);
  Write("3");
  EXPECT_NE(Wrong(R"({"d_model": 32})", dir_).find("config"), std::string::npos);
  std::ofstream(dir_ + "/manifest.json") << "{";
  EXPECT_NE(Wrong(R"({"d_model": 32})", dir_).find("damaged"), std::string::npos);
  std::filesystem::remove(dir_ + "/DONE");
  EXPECT_NE(Wrong(R"({"d_model": 32})", dir_).find("is no checkpoint"), std::string::npos);
  TrialSpec s;
  EXPECT_NE(Format(ParseResolved(R"({"train": {"steps": 9}, "init": {"digest": "a"}})", &s))
                .find("of no checkpoint"),
            std::string::npos);
}

TEST_F(WarmStart, AForkIsOfOneStepAndOneOptimizer) {
  std::ofstream(dir_ + "/manifest.json")
      << R"({"step": 5, "config": {"model": {"d_model": 32}, "train": {"steps": 5}}})";
  const auto fork = [&](const std::string& init, const std::string& train = "") {
    TrialSpec s;
    std::string wrong = Format(ParseResolved(
        R"({"train": {"steps": 9, "schedule": "constant")" + train +
            R"(}, "model": {"d_model": 32}, "init": {"checkpoint": ")" + dir_ + "\"" + init + "}}",
        &s));
    return wrong.empty() ? Key(s) + " " + PrefixKey(s) : wrong;
  };
  const std::string five = fork(R"(, "step": 5)");
  EXPECT_EQ(five.size(), 129u) << five;
  EXPECT_NE(five, fork("")) << "the weights alone are another trial";
  EXPECT_NE(fork(R"(, "step": 4)").find("the checkpoint of step 5"), std::string::npos);
  EXPECT_NE(fork(R"(, "step": 9)").find("ends at step 9"), std::string::npos);
  EXPECT_NE(fork(R"(, "step": 5)", R"(, "optimizer": "sgd")").find("the state of adamw"),
            std::string::npos);
  TrialSpec s;
  EXPECT_NE(Format(ParseResolved(R"({"train": {"steps": 9}, "init": {"step": 5}})", &s))
                .find("of no checkpoint"),
            std::string::npos);
  // Of a budget whose cooldown has begun before that step, nothing is shared.
  s = ResolvedOrDie(
      R"({"train": {"steps": 10, "schedule": "wsd", "decay_fraction": 0.5}, "model": {"d_model": 32}, "init": {"checkpoint": ")" +
      dir_ + R"(", "step": 5}})");
  EXPECT_EQ(TrunkSteps(s), 0);
  s.train.decay_fraction = 0.1;
  EXPECT_EQ(TrunkSteps(s), 9);
}

TEST(Key, RowsOfOneBundleMayDifferInRatesAndSeedsOnly) {
  const std::string base = R"("train.steps": 100)";
  const std::string key = FusionKey(ResolvedOrDie("{" + base + "}"));
  for (const char* row : {R"("seed.init": 1)", R"("train.lr": 0.002)", R"("train.schedule": "wsd")",
                          R"("train.grad_clip": 0)", R"("model.init_std": 0.01)",
                          R"("execution.checkpoint_steps": 7)"}) {
    EXPECT_EQ(FusionKey(ResolvedOrDie("{" + base + ", " + row + "}")), key) << row;
  }
  for (const char* other :
       {R"("model.d_model": 64)", R"("data.seq_len": 64)", R"("train.ranks": 2)",
        R"("train.batch_tokens": 2048)", R"("execution.threads": 2)"}) {
    EXPECT_NE(FusionKey(ResolvedOrDie("{" + base + ", " + other + "}")), key) << other;
  }
}

// The subset of JSON Schema that Schema() uses.
bool Accepts(const json& schema, const json& value) {
  const auto type = schema.at("type").get<std::string>();
  if (type == "object") {
    if (!value.is_object()) return false;
    for (const auto& [key, v] : value.items()) {
      if (!schema.at("properties").contains(key)) return false;  // additionalProperties: false
      if (!Accepts(schema.at("properties").at(key), v)) return false;
    }
    return true;
  }
  if (type == "string" && !value.is_string()) return false;
  if (type == "boolean" && !value.is_boolean()) return false;
  if (type == "number" && !value.is_number()) return false;
  if (type == "integer" &&
      !(value.is_number() && std::floor(value.get<double>()) == value.get<double>()))
    return false;
  if (schema.contains("enum") &&
      std::find(schema["enum"].begin(), schema["enum"].end(), value) == schema["enum"].end())
    return false;
  if (schema.contains("minimum") &&
      !(value.get<double>() >= schema["minimum"] && value.get<double>() <= schema["maximum"]))
    return false;
  return true;
}

TEST(Schema, AgreesWithTheParser) {
  const json schema = Schema();
  ASSERT_EQ(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
  ASSERT_EQ(schema["additionalProperties"], false);
  for (const auto& [name, section] : schema["properties"].items()) {
    ASSERT_EQ(section["additionalProperties"], false) << name;
    for (const auto& [field, p] : section["properties"].items()) {
      EXPECT_TRUE(Accepts(p, p["default"])) << name << "." << field;
    }
  }
  int good = 0;
  for (const char* text : {
           R"({})",
           R"({"model": {}})",
           R"({"model": {"d_model": 64, "preset": "gpt2"}, "train": {"lr": 1e-4, "steps": 1e3}})",
           R"({"train": {"schedule": "wsd"}})",
           R"({"data": {"corpus": "x", "seq_len": 1}})",
           R"({"model": {"tied_head": true}})",
           R"({"seed": {"init": 9007199254740992}})",
           R"({"model": {"d_model": 0}})",
           R"({"model": {"d_model": 64.5}})",
           R"({"model": {"d_model": "64"}})",
           R"({"model": {"tied_head": 1}})",
           R"({"model": {"preset": "bert"}})",
           R"({"model": {"depth": 3}})",
           R"({"nodel": {}})",
           R"({"model": {"zzz": {}}})",
           R"({"model": {"d_model": {}}})",
           R"({"model": 3})",
           R"({"train": {"lr": -1}})",
           R"({"train": {"lr": "fast"}})",
           R"({"train": {"beta1": 1}})",
           R"({"data": {"corpus": 3}})",
           R"({"seed": {"init": -1}})",
           R"({"train": {"lr": null}})",
           R"({"execution": {"threads": 0}})",
           R"([])",
       }) {
    TrialSpec s;
    const json j = json::parse(text);
    const bool parsed = Parse(j, &s).empty();
    EXPECT_EQ(Accepts(schema, j), parsed) << text;
    good += parsed;
  }
  EXPECT_EQ(good, 7);
}

}  // namespace
}  // namespace plumb::spec
