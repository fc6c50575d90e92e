#include "sweeps/include.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace plumb::sweeps {
namespace {

constexpr char kInclude[] = "#plumb-include ";
constexpr char kFile[] = "#plumb-file";
constexpr size_t kMostFiles = 16;  // in one chain
constexpr size_t kMaxBytes = 1 << 20;

void Shift(int lines, YamlNode* node) {
  node->at.line += lines;
  for (YamlNode& item : node->items) Shift(lines, &item);
  for (YamlEntry& e : node->entries) Shift(lines, &e.key), Shift(lines, &e.value);
}

void Merge(YamlNode part, YamlNode* root) {
  for (YamlEntry& e : part.entries) {
    const bool objective = e.key.text == "objective" || e.key.text == "report";
    const auto same = std::find_if(root->entries.begin(), root->entries.end(), [&](const auto& r) {
      return r.key.text == e.key.text ||
             (objective && (r.key.text == "objective" || r.key.text == "report"));
    });
    if (same == root->entries.end()) {
      root->entries.push_back(std::move(e));
    } else if (e.key.text == "trial" && e.value.is_map() && same->value.is_map()) {
      for (YamlEntry& inner : e.value.entries) same->value.entries.push_back(std::move(inner));
      same->key = std::move(e.key);
    } else {
      *same = std::move(e);
    }
  }
}

class Inliner {
 public:
  absl::StatusOr<std::string> Run(const std::string& text, const std::string& shown,
                                  const std::filesystem::path& folder,
                                  const std::filesystem::path& inner) {
    std::vector<Problem> problems;
    const auto root = ReadYaml(text, &problems);
    const YamlEntry* include = root && root->is_map() ? root->Find("include") : nullptr;
    if (include == nullptr || !problems.empty()) return text;
    const auto fail = [&](absl::StatusCode code, Position at, std::string message) {
      return absl::Status(code, FormatProblems({{at, std::move(message)}}, shown, text));
    };
    const std::vector<YamlNode> one = {include->value};
    const auto& names = include->value.is_list() ? include->value.items : one;
    std::string out;
    for (const YamlNode& name : names) {
      if (!name.is_scalar() || name.text.empty() ||
          name.text.find_first_of("\n\r") != std::string::npos) {
        return fail(absl::StatusCode::kInvalidArgument, name.at,
                    absl::StrCat("expected the path of a sweep file, as include: base.yaml; got ",
                                 Describe(name)));
      }
      const std::filesystem::path path = (folder / name.text).lexically_normal();
      if (std::find(open_.begin(), open_.end(), path) != open_.end() || open_.size() > kMostFiles) {
        return fail(absl::StatusCode::kInvalidArgument, name.at,
                    absl::StrCat(name.text, " includes itself, over ", open_.size(), " files"));
      }
      std::ifstream in(path, std::ios::binary);
      std::ostringstream content;
      if (!std::filesystem::is_regular_file(path) || !in) {
        return fail(absl::StatusCode::kNotFound, name.at,
                    absl::StrCat("there is no file ", name.text,
                                 " to include; paths begin where the file is that names them"));
      }
      content << in.rdbuf();
      open_.push_back(path);
      const std::filesystem::path from = (inner / name.text).lexically_normal();
      auto text_of = Run(content.str(), from.string(), path.parent_path(), from.parent_path());
      open_.pop_back();
      if (!text_of.ok()) return text_of;
      // A file that includes others comes with its own lines already.
      absl::StrAppend(
          &out,
          absl::StartsWith(*text_of, kInclude) ? "" : absl::StrCat(kInclude, from.string(), "\n"),
          *text_of, absl::EndsWith(*text_of, "\n") ? "" : "\n");
      if (out.size() > kMaxBytes)
        return fail(absl::StatusCode::kInvalidArgument, name.at, "more than 1 MiB is included");
    }
    return absl::StrCat(
        out,
        inner.empty() && open_.size() == 1 ? std::string(kFile) : absl::StrCat(kInclude, shown),
        "\n", text);
  }

  void Open(std::filesystem::path path) { open_.push_back(std::move(path)); }

 private:
  std::vector<std::filesystem::path> open_;
};

}  // namespace

absl::StatusOr<std::string> InlineIncludes(const std::string& yaml, const std::string& file_name,
                                           const std::string& folder) {
  Inliner inliner;
  const std::filesystem::path base = folder.empty() ? "." : folder;
  inliner.Open((base / std::filesystem::path(file_name).filename()).lexically_normal());
  return inliner.Run(yaml, file_name, base, "");
}

std::vector<SourcePart> PartsOf(const std::string& text) {
  std::vector<SourcePart> out;
  if (!absl::StartsWith(text, kInclude)) return {{}};
  int line = 1;
  for (size_t begin = 0; begin < text.size(); ++line) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string content = text.substr(begin, std::min<size_t>(end - begin, 4096));
    if (absl::StartsWith(content, kInclude)) {
      out.push_back({line + 1, content.substr(sizeof kInclude - 1)});
    } else if (content == kFile) {
      out.push_back({line + 1, ""});
    }
    begin = end + 1;
  }
  return out;
}

std::optional<YamlNode> ReadTree(const std::string& text, std::vector<Problem>* problems) {
  const std::vector<SourcePart> parts = PartsOf(text);
  if (parts.size() == 1) return ReadYaml(text, problems);
  std::optional<YamlNode> out;
  std::istringstream lines(text);
  std::string line, part;
  int number = 1;
  for (size_t p = 0; p < parts.size(); ++p) {
    part.clear();
    const int next = p + 1 < parts.size() ? parts[p + 1].first_line - 1 : 1 << 30;
    for (; number < next && std::getline(lines, line); ++number) {
      if (number >= parts[p].first_line) absl::StrAppend(&part, line, "\n");
    }
    std::vector<Problem> found;
    auto tree = ReadYaml(part, &found);
    for (Problem& problem : found) {
      problem.at.line += parts[p].first_line - 1;
      problems->push_back(std::move(problem));
    }
    if (!tree) continue;
    Shift(parts[p].first_line - 1, &*tree);
    if (!out) {
      out = std::move(tree);
    } else if (tree->is_map() && out->is_map()) {
      Merge(std::move(*tree), &*out);
    } else {
      problems->push_back({tree->at, "what is included, and what includes it, are maps of keys"});
    }
  }
  return out;
}

}  // namespace plumb::sweeps
