// A prepared corpus on disk: token shards by split, memory-mapped, with their documents.
// Torch-free.
//
//   <root>/<corpus>/<tokenizer, ':' as '-'>/manifest.json
//                                          {train,tune,val,test}.bin    tokens, llm.c's layout
//                                          (below) {train,tune,val,test}.docs   documents
//                                          tokenizer.model, tokenizer.json   SentencePiece, BPE
//
// .bin: 256 int32 (little-endian): [0] 20240520 (uint16 tokens, version 1) or 20240801 (uint32,
// version 7),
//       [1] version, [2] token count; then the tokens. A file without that magic is read as
//       nanoGPT's headerless uint16.
// A corpus of several parts has each split's documents part by part, the parts by name;
// manifest.json says how many are whose.
// .docs: uint64 n, then n records of two uint64: first token, UTF-8 bytes. Documents are contiguous
// and in order; each
//       begins with one separator token (0 for "bytes", the tokenizer's bos otherwise), which is
//       never scored.
#pragma once

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace plumb::data {

// What every function here throws: names the file and the fix.
class DataError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

enum class Split { kTrain, kTune, kVal, kTest };
inline constexpr Split kAllSplits[] = {Split::kTrain, Split::kTune, Split::kVal, Split::kTest};
const char* Name(Split split);  // "train", …

// One split, or one part's share of it, mapped read-only. Safe to read from several threads.
class Shard {
 public:
  static Shard Open(
      const std::string& bin_path);  // the .docs beside it is optional: without it, one document
  Shard(Shard&&) noexcept;
  Shard& operator=(Shard&&) noexcept;
  ~Shard();

  int64_t tokens() const;
  int64_t Token(int64_t i) const;
  void Copy(int64_t begin, int64_t count,
            int64_t* out) const;  // throws DataError outside [0, tokens())
  int64_t documents() const;
  int64_t DocumentBegin(int64_t document)
      const;  // first token (its separator); DocumentBegin(documents()) == tokens()
  int64_t DocumentBytes(int64_t document) const;  // UTF-8 bytes of its text; 0 where unknown
  int64_t DocumentOf(int64_t token) const;        // by binary search

  // `count` documents from `first` on as a shard of their own, over the same memory.
  Shard Documents(int64_t first, int64_t count) const;

 private:
  struct Map;
  explicit Shard(std::shared_ptr<const Map> map);
  std::shared_ptr<const Map> map_;
  int64_t first_document_ = 0, documents_ = 0, first_token_ = 0, tokens_ = 0;
};

struct SplitInfo {
  int64_t documents = 0, bytes = 0, characters = 0, tokens = 0;
  std::string sha256;  // of the .bin file
};

// One of the texts that a corpus mixes (Japanese beside English): documents of each split.
struct Part {
  std::string name;
  SplitInfo splits[4];  // by Split; without sha256
  const SplitInfo& split(Split s) const { return splits[static_cast<int>(s)]; }
};

struct Source {
  std::string name, version;  // a Debian package and its version, or a path as it was given
};

struct Manifest {
  std::string corpus, tokenizer, description;
  std::string
      digest;  // SHA-256 over what decides results: tokenizer, and each split's .bin and .docs
  int64_t vocab_size = 0;
  bool reversible = false;  // decode(encode(x)) == x held for every document; without it there are
                            // no bits per byte
  SplitInfo splits[4];      // by Split
  std::vector<Part> parts;  // by name, two or more; empty: all is one part
  int64_t near_duplicates = 0;  // documents dropped as near-duplicates of an earlier one
  double overlap_13gram[4] =
      {};  // share of the split's documents with a 13-gram that train has too; [train] is 0
  double compressor_bits_per_byte = 0;  // xz -9e on the test text alone
  double compressor_bits_per_byte_primed =
      0;  // (xz(train tail + test) - xz(train tail)) on the test text
  // How it was made; none of it enters `digest`.
  std::string input_digest;  // SHA-256 over the options and the documents read: equal input is not
                             // prepared again
  std::string tool_version;
  uint64_t split_seed = 0;
  int64_t exact_duplicates = 0;  // documents dropped as equal to an earlier one
  int64_t unreadable = 0;        // files of a package skipped: not UTF-8, or with a NUL
  std::vector<Source> sources;
  std::vector<std::string> notes;  // what a reader of results should know
  const SplitInfo& split(Split s) const { return splits[static_cast<int>(s)]; }
};

// The parts, at least one: "all" where the corpus has none of its own.
std::vector<Part> PartsOf(const Manifest& manifest);

class Dataset {
 public:
  static Dataset Open(const std::string& dir);  // a folder with manifest.json
  const Manifest& manifest() const { return manifest_; }
  const Shard& split(Split s) const { return shards_[static_cast<int>(s)]; }  // of all parts
  const std::vector<Part>& parts() const { return parts_; }
  const Shard& part(size_t i, Split s) const {  // parts()[i]'s share of the split
    return part_shards_[4 * i + static_cast<size_t>(s)];
  }

 private:
  Manifest manifest_;
  std::vector<Part> parts_;
  std::vector<Shard> shards_, part_shards_;
};

Manifest ReadManifest(const std::string& dir);

// The folder of a prepared corpus under `root`.
std::string DatasetDir(const std::string& root, const std::string& corpus,
                       const std::string& tokenizer);

// $PLUMB_DATA, else $XDG_DATA_HOME/plumb/data, else ~/.local/share/plumb/data.
std::string DefaultRoot();

// Manifests of all prepared corpora under `root`, by name.
std::vector<Manifest> ListDatasets(const std::string& root);

}  // namespace plumb::data
