#include "data/disjoint.h"

#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "data/units.h"

namespace plumb::data {
namespace {

constexpr size_t kShortest = 64;  // bytes

using Grams = std::unordered_set<uint64_t>;

// Bytes of whole lines to cut, in order and apart.
std::vector<std::pair<size_t, size_t>> Spans(const std::string& text, const Grams& held) {
  const std::vector<PlacedUnit> placed = PlacedUnits(text);
  std::vector<uint64_t> units;
  for (const PlacedUnit& u : placed) units.push_back(u.hash);
  const std::vector<uint64_t> grams = NGrams(units, kSharedRun);
  std::vector<std::pair<size_t, size_t>> spans;
  for (size_t i = 0; i < grams.size(); ++i) {
    if (held.count(grams[i]) == 0) continue;
    size_t begin = placed[i].begin, end = placed[i + kSharedRun - 1].end;
    begin = begin == 0 ? 0 : text.rfind('\n', begin - 1) + 1;  // npos + 1 is 0
    end = text.find('\n', end);
    end = end == std::string::npos ? text.size() : end + 1;
    if (!spans.empty() && begin <= spans.back().second) {
      spans.back().second = std::max(spans.back().second, end);
    } else {
      spans.emplace_back(begin, end);
    }
  }
  return spans;
}

}  // namespace

Cut CutOutOfTrain(SplitDocuments* split) {
  Grams held;
  for (Split s : {Split::kTune, Split::kVal, Split::kTest}) {
    for (const Document& d : split->documents[static_cast<int>(s)]) {
      for (const uint64_t gram : NGrams(d.text, kSharedRun)) held.insert(gram);
    }
  }
  Cut cut;
  std::vector<Document> kept;
  for (Document& d : split->documents[static_cast<int>(Split::kTrain)]) {
    const auto spans = Spans(d.text, held);
    if (spans.empty()) {
      kept.push_back(std::move(d));
      continue;
    }
    ++cut.documents;
    cut.bytes += static_cast<int64_t>(d.text.size());
    size_t from = 0, pieces = 0;
    const auto keep = [&](size_t end) {
      if (end - from < kShortest) return;
      cut.bytes -= static_cast<int64_t>(end - from);
      Document piece = d;
      piece.name += "#" + std::to_string(++pieces);
      piece.text = d.text.substr(from, end - from);
      kept.push_back(std::move(piece));
    };
    for (const auto& [begin, end] : spans) {
      keep(begin);
      from = end;
    }
    keep(d.text.size());
  }
  if (kept.empty()) throw DataError("all of train is in tune, val or test too; give other text");
  split->documents[static_cast<int>(Split::kTrain)] = std::move(kept);
  return cut;
}

}  // namespace plumb::data
