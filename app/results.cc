#include "app/results.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <limits>

#include "absl/strings/str_cat.h"
#include "app/client.h"
#include "app/exit_code.h"
#include "app/signals.h"
#include "coordinator/convert.h"
#include "domain/status_macros.h"
#include "store/read.h"

namespace plumb::app {
namespace {

using Stub = v1::SweepService::Stub;

absl::StatusOr<store::Reader> OpenReader(const Context& context) {
  if (!std::filesystem::exists(context.db)) {
    return absl::NotFoundError(
        absl::StrCat("no database ", context.db, "; name one with --db, or make one: plumb up"));
  }
  return store::Reader::Open(context.db);
}

}  // namespace

bool ReadFromFile(const Context& context) {
  if (!context.server.empty()) return false;
  if (context.db_given) return true;
  return !FindServer(context).ok() && std::filesystem::exists(context.db);
}

absl::StatusOr<std::string> DatabasePath(const Context& context) {
  if (ReadFromFile(context)) return context.db;
  ASSIGN_OR_RETURN(Client client, Client::Connect(context));
  ASSIGN_OR_RETURN(auto server, client.Call(&Stub::GetServer, v1::GetServerRequest()));
  return server.database_path();
}

absl::StatusOr<std::vector<v1::Sweep>> FetchSweeps(const Context& context, const std::string& tag) {
  std::vector<v1::Sweep> out;
  if (ReadFromFile(context)) {
    ASSIGN_OR_RETURN(store::Reader reader, OpenReader(context));
    ASSIGN_OR_RETURN(auto views, reader.Sweeps(std::numeric_limits<int64_t>::max(), 100'000, tag));
    for (const store::SweepView& v : views) coordinator::ToProto(v, &out.emplace_back());
    return out;
  }
  ASSIGN_OR_RETURN(Client client, Client::Connect(context));
  v1::ListSweepsRequest request;
  request.set_page_size(1000);
  request.set_tag(tag);
  do {
    ASSIGN_OR_RETURN(auto page, client.Call(&Stub::ListSweeps, request));
    out.insert(out.end(), page.sweeps().begin(), page.sweeps().end());
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  return out;
}

absl::StatusOr<v1::GetSweepResponse> FetchSweep(const Context& context, int64_t id) {
  if (ReadFromFile(context)) {
    ASSIGN_OR_RETURN(store::Reader reader, OpenReader(context));
    ASSIGN_OR_RETURN(store::SweepView view, reader.Sweep(SweepId{id}));
    v1::GetSweepResponse response;
    coordinator::ToProto(view, response.mutable_sweep());
    response.set_sweep_yaml(view.row.sweep_yaml);
    return response;
  }
  ASSIGN_OR_RETURN(Client client, Client::Connect(context));
  v1::GetSweepRequest request;
  request.set_sweep_id(id);
  return client.Call(&Stub::GetSweep, request);
}

absl::StatusOr<std::vector<v1::Trial>> FetchTrials(const Context& context, int64_t sweep,
                                                   const std::string& state, int64_t limit,
                                                   const std::string& tag) {
  std::vector<v1::Trial> out;
  if (limit <= 0) limit = std::numeric_limits<int32_t>::max();
  if (ReadFromFile(context)) {
    ASSIGN_OR_RETURN(store::Reader reader, OpenReader(context));
    if (sweep == 0) {
      ASSIGN_OR_RETURN(store::SweepView newest, reader.Sweep(SweepId{0}));
      sweep = newest.row.id.value;
    }
    ASSIGN_OR_RETURN(auto views, reader.Trials(SweepId{sweep}, state, 0, limit, tag));
    for (const store::TrialView& v : views) coordinator::ToProto(v, &out.emplace_back());
    return out;
  }
  ASSIGN_OR_RETURN(Client client, Client::Connect(context));
  v1::ListTrialsRequest request;
  request.set_sweep_id(sweep);
  request.set_state(state);
  request.set_tag(tag);
  request.set_page_size(static_cast<int32_t>(std::min<int64_t>(limit, 5000)));
  do {
    ASSIGN_OR_RETURN(auto page, client.Call(&Stub::ListTrials, request));
    out.insert(out.end(), page.trials().begin(), page.trials().end());
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty() && std::ssize(out) < limit);
  if (std::ssize(out) > limit) out.resize(limit);
  return out;
}

absl::StatusOr<v1::Trial> FetchTrial(const Context& context, int64_t id) {
  if (ReadFromFile(context)) {
    ASSIGN_OR_RETURN(store::Reader reader, OpenReader(context));
    ASSIGN_OR_RETURN(store::TrialView view, reader.Trial(TrialId{id}));
    v1::Trial trial;
    coordinator::ToProto(view, &trial, coordinator::TrialParts::kAll);
    return trial;
  }
  ASSIGN_OR_RETURN(Client client, Client::Connect(context));
  v1::GetTrialRequest request;
  request.set_trial_id(id);
  ASSIGN_OR_RETURN(auto response, client.Call(&Stub::GetTrial, request));
  return response.trial();
}

int Show(const Table& table, const Context& context) {
  absl::StatusOr<Format> format = ParseFormat(context.format);
  if (!format.ok()) return Finish(format.status());
  std::fputs(Print(table, *format, StdoutIsTerminal() ? TerminalWidth() : 0).c_str(), stdout);
  return kDone;
}

}  // namespace plumb::app
