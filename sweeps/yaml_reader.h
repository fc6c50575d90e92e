// A strict subset of YAML, as a tree that knows where each key and value stands.
//
// Refused, each with a hint: a key given twice, anchors, aliases, merge keys, tags, tabs in
// indentation, a second document, nesting deeper than 64, more than 1 MiB, text that is not UTF-8,
// and plain scalars that YAML versions read differently (yes, no, on, off, True, 017).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "sweeps/problem.h"

namespace plumb::sweeps {

struct YamlEntry;

struct YamlNode {
  enum class Kind { kNull, kScalar, kList, kMap };
  Kind kind = Kind::kNull;
  Position at;
  std::string text;                // kScalar
  bool quoted = false;             // kScalar: a quoted scalar is a string whatever it looks like
  std::vector<YamlNode> items;     // kList
  std::vector<YamlEntry> entries;  // kMap, in the order of the file

  bool is_map() const { return kind == Kind::kMap; }
  bool is_list() const { return kind == Kind::kList; }
  bool is_scalar() const { return kind == Kind::kScalar; }
  const YamlEntry* Find(const std::string& key) const;
};

struct YamlEntry {
  YamlNode key;  // a scalar, or a list of scalars
  YamlNode value;
};

// "a list", "a map", "nothing", "\"text\"": for messages.
std::string Describe(const YamlNode& node);

// Appends what is wrong to `problems`. nullopt when the text could not be read as one tree at all.
std::optional<YamlNode> ReadYaml(const std::string& text, std::vector<Problem>* problems);

}  // namespace plumb::sweeps
