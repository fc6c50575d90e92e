// Writes one split: <split>.bin and <split>.docs (layout: data/dataset.h).
#pragma once

#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace plumb::data {

class ShardWriter {
 public:
  // Tokens take two bytes where `vocab_size` allows. Throws DataError when a file cannot be
  // written.
  ShardWriter(const std::string& dir, Split split, int64_t vocab_size);

  // Appends a document: `separator`, then `tokens`, each in [0, vocab_size).
  void Add(int64_t separator, const std::vector<int64_t>& tokens, int64_t bytes,
           int64_t characters);

  // Writes what is left and forces it to disk. Call once, last.
  SplitInfo Finish();
  const std::string& docs_sha256() const { return docs_sha256_; }  // after Finish()

 private:
  void Append(int64_t token);
  void WriteHeader();

  std::string bin_path_, docs_path_, docs_sha256_;
  int64_t vocab_size_;
  int width_;
  std::ofstream bin_;
  std::string buffer_;
  std::vector<uint64_t> records_;
  SplitInfo info_;
};

// fsync of a file or folder; throws DataError.
void ForceToDisk(const std::string& path);

}  // namespace plumb::data
