#include <gtest/gtest.h>

#include "data/compressor.h"
#include "data/disjoint.h"
#include "data/near_duplicates.h"
#include "data/overlap.h"
#include "data/units.h"
#include "data/utf8.h"
#include "tests/data/texts.h"

namespace plumb::data {
namespace {

TEST(Units, AreWordsInLowerCaseAndSingleKanaOrKanji) {
  EXPECT_EQ(Units("Hello, World 42"), Units("hello world -- 42!"));
  EXPECT_EQ(Units("Hello World").size(), 2u);
  EXPECT_EQ(Units("日本語のtext。").size(), 5u);
  EXPECT_EQ(Units("naïve café").size(), 2u);
  EXPECT_NE(Units("ab c"), Units("a bc"));
  EXPECT_TRUE(Units(" ,.;\n").empty());
}

TEST(Units, NGramsAreThoseOfTheRunWhereverItStands) {
  const std::vector<uint64_t> whole = NGrams("a b c d e f g", 3), part = NGrams("c d e", 3);
  ASSERT_EQ(whole.size(), 5u);
  ASSERT_EQ(part.size(), 1u);
  EXPECT_EQ(whole[2], part[0]);
  EXPECT_NE(NGrams("a b c", 3), NGrams("c b a", 3));
  EXPECT_TRUE(NGrams("a b", 3).empty());
}

TEST(Units, ArePlaced) {
  const std::string text = "  Hello, w\u00f6rld \u65e5";
  const std::vector<PlacedUnit> units = PlacedUnits(text);
  ASSERT_EQ(units.size(), 3u);
  EXPECT_EQ(text.substr(units[0].begin, units[0].end - units[0].begin), "Hello");
  EXPECT_EQ(text.substr(units[1].begin, units[1].end - units[1].begin), "w\u00f6rld");
  EXPECT_EQ(text.substr(units[2].begin, units[2].end - units[2].begin), "\u65e5");
}

// Words on one line.
std::string Line(int words, uint64_t seed) {
  std::string text = Words(words, seed);
  for (char& c : text) c = c == '\n' ? ' ' : c;
  text.erase(text.find_last_not_of(' ') + 1);
  return text;
}

SplitDocuments Split4(std::vector<std::string> train, const std::string& tune,
                      const std::string& val, const std::string& test) {
  SplitDocuments s;
  for (std::string& t : train) s.documents[0].push_back({"train", std::move(t)});
  s.documents[static_cast<int>(Split::kTune)] = {{"tune", tune}};
  s.documents[static_cast<int>(Split::kVal)] = {{"val", val}};
  s.documents[static_cast<int>(Split::kTest)] = {{"test", test}};
  return s;
}

TEST(Disjoint, CutsWholeLinesOfSharedRunsOutOfTrainAlone) {
  ASSERT_EQ(static_cast<int>(Split::kTrain), 0);
  const std::string shared = Line(13, 7), own = Line(40, 1), more = Line(40, 2);
  const std::string held = "before " + shared + " after";
  SplitDocuments s = Split4({own + "\nIn line " + shared + " rest of it\n" + more, Line(50, 3)},
                            Line(50, 4), held, Line(50, 5));
  EXPECT_EQ(Overlap13(s)[static_cast<int>(Split::kVal)], 1);
  const size_t before = s.documents[0][0].text.size();
  const Cut cut = CutOutOfTrain(&s);
  ASSERT_EQ(s.documents[0].size(), 3u);
  EXPECT_EQ(s.documents[0][0].text, own + "\n");
  EXPECT_EQ(s.documents[0][1].text, more);
  EXPECT_EQ(s.documents[0][2].text, Line(50, 3)) << "what shares nothing stays whole";
  EXPECT_EQ(cut.documents, 1);
  EXPECT_EQ(cut.bytes, static_cast<int64_t>(before - own.size() - 1 - more.size()));
  EXPECT_EQ(s.documents[static_cast<int>(Split::kVal)][0].text, held);
  EXPECT_EQ(Overlap13(s), (std::array<double, 4>{}));
}

TEST(Disjoint, ARunOfTwelveStaysAndOneOverALineGoesWithBothLines) {
  const std::string words = Line(12, 7);
  SplitDocuments twelve = Split4({words}, Line(50, 4), words, Line(50, 5));
  EXPECT_EQ(CutOutOfTrain(&twelve).bytes, 0);
  std::string broken = Line(13, 7);
  const std::string whole = broken;
  broken[broken.find(' ', broken.size() / 2)] = '\n';
  SplitDocuments two =
      Split4({Line(50, 1) + "\n" + broken + "\n" + Line(50, 2)}, Line(50, 4), Line(50, 6), whole);
  CutOutOfTrain(&two);
  ASSERT_EQ(two.documents[0].size(), 2u);
  EXPECT_EQ(two.documents[0][0].text, Line(50, 1) + "\n");
  EXPECT_EQ(two.documents[0][1].text, Line(50, 2));
}

TEST(Disjoint, WhatIsAllSharedIsRefused) {
  const std::string text = Line(100, 7);
  SplitDocuments s = Split4({text}, Line(50, 4), text, Line(50, 5));
  EXPECT_THROW(CutOutOfTrain(&s), DataError);
}

TEST(NearDuplicates, AreDroppedAndTheFirstIsKept) {
  std::vector<Document> documents = ManyDocuments(50, 400);
  for (int i = 0; i < 50; i += 5) {  // one word changed in 400: 5 of about 396 shingles
    std::string text = documents[i].text;
    text.replace(text.find(' ', text.size() / 2), 1, " changed ");
    documents.push_back({"copy", text});
  }
  int64_t dropped = 0;
  const auto kept = WithoutNearDuplicates(documents, &dropped);
  EXPECT_EQ(dropped, 10);
  ASSERT_EQ(kept.size(), 50u);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(kept[i].text, documents[i].text);
}

TEST(NearDuplicates,
     ThreeQuartersSharedIsNotEnough) {  // Jaccard 0.6: nearly always a candidate, so verified
  std::vector<Document> documents;
  for (int i = 0; i < 20; ++i) {
    const std::string shared = Words(300, 100 + i);
    documents.push_back({"a", shared + Words(100, 200 + i)});
    documents.push_back({"b", shared + Words(100, 300 + i)});
  }
  int64_t dropped = 0;
  WithoutNearDuplicates(documents, &dropped);
  EXPECT_EQ(dropped, 0);
}

TEST(NearDuplicates, ShortDocumentsAreComparedAndShorterOnesKept) {
  int64_t dropped = 0;
  WithoutNearDuplicates(
      {{"a", "one two three four five six"}, {"b", "One, two: three four five SIX"}}, &dropped);
  EXPECT_EQ(dropped, 1);
  WithoutNearDuplicates({{"a", "one two"}, {"b", "One two"}}, &dropped);
  EXPECT_EQ(dropped, 0);
}

TEST(Overlap, CountsDocumentsWithARunOf13UnitsInTrain) {
  const std::string thirteen = "a1 a2 a3 a4 a5 a6 a7 a8 a9 a10 a11 a12 a13";
  const std::string twelve = "b1 b2 b3 b4 b5 b6 b7 b8 b9 b10 b11 b12";
  SplitDocuments split;
  split.documents[0] = {{"", Words(500, 1) + thirteen + " x " + twelve}};
  split.documents[1] = {{"", Words(50, 2) + thirteen + " y"}, {"", Words(50, 3)}};
  split.documents[2] = {{"", Words(50, 4) + " z " + twelve + " z"}};
  split.documents[3] = {{"", Words(50, 5) + thirteen}};
  EXPECT_EQ(Overlap13(split), (std::array<double, 4>{0, 0.5, 0, 1}));
}

TEST(Compressor, LearnsFromThePrimer) {
  const std::string text = Words(4000, 1);
  const double alone = CompressorBitsPerByte("", text);
  const double after_itself = CompressorBitsPerByte(text, text);
  const double after_other = CompressorBitsPerByte(Words(4000, 2), text);
  EXPECT_GT(alone, 1.5);
  EXPECT_LT(alone, 5);
  EXPECT_LT(after_itself, 0.1);
  EXPECT_LT(after_other, alone);
  EXPECT_EQ(CompressorBitsPerByte("", ""), 0);
}

TEST(Compressor, NoiseDoesNotCompress) {
  std::mt19937_64 random(1);
  std::string noise;
  for (int i = 0; i < 10000; ++i) noise += static_cast<char>(random());
  EXPECT_NEAR(CompressorBitsPerByte("", noise), 8, 0.1);
}

TEST(Utf8, WhatTheStandardForbidsIsInvalid) {
  for (const char* good : {"", "a", "é", "日", "😀", "\xED\x9F\xBF", "\xF4\x8F\xBF\xBF"})
    EXPECT_TRUE(IsUtf8(good)) << good;
  for (const char* bad :
       {"\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x80\x80", "\xED\xA0\x80", "\xF0\x80\x80\x80",
        "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xE6\x97", "a\xFF", "\xE6\x97x"}) {
    EXPECT_FALSE(IsUtf8(bad)) << testing::PrintToString(bad);
  }
  EXPECT_EQ(CountCodePoints("aé日😀"), 4);
}

}  // namespace
}  // namespace plumb::data
