#include "data/split.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "trainer/spec/sha256.h"

namespace plumb::data {
namespace {

constexpr size_t kLargeShare =
    20;  // a document above 1/20 of the corpus would be a small split by itself
constexpr size_t kPieceShare =
    200;  // pieces of a cut document: enough of them for three small splits
constexpr size_t kShortestPiece = 64;

size_t Bytes(const std::vector<Document>& documents) {
  return std::accumulate(documents.begin(), documents.end(), size_t{0},
                         [](size_t sum, const Document& d) { return sum + d.text.size(); });
}

// Pieces of at least `target` bytes that end after a blank line, or after a line where paragraphs
// are longer than four pieces; the pieces joined are the text.
std::vector<Document> CutAtParagraphs(const Document& document, size_t target) {
  std::vector<Document> pieces;
  const std::string& text = document.text;
  for (size_t begin = 0; begin < text.size();) {
    size_t end = text.find("\n\n", std::min(text.size(), begin + target));
    if (end == std::string::npos) end = text.size();
    while (end < text.size() && text[end] == '\n') ++end;
    if (end - begin > 4 * target) {
      const size_t line = text.find('\n', begin + target);
      if (line != std::string::npos && line + 1 < end) end = line + 1;
    }
    // A last piece of next to nothing would be a document nobody can learn from or be judged on.
    if (text.size() - end < target / 2) end = text.size();
    pieces.push_back(
        {document.name + "#" + std::to_string(pieces.size() + 1), text.substr(begin, end - begin)});
    begin = end;
  }
  return pieces;
}

}  // namespace

std::vector<Document> InSeededOrder(std::vector<Document> documents, uint64_t seed,
                                    int64_t* dropped) {
  std::vector<std::pair<std::string, size_t>> order;
  for (size_t i = 0; i < documents.size(); ++i) {
    spec::Sha256 hash;
    hash.Update(std::to_string(seed) + '\n');
    hash.Update(documents[i].text);
    order.emplace_back(hash.HexDigest(), i);
  }
  std::sort(order.begin(), order.end());
  std::vector<Document> ordered;
  *dropped = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    if (i > 0 && order[i].first == order[i - 1].first) {
      ++*dropped;
    } else {
      ordered.push_back(std::move(documents[order[i].second]));
    }
  }
  return ordered;
}

SplitDocuments SplitByDocument(std::vector<Document> documents, const SplitOptions& options) {
  SplitDocuments result;
  const size_t total = Bytes(documents);
  const auto large = [&](const Document& d) { return d.text.size() > total / kLargeShare; };

  size_t movable = 0;
  for (const Document& d : documents) movable += large(d) ? 0 : d.text.size();
  double small_shares = 0;
  for (Split s : {Split::kTune, Split::kVal, Split::kTest})
    small_shares += options.shares[static_cast<int>(s)];
  if (static_cast<double>(movable) < 2 * small_shares * static_cast<double>(total)) {
    std::vector<Document> pieces;
    size_t cut = 0;
    for (Document& d : documents) {
      if (!large(d)) {
        pieces.push_back(std::move(d));
        continue;
      }
      ++cut;
      for (Document& piece : CutAtParagraphs(d, std::max(total / kPieceShare, kShortestPiece))) {
        pieces.push_back(std::move(piece));
      }
    }
    int64_t repeated = 0;
    documents = InSeededOrder(std::move(pieces), options.seed, &repeated);
    result.notes.push_back(
        std::to_string(cut) +
        " long documents were cut at paragraphs into pieces that count as documents: parts of one "
        "text are in several splits" +
        (repeated > 0 ? "; " + std::to_string(repeated) + " repeated pieces were dropped" : ""));
  }

  // With pieces, "large" no longer applies: a tiny corpus has few of them.
  const bool pieces = !result.notes.empty();
  size_t next = 0;
  std::vector<bool> taken(documents.size());
  for (Split s : {Split::kTest, Split::kVal, Split::kTune}) {
    const auto target = options.shares[static_cast<int>(s)] * static_cast<double>(total);
    size_t filled = 0;
    for (; next < documents.size() && (filled == 0 || static_cast<double>(filled) < target);
         ++next) {
      if (!pieces && large(documents[next])) continue;
      taken[next] = true;
      filled += documents[next].text.size();
      result.documents[static_cast<int>(s)].push_back(std::move(documents[next]));
    }
  }
  for (size_t i = 0; i < documents.size(); ++i) {
    if (!taken[i])
      result.documents[static_cast<int>(Split::kTrain)].push_back(std::move(documents[i]));
  }
  for (Split s : kAllSplits) {
    if (result.documents[static_cast<int>(s)].empty()) {
      throw DataError("the text (" + std::to_string(total) + " bytes in " +
                      std::to_string(taken.size()) +
                      " documents or paragraphs) is too small to leave something for " + Name(s) +
                      "; give more text");
    }
  }
  return result;
}

}  // namespace plumb::data
