#include "data/byte_alphabet.h"

#include <array>
#include <map>

namespace plumb::data {
namespace {

const std::array<char32_t, 256>& Symbols() {
  static const std::array<char32_t, 256> symbols = [] {
    std::array<char32_t, 256> table{};
    char32_t next = 0x100;
    for (int b = 0; b < 256; ++b) {
      const bool printable =
          (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE && b <= 0xFF);
      table[b] = printable ? static_cast<char32_t>(b) : next++;
    }
    return table;
  }();
  return symbols;
}

}  // namespace

std::string ByteSymbol(unsigned char byte) {
  const char32_t c = Symbols()[byte];  // below U+0800
  if (c < 0x80) return std::string(1, static_cast<char>(c));
  return {static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 0x3F))};
}

int ByteOfSymbol(char32_t symbol) {
  static const auto* const bytes = [] {
    auto* table = new std::map<char32_t, int>;
    for (int b = 0; b < 256; ++b) (*table)[Symbols()[b]] = b;
    return table;
  }();
  const auto it = bytes->find(symbol);
  return it == bytes->end() ? -1 : it->second;
}

}  // namespace plumb::data
