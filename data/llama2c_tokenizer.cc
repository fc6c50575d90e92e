// Karpathy's llama2.c keeps a SentencePiece BPE model's pieces and scores in a file of its own.
#include <cstdint>
#include <cstring>

#include "data/dataset.h"
#include "data/sentencepiece_model.h"

namespace plumb::data {
namespace {

constexpr char kSpace[] = "\xE2\x96\x81";  // U+2581
constexpr int64_t kBos = 1, kEos = 2, kFirstByte = 3, kBytes = 256;

void Varint(uint64_t n, std::string* out) {
  for (; n > 0x7F; n >>= 7) *out += static_cast<char>((n & 0x7F) | 0x80);
  *out += static_cast<char>(n);
}
void Number(uint32_t field, uint64_t value, std::string* out) {
  Varint(field << 3, out);
  Varint(value, out);
}
void Bytes(uint32_t field, std::string_view value, std::string* out) {
  Varint(field << 3 | 2, out);
  Varint(value.size(), out);
  *out += value;
}

class Reader {
 public:
  Reader(std::string_view bytes, const std::string& where) : rest_(bytes), where_(where) {}
  bool done() const { return rest_.empty(); }
  template <typename T>
  T Take() {
    T value;
    std::memcpy(&value, Text(sizeof value).data(), sizeof value);
    return value;
  }
  std::string_view Text(int64_t n) {
    if (n < 0 || static_cast<uint64_t>(n) > rest_.size())
      throw DataError(where_ + ": is not a tokenizer of llama2.c");
    const std::string_view out = rest_.substr(0, static_cast<size_t>(n));
    rest_.remove_prefix(static_cast<size_t>(n));
    return out;
  }

 private:
  std::string_view rest_;
  const std::string& where_;
};

}  // namespace

// Numbers of fields: sentencepiece_model.proto.
std::string SentencePieceModelOfLlama2c(std::string_view bytes, const std::string& where) {
  using Type = SentencePieceModel::Type;
  Reader in(bytes, where);
  in.Take<int32_t>();
  std::string model;
  int64_t id = 0;
  for (; !in.done(); ++id) {
    const auto score = in.Take<float>();
    std::string text;
    for (const char c : in.Text(in.Take<int32_t>())) c == ' ' ? text += kSpace : text += c;
    Type type = Type::kNormal;
    if (id == 0) text = "<unk>", type = Type::kUnknown;
    if (id == kBos) text = "<s>", type = Type::kControl;
    if (id == kEos) text = "</s>", type = Type::kControl;
    if (id >= kFirstByte && id < kFirstByte + kBytes) {
      constexpr char kHex[] = "0123456789ABCDEF";
      const auto byte = static_cast<unsigned>(id - kFirstByte);
      if (text != std::string("<0x") + kHex[byte >> 4] + kHex[byte & 15] + ">")
        throw DataError(where + ": is not a tokenizer of llama2.c with byte fallback");
      type = Type::kByte;
    }
    uint32_t bits;
    std::memcpy(&bits, &score, sizeof bits);
    std::string piece;
    Bytes(1, text, &piece);
    Varint(2 << 3 | 5, &piece);
    piece.append(reinterpret_cast<const char*>(&bits), sizeof bits);
    Number(3, static_cast<uint64_t>(type), &piece);
    Bytes(1, piece, &model);
  }
  if (id <= kFirstByte + kBytes) throw DataError(where + ": is not a tokenizer of llama2.c");
  std::string trainer, normalizer;
  Number(3, 2, &trainer);  // BPE
  Number(4, static_cast<uint64_t>(id), &trainer);
  Number(35, 1, &trainer);  // byte fallback
  Number(40, 0, &trainer);
  Number(41, kBos, &trainer);
  Number(42, kEos, &trainer);
  Bytes(1, "identity", &normalizer);
  Number(3, 1, &normalizer);  // a space before the text
  Number(4, 0, &normalizer);
  Number(5, 1, &normalizer);
  Bytes(2, trainer, &model);
  Bytes(3, normalizer, &model);
  return model;
}

}  // namespace plumb::data
