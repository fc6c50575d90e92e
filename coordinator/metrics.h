// What the server counts of itself, for `plumb server status` and for Prometheus.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "coordinator/core/core.h"

namespace plumb::coordinator {

// Any thread.
class Metrics {
 public:
  void Committed(absl::Duration took, int64_t changes, int64_t points);
  void CommitFailed() { ++commit_failures_; }
  void Accepted() { ++accepted_; }
  void Refused() { ++refused_; }
  void SnapshotTaken(absl::Time when, absl::Duration took);
  void SnapshotFailed() { ++snapshot_failures_; }

  int64_t commits() const { return commits_; }
  int64_t points() const { return points_; }
  absl::Duration longest_commit() const { return absl::Microseconds(longest_us_.load()); }
  absl::Duration uptime() const { return absl::Now() - start_; }
  int64_t last_snapshot_unix() const { return last_snapshot_; }
  // Prometheus text format 0.0.4; `cluster` is what the core says of itself, "" where it does not.
  std::string Exposition(const std::string& cluster, const std::string& version) const;

 private:
  static constexpr std::array<double, 12> kBounds = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
                                                     0.05,   0.1,   0.25,   0.5,   1,    2.5};
  const absl::Time start_ = absl::Now();
  std::atomic<int64_t> commits_ = 0, changes_ = 0, points_ = 0, commit_failures_ = 0;
  std::atomic<int64_t> accepted_ = 0, refused_ = 0, commit_us_ = 0, longest_us_ = 0;
  std::atomic<int64_t> last_snapshot_ = 0, snapshot_us_ = 0, snapshot_failures_ = 0;
  std::array<std::atomic<int64_t>, kBounds.size() + 1> by_time_{};
};

// Gauges of workers, slots, users and what waits. On the owner thread.
std::string ClusterExposition(const core::Core& core, core::Now now);

}  // namespace plumb::coordinator
