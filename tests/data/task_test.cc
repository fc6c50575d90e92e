#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "data/task_file.h"
#include "data/task_score.h"

namespace plumb::data {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string FileOf(const std::string& text, const std::string& name = "task.jsonl") {
  const auto path = std::filesystem::path(::testing::TempDir()) / name;
  std::ofstream(path) << text;
  return path;
}
TaskData Read(const std::string& format, const std::string& text) {
  return ReadTask(format, FileOf(text), "", 0);
}
std::string Refusal(const std::string& format, const std::string& text) {
  try {
    Read(format, text);
  } catch (const DataError& e) {
    return e.what();
  }
  return "read";
}

TEST(TaskFile, EachFormatAsTheHarnessAsks) {
  TaskData t = Read(
      "arc",
      R"({"question": {"stem": "Why?", "choices": [{"text": "So", "label": "1"}, {"text": "No", "label": "2"}]}, "answerKey": "2"})");
  EXPECT_EQ(t.items[0].context, "Question: Why?\nAnswer:");
  EXPECT_THAT(t.items[0].choices, ElementsAre("So", "No"));
  EXPECT_EQ(t.items[0].gold, 1);
  EXPECT_EQ(t.delimiter, " ");

  t = Read(
      "hellaswag",
      R"({"activity_label": "Cooking", "ctx_a": "A man [step] stirs.", "ctx_b": "he IS", "endings": ["a [title] b", "c", "d", "e"], "label": "2"})");
  EXPECT_EQ(t.items[0].context, "Cooking: A man stirs. He is");
  EXPECT_EQ(t.items[0].choices[0], "a. b");
  EXPECT_EQ(t.items[0].gold, 2);

  t = Read(
      "copa",
      R"({"premise": " It rained. ", "choice1": "The street got wet.", "choice2": "Él slept.", "question": "effect", "label": 1})");
  EXPECT_EQ(t.items[0].context, "It rained therefore");
  EXPECT_THAT(t.items[0].choices, ElementsAre(" the street got wet.", " él slept."));

  t = Read(
      "wic",
      R"({"word": "bank", "sentence1": "Die Bänk bank", "sentence2": "b", "start1": 9, "end1": 13, "label": true})");
  EXPECT_THAT(t.items[0].context, HasSubstr("Is the word 'bank' used"));
  EXPECT_EQ(t.items[0].gold, 1);

  t = Read("lambada", R"({"text": "he said to her , yes"})");
  EXPECT_EQ(t.items[0].context, "he said to her ,");
  EXPECT_THAT(t.items[0].choices, ElementsAre(" yes"));
  EXPECT_EQ(t.delimiter, "");

  t = Read(
      "multirc",
      R"({"passage": {"text": "P", "questions": [{"question": "Q?", "answers": [{"text": "x", "label": 1}, {"text": "y", "label": 0}]}]}})");
  ASSERT_EQ(t.items.size(), 2);
  EXPECT_EQ(t.items[1].choices[1], "y\nIs the answer correct? no");

  t = Read("blimp", R"({"sentence_good": "I am.", "sentence_bad": "I is.", "UID": "agreement"})");
  EXPECT_EQ(t.items[0].context, "");
  EXPECT_EQ(t.items[0].group, "agreement");

  t = Read("cb", R"({"premise": "p", "hypothesis": "h", "label": "neutral"})");
  EXPECT_EQ(t.items[0].gold, 2);
}

TEST(TaskFile, LabelsMayStandInTheirOwnFile) {
  const std::string path = FileOf(
      "{\"goal\": \"g\", \"sol1\": \"a\", \"sol2\": \"b\"}\n{\"goal\": \"h\", \"sol1\": \"a\", "
      "\"sol2\": \"b\"}\n");
  const TaskData t = ReadTask("piqa", path, FileOf("1\n0\n", "labels"), 0);
  EXPECT_EQ(t.items[0].gold, 1);
  EXPECT_EQ(t.items[1].gold, 0);
  EXPECT_EQ(ReadTask("piqa", path, FileOf("1\n0\n", "labels"), 1).items.size(), 1);
  EXPECT_THROW(ReadTask("piqa", path, FileOf("1\n", "labels"), 0), DataError);
}

TEST(TaskFile, StoryClozeIsReadAsItIsPublished) {
  const std::string header =
      "\xEF\xBB\xBFInputStoryid,InputSentence1,InputSentence2,InputSentence3,InputSentence4,"
      "RandomFifthSentenceQuiz1,RandomFifthSentenceQuiz2,AnswerRightEnding\r\n";
  const std::string first = "x-1,Ann sat.,\"She said \"\"no\"\", twice.\",C.,D.,E.,F.,2\r\n";
  const TaskData csv = ReadTask(
      "storycloze", FileOf(header + first + "\n\"y\",A.,\"B\nb.\",C.,D.,E.,F.,1", "s.csv"), "", 0);
  const TaskData lines = Read(
      "storycloze",
      R"({"input_sentence_1": "Ann sat.", "input_sentence_2": "She said \"no\", twice.", "input_sentence_3": "C.", "input_sentence_4": "D.", "sentence_quiz1": "E.", "sentence_quiz2": "F.", "answer_right_ending": 2})");
  ASSERT_EQ(csv.items.size(), 2);
  EXPECT_EQ(csv.items[0].context, "Ann sat. She said \"no\", twice. C. D.");
  EXPECT_EQ(csv.items[0].context, lines.items[0].context);
  EXPECT_EQ(csv.items[0].choices, lines.items[0].choices);
  EXPECT_EQ(csv.items[0].gold, 1);
  EXPECT_EQ(csv.items[1].context, "A. B\nb. C. D.");
  EXPECT_EQ(csv.items[1].line, 4);
  const auto refusal = [&](const std::string& rows) -> std::string {
    try {
      ReadTask("storycloze", FileOf(rows, "s.csv"), "", 0);
    } catch (const DataError& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_THAT(refusal(header + first + "z,A.,B.,C.,D.,E.,F.\n"),
              HasSubstr(":3: 7 fields, the first row has 8"));
  EXPECT_THAT(refusal(header + "z,A.,B.,C.,D.,E.,F.,3\n"),
              HasSubstr(":2: AnswerRightEnding must be 1 or 2"));
  EXPECT_THAT(refusal(header + "z,A.,B.,C.,D.,E.,\"F.,1\n"), HasSubstr("not closed"));
  EXPECT_THAT(refusal("InputStoryid,InputSentence1\nz,A.\n"),
              HasSubstr("\"input_sentence_2\" is missing"));
  EXPECT_THAT(refusal(""), HasSubstr("has no row"));
}

TEST(TaskFile, BadLinesAreNamed) {
  EXPECT_THAT(
      Refusal(
          "arc",
          R"({"question": {"stem": "Why?", "choices": [{"text": "So", "label": "A"}, {"text": "b", "label": "B"}]}, "answerKey": "C"})"),
      HasSubstr(":1: \"answerKey\" C is no choice's label"));
  EXPECT_THAT(Refusal("piqa", "\n{\"goal\": \"g\", \"sol1\": \"a\", \"sol2\": \"b\"}"),
              HasSubstr(":2: \"label\" is missing"));
  EXPECT_THAT(Refusal("choices", R"({"context": "", "choices": ["a", "b"], "gold": 2})"),
              HasSubstr("\"gold\" must be a whole number from 0 to 1"));
  EXPECT_THAT(
      Refusal("choices", R"({"context": "", "choices": ["a", "b"], "gold": 0, "answer": 1})"),
      HasSubstr("unknown key \"answer\""));
  EXPECT_THAT(Refusal("choices", R"({"context": "", "choices": ["a"], "gold": 0})"),
              HasSubstr("fewer than two choices"));
  EXPECT_THAT(Refusal("lambada", R"({"text": "one"})"), HasSubstr("no last word"));
  EXPECT_THAT(Refusal("arc", ""), HasSubstr("has no item"));
  EXPECT_THAT(Refusal("boolq", R"({"passage": "p", "question": "q", "label": "maybe"})"),
              HasSubstr("\"label\" must be a whole number from 0 to 1"));
}

TEST(TaskFile, SpacesMoveToTheAnswerAndNothingIsLost) {
  const auto bytes = BytesTokenizer();
  EncodedPair pair = EncodePair(*bytes, "ab ", "c", false);
  EXPECT_THAT(pair.tokens, ElementsAre('a', 'b', ' ', 'c'));
  EXPECT_EQ(pair.continuation, 2);
  pair = EncodePair(*bytes, "", " c", false);  // the separator stands before an empty context
  EXPECT_THAT(pair.tokens, ElementsAre(0, ' ', 'c'));
  EXPECT_EQ(pair.continuation, 2);
  EXPECT_THAT(EncodePair(*bytes, "a", "b", true).tokens, ElementsAre(0, 'a', 'b'));
}

// Merges "ab" wherever it stands.
class Merging : public Tokenizer {
 public:
  int64_t vocab_size() const override { return 257; }
  int64_t separator() const override { return 0; }
  std::vector<int64_t> Encode(std::string_view text) const override {
    std::vector<int64_t> out;
    for (size_t i = 0; i < text.size(); ++i) {
      const bool both = text.substr(i, 2) == "ab";
      out.push_back(both ? 256 : text[i]);
      i += both;
    }
    return out;
  }
  std::string Decode(const std::vector<int64_t>&) const override { return ""; }
};

TEST(TaskFile, ATokenOverTheJoinLeavesAnAnswerAllTheSame) {
  const EncodedPair pair = EncodePair(Merging(), "a", "b", false);
  EXPECT_TRUE(pair.spanning);
  EXPECT_THAT(pair.tokens, ElementsAre('a', 'b'));
  EXPECT_EQ(pair.continuation, 1);
}

TEST(TaskScore, AccuraciesBySumCharactersAndBytes) {
  TaskData task{.format = "choices", .delimiter = " "};
  task.items.push_back({.choices = {"日本", "abcd"}, .gold = 0});
  // By sum the second; by characters (2 and 4) the second; by bytes (6 and 4) the first.
  std::vector<ItemScore> scores = {{{-6, -5}, {false, false}}};
  std::vector<GroupScore> got = ScoreTask(task, scores);
  EXPECT_EQ(got[0].metrics[0].value, 0);
  EXPECT_EQ(got[0].metrics[1].value, 0);
  EXPECT_EQ(got[0].metrics[2].value, 1);
  EXPECT_FALSE(got[0].metrics[0].stderr_);  // of one item

  task.items.push_back({.choices = {"a", "b"}, .gold = 0});
  scores.push_back({{-1, -1}, {false, false}});  // of equal ones the first
  got = ScoreTask(task, scores);
  EXPECT_EQ(got[0].metrics[0].value, 0.5);
  EXPECT_DOUBLE_EQ(*got[0].metrics[0].stderr_, 0.5);  // √(0.5) / √2
}

TEST(TaskScore, GroupsAreMeanedWithoutWeights) {
  TaskData task{.format = "blimp"};
  std::vector<ItemScore> scores;
  for (const char* group : {"b", "a", "a", "a"}) {
    task.items.push_back({.choices = {"g", "w"}, .group = group});
    scores.push_back({{group[0] == 'b' ? -1.0 : -3.0, -2}, {false, false}});
  }
  const std::vector<GroupScore> got = ScoreTask(task, scores);
  ASSERT_EQ(got.size(), 3);
  EXPECT_EQ(got[0].metrics[0].value, 0.25);
  EXPECT_EQ(got[0].metrics.back().name, "acc_groups");
  EXPECT_EQ(got[0].metrics.back().value, 0.5);
  EXPECT_EQ(got[1].group, "a");
  EXPECT_EQ(got[2].items, 1);
}

TEST(TaskScore, MacroF1OfThreeClasses) {
  TaskData task{.format = "cb"};
  std::vector<ItemScore> scores;
  const int gold[] = {0, 0, 1, 2}, said[] = {0, 1, 1, 0};
  for (int i = 0; i < 4; ++i) {
    task.items.push_back({.choices = {"True", "False", "Neither"}, .gold = gold[i]});
    scores.push_back({{-9, -9, -9}, {false, false, false}});
    scores.back().log_likelihood[said[i]] = -1;
  }
  // F1: 2/4, 2/3, 0.
  EXPECT_DOUBLE_EQ(ScoreTask(task, scores)[0].metrics[3].value, (0.5 + 2.0 / 3) / 3);
}

TEST(TaskScore, PerplexityIsOfWordsAndItsErrorIsDrawnAsPythonDraws) {
  PythonRandom zero(0), one(1);
  EXPECT_EQ(zero.Next(), 0x1.b0580f98a7dbep-1);
  EXPECT_EQ(one.Next(), 0x1.132d8f91b7584p-3);
  EXPECT_EQ(one.Next(), 0x1.b1e2d5b3584f8p-1);
  PythonRandom far(99);
  double last = 0;
  for (int i = 0; i < 1002; ++i) last = far.Next();
  EXPECT_EQ(last, 0x1.655f4348cda56p-2);

  TaskData task{.format = "lambada", .last_word = true};
  std::vector<ItemScore> scores;
  for (const double ll : {-1.0, -3.0}) {
    task.items.push_back({.choices = {" w"}});
    scores.push_back({{ll}, {ll > -2}});
  }
  const GroupScore got = ScoreTask(task, scores, 4000)[0];
  EXPECT_EQ(got.metrics[0].value, 0.5);
  EXPECT_DOUBLE_EQ(got.metrics[1].value, std::exp(2));
  // Resamples of two are e, e² and e³ with 1/4, 1/2, 1/4: a deviation of 6.16.
  const double mean = (std::exp(1) + 2 * std::exp(2) + std::exp(3)) / 4;
  const double deviation =
      std::sqrt((std::exp(2) + 2 * std::exp(4) + std::exp(6)) / 4 - mean * mean);
  EXPECT_NEAR(*got.metrics[1].stderr_, deviation, 0.25);
}

}  // namespace
}  // namespace plumb::data
