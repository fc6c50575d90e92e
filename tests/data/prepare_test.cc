#include "data/prepare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "data/byte_pair_tokenizer.h"
#include "data/content_digest.h"
#include "data/hf_tokenizer.h"
#include "data/manifest_json.h"
#include "data/tokenizer.h"
#include "tests/data/texts.h"
#include "trainer/spec/parse.h"
#include "trainer/spec/sha256.h"

namespace plumb::data {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

// A folder of 80 documents and a root to prepare them in.
class PrepareTest : public testing::Test {
 protected:
  PrepareTest() {
    for (int i = 0; i < 80; ++i)
      Write(dir_ / ("text/" + std::to_string(i) + ".txt"), Words(100, i));
    options_ = {.corpus = "mine", .text = {dir_ / "text"}, .root = dir_ / "root"};
  }
  std::string Error() {
    try {
      Prepare(options_);
    } catch (const DataError& e) {
      return e.what();
    }
    return "";
  }
  std::string Place() const { return dir_ / "root/mine/bytes"; }

  TempDir dir_;
  PrepareOptions options_;
};

// The texts of a prepared corpus, by decoding its shards.
std::multiset<std::string> Texts(const std::string& place) {
  const Dataset dataset = Dataset::Open(place);
  const auto tokenizer = OpenTokenizer(place);
  std::multiset<std::string> texts;
  for (Split s : kAllSplits) {
    const Shard& shard = dataset.split(s);
    for (int64_t d = 0; d < shard.documents(); ++d) {
      const int64_t begin = shard.DocumentBegin(d), end = shard.DocumentBegin(d + 1);
      EXPECT_EQ(shard.Token(begin), tokenizer->separator());
      std::vector<int64_t> tokens(end - begin - 1);
      shard.Copy(begin + 1, end - begin - 1, tokens.data());
      texts.insert(tokenizer->Decode(tokens));
    }
  }
  return texts;
}

TEST_F(PrepareTest, WhatItWroteDecodesToTheDocuments) {
  std::multiset<std::string> documents;
  for (int i = 0; i < 80; ++i) documents.insert(Words(100, i));
  for (const char* tokenizer : {"bytes", "sentencepiece:350"}) {
    options_.tokenizer = tokenizer;
    const Manifest manifest = Prepare(options_);
    EXPECT_TRUE(manifest.reversible);
    EXPECT_EQ(Texts(DatasetDir(options_.root, "mine", tokenizer)), documents) << tokenizer;
    EXPECT_EQ(ReadContentDigest(DatasetDir(options_.root, "mine", tokenizer)), manifest.digest);
  }
}

TEST_F(PrepareTest, ManifestSaysWhatTheFilesAre) {
  const Manifest m = Prepare(options_);
  int64_t bytes = 0;
  for (Split s : kAllSplits) {
    EXPECT_EQ(m.split(s).sha256, spec::Sha256HexOfFile(Place() + "/" + Name(s) + ".bin"));
    EXPECT_EQ(m.split(s).tokens, m.split(s).bytes + m.split(s).documents);
    bytes += m.split(s).bytes;
  }
  int64_t expected = 0;
  for (int i = 0; i < 80; ++i) expected += static_cast<int64_t>(Words(100, i).size());
  EXPECT_EQ(bytes, expected);
  EXPECT_GT(m.compressor_bits_per_byte, m.compressor_bits_per_byte_primed);
  EXPECT_GT(m.compressor_bits_per_byte_primed, 1);
  EXPECT_EQ(ManifestJson(ReadManifest(Place())), ManifestJson(m));
}

TEST_F(PrepareTest, NamesAndOrderOfFilesDoNotChangeTheDigest) {
  const Manifest first = Prepare(options_);
  TempDir other;
  for (int i = 0; i < 80; ++i)
    Write(other / ("z" + std::to_string(80 - i) + ".txt"), Words(100, i));
  options_.text = {other.path()};
  options_.root = dir_ / "second";
  EXPECT_EQ(Prepare(options_).digest, first.digest);
  Write(other / "z1.txt", "changed " + Words(100, 79));
  options_.root = dir_ / "third";
  EXPECT_NE(Prepare(options_).digest, first.digest);
  options_.root = dir_ / "fourth";
  options_.split_seed = 1;
  EXPECT_NE(Prepare(options_).digest, first.digest);
}

TEST_F(PrepareTest, EqualInputIsNotPreparedAgainUnlessAFileWasDamaged) {
  const Manifest first = Prepare(options_);
  std::vector<std::string> steps;
  options_.progress = [&](const std::string& step) { steps.push_back(step); };
  EXPECT_EQ(Prepare(options_).digest, first.digest);
  EXPECT_EQ(steps, std::vector<std::string>{"reading"});
  std::string bin = Read(Place() + "/val.bin");
  bin.back() ^= 1;
  Write(Place() + "/val.bin", bin);
  EXPECT_NE(ReadContentDigest(Place()), first.digest);
  EXPECT_EQ(Prepare(options_).digest, first.digest);
  EXPECT_GT(steps.size(), 2u);
  EXPECT_EQ(spec::Sha256HexOfFile(Place() + "/val.bin"), first.split(Split::kVal).sha256);
}

TEST_F(PrepareTest, ReplacesAnOlderCorpusWhileItIsBeingRead) {
  Prepare(options_);
  const Dataset open = Dataset::Open(Place());
  const int64_t token = open.split(Split::kTrain).Token(100);
  Write(dir_ / "text/new.txt", Words(200, 999));
  Prepare(options_);
  EXPECT_EQ(open.split(Split::kTrain).Token(100), token);
  EXPECT_NE(Dataset::Open(Place()).manifest().digest, open.manifest().digest);
  EXPECT_EQ(std::distance(fs::directory_iterator(dir_ / "root/mine"), {}), 1);
}

TEST_F(PrepareTest, FailureChangesNothing) {
  Write(dir_ / "text/nul.txt", std::string("a\0b", 3));
  EXPECT_THAT(Error(), HasSubstr("nul.txt"));
  EXPECT_FALSE(fs::exists(dir_ / "root"));
  fs::remove(dir_ / "text/nul.txt");
  const Manifest first = Prepare(options_);
  options_.tokenizer = "sentencepiece:30000";
  EXPECT_THAT(Error(), HasSubstr("choose another size"));
  EXPECT_EQ(std::distance(fs::directory_iterator(dir_ / "root/mine"), {}), 1);
  EXPECT_EQ(ReadManifest(Place()).digest, first.digest);
}

TEST_F(PrepareTest, BadOptionsNameTheFix) {
  options_.corpus = "../escape";
  EXPECT_THAT(Error(), HasSubstr("plain names"));
  options_.corpus = "python-docs-en";
  EXPECT_THAT(Error(), HasSubstr("choose another"));
  options_.corpus = "mine";
  options_.tokenizer = "words";
  EXPECT_THAT(Error(), HasSubstr("sentencepiece:<vocabulary"));
  options_.tokenizer = "bytes";
  options_.shares = {0.5, 0.5, 0, 0};
  EXPECT_THAT(Error(), HasSubstr("above 0"));
  options_.shares = {0.5, 0.1, 0.1, 0.1};
  EXPECT_THAT(Error(), HasSubstr("add up to 1"));
  options_ = {.corpus = "unknown", .root = dir_ / "root"};
  EXPECT_THAT(Error(), HasSubstr("python-docs-en, manpages-ja, python-stdlib"));
}

TEST_F(PrepareTest, ADisjointCorpusSharesNoRunWithTrainAndIsAnother) {
  for (int i = 0; i < 80; ++i) {
    Write(dir_ / ("text/" + std::to_string(i) + ".txt"),
          Words(100, i) + "\n" + Words(15, 999) + "\n" + Words(100, 500 + i));
  }
  const Manifest shared = Prepare(options_);
  EXPECT_EQ(shared.overlap_13gram[static_cast<int>(Split::kTest)], 1);
  options_.disjoint = true;
  const Manifest disjoint = Prepare(options_);
  for (const double share : disjoint.overlap_13gram) EXPECT_EQ(share, 0);
  EXPECT_NE(disjoint.digest, shared.digest);
  EXPECT_EQ(disjoint.split(Split::kTest).sha256, shared.split(Split::kTest).sha256);
  EXPECT_LT(disjoint.split(Split::kTrain).bytes, shared.split(Split::kTrain).bytes);
  EXPECT_THAT(disjoint.notes, testing::Contains(HasSubstr("disjoint: ")));
}

TEST_F(PrepareTest, ABundledCorpusIsMadeDisjointByItsName) {
  options_ = {.corpus = "python-docs-en", .root = dir_ / "root", .disjoint = true};
  EXPECT_THAT(Error(), HasSubstr("python-docs-en-disjoint"));
  options_ = {.corpus = "python-docs-en-disjoint", .text = {dir_ / "text"}, .root = dir_ / "root"};
  EXPECT_THAT(Error(), HasSubstr("choose another"));
}

TEST_F(PrepareTest, ATokenizerIsTrainedOnTrainAlone) {
  // Words of the small splits, known from a bytes preparation, must not change the model.
  options_.tokenizer = "sentencepiece:350";
  Prepare(options_);
  const std::string place = DatasetDir(options_.root, "mine", options_.tokenizer);
  const Dataset dataset = Dataset::Open(place);
  const auto tokenizer = OpenTokenizer(place);
  std::vector<std::string> train;
  const Shard& shard = dataset.split(Split::kTrain);
  for (int64_t d = 0; d < shard.documents(); ++d) {
    const int64_t begin = shard.DocumentBegin(d) + 1, end = shard.DocumentBegin(d + 1);
    std::vector<int64_t> tokens(end - begin);
    shard.Copy(begin, end - begin, tokens.data());
    train.push_back(tokenizer->Decode(tokens));
  }
  EXPECT_EQ(TrainSentencePiece({train.begin(), train.end()}, 350),
            Read(place + "/tokenizer.model"));
}

TEST_F(PrepareTest, ABroughtTokenizerIsUsedAndNoted) {
  const std::string text = Words(3000, 77);
  Write(dir_ / "my.model", TrainSentencePiece({text}, 380));
  options_.tokenizer = dir_ / "my.model";
  const Manifest m = Prepare(options_);
  EXPECT_EQ(m.tokenizer, "sentencepiece:380");
  EXPECT_EQ(m.vocab_size, 380);
  EXPECT_TRUE(m.reversible);
  EXPECT_THAT(m.notes, testing::Contains(HasSubstr("brought")));
  EXPECT_EQ(Read(DatasetDir(options_.root, "mine", m.tokenizer) + "/tokenizer.model"),
            Read(dir_ / "my.model"));
}

TEST_F(PrepareTest, AByteLevelBpeThatIsBroughtGivesItsIdsAndIsKept) {
  options_.tokenizer = std::string(PLUMB_SOURCE_DIR) + "/tests/data/bpe/gpt2.json";
  const std::string json = Read(options_.tokenizer);
  const auto tokenizer = BytePairTokenizer(json, "gpt2.json");
  const Manifest m = Prepare(options_);
  EXPECT_EQ(m.tokenizer, "bpe:" + std::to_string(tokenizer->vocab_size()));
  EXPECT_EQ(spec::TokenizerVocabSize(m.tokenizer), tokenizer->vocab_size());
  EXPECT_TRUE(m.reversible);
  const std::string place = DatasetDir(options_.root, "mine", m.tokenizer);
  EXPECT_EQ(Read(place + "/tokenizer.json"), json);
  EXPECT_EQ(ReadContentDigest(place), m.digest);
  const Dataset dataset = Dataset::Open(place);
  const Shard& shard = dataset.split(Split::kVal);
  std::vector<int64_t> tokens(shard.DocumentBegin(1) - 1);
  shard.Copy(1, shard.DocumentBegin(1) - 1, tokens.data());
  EXPECT_EQ(shard.Token(0), tokenizer->separator());
  EXPECT_EQ(tokenizer->Encode(tokenizer->Decode(tokens)), tokens);
  EXPECT_EQ(static_cast<int64_t>(tokenizer->Decode(tokens).size()), shard.DocumentBytes(0));
  // What the trainer opens.
  EXPECT_EQ(OpenTokenizer(place)->Encode("one word, 2 words"),
            tokenizer->Encode("one word, 2 words"));
  EXPECT_EQ(OpenTokenizer(place)->separator(), tokenizer->separator());
  EXPECT_EQ(Prepare(options_).digest, m.digest);  // returns at once
}

TEST_F(PrepareTest, ATokenizerJsonOfBytesIsBytes) {
  const std::string bytes = Prepare(options_).digest;
  const std::string json = HfBytesTokenizer().at("tokenizer.json");
  EXPECT_TRUE(IsHfBytesTokenizer(json));
  Write(dir_ / "tokenizer.json", nlohmann::json::parse(json).dump());
  options_.tokenizer = dir_ / "tokenizer.json";
  const Manifest m = Prepare(options_);
  EXPECT_EQ(m.tokenizer, "bytes");
  EXPECT_EQ(m.digest, bytes);
  nlohmann::json other = nlohmann::json::parse(json);
  other["pre_tokenizer"]["add_prefix_space"] = true;
  EXPECT_FALSE(IsHfBytesTokenizer(other.dump()));
  EXPECT_FALSE(
      IsHfBytesTokenizer(Read(std::string(PLUMB_SOURCE_DIR) + "/tests/data/bpe/gpt2.json")));
  EXPECT_FALSE(IsHfBytesTokenizer("[]"));
  EXPECT_FALSE(IsHfBytesTokenizer("no JSON"));
}

TEST_F(PrepareTest, ATextThatDoesNotComeBackIsNotReversible) {
  Write(dir_ / "text/mark.txt",
        Words(50, 500) + "\xE2\x96\x81");  // U+2581, SentencePiece's own mark for a space
  options_.tokenizer = "sentencepiece:350";
  EXPECT_FALSE(Prepare(options_).reversible);
}

TEST_F(PrepareTest, ANanoGptFolderIsImportedIdById) {
  std::string train, val;
  for (int i = 0; i < 1000; ++i) train += std::string{static_cast<char>(i % 65), '\0'};
  for (int i = 0; i < 100; ++i) val += std::string{static_cast<char>(i % 60), '\0'};
  Write(dir_ / "gpt/train.bin", train);
  Write(dir_ / "gpt/val.bin", val);
  options_ = {.corpus = "shakespeare", .nanogpt = dir_ / "gpt", .root = dir_ / "root"};
  const Manifest m = Prepare(options_);
  EXPECT_EQ(m.tokenizer, "ids:65");
  EXPECT_EQ(spec::TokenizerVocabSize(m.tokenizer), 65);
  EXPECT_FALSE(m.reversible);
  const Dataset dataset = Dataset::Open(DatasetDir(options_.root, "shakespeare", "ids:65"));
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(dataset.split(Split::kTrain).Token(i), i % 65);
  int expected = 0;
  for (Split s : {Split::kTune, Split::kVal, Split::kTest}) {
    const Shard& shard = dataset.split(s);
    EXPECT_GE(shard.tokens(), 33);
    for (int64_t t = 0; t < shard.tokens(); ++t, ++expected)
      ASSERT_EQ(shard.Token(t), expected % 60);
  }
  EXPECT_EQ(expected, 100);
  EXPECT_EQ(Prepare(options_).digest, m.digest);
  EXPECT_EQ(ReadContentDigest(DatasetDir(options_.root, "shakespeare", "ids:65")), m.digest);

  options_.vocab_size = 64;
  EXPECT_THAT(Error(), HasSubstr("outside a vocabulary of 64"));
  Write(dir_ / "gpt/train.bin", train + "x");
  EXPECT_THAT(Error(), HasSubstr("odd size"));
  fs::remove(dir_ / "gpt/val.bin");
  Write(dir_ / "gpt/train.bin", train);
  EXPECT_THAT(Error(), HasSubstr("val.bin: not found"));
}

}  // namespace
}  // namespace plumb::data
