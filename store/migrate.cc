#include "absl/strings/str_cat.h"
#include "domain/status_macros.h"
#include "store/event_chain.h"
#include "store/migrations.h"

namespace plumb::store {
namespace {

constexpr size_t kEventChain = 4;  // the migration after which events are a chain

absl::StatusOr<int64_t> ReadInt(Database& db, const char* sql) {
  ASSIGN_OR_RETURN(Statement s, db.Prepare(sql));
  ASSIGN_OR_RETURN(const bool row, s.Step());
  return row ? s.Int(0) : 0;
}

struct Header {
  int64_t version = 0;
  bool empty = false;
};

absl::StatusOr<Header> ReadHeader(Database& db, const std::string& path) {
  absl::StatusOr<int64_t> tables = ReadInt(db, "SELECT count(*) FROM sqlite_schema");
  if (!tables.ok()) {
    return absl::FailedPreconditionError(absl::StrCat(path, " cannot be read as a database (",
                                                      tables.status().message(),
                                                      "); give another path with --db"));
  }
  ASSIGN_OR_RETURN(const int64_t application, ReadInt(db, "PRAGMA application_id"));
  ASSIGN_OR_RETURN(const int64_t version, ReadInt(db, "PRAGMA user_version"));
  const bool empty = *tables == 0 && application == 0 && version == 0;
  if (!empty && application != kApplicationId) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " is a database of another program; give another path with --db"));
  }
  const auto newest = static_cast<int64_t>(Migrations().size());
  if (version > newest) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " has schema ", version, ", this program knows up to ", newest,
                     "; use a newer plumb, or a copy made before the upgrade"));
  }
  return Header{.version = version, .empty = empty};
}

}  // namespace

absl::Status CheckSchema(Database& db, const std::string& path) {
  ASSIGN_OR_RETURN(const Header header, ReadHeader(db, path));
  if (header.version < static_cast<int64_t>(Migrations().size())) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " has an older schema (", header.version,
                     "); a start of `plumb server` brings it up to date"));
  }
  return absl::OkStatus();
}

absl::Status Migrate(Database& db, const std::string& path, int64_t wall_us) {
  ASSIGN_OR_RETURN(const Header header, ReadHeader(db, path));
  const std::vector<const char*>& all = Migrations();
  for (size_t i = header.version; i < all.size(); ++i) {
    RETURN_IF_ERROR(db.Begin());
    absl::Status s = db.Execute(all[i]);
    if (s.ok() && i == 0) {
      s = db.Execute(absl::StrCat(
          "PRAGMA application_id = ", kApplicationId,
          "; INSERT INTO cluster (id, incarnation, starts, cluster_time_us, create_time_us) "
          "VALUES (1, 1, 0, 0, ",
          wall_us, ")"));
    }
    if (s.ok() && i == kEventChain) s = ChainOldEvents(db);
    if (s.ok()) s = db.Execute(absl::StrCat("PRAGMA user_version = ", i + 1));
    if (s.ok()) s = db.Commit();
    if (!s.ok()) {
      (void)db.Rollback();
      return absl::Status(s.code(),
                          absl::StrCat("migrate ", path, " to schema ", i + 1, ": ", s.message()));
    }
  }
  return absl::OkStatus();
}

}  // namespace plumb::store
