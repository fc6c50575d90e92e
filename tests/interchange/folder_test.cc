// Whole folders out and in: the same bits, and errors that leave nothing behind.
#include <gmock/gmock.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>

#include "interchange/hf_config.h"
#include "interchange/hf_folder.h"
#include "tests/interchange/configs.h"
#include "tests/protocol/temp_dir.h"
#include "trainer/files/checkpoint_folder.h"
#include "trainer/spec/parameter_layout.h"

namespace plumb::interchange {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;

std::string ReadText(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

// A checkpoint of the fixture's model with weights that are all different. Returns its folder.
std::string Checkpoint(const std::string& fixture, const std::string& dir) {
  HfConfig c;
  const auto errors = ConfigFromHf(FixtureConfig(fixture), &c);
  EXPECT_TRUE(errors.empty()) << spec::Format(errors);
  const spec::ParameterLayout layout = spec::LayoutOf(c.spec.model);
  std::vector<std::vector<float>> values;
  trainer::CheckpointContent content{.step = 12};
  uint32_t next = 0x3A000001;  // floats that only moving keeps
  for (const spec::Parameter& p : layout.parameters) {
    std::vector<float>& v = values.emplace_back(static_cast<size_t>(p.size()));
    for (float& x : v) std::memcpy(&x, &next, 4), next += 77;
    content.weights[p.name] = {p.shape, v.data()};
  }
  content.manifest_json = json{{"config", spec::Canonical(c.spec, spec::With::kExecution)}}.dump();
  return trainer::WriteCheckpointFolder(dir, content);
}

class Folders : public ::testing::TestWithParam<std::string> {};

TEST_P(Folders, GoOutAndComeBackBitForBit) {
  plumb::testing::TempDir dir;
  const std::string checkpoint = Checkpoint(GetParam(), dir / "a");
  const std::string type = FixtureConfig(GetParam()).at("model_type");
  const Exported out = ExportHf(checkpoint, dir / "hf", {.model_type = type});
  EXPECT_EQ(out.model_type, type);
  const Imported in = ImportHf(dir / "hf", dir / "b");
  EXPECT_EQ(in.parameters, out.parameters);
  EXPECT_EQ(ReadText(fs::path(in.checkpoint) / "weights.safetensors"),
            ReadText(fs::path(checkpoint) / "weights.safetensors"));
  EXPECT_TRUE(trainer::IsCommitted(in.checkpoint) && trainer::IsIntact(in.checkpoint));
  EXPECT_FALSE(fs::exists(fs::path(in.checkpoint) / "optimizer.safetensors"));
}

INSTANTIATE_TEST_SUITE_P(Models, Folders,
                         ::testing::Values("llama", "llama_gqa", "llama_bias", "mistral", "phi3",
                                           "gpt2", "gpt_neox", "gptj", "olmo2", "gemma2"),
                         [](const auto& info) { return info.param; });

std::string Error(const std::function<void()>& fn) {
  try {
    fn();
    return "";
  } catch (const std::runtime_error& e) {
    return e.what();
  }
}

class HfFolder : public ::testing::Test {
 protected:
  void SetUp() override { ExportHf(Checkpoint("llama_gqa", dir_ / "a"), dir_ / "hf", {}); }
  json Config() { return json::parse(ReadText(fs::path(dir_ / "hf") / "config.json")); }
  void SetConfig(const json& j) { std::ofstream(fs::path(dir_ / "hf") / "config.json") << j; }
  std::string Import() {
    return Error([&] { ImportHf(dir_ / "hf", dir_ / "b"); });
  }
  // Rewrites the weights.
  template <typename Fn>
  void Change(const Fn& fn) {
    const std::string path = fs::path(dir_ / "hf") / "model.safetensors";
    const trainer::TensorFile file = trainer::TensorFile::Read(path);
    auto tensors = file.tensors();
    fn(&tensors);
    trainer::WriteSafetensors(path, tensors);
  }
  plumb::testing::TempDir dir_;
};

TEST_F(HfFolder, KeepsTokenizerAndSpecialTokens) {
  std::ofstream(fs::path(dir_ / "hf") / "tokenizer.json") << "{\"any\": 1}";
  json config = Config();
  config["bos_token_id"] = 3;
  SetConfig(config);
  const Imported in = ImportHf(dir_ / "hf", dir_ / "b");
  EXPECT_THAT(in.files, ::testing::ElementsAre("tokenizer.json"));
  ExportHf(in.checkpoint, dir_ / "again/", {});
  EXPECT_EQ(ReadText(fs::path(dir_ / "again") / "tokenizer.json"), "{\"any\": 1}");
  EXPECT_EQ(json::parse(ReadText(fs::path(dir_ / "again") / "config.json"))["bos_token_id"], 3);
}

TEST_F(HfFolder, TakesWeightsOfTheBareModelAndMasksOfOldVersions) {
  static const float zero = 0;
  Change([](auto* tensors) {
    auto bare = *tensors;
    bare.clear();
    for (const auto& [name, t] : *tensors)
      bare[name.rfind("model.", 0) == 0 ? name.substr(6) : name] = t;
    bare["layers.0.self_attn.rotary_emb.inv_freq"] = {{1}, &zero};
    *tensors = bare;
  });
  EXPECT_EQ(Import(), "");
}

TEST_F(HfFolder, SaysWhatIsWrongAndLeavesNothing) {
  Change([](auto* t) { t->erase("model.layers.1.mlp.up_proj.weight"); });
  EXPECT_THAT(Import(), HasSubstr("model.layers.1.mlp.up_proj.weight is missing"));
  EXPECT_FALSE(fs::exists(dir_ / "b"));
}

TEST_F(HfFolder, RefusesATensorItHasNoPlaceFor) {
  Change([](auto* t) { (*t)["model.layers.0.mlp.up_proj.bias"] = {{1}, t->begin()->second.data}; });
  EXPECT_THAT(Import(), HasSubstr("model.layers.0.mlp.up_proj.bias [1] is a tensor"));
}

TEST_F(HfFolder, RefusesAnotherShapeThanTheConfigs) {
  json config = Config();
  config["intermediate_size"] = 25;
  SetConfig(config);
  EXPECT_THAT(Import(), HasSubstr("but config.json says"));
}

TEST_F(HfFolder, RefusesATiedHeadThatIsNotTheEmbedding) {
  Change([](auto* t) {
    auto head = t->at("model.embed_tokens.weight");
    (*t)["lm_head.weight"] = head;
  });
  EXPECT_EQ(Import(), "");
  fs::remove_all(dir_ / "b");
  static std::vector<float> other(40 * 16, 1.0f);
  Change([](auto* t) { (*t)["lm_head.weight"] = {{40, 16}, other.data()}; });
  EXPECT_THAT(Import(), HasSubstr("tie_word_embeddings"));
}

TEST_F(HfFolder, OverwritesNeitherACheckpointNorAModel) {
  EXPECT_EQ(Import(), "");
  EXPECT_THAT(Import(), HasSubstr("exists; choose another folder"));
  EXPECT_THAT(Error([&] { ExportHf(dir_ / "b/step-000000000000", dir_ / "hf", {}); }),
              HasSubstr("not an empty folder"));
}

TEST_F(HfFolder, RefusesADamagedCheckpoint) {
  ASSERT_EQ(Import(), "");
  const std::string checkpoint = dir_ / "b/step-000000000000";
  std::ofstream(checkpoint + "/weights.safetensors", std::ios::app) << "x";
  EXPECT_THAT(Error([&] { ExportHf(checkpoint, dir_ / "c", {}); }), HasSubstr("damaged"));
  EXPECT_FALSE(fs::exists(dir_ / "c"));
}

}  // namespace
}  // namespace plumb::interchange
