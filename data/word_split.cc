#include "data/word_split.h"

#include "data/unicode_classes.h"
#include "data/utf8.h"

namespace plumb::data {
namespace {

enum class Kind { kEnd, kLetter, kNumber, kSpace, kOther };

struct Next {
  Kind kind = Kind::kEnd;
  size_t end = 0;  // after the character
};

Next At(std::string_view text, size_t from) {
  if (from >= text.size()) return {Kind::kEnd, from};
  size_t end = from;
  const char32_t c = NextCodePoint(text, &end);  // one byte where it is not UTF-8
  switch (ClassOf(c)) {
    case CharacterClass::kLetter:
      return {Kind::kLetter, end};
    case CharacterClass::kNumber:
      return {Kind::kNumber, end};
    case CharacterClass::kSpace:
      return {Kind::kSpace, end};
    case CharacterClass::kOther:
      break;
  }
  return {Kind::kOther, end};
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
