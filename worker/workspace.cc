#include "worker/workspace.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "domain/status_macros.h"

namespace plumb::worker {
namespace {

namespace fs = std::filesystem;

absl::Status Replace(const std::string& path, const std::string& text) {
  const std::string temporary = path + ".tmp";
  {
    std::ofstream file(temporary, std::ios::binary | std::ios::trunc);
    file << text;
    file.flush();
    if (!file)
      return absl::ResourceExhaustedError(
          absl::StrCat("cannot write ", temporary, ": ", std::strerror(errno)));
  }
  std::error_code error;
  fs::rename(temporary, path, error);
  if (error)
    return absl::InternalError(absl::StrCat("cannot rename ", temporary, ": ", error.message()));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Workspace> Workspace::Open(const std::string& dir) {
  std::error_code error;
  const std::string absolute = fs::absolute(dir).lexically_normal().string();
  fs::create_directories(absolute + "/trainers", error);
  if (!error) fs::create_directories(absolute + "/checkpoints", error);
  if (error)
    return absl::InvalidArgumentError(
        absl::StrCat("cannot make the workspace ", absolute, ": ", error.message()));
  const int lock = open((absolute + "/worker.lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (lock < 0)
    return absl::InvalidArgumentError(
        absl::StrCat("cannot open ", absolute, "/worker.lock: ", std::strerror(errno)));
  if (flock(lock, LOCK_EX | LOCK_NB) != 0) {
    close(lock);
    return absl::FailedPreconditionError(absl::StrCat(
        "another worker runs in ", absolute, ": stop it, or give this one another folder"));
  }
  Workspace workspace(absolute, lock);
  std::ifstream(absolute + "/incarnation") >> workspace.incarnation_;
  return workspace;
}

Workspace::Workspace(Workspace&& other) noexcept
    : dir_(std::move(other.dir_)),
      lock_(std::exchange(other.lock_, -1)),
      incarnation_(other.incarnation_) {}

Workspace::~Workspace() {
  if (lock_ >= 0) close(lock_);
}

std::string Workspace::TrainerDir(int slot) const { return absl::StrCat(dir_, "/trainers/", slot); }
std::string Workspace::CheckpointDir(int64_t stage) const {
  return absl::StrCat(dir_, "/checkpoints/", stage);
}

int Workspace::TrainerDirs() const {
  int count = 0;
  while (fs::exists(TrainerDir(count))) ++count;
  return count;
}

absl::Status Workspace::RaiseIncarnation(int64_t incarnation) {
  if (incarnation <= incarnation_) return absl::OkStatus();
  RETURN_IF_ERROR(Replace(dir_ + "/incarnation", absl::StrCat(incarnation, "\n")));
  incarnation_ = incarnation;
  return absl::OkStatus();
}

JournalMark ReadMark(const std::string& trainer_dir) {
  JournalMark mark;
  std::ifstream file(trainer_dir + "/position");
  if (!(file >> mark.position.segment >> mark.position.offset)) return {};
  for (std::string row; file >> row;) mark.live.push_back(row);
  return mark;
}

absl::Status WriteMark(const std::string& trainer_dir, const JournalMark& mark) {
  std::string text = absl::StrCat(mark.position.segment, " ", mark.position.offset, "\n");
  for (const std::string& row : mark.live) absl::StrAppend(&text, row, "\n");
  return Replace(trainer_dir + "/position", text);
}

}  // namespace plumb::worker
