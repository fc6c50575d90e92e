#include "data/word_split.h"

#include <unicode/uchar.h>
#include <unicode/utf8.h>

namespace plumb::data {
namespace {

enum class Kind { kEnd, kLetter, kNumber, kSpace, kOther };

struct Next {
  Kind kind = Kind::kEnd;
  size_t end = 0;  // after the character
};

Next At(std::string_view text, size_t from) {
  if (from >= text.size()) return {Kind::kEnd, from};
  const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
  size_t i = from;
  UChar32 c;
  U8_NEXT(bytes, i, text.size(), c);
  if (c < 0) return {Kind::kOther, from + 1};
  const uint32_t mask = U_GET_GC_MASK(c);
  if (mask & U_GC_L_MASK) return {Kind::kLetter, i};
  if (mask & U_GC_N_MASK) return {Kind::kNumber, i};
  return {u_isUWhiteSpace(c) ? Kind::kSpace : Kind::kOther, i};
}

}  // namespace

size_t WordEnd(std::string_view text, size_t from) {
  if (text[from] == '\'') {
    for (const std::string_view ending : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}) {
      if (text.substr(from).starts_with(ending)) return from + ending.size();
    }
  }
  Next next = At(text, from);
  if (text[from] == ' ') {
    const Next after = At(text, from + 1);
    if (after.kind != Kind::kSpace && after.kind != Kind::kEnd) next = after;
  }
  if (next.kind != Kind::kSpace) {
    const Kind kind = next.kind;
    size_t end = next.end;
    for (Next n = At(text, end); n.kind == kind; n = At(text, end)) end = n.end;
    return end;
  }
  // White space up to the last before a word, which the word takes along if it is a space.
  size_t end = next.end, last = from;
  for (Next n = At(text, end); n.kind == Kind::kSpace; n = At(text, end)) last = end, end = n.end;
  return end < text.size() && last > from ? last : end;
}

}  // namespace plumb::data
