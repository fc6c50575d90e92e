#include "store/store.h"

#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "domain/status_macros.h"
#include "store/migrations.h"

namespace plumb::store {

absl::StatusOr<std::unique_ptr<Store>> Store::Open(const std::string& path, int64_t wall_us) {
  RETURN_IF_ERROR(MustBeLocal(path));
  ASSIGN_OR_RETURN(FileLock lock, FileLock::Take(path + ".lock"));
  ASSIGN_OR_RETURN(Database db, Database::Open(path, Database::Mode::kCreate));
  RETURN_IF_ERROR(Migrate(db, path, wall_us));
  // FULL: a commit is on disk when it returns. Checkpoints are this connection's, by its own
  // commits.
  RETURN_IF_ERROR(db.Execute(
      "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -32768; "
      "PRAGMA journal_size_limit = 67108864; PRAGMA temp_store = MEMORY; "
      "PRAGMA secure_delete = OFF;"));
  ASSIGN_OR_RETURN(MarkFile mark, MarkFile::Open(path + ".mark"));
  std::unique_ptr<Store> store(new Store(std::move(db), std::move(lock), std::move(mark), path));
  RETURN_IF_ERROR(store->Begin(wall_us));
  return store;
}

absl::Status Store::Begin(int64_t wall_us) {
  const std::string side = path_ + ".incarnation";
  ASSIGN_OR_RETURN(const int64_t known, ReadNumberFile(side));
  int64_t cluster_time_us = 0;
  {
    ASSIGN_OR_RETURN(Statement s,
                     db_.Prepare("SELECT incarnation, cluster_time_us FROM cluster WHERE id = 1"));
    ASSIGN_OR_RETURN(const bool row, s.Step());
    if (!row)
      return absl::FailedPreconditionError(
          absl::StrCat(path_, " has no cluster row: it is damaged"));
    incarnation_ = s.Int(0);
    cluster_time_us = s.Int(1);
  }
  std::random_device random;
  const int64_t run = static_cast<int64_t>((uint64_t{random()} << 32 | random()) >> 2) + 1;
  std::string sql = absl::StrCat(
      "BEGIN IMMEDIATE; UPDATE cluster SET starts = starts + 1;"
      "INSERT INTO server_start SELECT ",
      run, ", starts, cluster_time_us FROM cluster;");
  const bool older =
      known > incarnation_ || (known == incarnation_ && mark_.Read() > cluster_time_us);
  if (older) {
    const int64_t raised = known + 1;
    absl::StrAppend(&sql, "UPDATE cluster SET incarnation = ", raised, ";",
                    "UPDATE attempt SET outcome = 'lost', cause = 'the database is an older copy "
                    "put back', end_time_us = ",
                    wall_us, " WHERE outcome IS NULL;",
                    "UPDATE trial SET state = 'pending' WHERE state = 'running';"
                    "UPDATE stage SET state = 'pending', reason = 'its attempt was lost: the "
                    "database is an older copy' "
                    "WHERE state = 'running';");
    incarnation_ = raised;
  }
  next_incarnation_ = incarnation_;
  if (known != incarnation_) RETURN_IF_ERROR(WriteNumberFile(side, incarnation_));
  RETURN_IF_ERROR(db_.Execute(sql));
  ASSIGN_OR_RETURN(events_, ReadEventHead(db_));
  if (older) {
    ASSIGN_OR_RETURN(Statement insert, db_.Prepare(kInsertEvent));
    RETURN_IF_ERROR(InsertEvent(
        insert,
        {.time_us = wall_us,
         .kind = "incarnation_raised",
         .detail = absl::StrCat("to ", incarnation_,
                                ": by the files beside it, the database is an older copy of "
                                "incarnation ",
                                known)},
        &events_));
    RETURN_IF_ERROR(WriteEventHead(db_, events_));
  }
  RETURN_IF_ERROR(db_.Commit());
  mark_.Write(cluster_time_us);
  return absl::OkStatus();
}

absl::StatusOr<Statement*> Store::Cached(const char* sql) {
  const auto it = statements_.find(sql);
  if (it != statements_.end()) return &it->second;
  ASSIGN_OR_RETURN(Statement s, db_.Prepare(sql));
  return &statements_.emplace(sql, std::move(s)).first->second;
}

}  // namespace plumb::store
