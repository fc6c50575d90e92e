#include "store/sqlite.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"

namespace plumb::store {

absl::Status StatusOf(int code, absl::string_view message) {
  switch (code & 0xff) {
    case SQLITE_OK:
      return absl::OkStatus();
    case SQLITE_CONSTRAINT:
      return absl::FailedPreconditionError(message);
    case SQLITE_FULL:
      return absl::ResourceExhaustedError(message);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return absl::UnavailableError(message);
    case SQLITE_IOERR:
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return absl::DataLossError(message);
    case SQLITE_INTERRUPT:
      return absl::DeadlineExceededError(message);
    case SQLITE_AUTH:
      return absl::PermissionDeniedError(message);
    case SQLITE_CANTOPEN:
      return absl::NotFoundError(message);
    default:
      return absl::InternalError(message);
  }
}

absl::StatusOr<Database> Database::Open(const std::string& path, Mode mode) {
  sqlite3* db = nullptr;
  int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
  switch (mode) {
    case Mode::kReadOnly:
      flags |= SQLITE_OPEN_READONLY;
      break;
    case Mode::kReadWrite:
      flags |= SQLITE_OPEN_READWRITE;
      break;
    case Mode::kCreate:
      flags |= SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
      break;
  }
  const int rc = sqlite3_open_v2(path.c_str(), &db, flags, nullptr);
  Database out(db);  // sqlite3_open_v2 makes a handle even when it fails
  if (rc != SQLITE_OK) return StatusOf(rc, absl::StrCat("open ", path, ": ", sqlite3_errmsg(db)));
  sqlite3_busy_timeout(db, 5000);
  sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0, nullptr);
  absl::Status s = out.Execute("PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;");
  if (!s.ok()) return s;
  return out;
}

absl::Status Database::LastError(absl::string_view context) const {
  return StatusOf(sqlite3_extended_errcode(db_.get()),
                  absl::StrCat(context, ": ", sqlite3_errmsg(db_.get())));
}

absl::StatusOr<Statement> Database::Prepare(absl::string_view sql) {
  sqlite3_stmt* stmt = nullptr;
  const int rc = sqlite3_prepare_v3(db_.get(), sql.data(), static_cast<int>(sql.size()),
                                    SQLITE_PREPARE_PERSISTENT, &stmt, nullptr);
  if (rc != SQLITE_OK) return LastError(absl::StrCat("prepare \"", sql, "\""));
  return Statement(stmt);
}

absl::Status Database::Execute(absl::string_view sql) {
  const std::string text(sql);
  if (sqlite3_exec(db_.get(), text.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) {
    return LastError(absl::StrCat("execute \"", sql.substr(0, 80), "\""));
  }
  return absl::OkStatus();
}

Statement& Statement::Bind(int index, int64_t value) {
  if (const int rc = sqlite3_bind_int64(stmt_.get(), index, value); rc != SQLITE_OK)
    bind_error_ = rc;
  return *this;
}
Statement& Statement::Bind(int index, double value) {
  if (!std::isfinite(value)) return BindNull(index);
  if (const int rc = sqlite3_bind_double(stmt_.get(), index, value); rc != SQLITE_OK)
    bind_error_ = rc;
  return *this;
}
Statement& Statement::Bind(int index, absl::string_view value) {
  const int rc =
      sqlite3_bind_text64(stmt_.get(), index, value.data() == nullptr ? "" : value.data(),
                          value.size(), SQLITE_TRANSIENT, SQLITE_UTF8);
  if (rc != SQLITE_OK) bind_error_ = rc;
  return *this;
}
Statement& Statement::BindNull(int index) {
  if (const int rc = sqlite3_bind_null(stmt_.get(), index); rc != SQLITE_OK) bind_error_ = rc;
  return *this;
}

absl::StatusOr<bool> Statement::Step() {
  if (bind_error_ != SQLITE_OK) {
    return StatusOf(std::exchange(bind_error_, SQLITE_OK),
                    absl::StrCat("bind in \"", sqlite3_sql(stmt_.get()), "\""));
  }
  const int rc = sqlite3_step(stmt_.get());
  if (rc == SQLITE_ROW) return true;
  if (rc == SQLITE_DONE) return false;
  absl::Status s =
      StatusOf(rc, absl::StrCat("\"", sqlite3_sql(stmt_.get()),
                                "\": ", sqlite3_errmsg(sqlite3_db_handle(stmt_.get()))));
  sqlite3_reset(stmt_.get());
  return s;
}

absl::Status Statement::Run() {
  while (true) {
    absl::StatusOr<bool> row = Step();
    if (!row.ok()) return row.status();
    if (!*row) break;
  }
  Reset();
  return absl::OkStatus();
}

void Statement::Reset() {
  sqlite3_reset(stmt_.get());
  sqlite3_clear_bindings(stmt_.get());
}

int Statement::columns() const { return sqlite3_column_count(stmt_.get()); }
std::string Statement::ColumnName(int column) const {
  return sqlite3_column_name(stmt_.get(), column);
}
bool Statement::IsNull(int column) const { return Type(column) == SQLITE_NULL; }
int Statement::Type(int column) const { return sqlite3_column_type(stmt_.get(), column); }
int64_t Statement::Int(int column) const { return sqlite3_column_int64(stmt_.get(), column); }
double Statement::Double(int column) const { return sqlite3_column_double(stmt_.get(), column); }
std::string Statement::Text(int column) const {
  const auto* p = reinterpret_cast<const char*>(sqlite3_column_text(stmt_.get(), column));
  return p == nullptr ? "" : std::string(p, sqlite3_column_bytes(stmt_.get(), column));
}
std::optional<int64_t> Statement::OptionalInt(int column) const {
  if (IsNull(column)) return std::nullopt;
  return Int(column);
}

}  // namespace plumb::store
