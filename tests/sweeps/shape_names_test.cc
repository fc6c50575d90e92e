#include "sweeps/shape_names.h"

#include <nlohmann/json.hpp>
#include <regex>

#include "tests/sweeps/corpora.h"
#include "trainer/spec/parse.h"

namespace plumb::sweeps {
namespace {

spec::ParameterCounts Count(const std::string& shape, const std::string& preset, int64_t vocabulary,
                            int64_t context, bool tied = false) {
  const auto fields = ShapeByName(shape);
  EXPECT_TRUE(fields.ok()) << fields.status();
  nlohmann::json flat = {{"model.preset", preset},
                         {"model.vocab_size", vocabulary},
                         {"data.seq_len", context},
                         {"train.steps", 1},
                         {"train.batch_tokens", context}};
  if (tied) flat["model.tied_head"] = true;
  for (const auto& [path, value] : *fields) flat[path] = value;
  spec::TrialSpec s;
  EXPECT_TRUE(spec::Parse(flat, &s).empty());
  const auto errors = spec::Resolve(&s);
  EXPECT_TRUE(errors.empty()) << shape << spec::Format(errors);
  return spec::CountParameters(s.model);
}

// Sizes of the released checkpoints.
TEST(ShapeNames, HaveTheParametersOfTheModelsTheyName) {
  EXPECT_EQ(Count("gpt2", "gpt2", 50257, 1024).total, 124439808);
  EXPECT_EQ(Count("gpt2-medium", "gpt2", 50257, 1024).total, 354823168);
  EXPECT_EQ(Count("gpt2-large", "gpt2", 50257, 1024).total, 774030080);
  EXPECT_EQ(Count("gpt2-xl", "gpt2", 50257, 1024).total, 1557611200);
  EXPECT_EQ(Count("llama-7b", "llama", 32000, 2048).total, 6738415616);
  EXPECT_EQ(Count("llama-13b", "llama", 32000, 2048).total, 13015864320);
  EXPECT_EQ(Count("llama-33b", "llama", 32000, 2048).total, 32528943616);
  EXPECT_EQ(Count("llama-65b", "llama", 32000, 2048).total, 65285660672);
  EXPECT_EQ(Count("llama2-70b", "llama", 32000, 4096).total, 68976648192);
  EXPECT_EQ(Count("llama3-8b", "llama", 128256, 8192).total, 8030261248);
  EXPECT_EQ(Count("llama3.2-1b", "llama", 128256, 8192, true).total, 1235814400);
  const std::tuple<const char*, int64_t, int64_t> pythia[] = {
      {"pythia-70m", 70426624, 18915328},      {"pythia-160m", 162322944, 85056000},
      {"pythia-410m", 405334016, 302311424},   {"pythia-1b", 1011781632, 805736448},
      {"pythia-1.4b", 1414647808, 1208602624}, {"pythia-2.8b", 2775208960, 2517652480},
  };
  for (const auto& [name, total, without] : pythia) {
    EXPECT_EQ(Count(name, "gptneox", 50304, 2048).total, total) << name;
    EXPECT_EQ(Count(name, "gptneox", 50304, 2048).non_embedding, without) << name;
  }
  EXPECT_EQ(Count("pythia-6.9b", "gptneox", 50432, 2048).total, 6857302016);
  EXPECT_EQ(Count("pythia-12b", "gptneox", 50688, 2048).total, 11846072320);
}

TEST(ShapeNames, OfT5CountToTheLastParameter) {
  const std::pair<const char*, int64_t> sizes[] = {
      {"t5-efficient-tiny", 15570688},
      {"t5-efficient-mini", 31220480},
      {"t5-efficient-small", 60506624},
      {"t5-base", 222903552},
      {"t5-large", 737668096},
      {"t5-xl", 2851598336},
      {"t5-xxl", 11307321344},
      {"t5-efficient-mini-nl8", 50102528},
      {"t5-efficient-small-nl16", 133932544},
      {"t5-efficient-small-nl20", 163302912},
      {"t5-efficient-small-nl22", 177988096},
      {"t5-efficient-small-nl24", 192673280},
      {"t5-efficient-small-nl36", 280784384},
      {"t5-efficient-base-nl2", 57714432},
      {"t5-efficient-base-nl36", 619357440},
      {"t5-efficient-base-nl40", 685433088},
      {"t5-efficient-large-nl36", 1090051072},
      {"t5-efficient-xl-nl8", 972468224},
      {"t5-efficient-xl-nl32", 3791163392},
  };
  for (const auto& [name, count] : sizes) {
    const auto shape = T5ByName(name);
    ASSERT_TRUE(shape.ok()) << shape.status();
    EXPECT_EQ(CountT5(*shape), count) << name;
  }
  const auto uneven = T5ByName("t5-efficient-small-el16-dl4-kv32");
  ASSERT_TRUE(uneven.ok());
  EXPECT_EQ(uneven->encoder_layers, 16);
  EXPECT_EQ(uneven->decoder_layers, 4);
  EXPECT_EQ(uneven->head_dim, 32);
}

TEST(ShapeNames, KnobsChangeOneThingEach) {
  EXPECT_EQ(*ShapeByName("gpt2-medium-nl8-dm512-ff1024-nh4-kv32"),
            (ShapeFields{{"model.n_layers", 8},
                         {"model.d_model", 512},
                         {"model.n_heads", 4},
                         {"model.n_kv_heads", 4},
                         {"model.head_dim", 32},
                         {"model.d_ff", 1024}}));
  EXPECT_EQ((*ShapeByName("deepnarrow-small-nl24"))[0].second, 24);
}

TEST(ShapeNames, ThatCannotBeBuiltSayWhy) {
  const auto wrong = [](const char* name) {
    return std::string(ShapeByName(name).status().message());
  };
  EXPECT_EQ(
      wrong("gpt2-meduim"),
      "gpt2-meduim: meduim is no knob of gpt2; a knob is letters and a number, as nl24, dm512, "
      "ff2048, nh8, kv64");
  EXPECT_EQ(wrong("pythia-160"), "no shape \"pythia-160\"; did you mean pythia-160m?");
  EXPECT_EQ(wrong("gpt2-el4"),
            "gpt2-el4: no knob el; the knobs are nl, dm, ff, nh, kv, as in gpt2-nl24");
  EXPECT_EQ(wrong("deepnarrow-small"), "deepnarrow-small needs its depth: deepnarrow-small-nl24");
  EXPECT_NE(wrong("t5-efficient-small-nl16").find("an encoder-decoder of 133,932,544 parameters"),
            std::string::npos);
  EXPECT_EQ(wrong("t5-smal"), "no T5 size \"smal\"; did you mean small?");
}

TEST(ShapeNames, ThePatternIsOfTheNamesThatCanBeBuilt) {
  const std::regex pattern(ShapeNamePattern());
  for (const char* name : {"gpt2", "gpt2-nl3", "llama3.2-1b-ff64", "deepnarrow-tiny-nl8",
                           "deepnarrow-tiny-kv32-nl8-nh2", "gpt2-medium", "pythia-14m"}) {
    EXPECT_TRUE(ShapeByName(name).ok()) << name;
    EXPECT_TRUE(std::regex_match(name, pattern)) << name;
  }
  for (const char* name : {"gpt", "gpt2-", "gpt2-nl", "gpt2-el4", "deepnarrow-tiny", "llama3_2-1b",
                           "t5-small", "gpt2-medium-12"}) {
    if (std::string(name) != "gpt2-") EXPECT_FALSE(ShapeByName(name).ok()) << name;
    EXPECT_FALSE(std::regex_match(name, pattern)) << name;
  }
}

TEST(ShapeNames, AreAnAxisAFieldOfTheTrialAndOfAVariant) {
  const SweepPlan p = PlanOrDie(R"(sweep: s
trial: {model: {shape: gpt2-nl2-dm64-nh2-kv32-ff128, n_layers: 3}, data: {corpus: docs, seq_len: 32}, train: {steps: 10, batch_tokens: 1024}}
axes: {train.lr: [1e-3]}
variants: {a: {}, b: {model.shape: pythia-14m-nl1}}
)");
  ASSERT_EQ(p.trials.size(), 2u);
  EXPECT_EQ(p.trials[0].config.model.n_layers, 3);  // the field over its shape
  EXPECT_EQ(p.trials[0].config.model.d_ff, 128);
  EXPECT_EQ(p.trials[1].config.model.n_layers, 1);
  EXPECT_EQ(p.trials[1].config.model.d_model, 128);
  const SweepPlan q = PlanOrDie(R"(sweep: s
trial: {data: {corpus: docs, seq_len: 32}, train: {steps: 10, batch_tokens: 1024}}
axes: {model.shape: [pythia-14m, nanogpt-shakespeare-char], train.lr: [1e-3, 1e-2]}
)");
  ASSERT_EQ(q.cells.size(), 4u);
  EXPECT_EQ(q.cells[2].name, "shape=nanogpt-shakespeare-char lr=0.001");
  EXPECT_EQ(q.cells[2].axes_json, R"({"shape": "nanogpt-shakespeare-char", "train.lr": 0.001})");
  EXPECT_EQ(q.trials[2].config.model.d_model, 384);
}

}  // namespace
}  // namespace plumb::sweeps
