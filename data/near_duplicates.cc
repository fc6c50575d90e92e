#include "data/near_duplicates.h"

#include <algorithm>
#include <array>
#include <limits>
#include <unordered_map>
#include <utility>

#include "data/units.h"

namespace plumb::data {
namespace {

constexpr size_t kShingle = 5, kBins = 64, kBands = 16, kRows = kBins / kBands;
constexpr uint64_t kEmpty = std::numeric_limits<uint64_t>::max();

// A sorted set of shingles.
std::vector<uint64_t> Shingles(const Document& document) {
  std::vector<uint64_t> shingles = NGrams(document.text, kShingle);
  std::sort(shingles.begin(), shingles.end());
  shingles.erase(std::unique(shingles.begin(), shingles.end()), shingles.end());
  return shingles;
}

// The least shingle of each bin; an empty bin borrows from the next one that is not (Shrivastava,
// Li 2014), marked by the distance, so that short documents can be compared too.
std::array<uint64_t, kBins> Signature(const std::vector<uint64_t>& shingles) {
  std::array<uint64_t, kBins> least, signature;
  least.fill(kEmpty);
  for (const uint64_t s : shingles) least[s >> 58] = std::min(least[s >> 58], s);
  for (size_t bin = 0; bin < kBins; ++bin) {
    size_t distance = 0;
    while (least[(bin + distance) % kBins] == kEmpty) ++distance;
    signature[bin] = least[(bin + distance) % kBins] + distance;
  }
  return signature;
}

double Jaccard(const std::vector<uint64_t>& a, const std::vector<uint64_t>& b) {
  size_t common = 0;
  for (size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    if (a[i] == b[j]) ++common;
    const bool step_a = a[i] <= b[j], step_b = b[j] <= a[i];
    i += step_a;
    j += step_b;
  }
  return static_cast<double>(common) / static_cast<double>(a.size() + b.size() - common);
}

}  // namespace

std::vector<Document> WithoutNearDuplicates(std::vector<Document> documents, int64_t* dropped) {
  std::vector<Document> kept;
  std::vector<std::vector<uint64_t>> shingles_of;  // of the kept ones
  std::unordered_map<uint64_t, std::vector<size_t>> by_band;
  *dropped = 0;
  for (Document& document : documents) {
    std::vector<uint64_t> shingles = Shingles(document);
    std::array<uint64_t, kBands> bands{};
    bool repeats = false;
    if (!shingles.empty()) {
      const auto signature = Signature(shingles);
      std::vector<size_t> candidates;
      for (size_t band = 0; band < kBands; ++band) {
        uint64_t key = band + 1;
        for (size_t row = 0; row < kRows; ++row) {
          key = (key ^ signature[band * kRows + row]) * 0x9e3779b97f4a7c15;
          key ^= key >> 32;
        }
        bands[band] = key;
        const auto found = by_band.find(key);
        if (found != by_band.end()) {
          candidates.insert(candidates.end(), found->second.begin(), found->second.end());
        }
      }
      std::sort(candidates.begin(), candidates.end());
      candidates.erase(std::unique(candidates.begin(), candidates.end()), candidates.end());
      repeats = std::any_of(candidates.begin(), candidates.end(), [&](size_t other) {
        return Jaccard(shingles, shingles_of[other]) >= kNearDuplicate;
      });
    }
    if (repeats) {
      ++*dropped;
      continue;
    }
    if (!shingles.empty()) {
      for (const uint64_t key : bands) by_band[key].push_back(kept.size());
    }
    shingles_of.push_back(std::move(shingles));
    kept.push_back(std::move(document));
  }
  return kept;
}

}  // namespace plumb::data
