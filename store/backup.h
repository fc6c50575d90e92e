// Copies of the database, taken while a server writes to it, verified, and put back.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace plumb::store {

struct Report {
  int64_t schema = 0, newest_schema = 0;
  int64_t incarnation = 0;
  absl::Duration cluster_time;
  std::vector<std::pair<std::string, int64_t>> rows;  // by table
  int64_t bytes = 0;
  std::vector<std::string> damage;  // empty: it is sound
};

// Reads all of a database: pages (integrity_check), references (foreign_key_check), the chain of
// events. Changes nothing; a server may be writing to it.
absl::StatusOr<Report> Check(const std::string& path);

struct Copied {
  int64_t bytes = 0;
  std::string sha256;
  absl::Duration copying, checking;
};

// Makes `dest`, a copy of one moment of the database at `path`, and `dest`.sha256. A read
// transaction holds that moment; writers go on meanwhile, only the WAL grows. `dest` appears when
// it is complete, verified and on disk; it must not exist.
absl::StatusOr<Copied> Backup(const std::string& path, const std::string& dest);

// Puts `backup` in the place of the database at `path`; what was there is kept, under the name that
// is returned ("": nothing was). Refuses while a server has it open, and a backup that is damaged
// or is not what its .sha256 says. The incarnation rises past every one known beside either file,
// so that no attempt of before can bring anything into it.
absl::StatusOr<std::string> Restore(const std::string& backup, const std::string& path,
                                    int64_t wall_us);

// Brings the database up to this program's schema, after a verified copy to the path that is
// returned ("": it was up to date).
absl::StatusOr<std::string> MigrateWithBackup(const std::string& path, int64_t wall_us);

// Of the snapshots in a folder (by SnapshotName) keeps the newest `keep`.
absl::Status PruneSnapshots(const std::string& dir, int64_t keep);
std::string SnapshotName(absl::Time time);

}  // namespace plumb::store
