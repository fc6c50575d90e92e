// The worker's folder: one worker at a time, the highest incarnation it has met, and per trainer
// how far its journal is done with.
//
//   DIR/worker.lock            held by the worker
//   DIR/incarnation            the highest incarnation known
//   DIR/trainers/<i>/          a trainer's folder (docs/trainer-protocol.md)
//   DIR/trainers/<i>/position  where to read on after a restart, and the attempts that had begun
//   before it DIR/checkpoints/<stage>/   checkpoints, shared by the attempts of a stage
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "worker/attempt.h"

namespace plumb::worker {

class Workspace {
 public:
  // Makes the folder and takes its lock. FailedPrecondition when another worker has it.
  static absl::StatusOr<Workspace> Open(const std::string& dir);
  Workspace(Workspace&& other) noexcept;
  ~Workspace();

  const std::string& dir() const { return dir_; }  // absolute
  std::string TrainerDir(int slot) const;
  std::string CheckpointDir(int64_t stage) const;
  int TrainerDirs() const;  // 1 + the highest number there is

  int64_t incarnation() const { return incarnation_; }
  absl::Status RaiseIncarnation(int64_t incarnation);  // never lowers it

 private:
  Workspace(std::string dir, int lock) : dir_(std::move(dir)), lock_(lock) {}
  std::string dir_;
  int lock_ = -1;
  int64_t incarnation_ = 0;
};

JournalMark ReadMark(
    const std::string& trainer_dir);  // the journal's beginning where there is none
absl::Status WriteMark(const std::string& trainer_dir, const JournalMark& mark);

}  // namespace plumb::worker
