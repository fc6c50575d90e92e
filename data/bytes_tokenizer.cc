#include "data/tokenizer.h"

namespace plumb::data {
namespace {

class Bytes : public Tokenizer {
 public:
  int64_t vocab_size() const override { return 256; }
  int64_t separator() const override { return 0; }
  std::vector<int64_t> Encode(std::string_view text) const override {
    std::vector<int64_t> tokens;
    tokens.reserve(text.size());
    for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
    return tokens;
  }
  std::string Decode(const std::vector<int64_t>& tokens) const override {
    std::string text;
    text.reserve(tokens.size());
    for (const int64_t token : tokens) {
      if (token < 0 || token > 255)
        throw DataError("token " + std::to_string(token) + " is not a byte");
      text += static_cast<char>(token);
    }
    return text;
  }
};

}  // namespace

std::unique_ptr<Tokenizer> BytesTokenizer() { return std::make_unique<Bytes>(); }

}  // namespace plumb::data
