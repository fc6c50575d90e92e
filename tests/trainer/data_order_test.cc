#include "trainer/data_order.h"

#include <gtest/gtest.h>

#include <set>

#include "trainer/counter_random.h"

namespace plumb::trainer {
namespace {

TEST(DataOrder, PermutesEveryRange) {
  for (int64_t n : {1, 2, 3, 4, 5, 16, 17, 63, 64, 65, 1000, 4097}) {
    for (uint64_t key : {0u, 1u, 99u}) {
      std::set<int64_t> seen;
      for (int64_t i = 0; i < n; ++i) {
        int64_t p = Permute(i, n, key);
        ASSERT_TRUE(p >= 0 && p < n);
        seen.insert(p);
      }
      ASSERT_EQ(static_cast<int64_t>(seen.size()), n);
    }
  }
}

TEST(DataOrder, VisitsEachWindowOfAnEpochOnceWithinTheStream) {
  for (int64_t tokens : {17, 18, 31, 32, 33, 48, 1000}) {
    DataOrder order(tokens, 16, 7);
    for (int64_t epoch = 0; epoch < 5; ++epoch) {
      std::set<int64_t> begins;
      for (int64_t i = 0; i < order.windows(); ++i) {
        int64_t begin = order.Begin(epoch * order.windows() + i);
        ASSERT_GE(begin, 0);
        ASSERT_LT(begin + 16, tokens) << "the last target lies in the stream";
        begins.insert(begin);
      }
      ASSERT_EQ(static_cast<int64_t>(begins.size()), order.windows());
      for (int64_t b : begins) EXPECT_EQ((b - *begins.begin()) % 16, 0) << "windows do not overlap";
    }
  }
}

TEST(DataOrder, EpochsDifferInOffsetAndOrderAndSeedsDiffer) {
  DataOrder order(10000, 16, 7), other(10000, 16, 8);
  std::set<int64_t> offsets;
  int64_t same = 0, same_seed = 0;
  for (int64_t e = 0; e < 40; ++e) offsets.insert(order.Begin(e * order.windows()) % 16);
  for (int64_t i = 0; i < order.windows(); ++i) {
    same += order.Begin(i) / 16 == order.Begin(i + order.windows()) / 16;
    same_seed += order.Begin(i) == other.Begin(i);
  }
  EXPECT_GT(offsets.size(), 8u);
  EXPECT_LT(same, 20);
  EXPECT_LT(same_seed, 20);
  EXPECT_DOUBLE_EQ(
      order.Epochs(order.windows() * 3 / 2),
      static_cast<double>(order.windows() * 3 / 2) / static_cast<double>(order.windows()));
}

TEST(DataOrder, RefusesAStreamWithoutOneWindow) {
  EXPECT_THROW(DataOrder(16, 16, 0), std::invalid_argument);
  EXPECT_EQ(DataOrder(17, 16, 0).windows(), 1);
}

TEST(CounterRandom, IsStandardNormalAndAFunctionOfKeyAndCounter) {
  CounterRandom random(3), again(3), other(4);
  double sum = 0, squares = 0, product = 0;
  const int n = 100000;
  for (int i = 0; i < n; ++i) {
    double x = random.Normal(i);
    ASSERT_EQ(x, again.Normal(i));
    sum += x, squares += x * x, product += x * other.Normal(i);
  }
  EXPECT_NEAR(sum / n, 0, 0.02);
  EXPECT_NEAR(squares / n, 1, 0.03);
  EXPECT_NEAR(product / n, 0, 0.02);
}

}  // namespace
}  // namespace plumb::trainer
