#include "data/sentencepiece_model.h"

#include <cstring>

#include "data/dataset.h"

namespace plumb::data {
namespace {

// One field of a protobuf message: its number, and its value by wire type.
struct Field {
  uint32_t number = 0, type = 0;
  uint64_t varint = 0;     // type 0; and the bits of types 1 and 5
  std::string_view bytes;  // type 2
};

class Message {
 public:
  Message(std::string_view bytes, const std::string& where) : rest_(bytes), where_(where) {}

  bool Next(Field* field) {
    if (rest_.empty()) return false;
    const uint64_t key = Varint();
    *field = {.number = static_cast<uint32_t>(key >> 3), .type = static_cast<uint32_t>(key & 7)};
    switch (field->type) {
      case 0:
        field->varint = Varint();
        break;
      case 1:
        std::memcpy(&field->varint, Take(8).data(), 8);
        break;
      case 2:
        field->bytes = Take(Varint());
        break;
      case 5:
        std::memcpy(&field->varint, Take(4).data(), 4);
        break;
      default:
        Fail();
    }
    return true;
  }

 private:
  [[noreturn]] void Fail() const { throw DataError(where_ + ": is not a SentencePiece model"); }
  std::string_view Take(uint64_t n) {
    if (n > rest_.size()) Fail();
    const std::string_view out = rest_.substr(0, n);
    rest_.remove_prefix(n);
    return out;
  }
  uint64_t Varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(Take(1)[0]);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    Fail();
  }
  std::string_view rest_;
  const std::string& where_;
};

}  // namespace

// Numbers of fields: sentencepiece_model.proto.
SentencePieceModel ReadSentencePieceModel(std::string_view bytes, const std::string& where) {
  SentencePieceModel out;
  Message model(bytes, where);
  for (Field f; model.Next(&f);) {
    if (f.type != 2) continue;
    Message inner(f.bytes, where);
    if (f.number == 1) {  // pieces
      SentencePieceModel::Piece& piece = out.pieces.emplace_back();
      for (Field p; inner.Next(&p);) {
        if (p.number == 1) piece.text = std::string(p.bytes);
        if (p.number == 2) {
          const auto bits = static_cast<uint32_t>(p.varint);
          std::memcpy(&piece.score, &bits, 4);
        }
        if (p.number == 3) piece.type = static_cast<SentencePieceModel::Type>(p.varint);
      }
    } else if (f.number == 2) {  // trainer_spec
      for (Field t; inner.Next(&t);) {
        if (t.number == 3) out.bpe = t.varint == 2;
        const auto id = static_cast<int64_t>(static_cast<int32_t>(t.varint));
        if (t.number == 40) out.unk = id;
        if (t.number == 41) out.bos = id;
        if (t.number == 42) out.eos = id;
      }
    } else if (f.number == 3) {  // normalizer_spec
      for (Field n; inner.Next(&n);) {
        if (n.number == 2) out.identity = n.bytes.empty();  // the table of replacements
        if (n.number == 3) out.add_dummy_prefix = n.varint != 0;
        if (n.number == 4) out.remove_extra_whitespaces = n.varint != 0;
        if (n.number == 5) out.escape_whitespaces = n.varint != 0;
      }
    }
  }
  const auto n = static_cast<int64_t>(out.pieces.size());
  if (n == 0 || out.unk < 0 || out.unk >= n || out.bos >= n || out.eos >= n)
    throw DataError(where + ": is not a SentencePiece model");
  return out;
}

}  // namespace plumb::data
