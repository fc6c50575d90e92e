#include "data/tokenizer.h"

#include <gtest/gtest.h>

#include "data/sentencepiece_model.h"
#include "tests/data/texts.h"

namespace plumb::data {
namespace {

TEST(BytesTokenizer, EveryByteIsAToken) {
  const auto tokenizer = BytesTokenizer();
  EXPECT_EQ(tokenizer->Encode("aé"), (std::vector<int64_t>{97, 0xC3, 0xA9}));
  EXPECT_EQ(tokenizer->Decode({97, 0xC3, 0xA9}), "aé");
  EXPECT_THROW(tokenizer->Decode({256}), DataError);
}

class SentencePieceTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    text_ = new std::string(Words(3000, 1) + "\n\tindent  twice 2024 日本語の文\n");
    model_ = new std::string(TrainSentencePiece({*text_}, 400));
  }
  static void TearDownTestSuite() {
    delete text_;
    delete model_;
  }
  static std::string* text_;
  static std::string* model_;
};
std::string* SentencePieceTest::text_ = nullptr;
std::string* SentencePieceTest::model_ = nullptr;

TEST_F(SentencePieceTest, HasTheExactVocabularyAndGivesAnyTextBack) {
  const auto tokenizer = SentencePieceTokenizer(*model_, "test");
  EXPECT_EQ(tokenizer->vocab_size(), 400);
  for (const std::string& text :
       {*text_, std::string(" leading and trailing "), std::string("\n\n\ttabs\r\n"),
        std::string("never seen: 😀 ﬁ Å é 漢字"), std::string("double  spaces   kept"),
        std::string("\x01\x7f"), std::string()}) {
    EXPECT_EQ(tokenizer->Decode(tokenizer->Encode(text)), text);
  }
  EXPECT_LT(tokenizer->Encode(*text_).size(), text_->size() * 2 / 3);
  for (const int64_t token : tokenizer->Encode(*text_)) EXPECT_NE(token, tokenizer->separator());
}

TEST_F(SentencePieceTest, TrainsTheSameModelAgain) {
  EXPECT_EQ(TrainSentencePiece({*text_}, 400), *model_);
}

TEST_F(SentencePieceTest, RefusesAVocabularyThatTheTextCannotFill) {
  EXPECT_THROW(TrainSentencePiece({"too little text"}, 4096), DataError);
}

TEST_F(SentencePieceTest, RefusesAFileThatIsNoModel) {
  EXPECT_THROW(SentencePieceTokenizer("not a model", "x.model"), DataError);
  EXPECT_THROW(SentencePieceTokenizer("", "x.model"), DataError);
}

TEST_F(SentencePieceTest, TheReaderWithoutTheLibraryGivesTheSameIdsAndTexts) {
  const auto library = SentencePieceTokenizer(*model_, "m"), reader = PieceTokenizer(*model_, "m");
  EXPECT_EQ(reader->vocab_size(), library->vocab_size());
  EXPECT_EQ(reader->separator(), library->separator());
  std::vector<std::string> texts = {"",
                                    " ",
                                    "a",
                                    "  two  spaces ",
                                    "日本語の文、と🙂",
                                    "\n\t",
                                    "abcabcabcabc aaaaaaaaaaaa"};
  for (uint64_t seed = 2; seed < 60; ++seed) texts.push_back(Words(40, seed));
  texts.push_back(text_->substr(0, 20000));
  for (const std::string& text : texts) {
    const std::vector<int64_t> ids = library->Encode(text);
    ASSERT_EQ(reader->Encode(text), ids) << text;
    EXPECT_EQ(reader->Decode(ids), library->Decode(ids));
    for (size_t i = 0; i < std::min<size_t>(ids.size(), 20); ++i) {
      // The library shows a lone byte of a longer character as U+FFFD, the reader as it is.
      const std::string shown = library->Decode({ids[i]});
      if (shown != "\xEF\xBF\xBD") {
        EXPECT_EQ(reader->Decode({ids[i]}), shown) << ids[i];
      }
    }
  }
  EXPECT_THROW(reader->Decode({400}), DataError);
  EXPECT_THROW(PieceTokenizer("nonsense", "m"), DataError);
}

TEST_F(SentencePieceTest, TrainsOnALineOfMegabytes) {
  std::string line;
  while (line.size() < 3u << 20) line += *text_;
  std::erase(line, '\n');
  EXPECT_EQ(SentencePieceTokenizer(TrainSentencePiece({line}, 400), "test")->vocab_size(), 400);
}

// As llama2.c writes it from a SentencePiece model.
std::string Llama2cFile(const std::string& model) {
  std::string out(4, '\0');
  const auto put = [&](const auto& value) {
    out.append(reinterpret_cast<const char*>(&value), sizeof value);
  };
  const SentencePieceModel m = ReadSentencePieceModel(model, "m");
  for (size_t id = 0; id < m.pieces.size(); ++id) {
    std::string text = m.pieces[id].text;
    if (id == 1 || id == 2) text = "\n" + text + "\n";
    for (size_t at; (at = text.find("\xE2\x96\x81")) != std::string::npos;)
      text.replace(at, 3, " ");
    put(m.pieces[id].score);
    put(static_cast<int32_t>(text.size()));
    out += text;
  }
  return out;
}

TEST_F(SentencePieceTest, ReadsWhatLlama2cKeepsOfAModel) {
  const std::string file = Llama2cFile(*model_), again = SentencePieceModelOfLlama2c(file, "f");
  const auto before = SentencePieceTokenizer(*model_, "m"),
             library = SentencePieceTokenizer(again, "a"), reader = PieceTokenizer(again, "a");
  EXPECT_EQ(library->vocab_size(), 400);
  EXPECT_EQ(library->separator(), 1);
  for (const std::string& text : {Words(300, 3), std::string("日本語 <s> <0x0A>\n two  spaces")}) {
    const std::vector<int64_t> ids = library->Encode(text);
    EXPECT_EQ(ids, before->Encode(" " + text));  // it puts a space before a text
    EXPECT_EQ(ids, reader->Encode(text));
    EXPECT_EQ(library->Decode(ids), text);
  }
  for (const size_t bytes : {size_t{0}, size_t{3}, file.size() / 2, file.size() - 1})
    EXPECT_THROW(SentencePieceModelOfLlama2c(file.substr(0, bytes), "f"), DataError) << bytes;
  EXPECT_THROW(SentencePieceModelOfLlama2c(*model_, "f"), DataError);
}

}  // namespace
}  // namespace plumb::data
