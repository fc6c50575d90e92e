#include "app/temporary_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"

namespace plumb::app {
namespace {

namespace fs = std::filesystem;

// A descriptor that holds the lock of `path`, or −1.
int Lock(const std::string& path, int flags) {
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC | flags, 0600);
  if (fd < 0) return -1;
  if (flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
  close(fd);
  return -1;
}

void RemoveLeftOvers(const fs::path& where, const std::string& prefix,
                     void (*end)(const std::string& folder)) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(where, ignored)) {
    struct stat of = {};
    if (!entry.path().filename().string().starts_with(prefix) ||
        lstat(entry.path().c_str(), &of) != 0 || !S_ISDIR(of.st_mode) || of.st_uid != getuid())
      continue;
    // One without its lock's file is being made.
    const int fd = Lock(entry.path() / "lock", 0);
    if (fd < 0) continue;
    end(entry.path());
    fs::remove_all(entry.path(), ignored);
    close(fd);
  }
}

}  // namespace

absl::StatusOr<TemporaryFolder> TemporaryFolder::Make(const std::string& prefix,
                                                      void (*end)(const std::string& folder)) {
  std::error_code error;
  const fs::path where = fs::temp_directory_path(error);
  if (error) return absl::InternalError(absl::StrCat("no temporary folder: ", error.message()));
  RemoveLeftOvers(where, prefix, end);
  // Another program that tidies up may take one before it is locked.
  for (int i = 0; i < 3; ++i) {
    std::string path = (where / (prefix + "XXXXXX")).string();
    if (mkdtemp(path.data()) == nullptr) {
      return absl::InternalError(absl::StrCat(where.string(), ": ", std::strerror(errno),
                                              "; set TMPDIR to another folder"));
    }
    const int lock = Lock(path + "/lock", O_CREAT);
    if (lock >= 0) return TemporaryFolder(path, lock);
    fs::remove_all(path, error);
  }
  return absl::InternalError(absl::StrCat(where.string(), ": a folder there cannot be locked"));
}

TemporaryFolder::TemporaryFolder(TemporaryFolder&& other) noexcept
    : path_(std::exchange(other.path_, "")), lock_(std::exchange(other.lock_, -1)) {}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  if (!path_.empty()) fs::remove_all(path_, ignored);
  if (lock_ >= 0) close(lock_);
}

}  // namespace plumb::app
