#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "app/exit_code.h"
#include "app/nearest.h"
#include "app/table.h"

namespace plumb::app {
namespace {

TEST(ExitCodeTest, EveryStatusHasItsCode) {
  const int expected[] = {0, 130, 1, 2, 8, 3, 6, 4, 6, 6, 6, 2, 1, 1, 5, 1, 4};
  for (int code = 0; code <= 16; ++code) {
    EXPECT_EQ(ExitCode(static_cast<absl::StatusCode>(code)), expected[code]) << code;
  }
}

TEST(NearestTest, FindsTypingMistakesAndNothingFarAway) {
  const std::vector<std::string> names = {"submit", "plan", "list", "show"};
  EXPECT_EQ(Nearest("sumbit", names), "submit");
  EXPECT_EQ(Nearest("pln", names), "plan");
  EXPECT_EQ(Nearest("sub", names), "submit");
  EXPECT_EQ(Nearest("zebra-crossing", names), "");
}

TEST(EditDistanceTest, CountsASwapOnce) {
  EXPECT_EQ(EditDistance("ab", "ba"), 1);
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3);
  EXPECT_EQ(EditDistance("", "abc"), 3);
}

Table Sample() {
  return {.columns = {{"id"}, {"name"}, {"loss", 3}},
          .rows = {{int64_t{7}, "a,\"b\"", 2.5}, {int64_t{12}, "日本\x1b[31m", std::monostate()}}};
}

TEST(TableTextTest, AlignsNumbersRightAndMakesTextSafe) {
  EXPECT_EQ(TableText(Sample()),
            "id  name        loss\n"
            " 7  a,\"b\"      2.500\n"
            "12  日本?[31m      -\n");
}

TEST(TableTextTest, ShortensTheWidestTextToTheWidth) {
  const std::string text =
      TableText({.columns = {{"name"}, {"n"}}, .rows = {{std::string(100, 'x'), int64_t{1}}}}, 20);
  EXPECT_THAT(text, ::testing::HasSubstr("…  1\n"));
  EXPECT_EQ(DisplayWidth(text.substr(0, text.find('\n'))), 20);
}

TEST(TableJsonTest, AbsentAndNotFiniteAreNull) {
  EXPECT_EQ(
      TableJson({.columns = {{"x"}, {"y"}}, .rows = {{std::monostate(), NAN}, {int64_t{1}, 0.5}}}),
      "[\n  {\"x\":null,\"y\":null},\n  {\"x\":1,\"y\":0.5}\n]\n");
  EXPECT_EQ(TableJson({.columns = {{"x"}}}), "[]\n");
}

TEST(TableCsvTest, QuotesAndKeepsEveryBitOfANumber) {
  EXPECT_EQ(TableCsv({.columns = {{"a"}, {"b"}},
                      .rows = {{"x,\"y\"", 0.1}, {std::monostate(), 1.0 / 3}}}),
            "a,b\n\"x,\"\"y\"\"\",0.1\n,0.3333333333333333\n");
}

TEST(DurationTest, ReadsLikeAPerson) {
  EXPECT_EQ(Duration(3.21), "3.2 s");
  EXPECT_EQ(Duration(250), "4 min 10 s");
  EXPECT_EQ(Duration(7500), "2 h 05 min");
}

}  // namespace
}  // namespace plumb::app
