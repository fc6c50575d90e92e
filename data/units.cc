#include "data/units.h"

#include "data/utf8.h"

namespace plumb::data {
namespace {

// The finalizer of SplitMix64 (Steele, Lea, Flood 2014): every input bit moves every output bit.
uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

bool IsWordCharacter(char32_t c) {
  if (c < 0x80) return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  const bool punctuation = c < 0xC0 || (c >= 0x2000 && c <= 0x2BFF) ||
                           (c >= 0x3000 && c <= 0x303F) || (c >= 0xFF00 && c <= 0xFF0F) ||
                           (c >= 0xFF1A && c <= 0xFF20);
  return !punctuation;
}

}  // namespace

std::vector<PlacedUnit> PlacedUnits(std::string_view text) {
  std::vector<PlacedUnit> units;
  uint64_t word = 0;
  size_t begin = 0;
  const auto end_word = [&](size_t end) {
    if (word != 0) units.push_back({Mix(word), begin, end});
    word = 0;
  };
  for (size_t at = 0; at < text.size();) {
    const size_t here = at;
    char32_t c = NextCodePoint(text, &at);
    if (IsKanaOrKanji(c)) {
      end_word(here);
      units.push_back({Mix(c), here, at});
    } else if (IsWordCharacter(c)) {
      if (c >= 'A' && c <= 'Z') c += 'a' - 'A';
      if (word == 0) begin = here;
      word = (word + c + 1) * 0x9e3779b97f4a7c15;
    } else {
      end_word(here);
    }
  }
  end_word(text.size());
  return units;
}

std::vector<uint64_t> Units(std::string_view text) {
  std::vector<uint64_t> units;
  for (const PlacedUnit& u : PlacedUnits(text)) units.push_back(u.hash);
  return units;
}

std::vector<uint64_t> NGrams(std::string_view text, size_t n) { return NGrams(Units(text), n); }

std::vector<uint64_t> NGrams(const std::vector<uint64_t>& units, size_t n) {
  if (units.size() < n) return {};
  constexpr uint64_t kBase = 0xd6e8feb86659fd93;  // odd, so no unit's share of the sum is lost
  uint64_t oldest = 1;                            // kBase^n
  for (size_t i = 0; i < n; ++i) oldest *= kBase;
  std::vector<uint64_t> grams;
  grams.reserve(units.size() - n + 1);
  uint64_t rolling = 0;
  for (size_t i = 0; i < units.size(); ++i) {
    rolling = rolling * kBase + units[i];
    if (i >= n) rolling -= oldest * units[i - n];
    if (i + 1 >= n) grams.push_back(Mix(rolling));
  }
  return grams;
}

}  // namespace plumb::data
