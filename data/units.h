// Text as a sequence of hashed units for comparing documents: an ASCII word in lower case (letters
// outside ASCII belong to the word around them), or one kana or kanji, so that Japanese, which has
// no spaces, is compared as finely.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace plumb::data {

std::vector<uint64_t> Units(std::string_view text);

struct PlacedUnit {
  uint64_t hash = 0;
  size_t begin = 0, end = 0;  // bytes of the text
};
std::vector<PlacedUnit> PlacedUnits(std::string_view text);

// Hashes of all runs of `n` units, in order of place; empty for a shorter text.
std::vector<uint64_t> NGrams(std::string_view text, size_t n);
std::vector<uint64_t> NGrams(const std::vector<uint64_t>& units, size_t n);

}  // namespace plumb::data
