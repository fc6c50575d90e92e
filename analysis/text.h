// Words for figures: lines of a width, fields of a CSV file.
#pragma once

#include <string>
#include <vector>

namespace plumb::analysis {

// Broken at spaces into lines of at most `width` columns, but for longer words.
std::vector<std::string> Wrapped(const std::string& text, size_t width);

// Characters, not bytes.
int Columns(const std::string& text);

// RFC 4180.
std::string CsvField(const std::string& s);

}  // namespace plumb::analysis
