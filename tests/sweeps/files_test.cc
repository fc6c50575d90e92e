// The corpora of tests/sweeps/files: good files plan, and bad ones say what is wrong in the words
// of files/bad/EXPECTED.txt. There, each file's heading says whether the schema refuses it too, or
// leaves it to the reader; the schema refuses no good file.
//
// After a change of words: PLUMB_WRITE_GOLDEN=1 sweeps_test --gtest_filter='Files.*', then read
// `git diff tests/sweeps/files` line by line before it is committed.
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>
#include <sstream>

#include "sweeps/schema.h"
#include "sweeps/yaml_reader.h"
#include "tests/sweeps/corpora.h"
#include "tests/sweeps/json_schema.h"

namespace plumb::sweeps {
namespace {

using nlohmann::json;

const std::string kFolder = std::string(PLUMB_SOURCE_DIR) + "/tests/sweeps/files/";

std::string Contents(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

std::map<std::string, std::string> FilesIn(const std::string& folder) {
  std::map<std::string, std::string> out;
  for (const auto& entry : std::filesystem::directory_iterator(kFolder + folder)) {
    if (entry.path().extension() == ".yaml")
      out[entry.path().filename().string()] = Contents(entry.path());
  }
  return out;
}

// As an editor sees it: YAML 1.2's core schema.
json AsJson(const YamlNode& node) {
  static const std::regex number("[-+]?([.][0-9]+|[0-9]+([.][0-9]*)?)([eE][-+]?[0-9]+)?");
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      return nullptr;
    case YamlNode::Kind::kScalar:
      if (!node.quoted && (node.text == "true" || node.text == "false")) return node.text == "true";
      if (!node.quoted && std::regex_match(node.text, number)) return std::stod(node.text);
      return node.text;
    case YamlNode::Kind::kList: {
      json out = json::array();
      for (const YamlNode& item : node.items) out.push_back(AsJson(item));
      return out;
    }
    case YamlNode::Kind::kMap:
      break;
  }
  json out = json::object();
  for (const YamlEntry& e : node.entries) {
    std::string key = e.key.text;
    for (const YamlNode& item : e.key.items) key += (key.empty() ? "[" : ", ") + item.text;
    out[key + (e.key.is_list() ? "]" : "")] = AsJson(e.value);
  }
  return out;
}

class Files : public testing::Test {
 protected:
  // nullopt for a text that is no tree.
  std::optional<bool> SchemaTakes(const std::string& text) {
    std::vector<Problem> problems;
    const auto tree = ReadYaml(text, &problems);
    if (!tree || !problems.empty()) return std::nullopt;
    return Accepts(schema_, schema_, AsJson(*tree));
  }
  const json schema_ = SweepSchema();
};

TEST_F(Files, GoodOnesPlanAndTheSchemaTakesThem) {
  const auto files = FilesIn("good");
  EXPECT_GE(files.size(), 60u);
  for (const auto& [name, text] : files) {
    const auto plan = PlanSweep(text, name, TestCorpora);
    EXPECT_TRUE(plan.ok()) << plan.status().message();
    if (!plan.ok()) continue;
    EXPECT_FALSE(plan->cells.empty()) << name;
    EXPECT_EQ(SchemaTakes(text), true) << name;
  }
}

TEST_F(Files, BadOnesSayWhatIsWrongInTheWordsExpected) {
  std::string all =
      "# What each bad file's errors say; how to write it anew: tests/sweeps/files_test.cc.\n";
  const auto files = FilesIn("bad");
  EXPECT_GE(files.size(), 150u);
  for (const auto& [name, text] : files) {
    const auto plan = PlanSweep(text, name, TestCorpora);
    EXPECT_FALSE(plan.ok()) << name;
    const auto schema = SchemaTakes(text);
    absl::StrAppend(&all, "\n== ", name, ": ",
                    !schema   ? "no tree"
                    : *schema ? "left to the reader"
                              : "refused by the schema too",
                    "\n", plan.ok() ? "" : std::string(plan.status().message()), "\n");
  }
  const std::string golden = kFolder + "bad/EXPECTED.txt";
  if (std::getenv("PLUMB_WRITE_GOLDEN") != nullptr) std::ofstream(golden) << all;
  std::istringstream got(all), want(Contents(golden));
  std::string a, b, file;
  int64_t differences = 0;
  for (int line = 1; differences < 10; ++line) {
    const bool more = static_cast<bool>(std::getline(got, a));
    const bool expected = static_cast<bool>(std::getline(want, b));
    if (!more && !expected) break;
    if (!more) a.clear();
    if (!expected) b.clear();
    if (a.rfind("== ", 0) == 0) file = a;
    EXPECT_EQ(a, b) << file << ", line " << line << " of EXPECTED.txt";
    differences += a != b;
  }
}

TEST_F(Files, EveryErrorHasItsPlaceAndACaret) {
  for (const auto& [name, text] : FilesIn("bad")) {
    const auto plan = PlanSweep(text, name, TestCorpora);
    if (plan.ok()) continue;
    std::istringstream lines{std::string(plan.status().message())};
    std::string message, shown, caret;
    const std::regex place(name + ":[0-9]+:[0-9]+: .+");
    while (std::getline(lines, message)) {
      ASSERT_TRUE(std::regex_match(message, place)) << message;
      ASSERT_TRUE(std::getline(lines, shown) && std::getline(lines, caret)) << message;
      EXPECT_EQ(caret.find_first_not_of(" \t"), caret.size() - 1) << message;
      EXPECT_EQ(caret.back(), '^') << message;
    }
  }
}

}  // namespace
}  // namespace plumb::sweeps
