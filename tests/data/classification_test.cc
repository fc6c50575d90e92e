#include "data/classification.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tests/data/texts.h"
#include "trainer/spec/sha256.h"

namespace plumb::data {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class ClassificationTest : public testing::Test {
 protected:
  ClassificationData ReadLines(const std::string& lines) {
    Write(dir_ / "c.jsonl", lines);
    return ReadClassification(dir_ / "c.jsonl", *BytesTokenizer(), options_);
  }
  // Of "…/c.jsonl:LINE: what", from the colon on; "" where nothing is wrong.
  std::string Error(const std::string& lines) {
    try {
      ReadLines(lines);
    } catch (const DataError& e) {
      const std::string what = e.what();
      return what.substr(what.find("c.jsonl") == std::string::npos ? 0 : what.find("c.jsonl") + 7);
    }
    return "";
  }
  TempDir dir_;
  ClassificationOptions options_{.seq_len = 8};
};

std::string Decoded(const ClassExample& e) {
  std::string text;
  for (const int64_t id : e.ids) text += id == 0 ? '|' : static_cast<char>(id);
  return text;
}

constexpr char kTwo[] =
    "{\"text\": \"good\", \"label\": \"pos\", \"split\": \"train\"}\n"
    "\n"
    "{\"label\": \"neg\", \"text\": \"very bad!\", \"split\": \"test\"}\r\n";

TEST_F(ClassificationTest, ReadsTextsLabelsAndSplits) {
  const ClassificationData data = ReadLines(kTwo);
  EXPECT_THAT(data.classes, ElementsAre("neg", "pos"));
  EXPECT_TRUE(data.splits_given);
  EXPECT_FALSE(data.integer_labels);
  EXPECT_EQ(data.digest, spec::Sha256Hex(kTwo));
  ASSERT_EQ(data.split(ClassSplit::kTrain).size(), 1u);
  ASSERT_EQ(data.split(ClassSplit::kTest).size(), 1u);
  const ClassExample& bad = data.split(ClassSplit::kTest)[0];
  EXPECT_EQ(bad.label, 0);
  EXPECT_EQ(bad.line, 3);
  EXPECT_EQ(Decoded(bad), "|very ba") << "cut to 8 with its separator";
  EXPECT_EQ(Decoded(data.split(ClassSplit::kTrain)[0]), "|good");
  EXPECT_EQ(data.cut, 1);
}

TEST_F(ClassificationTest, JoinsPairsAndCutsTheLonger) {
  const auto joined = [&](const std::string& a, const std::string& b) {
    const ClassificationData data =
        ReadLines("{\"text_a\": \"" + a + "\", \"text_b\": \"" + b +
                  "\", \"label\": 1, \"split\": \"train\"}\n"
                  "{\"text_a\": \"x\", \"text_b\": \"y\", \"label\": 0, \"split\": \"dev\"}\n");
    EXPECT_TRUE(data.pairs);
    return Decoded(data.split(ClassSplit::kTrain)[0]);
  };
  EXPECT_EQ(joined("abc", "def"), "|abc|def");
  EXPECT_EQ(joined("abcdefgh", "xy"), "|abcd|xy");
  EXPECT_EQ(joined("ab", "uvwxyz"), "|ab|uvwx");
  EXPECT_EQ(joined("abcdefgh", "stuvwxyz"), "|abc|stu");
  options_.seq_len = 7;
  EXPECT_EQ(joined("abcdefgh", "stuvwxyz").size(), 7u);
  options_.seq_len = 4;
  EXPECT_EQ(joined("abc", "def"), "|a|d");
  options_.seq_len = 3;
  EXPECT_THROW(joined("abc", "def"), DataError);
}

TEST_F(ClassificationTest, IntegerClassesAreInTheOrderOfTheirValues) {
  std::string lines;
  for (const char* label : {"10", "2", "-1", "-10", "0"})
    lines += std::string("{\"text\": \"t") + label + "\", \"label\": " + label + "}\n";
  const ClassificationData data = ReadLines(lines);
  EXPECT_TRUE(data.integer_labels);
  EXPECT_THAT(data.classes, ElementsAre("-10", "-1", "0", "2", "10"));
}

// By text: which side it is on.
std::map<std::string, ClassSplit> Sides(const ClassificationData& data) {
  std::map<std::string, ClassSplit> sides;
  for (const ClassSplit s : kClassSplits) {
    for (const ClassExample& e : data.split(s)) {
      const auto [at, is_new] = sides.emplace(Decoded(e), s);
      EXPECT_EQ(at->second, s) << "a text on two sides";
    }
  }
  return sides;
}

TEST_F(ClassificationTest, SplitsByTextAloneWhereTheFileDoesNot) {
  std::vector<std::string> lines;
  for (int i = 0; i < 50; ++i) {
    lines.push_back("{\"text\": \"t" + std::to_string(i) + "\", \"label\": \"" +
                    std::to_string(i % 3) + "\"}\n");
  }
  for (int i = 0; i < 10; ++i) lines.push_back(lines[i]);  // again
  const auto joined = [&] {
    std::string all;
    for (const std::string& line : lines) all += line;
    return all;
  };
  const ClassificationData data = ReadLines(joined());
  EXPECT_FALSE(data.splits_given);
  const auto sides = Sides(data);
  EXPECT_EQ(sides.size(), 50u);
  EXPECT_EQ(std::count_if(sides.begin(), sides.end(),
                          [](const auto& s) { return s.second == ClassSplit::kTest; }),
            10);
  EXPECT_EQ(data.split(ClassSplit::kTrain).size() + data.split(ClassSplit::kTest).size(), 60u);
  EXPECT_TRUE(data.split(ClassSplit::kDev).empty());
  EXPECT_THAT(data.also_in_train, ElementsAre(0, 0, 0));
  std::reverse(lines.begin(), lines.end());
  EXPECT_EQ(Sides(ReadLines(joined())), sides) << "the order of lines does not matter";
  options_.split_seed = 1;
  EXPECT_NE(Sides(ReadLines(joined())), sides);
}

TEST_F(ClassificationTest, CountsTestTextsThatTrainHas) {
  const ClassificationData data = ReadLines(
      "{\"text\": \"a\", \"label\": 0, \"split\": \"train\"}\n"
      "{\"text\": \"a\", \"label\": 1, \"split\": \"dev\"}\n"
      "{\"text\": \"b\", \"label\": 1, \"split\": \"dev\"}\n"
      "{\"text\": \"a\", \"label\": 0, \"split\": \"test\"}\n");
  EXPECT_THAT(data.also_in_train, ElementsAre(0, 1, 1));
}

TEST_F(ClassificationTest, NamesTheLineThatIsWrong) {
  const std::string good = "{\"text\": \"a\", \"label\": \"x\"}\n";
  const std::map<std::string, std::string> wrong = {
      {"not json", "not JSON"},
      {"{\"text\": \"a\xff\", \"label\": \"x\"}", "not JSON in UTF-8"},
      {"[1]", "must be a JSON object"},
      {"{\"label\": \"x\"}", "\"text\" is missing"},
      {"{\"text\": \"a\"}", "\"label\" is missing"},
      {"{\"text\": 1, \"label\": \"x\"}", "\"text\" must be a string"},
      {"{\"text\": \" \", \"label\": \"x\"}", "\"text\" is empty"},
      {"{\"text\": \"a\\u0000b\", \"label\": \"x\"}", "NUL"},
      {"{\"text\": \"a\", \"label\": 1.5}", "string or an integer"},
      {"{\"text\": \"a\", \"label\": null}", "string or an integer"},
      {"{\"text\": \"a\", \"label\": true}", "string or an integer"},
      {"{\"text\": \"a\", \"label\": \"\"}", "1 to 256 bytes"},
      {"{\"text\": \"a\", \"label\": 3}", "strings and integers"},
      {"{\"text\": \"a\", \"label\": \"x\", \"idx\": 1}", "unknown key \"idx\""},
      {"{\"text\": \"a\", \"text\": \"b\", \"label\": \"x\"}", "given twice"},
      {"{\"text\": \"a\", \"text_b\": \"b\", \"label\": \"x\"}", "unknown key \"text\""},
      {"{\"text_a\": \"a\", \"text_b\": \"b\", \"label\": \"x\"}", "one text and two texts"},
      {"{\"text\": \"a\", \"label\": \"x\", \"split\": \"dev\"}", "in some lines only"},
      {"{\"text\": \"a\", \"label\": \"x\", \"split\": \"valid\"}", "not \"valid\""},
  };
  for (const auto& [line, what] : wrong) {
    const std::string error = Error(good + line + "\n" + good);
    EXPECT_THAT(error, testing::StartsWith(":2: ")) << line;
    EXPECT_THAT(error, HasSubstr(what)) << line;
  }
}

TEST_F(ClassificationTest, RefusesAFileThatMakesNoTask) {
  EXPECT_THAT(Error(""), HasSubstr("has no line"));
  EXPECT_THAT(Error("{\"text\": \"a\", \"label\": 1}\n{\"text\": \"b\", \"label\": 1}\n"),
              HasSubstr("two classes"));
  EXPECT_THAT(Error("{\"text\": \"a\", \"label\": 1}\n{\"text\": \"a\", \"label\": 2}\n"),
              HasSubstr("one text only"));
  EXPECT_THAT(Error("{\"text\": \"a\", \"label\": 1, \"split\": \"train\"}\n"
                    "{\"text\": \"b\", \"label\": 2, \"split\": \"train\"}\n"),
              HasSubstr("every line is \"train\""));
  EXPECT_THAT(Error("{\"text\": \"a\", \"label\": 1, \"split\": \"dev\"}\n"
                    "{\"text\": \"b\", \"label\": 2, \"split\": \"test\"}\n"),
              HasSubstr("no line has the split \"train\""));
  options_.max_line_bytes = 20;
  EXPECT_THAT(Error(kTwo), HasSubstr(":1: longer than 20"));
  options_ = {.seq_len = 8, .max_file_bytes = 30};
  EXPECT_THAT(Error(kTwo), HasSubstr("more than the 30 allowed"));
  options_ = {.seq_len = 8, .max_classes = 1};
  EXPECT_THAT(Error(kTwo), HasSubstr("2 different labels"));
  EXPECT_THROW(ReadClassification(dir_ / "none.jsonl", *BytesTokenizer(), {}), DataError);
}

}  // namespace
}  // namespace plumb::data
