#include "analysis/front.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace plumb::analysis {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(Front, IsWhatNothingBeatsInEverything) {
  EXPECT_THAT(NotDominated({{1, 4}, {2, 2}, {3, 3}, {4, 1}, {2, 5}}, {false, false}),
              ElementsAre(true, true, false, true, false));
}

TEST(Front, OfWhatIsToBeLargeTheLargerIsBetter) {
  EXPECT_THAT(NotDominated({{1, 4}, {2, 2}, {3, 3}, {4, 1}, {2, 5}}, {false, true}),
              ElementsAre(true, false, false, false, true));
}

TEST(Front, HoldsEqualPointsAndTheBestOfOneObjective) {
  EXPECT_THAT(NotDominated({{1, 1}, {1, 1}, {1, 2}}, {false, false}),
              ElementsAre(true, true, false));
  EXPECT_THAT(NotDominated({{3}, {1}, {2}, {1}}, {false}), ElementsAre(false, true, false, true));
  EXPECT_THAT(NotDominated({}, {false, false}), ElementsAre());
}

// Against the definition, pair by pair.
TEST(Front, IsTheDefinitionOnRandomPoints) {
  std::mt19937 rng(1);
  for (int round = 0; round < 50; ++round) {
    const std::vector<bool> maximize = {round % 2 == 0, false, round % 3 == 0};
    std::vector<std::vector<double>> values(60, std::vector<double>(3));
    for (auto& v : values) {
      for (double& x : v) x = static_cast<double>(rng() % 7);
    }
    const std::vector<bool> front = NotDominated(values, maximize);
    for (size_t p = 0; p < values.size(); ++p) {
      bool beaten = false;
      for (const auto& q : values) {
        bool no_worse = true, better = false;
        for (size_t i = 0; i < 3; ++i) {
          const double d = maximize[i] ? q[i] - values[p][i] : values[p][i] - q[i];
          no_worse &= d >= 0, better |= d > 0;
        }
        beaten |= no_worse && better;
      }
      EXPECT_EQ(front[p], !beaten) << round << " " << p;
    }
  }
}

TEST(Front, IsDrawnAndToldTheBestFirst) {
  FrontFigure f{.title = "Sweep 1",
                .objectives = {"val loss", "flops"},
                .maximize = {false, false},
                .points = {{.cell = "d=2", .values = {2, 2e9}, .n = 3},
                           {.cell = "d=8, wide", .values = {1, 8e12}},
                           {.cell = "d=4", .values = {3, 4e9}}},
                .notes = {"left out: d=16, no value"}};
  Sort(&f);
  EXPECT_EQ(Csv(f),
            "cell,val loss,flops,n,on_front\n"
            "\"d=8, wide\",1,8e+12,1,1\n"
            "d=2,2,2000000000,3,1\n"
            "d=4,3,4000000000,1,0\n");
  const std::string text = Terminal(f, {});
  EXPECT_THAT(text, HasSubstr("2 of 3 cells"));
  EXPECT_THAT(text, Not(HasSubstr("d=4")));
  EXPECT_THAT(text, HasSubstr("left out: d=16"));
  EXPECT_THAT(Svg(f), HasSubstr("flops, log scale"));
  EXPECT_THAT(Svg(f), HasSubstr("<path"));
  EXPECT_THAT(Svg(f), HasSubstr("1  d=8, wide; 1; 8e+12"));
  EXPECT_THAT(Svg(f), HasSubstr("2  d=2; 2; 2e+09"));
}

}  // namespace
}  // namespace plumb::analysis
