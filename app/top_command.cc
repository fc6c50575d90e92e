// plumb server status, plumb top: the cluster at a glance.
#include <signal.h>

#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "app/client.h"
#include "app/commands.h"
#include "app/exit_code.h"
#include "app/screen.h"
#include "app/signals.h"
#include "app/table.h"
#include "domain/status_macros.h"

namespace plumb::app {
namespace {

using Stub = v1::SweepService::Stub;

constexpr int kSweeps = 10;

struct Look {
  v1::GetServerResponse server;
  v1::ListWorkersResponse workers;
  v1::ListSweepsResponse sweeps;
  v1::ListUsersResponse users;
  absl::Time at;
};

absl::StatusOr<Look> TakeLook(Client& client) {
  Look out;
  ASSIGN_OR_RETURN(out.server, client.Call(&Stub::GetServer, v1::GetServerRequest()));
  ASSIGN_OR_RETURN(out.workers, client.Call(&Stub::ListWorkers, v1::ListWorkersRequest()));
  v1::ListSweepsRequest sweeps;
  sweeps.set_page_size(kSweeps);
  ASSIGN_OR_RETURN(out.sweeps, client.Call(&Stub::ListSweeps, sweeps));
  ASSIGN_OR_RETURN(out.users, client.Call(&Stub::ListUsers, v1::ListUsersRequest()));
  out.at = absl::Now();
  return out;
}

void Append(std::vector<std::string>* lines, const Table& table) {
  lines->push_back("");
  for (absl::string_view line :
       absl::StrSplit(TableText(table, TerminalWidth()), '\n', absl::SkipEmpty()))
    lines->push_back(std::string(line));
}

std::vector<std::string> Lines(const Look& now, const Look* before) {
  const v1::GetServerResponse& s = now.server;
  std::vector<std::string> lines = {absl::StrCat(
      "plumb ", s.version(), "  up ", Duration(s.uptime_seconds()), "  ", s.workers(), " workers, ",
      s.slots_used(), " of ", s.slots(), " slots at work, ", s.waiting(), " stages waiting")};
  if (before != nullptr) {
    const double seconds = absl::ToDoubleSeconds(now.at - before->at);
    lines.push_back(
        absl::StrFormat("%.0f commits/s, %.0f points/s; longest commit %.1f ms",
                        static_cast<double>(s.commits() - before->server.commits()) / seconds,
                        static_cast<double>(s.points() - before->server.points()) / seconds,
                        1e3 * s.longest_commit_seconds()));
  } else {
    lines.push_back(absl::StrFormat("%d commits, %d points; longest commit %.1f ms", s.commits(),
                                    s.points(), 1e3 * s.longest_commit_seconds()));
  }
  Table workers{.columns = {{"worker"}, {"state"}, {"slots"}, {"busy"}, {"silent_s", 1}, {"host"}}};
  for (const v1::Worker& w : now.workers.workers()) {
    workers.rows.push_back(
        {w.name(), w.state(), int64_t{w.slots()}, int64_t{w.busy()}, w.silent_seconds(), w.host()});
  }
  Append(&lines, workers);
  Table sweeps{.columns = {{"sweep"},
                           {"name"},
                           {"user"},
                           {"state"},
                           {"done"},
                           {"of"},
                           {"running"},
                           {"failed"},
                           {"to_go"}}};
  for (const v1::Sweep& w : now.sweeps.sweeps()) {
    const auto count = [&](const char* state) {
      const auto it = w.trials_by_state().find(state);
      return it == w.trials_by_state().end() ? int64_t{0} : int64_t{it->second};
    };
    const int64_t done = count("succeeded") + count("infeasible") + count("diverged") +
                         count("stopped") + count("cancelled") + count("failed");
    sweeps.rows.push_back({w.id(), w.name(), w.user(), w.paused() ? "paused" : w.state(), done,
                           w.trials(), count("running"), count("failed"),
                           w.eta_seconds() > 0 ? Value{Duration(w.eta_seconds())} : Value{}});
  }
  if (!sweeps.rows.empty()) Append(&lines, sweeps);
  if (now.users.users_size() > 1) {
    Table users{.columns = {{"user"}, {"slots"}, {"waiting"}, {"slot_hours", 2}}};
    for (const v1::User& u : now.users.users())
      users.rows.push_back({u.name(), u.slots(), u.waiting(), u.consumed_seconds() / 3600});
    Append(&lines, users);
  }
  return lines;
}

}  // namespace

int RunTop(const Context& context, const TopArgs& args) {
  if (!(args.every >= 0.1 && args.every <= 3600))
    return Finish(absl::InvalidArgumentError("--every: from 0.1 to 3600 seconds"));
  BlockSignals();
  absl::StatusOr<Client> client = Client::Connect(context);
  if (!client.ok()) return Finish(client.status());
  Screen screen;
  std::optional<Look> before;
  for (int64_t i = 0;; ++i) {
    absl::StatusOr<Look> look = TakeLook(*client);
    if (!look.ok()) return Finish(look.status());
    const std::vector<std::string> lines = Lines(*look, before ? &*before : nullptr);
    if (StdoutIsTerminal()) {
      screen.Draw(lines);
    } else {
      for (const std::string& line : lines) std::printf("%s\n", line.c_str());
    }
    before = *std::move(look);
    if (args.times > 0 && i + 1 >= args.times) return kDone;
    const int signal =
        WaitForSignal(std::chrono::milliseconds(static_cast<int64_t>(1000 * args.every)));
    if (signal == SIGINT || signal == SIGTERM) return kDone;
  }
}

int ServerStatus(const Context& context) {
  absl::StatusOr<Format> format = ParseFormat(context.format);
  if (!format.ok()) return Finish(format.status());
  absl::StatusOr<Client> client = Client::Connect(context);
  if (!client.ok()) return Finish(client.status());
  auto s = client->Call(&Stub::GetServer, v1::GetServerRequest());
  if (!s.ok()) return Finish(s.status());
  const std::string snapshot =
      s->last_snapshot_time() == 0
          ? ""
          : absl::FormatTime("%Y-%m-%d %H:%M:%S", absl::FromUnixSeconds(s->last_snapshot_time()),
                             absl::LocalTimeZone());
  if (*format == Format::kJson || *format == Format::kJsonl) {
    std::printf("%s\n", nlohmann::json{{"version", s->version()},
                                       {"address", client->address()},
                                       {"database", s->database_path()},
                                       {"incarnation", s->incarnation()},
                                       {"pid", s->pid()},
                                       {"uptime_seconds", s->uptime_seconds()},
                                       {"workers", s->workers()},
                                       {"slots", s->slots()},
                                       {"slots_used", s->slots_used()},
                                       {"waiting", s->waiting()},
                                       {"commits", s->commits()},
                                       {"points", s->points()},
                                       {"longest_commit_seconds", s->longest_commit_seconds()},
                                       {"last_snapshot_time", s->last_snapshot_time()}}
                            .dump()
                            .c_str());
    return kDone;
  }
  std::printf(
      "plumb %s at %s, process %lld, up %s\n"
      "database  %s (incarnation %lld)\n"
      "cluster   %lld workers, %lld of %lld slots at work, %lld stages waiting\n"
      "written   %lld points in %lld commits, the longest %.1f ms\n"
      "snapshot  %s\n",
      s->version().c_str(), client->address().c_str(), static_cast<long long>(s->pid()),
      Duration(s->uptime_seconds()).c_str(), s->database_path().c_str(),
      static_cast<long long>(s->incarnation()), static_cast<long long>(s->workers()),
      static_cast<long long>(s->slots_used()), static_cast<long long>(s->slots()),
      static_cast<long long>(s->waiting()), static_cast<long long>(s->points()),
      static_cast<long long>(s->commits()), 1e3 * s->longest_commit_seconds(),
      snapshot.empty() ? "none since the start (plumb server --snapshot-dir)" : snapshot.c_str());
  return kDone;
}

}  // namespace plumb::app
