#include "sweeps/stage_files.h"

#include <algorithm>
#include <exception>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "absl/strings/str_cat.h"
#include "sweeps/include.h"
#include "sweeps/positions.h"
#include "sweeps/problem.h"
#include "sweeps/read_stages.h"
#include "sweeps/sweep_file.h"
#include "sweeps/yaml_reader.h"
#include "trainer/spec/sha256.h"
#include "trainer/spec/stage_settings.h"

namespace plumb::sweeps {
namespace {

// The scalars that stand where a stage of this kind wants a file.
void AddFiles(const std::string& kind, const YamlNode& settings,
              std::vector<const YamlNode*>* out) {
  if (!settings.is_map()) return;
  for (const YamlEntry& setting : settings.entries) {
    const spec::StageSetting* s = spec::FindStageSetting(kind, setting.key.text);
    if (s == nullptr) continue;
    if (s->type == spec::SettingType::kFile && setting.value.is_scalar())
      out->push_back(&setting.value);
    if (s->type != spec::SettingType::kTasks || !setting.value.is_map()) continue;
    for (const YamlEntry& task : setting.value.entries) AddFiles("task", task.value, out);
  }
}

std::vector<const YamlNode*> Files(const YamlNode& stages) {
  std::vector<const YamlNode*> out;
  if (!stages.is_map()) return out;
  for (const YamlEntry& stage : stages.entries) {
    if (!stage.value.is_map()) continue;
    for (const YamlEntry& kind : stage.value.entries) {
      if (kind.key.is_scalar()) AddFiles(kind.key.text, kind.value, &out);
    }
  }
  return out;
}

// Of the file that a line was written in, from the folder of the file that was given.
std::filesystem::path FolderOf(const std::string& yaml, int line) {
  std::filesystem::path out;
  for (const SourcePart& part : PartsOf(yaml)) {
    if (part.first_line <= line) out = std::filesystem::path(part.name).parent_path();
  }
  return out;
}

// `problems`: of the text as it is.
absl::StatusOr<std::string> Pin(const std::string& yaml, const std::vector<const YamlNode*>& files,
                                std::vector<Problem> problems, const std::string& file_name,
                                const std::string& folder) {
  // Other errors are told first: afterwards columns would be those of the changed text.
  std::erase_if(problems, [&](const Problem& p) {
    return std::any_of(files.begin(), files.end(),
                       [&](const YamlNode* f) { return f->at == p.at; });
  });
  if (!problems.empty())
    return absl::InvalidArgumentError(FormatProblems(problems, file_name, yaml));
  struct Change {
    size_t begin, end;
    std::string text;
  };
  std::vector<Change> changes;
  for (const YamlNode* node : files) {
    const size_t begin = OffsetOf(yaml, node->at), end = EndOfScalar(yaml, begin, *node);
    if (end == std::string::npos || node->text.empty()) {
      problems.push_back({node->at, "write the path of the file on one line, in quotes"});
      continue;
    }
    std::error_code ignored;
    const std::filesystem::path base =
        std::filesystem::absolute(folder.empty() ? "." : folder, ignored);
    const std::string path =
        (base / FolderOf(yaml, node->at.line) / node->text).lexically_normal().string();
    try {
      if (!std::filesystem::is_regular_file(path))
        throw std::runtime_error("there is no file " + path);
      const nlohmann::json pinned[] = {path, spec::Sha256HexOfFile(path)};
      changes.push_back(
          {begin, end,
           absl::StrCat("{path: ", pinned[0].dump(), ", sha256: ", pinned[1].dump(), "}")});
    } catch (const std::exception& e) {
      problems.push_back(
          {node->at, absl::StrCat(e.what(), "; paths begin where the sweep file is")});
    }
  }
  if (!problems.empty()) return absl::NotFoundError(FormatProblems(problems, file_name, yaml));
  std::sort(changes.begin(), changes.end(),
            [](const Change& a, const Change& b) { return a.begin > b.begin; });
  std::string out = yaml;
  for (const Change& c : changes) out.replace(c.begin, c.end - c.begin, c.text);
  return out;
}

}  // namespace

absl::StatusOr<std::string> PinFiles(const std::string& yaml, const std::string& file_name,
                                     const std::string& folder) {
  std::vector<Problem> problems;
  const auto root = ReadTree(yaml, &problems);
  const YamlEntry* stages = root && root->is_map() ? root->Find("stages") : nullptr;
  if (stages == nullptr || !problems.empty()) return yaml;
  const std::vector<const YamlNode*> files = Files(stages->value);
  if (files.empty()) return yaml;
  (void)ReadSweepFile(yaml, &problems);
  return Pin(yaml, files, std::move(problems), file_name, folder);
}

absl::StatusOr<std::string> PinStageFiles(const std::string& yaml, const std::string& file_name,
                                          const std::string& folder) {
  std::vector<Problem> problems;
  const auto stage = ReadYaml(yaml, &problems);
  if (!stage || !problems.empty()) return yaml;
  const std::vector<const YamlNode*> files = Files(*stage);
  if (files.empty()) return yaml;
  (void)ReadLoneStage(yaml, &problems);
  return Pin(yaml, files, std::move(problems), file_name, folder);
}

}  // namespace plumb::sweeps
