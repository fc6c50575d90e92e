// The corpora prepared beside the server, for workers that lack one: their files, by SHA-256.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "absl/status/statusor.h"

namespace plumb::coordinator {

struct CorpusFile {
  std::string name, sha256;
  int64_t bytes = 0;
};

// Any thread.
class Corpora {
 public:
  explicit Corpora(std::string data_root) : root_(std::move(data_root)) {}

  // The files of a corpus's folder, its manifest.json first. NotFound: it is not here, or has
  // another content digest. Reads a file whole the first time it is listed and after it changed.
  absl::StatusOr<std::vector<CorpusFile>> List(const std::string& corpus,
                                               const std::string& tokenizer,
                                               const std::string& digest);
  // Up to `limit` bytes from `offset` of a file that was listed; fewer at its end. NotFound: none
  // of this SHA-256 was, or it has changed since.
  absl::StatusOr<std::string> Read(const std::string& sha256, int64_t offset, int64_t limit);

 private:
  struct Known {
    std::string path;
    int64_t bytes = 0, written_ns = 0;
  };
  absl::StatusOr<Known> Look(const std::string& path) const;

  const std::string root_;
  std::mutex mutex_;
  std::map<std::string, Known> by_digest_;                                   // by mutex_
  std::map<std::tuple<std::string, int64_t, int64_t>, std::string> digest_;  // the same turned
};

}  // namespace plumb::coordinator
