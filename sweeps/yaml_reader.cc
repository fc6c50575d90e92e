#include "sweeps/yaml_reader.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace plumb::sweeps {
namespace {

constexpr size_t kMaxBytes = 1 << 20;
constexpr int kMaxDepth = 64;
constexpr size_t kMaxProblems = 100;

// Ends the walk from inside yaml-cpp's callbacks; the problem is already noted.
struct Stop {};

// Byte offset of the first byte that is not UTF-8, or npos.
size_t FindInvalidUtf8(const std::string& s) {
  for (size_t i = 0; i < s.size();) {
    const auto c = static_cast<unsigned char>(s[i]);
    const int length = c < 0x80                ? 1
                       : c >= 0xC2 && c < 0xE0 ? 2
                       : (c & 0xF0) == 0xE0    ? 3
                       : c >= 0xF0 && c < 0xF5 ? 4
                                               : 0;
    if (length == 0 || i + length > s.size()) return i;
    uint32_t point = length == 1 ? c : c & (0xFF >> (length + 1));
    for (int k = 1; k < length; ++k) {
      const auto next = static_cast<unsigned char>(s[i + k]);
      if ((next & 0xC0) != 0x80) return i;
      point = point << 6 | (next & 0x3F);
    }
    const bool overlong = (length == 3 && point < 0x800) || (length == 4 && point < 0x10000);
    if (overlong || (point >= 0xD800 && point < 0xE000) || point > 0x10FFFF) return i;
    i += length;
  }
  return std::string::npos;
}

Position PositionOfByte(const std::string& s, size_t byte) {
  Position p;
  for (size_t i = 0; i < std::min(byte, s.size()); ++i) {
    if (s[i] == '\n') {
      ++p.line, p.column = 1;
    } else if ((static_cast<unsigned char>(s[i]) & 0xC0) != 0x80) {
      ++p.column;
    }
  }
  return p;
}

// What is wrong with a plain scalar that YAML 1.1, YAML 1.2 and people read differently, or "".
std::string Ambiguity(const std::string& text) {
  const std::string lower = absl::AsciiStrToLower(text);
  if (lower == "yes" || lower == "no" || lower == "on" || lower == "off") {
    return absl::StrCat(
        "\"", text, "\" is a boolean to some YAML readers and a word to others; write ",
        lower == "yes" || lower == "on" ? "true" : "false", ", or put it in quotes");
  }
  if ((lower == "true" || lower == "false") && text != lower)
    return "write " + lower + ", in lower case";
  const size_t digits = text.find_first_not_of("+-");
  if (digits != std::string::npos && digits <= 1 && text.size() > digits + 1 &&
      text[digits] == '0' && text.find_first_not_of("0123456789", digits) == std::string::npos) {
    const size_t significant = std::min(text.find_first_not_of('0', digits), text.size() - 1);
    return absl::StrCat("a leading zero makes \"", text, "\" octal to some YAML readers; write ",
                        text.substr(significant), ", or put it in quotes");
  }
  return "";
}

class Builder : public YAML::EventHandler {
 public:
  Builder(const std::string& text, std::vector<Problem>* problems)
      : text_(text), problems_(problems) {
    line_begin_.push_back(0);
    for (size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '\n') line_begin_.push_back(i + 1);
    }
  }

  // yaml-cpp counts lines and bytes from 0.
  Position At(const YAML::Mark& mark) const {
    if (mark.is_null() || mark.line < 0) return {};
    Position p{.line = mark.line + 1};
    const size_t line = std::min<size_t>(mark.line, line_begin_.size() - 1);
    const size_t end = std::min(line_begin_[line] + mark.column, text_.size());
    for (size_t i = line_begin_[line]; i < end; ++i) {
      if ((static_cast<unsigned char>(text_[i]) & 0xC0) != 0x80) ++p.column;
    }
    return p;
  }
  void Wrong(Position at, std::string message) {
    problems_->push_back({at, std::move(message)});
    if (problems_->size() >= kMaxProblems) throw Stop();
  }
  std::optional<YamlNode> Take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) {
      // The mark is of the document's first token; the separator is the nearest "---" at or above
      // it.
      int line = std::min<int>(mark.line, line_begin_.size() - 1);
      while (line > 0 && text_.compare(line_begin_[line], 3, "---") != 0) --line;
      Wrong({line + 1, 1}, "a second document starts here; put each sweep into a file of its own");
      throw Stop();
    }
  }
  void OnDocumentEnd() override {}
  void OnAnchor(const YAML::Mark& mark, const std::string& name) override {
    Wrong(At(mark), absl::StrCat("anchors (&", name,
                                 ") are not supported; write the value out where it is used"));
  }
  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override { Add({.at = At(mark)}); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    Wrong(At(mark), "aliases (*name) are not supported; write the value out");
    Add({.at = At(mark)});
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                const std::string& value) override {
    YamlNode node{
        .kind = YamlNode::Kind::kScalar, .at = At(mark), .text = value, .quoted = tag == "!"};
    CheckTag(mark, tag);
    if (node.quoted && !Closed(mark)) Wrong(node.at, "the quote is not closed");
    if (!node.quoted) {
      if (const std::string wrong = Ambiguity(value); !wrong.empty()) Wrong(node.at, wrong);
    }
    Add(std::move(node));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    CheckTag(mark, tag);
    Open({.kind = YamlNode::Kind::kList, .at = At(mark)});
  }
  void OnSequenceEnd() override { Close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {
    CheckTag(mark, tag);
    Open({.kind = YamlNode::Kind::kMap, .at = At(mark)});
  }
  void OnMapEnd() override {
    FindDuplicates(open_.back().node);
    Close();
  }

 private:
  struct OpenNode {
    YamlNode node;
    std::optional<YamlNode> key;  // of a map: the key whose value comes next
  };

  // Whether a quoted scalar ends before the text does, which yaml-cpp does not ask.
  bool Closed(const YAML::Mark& mark) const {
    if (mark.is_null() || mark.line < 0) return true;
    const size_t line = std::min<size_t>(mark.line, line_begin_.size() - 1);
    const size_t begin = line_begin_[line] + mark.column;
    const char quote = begin < text_.size() ? text_[begin] : ' ';
    if (quote != '"' && quote != '\'') return true;  // a block scalar
    for (size_t i = begin + 1; i < text_.size(); ++i) {
      const bool escaped = quote == '"'
                               ? text_[i] == '\\'
                               : text_[i] == quote && i + 1 < text_.size() && text_[i + 1] == quote;
      if (escaped) {
        ++i;
      } else if (text_[i] == quote) {
        return true;
      }
    }
    return false;
  }

  void CheckTag(const YAML::Mark& mark, const std::string& tag) {
    const bool written =
        mark.pos >= 0 && static_cast<size_t>(mark.pos) < text_.size() && text_[mark.pos] == '!';
    if (written || (tag != "" && tag != "?" && tag != "!")) {
      Wrong(At(mark), "tags are not supported; leave it out (quotes make a value a string)");
    }
  }
  void Open(YamlNode node) {
    if (open_.size() >= kMaxDepth) {
      Wrong(node.at, absl::StrCat("nested deeper than ", kMaxDepth, " levels"));
      throw Stop();
    }
    open_.push_back({std::move(node)});
  }
  void Close() {
    YamlNode node = std::move(open_.back().node);
    open_.pop_back();
    Add(std::move(node));
  }
  void Add(YamlNode node) {
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    OpenNode& top = open_.back();
    if (top.node.is_list()) {
      top.node.items.push_back(std::move(node));
    } else if (!top.key) {
      if (node.is_scalar() && node.text == "<<" && !node.quoted) {
        Wrong(node.at, "merge keys (<<) are not supported; write the keys out");
      }
      const bool names = node.is_list() && !node.items.empty() &&
                         std::all_of(node.items.begin(), node.items.end(),
                                     [](const YamlNode& n) { return n.is_scalar(); });
      if (!node.is_scalar() && !names)
        Wrong(node.at, "a key must be a word, or a list of words in brackets");
      top.key = std::move(node);
    } else {
      top.node.entries.push_back({std::move(*top.key), std::move(node)});
      top.key.reset();
    }
  }
  void FindDuplicates(const YamlNode& map) {
    std::map<std::string, Position> seen;
    for (const YamlEntry& e : map.entries) {
      std::string key = e.key.text;
      for (const YamlNode& part : e.key.items) key += part.text + ", ";
      if (key == "<<") continue;
      const auto [first, is_new] = seen.emplace(key, e.key.at);
      if (!is_new) {
        Wrong(e.key.at, absl::StrCat("\"", key, "\" is given twice; the first is at line ",
                                     first->second.line, ", column ", first->second.column));
      }
    }
  }

  const std::string& text_;
  std::vector<Problem>* problems_;
  std::vector<size_t> line_begin_;
  std::vector<OpenNode> open_;
  std::optional<YamlNode> root_;
  int documents_ = 0;
};

// Tabs in indentation: yaml-cpp's own words for it are hard to read.
void FindTabs(const std::string& text, std::vector<Problem>* problems) {
  int line = 1;
  bool indentation = true;
  int column = 1;
  for (char c : text) {
    if (c == '\n') {
      ++line, column = 1, indentation = true;
      continue;
    }
    if (indentation && c == '\t' && problems->size() < kMaxProblems) {
      problems->push_back({{line, column}, "a tab in the indentation; use spaces"});
      indentation = false;
    }
    if (c != ' ') indentation = false;
    ++column;
  }
}

}  // namespace

const YamlEntry* YamlNode::Find(const std::string& key) const {
  for (const YamlEntry& e : entries) {
    if (e.key.is_scalar() && e.key.text == key) return &e;
  }
  return nullptr;
}

std::string Describe(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      return "nothing";
    case YamlNode::Kind::kScalar:
      return absl::StrCat("\"", node.text, "\"");
    case YamlNode::Kind::kList:
      return "a list";
    case YamlNode::Kind::kMap:
      return "a map";
  }
  return "?";
}

std::optional<YamlNode> ReadYaml(const std::string& given, std::vector<Problem>* problems) {
  if (given.size() > kMaxBytes) {
    problems->push_back({{}, "the file is larger than 1 MiB; a sweep file is a few dozen lines"});
    return std::nullopt;
  }
  if (const size_t byte = FindInvalidUtf8(given); byte != std::string::npos) {
    problems->push_back({PositionOfByte(given, byte), "not UTF-8; save the file as UTF-8"});
    return std::nullopt;
  }
  if (const size_t byte = given.find('\0'); byte != std::string::npos) {
    problems->push_back({PositionOfByte(given, byte), "a NUL byte; is this a text file?"});
    return std::nullopt;
  }
  const bool marked = given.compare(0, 3, "\xEF\xBB\xBF") == 0;  // a byte-order mark, harmless
  const std::string text = marked ? given.substr(3) : given;
  FindTabs(text, problems);
  if (!problems->empty()) return std::nullopt;

  Builder builder(text, problems);
  try {
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const Stop&) {
    return std::nullopt;
  } catch (const YAML::Exception& e) {
    problems->push_back({builder.At(e.mark), "not YAML: " + e.msg});
    return std::nullopt;
  }
  std::optional<YamlNode> root = builder.Take();
  if (!root) problems->push_back({{}, "the file is empty; see docs/sweep-file.md for an example"});
  return root;
}

}  // namespace plumb::sweeps
