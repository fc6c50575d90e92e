// Text to token ids and back. Threads may share a tokenizer.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/dataset.h"

namespace plumb::data {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual int64_t vocab_size() const = 0;
  virtual int64_t separator()
      const = 0;  // what a document begins with in a shard; Encode() does not add it
  virtual std::vector<int64_t> Encode(std::string_view text) const = 0;
  virtual std::string Decode(
      const std::vector<int64_t>& tokens) const = 0;  // throws DataError for an unknown id
};

// A token is a byte. The separator, 0, is a byte that text does not hold.
std::unique_ptr<Tokenizer> BytesTokenizer();

// Opens a SentencePiece model given as the bytes of its file; the separator is its bos. `where`
// names it in messages.
std::unique_ptr<Tokenizer> SentencePieceTokenizer(std::string_view model, const std::string& where);

// The same ids and texts without the library, which the trainer does not link: BPE models with
// identity normalisation and white space kept, as TrainSentencePiece makes them. Throws DataError
// for others.
std::unique_ptr<Tokenizer> PieceTokenizer(std::string_view model, const std::string& where);

// Trains a SentencePiece model (BPE, identity normalisation, byte fallback) of exactly `vocab_size`
// pieces on the texts, by one thread, so that equal texts give an equal model. Returns the bytes of
// its file.
std::string TrainSentencePiece(const std::vector<std::string_view>& texts, int64_t vocab_size);

// The tokenizer of a prepared corpus, e.g. to show what a model read or wrote. Throws DataError for
// token ids that were made elsewhere ("ids:N").
std::unique_ptr<Tokenizer> OpenTokenizer(const std::string& dataset_dir);

}  // namespace plumb::data
