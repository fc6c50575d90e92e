// plumb query: one SELECT in a child process, on a read-only connection that authorises reading
// alone.
#include <signal.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>

#include "absl/strings/str_cat.h"
#include "app/commands.h"
#include "app/database.h"
#include "app/exit_code.h"
#include "app/signals.h"
#include "app/table.h"
#include "domain/status_macros.h"
#include "store/migrations.h"

namespace plumb::app {
namespace {

using Clock = std::chrono::steady_clock;
constexpr rlim_t kMemory = rlim_t{4} << 30;  // of the child: a query cannot take the machine down

// Sets *denied: SQLite reports some refusals as plain errors.
int Authorize(void* denied, int action, const char*, const char* name, const char*, const char*) {
  switch (action) {
    case SQLITE_SELECT:
    case SQLITE_READ:
    case SQLITE_RECURSIVE:
      return SQLITE_OK;
    case SQLITE_FUNCTION:
      if (name == nullptr || sqlite3_stricmp(name, "load_extension") != 0) return SQLITE_OK;
      break;
    default:  // writes, ATTACH, PRAGMA, transactions, and whatever later versions add
      break;
  }
  *static_cast<bool*>(denied) = true;
  return SQLITE_DENY;
}

int PastDeadline(void* end) { return Clock::now() > *static_cast<Clock::time_point*>(end); }

// "" where the file has this program's schema; else how a newer view may be missing from it.
absl::StatusOr<std::string> Older(store::Database& db) {
  ASSIGN_OR_RETURN(store::Statement version, db.Prepare("PRAGMA user_version"));
  ASSIGN_OR_RETURN(const bool there, version.Step());
  const int64_t newest = std::ssize(store::Migrations());
  if (!there || version.Int(0) >= newest) return std::string();
  return absl::StrCat("; the file has schema ", version.Int(0), ", this program ", newest,
                      ": plumb server migrate");
}

absl::Status Run(const Context& context, const QueryArgs& args, Format format) {
  auto db = OpenResults(context.db);
  if (!db.ok()) return db.status();
  ASSIGN_OR_RETURN(const std::string older, Older(*db));
  bool denied = false;
  sqlite3_set_authorizer(db->handle(), Authorize, &denied);
  sqlite3_limit(db->handle(), SQLITE_LIMIT_LENGTH, 64 << 20);
  Clock::time_point end =
      Clock::now() + std::chrono::milliseconds(static_cast<int64_t>(args.deadline * 1000));
  sqlite3_progress_handler(db->handle(), 1000, PastDeadline, &end);

  sqlite3_stmt* raw = nullptr;
  const char* tail = nullptr;
  const int rc = sqlite3_prepare_v2(db->handle(), args.sql.c_str(), -1, &raw, &tail);
  const std::unique_ptr<sqlite3_stmt, int (*)(sqlite3_stmt*)> statement(raw, sqlite3_finalize);
  if (rc != SQLITE_OK && denied) {
    return absl::PermissionDeniedError(
        absl::StrCat("query reads only (", sqlite3_errmsg(db->handle()), "); write a SELECT"));
  }
  if (rc != SQLITE_OK) {
    return absl::InvalidArgumentError(
        absl::StrCat("SQL: ", sqlite3_errmsg(db->handle()),
                     "; views: v_trial, v_cell, v_curve, v_record, … (plumb query \"SELECT sql "
                     "FROM sqlite_schema\")",
                     older));
  }
  if (!raw) return absl::InvalidArgumentError("SQL: nothing to run; write a SELECT");
  if (std::strspn(tail, " \t\r\n;") != std::strlen(tail)) {
    return absl::InvalidArgumentError("SQL: one statement at a time");
  }
  Table table;
  const int columns = sqlite3_column_count(raw);
  for (int c = 0; c < columns; ++c) table.columns.push_back({sqlite3_column_name(raw, c)});
  bool cut = false;
  for (;;) {
    const int step = sqlite3_step(raw);
    if (step == SQLITE_DONE) break;
    if (step == SQLITE_INTERRUPT) {
      return absl::DeadlineExceededError(
          absl::StrCat("the query ran past ", Number(args.deadline),
                       " s; narrow it, or allow more: --deadline SECONDS"));
    }
    if (step != SQLITE_ROW) return db->LastError("query");
    if (static_cast<int64_t>(table.rows.size()) == args.max_rows) {
      cut = true;
      break;
    }
    std::vector<Value>& row = table.rows.emplace_back();
    for (int c = 0; c < columns; ++c) row.push_back(ColumnValue(raw, c));
  }
  std::fputs(Print(table, format, StdoutIsTerminal() ? TerminalWidth() : 0).c_str(), stdout);
  std::fflush(stdout);
  if (cut) {
    std::fprintf(stderr, "plumb: cut after %lld rows; more: --max-rows N\n",
                 static_cast<long long>(args.max_rows));
  }
  return absl::OkStatus();
}

}  // namespace

int RunQuery(const Context& context, const QueryArgs& args) {
  absl::StatusOr<Format> format = ParseFormat(context.format);
  if (!format.ok()) return Finish(format.status());
  if (!(args.deadline > 0) || args.deadline > 86400) {
    return Finish(
        absl::InvalidArgumentError("--deadline: give seconds, above 0 and at most 86400"));
  }
  if (args.max_rows < 1 || args.max_rows > 10'000'000) {
    return Finish(absl::InvalidArgumentError("--max-rows: give 1 to 10000000"));
  }
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child < 0) return Finish(absl::InternalError(absl::StrCat("fork: ", std::strerror(errno))));
  if (child == 0) {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // their shadow is larger
    const rlimit memory = {kMemory, kMemory};
    setrlimit(RLIMIT_AS, &memory);
#endif
    // A second line of defence behind the progress handler, which a long step inside SQLite does
    // not reach.
    alarm(static_cast<unsigned>(args.deadline) + 2);
    int code = kFailed;
    try {
      code = Finish(Run(context, args, *format));
    } catch (const std::bad_alloc&) {
      code = Finish(
          absl::ResourceExhaustedError("the result does not fit in 4 GiB; lower --max-rows"));
    }
    std::fflush(stdout);
    _exit(code);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status)) return WEXITSTATUS(status);
  if (WTERMSIG(status) == SIGALRM) {
    return Finish(
        absl::DeadlineExceededError("the query did not stop at its deadline and was ended"));
  }
  return Finish(
      absl::InternalError(absl::StrCat("the query's process died of signal ", WTERMSIG(status))));
}

}  // namespace plumb::app
