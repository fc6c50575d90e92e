#include <gtest/gtest.h>

#include "data/compressor.h"
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
