// What a simulated server writes to: the real database, or tables in memory that behave like it.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "domain/changes.h"
#include "domain/snapshot.h"

namespace plumb::sim {

// All that a database holds, for comparisons; what only people read (times, reasons) is left out.
struct Contents {
  int64_t incarnation = 0;
  int64_t events = 0;
  std::map<SweepId, std::string> sweeps;                          // state, trials, cursor
  std::map<TrialId, std::pair<std::string, std::string>> trials;  // key, state
  std::map<std::pair<SweepId, int64_t>, TrialId> links;
  struct Stage {
    TrialId trial;
    std::string name, state;
    int64_t target_step = 0, step = 0, attempts = 0, failures = 0, checkpoint_step = -1;
    std::string checkpoint_digest;
    bool operator==(const Stage&) const = default;
  };
  std::map<StageId, Stage> stages;
  struct Attempt {
    int64_t incarnation = 0, worker = 0, session = 0, start_step = 0, acked_seq = 0;
    std::string outcome;  // "" while it runs
    bool operator==(const Attempt&) const = default;
  };
  std::map<AttemptId, Attempt> attempts;
  std::map<std::tuple<StageId, std::string, int64_t>, double> points;  // stage, series, step
  std::map<std::pair<StageId, int64_t>, std::string> checkpoints;      // stage, step: digest
  std::map<WorkerId, std::tuple<std::string, std::string, int64_t>>
      workers;  // name, state, session
  bool operator==(const Contents&) const = default;
};

class Storage {
 public:
  virtual ~Storage() = default;

  // A server starts on it. FailedPrecondition: another has it open.
  virtual absl::Status Open() = 0;
  // The server is gone; what was committed stays.
  virtual void Close() = 0;
  virtual absl::StatusOr<ClusterSnapshot> Load() = 0;
  virtual absl::Status Commit(absl::Duration cluster_time, absl::Span<const Change> changes) = 0;
  virtual absl::StatusOr<std::map<std::string, TrialTree>> FindByKey(
      const std::vector<std::string>& keys) = 0;
  virtual absl::StatusOr<std::optional<TrialTree>> Find(TrialId trial) = 0;
  virtual absl::StatusOr<std::vector<SweepTrialRow>> LinksOf(TrialId trial) = 0;
  virtual absl::StatusOr<std::vector<TrunkRow>> FindTrunks(
      const std::set<std::string>& prefix_keys) = 0;

  // A copy of the file as it is, and that copy put back in its place; the latter while closed. With
  // `alone` what lies beside the file is lost, as on another machine.
  virtual absl::Status Save() = 0;
  virtual absl::Status PutBack(bool alone) = 0;

  virtual absl::StatusOr<Contents> Read() = 0;
};

std::unique_ptr<Storage> MakeMemoryStorage();
// In a folder that is there and empty.
std::unique_ptr<Storage> MakeSqliteStorage(const std::string& folder);

}  // namespace plumb::sim
