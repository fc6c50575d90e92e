// A folder of any files as a checkpoint: the same manifest, marker and place that a trainer's own
// has (docs/trainer-protocol.md), so that it is sent, fetched, verified and trimmed alike. Errors
// are std::runtime_error that name the file.
#pragma once

#include <cstdint>
#include <string>

namespace plumb::trainer {

struct FileCheckpoint {
  std::string path;
  std::string digest;  // SHA-256 of its manifest
  int64_t bytes = 0;
};

// Moves `folder`, on the same file system, to `dir`/step-<step>, durably. It holds files only, at
// least one. The same step again takes the place of what was there.
FileCheckpoint CommitFiles(const std::string& folder, const std::string& dir, int64_t step);

// Why a committed checkpoint is not the one meant, or is damaged; "" where it is whole.
std::string CheckFiles(const std::string& path, const std::string& digest);

}  // namespace plumb::trainer
