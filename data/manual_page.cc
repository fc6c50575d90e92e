#include "data/manual_page.h"

#include <zlib.h>

#include <memory>

#include "data/dataset.h"
#include "data/utf8.h"

namespace plumb::data {
namespace {

// Skips what names a font, string or special character after its letter: "x", "(xx" or "[name]".
size_t SkipName(std::string_view line, size_t at) {
  if (at >= line.size() || (line[at] & 0x80) != 0) return at;  // not in the middle of a character
  if (line[at] == '(') return std::min(line.size(), at + 3);
  if (line[at] == '[') {
    const size_t end = line.find(']', at);
    return end == std::string_view::npos ? line.size() : end + 1;
  }
  return at + 1;
}

// One line without escapes (groff(7), "Escape sequences"); special characters but the commonest are
// dropped.
std::string WithoutEscapes(std::string_view line) {
  std::string out;
  for (size_t at = 0; at < line.size();) {
    if (line[at] != '\\' || at + 1 == line.size()) {
      if (line[at] != '\\') out += line[at];
      ++at;
      continue;
    }
    const char escape = line[at + 1];
    at += 2;
    switch (escape) {
      case '"':
      case '#':
        return out;  // a comment to the end of the line
      case 'f':
      case '*':
      case 'n':
      case 'k':
        at = SkipName(line, at);
        break;
      case 's':  // a size: \sN, \s+N, \s(NN
        while (at < line.size() && (line[at] == '+' || line[at] == '-' || line[at] == '(')) ++at;
        while (at < line.size() && line[at] >= '0' && line[at] <= '9') ++at;
        break;
      case 'h':
      case 'v':
      case 'w':
        if (at < line.size()) {  // \h'…'
          const size_t end = line.find(line[at], at + 1);
          at = end == std::string_view::npos ? line.size() : end + 1;
        }
        break;
      case '(':
      case '[': {
        const size_t end = SkipName(line, at - 1);
        const std::string_view name = line.substr(at, end - at - (escape == '[' ? 1 : 0));
        if (name == "aq" || name == "cq" || name == "oq") out += '\'';
        if (name == "lq" || name == "rq" || name == "dq") out += '"';
        if (name == "em" || name == "en" || name == "hy") out += '-';
        if (name == "bu") out += '*';
        if (name == "rs") out += '\\';
        at = end;
        break;
      }
      case '-':
        out += '-';
        break;
      case 'e':
      case '\\':
        out += '\\';
        break;
      case ' ':
      case '~':
      case '0':
        out += ' ';
        break;
      case '\'':
      case '`':
      case '.':
        out += escape;
        break;
      default:
        if ((escape & 0x80) != 0) --at;  // the character itself
        break;                           // \&, \/, \,, \|, \^, \c, \:, \% print nothing
    }
  }
  return out;
}

// The arguments of a macro: quotes off; the font-alternating macros (".BR") join theirs without
// spaces.
std::string Arguments(std::string_view line) {
  size_t at = 1;
  while (at < line.size() && (line[at] == ' ' || line[at] == '\t')) ++at;
  const size_t name_begin = at;
  while (at < line.size() && line[at] != ' ' && line[at] != '\t') ++at;
  const std::string_view name = line.substr(name_begin, at - name_begin);
  if (name == "TH" || name == "Dd" || name == "Dt" || name == "Os" || name == "ds" ||
      name == "so" || name == "tr" || name == "de" || name == "if" || name == "ie" ||
      name == "el" || name == "nr") {
    return "";
  }
  const bool joined =
      name == "BR" || name == "RB" || name == "IR" || name == "RI" || name == "BI" || name == "IB";
  std::string out;
  while (at < line.size()) {
    while (at < line.size() && (line[at] == ' ' || line[at] == '\t')) ++at;
    if (at == line.size()) break;
    if (!out.empty() && !joined) out += ' ';
    if (line[at] == '"') {
      for (++at; at < line.size(); ++at) {
        if (line[at] == '"' && ++at < line.size() && line[at] != '"') break;  // "" is a quote
        if (at < line.size()) out += line[at];
      }
    } else {
      while (at < line.size() && line[at] != ' ' && line[at] != '\t') out += line[at++];
    }
  }
  return out;
}

bool IsJapanese(std::string_view line) {
  int64_t japanese = 0, all = 0;
  for (size_t at = 0; at < line.size();) {
    const char32_t c = NextCodePoint(line, &at);
    if (c == ' ' || c == '\t' || c == 0x3000) continue;
    ++all;
    japanese += IsKanaOrKanji(c);
  }
  return japanese > 0 && japanese * 10 >= all * 3;
}

}  // namespace

std::string ReadGzip(const std::string& path) {
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> file(gzopen(path.c_str(), "rb"), gzclose);
  if (file == nullptr) throw DataError(path + ": cannot be read");
  std::string text;
  char buffer[1 << 16];
  int n;
  while ((n = gzread(file.get(), buffer, sizeof buffer)) > 0) text.append(buffer, n);
  int error = Z_OK;
  gzerror(file.get(), &error);  // where a truncated file shows
  if (n < 0 || error != Z_OK) throw DataError(path + ": is not a whole gzip file");
  return text;
}

std::string JapaneseText(std::string_view groff) {
  if (groff.starts_with(".so ")) return "";
  std::string out;
  bool gap = false;
  for (size_t at = 0; at < groff.size();) {
    size_t end = groff.find('\n', at);
    if (end == std::string_view::npos) end = groff.size();
    const std::string_view line = groff.substr(at, end - at);
    at = end + 1;
    if (line.empty() || line == "." || line.starts_with(".PP") || line.starts_with(".P") ||
        line.starts_with(".SH") || line.starts_with(".Sh") || line.starts_with(".TP")) {
      gap = !out.empty();
    }
    if (line.starts_with(".\\\"") || line.starts_with("'\\\"")) continue;
    const bool request = !line.empty() && (line[0] == '.' || line[0] == '\'');
    std::string text = WithoutEscapes(request ? Arguments(line) : std::string(line));
    text.erase(0, text.find_first_not_of(" \t"));
    if (!IsJapanese(text)) continue;
    if (gap) out += '\n';
    gap = false;
    out += text;
    out += '\n';
  }
  return out;
}

}  // namespace plumb::data
