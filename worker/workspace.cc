#include "worker/workspace.h"

#include <fcntl.h>
#include <sys/file.h>
#include <time.h>
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
  // One that was killed while it started a trainer leaves the lock for a moment with the process
  // that is about to become the trainer's guard.
  bool locked = flock(lock, LOCK_EX | LOCK_NB) == 0;
  for (int i = 0; i < 250 && !locked && errno == EWOULDBLOCK; ++i) {
    const timespec pause = {0, 20'000'000};
    nanosleep(&pause, nullptr);
    locked = flock(lock, LOCK_EX | LOCK_NB) == 0;
  }
  if (!locked) {
    close(lock);
    return absl::FailedPreconditionError(absl::StrCat(
        "another worker runs in ", absolute, ": stop it, or give this one another folder"));
  }
  Workspace workspace(absolute, lock);
  std::ifstream(absolute + "/cluster") >> workspace.known_.cluster >>
      workspace.known_.incarnation >> workspace.known_.cluster_time_us >> workspace.known_.run;
  workspace.saved_time_us_ = workspace.known_.cluster_time_us;
  return workspace;
}

Workspace::Workspace(Workspace&& other) noexcept
    : dir_(std::move(other.dir_)),
      lock_(std::exchange(other.lock_, -1)),
      known_(std::move(other.known_)),
      saved_time_us_(other.saved_time_us_) {}

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

absl::Status Workspace::Join(const Known& told) {
  if (told.cluster == known_.cluster && told.incarnation <= known_.incarnation) {
    Heard(told.cluster_time_us, told.run);
    return absl::OkStatus();
  }
  known_ = told;
  return Save();
}

void Workspace::Heard(int64_t cluster_time_us, int64_t run) {
  if (cluster_time_us > known_.cluster_time_us) {
    known_.cluster_time_us = cluster_time_us;
    known_.run = run;
  }
  // One that is behind only fails to notice what the files beside the database notice.
  if (known_.cluster_time_us >= saved_time_us_ + 10'000'000) (void)Save();
}

absl::Status Workspace::Save() {
  RETURN_IF_ERROR(
      Replace(dir_ + "/cluster", absl::StrCat(known_.cluster, " ", known_.incarnation, " ",
                                              known_.cluster_time_us, " ", known_.run, "\n")));
  saved_time_us_ = known_.cluster_time_us;
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
