#include "store/extract.h"

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "domain/status_macros.h"
#include "store/backup.h"
#include "store/event_chain.h"
#include "store/migrations.h"
#include "store/sqlite.h"

namespace plumb::store {
namespace {

namespace fs = std::filesystem;

// Which rows of which table, in an order that foreign keys and the triggers that count allow. S:
// sweeps, T: their trials, G: their stages (temporary tables of the source's connection).
constexpr std::pair<const char*, const char*> kTables[] = {
    {"worker",
     "WHERE id IN (SELECT worker_id FROM attempt WHERE stage_id IN G UNION SELECT "
     "worker_id FROM attempt_member WHERE stage_id IN G) ORDER BY id"},
    {"user", "WHERE name IN (SELECT user FROM sweep WHERE id IN S) ORDER BY name"},
    {"sweep", "WHERE id IN S ORDER BY id"},
    {"cell", "WHERE sweep_id IN S ORDER BY id"},
    {"trial", "WHERE id IN T ORDER BY id"},
    {"stage", "WHERE trial_id IN T ORDER BY id"},
    {"sweep_trial", "WHERE sweep_id IN S ORDER BY sweep_id, idx"},
    {"attempt", "WHERE stage_id IN G ORDER BY stage_id, number"},
    {"attempt_member", "WHERE stage_id IN G ORDER BY stage_id, number, first_rank"},
    {"series", "WHERE stage_id IN G ORDER BY id"},
    {"measurement",
     "WHERE series_id IN (SELECT id FROM series WHERE stage_id IN G) "
     "ORDER BY series_id, step"},
    {"document_score", "WHERE stage_id IN G ORDER BY stage_id, split, document"},
    {"record", "WHERE stage_id IN G ORDER BY stage_id, kind, name, idx"},
    {"checkpoint", "WHERE stage_id IN G ORDER BY stage_id, step"},
    {"trunk", "WHERE stage_id IN G ORDER BY prefix_key, step"},
    {"sweep_addition", "WHERE sweep_id IN S ORDER BY sweep_id, idx"},
    {"look", "WHERE sweep_id IN S ORDER BY sweep_id, seq"},
    {"sweep_tag", "WHERE sweep_id IN S ORDER BY sweep_id, tag"},
    {"trial_tag", "WHERE trial_id IN T ORDER BY trial_id, tag"},
    {"sweep_note", "WHERE sweep_id IN S ORDER BY sweep_id"},
    {"trial_note", "WHERE trial_id IN T ORDER BY trial_id"},
    {"sweep_origin", "WHERE sweep_id IN S ORDER BY sweep_id"},
    {"trial_origin", "WHERE trial_id IN T ORDER BY trial_id"},
};

// Returns how many rows.
absl::StatusOr<int64_t> Copy(Database& from, Database& to, const std::string& table,
                             const std::string& which) {
  ASSIGN_OR_RETURN(Statement rows, from.Prepare(absl::StrCat("SELECT * FROM ", table, " ", which)));
  std::vector<std::string> columns, places;
  for (int c = 0; c < rows.columns(); ++c) {
    columns.push_back(rows.ColumnName(c));
    places.push_back("?");
  }
  ASSIGN_OR_RETURN(Statement insert, to.Prepare(absl::StrCat(
                                         "INSERT INTO ", table, " (", absl::StrJoin(columns, ", "),
                                         ") VALUES (", absl::StrJoin(places, ", "), ")")));
  int64_t n = 0;
  for (;; ++n) {
    ASSIGN_OR_RETURN(const bool more, rows.Step());
    if (!more) return n;
    for (int c = 0; c < rows.columns(); ++c)
      sqlite3_bind_value(insert.handle(), c + 1, sqlite3_column_value(rows.handle(), c));
    RETURN_IF_ERROR(insert.Run());
  }
}

absl::StatusOr<int64_t> CopyEvents(Database& from, Database& to, int64_t wall_us,
                                   const std::string& which) {
  std::string source;
  EventRow first{.time_us = wall_us, .kind = "exported"};
  {
    ASSIGN_OR_RETURN(Statement s,
                     from.Prepare("SELECT uid, last_event, last_event_hash FROM cluster"));
    ASSIGN_OR_RETURN(const bool row, s.Step());
    if (!row) return absl::DataLossError("the cluster row is missing");
    first.detail = absl::StrCat("sweeps ", which, " of cluster ", s.Text(0),
                                ", whose chain of events ends at ", s.Int(1), " with ", s.Text(2),
                                "; those of these sweeps follow, numbered and chained anew");
  }
  ASSIGN_OR_RETURN(EventHead head, ReadEventHead(to));
  ASSIGN_OR_RETURN(Statement insert, to.Prepare(kInsertEvent));
  RETURN_IF_ERROR(InsertEvent(insert, first, &head));
  ASSIGN_OR_RETURN(
      Statement rows,
      from.Prepare("SELECT time_us, kind, sweep_id, trial_id, stage_id, attempt, worker_id, detail "
                   "FROM event WHERE sweep_id IN S OR trial_id IN T ORDER BY id"));
  for (;;) {
    ASSIGN_OR_RETURN(const bool more, rows.Step());
    if (!more) break;
    RETURN_IF_ERROR(InsertEvent(insert,
                                {.time_us = rows.Int(0),
                                 .kind = rows.Text(1),
                                 .sweep = SweepId{rows.Int(2)},
                                 .trial = TrialId{rows.Int(3)},
                                 .stage = StageId{rows.Int(4)},
                                 .attempt = rows.Int(5),
                                 .worker = WorkerId{rows.Int(6)},
                                 .detail = rows.Text(7)},
                                &head));
  }
  RETURN_IF_ERROR(WriteEventHead(to, head));
  return head.id;
}

absl::StatusOr<Extracted> Fill(const std::string& path, const std::string& temporary,
                               const std::vector<int64_t>& sweeps, int64_t wall_us) {
  ASSIGN_OR_RETURN(Database from, Database::Open(path, Database::Mode::kReadOnly));
  RETURN_IF_ERROR(CheckSchema(from, path));
  ASSIGN_OR_RETURN(Database to, Database::Open(temporary, Database::Mode::kCreate));
  RETURN_IF_ERROR(to.Execute("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF"));
  RETURN_IF_ERROR(Migrate(to, temporary, wall_us));
  // Temporary tables are this connection's own; the transaction holds one moment of the file.
  RETURN_IF_ERROR(from.Execute(
      "PRAGMA temp_store = MEMORY; BEGIN; CREATE TEMP TABLE S (id INTEGER PRIMARY KEY); CREATE "
      "TEMP "
      "TABLE T (id INTEGER PRIMARY KEY); CREATE TEMP TABLE G (id INTEGER PRIMARY KEY)"));
  if (sweeps.empty()) {
    RETURN_IF_ERROR(from.Execute("INSERT INTO S SELECT id FROM sweep"));
  } else {
    ASSIGN_OR_RETURN(Statement pick,
                     from.Prepare("INSERT OR IGNORE INTO S SELECT id FROM sweep WHERE id = ?"));
    for (const int64_t id : sweeps) {
      RETURN_IF_ERROR(pick.Bind(1, id).Run());
      if (from.changes() == 0) {
        return absl::NotFoundError(absl::StrCat(
            "no sweep ", id, " in ", path, " (or named twice); `plumb sweep list` shows them"));
      }
    }
  }
  // With those whose points their curves begin with.
  RETURN_IF_ERROR(from.Execute(
      "INSERT INTO T WITH RECURSIVE line (id) AS (SELECT trial_id FROM sweep_trial WHERE sweep_id "
      "IN S UNION SELECT s.trial_id FROM line JOIN stage g ON g.trial_id = line.id JOIN stage s ON "
      "s.id = g.branch_stage_id) SELECT id FROM line; "
      "INSERT INTO G SELECT id FROM stage WHERE trial_id IN T"));
  Extracted out;
  RETURN_IF_ERROR(to.Begin());
  for (const auto& [table, which] : kTables) {
    ASSIGN_OR_RETURN(const int64_t rows, Copy(from, to, table, which));
    if (std::string(table) == "sweep") out.sweeps = rows;
    if (std::string(table) == "trial") out.trials = rows;
    if (std::string(table) == "measurement") out.points = rows;
  }
  RETURN_IF_ERROR(to.Execute(
      "UPDATE attempt SET outcome = 'lost', cause = 'it ran when this copy was made' WHERE outcome "
      "IS NULL; UPDATE stage SET state = 'pending', reason = 'it ran when this copy was made' "
      "WHERE "
      "state = 'running'; UPDATE trial SET state = 'pending' WHERE state = 'running'; UPDATE "
      "worker "
      "SET state = 'gone'"));
  ASSIGN_OR_RETURN(out.events,
                   CopyEvents(from, to, wall_us,
                              sweeps.empty() ? std::string("(all)") : absl::StrJoin(sweeps, ", ")));
  RETURN_IF_ERROR(to.Commit());
  RETURN_IF_ERROR(from.Rollback());
  RETURN_IF_ERROR(to.Execute("PRAGMA journal_mode = DELETE"));
  return out;
}

absl::Status Sync(const std::string& path, int flags) {
  const int fd = open(path.c_str(), flags | O_CLOEXEC);
  const bool ok = fd >= 0 && fsync(fd) == 0;
  if (fd >= 0) close(fd);
  return ok ? absl::OkStatus() : absl::DataLossError(absl::StrCat("cannot sync ", path));
}

}  // namespace

absl::StatusOr<Extracted> Extract(const std::string& path, const std::string& dest,
                                  const std::vector<int64_t>& sweeps, int64_t wall_us) {
  if (!fs::exists(path)) {
    return absl::NotFoundError(
        absl::StrCat("no database ", path, "; name one with --db FILE, or make one: plumb up"));
  }
  if (fs::exists(dest))
    return absl::AlreadyExistsError(absl::StrCat(dest, " exists; give another name"));
  const std::string temporary = dest + ".partial";
  std::error_code ignored;
  fs::remove(temporary, ignored);
  absl::StatusOr<Extracted> out = Fill(path, temporary, sweeps, wall_us);
  absl::Status s = out.status();
  if (s.ok()) {
    const absl::StatusOr<Report> report = Check(temporary);
    s = report.status();
    if (s.ok() && !report->damage.empty())
      s = absl::DataLossError(absl::StrCat("the copy is not sound: ", report->damage.front()));
  }
  if (s.ok()) s = Sync(temporary, O_RDONLY);
  if (s.ok()) {
    std::error_code error;
    fs::rename(temporary, dest, error);
    if (error) s = absl::InternalError(absl::StrCat("rename to ", dest, ": ", error.message()));
  }
  if (s.ok()) {
    const std::string folder = fs::absolute(dest).parent_path().string();
    s = Sync(folder, O_RDONLY | O_DIRECTORY);
  }
  if (s.ok()) return out;
  fs::remove(temporary, ignored);
  return s;
}

}  // namespace plumb::store
