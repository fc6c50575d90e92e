#include "data/nanogpt.h"

#include <algorithm>
#include <filesystem>

#include "data/dataset.h"

namespace plumb::data {
namespace {

std::vector<int64_t> ReadIds(const std::string& path) {
  if (!std::filesystem::exists(path)) {
    throw DataError(
        path +
        ": not found; a nanoGPT folder has train.bin and val.bin (its prepare.py writes them)");
  }
  const Shard shard = Shard::Open(path);
  std::vector<int64_t> ids(shard.tokens());
  shard.Copy(0, shard.tokens(), ids.data());
  return ids;
}

}  // namespace

NanoGptIds ReadNanoGpt(const std::string& folder, int64_t vocab_size) {
  NanoGptIds result;
  std::vector<int64_t>& train = result.splits[static_cast<int>(Split::kTrain)];
  train = ReadIds(folder + "/train.bin");
  const std::vector<int64_t> held = ReadIds(folder + "/val.bin");
  if (train.size() < 2 || held.size() < 6) {
    throw DataError(folder + ": too small; train.bin needs 2 ids or more, val.bin 6 or more");
  }
  const int64_t largest = std::max(*std::max_element(train.begin(), train.end()),
                                   *std::max_element(held.begin(), held.end()));
  result.vocab_size = vocab_size == 0 ? std::max<int64_t>(2, largest + 1) : vocab_size;
  if (largest >= result.vocab_size) {
    throw DataError(folder + ": holds id " + std::to_string(largest) +
                    ", outside a vocabulary of " + std::to_string(result.vocab_size) +
                    "; give its own vocabulary size");
  }
  const auto third = static_cast<std::ptrdiff_t>(held.size() / 3);
  result.splits[static_cast<int>(Split::kTune)] = {held.begin(), held.begin() + third};
  result.splits[static_cast<int>(Split::kVal)] = {held.begin() + third, held.begin() + 2 * third};
  result.splits[static_cast<int>(Split::kTest)] = {held.begin() + 2 * third, held.end()};
  return result;
}

}  // namespace plumb::data
