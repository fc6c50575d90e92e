// What a shape costs, measured; and that memory which tensors gave back is found again.
#include "trainer/shape_cost.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "trainer/host_memory.h"
#include "trainer/spec/cost.h"
#include "trainer/spec/parse.h"

namespace plumb::trainer {
namespace {

spec::TrialSpec Shape(int64_t layers) {
  spec::TrialSpec s;
  s.model.n_layers = layers, s.model.d_model = 64, s.model.head_dim = 16;
  s.data.seq_len = 32, s.train.batch_tokens = 512, s.train.steps = 1;
  EXPECT_TRUE(spec::Resolve(&s).empty());
  return s;
}

TEST(ShapeCost, MoreBlocksTakeLonger) {
  const ShapeCost one = MeasureShape(Shape(1), 0.05), eight = MeasureShape(Shape(8), 0.05);
  EXPECT_GE(one.steps, 3);
  EXPECT_GT(one.step.cpu_seconds, 0);
  EXPECT_GT(one.pass.cpu_seconds, 0);
  EXPECT_GT(one.around.wall_seconds, 0);
  EXPECT_EQ(one.pass_tokens, 4096);
  EXPECT_GT(eight.step.cpu_seconds, 2 * one.step.cpu_seconds);
  EXPECT_GT(eight.pass.cpu_seconds, 2 * one.pass.cpu_seconds);
  // Weights and two moments, and little beside them.
  const auto floats = static_cast<double>(spec::CountParameters(Shape(8).model).total);
  EXPECT_NEAR(static_cast<double>(eight.checkpoint_bytes), 12 * floats, 0.1 * 12 * floats);
}

// In a process of its own, as the trainer runs it.
TEST(ShapeCost, PeakMemoryIsWhatTheFormulaSays) {
  const std::string request = ::testing::TempDir() + "plumb-shape-cost.json";
  struct Case {
    int64_t layers, width, sequences, vocabulary;
  };
  for (const Case& c : {Case{12, 128, 64, 256}, Case{2, 256, 16, 4096}}) {
    spec::TrialSpec s;
    s.model.n_layers = c.layers, s.model.d_model = c.width, s.model.head_dim = 32;
    s.model.vocab_size = c.vocabulary;
    s.data.seq_len = 64, s.train.batch_tokens = 64 * c.sequences, s.train.steps = 1;
    ASSERT_TRUE(spec::Resolve(&s).empty());
    std::ofstream(request) << nlohmann::json{
        {"spec", spec::Canonical(s, spec::With::kExecution)},
        {"seconds", 0.01}}.dump();
    std::FILE* const out = popen(
        ("'" PLUMB_BINARY_DIR "/bin/plumb-trainer' shape-cost < '" + request + "'").c_str(), "r");
    ASSERT_NE(out, nullptr);
    std::string text(1 << 16, '\0');
    text.resize(std::fread(text.data(), 1, text.size(), out));
    ASSERT_EQ(pclose(out), 0);
    const double measured = nlohmann::json::parse(text).at("peak_bytes");
    EXPECT_NEAR(static_cast<double>(spec::PredictedPeakBytes(s, 1)) / measured, 1, 0.1)
        << c.layers << " x " << c.width;
  }
  std::filesystem::remove(request);
}

TEST(HostMemory, IsFoundAgainByATensorOfTheSameSize) {
  ReuseHostMemory();
  constexpr int64_t kFloats = 3 << 20;
  const at::Tensor before = at::zeros({100});
  at::Tensor large = at::empty({kFloats});
  const void* const place = large.data_ptr();
  EXPECT_EQ(reinterpret_cast<uintptr_t>(place) % 64, 0u);
  const at::Tensor after = at::zeros({100});  // so that it cannot simply grow
  large = at::Tensor();
  large = at::empty({kFloats});
  EXPECT_EQ(large.data_ptr(), place);
  EXPECT_EQ(at::empty({0}).numel(), 0);
  EXPECT_EQ(at::full({5}, 2.0).clone().sum().item<float>(), 10);
}

}  // namespace
}  // namespace plumb::trainer
