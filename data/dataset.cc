#include "data/dataset.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <tuple>

#include "data/manifest_json.h"

namespace plumb::data {

namespace fs = std::filesystem;

const char* Name(Split split) {
  switch (split) {
    case Split::kTrain:
      return "train";
    case Split::kTune:
      return "tune";
    case Split::kVal:
      return "val";
    case Split::kTest:
      return "test";
  }
  throw DataError("no such split");
}

Manifest ReadManifest(const std::string& dir) {
  const std::string path = (fs::path(dir) / "manifest.json").string();
  std::ifstream in(path, std::ios::binary);
  if (!in) {
    throw DataError(path +
                    ": not found; prepare the corpus first (plumb data prepare), or set PLUMB_DATA "
                    "to its root");
  }
  std::ostringstream text;
  text << in.rdbuf();
  return ParseManifest(text.str(), path);
}

std::vector<Part> PartsOf(const Manifest& manifest) {
  if (!manifest.parts.empty()) return manifest.parts;
  Part all{.name = "all"};
  std::copy(std::begin(manifest.splits), std::end(manifest.splits), all.splits);
  return {all};
}

Dataset Dataset::Open(const std::string& dir) {
  Dataset dataset;
  dataset.manifest_ = ReadManifest(dir);
  for (Split s : kAllSplits) {
    const std::string path = (fs::path(dir) / (std::string(Name(s)) + ".bin")).string();
    dataset.shards_.push_back(Shard::Open(path));
    const SplitInfo& info = dataset.manifest_.split(s);
    const Shard& shard = dataset.shards_.back();
    if (shard.tokens() != info.tokens || shard.documents() != info.documents) {
      throw DataError(path + ": " + std::to_string(shard.tokens()) + " tokens in " +
                      std::to_string(shard.documents()) + " documents, but manifest.json says " +
                      std::to_string(info.tokens) + " in " + std::to_string(info.documents) +
                      "; prepare the corpus again (plumb data prepare)");
    }
  }
  dataset.parts_ = PartsOf(dataset.manifest_);
  int64_t first[4] = {};
  for (const Part& part : dataset.parts_) {
    for (Split s : kAllSplits) {
      const Shard& shard = dataset.split(s);
      int64_t& next = first[static_cast<int>(s)];
      const SplitInfo& info = part.split(s);
      const bool last = &part == &dataset.parts_.back();
      if ((info.documents < 1 && dataset.parts_.size() > 1) ||
          next + info.documents > shard.documents() ||
          shard.DocumentBegin(next + info.documents) - shard.DocumentBegin(next) != info.tokens ||
          (last && next + info.documents != shard.documents())) {
        throw DataError(dir + ": part " + part.name + " has other documents in " + Name(s) +
                        " than manifest.json says; prepare the corpus again (plumb data prepare)");
      }
      dataset.part_shards_.push_back(shard.Documents(next, info.documents));
      next += info.documents;
    }
  }
  return dataset;
}

std::string DatasetDir(const std::string& root, const std::string& corpus,
                       const std::string& tokenizer) {
  // These come from specs that anyone may submit: a name must stay one folder below the root.
  for (const std::string& part : {corpus, tokenizer}) {
    if (part.empty() || part.front() == '.' || part.find('/') != std::string::npos ||
        part.find('\0') != std::string::npos) {
      throw DataError(
          "corpus and tokenizer must be plain names without '/' or a leading '.', not '" + part +
          "'");
    }
  }
  std::string folder = tokenizer;
  std::replace(folder.begin(), folder.end(), ':', '-');
  return (fs::path(root) / corpus / folder).string();
}

std::string DefaultRoot() {
  const auto set = [](const char* name) -> std::string {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
  };
  if (const std::string root = set("PLUMB_DATA"); !root.empty()) return root;
  if (const std::string base = set("XDG_DATA_HOME"); !base.empty()) return base + "/plumb/data";
  const std::string home = set("HOME");
  if (home.empty()) throw DataError("where the data lies is unknown: set PLUMB_DATA (or HOME)");
  return home + "/.local/share/plumb/data";
}

std::vector<Manifest> ListDatasets(const std::string& root) {
  std::vector<Manifest> found;
  std::error_code error;
  for (const auto& corpus : fs::directory_iterator(root, error)) {
    for (const auto& folder : fs::directory_iterator(corpus.path(), error)) {
      // A leading dot marks a preparation under way.
      if (folder.path().filename().string().front() == '.') continue;
      if (fs::exists(folder.path() / "manifest.json", error))
        found.push_back(ReadManifest(folder.path().string()));
    }
  }
  std::sort(found.begin(), found.end(), [](const Manifest& a, const Manifest& b) {
    return std::tie(a.corpus, a.tokenizer) < std::tie(b.corpus, b.tokenizer);
  });
  return found;
}

}  // namespace plumb::data
