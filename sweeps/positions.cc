#include "sweeps/positions.h"

namespace plumb::sweeps {

size_t OffsetOf(const std::string& text, Position at) {
  size_t i = 0;
  for (int line = 1; line < at.line && i < text.size(); ++line) i = text.find('\n', i) + 1;
  for (int column = 1; column < at.column && i < text.size(); ++column) {
    do {
      ++i;
    } while (i < text.size() && (static_cast<unsigned char>(text[i]) & 0xC0) == 0x80);
  }
  return i;
}

size_t EndOfScalar(const std::string& text, size_t begin, const YamlNode& node) {
  if (!node.quoted)
    return text.compare(begin, node.text.size(), node.text) == 0 ? begin + node.text.size()
                                                                 : std::string::npos;
  const char quote = text[begin];
  for (size_t i = begin + 1; i < text.size() && text[i] != '\n'; ++i) {
    if (quote == '"' && text[i] == '\\') {
      ++i;
    } else if (text[i] == quote && quote == '\'' && i + 1 < text.size() && text[i + 1] == quote) {
      ++i;
    } else if (text[i] == quote) {
      return i + 1;
    }
  }
  return std::string::npos;
}

}  // namespace plumb::sweeps
