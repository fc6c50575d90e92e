// A folder under the system's temporary one that goes with the object; what a killed program left
// there goes with the next.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace plumb::app {

// Held by a lock on its file "lock": a folder of the same prefix and user whose lock is free is of
// a program that was killed.
class TemporaryFolder {
 public:
  // `prefix` as "plumb-stage-". `end`: ends what may still be at work in a folder that is left
  // over.
  static absl::StatusOr<TemporaryFolder> Make(const std::string& prefix,
                                              void (*end)(const std::string& folder));
  TemporaryFolder(TemporaryFolder&& other) noexcept;
  TemporaryFolder& operator=(TemporaryFolder&&) = delete;
  ~TemporaryFolder();

  const std::string& path() const { return path_; }  // absolute

 private:
  TemporaryFolder(std::string path, int lock) : path_(std::move(path)), lock_(lock) {}
  std::string path_;
  int lock_ = -1;
};

}  // namespace plumb::app
