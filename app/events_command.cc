// plumb events: what happened, from the database's append-only table.
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "app/commands.h"
#include "app/exit_code.h"
#include "app/results.h"
#include "app/table.h"
#include "domain/status_macros.h"
#include "store/sqlite.h"

namespace plumb::app {
namespace {

absl::StatusOr<Table> ReadEvents(const Context& context, const EventArgs& args) {
  int64_t since_us = 0;
  if (!args.since.empty()) {
    absl::Duration ago;
    if (!absl::ParseDuration(args.since, &ago)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--since: \"", args.since, "\" is no time, as 90s, 15m or 2h"));
    }
    since_us = absl::ToUnixMicros(absl::Now() - ago);
  }
  if (args.limit < 1) return absl::InvalidArgumentError("--limit from 1");
  ASSIGN_OR_RETURN(store::Database db,
                   store::Database::Open(context.db, store::Database::Mode::kReadOnly));
  ASSIGN_OR_RETURN(
      store::Statement s,
      db.Prepare(
          "SELECT * FROM (SELECT e.id, e.time_us, e.kind, coalesce(e.sweep_id, (SELECT "
          "min(sweep_id) FROM sweep_trial WHERE trial_id = e.trial_id)), e.trial_id, s.name, "
          "e.attempt, w.name, e.detail FROM event e LEFT JOIN stage s ON s.id = e.stage_id LEFT "
          "JOIN worker w ON w.id = e.worker_id WHERE (?1 = 0 OR e.sweep_id = ?1 OR e.trial_id IN "
          "(SELECT trial_id FROM sweep_trial WHERE sweep_id = ?1)) AND (?2 = 0 OR e.trial_id = "
          "?2) AND (?3 = '' OR e.kind GLOB ?3) AND e.time_us >= ?4 AND (?5 = '' OR w.name = ?5) "
          "ORDER BY e.id DESC LIMIT ?6) ORDER BY id"));
  s.Bind(1, args.sweep).Bind(2, args.trial).Bind(3, args.kind).Bind(4, since_us);
  s.Bind(5, args.worker).Bind(6, args.limit);
  Table table{.columns = {{"event"},
                          {"time"},
                          {"kind"},
                          {"sweep"},
                          {"trial"},
                          {"stage"},
                          {"attempt"},
                          {"worker"},
                          {"detail"}}};
  const auto number = [&](int column) { return s.IsNull(column) ? Value{} : Value{s.Int(column)}; };
  const auto text = [&](int column) { return s.IsNull(column) ? Value{} : Value{s.Text(column)}; };
  while (true) {
    ASSIGN_OR_RETURN(const bool more, s.Step());
    if (!more) break;
    table.rows.push_back({s.Int(0),
                          absl::FormatTime("%Y-%m-%d %H:%M:%E3S", absl::FromUnixMicros(s.Int(1)),
                                           absl::LocalTimeZone()),
                          s.Text(2), number(3), number(4), text(5), number(6), text(7), s.Text(8)});
  }
  return table;
}

}  // namespace

int ShowEvents(const Context& context, const EventArgs& args) {
  absl::StatusOr<Table> table = ReadEvents(context, args);
  return table.ok() ? Show(*table, context) : Finish(table.status());
}

}  // namespace plumb::app
