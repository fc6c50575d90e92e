// Splits a corpus by document.
//
// Invariants
// 1. No document is in two splits; every document is in one.
// 2. The result depends on the texts and the seed, not on names or on the order of reading.
// 3. No split is empty.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "data/sources.h"

namespace plumb::data {

// Documents in the order of SHA-256(seed, text), equal texts once. `*dropped` counts the others.
std::vector<Document> InSeededOrder(std::vector<Document> documents, uint64_t seed,
                                    int64_t* dropped);

struct SplitOptions {
  uint64_t seed = 0;
  std::array<double, 4> shares = {0.91, 0.03, 0.03, 0.03};  // of the bytes, by Split
};

struct SplitDocuments {
  std::array<std::vector<Document>, 4> documents;  // by Split, each in seeded order
  std::vector<std::string> notes;
};

// Fills test, val and tune in seeded order until each has its share of bytes; train has the rest. A
// document of more than 1/20 of the corpus goes to train. Where such documents leave too little for
// the small splits (a corpus of one file), they are cut at paragraphs into documents of about 1/200
// of the corpus, and a note says so. `documents` come from InSeededOrder. Throws DataError for a
// corpus too small to split.
SplitDocuments SplitByDocument(std::vector<Document> documents, const SplitOptions& options);

}  // namespace plumb::data
