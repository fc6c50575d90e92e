// The worker's folder: one worker at a time, the cluster it works for, and per trainer how far its
// journal is done with.
//
//   DIR/worker.lock            held by the worker
//   DIR/cluster                the cluster's name, the highest incarnation known, and the latest
//                              cluster time heard under it (microseconds)
//   DIR/trainers/<i>/          a trainer's folder (docs/trainer-protocol.md)
//   DIR/trainers/<i>/program   the name of the trainer that was started there
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

  struct Known {
    std::string cluster;  // empty: none yet
    int64_t incarnation = 0;
    int64_t cluster_time_us = 0;
    int64_t run = 0;  // of the server that told the time; 0: it did not say
  };
  const Known& known() const { return known_; }
  // The coordinator's own word: another cluster, or a higher incarnation, replaces what was known.
  absl::Status Join(const Known& told);
  // Remembers a later cluster time; on disk about every ten seconds.
  void Heard(int64_t cluster_time_us, int64_t run);

 private:
  Workspace(std::string dir, int lock) : dir_(std::move(dir)), lock_(lock) {}
  std::string dir_;
  absl::Status Save();
  int lock_ = -1;
  Known known_;
  int64_t saved_time_us_ = 0;
};

JournalMark ReadMark(
    const std::string& trainer_dir);  // the journal's beginning where there is none
absl::Status WriteMark(const std::string& trainer_dir, const JournalMark& mark);

}  // namespace plumb::worker
