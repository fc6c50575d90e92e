#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <string>

#include "data/tokenizer.h"

namespace plumb::data {
namespace {

class SentencePiece : public Tokenizer {
 public:
  SentencePiece(std::string_view model, const std::string& where) {
    const auto status = processor_.LoadFromSerializedProto(model);
    if (!status.ok()) throw DataError(where + ": is not a SentencePiece model");
    if (processor_.bos_id() < 0) {
      throw DataError(where +
                      ": has no bos token, which must separate documents; train one with --bos_id");
    }
  }
  int64_t vocab_size() const override { return processor_.GetPieceSize(); }
  int64_t separator() const override { return processor_.bos_id(); }
  std::vector<int64_t> Encode(std::string_view text) const override {
    std::vector<int> ids;
    const auto status = processor_.Encode(text, &ids);
    if (!status.ok()) throw DataError("SentencePiece could not encode: " + status.ToString());
    return {ids.begin(), ids.end()};
  }
  std::string Decode(const std::vector<int64_t>& tokens) const override {
    std::vector<int> ids;
    for (const int64_t token : tokens) {
      if (token < 0 || token >= vocab_size()) {
        throw DataError("token " + std::to_string(token) + " is outside the vocabulary of " +
                        std::to_string(vocab_size()));
      }
      ids.push_back(static_cast<int>(token));
    }
    std::string text;
    const auto status = processor_.Decode(ids, &text);
    if (!status.ok()) throw DataError("SentencePiece could not decode: " + status.ToString());
    return text;
  }

 private:
  sentencepiece::SentencePieceProcessor processor_;
};

// SentencePiece skips sentences above max_sentence_length, so texts are fed in pieces of whole
// lines.
constexpr size_t kPieceBytes = 2048;
constexpr size_t kLongestSentence = 1 << 20;

class Pieces : public sentencepiece::SentenceIterator {
 public:
  explicit Pieces(const std::vector<std::string_view>& texts) : texts_(texts) { Next(); }
  bool done() const override { return done_; }
  const std::string& value() const override { return value_; }
  sentencepiece::util::Status status() const override { return {}; }
  void Next() override {
    while (text_ < texts_.size() && at_ == texts_[text_].size()) {
      ++text_;
      at_ = 0;
    }
    if (text_ == texts_.size()) {
      done_ = true;
      return;
    }
    const std::string_view text = texts_[text_];
    size_t end = std::min(text.size(), at_ + kPieceBytes);
    if (const size_t line = text.find('\n', end - 1); end < text.size()) {
      end = line == std::string_view::npos ? text.size() : line + 1;
    }
    // A line this long holds no sentences; cut where a character begins.
    if (end - at_ > kLongestSentence / 2) {
      end = at_ + kPieceBytes;
      while ((static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) ++end;
    }
    value_ = std::string(text.substr(at_, end - at_));
    at_ = end;
  }

 private:
  const std::vector<std::string_view>& texts_;
  size_t text_ = 0, at_ = 0;
  bool done_ = false;
  std::string value_;
};

}  // namespace

std::unique_ptr<Tokenizer> SentencePieceTokenizer(std::string_view model,
                                                  const std::string& where) {
  return std::make_unique<SentencePiece>(model, where);
}

std::string TrainSentencePiece(const std::vector<std::string_view>& texts, int64_t vocab_size) {
  Pieces pieces(texts);
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(
      {{"vocab_size", std::to_string(vocab_size)},
       {"model_type", "bpe"},
       {"normalization_rule_name", "identity"},
       {"byte_fallback", "true"},
       {"add_dummy_prefix", "false"},
       {"remove_extra_whitespaces", "false"},
       {"allow_whitespace_only_pieces", "true"},
       {"split_digits", "true"},
       {"hard_vocab_limit", "true"},
       {"max_sentence_length", std::to_string(kLongestSentence)},
       {"num_threads", "1"},
       {"minloglevel", "2"}},
      &pieces, &model);
  if (!status.ok()) {
    throw DataError("a SentencePiece vocabulary of " + std::to_string(vocab_size) +
                    " cannot be trained on this text (" + status.ToString() +
                    "); choose another size");
  }
  return model;
}

}  // namespace plumb::data
