#include "data/prepare.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "data/building.h"
#include "data/compressor.h"
#include "data/manifest_json.h"
#include "data/nanogpt.h"
#include "data/near_duplicates.h"
#include "data/overlap.h"
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
std::string InputDigest(const PrepareOptions& options, const std::string& tokenizer,
                        const std::vector<Document>& in_order, const std::string& model) {
  spec::Sha256 hash;
  std::ostringstream text;
  text << kToolVersion << '\n' << tokenizer << '\n' << options.split_seed << '\n';
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

// Collects the shards' digests into the manifest's.
class ResultDigest {
 public:
  ResultDigest(const std::string& tokenizer, const std::string& model) {
    hash_.Update("tokenizer " + tokenizer + " " + spec::Sha256Hex(model) + "\n");
  }
  SplitInfo Finish(Split s, ShardWriter* writer) {
    const SplitInfo info = writer->Finish();
    hash_.Update(std::string(Name(s)) + " " + info.sha256 + " " + writer->docs_sha256() + "\n");
    return info;
  }
  std::string HexDigest() { return hash_.HexDigest(); }

 private:
  spec::Sha256 hash_;
};

// Fills the manifest's splits, digest and `reversible`.
void WriteShards(const std::string& dir, const SplitDocuments& split, const Tokenizer& tokenizer,
                 const std::string& model, Manifest* manifest) {
  ResultDigest digest(manifest->tokenizer, model);
  manifest->reversible = true;
  for (Split s : kAllSplits) {
    ShardWriter writer(dir, s, tokenizer.vocab_size());
    for (const Document& d : split.documents[static_cast<int>(s)]) {
      const std::vector<int64_t> tokens = tokenizer.Encode(d.text);
      if (manifest->reversible && tokenizer.Decode(tokens) != d.text) manifest->reversible = false;
      writer.Add(tokenizer.separator(), tokens, static_cast<int64_t>(d.text.size()),
                 CountCodePoints(d.text));
    }
    manifest->splits[static_cast<int>(s)] = digest.Finish(s, &writer);
  }
  manifest->digest = digest.HexDigest();
}

// Ids made elsewhere: no text, so no documents, no comparison of splits and no bits per byte.
Manifest ImportNanoGpt(const PrepareOptions& options, const std::string& root) {
  const NanoGptIds ids = ReadNanoGpt(options.nanogpt, options.vocab_size);
  Manifest manifest{
      .corpus = options.corpus,
      .tokenizer = "ids:" + std::to_string(ids.vocab_size),
      .description = options.description,
      .vocab_size = ids.vocab_size,
      .tool_version = kToolVersion,
      .sources = {{options.nanogpt, ""}},
      .notes = {
          "imported token ids: no bits per byte; tune, val and test are the three parts of val.bin "
          "in order, and the first token of each split is not scored"}};
  Building building(DatasetDir(root, manifest.corpus, manifest.tokenizer));
  ResultDigest digest(manifest.tokenizer, "");
  for (Split s : kAllSplits) {
    const std::vector<int64_t>& part = ids.splits[static_cast<int>(s)];
    ShardWriter writer(building.dir(), s, ids.vocab_size);
    writer.Add(part.front(), {part.begin() + 1, part.end()}, 0, 0);
    manifest.splits[static_cast<int>(s)] = digest.Finish(s, &writer);
  }
  manifest.digest = digest.HexDigest();
  building.Write("manifest.json", ManifestJson(manifest));
  building.Place();
  return manifest;
}

constexpr size_t kPrimerBytes = size_t{4} << 20;

std::string Joined(const std::vector<Document>& documents) {
  std::string text;
  for (const Document& d : documents) text += d.text;
  return text;
}

// The last whole documents that fit into `bytes`.
std::string Tail(const std::vector<Document>& documents, size_t bytes) {
  auto first = documents.end();
  for (size_t sum = 0; first != documents.begin(); --first) {
    sum += std::prev(first)->text.size();
    if (sum > bytes) break;
  }
  return Joined({first, documents.end()});
}

// The name under which the corpus is prepared, and the model of a tokenizer that the user brings
// (else "").
std::string ResolveTokenizer(const std::string& tokenizer, std::string* model) {
  const bool imported = tokenizer.starts_with("ids:");
  if (!imported && spec::TokenizerVocabSize(tokenizer).has_value()) return tokenizer;
  std::error_code error;
  if (!fs::is_regular_file(tokenizer, error)) {
    throw DataError(
        "unknown tokenizer \"" + tokenizer +
        "\"; bytes, sentencepiece:<vocabulary, 300 or more>, or the path of a SentencePiece model");
  }
  std::ifstream in(tokenizer, std::ios::binary);
  std::ostringstream bytes;
  bytes << in.rdbuf();
  *model = bytes.str();
  const std::string name =
      "sentencepiece:" + std::to_string(SentencePieceTokenizer(*model, tokenizer)->vocab_size());
  if (!spec::TokenizerVocabSize(name)) throw DataError(tokenizer + ": has fewer than 300 pieces");
  return name;
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
  const std::string root = options.root.empty() ? DefaultRoot() : options.root;
  if (!options.nanogpt.empty()) {
    if (!options.text.empty()) throw DataError("give text or a nanoGPT folder, not both");
    step("importing");
    return ImportNanoGpt(options, root);
  }
  std::string model;  // of a tokenizer that the user brings, later of any but bytes
  Manifest manifest{.corpus = options.corpus,
                    .tokenizer = ResolveTokenizer(options.tokenizer, &model)};
  const std::string place = DatasetDir(root, manifest.corpus, manifest.tokenizer);

  step("reading");
  Collection collection = Read(options);
  std::vector<Document> documents = InSeededOrder(std::move(collection.documents),
                                                  options.split_seed, &manifest.exact_duplicates);
  manifest.input_digest = InputDigest(options, manifest.tokenizer, documents, model);
  if (Manifest earlier; IsPrepared(place, manifest.input_digest, &earlier)) return earlier;

  manifest.description = options.description.empty() ? collection.description : options.description;
  manifest.sources = collection.sources;
  if (!model.empty()) {
    manifest.sources.push_back({options.tokenizer, "sha256:" + spec::Sha256Hex(model)});
    manifest.notes.push_back(
        "the tokenizer was brought, not trained here: it may have seen any split");
  }
  manifest.unreadable = collection.unreadable;
  manifest.tool_version = kToolVersion;
  manifest.split_seed = options.split_seed;

  step("dropping near-duplicates");
  documents = WithoutNearDuplicates(std::move(documents), &manifest.near_duplicates);
  step("splitting");
  SplitDocuments split =
      SplitByDocument(std::move(documents), {options.split_seed, options.shares});
  manifest.notes.insert(manifest.notes.end(), split.notes.begin(), split.notes.end());

  Building building(place);
  std::unique_ptr<Tokenizer> tokenizer;
  if (manifest.tokenizer == "bytes") {
    tokenizer = BytesTokenizer();
  } else {
    if (model.empty()) {
      step("training the tokenizer");
      std::vector<std::string_view> train;
      for (const Document& d : split.documents[static_cast<int>(Split::kTrain)])
        train.push_back(d.text);
      model = TrainSentencePiece(train, *spec::TokenizerVocabSize(manifest.tokenizer));
    }
    tokenizer = SentencePieceTokenizer(model, manifest.tokenizer);
    building.Write("tokenizer.model", model);
  }
  manifest.vocab_size = tokenizer->vocab_size();

  step("tokenizing");
  WriteShards(building.dir(), split, *tokenizer, model, &manifest);
  if (!manifest.reversible) {
    manifest.notes.push_back("decoding does not give every document back: no bits per byte");
  }
  step("comparing the splits");
  const std::array<double, 4> overlap = Overlap13(split);
  std::copy(overlap.begin(), overlap.end(), manifest.overlap_13gram);
  step("compressing the test text");
  const std::string test = Joined(split.documents[static_cast<int>(Split::kTest)]);
  const std::string primer = Tail(split.documents[static_cast<int>(Split::kTrain)], kPrimerBytes);
  manifest.compressor_bits_per_byte = CompressorBitsPerByte("", test);
  manifest.compressor_bits_per_byte_primed = CompressorBitsPerByte(primer, test);

  building.Write("manifest.json", ManifestJson(manifest));
  building.Place();
  return manifest;
}

}  // namespace plumb::data
