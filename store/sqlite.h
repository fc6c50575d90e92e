// SQLite in C++: a connection, a prepared statement, a transaction, with absl::Status and bound
// values only. Not thread-safe: one connection, one thread.
#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace plumb::store {

// A row cursor over a compiled statement. Bind from 1, read columns from 0.
class Statement {
 public:
  Statement(Statement&&) = default;
  Statement& operator=(Statement&&) = default;

  Statement& Bind(int index, int64_t value);
  Statement& Bind(int index, int value) { return Bind(index, int64_t{value}); }
  Statement& Bind(int index, double value);  // NULL where it is not finite
  Statement& Bind(int index, absl::string_view value);
  Statement& Bind(int index, const std::string& value) {
    return Bind(index, absl::string_view(value));
  }
  Statement& Bind(int index, const char* value) { return Bind(index, absl::string_view(value)); }
  Statement& BindNull(int index);
  void Bind(int index, bool value) = delete;  // say 0 or 1

  // True: a row is there to read. False: done. The statement is reset by Reset() or the next Run().
  absl::StatusOr<bool> Step();
  // Runs to the end, ignoring rows, and resets.
  absl::Status Run();
  void Reset();

  int columns() const;
  std::string ColumnName(int column) const;
  bool IsNull(int column) const;
  int Type(int column) const;  // SQLITE_INTEGER, …
  int64_t Int(int column) const;
  double Double(int column) const;
  std::string Text(int column) const;
  std::optional<int64_t> OptionalInt(int column) const;

  sqlite3_stmt* handle() const { return stmt_.get(); }

 private:
  friend class Database;
  struct Finalize {
    void operator()(sqlite3_stmt* s) const { sqlite3_finalize(s); }
  };
  explicit Statement(sqlite3_stmt* stmt) : stmt_(stmt) {}
  std::unique_ptr<sqlite3_stmt, Finalize> stmt_;
  int bind_error_ = SQLITE_OK;
};

class Database {
 public:
  enum class Mode { kReadOnly, kReadWrite, kCreate };
  // Opens with foreign keys on, trusted_schema off, extension loading off and a busy timeout of 5
  // s.
  static absl::StatusOr<Database> Open(const std::string& path, Mode mode);
  Database(Database&&) = default;
  Database& operator=(Database&&) = default;

  absl::StatusOr<Statement> Prepare(absl::string_view sql);
  absl::Status Execute(absl::string_view sql);  // one or more statements without results
  absl::Status Begin() { return Execute("BEGIN IMMEDIATE"); }
  absl::Status Commit() { return Execute("COMMIT"); }
  absl::Status Rollback() { return Execute("ROLLBACK"); }
  int64_t last_insert_id() const { return sqlite3_last_insert_rowid(db_.get()); }
  int64_t changes() const { return sqlite3_changes64(db_.get()); }
  absl::Status LastError(absl::string_view context) const;

  sqlite3* handle() const { return db_.get(); }

 private:
  struct Close {
    void operator()(sqlite3* db) const { sqlite3_close_v2(db); }
  };
  explicit Database(sqlite3* db) : db_(db) {}
  std::unique_ptr<sqlite3, Close> db_;
};

// SQLite's result code as a status: constraint → FailedPrecondition, full → ResourceExhausted, busy
// → Unavailable, I/O error and corruption → DataLoss, everything else → Internal.
absl::Status StatusOf(int code, absl::string_view message);

}  // namespace plumb::store
