#include "data/split.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tests/data/texts.h"

namespace plumb::data {
namespace {

size_t Bytes(const std::vector<Document>& documents) {
  size_t sum = 0;
  for (const Document& d : documents) sum += d.text.size();
  return sum;
}

std::vector<std::string> Texts(const std::vector<Document>& documents) {
  std::vector<std::string> texts;
  for (const Document& d : documents) texts.push_back(d.text);
  return texts;
}

SplitDocuments SplitAll(std::vector<Document> documents, uint64_t seed = 0) {
  int64_t dropped = 0;
  return SplitByDocument(InSeededOrder(std::move(documents), seed, &dropped), {.seed = seed});
}

TEST(Split, EveryDocumentIsInExactlyOneSplitAndSharesAreMet) {
  const std::vector<Document> documents = ManyDocuments(400);
  const SplitDocuments split = SplitAll(documents);
  std::multiset<std::string> seen;
  for (const auto& part : split.documents) {
    for (const Document& d : part) seen.insert(d.text);
  }
  const std::vector<std::string> all = Texts(documents);
  EXPECT_EQ(seen, std::multiset<std::string>(all.begin(), all.end()));
  const auto total = static_cast<double>(Bytes(documents));
  for (Split s : {Split::kTune, Split::kVal, Split::kTest}) {
    EXPECT_NEAR(static_cast<double>(Bytes(split.documents[static_cast<int>(s)])) / total, 0.03,
                0.005)
        << Name(s);
  }
  EXPECT_TRUE(split.notes.empty());
}

TEST(Split, DependsOnSeedAndTextsNotOnOrderOrNames) {
  std::vector<Document> documents = ManyDocuments(100);
  const SplitDocuments first = SplitAll(documents);
  std::reverse(documents.begin(), documents.end());
  for (Document& d : documents) d.name += "x";
  const SplitDocuments second = SplitAll(documents);
  const SplitDocuments third = SplitAll(documents, 1);
  for (Split s : kAllSplits) {
    const int i = static_cast<int>(s);
    EXPECT_EQ(Texts(first.documents[i]), Texts(second.documents[i])) << Name(s);
    EXPECT_NE(Texts(first.documents[i]), Texts(third.documents[i])) << Name(s);
  }
}

TEST(Split, EqualTextsCountOnce) {
  int64_t dropped = 0;
  const auto ordered =
      InSeededOrder({{"a", "one"}, {"b", "two"}, {"c", "one"}, {"d", "one"}}, 0, &dropped);
  EXPECT_EQ(ordered.size(), 2u);
  EXPECT_EQ(dropped, 2);
}

TEST(Split, LargeDocumentsStayInTrain) {
  std::vector<Document> documents = ManyDocuments(100);
  const std::string large = Words(2000, 7);
  documents.push_back({"large", large});
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const auto train = Texts(SplitAll(documents, seed).documents[static_cast<int>(Split::kTrain)]);
    EXPECT_NE(std::find(train.begin(), train.end(), large), train.end()) << "seed " << seed;
  }
}

TEST(Split, OneFileIsCutAtParagraphsWithoutLosingAByte) {
  const std::string text = Words(20000, 3);
  const SplitDocuments split = SplitAll({{"novel", text}});
  EXPECT_EQ(split.notes.size(), 1u);
  size_t bytes = 0;
  for (Split s : kAllSplits) {
    const auto& part = split.documents[static_cast<int>(s)];
    EXPECT_FALSE(part.empty()) << Name(s);
    bytes += Bytes(part);
    for (const Document& d : part) {
      const size_t at = text.find(d.text);
      ASSERT_NE(at, std::string::npos);
      EXPECT_TRUE(at == 0 || text.substr(at - 2, 2) == "\n\n") << d.name;
    }
  }
  EXPECT_EQ(bytes, text.size());
}

TEST(Split, NoSplitIsEmptyOrTheCorpusIsRefused) {
  for (int words = 1; words < 3000; words += 97) {
    try {
      const SplitDocuments split = SplitAll({{"small", Words(words, 5)}});
      for (const auto& part : split.documents) EXPECT_FALSE(part.empty()) << words << " words";
    } catch (const DataError& e) {
      EXPECT_NE(std::string(e.what()).find("give more text"), std::string::npos);
      EXPECT_LT(words, 300);
    }
  }
}

}  // namespace
}  // namespace plumb::data
