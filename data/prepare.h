// Prepares a corpus: reads documents, splits them, tokenizes, and writes the folder that
// Dataset::Open reads.
//
// 1. The folder appears whole or not at all: it is built beside its place and renamed. An older one
// is exchanged in one
//    step; programs that have it open keep reading it.
// 2. Equal input gives an equal digest, whatever the files' names and order. Input that was
// prepared before returns at
//    once.
// 3. Tokenizers are trained on the train split alone.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace plumb::data {

// A part of a mixed corpus, and one place its text comes from.
struct PartSource {
  std::string part;    // spec::IsPartName
  std::string source;  // one of PackageCorpora() by name, or a file or folder of text
};

struct PrepareOptions {
  std::string
      corpus;  // one of PackageCorpora() by name; or, with `text` or `nanogpt`, a name of your own
  std::vector<std::string>
      text;  // files and folders; ".jsonl" files hold a document's "text" a line
  std::vector<PartSource>
      parts;               // instead of `text`: a mixed corpus of two or more parts, each split by
                           // itself; texts equal or nearly equal across parts are kept once
  std::string nanogpt;     // a folder with nanoGPT's train.bin and val.bin: ids made elsewhere
  int64_t vocab_size = 0;  // of `nanogpt`'s ids; 0: the largest id + 1
  std::string tokenizer =
      "bytes";  // "bytes", "sentencepiece:<vocabulary>", or the path of a SentencePiece model or of
                // a tokenizer.json of byte-level BPE (data/byte_pair_tokenizer.h)
  std::string root;  // "": DefaultRoot()
  std::string description;
  // What tune, val and test have too is cut out of train (data/disjoint.h). A corpus from packages
  // is asked for by its name with "-disjoint" after it.
  bool disjoint = false;
  uint64_t split_seed = 0;
  std::array<double, 4> shares = {0.91, 0.03, 0.03, 0.03};  // of the bytes, by Split
  std::string system_root;                                  // where Debian packages lie; "": "/"
  std::function<void(const std::string& step)> progress;    // told what is being done; may be empty
};

// Prepares the corpus and returns its manifest; the folder is DatasetDir(root, manifest.corpus,
// manifest.tokenizer). Throws DataError, and then has changed nothing.
Manifest Prepare(const PrepareOptions& options);

}  // namespace plumb::data
