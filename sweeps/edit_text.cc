#include "sweeps/edit_text.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "sweeps/include.h"
#include "sweeps/yaml_reader.h"

namespace plumb::sweeps {
namespace {

constexpr char kFork[] = "#plumb-fork ";
constexpr size_t kMaxFork = 8192;
// Keys of a sweep file; another first word of a path begins a field of the trial.
constexpr const char* kKeys[] = {
    "sweep",     "trial",  "include",  "axes",       "variants", "also_match", "tune",
    "stop",      "where",  "search",   "replicates", "aa",       "timing",     "report",
    "objective", "limits", "priority", "resources",  "stages",   "allow",      "calibration"};

bool IsKey(absl::string_view word) {
  return std::any_of(std::begin(kKeys), std::end(kKeys), [&](const char* k) { return word == k; });
}

std::string Scalar(const YamlNode& node, bool in_flow) {
  const bool plain = !node.quoted && !node.text.empty() &&
                     (!in_flow || node.text.find_first_of(",[]{}") == std::string::npos) &&
                     node.text.find('\n') == std::string::npos;
  if (plain) return node.text;
  std::string out = "\"";
  for (const char c : node.text) {
    if (c == '"' || c == '\\') out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string Flow(const YamlNode& node) {
  std::vector<std::string> parts;
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      return "null";
    case YamlNode::Kind::kScalar:
      return Scalar(node, true);
    case YamlNode::Kind::kList:
      for (const YamlNode& item : node.items) parts.push_back(Flow(item));
      return absl::StrCat("[", absl::StrJoin(parts, ", "), "]");
    case YamlNode::Kind::kMap:
      for (const YamlEntry& e : node.entries)
        parts.push_back(absl::StrCat(Flow(e.key), ": ", Flow(e.value)));
      return absl::StrCat("{", absl::StrJoin(parts, ", "), "}");
  }
  return "";
}

// "key: value" at the left edge; a map's keys on lines of their own.
std::string Entry(const YamlEntry& entry) {
  const std::string key = Flow(entry.key);
  if (entry.value.is_map() && !entry.value.entries.empty()) {
    std::string out = absl::StrCat(key, ":\n");
    for (const YamlEntry& e : entry.value.entries)
      absl::StrAppend(&out, "  ", Flow(e.key), ": ",
                      e.value.is_scalar() ? Scalar(e.value, false) : Flow(e.value), "\n");
    return out;
  }
  return absl::StrCat(
      key, ": ", entry.value.is_scalar() ? Scalar(entry.value, false) : Flow(entry.value), "\n");
}

YamlNode Word(const std::string& text) { return {.kind = YamlNode::Kind::kScalar, .text = text}; }

absl::StatusOr<YamlNode> Parsed(const std::string& value, const std::string& path) {
  std::vector<Problem> problems;
  std::optional<YamlNode> root = ReadYaml(absl::StrCat("v: ", value, "\n"), &problems);
  if (!problems.empty() || !root || !root->is_map() || root->entries.size() != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, "=", value, ": the value is no YAML",
                     problems.empty() ? "" : absl::StrCat(": ", problems.front().message)));
  }
  return std::move(root->entries.front().value);
}

YamlNode* FindIn(YamlNode* map, const std::string& key) {
  for (YamlEntry& e : map->entries) {
    if (e.key.is_scalar() && e.key.text == key) return &e.value;
  }
  return nullptr;
}

// The place of a dotted path below `map`, however much of it each key says; made where it is
// absent: `whole` as one key, else a map in a map.
YamlNode* PlaceOf(YamlNode* map, const std::string& path, bool whole) {
  if (map->kind == YamlNode::Kind::kNull) map->kind = YamlNode::Kind::kMap;
  if (!map->is_map()) return nullptr;
  for (size_t end = path.size(); end != std::string::npos && end > 0;
       end = path.rfind('.', end - 1)) {
    YamlNode* const found = FindIn(map, path.substr(0, end));
    if (found == nullptr) continue;
    if (end == path.size()) return found;
    return PlaceOf(found, path.substr(end + 1), whole);
  }
  const size_t dot = whole ? std::string::npos : path.find('.');
  map->entries.push_back({.key = Word(path.substr(0, dot)), .value = {}});
  YamlNode* const made = &map->entries.back().value;
  return dot == std::string::npos ? made : PlaceOf(made, path.substr(dot + 1), whole);
}

// The last part of an inlined text, which is the file itself, and what comes before it.
std::pair<std::string, std::string> Parts(const std::string& yaml) {
  const std::vector<SourcePart> parts = PartsOf(yaml);
  size_t begin = 0;
  for (int line = 1; line < parts.back().first_line && begin < yaml.size(); ++line)
    begin = yaml.find('\n', begin) + 1;
  return {yaml.substr(0, begin), yaml.substr(begin)};
}

// The text with the key's entry written anew, in its place or at the end.
std::string Replace(const std::string& text, const YamlEntry& entry) {
  std::vector<Problem> problems;
  const std::optional<YamlNode> root = ReadYaml(text, &problems);
  std::vector<std::string> lines = absl::StrSplit(text, '\n');
  if (!lines.empty() && lines.back().empty()) lines.pop_back();
  if (root && root->is_map()) {
    bool blocks = true;
    for (const YamlEntry& e : root->entries) blocks &= e.key.at.column == 1;
    if (!blocks) {  // {a: 1, b: 2}: there are no lines to keep
      std::string out;
      bool found = false;
      for (const YamlEntry& e : root->entries) {
        const bool same = e.key.text == entry.key.text;
        found |= same;
        out += Entry(same ? entry : e);
      }
      return found ? out : out + Entry(entry);
    }
    for (size_t i = 0; i < root->entries.size(); ++i) {
      const YamlEntry& e = root->entries[i];
      if (e.key.text != entry.key.text) continue;
      const auto from = static_cast<size_t>(e.key.at.line) - 1;
      size_t to = i + 1 < root->entries.size()
                      ? static_cast<size_t>(root->entries[i + 1].key.at.line) - 1
                      : lines.size();
      // What is written before the next key is the next key's.
      while (to > from + 1 &&
             (lines[to - 1].empty() || absl::StripLeadingAsciiWhitespace(lines[to - 1])[0] == '#'))
        --to;
      std::string out;
      for (size_t l = 0; l < from; ++l) absl::StrAppend(&out, lines[l], "\n");
      out += Entry(entry);
      for (size_t l = to; l < lines.size(); ++l) absl::StrAppend(&out, lines[l], "\n");
      return out;
    }
  }
  return absl::StrCat(absl::StrJoin(lines, "\n"), lines.empty() ? "" : "\n", Entry(entry));
}

std::string AxisOf(const YamlNode& axes, const std::string& path) {
  for (const YamlEntry& e : axes.entries) {
    if (!e.key.is_scalar()) continue;
    if (e.key.text == path || absl::EndsWith(path, absl::StrCat(".", e.key.text)) ||
        absl::EndsWith(e.key.text, absl::StrCat(".", path)))
      return e.key.text;
  }
  return "";
}

absl::Status EditAxis(const TextEdit& edit, YamlNode* axes) {
  if (axes->kind == YamlNode::Kind::kNull) axes->kind = YamlNode::Kind::kMap;
  const bool drop = edit.kind == TextEdit::Kind::kDropValues;
  const std::string option = drop ? "--drop " : "--axis ";
  const std::string key = AxisOf(*axes, edit.path);
  if (key.empty() && drop)
    return absl::InvalidArgumentError(absl::StrCat(option, edit.path, ": no axis of this sweep"));
  if (key.empty() && edit.base.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(option, edit.path,
                     ": no axis of this sweep; write it into the file, with the value that the "
                     "trials have now, and give that: --file new.yaml"));
  }
  if (key.empty()) {
    axes->entries.push_back({.key = Word(edit.path),
                             .value = {.kind = YamlNode::Kind::kList, .items = {Word(edit.base)}}});
  }
  YamlNode* const list = FindIn(axes, key.empty() ? edit.path : key);
  if (!list->is_list()) {
    return absl::InvalidArgumentError(
        absl::StrCat(option, edit.path, ": the axis is no list of values but ", Describe(*list),
                     "; write the new one into the file: --file new.yaml"));
  }
  for (const std::string& text : edit.values) {
    absl::StatusOr<YamlNode> value = Parsed(text, edit.path);
    if (!value.ok()) return value.status();
    const auto same = std::find_if(list->items.begin(), list->items.end(),
                                   [&](const YamlNode& n) { return Flow(n) == Flow(*value); });
    if (drop && same == list->items.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat(option, edit.path, "=", text, ": the axis has no such value"));
    }
    if (drop) {
      list->items.erase(same);
    } else if (same == list->items.end()) {
      list->items.push_back(*std::move(value));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> EditText(const std::string& yaml, const std::vector<TextEdit>& edits) {
  auto [before, own] = Parts(yaml);
  for (const TextEdit& edit : edits) {
    const bool is_axis = edit.kind != TextEdit::Kind::kSet;
    std::string key = is_axis ? "axes" : edit.path.substr(0, edit.path.find('.'));
    std::string rest = is_axis || key == edit.path ? "" : edit.path.substr(key.size() + 1);
    if (!is_axis && !IsKey(key)) {
      if (rest.empty()) {
        return absl::InvalidArgumentError(absl::StrCat(
            edit.path,
            ": neither a key of a sweep file (replicates, limits.trials, axes.…) nor a "
            "field of the trial (train.lr)"));
      }
      rest = edit.path;
      key = "trial";
    }
    std::vector<Problem> problems;
    const std::optional<YamlNode> tree = ReadTree(absl::StrCat(before, own), &problems);
    if (!problems.empty() || !tree || !tree->is_map()) {
      return absl::InvalidArgumentError(
          absl::StrCat("the sweep's text cannot be read",
                       problems.empty() ? "" : absl::StrCat(": ", problems.front().message)));
    }
    // report and objective are one key.
    const YamlEntry* there = tree->Find(key);
    if (there == nullptr && key == "objective") there = tree->Find(key = "report");
    if (there == nullptr && key == "report" && tree->Find("objective") != nullptr)
      there = tree->Find(key = "objective");
    YamlEntry entry{.key = Word(key)};
    if (there != nullptr) entry.value = there->value;
    if (is_axis) {
      if (absl::Status s = EditAxis(edit, &entry.value); !s.ok()) return s;
    } else {
      absl::StatusOr<YamlNode> value = Parsed(edit.value, edit.path);
      if (!value.ok()) return value.status();
      YamlNode* place = &entry.value;
      if (!rest.empty()) {
        if (key == "replicates" && place->is_scalar()) *place = {};
        place = PlaceOf(place, rest, /*whole=*/key == "axes" || key == "tune");
      } else if (key == "replicates" && place->is_map() && value->is_scalar()) {
        place = PlaceOf(place, "n", true);  // what it says of pairs stays
      }
      if (place == nullptr) {
        return absl::InvalidArgumentError(
            absl::StrCat(edit.path, ": ", key, ": is no map of keys in this text"));
      }
      *place = *std::move(value);
    }
    own = Replace(own, entry);
  }
  return absl::StrCat(before, own);
}

std::string SectionOf(const std::string& yaml, const std::string& key) {
  std::vector<Problem> ignored;
  const std::optional<YamlNode> tree = ReadTree(yaml, &ignored);
  const YamlEntry* entry = tree && tree->is_map() ? tree->Find(key) : nullptr;
  return entry == nullptr ? "" : Flow(entry->value);
}

absl::StatusOr<TextEdit> ParseSet(const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0 || equals + 1 == text.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--set ", text, ": expected field=value, as train.lr=0.01 or replicates=5"));
  }
  return TextEdit{.path = text.substr(0, equals), .value = text.substr(equals + 1)};
}

absl::StatusOr<TextEdit> ParseAxis(const std::string& text, TextEdit::Kind kind) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0 || equals + 1 == text.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(text, ": expected an axis and values, as model.n_layers=16,32"));
  }
  return TextEdit{.kind = kind,
                  .path = text.substr(0, equals),
                  .values = absl::StrSplit(text.substr(equals + 1), ',', absl::SkipWhitespace())};
}

std::string ForkOf(const std::string& yaml) {
  for (absl::string_view line : absl::StrSplit(yaml, '\n')) {
    if (!absl::StartsWith(line, kFork) || line.size() > kMaxFork) continue;
    const std::string text(line.substr(sizeof kFork - 1));
    if (nlohmann::json::parse(text, nullptr, false).is_object()) return text;
  }
  return "";
}

std::string WithFork(const std::string& yaml, const std::string& origin_json) {
  const auto [before, own] = Parts(yaml);
  std::string rest;
  for (absl::string_view line : absl::StrSplit(own, '\n')) {
    if (!absl::StartsWith(line, kFork)) absl::StrAppend(&rest, line, "\n");
  }
  if (absl::EndsWith(own, "\n")) rest.pop_back();
  return absl::StrCat(before, kFork, origin_json, "\n", rest);
}

}  // namespace plumb::sweeps
