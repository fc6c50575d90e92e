#include "store/lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace plumb::store {
namespace {

absl::Status Errno(absl::string_view what, const std::string& path) {
  return absl::DataLossError(absl::StrCat(what, " ", path, ": ", std::strerror(errno)));
}

absl::Status SyncPath(const std::string& path, int flags) {
  const int fd = open(path.c_str(), flags | O_CLOEXEC);
  if (fd < 0) return Errno("open", path);
  const int rc = fsync(fd);
  const int saved = errno;
  close(fd);
  errno = saved;
  return rc == 0 ? absl::OkStatus() : Errno("sync", path);
}

}  // namespace

absl::StatusOr<FileLock> FileLock::Take(const std::string& path) {
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) {
    return absl::NotFoundError(
        absl::StrCat("open ", path, ": ", std::strerror(errno), "; does its folder exist?"));
  }
  FileLock lock(fd);
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    char pid[32] = {};
    const ssize_t n = pread(fd, pid, sizeof pid - 1, 0);
    absl::string_view holder(pid, n > 0 ? n : 0);
    if (!holder.empty() && holder.back() == '\n') holder.remove_suffix(1);
    return absl::FailedPreconditionError(absl::StrCat(
        "another server has this database open (process ", holder, ", by ", path, ")"));
  }
  const std::string text = absl::StrCat(getpid(), "\n");
  if (ftruncate(fd, 0) != 0 || pwrite(fd, text.data(), text.size(), 0) < 0)
    return Errno("write", path);
  return lock;
}

FileLock::FileLock(FileLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
FileLock::~FileLock() {
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<MarkFile> MarkFile::Open(const std::string& path) {
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return Errno("open", path);
  return MarkFile(fd);
}

MarkFile::MarkFile(MarkFile&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
MarkFile::~MarkFile() {
  if (fd_ >= 0) close(fd_);
}

int64_t MarkFile::Read() const {
  char text[32] = {};
  int64_t value = 0;
  const ssize_t n = pread(fd_, text, sizeof text - 1, 0);
  return n > 0 && absl::SimpleAtoi(absl::string_view(text, n), &value) ? value : 0;
}

void MarkFile::Write(int64_t value) const {
  char text[32];
  const int n = std::snprintf(text, sizeof text, "%020lld\n", static_cast<long long>(value));
  // A mark that could not be written (a full disk) is only behind.
  [[maybe_unused]] const ssize_t written = pwrite(fd_, text, static_cast<size_t>(n), 0);
}

const char* NetworkFileSystem(int64_t magic) {
  switch (static_cast<uint32_t>(magic)) {
    case 0x6969:
      return "nfs";
    case 0x517b:
    case 0xfe534d42:
    case 0xff534d42:
      return "smb";
    case 0x0bd00bd0:
      return "lustre";
    case 0x47504653:
      return "gpfs";
    case 0x19830326:
      return "beegfs";
    case 0x00c36400:
      return "ceph";
    case 0x5346414f:
    case 0x6b414653:
      return "afs";
    case 0x01021997:
      return "9p";
    default:
      return nullptr;
  }
}

absl::Status MustBeLocal(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  struct statfs is = {};
  if (statfs(folder.empty() ? "." : folder.c_str(), &is) != 0) return absl::OkStatus();
  const char* kind = NetworkFileSystem(static_cast<int64_t>(is.f_type));
  const char* allow = std::getenv("PLUMB_ALLOW_NETWORK_FS");
  if (kind == nullptr || (allow != nullptr && allow[0] == '1')) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      path, " is on a network file system (", kind,
      "), where a database is not safe: put it on a local disk and have snapshots written there "
      "(plumb server --snapshot-dir)"));
}

absl::StatusOr<int64_t> ReadNumberFile(const std::string& path) {
  std::ifstream in(path);
  if (!in) return 0;
  std::string text;
  in >> text;
  int64_t value = 0;
  if (!absl::SimpleAtoi(text, &value) || value < 0) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " does not hold a number; remove it if you know it is broken"));
  }
  return value;
}

absl::Status WriteNumberFile(const std::string& path, int64_t value) {
  const std::string temporary = path + ".tmp";
  {
    std::ofstream out(temporary, std::ios::trunc);
    out << value << "\n";
    if (!out.flush()) return Errno("write", temporary);
  }
  absl::Status s = SyncPath(temporary, O_RDONLY);
  if (!s.ok()) return s;
  if (std::rename(temporary.c_str(), path.c_str()) != 0) return Errno("rename", temporary);
  std::string folder = std::filesystem::path(path).parent_path();
  return SyncPath(folder.empty() ? "." : folder, O_RDONLY | O_DIRECTORY);
}

}  // namespace plumb::store
