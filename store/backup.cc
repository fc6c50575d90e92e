#include "store/backup.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "domain/status_macros.h"
#include "store/event_chain.h"
#include "store/lock.h"
#include "store/migrations.h"
#include "store/sqlite.h"
#include "store/store.h"
#include "trainer/spec/sha256.h"

namespace plumb::store {
namespace {

namespace fs = std::filesystem;

absl::Status Sync(const std::string& path, int flags) {
  const int fd = open(path.c_str(), flags | O_CLOEXEC);
  if (fd < 0 || fsync(fd) != 0) {
    if (fd >= 0) close(fd);
    return absl::DataLossError(absl::StrCat("cannot sync ", path));
  }
  close(fd);
  return absl::OkStatus();
}

std::string FolderOf(const std::string& path) {
  const std::string folder = fs::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

// Into its place, durably.
absl::Status Publish(const std::string& temporary, const std::string& path) {
  RETURN_IF_ERROR(Sync(temporary, O_RDONLY));
  if (std::rename(temporary.c_str(), path.c_str()) != 0)
    return absl::DataLossError(absl::StrCat("cannot rename ", temporary, " to ", path));
  return Sync(FolderOf(path), O_RDONLY | O_DIRECTORY);
}

void RemoveDatabase(const std::string& path) {
  std::error_code ignored;
  for (const char* suffix : {"", "-wal", "-shm", "-journal"}) fs::remove(path + suffix, ignored);
}

// Between two syncs of a copy. A server's own syncs wait for what the disk has been given to write.
constexpr int kPagesAtOnce = 1024;

constexpr int64_t kSweepTotals = 6;  // the schema that has them

absl::StatusOr<std::vector<std::string>> Damage(Database& db) {
  std::vector<std::string> out;
  {
    ASSIGN_OR_RETURN(Statement s, db.Prepare("PRAGMA integrity_check(20)"));
    while (true) {
      ASSIGN_OR_RETURN(const bool more, s.Step());
      if (!more) break;
      if (s.Text(0) != "ok") out.push_back(s.Text(0));
    }
  }
  ASSIGN_OR_RETURN(Statement s, db.Prepare("PRAGMA foreign_key_check"));
  while (out.size() < 20) {
    ASSIGN_OR_RETURN(const bool more, s.Step());
    if (!more) break;
    out.push_back(absl::StrCat("row ", s.Int(1), " of ", s.Text(0), " refers to a row of ",
                               s.Text(2), " that is not there"));
  }
  return out;
}

absl::StatusOr<std::string> Digest(const std::string& path) {
  try {
    return spec::Sha256HexOfFile(path);
  } catch (const std::exception& e) {
    return absl::NotFoundError(e.what());
  }
}

// Of the file and, where it lies beside it, of what a server wrote there.
absl::StatusOr<int64_t> KnownIncarnation(const std::string& path) {
  int64_t out = 0;
  if (fs::exists(path)) {
    ASSIGN_OR_RETURN(Database db, Database::Open(path, Database::Mode::kReadOnly));
    ASSIGN_OR_RETURN(Statement s, db.Prepare("SELECT incarnation FROM cluster WHERE id = 1"));
    ASSIGN_OR_RETURN(const bool row, s.Step());
    if (row) out = s.Int(0);
  }
  ASSIGN_OR_RETURN(const int64_t side, ReadNumberFile(path + ".incarnation"));
  return std::max(out, side);
}

absl::Status MustBeSound(const std::string& path) {
  ASSIGN_OR_RETURN(const Report report, Check(path));
  if (report.damage.empty()) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(path, " is damaged: ", report.damage.front()));
}

}  // namespace

absl::StatusOr<Report> Check(const std::string& path) {
  if (!fs::exists(path)) return absl::NotFoundError(absl::StrCat("no database at ", path));
  Report out{.newest_schema = static_cast<int64_t>(Migrations().size())};
  ASSIGN_OR_RETURN(Database db, Database::Open(path, Database::Mode::kReadOnly));
  absl::StatusOr<std::vector<std::string>> damage = Damage(db);
  if (damage.ok()) {
    out.damage = *std::move(damage);
  } else {
    out.damage.push_back(std::string(damage.status().message()));
  }
  std::error_code ignored;
  out.bytes = static_cast<int64_t>(fs::file_size(path, ignored));
  if (!out.damage.empty()) return out;
  const auto number = [&](const std::string& sql) -> absl::StatusOr<int64_t> {
    ASSIGN_OR_RETURN(Statement s, db.Prepare(sql));
    ASSIGN_OR_RETURN(const bool row, s.Step());
    return row ? s.Int(0) : 0;
  };
  ASSIGN_OR_RETURN(const int64_t application, number("PRAGMA application_id"));
  if (application != kApplicationId)
    return absl::FailedPreconditionError(absl::StrCat(path, " is a database of another program"));
  ASSIGN_OR_RETURN(out.schema, number("PRAGMA user_version"));
  if (out.schema >= kSweepTotals) {
    // What the triggers keep must be what is there.
    ASSIGN_OR_RETURN(
        const int64_t off,
        number("SELECT (SELECT count(*) FROM sweep_total a LEFT JOIN sweep_recount b USING "
               "(sweep_id) WHERE b.sweep_id IS NULL OR a.steps_done <> b.steps_done OR "
               "a.steps_total <> b.steps_total OR a.tokens_done <> b.tokens_done OR "
               "abs(a.flops_done - b.flops_done) > 1e-9 * abs(b.flops_done) + 1 OR "
               "abs(a.flops_total - b.flops_total) > 1e-9 * abs(b.flops_total) + 1) + "
               "(SELECT count(*) FROM sweep_state s WHERE trials <> (SELECT count(*) FROM "
               "sweep_trial st JOIN trial t ON t.id = st.trial_id WHERE st.sweep_id = s.sweep_id "
               "AND t.state = s.state))"));
    if (off > 0)
      out.damage.push_back(absl::StrCat(off,
                                        " sums over sweeps (sweep_total, sweep_state) are not "
                                        "what their trials say"));
  }
  ASSIGN_OR_RETURN(out.incarnation, number("SELECT incarnation FROM cluster"));
  ASSIGN_OR_RETURN(const int64_t us, number("SELECT cluster_time_us FROM cluster"));
  out.cluster_time = absl::Microseconds(us);
  for (const char* table : {"sweep", "cell", "trial", "stage", "attempt", "series", "measurement",
                            "checkpoint", "event", "worker"}) {
    ASSIGN_OR_RETURN(const int64_t n, number(absl::StrCat("SELECT count(*) FROM ", table)));
    out.rows.emplace_back(table, n);
  }
  if (out.schema == out.newest_schema) {
    if (const absl::Status chain = CheckEventChain(db); !chain.ok())
      out.damage.push_back(std::string(chain.message()));
  }
  return out;
}

absl::StatusOr<Copied> Backup(const std::string& path, const std::string& dest) {
  if (!fs::exists(path)) return absl::NotFoundError(absl::StrCat("no database at ", path));
  if (fs::exists(dest))
    return absl::AlreadyExistsError(absl::StrCat(dest, " exists; give another name"));
  Copied out;
  const std::string temporary = dest + ".partial";
  RemoveDatabase(temporary);
  const absl::Time start = absl::Now();
  const absl::Status copied = [&]() -> absl::Status {
    ASSIGN_OR_RETURN(Database from, Database::Open(path, Database::Mode::kReadOnly));
    ASSIGN_OR_RETURN(Database to, Database::Open(temporary, Database::Mode::kCreate));
    // Half a copy is thrown away: it needs no journal. A small cache, so that pages reach the file.
    RETURN_IF_ERROR(to.Execute(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -4096"));
    // One read transaction around all steps: else each write of the server would start it again.
    RETURN_IF_ERROR(from.Execute("BEGIN; SELECT count(*) FROM sqlite_schema"));
    sqlite3_backup* backup = sqlite3_backup_init(to.handle(), "main", from.handle(), "main");
    if (backup == nullptr) return to.LastError("start the copy");
    int rc = SQLITE_OK;
    absl::Status synced;
    while (rc == SQLITE_OK && synced.ok()) {
      rc = sqlite3_backup_step(backup, kPagesAtOnce);
      synced = Sync(temporary, O_RDONLY);
    }
    sqlite3_backup_finish(backup);
    RETURN_IF_ERROR(synced);
    if (rc != SQLITE_DONE) return StatusOf(rc, absl::StrCat("copy ", path, " to ", temporary));
    // A copy is one file: no WAL beside it.
    return to.Execute("PRAGMA journal_mode = DELETE");
  }();
  absl::Status s = copied;
  const absl::Time middle = absl::Now();
  if (s.ok()) s = MustBeSound(temporary);
  if (s.ok()) {
    std::error_code ignored;
    out.bytes = static_cast<int64_t>(fs::file_size(temporary, ignored));
    absl::StatusOr<std::string> digest = Digest(temporary);
    s = digest.status();
    if (s.ok()) out.sha256 = *digest;
  }
  if (s.ok()) {
    std::ofstream sums(dest + ".sha256.partial", std::ios::trunc);
    sums << out.sha256 << "  " << fs::path(dest).filename().string() << "\n";
    if (!sums.flush())
      s = absl::ResourceExhaustedError(absl::StrCat("cannot write ", dest, ".sha256"));
  }
  if (s.ok()) s = Publish(dest + ".sha256.partial", dest + ".sha256");
  if (s.ok()) s = Publish(temporary, dest);
  if (!s.ok()) {
    RemoveDatabase(temporary);
    std::error_code ignored;
    fs::remove(dest + ".sha256.partial", ignored);
    return s;
  }
  out.copying = middle - start;
  out.checking = absl::Now() - middle;
  return out;
}

absl::StatusOr<std::string> Restore(const std::string& backup, const std::string& path,
                                    int64_t wall_us) {
  if (!fs::exists(backup)) return absl::NotFoundError(absl::StrCat("no backup at ", backup));
  std::error_code error;
  if (fs::equivalent(backup, path, error))
    return absl::InvalidArgumentError("the backup is the database itself");
  if (fs::exists(backup + ".sha256")) {
    std::ifstream in(backup + ".sha256");
    std::string said;
    in >> said;
    ASSIGN_OR_RETURN(const std::string is, Digest(backup));
    if (is != said) {
      return absl::DataLossError(
          absl::StrCat(backup, " is not what ", backup, ".sha256 says; take another backup"));
    }
  }
  RETURN_IF_ERROR(MustBeSound(backup));
  ASSIGN_OR_RETURN(const int64_t of_backup, KnownIncarnation(backup));
  ASSIGN_OR_RETURN(const FileLock lock, FileLock::Take(path + ".lock"));
  absl::StatusOr<int64_t> of_old = KnownIncarnation(path);  // a damaged file says nothing
  ASSIGN_OR_RETURN(const int64_t side, ReadNumberFile(path + ".incarnation"));
  const int64_t known = std::max({of_backup, of_old.ok() ? *of_old : 0, side});
  const std::string temporary = path + ".restoring";
  RemoveDatabase(temporary);
  fs::copy_file(backup, temporary, error);
  if (error) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot copy ", backup, " to ", temporary, ": ", error.message()));
  }
  // The server that opens the file next sees that more was known than it holds.
  RETURN_IF_ERROR(WriteNumberFile(path + ".incarnation", known + 1));
  std::string kept;
  if (fs::exists(path)) {
    kept = absl::StrCat(
        path, ".replaced-",
        absl::FormatTime("%Y%m%d-%H%M%S", absl::FromUnixMicros(wall_us), absl::UTCTimeZone()));
    for (const char* suffix : {"", "-wal", "-shm"}) {
      if (!fs::exists(path + suffix)) continue;
      fs::rename(path + suffix, kept + suffix, error);
      if (error)
        return absl::DataLossError(
            absl::StrCat("cannot rename ", path, suffix, ": ", error.message()));
    }
  }
  RETURN_IF_ERROR(Publish(temporary, path));
  return kept;
}

absl::StatusOr<std::string> MigrateWithBackup(const std::string& path, int64_t wall_us) {
  ASSIGN_OR_RETURN(const FileLock lock, FileLock::Take(path + ".lock"));
  ASSIGN_OR_RETURN(const Report report, Check(path));
  if (!report.damage.empty())
    return absl::DataLossError(absl::StrCat(path, " is damaged: ", report.damage.front(),
                                            "; restore a backup (plumb server restore)"));
  if (report.schema == report.newest_schema) return std::string();
  const std::string copy = absl::StrCat(path, ".schema-", report.schema);
  if (report.schema < report.newest_schema) RETURN_IF_ERROR(Backup(path, copy).status());
  ASSIGN_OR_RETURN(Database db, Database::Open(path, Database::Mode::kReadWrite));
  RETURN_IF_ERROR(Migrate(db, path, wall_us));
  RETURN_IF_ERROR(MustBeSound(path));
  return copy;
}

std::string SnapshotName(absl::Time time) {
  return absl::FormatTime("plumb-%Y%m%d-%H%M%S.db", time, absl::UTCTimeZone());
}

absl::Status PruneSnapshots(const std::string& dir, int64_t keep) {
  std::vector<std::string> names;
  std::vector<fs::path> leftovers;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(dir, error)) {
    const std::string name = entry.path().filename().string();
    if (!absl::StartsWith(name, "plumb-")) continue;
    if (absl::EndsWith(name, ".db")) names.push_back(name);
    // Of a server that was killed while it copied. A day is longer than any copy takes.
    std::error_code unknown;
    const auto written = fs::last_write_time(entry.path(), unknown);
    if (absl::StrContains(name, ".db.partial") && !unknown &&
        fs::file_time_type::clock::now() - written > std::chrono::hours(24))
      leftovers.push_back(entry.path());
  }
  if (error) return absl::NotFoundError(absl::StrCat("cannot list ", dir, ": ", error.message()));
  for (const fs::path& path : leftovers) fs::remove(path, error);
  std::sort(names.rbegin(), names.rend());
  for (size_t i = static_cast<size_t>(std::max<int64_t>(keep, 1)); i < names.size(); ++i) {
    fs::remove(fs::path(dir) / names[i], error);
    fs::remove(fs::path(dir) / (names[i] + ".sha256"), error);
  }
  return absl::OkStatus();
}

}  // namespace plumb::store
