// Schedules, random numbers, the data order and safetensors: no model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <set>

#include "tests/trainer/specs.h"
#include "trainer/counter_random.h"
#include "trainer/data_order.h"
#include "trainer/files/safetensors.h"
#include "trainer/schedule.h"

namespace plumb::trainer {
namespace {

TEST(LearningRate, WarmsUpLinearly) {
  spec::TrainSpec t{
      .steps = 100, .lr = 2.0, .schedule = spec::ScheduleKind::kConstant, .warmup_steps = 4};
  EXPECT_DOUBLE_EQ(LearningRate(t, 1), 0.5);
  EXPECT_DOUBLE_EQ(LearningRate(t, 4), 2.0);
  EXPECT_DOUBLE_EQ(LearningRate(t, 100), 2.0);
}

TEST(LearningRate, CosineIsHalfWayInTheMiddleAndEndsAtItsFraction) {
  spec::TrainSpec t{.steps = 110,
                    .lr = 1.0,
                    .schedule = spec::ScheduleKind::kCosine,
                    .warmup_steps = 10,
                    .final_lr_fraction = 0.1};
  EXPECT_DOUBLE_EQ(LearningRate(t, 60), 0.55);
  EXPECT_NEAR(LearningRate(t, 35), 0.1 + 0.9 * (1 + std::sqrt(0.5)) / 2, 1e-12);
  EXPECT_NEAR(LearningRate(t, 110), 0.1, 1e-15);
}

TEST(LearningRate, WsdIsFlatThenFallsLinearly) {
  spec::TrainSpec t{.steps = 100,
                    .lr = 1.0,
                    .schedule = spec::ScheduleKind::kWsd,
                    .warmup_steps = 10,
                    .final_lr_fraction = 0.2,
                    .decay_fraction = 0.2};
  EXPECT_DOUBLE_EQ(LearningRate(t, 80), 1.0);
  EXPECT_DOUBLE_EQ(LearningRate(t, 90), 0.6);
  EXPECT_DOUBLE_EQ(LearningRate(t, 100), 0.2);
}

TEST(CounterRandom, IsAStandardNormalThatDependsOnKeyAndCounterOnly) {
  const CounterRandom a(1), b(2);
  double sum = 0, squares = 0, cross = 0;
  constexpr int kN = 100000;
  for (int i = 0; i < kN; ++i) {
    const double x = a.Normal(i);
    sum += x, squares += x * x, cross += x * b.Normal(i);
  }
  EXPECT_NEAR(sum / kN, 0, 0.015);  // about five standard errors each
  EXPECT_NEAR(squares / kN, 1, 0.025);
  EXPECT_NEAR(cross / kN, 0, 0.016);
  EXPECT_EQ(a.Normal(17), CounterRandom(1).Normal(17));
}

TEST(Permute, IsABijectionForEverySizeAndKey) {
  for (int64_t n : {1, 2, 3, 5, 16, 17, 100, 1023}) {
    for (uint64_t key : {1u, 2u, 99u}) {
      std::set<int64_t> seen;
      for (int64_t i = 0; i < n; ++i) {
        const int64_t p = Permute(i, n, key);
        ASSERT_GE(p, 0);
        ASSERT_LT(p, n);
        seen.insert(p);
      }
      ASSERT_EQ(static_cast<int64_t>(seen.size()), n);
    }
  }
}

TEST(DataOrder, VisitsEveryWindowOnceAnEpochAndStaysInside) {
  for (int64_t tokens : {17, 33, 40, 100, 1000, 1001}) {
    const DataOrder order(tokens, 16, 7);
    for (int64_t epoch = 0; epoch < 3; ++epoch) {
      std::set<int64_t> starts;
      for (int64_t i = 0; i < order.windows(); ++i) {
        const int64_t begin = order.Begin(epoch * order.windows() + i);
        ASSERT_GE(begin, 0);
        ASSERT_LE(begin + 16, tokens - 1);
        starts.insert(begin);
      }
      ASSERT_EQ(static_cast<int64_t>(starts.size()), order.windows());
      for (auto it = starts.begin(); std::next(it) != starts.end(); ++it)
        ASSERT_EQ(*std::next(it) - *it, 16);
    }
  }
}

TEST(DataOrder, DiffersBySeedAndByEpoch) {
  const DataOrder a(10000, 16, 1), b(10000, 16, 2);
  int same_seed = 0, same_epoch = 0;
  for (int64_t i = 0; i < 100; ++i) {
    same_seed += a.Begin(i) == b.Begin(i);
    same_epoch += a.Begin(i) == a.Begin(i + a.windows());
  }
  EXPECT_LT(same_seed, 10);
  EXPECT_LT(same_epoch, 10);
}

TEST(DataOrder, RefusesASplitShorterThanAWindow) {
  EXPECT_THROW(DataOrder(16, 16, 0), std::invalid_argument);
}

TEST(Safetensors, RoundTripsAndRefusesDamage) {
  const TempDir dir;
  const float a[6] = {1, 2, 3, 4, 5, 6}, b[1] = {-0.5f};
  const std::string path = dir / "x.safetensors";
  WriteSafetensors(path, {{"a", {{2, 3}, a}}, {"b", {{1}, b}}});
  const TensorFile file = TensorFile::Read(path);
  ASSERT_EQ(file.tensors().size(), 2u);
  EXPECT_EQ(file.tensors().at("a").shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(file.tensors().at("a").data[5], 6);
  EXPECT_EQ(file.tensors().at("b").data[0], -0.5f);

  std::string bytes;
  {
    std::ifstream in(path, std::ios::binary);
    bytes.assign(std::istreambuf_iterator<char>(in), {});
  }
  const auto refuses = [&](const std::string& content) {
    std::ofstream(dir / "y", std::ios::binary) << content;
    EXPECT_THROW(TensorFile::Read(dir / "y"), std::runtime_error);
  };
  for (size_t n = 0; n < bytes.size(); n += 3) refuses(bytes.substr(0, n));  // truncated anywhere
  refuses(bytes + "x");                                                      // data after the end
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string s = bytes;
    s.replace(s.find(from), from.size(), to);
    return s;
  };
  refuses(with("[2,3]", "[3,3]"));      // shape and offsets disagree
  refuses(with("[0,24]", "[4,28]"));    // overlap and hole
  refuses(with("\"b\":", "\"a\":"));    // the same name twice
  refuses(with("\"F32\"", "\"F16\""));  // a type this reader does not read
}

}  // namespace
}  // namespace plumb::trainer
