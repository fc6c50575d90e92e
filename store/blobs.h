// Files named by their SHA-256, in a folder beside the database: checkpoints that any worker can go
// on from. `<folder>/ab/<digest>` is complete and is what its name says; `<digest>.part` is as much
// of it as has come.
//
//   1. A complete blob was read back and digested before it got its name.
//   2. A partial one only grows, at its end; after a crash its end may be anything, which Finish
//      notices.
//   3. Complete and partial blobs together stay within the quota, and the disk keeps its reserve.
//
// Any thread. Writers of one digest share one partial file: each goes on where the others have
// come.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace plumb::store {

struct BlobOptions {
  int64_t quota_bytes = int64_t{100} << 30;
  int64_t reserve_bytes = int64_t{1} << 30;  // of the disk, left free: the database lies there too
};

class Blobs {
 public:
  // Makes the folder where it is missing and counts what it holds.
  static absl::StatusOr<std::unique_ptr<Blobs>> Open(const std::string& folder,
                                                     const BlobOptions& options);

  struct Have {
    bool complete = false;
    int64_t bytes = 0;  // of the blob, or as much of it as has come
  };
  // A complete blob that is asked for counts as new for Collect: its writer may be about to name
  // it.
  absl::StatusOr<Have> Stat(const std::string& digest);

  // Adds `bytes` at `offset`, which must be where the partial blob ends (OutOfRange says where that
  // is; 0 where there is none), and returns the new end. Of a complete blob nothing is written and
  // its size returned. ResourceExhausted: no room by quota or on the disk.
  absl::StatusOr<int64_t> Append(const std::string& digest, int64_t offset,
                                 const std::string& bytes);

  // Makes the partial blob of `size` bytes durable under its name. DataLoss: it is not what its
  // name says; it was removed, and can be written anew. Repeating it is harmless.
  absl::Status Finish(const std::string& digest, int64_t size);

  // Up to `limit` bytes from `offset`; fewer at the end, none behind it. NotFound: no such complete
  // blob.
  absl::StatusOr<std::string> Read(const std::string& digest, int64_t offset, int64_t limit);

  struct Removed {
    int64_t blobs = 0;
    int64_t bytes = 0;
  };
  // Removes complete blobs that are not `needed` and older than `grace` (since they were finished
  // or last asked for), and partial ones that have not grown for a day.
  absl::StatusOr<Removed> Collect(const std::set<std::string>& needed, absl::Duration grace);

  int64_t bytes() const { return bytes_.load(); }  // complete and partial
  const BlobOptions& options() const { return options_; }

 private:
  Blobs(std::string folder, const BlobOptions& options)
      : folder_(std::move(folder)), options_(options) {}
  std::mutex& MutexOf(const std::string& digest);
  std::string PathOf(const std::string& digest) const;
  absl::Status TakeRoom(int64_t bytes);

  const std::string folder_;
  const BlobOptions options_;
  std::atomic<int64_t> bytes_ = 0;
  std::array<std::mutex, 256> mutexes_;  // by the digest's first byte; held over its files' I/O
};

// 64 lower-case hexadecimal digits; InvalidArgument for anything else.
absl::Status CheckDigest(const std::string& digest);

}  // namespace plumb::store
