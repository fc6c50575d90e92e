// nanoGPT's data folders (data/<name>/prepare.py there): train.bin and val.bin, headerless
// little-endian uint16 ids.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace plumb::data {

struct NanoGptIds {
  int64_t vocab_size = 0;
  std::array<std::vector<int64_t>, 4>
      splits;  // by Split; val.bin in three equal parts is tune, val, test
};

// `vocab_size` 0: the largest id + 1. Throws DataError for a missing or truncated file, an id
// outside the vocabulary, or too few ids for every split to have two.
NanoGptIds ReadNanoGpt(const std::string& folder, int64_t vocab_size);

}  // namespace plumb::data
