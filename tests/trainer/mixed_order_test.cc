#include "trainer/mixed_order.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <numeric>
#include <set>

namespace plumb::trainer {
namespace {

constexpr int64_t kLength = 16;

double Weight(const std::vector<int64_t>& weights, size_t part) {
  return static_cast<double>(weights[part]) /
         static_cast<double>(std::accumulate(weights.begin(), weights.end(), int64_t{0}));
}

TEST(MixPattern, StaysWithinOneOfTheWeightsAfterAnyNumberOfSamples) {
  const std::vector<std::vector<int64_t>> mixes = {{1},
                                                   {700000, 300000},
                                                   {1, 1},
                                                   {1, 1, 1},
                                                   {5, 0, 3, 2},
                                                   {999999, 1},
                                                   {333334, 333333, 333333},
                                                   {610, 377, 233, 144, 89, 55, 34},
                                                   {1, 1, 1, 1, 1, 1, 1, 1, 92},
                                                   {500000, 250000, 125000, 62500, 62500}};
  for (const auto& weights : mixes) {
    for (int64_t seed : {0, 1, 7}) {
      const MixPattern pattern(weights, seed);
      std::vector<int64_t> count(weights.size());
      for (int64_t n = 0; n < 5000; ++n) {
        for (size_t p = 0; p < weights.size(); ++p) {
          ASSERT_EQ(pattern.Count(static_cast<int64_t>(p), n), count[p]) << n;
          ASSERT_LT(
              std::abs(static_cast<double>(n) * Weight(weights, p) - static_cast<double>(count[p])),
              1.0)
              << "part " << p << " of " << weights.size() << " after " << n;
        }
        ++count[pattern.PartAt(n)];
      }
    }
  }
}

TEST(MixPattern, CountsExactlyFarOut) {
  const MixPattern pattern({700000, 200000, 100000}, 3);
  const int64_t far = int64_t{1} << 50;
  EXPECT_EQ(pattern.Count(0, 10 * far), 7 * far);
  EXPECT_EQ(pattern.Count(2, 10 * far), far);
  EXPECT_EQ(pattern.PartAt(10 * far + 4), pattern.PartAt(4));
}

TEST(MixPattern, SeedDecidesBetweenEqualParts) {
  std::set<int64_t> first;
  for (int64_t seed = 0; seed < 40; ++seed) first.insert(MixPattern({1, 1, 1}, seed).PartAt(0));
  EXPECT_EQ(first, (std::set<int64_t>{0, 1, 2}));
}

TEST(MixPattern, RefusesWeightsItCannotCount) {
  EXPECT_THROW(MixPattern({0, 0}, 0), std::invalid_argument);
  EXPECT_THROW(MixPattern({1, -1}, 0), std::invalid_argument);
  EXPECT_THROW(MixPattern({1000000, 1}, 0), std::invalid_argument);
}

TEST(MixedOrder, OfOnePartIsThatPartsOrder) {
  const DataOrder plain(5000, kLength, 11);
  const MixedOrder mixed({5000}, {{1000, {1000000}}}, kLength, 11);
  for (int64_t i = 0; i < 2000; ++i) {
    ASSERT_EQ(mixed.At(i).part, 0);
    ASSERT_EQ(mixed.At(i).begin, plain.Begin(i));
  }
  EXPECT_EQ(mixed.Epochs(700), plain.Epochs(700));
  EXPECT_EQ(mixed.Epochs(0, 700), plain.Epochs(700));
}

TEST(MixedOrder, VisitsEachPartsWindowsInItsOwnOrderOnceAnEpoch) {
  const std::vector<int64_t> tokens = {3000, 1000};
  const MixedOrder mixed(tokens, {{10000, {250000, 750000}}}, kLength, 5);
  const DataOrder parts[] = {{3000, kLength, 5}, {1000, kLength, 5}};
  std::vector<int64_t> count(2);
  std::vector<std::multiset<int64_t>> epoch(2);
  for (int64_t i = 0; i < 4000; ++i) {
    const auto [part, begin] = mixed.At(i);
    ASSERT_EQ(begin, parts[part].Begin(count[part]++));
    epoch[part].insert(begin);
    if (static_cast<int64_t>(epoch[part].size()) == parts[part].windows()) {
      ASSERT_EQ(std::set<int64_t>(epoch[part].begin(), epoch[part].end()).size(),
                epoch[part].size());
      epoch[part].clear();
    }
  }
  EXPECT_EQ(count, (std::vector<int64_t>{1000, 3000}));
  EXPECT_EQ(mixed.Count(1, 4000), 3000);
  EXPECT_DOUBLE_EQ(mixed.Epochs(1, 4000), 3000.0 / static_cast<double>(parts[1].windows()));
}

TEST(MixedOrder, PhasesFollowEachOtherAndAPartGoesOnWhereItWas) {
  const std::vector<MixedOrder::Phase> phases = {
      {100, {1000000, 0}}, {50, {0, 1000000}}, {200, {500000, 500000}}};
  const MixedOrder mixed({2000, 2000}, phases, kLength, 1);
  const DataOrder part(2000, kLength, 1);
  for (int64_t i = 0; i < 100; ++i) ASSERT_EQ(mixed.At(i).part, 0);
  for (int64_t i = 100; i < 150; ++i) {
    ASSERT_EQ(mixed.At(i).part, 1);
    ASSERT_EQ(mixed.At(i).begin, part.Begin(i - 100)) << "equally long parts share the order";
  }
  std::vector<int64_t> count = {100, 50};
  for (int64_t i = 150; i < 600; ++i) {  // past the end: the last phase goes on
    const auto [p, begin] = mixed.At(i);
    ASSERT_EQ(begin, part.Begin(count[p]));
    ++count[p];
    ASSERT_EQ(mixed.Count(p, i + 1), count[p]);
  }
  EXPECT_EQ(count, (std::vector<int64_t>{325, 275}));
}

TEST(MixedOrder, IsAFunctionOfSeedAndIndexAlone) {
  const std::vector<MixedOrder::Phase> phases = {{500, {600000, 400000}}, {500, {1, 2}}};
  const MixedOrder one({4000, 3000}, phases, kLength, 9), same({4000, 3000}, phases, kLength, 9),
      other({4000, 3000}, phases, kLength, 10);
  int64_t equal = 0;
  for (int64_t i = 999; i >= 0; --i) {  // backwards: what was asked before does not matter
    ASSERT_EQ(one.At(i).part, same.At(i).part);
    ASSERT_EQ(one.At(i).begin, same.At(i).begin);
  }
  for (int64_t i = 0; i < 1000; ++i) {
    const MixedOrder resumed({4000, 3000}, phases, kLength, 9);  // asked nothing before i
    if (i % 97 == 0) {
      ASSERT_EQ(resumed.At(i).begin, one.At(i).begin);
    }
    equal += one.At(i).begin == other.At(i).begin;
  }
  EXPECT_LT(equal, 50);
}

TEST(MixedOrder, NeedsAWindowOnlyOfPartsThatAreRead) {
  EXPECT_THROW(MixedOrder({1000, 16}, {{10, {1, 1}}}, kLength, 0), std::invalid_argument);
  const MixedOrder mixed({1000, 16}, {{10, {1, 0}}}, kLength, 0);
  EXPECT_EQ(mixed.At(7).part, 0);
  EXPECT_EQ(mixed.Epochs(1, 10), 0);
}

}  // namespace
}  // namespace plumb::trainer
