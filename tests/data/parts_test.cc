// Corpora of several parts: prepared, written down, opened.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "data/content_digest.h"
#include "data/manifest_json.h"
#include "data/prepare.h"
#include "data/tokenizer.h"
#include "tests/data/texts.h"

namespace plumb::data {
namespace {

using testing::HasSubstr;

// 60 documents in each of the folders "en" and "ja".
class PartsTest : public testing::Test {
 protected:
  PartsTest() {
    for (int i = 0; i < 60; ++i) {
      Write(dir_ / ("en/" + std::to_string(i) + ".txt"), Words(100, i));
      Write(dir_ / ("ja/" + std::to_string(i) + ".txt"), Words(200, 1000 + i) + "かな漢字");
    }
    options_ = {.corpus = "mixed",
                .parts = {{"ja", dir_ / "ja"}, {"en", dir_ / "en"}},
                .root = dir_ / "root"};
  }
  std::string Error() {
    try {
      Prepare(options_);
    } catch (const DataError& e) {
      return e.what();
    }
    return "";
  }
  Dataset Open() { return Dataset::Open(dir_ / "root/mixed/bytes"); }

  TempDir dir_;
  PrepareOptions options_;
};

std::vector<std::string> Texts(const Shard& shard) {
  const auto tokenizer = BytesTokenizer();
  std::vector<std::string> texts;
  for (int64_t d = 0; d < shard.documents(); ++d) {
    const int64_t begin = shard.DocumentBegin(d), end = shard.DocumentBegin(d + 1);
    EXPECT_EQ(shard.Token(begin), tokenizer->separator());
    EXPECT_EQ(shard.DocumentOf(end - 1), d);
    std::vector<int64_t> tokens(end - begin - 1);
    shard.Copy(begin + 1, end - begin - 1, tokens.data());
    texts.push_back(tokenizer->Decode(tokens));
    EXPECT_EQ(shard.DocumentBytes(d), static_cast<int64_t>(texts.back().size()));
  }
  return texts;
}

TEST_F(PartsTest, EachPartIsSplitAsItIsAlone) {
  const Manifest manifest = Prepare(options_);
  EXPECT_EQ(manifest.description, "Parts: en, ja");
  EXPECT_EQ(ReadManifest(dir_ / "root/mixed/bytes").parts.size(), 2u);
  EXPECT_EQ(ReadContentDigest(dir_ / "root/mixed/bytes"), manifest.digest);
  const Dataset mixed = Open();
  ASSERT_EQ(mixed.parts().size(), 2u);
  for (size_t p = 0; p < 2; ++p) {
    const std::string name = p == 0 ? "en" : "ja";
    EXPECT_EQ(mixed.parts()[p].name, name);
    Prepare({.corpus = "alone-" + name, .text = {dir_ / name}, .root = dir_ / "root"});
    const Dataset alone = Dataset::Open(dir_ / ("root/alone-" + name + "/bytes"));
    EXPECT_EQ(alone.parts()[0].name, "all");
    for (Split s : kAllSplits) {
      EXPECT_EQ(Texts(mixed.part(p, s)), Texts(alone.split(s))) << name << " " << Name(s);
      EXPECT_EQ(Texts(alone.part(0, s)), Texts(alone.split(s)));
      EXPECT_EQ(mixed.part(p, s).tokens(), mixed.parts()[p].split(s).tokens);
      EXPECT_EQ(mixed.parts()[p].split(s).characters, alone.manifest().split(s).characters);
    }
  }
  for (Split s : kAllSplits) {
    std::vector<std::string> all = Texts(mixed.part(0, s));
    for (const std::string& text : Texts(mixed.part(1, s))) all.push_back(text);
    EXPECT_EQ(Texts(mixed.split(s)), all) << "a split is its parts, by name";
    EXPECT_THROW(mixed.part(1, s).Copy(mixed.part(1, s).tokens() - 1, 2, nullptr), DataError);
    EXPECT_THROW(mixed.part(0, s).Documents(1, mixed.part(0, s).documents()), DataError);
  }
}

TEST_F(PartsTest, DigestKnowsThePartsButNotTheirOrder) {
  const std::string digest = Prepare(options_).digest;
  std::swap(options_.parts[0], options_.parts[1]);
  options_.corpus = "swapped";
  EXPECT_EQ(Prepare(options_).digest, digest);
  options_.corpus = "renamed", options_.parts[0].part = "fr";
  EXPECT_NE(Prepare(options_).digest, digest);
  options_.corpus = "mixed";
  EXPECT_NE(Prepare(options_).digest, digest) << "not taken for what was prepared before";
}

TEST_F(PartsTest, ATextOfTwoPartsIsKeptOnce) {
  std::filesystem::copy(dir_ / "en/7.txt", dir_ / "ja/copy.txt");
  Write(dir_ / "ja/near.txt", Words(100, 8) + " x");
  const Manifest manifest = Prepare(options_);
  EXPECT_EQ(manifest.exact_duplicates, 1);
  EXPECT_EQ(manifest.near_duplicates, 1);
  const Dataset mixed = Open();
  std::multiset<std::string> en;
  for (Split s : kAllSplits) {
    for (const std::string& text : Texts(mixed.part(0, s))) en.insert(text);
  }
  EXPECT_EQ(en.count(Words(100, 7)), 1u) << "of equal texts the first part's stays";
}

TEST_F(PartsTest, OneTokenizerIsTrainedOnAll) {
  options_.tokenizer = "sentencepiece:400";
  const Manifest manifest = Prepare(options_);
  EXPECT_TRUE(manifest.reversible);
  const auto tokenizer = OpenTokenizer(dir_ / "root/mixed/sentencepiece-400");
  EXPECT_LT(tokenizer->Encode("漢字").size(), 6u) << "kanji of one part have pieces of their own";
}

TEST_F(PartsTest, TwoSourcesMayMakeOnePart) {
  Write(dir_ / "more.txt", Words(150, 5000));
  options_.parts.push_back({"en", dir_ / "more.txt"});
  const Manifest manifest = Prepare(options_);
  int64_t documents = 0;
  for (Split s : kAllSplits) documents += manifest.parts[0].split(s).documents;
  EXPECT_EQ(documents, 61);
  EXPECT_EQ(manifest.sources.back().name.substr(0, 3), "ja:");
}

TEST_F(PartsTest, SaysWhatIsWrong) {
  options_.parts[1].part = "ja";
  EXPECT_THAT(Error(), HasSubstr("2 to 64 parts"));
  options_.parts[1].part = "a/b";
  EXPECT_THAT(Error(), HasSubstr("no name of a part"));
  options_.parts[1] = {"en", dir_ / "nothing"};
  EXPECT_THAT(Error(), HasSubstr("no such file"));
  Write(dir_ / "tiny.txt", "a b c");
  options_.parts[1] = {"en", dir_ / "tiny.txt"};
  EXPECT_THAT(Error(), HasSubstr("part en: the text"));
  options_.text = {dir_ / "en"};
  EXPECT_THAT(Error(), HasSubstr("only one of them"));
  EXPECT_FALSE(std::filesystem::exists(dir_ / "root/mixed"));
}

TEST_F(PartsTest, AManifestThatDoesNotFitItsShardsIsRefused) {
  Manifest manifest = Prepare(options_);
  const std::string path = dir_ / "root/mixed/bytes/manifest.json";
  const auto with = [&](const Manifest& changed) {
    Write(path, ManifestJson(changed));
    EXPECT_THROW(Open(), DataError);
  };
  Manifest changed = manifest;
  changed.parts[0].splits[0].documents -= 1;
  with(changed);
  changed = manifest;
  changed.parts[1].splits[2].tokens += 1;
  with(changed);
  changed = manifest;
  changed.parts.pop_back();
  with(changed);
  Write(path, ManifestJson(manifest));
  EXPECT_EQ(Open().manifest().parts[1].split(Split::kTest).bytes,
            manifest.parts[1].split(Split::kTest).bytes);
}

}  // namespace
}  // namespace plumb::data
