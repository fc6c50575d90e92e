// One server a file, and beside it what tells an older copy of it: the cluster's incarnation and
// how far it had come.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace plumb::store {

// Holds an flock on `path` while it lives; the kernel lets go of it when the process dies.
class FileLock {
 public:
  // FailedPrecondition when another process holds it; names its pid.
  static absl::StatusOr<FileLock> Take(const std::string& path);
  FileLock(FileLock&& other) noexcept;
  FileLock& operator=(FileLock&&) = delete;
  ~FileLock();

 private:
  explicit FileLock(int fd) : fd_(fd) {}
  int fd_;
};

// How far the file has come, beside it: the cluster time of the last commit. Written after each
// commit and not synced: after a power cut it may be behind the database, never ahead of it.
class MarkFile {
 public:
  static absl::StatusOr<MarkFile> Open(const std::string& path);
  MarkFile(MarkFile&& other) noexcept;
  MarkFile& operator=(MarkFile&&) = delete;
  ~MarkFile();
  int64_t Read() const;  // 0 where there is none
  void Write(int64_t value) const;

 private:
  explicit MarkFile(int fd) : fd_(fd) {}
  int fd_;
};

// FailedPrecondition for a path on a network file system, where locks and shared memory of a WAL do
// not hold. ($PLUMB_ALLOW_NETWORK_FS=1 lets it pass.)
absl::Status MustBeLocal(const std::string& path);
// By the magic number of statfs(2): "nfs", …; null for local ones.
const char* NetworkFileSystem(int64_t magic);

// A number in a text file of its own; 0 where the file is missing. Written through a rename,
// durable when it returns.
absl::StatusOr<int64_t> ReadNumberFile(const std::string& path);
absl::Status WriteNumberFile(const std::string& path, int64_t value);

}  // namespace plumb::store
