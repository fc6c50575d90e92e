#include "store/blobs.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "domain/status_macros.h"
#include "trainer/spec/sha256.h"

namespace plumb::store {
namespace {

namespace fs = std::filesystem;

constexpr char kPart[] = ".part";
constexpr absl::Duration kPartialAge = absl::Hours(24);

absl::Status Errno(absl::string_view what, const std::string& path) {
  const std::string message = absl::StrCat(what, " ", path, ": ", std::strerror(errno));
  return errno == ENOSPC || errno == EDQUOT || errno == EFBIG
             ? absl::ResourceExhaustedError(message)
             : absl::InternalError(message);
}

class File {
 public:
  File(const std::string& path, int flags) : fd_(open(path.c_str(), flags | O_CLOEXEC, 0644)) {}
  ~File() {
    if (fd_ >= 0) close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  explicit operator bool() const { return fd_ >= 0; }
  int fd() const { return fd_; }

 private:
  const int fd_;
};

// −1: there is none.
int64_t SizeOf(const std::string& path) {
  struct stat s = {};
  return stat(path.c_str(), &s) == 0 ? static_cast<int64_t>(s.st_size) : -1;
}

absl::Status Sync(const std::string& path, int flags) {
  const File file(path, flags);
  if (!file || fsync(file.fd()) != 0) return Errno("sync", path);
  return absl::OkStatus();
}

std::string FolderOf(const std::string& path) { return fs::path(path).parent_path().string(); }

}  // namespace

absl::Status CheckDigest(const std::string& digest) {
  const bool good = digest.size() == 64 && std::all_of(digest.begin(), digest.end(), [](char c) {
                      return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
                    });
  if (good) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "a blob is named by its SHA-256: 64 digits, 0-9 and a-f in lower case");
}

absl::StatusOr<std::unique_ptr<Blobs>> Blobs::Open(const std::string& folder,
                                                   const BlobOptions& options) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error)
    return absl::FailedPreconditionError(
        absl::StrCat("cannot make ", folder, ": ", error.message()));
  std::unique_ptr<Blobs> blobs(new Blobs(folder, options));
  for (auto it = fs::recursive_directory_iterator(folder, error);
       !error && it != fs::recursive_directory_iterator(); it.increment(error)) {
    if (it->is_regular_file(error)) blobs->bytes_ += std::max<int64_t>(0, SizeOf(it->path()));
  }
  if (error)
    return absl::FailedPreconditionError(
        absl::StrCat("cannot read ", folder, ": ", error.message()));
  return blobs;
}

std::mutex& Blobs::MutexOf(const std::string& digest) {
  return mutexes_[static_cast<size_t>(std::stoi(digest.substr(0, 2), nullptr, 16))];
}

std::string Blobs::PathOf(const std::string& digest) const {
  return absl::StrCat(folder_, "/", digest.substr(0, 2), "/", digest);
}

absl::StatusOr<Blobs::Have> Blobs::Stat(const std::string& digest) {
  RETURN_IF_ERROR(CheckDigest(digest));
  const std::string path = PathOf(digest);
  std::lock_guard lock(MutexOf(digest));
  if (const int64_t size = SizeOf(path); size >= 0) {
    if (utimensat(AT_FDCWD, path.c_str(), nullptr, 0) != 0) return Errno("touch", path);
    return Have{.complete = true, .bytes = size};
  }
  return Have{.complete = false, .bytes = std::max<int64_t>(0, SizeOf(path + kPart))};
}

absl::Status Blobs::TakeRoom(int64_t bytes) {
  struct statvfs disk = {};
  if (statvfs(folder_.c_str(), &disk) == 0 &&
      static_cast<int64_t>(disk.f_bavail) * static_cast<int64_t>(disk.f_frsize) <
          options_.reserve_bytes + bytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the disk of ", folder_, " has no more than the ", options_.reserve_bytes >> 20,
        " MiB left that are kept free for the database"));
  }
  if (bytes_.fetch_add(bytes) + bytes <= options_.quota_bytes) return absl::OkStatus();
  bytes_ -= bytes;
  return absl::ResourceExhaustedError(
      absl::StrCat("the blobs' quota of ", options_.quota_bytes,
                   " bytes is used up: give the server more (--blobs-gib)"));
}

absl::StatusOr<int64_t> Blobs::Append(const std::string& digest, int64_t offset,
                                      const std::string& bytes) {
  RETURN_IF_ERROR(CheckDigest(digest));
  const std::string path = PathOf(digest), part = path + kPart;
  std::lock_guard lock(MutexOf(digest));
  if (const int64_t size = SizeOf(path); size >= 0) return size;
  const int64_t end = std::max<int64_t>(0, SizeOf(part));
  if (offset != end) {
    return absl::OutOfRangeError(
        absl::StrCat("blob ", digest, " goes on at byte ", end, ", not at ", offset));
  }
  const int64_t size = static_cast<int64_t>(bytes.size());
  RETURN_IF_ERROR(TakeRoom(size));
  std::error_code error;
  fs::create_directories(FolderOf(path), error);
  const File file(part, O_WRONLY | O_CREAT);
  for (int64_t done = 0; done < size || !file;) {
    const ssize_t n = !file ? -1
                            : pwrite(file.fd(), bytes.data() + done,
                                     static_cast<size_t>(size - done), offset + done);
    if (n < 0 && file && errno == EINTR) continue;
    if (n <= 0) {
      const absl::Status failed = Errno("write", part);
      // What was written stays: it is a beginning as good as any.
      bytes_ -= size - done;
      return failed;
    }
    done += n;
  }
  return offset + size;
}

absl::Status Blobs::Finish(const std::string& digest, int64_t size) {
  RETURN_IF_ERROR(CheckDigest(digest));
  const std::string path = PathOf(digest), part = path + kPart;
  std::lock_guard lock(MutexOf(digest));
  if (SizeOf(path) >= 0) return absl::OkStatus();
  const int64_t end = SizeOf(part);
  if (end < size) {
    return absl::OutOfRangeError(absl::StrCat("blob ", digest, " goes on at byte ",
                                              std::max<int64_t>(0, end), " of ", size));
  }
  std::string found;
  try {
    found = spec::Sha256HexOfFile(part);
  } catch (const std::runtime_error& e) {
    return absl::InternalError(e.what());
  }
  if (found != digest) {
    if (unlink(part.c_str()) == 0) bytes_ -= end;
    return absl::DataLossError(absl::StrCat("blob ", digest, ": what came has the SHA-256 ", found,
                                            "; it was removed, send it again from its beginning"));
  }
  RETURN_IF_ERROR(Sync(part, O_RDONLY));
  if (std::rename(part.c_str(), path.c_str()) != 0) return Errno("rename", part);
  if (utimensat(AT_FDCWD, path.c_str(), nullptr, 0) != 0) return Errno("touch", path);
  RETURN_IF_ERROR(Sync(FolderOf(path), O_RDONLY | O_DIRECTORY));
  return Sync(folder_, O_RDONLY | O_DIRECTORY);  // the folder may be new
}

absl::StatusOr<std::string> Blobs::Read(const std::string& digest, int64_t offset, int64_t limit) {
  RETURN_IF_ERROR(CheckDigest(digest));
  if (offset < 0 || limit < 0) return absl::InvalidArgumentError("offset and limit: from 0 on");
  const std::string path = PathOf(digest);
  const File file(path, O_RDONLY);  // an open file outlives its removal
  if (!file) {
    if (errno == ENOENT) return absl::NotFoundError(absl::StrCat("there is no blob ", digest));
    return Errno("open", path);
  }
  std::string out(static_cast<size_t>(limit), '\0');
  size_t have = 0;
  while (have < out.size()) {
    const ssize_t n =
        pread(file.fd(), out.data() + have, out.size() - have, offset + static_cast<int64_t>(have));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Errno("read", path);
    if (n == 0) break;
    have += static_cast<size_t>(n);
  }
  out.resize(have);
  return out;
}

absl::StatusOr<Blobs::Removed> Blobs::Collect(const std::set<std::string>& needed,
                                              absl::Duration grace) {
  std::vector<std::string> names;
  std::error_code error;
  for (auto it = fs::recursive_directory_iterator(folder_, error);
       !error && it != fs::recursive_directory_iterator(); it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  if (error) return absl::InternalError(absl::StrCat("read ", folder_, ": ", error.message()));
  Removed removed;
  for (const std::string& name : names) {
    const std::string digest = name.substr(0, 64);
    if (!CheckDigest(digest).ok()) continue;
    const bool partial = name == digest + kPart;
    if (!partial && (name != digest || needed.contains(digest))) continue;
    const std::string path = partial ? PathOf(digest) + kPart : PathOf(digest);
    std::lock_guard lock(MutexOf(digest));
    struct stat s = {};
    if (stat(path.c_str(), &s) != 0) continue;
    // The clock may have been set back: what is from the future is not old.
    if (absl::Now() - absl::TimeFromTimespec(s.st_mtim) <= (partial ? kPartialAge : grace))
      continue;
    if (unlink(path.c_str()) != 0) return Errno("remove", path);
    bytes_ -= s.st_size;
    ++removed.blobs;
    removed.bytes += s.st_size;
  }
  return removed;
}

}  // namespace plumb::store
