#include "data/overlap.h"

#include <algorithm>
#include <unordered_map>

#include "data/disjoint.h"
#include "data/units.h"

namespace plumb::data {

std::array<double, 4> Overlap13(const SplitDocuments& split) {
  constexpr size_t kRun = kSharedRun;
  constexpr Split kSmall[] = {Split::kTune, Split::kVal, Split::kTest};
  // The small splits are held and train streams past them: memory is theirs, not train's.
  std::unordered_map<uint64_t, bool> in_train;
  for (Split s : kSmall) {
    for (const Document& d : split.documents[static_cast<int>(s)]) {
      for (const uint64_t gram : NGrams(d.text, kRun)) in_train.emplace(gram, false);
    }
  }
  for (const Document& d : split.documents[static_cast<int>(Split::kTrain)]) {
    for (const uint64_t gram : NGrams(d.text, kRun)) {
      const auto found = in_train.find(gram);
      if (found != in_train.end()) found->second = true;
    }
  }
  std::array<double, 4> share{};
  for (Split s : kSmall) {
    const auto& documents = split.documents[static_cast<int>(s)];
    const auto touched = std::count_if(documents.begin(), documents.end(), [&](const Document& d) {
      const std::vector<uint64_t> grams = NGrams(d.text, kRun);
      return std::any_of(grams.begin(), grams.end(),
                         [&](uint64_t gram) { return in_train.at(gram); });
    });
    share[static_cast<int>(s)] =
        static_cast<double>(touched) / static_cast<double>(documents.size());
  }
  return share;
}

}  // namespace plumb::data
