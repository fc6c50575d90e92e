// Manual pages as plain text.
#pragma once

#include <string>
#include <string_view>

namespace plumb::data {

std::string ReadGzip(const std::string& path);  // throws DataError

// The lines of a groff page that are Japanese, without requests and escapes: those of whose
// non-blank characters at least 30 % are kana or kanji. Blank lines between them are kept, one in a
// row. Empty for a page that is but a link
// (".so").
std::string JapaneseText(std::string_view groff);

}  // namespace plumb::data
