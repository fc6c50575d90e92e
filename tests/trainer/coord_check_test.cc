// muP is flat in width, CompleteP in depth, the standard parametrisation in neither.
#include "trainer/coord_check.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "trainer/spec/parse.h"

namespace plumb::trainer {
namespace {

constexpr int64_t kSteps = 6;
constexpr int kSeeds = 3;

// Slope of log(moved by training) against log(width) or log(depth), mean over seeds, from the
// smallest to the largest (x 8).
double Slope(const std::string& parametrization, const std::string& axis, const std::string& of) {
  at::set_num_threads(1);
  double sum = 0;
  for (int seed = 0; seed < kSeeds; ++seed) {
    std::vector<double> moved;
    for (const int64_t factor : {1, 8}) {
      const bool width = axis == "width";
      nlohmann::json j = {{"model.n_layers", width ? 2 : 2 * factor},
                          {"model.d_model", width ? 32 * factor : 32},
                          {"model.head_dim", 16},
                          {"model.parametrization", parametrization},
                          {"data.seq_len", 16},
                          {"train.batch_tokens", 128},
                          {"train.steps", kSteps},
                          {"train.lr", 0.01},
                          {"train.weight_decay", 0},
                          {"seed.init", seed},
                          {"seed.data", seed}};
      if (parametrization != "sp") j["base.d_model"] = 32, j["base.n_layers"] = 2;
      spec::TrialSpec s;
      const auto errors = spec::ParseResolved(j.dump(), &s);
      EXPECT_TRUE(errors.empty()) << spec::Format(errors);
      for (const Coordinate& c : CoordinateCheck(s, kSteps)) {
        if (c.name == of && c.step == kSteps) moved.push_back(c.moved);
      }
    }
    sum += std::log(moved.at(1) / moved.at(0)) / std::log(8.0) / kSeeds;
  }
  return sum;
}

TEST(CoordinateCheck, MupIsFlatInWidthAndTheStandardIsNot) {
  for (const char* mup : {"mup", "mup_repo", "completep"}) {
    EXPECT_NEAR(Slope(mup, "width", "stream"), 0, 0.15) << mup;
    EXPECT_NEAR(Slope(mup, "width", "logits"), 0, 0.15) << mup;
  }
  EXPECT_GT(Slope("sp", "width", "stream"), 0.3);
}

TEST(CoordinateCheck, CompletePIsFlatInDepthAndTheOthersAreNot) {
  EXPECT_NEAR(Slope("completep", "depth", "stream"), 0, 0.15);
  EXPECT_GT(Slope("mup", "depth", "stream"), 0.3);
  EXPECT_GT(Slope("sp", "depth", "stream"), 0.3);
}

TEST(CoordinateCheck, BeginsWithNothingMovedAndIsRepeatable) {
  spec::TrialSpec s;
  ASSERT_TRUE(spec::ParseResolved(
                  R"({"model.n_layers": 1, "model.d_model": 16, "data.seq_len": 8,
                      "train": {"steps": 2, "batch_tokens": 16}})",
                  &s)
                  .empty());
  const auto a = CoordinateCheck(s, 2), b = CoordinateCheck(s, 2);
  ASSERT_EQ(a.size(), 9u);
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].moved, b[i].moved);
    EXPECT_EQ(a[i].moved > 0, a[i].step > 0) << a[i].name;
    EXPECT_GT(a[i].rms, 0);
  }
}

}  // namespace
}  // namespace plumb::trainer
