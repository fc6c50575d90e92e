#include "coordinator/snapshots.h"

#include <chrono>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "spdlog/spdlog.h"
#include "store/backup.h"

namespace plumb::coordinator {

Snapshots::Snapshots(const SnapshotOptions& options, std::string db_path, Metrics* metrics)
    : options_(options), db_path_(std::move(db_path)), metrics_(metrics) {
  if (!options_.dir.empty()) thread_ = std::thread([this] { Run(); });
}

Snapshots::~Snapshots() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Snapshots::Run() {
  bool failed = false;
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      if (changed_.wait_for(lock, absl::ToChronoNanoseconds(options_.every),
                            [this] { return stop_; }))
        return;
    }
    const absl::Time now = absl::Now();
    const std::string dest =
        (std::filesystem::path(options_.dir) / store::SnapshotName(now)).string();
    const absl::StatusOr<store::Copied> copied = store::Backup(db_path_, dest);
    if (!copied.ok()) {
      metrics_->SnapshotFailed();
      // Said when it begins; the metric counts on.
      if (!failed) spdlog::error("snapshot {}: {}", dest, std::string(copied.status().message()));
      failed = true;
      continue;
    }
    if (failed) spdlog::info("snapshots are taken again: {}", dest);
    failed = false;
    metrics_->SnapshotTaken(absl::Now(), copied->copying + copied->checking);
    if (const absl::Status s = store::PruneSnapshots(options_.dir, options_.keep); !s.ok())
      spdlog::error("old snapshots: {}", std::string(s.message()));
  }
}

}  // namespace plumb::coordinator
