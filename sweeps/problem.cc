#include "sweeps/problem.h"

#include <algorithm>

#include "sweeps/include.h"

namespace plumb::sweeps {
namespace {

constexpr int kShown = 110;  // characters of a source line that are shown

std::string LineOf(const std::string& source, int line) {
  size_t begin = 0;
  for (int i = 1; i < line; ++i) {
    begin = source.find('\n', begin);
    if (begin == std::string::npos) return "";
    ++begin;
  }
  std::string text = source.substr(begin, source.find('\n', begin) - begin);
  if (!text.empty() && text.back() == '\r') text.pop_back();
  return text;
}

// UTF-8 characters; a byte that is no UTF-8 stands alone.
std::vector<std::string> Characters(const std::string& text) {
  std::vector<std::string> out;
  for (char c : text) {
    if ((static_cast<unsigned char>(c) & 0xC0) == 0x80 && !out.empty()) {
      out.back() += c;
    } else {
      out.emplace_back(1, c);
    }
  }
  return out;
}

// The file that a line of the text was written in, and its number there.
std::pair<std::string, int> Written(const std::vector<SourcePart>& parts, int line,
                                    const std::string& file_name) {
  const SourcePart* part = &parts.front();
  for (const SourcePart& p : parts) {
    if (p.first_line <= line) part = &p;
  }
  const size_t slash = file_name.rfind('/');
  const std::string folder = slash == std::string::npos ? "" : file_name.substr(0, slash + 1);
  const bool absolute = !part->name.empty() && part->name[0] == '/';
  return {part->name.empty() ? file_name
          : absolute         ? part->name
                             : folder + part->name,
          line - part->first_line + 1};
}

// Three bytes and more are mostly East Asian, two cells wide on a terminal.
bool IsWide(const std::string& character) { return character.size() >= 3; }

}  // namespace

std::string FormatProblems(std::vector<Problem> problems, const std::string& file_name,
                           const std::string& source) {
  std::stable_sort(problems.begin(), problems.end(),
                   [](const Problem& a, const Problem& b) { return a.at < b.at; });
  const std::vector<SourcePart> parts = PartsOf(source);
  std::string out;
  const Problem* last = nullptr;
  for (const Problem& p : problems) {
    if (last != nullptr && last->at == p.at) continue;
    last = &p;
    if (!out.empty()) out += "\n";
    const auto [file, number] = Written(parts, p.at.line, file_name);
    out += file + ":" + std::to_string(number) + ":" + std::to_string(p.at.column) + ": " +
           p.message + "\n";
    const std::vector<std::string> line = Characters(LineOf(source, p.at.line));
    const int caret = p.at.column - 1;
    const int begin = caret > kShown - 20 ? caret - 40 : 0;
    std::string shown = "  ", under = "  ";
    for (int i = begin; i < static_cast<int>(line.size()) && i < begin + kShown; ++i) {
      const bool control = line[i].size() == 1 && static_cast<unsigned char>(line[i][0]) < 0x20;
      shown += control && line[i] != "\t" ? "?" : line[i];
      if (i < caret) under += line[i] == "\t" ? "\t" : IsWide(line[i]) ? "  " : " ";
    }
    out += shown + "\n" + under + "^";
  }
  return out;
}

}  // namespace plumb::sweeps
