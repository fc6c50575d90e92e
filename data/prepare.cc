#include "data/prepare.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "data/manifest_json.h"
#include "data/shard_writer.h"
#include "data/sources.h"
#include "data/split.h"
#include "data/tokenizer.h"
#include "data/utf8.h"
#include "trainer/spec/parse.h"
#include "trainer/spec/sha256.h"

namespace plumb::data {
namespace {

namespace fs = std::filesystem;

// Raised whenever equal input would give another result, so that nothing old is taken for new.
constexpr char kToolVersion[] = "1";

// A folder that is removed again unless it has been moved to its place.
class Building {
 public:
  explicit Building(const std::string& place) : place_(place) {
    const fs::path parent = fs::path(place).parent_path();
    std::error_code error;
    fs::create_directories(parent, error);
    dir_ = (parent / ".preparing-XXXXXX").string();
    if (error || mkdtemp(dir_.data()) == nullptr) {
      throw DataError(parent.string() + ": no folder can be made there (" +
                      (error ? error.message() : std::strerror(errno)) + "); choose another root");
    }
    fs::permissions(dir_, fs::perms::owner_all | fs::perms::group_read | fs::perms::group_exec |
                              fs::perms::others_read | fs::perms::others_exec);
  }
  Building(const Building&) = delete;
  Building& operator=(const Building&) = delete;
  ~Building() {
    std::error_code ignored;
    fs::remove_all(dir_, ignored);
    fs::remove(fs::path(place_).parent_path(), ignored);  // the corpus' folder, if it is empty
  }
  const std::string& dir() const { return dir_; }
  void Place() {
    ForceToDisk(dir_);
    // Exchanged, so that there is no moment without the corpus; the destructor removes the old one.
    const unsigned flags = fs::exists(place_) ? RENAME_EXCHANGE : RENAME_NOREPLACE;
    if (renameat2(AT_FDCWD, dir_.c_str(), AT_FDCWD, place_.c_str(), flags) != 0) {
      throw DataError(place_ + ": cannot be put in place: " + std::strerror(errno));
    }
    ForceToDisk(fs::path(place_).parent_path().string());
  }

 private:
  std::string place_, dir_;
};

void WriteFile(const std::string& path, const std::string& content) {
  std::ofstream out(path, std::ios::binary);
  out << content;
  out.close();
  if (!out) throw DataError(path + ": cannot be written (is the disk full?)");
  ForceToDisk(path);
}

Collection Read(const PrepareOptions& options) {
  std::string known;
  for (const PackageCorpus& corpus : PackageCorpora()) {
    if (options.text.empty() && corpus.name == options.corpus)
      return ReadPackages(corpus, options.system_root);
    if (!options.text.empty() && corpus.name == options.corpus) {
      throw DataError("the name " + corpus.name +
                      " belongs to the corpus from Debian packages; choose another");
    }
    known += (known.empty() ? "" : ", ") + corpus.name;
  }
  if (options.text.empty()) {
    throw DataError("unknown corpus \"" + options.corpus + "\"; " + known +
                    ", or your own text (--text)");
  }
  return ReadText(options.text);
}

// What decides the result, in a fixed order; documents by content.
std::string InputDigest(const PrepareOptions& options, const std::vector<Document>& in_order,
                        const std::string& model) {
  spec::Sha256 hash;
  std::ostringstream text;
  text << kToolVersion << '\n' << options.tokenizer << '\n' << options.split_seed << '\n';
  for (const double share : options.shares) text << share << '\n';
  text << model.size() << '\n' << model;
  hash.Update(text.str());
  for (const Document& d : in_order) {
    hash.Update(std::to_string(d.text.size()) + '\n');
    hash.Update(d.text);
  }
  return hash.HexDigest();
}

// The manifest of an earlier preparation of the same input, if its files are as it says.
bool IsPrepared(const std::string& dir, const std::string& input_digest, Manifest* manifest) {
  try {
    *manifest = Dataset::Open(dir).manifest();
    if (manifest->input_digest != input_digest) return false;
    for (Split s : kAllSplits) {
      const std::string bin = dir + "/" + Name(s) + ".bin";
      if (spec::Sha256HexOfFile(bin) != manifest->split(s).sha256) return false;
    }
    return true;
  } catch (const std::runtime_error&) {
    return false;
  }
}

struct Written {
  std::string digest;
  bool reversible = true;
};

Written WriteShards(const std::string& dir, const SplitDocuments& split, const Tokenizer& tokenizer,
                    const std::string& model, Manifest* manifest) {
  Written written;
  spec::Sha256 digest;
  digest.Update("tokenizer " + manifest->tokenizer + " " + spec::Sha256Hex(model) + "\n");
  for (Split s : kAllSplits) {
    ShardWriter writer(dir, s, tokenizer.vocab_size());
    for (const Document& d : split.documents[static_cast<int>(s)]) {
      const std::vector<int64_t> tokens = tokenizer.Encode(d.text);
      written.reversible = written.reversible && tokenizer.Decode(tokens) == d.text;
      writer.Add(tokenizer.separator(), tokens, static_cast<int64_t>(d.text.size()),
                 CountCodePoints(d.text));
    }
    SplitInfo& info = manifest->splits[static_cast<int>(s)];
    info = writer.Finish();
    digest.Update(std::string(Name(s)) + " " + info.sha256 + " " + writer.docs_sha256() + "\n");
  }
  written.digest = digest.HexDigest();
  return written;
}

void CheckOptions(const PrepareOptions& options) {
  double sum = 0;
  for (const double share : options.shares) {
    if (!(share > 0)) throw DataError("every split needs a share above 0 of the bytes");
    sum += share;
  }
  if (std::abs(sum - 1) > 1e-9) throw DataError("the shares of the splits must add up to 1");
}

}  // namespace

Manifest Prepare(const PrepareOptions& options) {
  CheckOptions(options);
  const auto step = [&](const std::string& what) {
    if (options.progress) options.progress(what);
  };
  Manifest manifest{.corpus = options.corpus, .tokenizer = options.tokenizer};
  const std::string root = options.root.empty() ? DefaultRoot() : options.root;
  const std::string place = DatasetDir(root, manifest.corpus, manifest.tokenizer);

  step("reading");
  Collection collection = Read(options);
  std::vector<Document> documents = InSeededOrder(std::move(collection.documents),
                                                  options.split_seed, &manifest.exact_duplicates);
  std::string model;
  manifest.input_digest = InputDigest(options, documents, model);
  if (Manifest earlier; IsPrepared(place, manifest.input_digest, &earlier)) return earlier;

  manifest.description = options.description.empty() ? collection.description : options.description;
  manifest.sources = collection.sources;
  manifest.unreadable = collection.unreadable;
  manifest.tool_version = kToolVersion;
  manifest.split_seed = options.split_seed;

  step("splitting");
  SplitDocuments split =
      SplitByDocument(std::move(documents), {options.split_seed, options.shares});
  manifest.notes = split.notes;

  step("tokenizing");
  const std::unique_ptr<Tokenizer> tokenizer = BytesTokenizer();
  manifest.vocab_size = tokenizer->vocab_size();
  Building building(place);
  const Written written = WriteShards(building.dir(), split, *tokenizer, model, &manifest);
  manifest.digest = written.digest;
  manifest.reversible = written.reversible;

  WriteFile(building.dir() + "/manifest.json", ManifestJson(manifest));
  building.Place();
  return manifest;
}

}  // namespace plumb::data
