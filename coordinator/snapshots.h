// Verified copies of the database, again and again, to a folder that outlives this machine.
#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

#include "absl/time/time.h"
#include "coordinator/metrics.h"

namespace plumb::coordinator {

struct SnapshotOptions {
  std::string dir;  // "": none are taken
  absl::Duration every = absl::Minutes(10);
  int64_t keep = 24;
};

// A thread of its own that reads the file beside the server's writer: commits do not wait for it.
class Snapshots {
 public:
  Snapshots(const SnapshotOptions& options, std::string db_path, Metrics* metrics);
  ~Snapshots();

 private:
  void Run();

  const SnapshotOptions options_;
  const std::string db_path_;
  Metrics* const metrics_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stop_ = false;  // by mutex_
  std::thread thread_;
};

}  // namespace plumb::coordinator
