#include "data/prepare.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "data/building.h"
#include "data/byte_pair_tokenizer.h"
#include "data/compressor.h"
#include "data/content_digest.h"
#include "data/disjoint.h"
#include "data/hf_tokenizer.h"
#include "data/manifest_json.h"
#include "data/nanogpt.h"
#include "data/near_duplicates.h"
#include "data/nfc.h"
#include "data/overlap.h"
#include "data/sentencepiece_model.h"
#include "data/shard_writer.h"
#include "data/sources.h"
#include "data/split.h"
#include "data/tokenizer.h"
#include "data/utf8.h"
#include "trainer/spec/mixture.h"
#include "trainer/spec/parse.h"
#include "trainer/spec/sha256.h"

namespace plumb::data {
namespace {

namespace fs = std::filesystem;

// Raised whenever equal input would give another result, so that nothing old is taken for new.
constexpr char kToolVersion[] = "1";

constexpr char kDisjoint[] = "-disjoint";

const PackageCorpus* FindPackages(const std::string& name) {
  for (const PackageCorpus& corpus : PackageCorpora()) {
    if (corpus.name == name || corpus.name + kDisjoint == name) return &corpus;
  }
  return nullptr;
}

Collection Read(const PrepareOptions& options) {
  const PackageCorpus* packages = FindPackages(options.corpus);
  if (packages != nullptr && options.text.empty())
    return ReadPackages(*packages, options.system_root);
  if (packages != nullptr) {
    throw DataError("the name " + options.corpus +
                    " belongs to the corpus from Debian packages; choose another");
  }
  std::string known;
  for (const PackageCorpus& corpus : PackageCorpora())
    known += (known.empty() ? "" : ", ") + corpus.name;
  if (options.text.empty()) {
    throw DataError("unknown corpus \"" + options.corpus + "\"; " + known +
                    ", or your own text (--text)");
  }
  return ReadText(options.text);
}

// All parts' documents, each marked with its part; `names` receives the parts, sorted.
Collection ReadParts(const PrepareOptions& options, std::vector<std::string>* names) {
  if (!options.text.empty() || !options.nanogpt.empty())
    throw DataError("give parts, or text, or a nanoGPT folder; only one of them");
  if (FindPackages(options.corpus) != nullptr) {
    throw DataError("the name " + options.corpus +
                    " belongs to the corpus from Debian packages; choose another");
  }
  std::set<std::string> sorted;
  for (const PartSource& p : options.parts) {
    if (!spec::IsPartName(p.part)) {
      throw DataError("\"" + p.part +
                      "\" is no name of a part: 1 to 32 lower-case letters, digits, '_' and '-'");
    }
    sorted.insert(p.part);
  }
  if (sorted.size() < 2 || sorted.size() > spec::kMaxParts) {
    throw DataError("a mixed corpus has 2 to " + std::to_string(spec::kMaxParts) +
                    " parts; text of one kind needs no part (--text)");
  }
  names->assign(sorted.begin(), sorted.end());
  Collection all;
  for (size_t i = 0; i < names->size(); ++i) {
    const std::string& name = (*names)[i];
    for (const PartSource& p : options.parts) {
      if (p.part != name) continue;
      const PackageCorpus* packages = FindPackages(p.source);
      Collection one = packages != nullptr && packages->name == p.source
                           ? ReadPackages(*packages, options.system_root)
                           : ReadText({p.source});
      for (Document& d : one.documents) {
        d.part = static_cast<int>(i);
        all.documents.push_back(std::move(d));
      }
      for (Source& s : one.sources) all.sources.push_back({name + ": " + s.name, s.version});
      all.unreadable += one.unreadable;
    }
    all.description += (i > 0 ? ", " : "Parts: ") + name;
  }
  return all;
}

// What decides the result, in a fixed order; documents by content.
std::string InputDigest(const PrepareOptions& options, const std::string& tokenizer,
                        const std::vector<Document>& in_order, const std::string& model,
                        const std::vector<std::string>& parts) {
  spec::Sha256 hash;
  std::ostringstream text;
  text << kToolVersion << '\n' << tokenizer << '\n' << options.split_seed << '\n';
  if (options.disjoint) text << "disjoint\n";
  for (const double share : options.shares) text << share << '\n';
  text << model.size() << '\n' << model;
  hash.Update(text.str());
  for (const Document& d : in_order) {
    if (!parts.empty()) hash.Update(parts[d.part] + '\n');
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

SplitInfo FinishInto(ContentDigest* digest, Split s, ShardWriter* writer) {
  const SplitInfo info = writer->Finish();
  digest->Add(s, info.sha256, writer->docs_sha256());
  return info;
}

// Fills the manifest's splits, its parts' where it has some, digest and `reversible`.
void WriteShards(const std::string& dir, const SplitDocuments& split, const Tokenizer& tokenizer,
                 const std::string& model, Manifest* manifest) {
  ContentDigest digest(manifest->tokenizer, model);
  manifest->reversible = true;
  for (Split s : kAllSplits) {
    ShardWriter writer(dir, s, tokenizer.vocab_size());
    for (const Document& d : split.documents[static_cast<int>(s)]) {
      const std::vector<int64_t> tokens = tokenizer.Encode(d.text);
      if (manifest->reversible && tokenizer.Decode(tokens) != d.text) manifest->reversible = false;
      const auto bytes = static_cast<int64_t>(d.text.size());
      const int64_t characters = CountCodePoints(d.text);
      writer.Add(tokenizer.separator(), tokens, bytes, characters);
      if (manifest->parts.empty()) continue;
      SplitInfo& part = manifest->parts[d.part].splits[static_cast<int>(s)];
      part.documents += 1, part.bytes += bytes, part.characters += characters;
      part.tokens += 1 + static_cast<int64_t>(tokens.size());
    }
    manifest->splits[static_cast<int>(s)] = FinishInto(&digest, s, &writer);
  }
  for (const Part& part : manifest->parts) digest.Add(part);
  manifest->digest = digest.HexDigest();
}

constexpr size_t kPrimerBytes = size_t{4} << 20;

std::string Joined(const std::vector<const Document*>& documents) {
  std::string text;
  for (const Document* d : documents) text += d->text;
  return text;
}

// The last whole documents that fit into `bytes`.
std::string Tail(const std::vector<const Document*>& documents, size_t bytes) {
  auto first = documents.end();
  for (size_t sum = 0; first != documents.begin(); --first) {
    sum += (*std::prev(first))->text.size();
    if (sum > bytes) break;
  }
  return Joined({first, documents.end()});
}

// Splits each part by itself; their documents stand part by part in each split.
SplitDocuments SplitParts(std::vector<Document> documents, const std::vector<std::string>& parts,
                          const SplitOptions& options) {
  if (parts.empty()) return SplitByDocument(std::move(documents), options);
  std::vector<std::vector<Document>> by_part(parts.size());
  for (Document& d : documents) by_part[d.part].push_back(std::move(d));
  SplitDocuments all;
  for (size_t i = 0; i < parts.size(); ++i) {
    SplitDocuments one;
    try {
      one = SplitByDocument(std::move(by_part[i]), options);
    } catch (const DataError& e) {
      throw DataError("part " + parts[i] + ": " + e.what());
    }
    for (Split s : kAllSplits) {
      for (Document& d : one.documents[static_cast<int>(s)]) {
        d.part = static_cast<int>(i);  // pieces of a cut document are new
        all.documents[static_cast<int>(s)].push_back(std::move(d));
      }
    }
    for (const std::string& note : one.notes) all.notes.push_back("part " + parts[i] + ": " + note);
  }
  return all;
}

// The yardstick of each part's text against its own, weighted by the bytes of its test text.
void Compress(const SplitDocuments& split, size_t parts, Manifest* manifest) {
  double bytes = 0, alone = 0, primed = 0;
  for (size_t i = 0; i < std::max<size_t>(1, parts); ++i) {
    const auto of_part = [&](Split s) {
      std::vector<const Document*> found;
      for (const Document& d : split.documents[static_cast<int>(s)]) {
        if (parts == 0 || d.part == static_cast<int>(i)) found.push_back(&d);
      }
      return found;
    };
    const std::vector<const Document*> train = of_part(Split::kTrain);
    const std::string test = Joined(of_part(Split::kTest));
    const double weight = parts == 0 ? 1 : static_cast<double>(test.size());
    bytes += weight;
    alone += weight * CompressorBitsPerByte("", test);
    primed += weight * CompressorBitsPerByte(Tail(train, kPrimerBytes), test);
  }
  manifest->compressor_bits_per_byte = alone / bytes;
  manifest->compressor_bits_per_byte_primed = primed / bytes;
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
  ContentDigest digest(manifest.tokenizer, "");
  for (Split s : kAllSplits) {
    const std::vector<int64_t>& part = ids.splits[static_cast<int>(s)];
    ShardWriter writer(building.dir(), s, ids.vocab_size);
    writer.Add(part.front(), {part.begin() + 1, part.end()}, 0, 0);
    manifest.splits[static_cast<int>(s)] = FinishInto(&digest, s, &writer);
  }
  manifest.digest = digest.HexDigest();
  building.Write("manifest.json", ManifestJson(manifest));
  building.Place();
  return manifest;
}

// A tokenizer: the name under which the corpus is prepared, and where the user brings one, its
// file.
struct Chosen {
  std::string name, model;
  std::unique_ptr<Tokenizer> tokenizer;  // null where it is yet to be trained
  const char* file = "tokenizer.model";  // what the model is called in the corpus's folder
};

Chosen ChooseTokenizer(const std::string& asked) {
  if (asked == "bytes") return {.name = asked, .tokenizer = BytesTokenizer()};
  if (asked.starts_with("sentencepiece:") && spec::TokenizerVocabSize(asked))
    return {.name = asked};
  std::error_code error;
  if (!fs::is_regular_file(asked, error)) {
    throw DataError("unknown tokenizer \"" + asked +
                    "\"; bytes, sentencepiece:<vocabulary, 300 or more>, or the path of a "
                    "SentencePiece model or of "
                    "a tokenizer.json of byte-level BPE");
  }
  std::ifstream in(asked, std::ios::binary);
  std::ostringstream bytes;
  bytes << in.rdbuf();
  Chosen out{.model = bytes.str()};
  const bool byte_level = fs::path(asked).extension() == ".json";
  if (fs::path(asked).extension() == ".bin")
    out.model = SentencePieceModelOfLlama2c(out.model, asked);
  if (byte_level && IsHfBytesTokenizer(out.model))
    return {.name = "bytes", .tokenizer = BytesTokenizer()};
  out.tokenizer = byte_level ? BytePairTokenizer(out.model, asked, "", Nfc)
                             : SentencePieceTokenizer(out.model, asked);
  if (byte_level) out.file = "tokenizer.json";
  out.name = (byte_level ? "bpe:" : "sentencepiece:") + std::to_string(out.tokenizer->vocab_size());
  if (!spec::TokenizerVocabSize(out.name)) throw DataError(asked + ": has fewer than 300 pieces");
  return out;
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

Manifest Prepare(const PrepareOptions& asked) {
  CheckOptions(asked);
  PrepareOptions options = asked;
  if (const PackageCorpus* packages = FindPackages(options.corpus); packages != nullptr) {
    if (options.disjoint && options.corpus == packages->name) {
      throw DataError("the corpus without what its splits share has a name of its own: " +
                      options.corpus + kDisjoint);
    }
    options.disjoint = options.corpus != packages->name;
  }
  const auto step = [&](const std::string& what) {
    if (options.progress) options.progress(what);
  };
  const std::string root = options.root.empty() ? DefaultRoot() : options.root;
  if (!options.nanogpt.empty() && options.parts.empty()) {
    if (options.disjoint) throw DataError("ids made elsewhere cannot be made disjoint: no text");
    if (!options.text.empty()) throw DataError("give text or a nanoGPT folder, not both");
    step("importing");
    return ImportNanoGpt(options, root);
  }
  Chosen chosen = ChooseTokenizer(options.tokenizer);
  std::string& model = chosen.model;  // later of any but bytes
  Manifest manifest{.corpus = options.corpus, .tokenizer = chosen.name};
  const std::string place = DatasetDir(root, manifest.corpus, manifest.tokenizer);

  step("reading");
  std::vector<std::string> parts;
  Collection collection = options.parts.empty() ? Read(options) : ReadParts(options, &parts);
  std::vector<Document> documents = InSeededOrder(std::move(collection.documents),
                                                  options.split_seed, &manifest.exact_duplicates);
  manifest.input_digest = InputDigest(options, manifest.tokenizer, documents, model, parts);
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
      SplitParts(std::move(documents), parts, {options.split_seed, options.shares});
  if (options.disjoint) {
    step("cutting what the small splits have too out of train");
    const Cut cut = CutOutOfTrain(&split);
    split.notes.push_back("disjoint: " + std::to_string(cut.bytes) + " bytes of " +
                          std::to_string(cut.documents) +
                          " training documents share 13 units in a row with tune, val or test and "
                          "were cut out, as whole lines; what was left between is documents of "
                          "their own");
  }
  for (const std::string& name : parts) manifest.parts.push_back({.name = name});
  manifest.notes.insert(manifest.notes.end(), split.notes.begin(), split.notes.end());

  Building building(place);
  if (chosen.tokenizer == nullptr) {
    step("training the tokenizer");
    std::vector<std::string_view> train;
    for (const Document& d : split.documents[static_cast<int>(Split::kTrain)])
      train.push_back(d.text);
    model = TrainSentencePiece(train, *spec::TokenizerVocabSize(manifest.tokenizer));
    chosen.tokenizer = SentencePieceTokenizer(model, manifest.tokenizer);
  }
  const std::unique_ptr<Tokenizer> tokenizer = std::move(chosen.tokenizer);
  if (!model.empty()) building.Write(chosen.file, model);
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
  Compress(split, parts.size(), &manifest);

  building.Write("manifest.json", ManifestJson(manifest));
  building.Place();
  return manifest;
}

}  // namespace plumb::data
