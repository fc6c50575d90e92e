// Just enough UTF-8 for corpora: validity, counting, and walking code points.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace plumb::data {

inline constexpr char32_t kInvalid = 0xFFFFFFFF;

// The code point at text[*at], moving *at past it; kInvalid (moving one byte) for what RFC 3629
// does not allow.
char32_t NextCodePoint(std::string_view text, size_t* at);

bool IsUtf8(std::string_view text);
int64_t CountCodePoints(std::string_view text);  // of valid UTF-8

// Hiragana, katakana (also half-width) and CJK ideographs.
bool IsKanaOrKanji(char32_t c);

}  // namespace plumb::data
