// Against the ids of Hugging Face tokenizers (bpe/make_bpe_fixtures.py), and the tokenizers written
// for it.
#include "data/byte_pair_tokenizer.h"

#include <gtest/gtest.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "data/hf_tokenizer.h"
#include "data/nfc.h"
#include "data/unicode_classes.h"

namespace plumb::data {
namespace {

using nlohmann::json;
using Ids = std::vector<int64_t>;

std::string ReadText(const std::string& name) {
  std::ifstream in(std::string(PLUMB_SOURCE_DIR) + "/tests/data/bpe/" + name, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

class BytePairTest : public testing::TestWithParam<const char*> {};

TEST_P(BytePairTest, GivesTheIdsOfHuggingFaceTokenizers) {
  const std::string name = GetParam();
  const auto tokenizer = BytePairTokenizer(ReadText(name + ".json"), name + ".json", "", Nfc),
             without = BytePairTokenizer(ReadText(name + ".json"), name + ".json");
  size_t refused = 0, all = 0;
  const json expected = json::parse(ReadText("expected.json"));
  ASSERT_GT(expected.at(name).size(), 20u);
  for (const json& c : expected[name]) {
    const auto text = c["text"].get<std::string>();
    EXPECT_EQ(tokenizer->Encode(text), c["ids"].get<Ids>()) << c["text"];
    try {  // as the trainer has it: the same, or refused
      ++all;
      EXPECT_EQ(without->Encode(text), c["ids"].get<Ids>()) << c["text"];
    } catch (const DataError& e) {
      ++refused;
      EXPECT_NE(std::string(e.what()).find("Normalization Form C"), std::string::npos);
    }
    EXPECT_EQ(tokenizer->Decode(c["ids"].get<Ids>()), c["decoded"].get<std::string>()) << c["text"];
  }
  EXPECT_EQ(refused > 0, name == "neox");  // GPT-2 normalises nothing
  EXPECT_LT(2 * refused, all);
  EXPECT_EQ(tokenizer->Encode("<|endoftext|>"), Ids{tokenizer->separator()});
  EXPECT_THROW(tokenizer->Decode({tokenizer->vocab_size()}), DataError);
}
INSTANTIATE_TEST_SUITE_P(Kinds, BytePairTest, testing::Values("gpt2", "neox"),
                         [](const auto& info) { return std::string(info.param); });

TEST(UnicodeClasses, AreIcusOfEveryCodePoint) {
  for (UChar32 c = 0; c <= 0x10FFFF; ++c) {
    const uint32_t mask = U_GET_GC_MASK(c);
    const CharacterClass expected = mask & U_GC_L_MASK   ? CharacterClass::kLetter
                                    : mask & U_GC_N_MASK ? CharacterClass::kNumber
                                    : u_isUWhiteSpace(c) ? CharacterClass::kSpace
                                                         : CharacterClass::kOther;
    ASSERT_EQ(ClassOf(static_cast<char32_t>(c)), expected) << std::hex << c;
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    // What is called plain is the same before and after a letter and an accent.
    std::string text;
    icu::UnicodeString(c).toUTF8String(text);
    if (PlainInNfc(static_cast<char32_t>(c)))
      ASSERT_EQ(Nfc("a" + text + "a"), "a" + text + "a") << std::hex << c;
  }
  EXPECT_EQ(ClassOf(0x110000), CharacterClass::kOther);
  EXPECT_FALSE(PlainInNfc(0x301));   // an accent that joins the letter before it
  EXPECT_FALSE(PlainInNfc(0x212B));  // the Angstrom sign, which is the letter
  EXPECT_TRUE(PlainInNfc(0xE9));
  EXPECT_TRUE(PlainInNfc(0x65E5));
}

TEST(BytePair, ReadsVocabAndMergesAsItReadsTokenizerJson) {
  const json j = json::parse(ReadText("gpt2.json"));
  std::string merges = "#version: 0.2\n";
  for (const json& m : j["model"]["merges"])
    merges += m[0].get<std::string>() + " " + m[1].get<std::string>() + "\n";
  const auto one = BytePairTokenizer(j.dump(), "a"),
             two = BytePairTokenizer(j["model"]["vocab"].dump(), merges, "b", "");
  const json expected = json::parse(ReadText("expected.json"));
  for (const json& c : expected["gpt2"]) {
    const auto text = c["text"].get<std::string>();
    EXPECT_EQ(one->Encode(text), two->Encode(text)) << c["text"];
  }
  EXPECT_EQ(one->separator(), two->separator());
}

TEST(BytePair, GivesBackBytesThatAreNoText) {
  const auto tokenizer = BytePairTokenizer(ReadText("gpt2.json"), "gpt2.json");
  const std::string bytes = "a\xff\xfe \xc3(\xe6\x97";
  EXPECT_EQ(tokenizer->Decode(tokenizer->Encode(bytes)), bytes);
}

TEST(BytePair, RefusesByNameWhatItDoesNotDo) {
  const json good = json::parse(ReadText("gpt2.json"));
  const auto error = [](const json& j) -> std::string {
    try {
      BytePairTokenizer(j.dump(), "x.json");
      return "";
    } catch (const DataError& e) {
      return e.what();
    }
  };
  EXPECT_EQ(error(good), "");
  const struct {
    const char* pointer;
    json value;
    const char* named;
  } cases[] = {
      {"/model/type", "Unigram", "model.type"},
      {"/model/dropout", 0.1, "model.dropout"},
      {"/model/byte_fallback", true, "byte fallback"},
      {"/normalizer", {{"type", "Lowercase"}}, "normalizer"},
      {"/pre_tokenizer", {{"type", "Whitespace"}}, "pre_tokenizer"},
      {"/added_tokens/0/lstrip", true, "lstrip"},
      {"/added_tokens/0/id", -5, "out of range"},
      {"/model/merges/0", "no-space", "bad merge"},
      {"/model/merges/0", {"zzzz", "q"}, "not in the vocabulary"},
      {"/model/vocab", json::object(), "byte 0"},
      {"/model/vocab", {{"a", "b"}}, "not a tokenizer.json"},
  };
  for (const auto& c : cases) {
    json bad = good;
    bad[json::json_pointer(c.pointer)] = c.value;
    EXPECT_NE(error(bad).find(c.named), std::string::npos) << c.pointer << ": " << error(bad);
  }
}

TEST(HfTokenizerFiles, OfBytesReadBackGiveEveryByteItself) {
  // Their model has no separator of its own.
  json j = json::parse(HfBytesTokenizer().at("tokenizer.json"));
  EXPECT_EQ(j["model"]["vocab"].size(), 256u);
  j["added_tokens"].push_back({{"id", 256}, {"content", "<|end|>"}, {"special", true}});
  const auto tokenizer = BytePairTokenizer(j.dump(), "bytes");
  const std::string text = "a\n é 日 \x01 don't";
  EXPECT_EQ(tokenizer->Encode(text), BytesTokenizer()->Encode(text));
}

TEST(HfTokenizerFiles, OfSentencePieceNameEveryPieceAndItsMerges) {
  std::string text;
  for (int i = 0; i < 400; ++i) text += "the worker trains each trial " + std::to_string(i) + "\n";
  const std::string model = TrainSentencePiece({text}, 320);
  const TokenizerFiles files = HfSentencePieceTokenizer(model, "m");
  EXPECT_EQ(files.at("tokenizer.model"), model);
  const json j = json::parse(files.at("tokenizer.json"));
  EXPECT_EQ(j["model"]["vocab"].size(), 320u);
  EXPECT_EQ(j["model"]["vocab"]["<0x00>"],
            SentencePieceTokenizer(model, "m")->Encode(std::string(1, '\0'))[0]);
  EXPECT_FALSE(j["model"]["merges"].empty());
  EXPECT_THROW(HfSentencePieceTokenizer("no model", "m"), DataError);
}

}  // namespace
}  // namespace plumb::data
