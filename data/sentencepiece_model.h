// What a SentencePiece .model file says, read without the library: Debian's carries a protobuf of
// its own that cannot live in one process with gRPC's.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace plumb::data {

struct SentencePieceModel {
  enum class Type { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };
  struct Piece {
    std::string text;
    float score = 0;
    Type type = Type::kNormal;
  };
  std::vector<Piece> pieces;          // by id
  bool bpe = false;                   // else unigram, word or char
  int64_t unk = 0, bos = 1, eos = 2;  // -1: none
  // Of the normaliser.
  bool identity = true;  // no character is replaced by another
  bool add_dummy_prefix = true, remove_extra_whitespaces = true, escape_whitespaces = true;
};

// Throws DataError; `where` names the file.
SentencePieceModel ReadSentencePieceModel(std::string_view bytes, const std::string& where);

// The same tokenizer as a SentencePiece model file from that of llama2.c (tokenizer.bin,
// tok512.bin): int32 longest, then for each id a float32 score, an int32 length and as many bytes
// of its text, with spaces for U+2581. Ids 0, 1, 2 are unknown, bos and eos; 3 to 258 the bytes.
// Throws DataError.
std::string SentencePieceModelOfLlama2c(std::string_view bytes, const std::string& where);

}  // namespace plumb::data
