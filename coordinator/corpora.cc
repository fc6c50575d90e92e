#include "coordinator/corpora.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "data/dataset.h"
#include "domain/status_macros.h"
#include "trainer/spec/sha256.h"

namespace plumb::coordinator {
namespace fs = std::filesystem;

absl::StatusOr<Corpora::Known> Corpora::Look(const std::string& path) const {
  struct stat file;
  if (stat(path.c_str(), &file) != 0 || !S_ISREG(file.st_mode))
    return absl::NotFoundError(absl::StrCat(path, ": ", std::strerror(errno)));
  return Known{.path = path,
               .bytes = file.st_size,
               .written_ns = file.st_mtim.tv_sec * 1'000'000'000 + file.st_mtim.tv_nsec};
}

absl::StatusOr<std::vector<CorpusFile>> Corpora::List(const std::string& corpus,
                                                      const std::string& tokenizer,
                                                      const std::string& digest) {
  std::vector<std::string> names;
  std::string dir;
  try {  // the data room throws; statuses begin here
    dir = data::DatasetDir(root_, corpus, tokenizer);
    const std::string is = data::ReadManifest(dir).digest;
    if (is != digest)
      return absl::NotFoundError(absl::StrCat("corpus ", corpus, " at the server has digest ", is,
                                              ", not ", digest,
                                              "; submit the sweep again to use this one"));
    for (const auto& entry : fs::directory_iterator(dir)) {
      if (entry.is_regular_file() && entry.path().filename() != "manifest.json")
        names.push_back(entry.path().filename().string());
    }
  } catch (const std::exception& e) {
    return absl::NotFoundError(e.what());
  }
  std::sort(names.begin(), names.end());
  names.insert(names.begin(), "manifest.json");
  std::vector<CorpusFile> out;
  for (const std::string& name : names) {
    ASSIGN_OR_RETURN(const Known file, Look(absl::StrCat(dir, "/", name)));
    const auto key = std::tuple(file.path, file.bytes, file.written_ns);
    std::string sha256;
    {
      std::lock_guard lock(mutex_);
      if (const auto it = digest_.find(key); it != digest_.end()) sha256 = it->second;
    }
    if (sha256.empty()) {
      try {
        sha256 = spec::Sha256HexOfFile(file.path);
      } catch (const std::exception& e) {
        return absl::NotFoundError(e.what());
      }
      std::lock_guard lock(mutex_);
      digest_[key] = sha256;
      by_digest_[sha256] = file;
    }
    out.push_back({.name = name, .sha256 = sha256, .bytes = file.bytes});
  }
  return out;
}

absl::StatusOr<std::string> Corpora::Read(const std::string& sha256, int64_t offset,
                                          int64_t limit) {
  Known file;
  {
    std::lock_guard lock(mutex_);
    const auto it = by_digest_.find(sha256);
    if (it == by_digest_.end()) return absl::NotFoundError(absl::StrCat("no blob ", sha256));
    file = it->second;
  }
  if (offset < 0 || limit < 0) return absl::InvalidArgumentError("offset and limit: from 0 on");
  ASSIGN_OR_RETURN(const Known now, Look(file.path));
  if (now.bytes != file.bytes || now.written_ns != file.written_ns)
    return absl::NotFoundError(absl::StrCat(file.path, " was written again since it was listed"));
  const int fd = open(file.path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return absl::NotFoundError(absl::StrCat(file.path, ": ", std::strerror(errno)));
  const absl::Cleanup close_it = [fd] { close(fd); };
  std::string out(static_cast<size_t>(std::clamp<int64_t>(file.bytes - offset, 0, limit)), '\0');
  for (size_t done = 0; done < out.size();) {
    const ssize_t n =
        pread(fd, out.data() + done, out.size() - done, offset + static_cast<int64_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return absl::InternalError(absl::StrCat(file.path, ": ", std::strerror(errno)));
    done += static_cast<size_t>(n);
  }
  return out;
}

}  // namespace plumb::coordinator
