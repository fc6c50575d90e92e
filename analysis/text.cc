#include "analysis/text.h"

#include "absl/strings/str_cat.h"

namespace plumb::analysis {

std::vector<std::string> Wrapped(const std::string& text, size_t width) {
  std::vector<std::string> lines;
  std::string line;
  size_t at = 0;
  while (at < text.size()) {
    size_t space = text.find(' ', at);
    if (space == std::string::npos) space = text.size();
    const std::string word = text.substr(at, space - at);
    if (!line.empty() && static_cast<size_t>(Columns(line) + 1 + Columns(word)) > width)
      lines.push_back(line), line.clear();
    absl::StrAppend(&line, line.empty() ? "" : " ", word);
    at = space + 1;
  }
  if (!line.empty()) lines.push_back(line);
  return lines;
}

int Columns(const std::string& text) {
  int n = 0;
  for (unsigned char c : text) n += (c & 0xC0) != 0x80;
  return n;
}

std::string CsvField(const std::string& s) {
  if (s.find_first_of(",\"\n") == std::string::npos) return s;
  std::string out = "\"";
  for (char c : s) absl::StrAppend(&out, c == '"' ? "\"\"" : std::string(1, c));
  return out + "\"";
}

}  // namespace plumb::analysis
