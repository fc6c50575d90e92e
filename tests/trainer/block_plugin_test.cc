// A block from outside the tree: built as `plumb block test` builds it, checked, trained, and
// refused when it is not the one that was planned.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/trainer/specs.h"
#include "trainer/block_check.h"
#include "trainer/bundle.h"
#include "trainer/counter_random.h"
#include "trainer/spec/block_manifest.h"
#include "trainer/spec/cost.h"

namespace plumb::trainer {
namespace {

namespace fs = std::filesystem;

void Rewrite(const std::string& path, const std::string& from, const std::string& to) {
  std::ifstream in(path);
  std::string text((std::istreambuf_iterator<char>(in)), {});
  const size_t at = text.find(from);
  ASSERT_NE(at, std::string::npos) << from;
  std::ofstream(path) << text.replace(at, from.size(), to);
}

// Built once for all tests.
class OutsideBlock : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    at::set_num_threads(1);  // a second one spins where cores are shared
    dir_ = new TempDir;
    setenv("CMAKE_CXX_COMPILER_LAUNCHER", "ccache", 0);
    fs::copy(PLUMB_SOURCE_DIR "/sweeps/examples/blocks/gated_mean", *dir_ / "built");
    BuildBlock(*dir_ / "built");
  }
  static void TearDownTestSuite() { delete dir_; }

  // A copy of the built block, its own to spoil.
  void SetUp() override {
    folder_ = *dir_ / testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::create_directories(folder_ + "/build");
    fs::copy(*dir_ / "built/block.json", folder_);
    fs::copy(*dir_ / "built/build/libblock.so", folder_ + "/build");
  }
  std::string Config(const std::string& model = "", const std::string& train = "") const {
    return R"({"model": {"block_plugin": ")" + folder_ +
           R"(", "n_layers": 2, "d_model": 32, "n_heads": 4)" + model +
           R"(}, "data": {"seq_len": 16}, "train": {"steps": 5, "batch_tokens": 64)" + train + "}}";
  }
  std::string Refusal(const std::string& config) const {
    spec::TrialSpec s;
    return spec::Format(spec::ParseResolved(config, &s));
  }

  static TempDir* dir_;
  std::string folder_;
};
TempDir* OutsideBlock::dir_ = nullptr;

TEST_F(OutsideBlock, PassesWhatTheTreesOwnBlocksPass) {
  const std::vector<BlockCheck> checks = CheckBlock(folder_);
  EXPECT_EQ(checks.size(), 5u);
  for (const BlockCheck& c : checks) EXPECT_TRUE(c.passed) << c.name << ": " << c.found;
}

TEST_F(OutsideBlock, IsCountedFromItsManifestAlone) {
  const spec::ModelSpec m = Resolved(Config(R"(, "d_ff": 40)")).model;
  EXPECT_EQ(spec::CountParameters(m).total,
            2 * 256 * 32 + 32 + 2 * (2 * 32 + 3 * 32 * 32 + 2 * 32 * 40));
  EXPECT_EQ(spec::BlockFlopsPerToken(m, 16), 2 * (3 * 32 * 32 + 2 * 32 * 40));
  fs::remove(folder_ + "/build/libblock.so");
  EXPECT_EQ(spec::LayoutOf(m).at("blocks.1.mix.out.weight").shape, (std::vector<int64_t>{32, 32}));
}

TEST_F(OutsideBlock, Learns) {
  const spec::TrialSpec s = Resolved(Config());
  Bundle bundle(s.model, 16, 1, at::kCPU);
  bundle.Add(1);
  at::Tensor ids = at::empty({1, 4, 17}, at::kLong);
  for (int64_t i = 0; i < ids.numel(); ++i)
    ids.data_ptr<int64_t>()[i] = static_cast<int64_t>(CounterRandom(1).Bits(i) % 256);
  const at::Tensor x = ids.narrow(2, 0, 16).contiguous(), y = ids.narrow(2, 1, 16).contiguous();
  double loss = 0;
  for (int64_t step = 1; step <= 100; ++step)
    loss = bundle.Step(x, y, {{.lr = 1e-2, .step = step}}).loss[0];
  EXPECT_LT(loss, 1.0);
}

TEST_F(OutsideBlock, ItsDigestIsPartOfTheTrialsIdentityAndItsPlaceIsNot) {
  const spec::TrialSpec here = Resolved(Config());
  EXPECT_EQ(here.model.block_digest, spec::BlockDigest(folder_));
  const std::string moved = folder_ + "_moved";
  fs::rename(folder_, moved);
  folder_ = moved;
  EXPECT_EQ(spec::Key(Resolved(Config())), spec::Key(here));
  EXPECT_EQ(spec::Key(Resolved(Config(R"(, "attn_softcap": 30, "qk_norm": "head")"))),
            spec::Key(here))
      << "fields of blocks mean nothing";
  Rewrite(folder_ + "/block.json", "\"init\": \"output\"", "\"init\": \"zeros\"");
  EXPECT_NE(spec::Key(Resolved(Config())), spec::Key(here));
  EXPECT_NE(spec::FusionKey(Resolved(Config())), spec::FusionKey(here));
}

TEST_F(OutsideBlock, IsRefusedWhenItIsNotTheOneThatWasPlanned) {
  const spec::TrialSpec planned = Resolved(Config());
  const std::string config = spec::Canonical(planned, spec::With::kExecution).dump();
  EXPECT_EQ(Refusal(config), "");
  std::ofstream(folder_ + "/build/libblock.so", std::ios::app) << "x";
  EXPECT_NE(Refusal(config).find("has changed: its digest is "), std::string::npos)
      << Refusal(config);
  fs::remove(folder_ + "/build/libblock.so");
  EXPECT_NE(Refusal(config).find("plumb block test " + folder_), std::string::npos)
      << Refusal(config);
}

TEST_F(OutsideBlock, CausalityIsCheckedAndNotBelieved) {
  const std::string leaky = *dir_ / "leaky";
  fs::create_directories(leaky);
  for (const char* name : {"/block.json", "/block.cc", "/CMakeLists.txt"})
    fs::copy(PLUMB_SOURCE_DIR "/sweeps/examples/blocks/gated_mean" + std::string(name), leaky);
  Rewrite(leaky + "/block.cc", "values.cumsum(2) / count",
          "values.mean({2}, true).expand_as(values) + 0 * count");
  BuildBlock(leaky);
  for (const BlockCheck& c : CheckBlock(leaky))
    EXPECT_EQ(c.passed, c.name != "causality") << c.name;
}

TEST_F(OutsideBlock, MistakesInTheManifestNameTheFileAndTheFix) {
  const auto after = [&](const std::string& from, const std::string& to) {
    Rewrite(folder_ + "/block.json", from, to);
    const std::string refusal = Refusal(Config());
    fs::copy(*dir_ / "built/block.json", folder_, fs::copy_options::overwrite_existing);
    return refusal;
  };
  EXPECT_NE(after("\"f\"]", "\"f / 7\"]").find("\"f / 7\": does not divide"), std::string::npos);
  EXPECT_NE(after("\"f\"]", "\"q\"]").find("knows whole numbers and d, f, H"), std::string::npos);
  EXPECT_NE(after("\"gain\"", "\"scale\"").find("kind is matrix, gain or bias"), std::string::npos);
  EXPECT_NE(after("\"interface\": 1", "\"interface\": 9").find("interface 9"), std::string::npos);
  EXPECT_NE(after("\"causal\"", "\"casual\"").find("no such key: casual"), std::string::npos);
  EXPECT_NE(after("\"causal\": true", "\"causal\": false").find("say train.objective: mlm"),
            std::string::npos);
  EXPECT_NE(Refusal(R"({"model": {"block_plugin": "here"}, "train": {"steps": 1}})")
                .find("give an absolute path"),
            std::string::npos);
}

}  // namespace
}  // namespace plumb::trainer
