// plumb events: what happened, from the database's append-only table.
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "app/client.h"
#include "app/commands.h"
#include "app/exit_code.h"
#include "app/results.h"
#include "app/table.h"
#include "coordinator/convert.h"
#include "domain/status_macros.h"
#include "store/read.h"

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
  std::vector<v1::Event> events;
  if (ReadFromFile(context)) {
    ASSIGN_OR_RETURN(store::Reader reader, store::Reader::Open(context.db));
    ASSIGN_OR_RETURN(const std::vector<store::EventView> views,
                     reader.Events({.sweep = SweepId{args.sweep},
                                    .trial = TrialId{args.trial},
                                    .kind = args.kind,
                                    .since_us = since_us,
                                    .worker = args.worker,
                                    .limit = args.limit}));
    for (const store::EventView& v : views) coordinator::ToProto(v, &events.emplace_back());
  } else {
    ASSIGN_OR_RETURN(Client client, Client::Connect(context));
    v1::ListEventsRequest request;
    request.set_sweep_id(args.sweep);
    request.set_trial_id(args.trial);
    request.set_kind(args.kind);
    request.set_since_us(since_us);
    request.set_worker(args.worker);
    request.set_limit(args.limit);
    ASSIGN_OR_RETURN(v1::ListEventsResponse response,
                     client.Call(&v1::SweepService::Stub::ListEvents, request));
    events.assign(response.events().begin(), response.events().end());
  }
  Table table{.columns = {{"event"},
                          {"time"},
                          {"kind"},
                          {"sweep"},
                          {"trial"},
                          {"stage"},
                          {"attempt"},
                          {"worker"},
                          {"detail"}}};
  const auto number = [](int64_t n) { return n == 0 ? Value{} : Value{n}; };
  const auto text = [](const std::string& t) { return t.empty() ? Value{} : Value{t}; };
  for (const v1::Event& e : events) {
    table.rows.push_back({e.id(),
                          absl::FormatTime("%Y-%m-%d %H:%M:%E3S", absl::FromUnixMicros(e.time_us()),
                                           absl::LocalTimeZone()),
                          e.kind(), number(e.sweep_id()), number(e.trial_id()), text(e.stage()),
                          number(e.attempt()), text(e.worker()), e.detail()});
  }
  return table;
}

}  // namespace

int ShowEvents(const Context& context, const EventArgs& args) {
  absl::StatusOr<Table> table = ReadEvents(context, args);
  return table.ok() ? Show(*table, context) : Finish(table.status());
}

}  // namespace plumb::app
