// Texts with a class each, from a JSONL file, as token ids for a classifier.
//
//   {"text": "…", "label": "positive"}                              one text a line
//   {"text_a": "…", "text_b": "…", "label": 0, "split": "train"}    a pair; "split" is optional
//
// Strict: a line that is anything else is an error that names it, and nothing is returned. All
// lines have one text or all have two, labels are all strings or all integers, and "split"
// ("train", "dev", "test") stands in every line or in none. Torch-free.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "data/tokenizer.h"

namespace plumb::data {

enum class ClassSplit { kTrain, kDev, kTest };
inline constexpr ClassSplit kClassSplits[] = {ClassSplit::kTrain, ClassSplit::kDev,
                                              ClassSplit::kTest};
const char* Name(ClassSplit split);  // "train", …

struct ClassExample {
  // The separator and the text, as a document begins in a shard; of a pair, then the separator and
  // the second text. At most seq_len ids: the end of the text is cut, of a pair that of the longer.
  std::vector<int64_t> ids;
  int64_t label = 0;  // index into classes
  int64_t line = 0;   // of the file, from 1
};

struct ClassificationOptions {
  int64_t seq_len = 128;
  uint64_t split_seed = 0;  // where the file names no splits
  double holdout = 0.2;     // share of the texts that is then test
  int64_t max_file_bytes = int64_t{1} << 30;
  int64_t max_line_bytes = int64_t{1} << 20;
  int64_t max_classes = 65536;
};

struct ClassificationData {
  std::vector<std::string> classes;  // sorted: integers by value, strings by their bytes
  bool integer_labels = false;
  bool pairs = false;
  bool splits_given = false;
  std::array<std::vector<ClassExample>, 3> examples;  // by ClassSplit, in the order of the file
  std::string digest;                                 // SHA-256 of the file
  int64_t cut = 0;                                    // examples that were longer than seq_len
  // Of dev and test, the examples whose text train has too. 0 where the file names no splits: a
  // text is then on one side only.
  std::array<int64_t, 3> also_in_train = {};
  const std::vector<ClassExample>& split(ClassSplit s) const {
    return examples[static_cast<size_t>(s)];
  }
};

// Reads the file. Where it names no splits, `holdout` of the different texts, those first in the
// order of SHA-256(seed, text), are test and the others train: equal texts are on one side, and
// neither the order of the lines nor the labels matter. Throws DataError.
ClassificationData ReadClassification(const std::string& path, const Tokenizer& tokenizer,
                                      const ClassificationOptions& options);

}  // namespace plumb::data
