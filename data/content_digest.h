// What a corpus's digest is of, and the same again from its files.
#pragma once

#include <string>

#include "data/dataset.h"
#include "trainer/spec/sha256.h"

namespace plumb::data {

// SHA-256 over what decides results: the tokenizer and its model, each split's .bin and .docs by
// their SHA-256, in the order of kAllSplits, and which documents are whose.
class ContentDigest {
 public:
  ContentDigest(const std::string& tokenizer, const std::string& model);
  void Add(Split split, const std::string& bin_sha256, const std::string& docs_sha256);
  void Add(const Part& part);
  std::string HexDigest() { return hash_.HexDigest(); }

 private:
  spec::Sha256 hash_;
};

// Of the corpus in `dir`, read whole. Throws DataError.
std::string ReadContentDigest(const std::string& dir);

}  // namespace plumb::data
