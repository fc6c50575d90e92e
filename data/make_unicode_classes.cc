// Writes data/unicode_classes.cc from ICU's tables:
//   g++ -std=c++20 data/make_unicode_classes.cc -licuuc -o make && ./make > data/unicode_classes.cc
#include <unicode/uchar.h>
#include <unicode/unorm2.h>
#include <unicode/uversion.h>

#include <cstdio>

int main() {
  const auto of = [](UChar32 c) -> int {
    const uint32_t mask = U_GET_GC_MASK(c);
    const int word = mask & U_GC_L_MASK ? 1 : mask & U_GC_N_MASK ? 2 : u_isUWhiteSpace(c) ? 3 : 0;
    const bool plain =
        u_getIntPropertyValue(c, UCHAR_NFC_QUICK_CHECK) == UNORM_YES && u_getCombiningClass(c) == 0;
    return word | (plain ? 0 : 4);
  };
  std::printf(
      "// Made by data/make_unicode_classes.cc from Unicode %s; not to be edited.\n"
      "#include \"data/unicode_classes.h\"\n\n"
      "#include <algorithm>\n#include <cstdint>\n#include <iterator>\n\n"
      "namespace plumb::data {\nnamespace {\n\n"
      "// First code point << 3 | class of it and of those up to the next entry.\n"
      "// clang-format off\nconstexpr uint32_t kRanges[] = {",
      U_UNICODE_VERSION);
  int last = -1, n = 0;
  for (UChar32 c = 0; c <= 0x10FFFF; ++c) {
    const int now = of(c);
    if (now == last) continue;
    std::printf("%s0x%X,", n++ % 12 == 0 ? "\n    " : " ", static_cast<uint32_t>(c) << 3 | now);
    last = now;
  }
  std::printf(
      "\n};\n// clang-format on\n\n"
      "uint32_t Entry(char32_t c) {\n"
      "  if (c > 0x10FFFF) return 0;\n"
      "  const uint32_t wanted = static_cast<uint32_t>(c) << 3 | 7;\n"
      "  return *std::prev(std::upper_bound(std::begin(kRanges), std::end(kRanges), wanted));\n"
      "}\n\n}  // namespace\n\n"
      "CharacterClass ClassOf(char32_t c) { return static_cast<CharacterClass>(Entry(c) & 3); }\n"
      "bool PlainInNfc(char32_t c) { return (Entry(c) & 4) == 0; }\n\n"
      "}  // namespace plumb::data\n");
}
