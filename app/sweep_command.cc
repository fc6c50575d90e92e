// plumb sweep submit|list|show|watch|cancel.
#include <pwd.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>
#include <thread>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "app/calibration.h"
#include "app/client.h"
#include "app/commands.h"
#include "app/exit_code.h"
#include "app/results.h"
#include "app/signals.h"
#include "app/submit.h"
#include "app/table.h"
#include "app/watch.h"
#include "domain/status_macros.h"
#include "sweeps/include.h"
#include "sweeps/stage_files.h"

namespace plumb::app {
namespace {

using Stub = v1::SweepService::Stub;

std::string Time(int64_t us) {
  if (us == 0) return "-";
  return absl::FormatTime("%Y-%m-%d %H:%M:%S", absl::FromUnixMicros(us), absl::LocalTimeZone());
}

std::string Counts(const v1::Sweep& s) {
  std::string out;
  for (const auto& [state, n] :
       std::map<std::string, int64_t>(s.trials_by_state().begin(), s.trials_by_state().end())) {
    if (n > 0) absl::StrAppend(&out, out.empty() ? "" : ", ", n, " ", state);
  }
  return out;
}

// Only the server knows, also where the rest was read from the file.
std::string WaitsFor(const Context& context, const v1::Sweep& sweep) {
  if (!ReadFromFile(context) || sweep.state() == "completed" || sweep.state() == "cancelled")
    return sweep.waits_for();
  absl::StatusOr<Client> client = Client::Connect(context);
  v1::GetSweepRequest request;
  request.set_sweep_id(sweep.id());
  if (!client.ok()) return "";
  auto response = client->Call(&Stub::GetSweep, request, std::chrono::seconds(2));
  return response.ok() ? response->sweep().waits_for() : "";
}

}  // namespace

absl::StatusOr<std::string> ReadSweepFile(const std::string& file) {
  std::ostringstream text;
  const bool input = file == "-";
  const std::string name = input ? "standard input" : file;
  const std::string folder = input ? "." : std::filesystem::path(file).parent_path().string();
  if (input) {
    text << std::cin.rdbuf();
  } else {
    std::ifstream in(file, std::ios::binary);
    if (!in) {
      return absl::NotFoundError(
          absl::StrCat("cannot read ", file, "; make one: plumb init ", file));
    }
    text << in.rdbuf();
  }
  absl::StatusOr<std::string> inlined = sweeps::InlineIncludes(text.str(), name, folder);
  if (!inlined.ok()) return inlined;
  return sweeps::PinFiles(*inlined, name, folder);
}

// As the system knows who asks; until there are tokens, the server believes it.
std::string ThisUser() {
  const passwd* user = getpwuid(getuid());
  std::string name = user == nullptr ? "" : user->pw_name;
  if (name.size() > 64) name.resize(64);
  for (char& c : name) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && std::strchr("-_.@", c) == nullptr)
      c = '_';
  }
  return name;
}

std::string NewRequestId() {
  std::random_device random;
  return absl::StrFormat("cli-%08x%08x%08x%08x", random(), random(), random(), random());
}

absl::StatusOr<v1::SubmitSweepResponse> Submit(Client& client, const std::string& yaml,
                                               const std::string& file,
                                               const std::string& request_id) {
  v1::SubmitSweepRequest request;
  request.set_request_id(request_id);
  request.set_sweep_yaml(yaml);
  request.set_file_name(file);
  request.set_user(ThisUser());
  for (int i = 0;; ++i) {
    auto response = client.Call(&Stub::SubmitSweep, request, std::chrono::seconds(60));
    if (response.ok() || i == 5 ||
        (response.status().code() != absl::StatusCode::kUnavailable &&
         response.status().code() != absl::StatusCode::kDeadlineExceeded)) {
      return response;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(100 << i));
  }
}

int SubmitSweep(const Context& context, const SweepArgs& args) {
  absl::StatusOr<FailOn> fail_on = ParseFailOn(args.fail_on);
  if (!fail_on.ok()) return Finish(fail_on.status());
  absl::StatusOr<Format> format = ParseFormat(context.format);
  if (!format.ok()) return Finish(format.status());
  absl::StatusOr<std::string> yaml = ReadSweepFile(args.file);
  if (!yaml.ok()) return Finish(yaml.status());
  absl::StatusOr<Client> client = Client::Connect(context);
  if (!client.ok()) return Finish(client.status());
  yaml = WithCalibration(context, *yaml, CorporaOf(args.data_root, args.assume_tokens));
  if (!yaml.ok()) return Finish(yaml.status());
  auto response = Submit(*client, *yaml, args.file, NewRequestId());
  if (!response.ok()) return Finish(response.status());
  if (*format == Format::kTable) {
    std::printf("sweep %lld: %lld trials\n", static_cast<long long>(response->sweep_id()),
                static_cast<long long>(response->trials()));
    if (!args.watch) {
      std::printf("watch it: plumb sweep watch %lld%s\n",
                  static_cast<long long>(response->sweep_id()),
                  context.db_given ? absl::StrCat(" --db ", context.db).c_str() : "");
    }
  } else {
    Table table{.columns = {{"sweep"}, {"trials"}},
                .rows = {{response->sweep_id(), response->trials()}}};
    std::fputs(Print(table, *format).c_str(), stdout);
  }
  std::fflush(stdout);
  if (!args.watch) return kDone;
  SweepArgs watch = args;
  watch.id = response->sweep_id();
  return WatchSweepCommand(context, watch);
}

int WatchSweepCommand(const Context& context, const SweepArgs& args) {
  absl::StatusOr<FailOn> fail_on = ParseFailOn(args.fail_on);
  if (!fail_on.ok()) return Finish(fail_on.status());
  absl::StatusOr<Client> client = Client::Connect(context);
  if (!client.ok()) return Finish(client.status());
  WatchOptions options{.fail_on = *fail_on, .timeout_seconds = args.timeout};
  options.after_interrupt =
      absl::StrCat("The sweep runs on. Watch it again: plumb sweep watch ",
                   args.id > 0 ? absl::StrCat(args.id) : "", "  (end it: plumb sweep cancel)");
  absl::StatusOr<int> code = Watch(*client, args.id, options);
  return code.ok() ? *code : Finish(code.status());
}

int ListSweeps(const Context& context, const SweepArgs& args) {
  auto sweeps = FetchSweeps(context, args.tag);
  if (!sweeps.ok()) return Finish(sweeps.status());
  Table table{.columns = {{"id"},
                          {"name"},
                          {"user"},
                          {"priority"},
                          {"state"},
                          {"trials"},
                          {"done_percent", 0},
                          {"by_state"},
                          {"created"},
                          {"tags"},
                          {"note"}}};
  for (const v1::Sweep& s : *sweeps) {
    const double share = s.steps_total() > 0 ? 100.0 * s.steps_done() / s.steps_total() : 0;
    table.rows.push_back({s.id(), s.name(), s.user(), int64_t{s.priority()},
                          s.paused() ? "paused" : s.state(), s.trials(), share, Counts(s),
                          Time(s.create_time_us()), absl::StrJoin(s.tags(), ","),
                          s.note().substr(0, s.note().find('\n'))});
  }
  return Show(table, context);
}

int ShowSweep(const Context& context, const SweepArgs& args) {
  absl::StatusOr<Format> format = ParseFormat(context.format);
  if (!format.ok()) return Finish(format.status());
  auto got = FetchSweep(context, args.id);
  if (!got.ok()) return Finish(got.status());
  const v1::Sweep& s = got->sweep();
  if (*format == Format::kJson || *format == Format::kJsonl) {
    nlohmann::ordered_json j = {{"id", s.id()},
                                {"name", s.name()},
                                {"state", s.state()},
                                {"create_time_us", s.create_time_us()},
                                {"end_time_us", s.end_time_us()},
                                {"trials", s.trials()},
                                {"steps_done", s.steps_done()},
                                {"steps_total", s.steps_total()},
                                {"flops_done", s.flops_done()},
                                {"flops_total", s.flops_total()}};
    j["waits_for"] = WaitsFor(context, s);
    j["objective"] = {{"stage", s.objective_stage()},
                      {"metric", s.objective()},
                      {"at", s.objective_at()},
                      {"goal", s.maximize() ? "maximize" : "minimize"}};
    j["trials_by_state"] = nlohmann::json::object();
    for (const auto& [state, n] : s.trials_by_state()) j["trials_by_state"][state] = n;
    j["tags"] = std::vector<std::string>(s.tags().begin(), s.tags().end());
    j["note"] = s.note();
    j["origin"] = s.origin_json().empty()
                      ? nlohmann::ordered_json()
                      : nlohmann::ordered_json::parse(s.origin_json(), nullptr, false);
    j["imported"] = s.imported();
    j["sweep_yaml"] = got->sweep_yaml();
    std::printf("%s\n", j.dump(*format == Format::kJson ? 2 : -1, ' ', false,
                               nlohmann::json::error_handler_t::replace)
                            .c_str());
    return kDone;
  }
  Table table{.columns = {{"field"}, {"value"}}};
  table.rows = {{"id", absl::StrCat(s.id())},
                {"name", s.name()},
                {"state", s.state()},
                {"created", Time(s.create_time_us())},
                {"ended", Time(s.end_time_us())},
                {"trials", absl::StrCat(s.trials(), " (", Counts(s), ")")},
                {"steps", absl::StrCat(s.steps_done(), " of ", s.steps_total())},
                {"FLOPs", absl::StrCat(Scaled(s.flops_done()), " of ", Scaled(s.flops_total()))}};
  const std::string judged =
      absl::StrCat(s.objective_stage(), s.objective_stage().empty() ? "" : ": ", s.objective(),
                   s.objective_at().empty() ? "" : ", ", s.objective_at(),
                   s.maximize() ? ", more is better" : "");
  table.rows.push_back({"objective", judged});
  if (const std::string waits = WaitsFor(context, s); !waits.empty())
    table.rows.push_back({"waits for", waits});
  if (!s.tags().empty()) table.rows.push_back({"tags", absl::StrJoin(s.tags(), ", ")});
  if (!s.note().empty()) table.rows.push_back({"note", s.note()});
  if (!s.origin_json().empty())
    table.rows.push_back({s.imported() ? "imported" : "origin", s.origin_json()});
  if (*format == Format::kCsv) {
    std::fputs(TableCsv(table).c_str(), stdout);
    return kDone;
  }
  std::string text = TableText(table);
  text.erase(0, text.find('\n') + 1);
  std::printf("%s\n%s", text.c_str(), got->sweep_yaml().c_str());
  return kDone;
}

int CancelSweep(const Context& context, const SweepArgs& args) {
  absl::StatusOr<Client> client = Client::Connect(context);
  if (!client.ok()) return Finish(client.status());
  int64_t id = args.id;
  if (id == 0) {
    auto newest = client->Call(&Stub::GetSweep, v1::GetSweepRequest());
    if (!newest.ok()) return Finish(newest.status());
    id = newest->sweep().id();
  }
  v1::CancelSweepRequest request;
  request.set_sweep_id(id);
  auto response = client->Call(&Stub::CancelSweep, request);
  if (!response.ok()) return Finish(response.status());
  std::printf("sweep %lld: %lld stages cancelled\n", static_cast<long long>(id),
              static_cast<long long>(response->cancelled_stages()));
  return kDone;
}

namespace {
absl::StatusOr<int64_t> IdOrNewest(Client& client, int64_t id) {
  if (id != 0) return id;
  auto newest = client.Call(&Stub::GetSweep, v1::GetSweepRequest());
  if (!newest.ok()) return newest.status();
  return newest->sweep().id();
}
}  // namespace

int PauseSweep(const Context& context, const SweepArgs& args, bool pause) {
  absl::StatusOr<Client> client = Client::Connect(context);
  if (!client.ok()) return Finish(client.status());
  absl::StatusOr<int64_t> id = IdOrNewest(*client, args.id);
  if (!id.ok()) return Finish(id.status());
  v1::UpdateSweepRequest request;
  request.set_sweep_id(*id);
  request.set_paused(pause);
  auto response = client->Call(&Stub::UpdateSweep, request);
  if (!response.ok()) return Finish(response.status());
  std::printf(pause ? "sweep %lld is paused: what runs writes a checkpoint and stops (go on: plumb "
                      "sweep resume %lld)\n"
                    : "sweep %lld goes on\n",
              static_cast<long long>(*id), static_cast<long long>(*id));
  return kDone;
}

int PrioritiseSweep(const Context& context, const SweepArgs& args) {
  absl::StatusOr<Client> client = Client::Connect(context);
  if (!client.ok()) return Finish(client.status());
  v1::UpdateSweepRequest request;
  request.set_sweep_id(args.id);
  request.set_priority(args.priority);
  auto response = client->Call(&Stub::UpdateSweep, request);
  if (!response.ok()) return Finish(response.status());
  std::printf("sweep %lld has priority %lld\n", static_cast<long long>(args.id),
              static_cast<long long>(args.priority));
  return kDone;
}

int DrainWorker(const Context& context, const std::string& name, bool drain) {
  absl::StatusOr<Client> client = Client::Connect(context);
  if (!client.ok()) return Finish(client.status());
  v1::UpdateWorkerRequest request;
  request.set_name(name);
  request.set_drain(drain);
  auto response = client->Call(&Stub::UpdateWorker, request);
  if (!response.ok()) return Finish(response.status());
  std::printf(drain
                  ? "worker %s: its trials write checkpoints and go elsewhere (undo: plumb worker "
                    "undrain %s)\n"
                  : "worker %s takes trials again\n",
              name.c_str(), name.c_str());
  return kDone;
}

int ListUsers(const Context& context) {
  absl::StatusOr<Client> client = Client::Connect(context);
  if (!client.ok()) return Finish(client.status());
  auto response = client->Call(&Stub::ListUsers, v1::ListUsersRequest());
  if (!response.ok()) return Finish(response.status());
  Table table{
      .columns = {{"user"}, {"slots"}, {"max_slots"}, {"waiting"}, {"weight"}, {"slot_hours", 2}}};
  for (const v1::User& u : response->users()) {
    table.rows.push_back({u.name(), u.slots(),
                          u.max_slots() == 0 ? Value{} : Value{int64_t{u.max_slots()}}, u.waiting(),
                          u.weight(), u.consumed_seconds() / 3600});
  }
  return Show(table, context);
}

int SetUser(const Context& context, const UserArgs& args) {
  absl::StatusOr<Client> client = Client::Connect(context);
  if (!client.ok()) return Finish(client.status());
  v1::UpdateUserRequest request;
  request.set_name(args.name);
  if (args.weight != 0) request.set_weight(args.weight);
  if (args.max_slots != -1) request.set_max_slots(args.max_slots);
  if (args.weight == 0 && args.max_slots == -1)
    return Finish(absl::InvalidArgumentError("nothing to change; give --weight or --max-slots"));
  auto response = client->Call(&Stub::UpdateUser, request);
  if (!response.ok()) return Finish(response.status());
  return ListUsers(context);
}

int ListWorkers(const Context& context) {
  absl::StatusOr<Client> client = Client::Connect(context);
  if (!client.ok()) return Finish(client.status());
  auto response = client->Call(&Stub::ListWorkers, v1::ListWorkersRequest());
  if (!response.ok()) return Finish(response.status());
  Table table{.columns = {{"name"},
                          {"state"},
                          {"slots"},
                          {"busy"},
                          {"silent_s", 1},
                          {"host"},
                          {"build"},
                          {"memory_gib", 1},
                          {"promised_gib", 1},
                          {"labels"},
                          {"devices"}}};
  constexpr double kGiB = 1 << 30;
  for (const v1::Worker& w : response->workers()) {
    std::string devices;
    for (const std::string& d : w.devices())
      absl::StrAppend(&devices, devices.empty() ? "" : "; ", d);
    table.rows.push_back(
        {w.name(), w.state(), int64_t{w.slots()}, int64_t{w.busy()}, w.silent_seconds(), w.host(),
         w.build(), static_cast<double>(w.memory_bytes()) / kGiB,
         static_cast<double>(w.memory_used()) / kGiB, absl::StrJoin(w.labels(), ","), devices});
  }
  return Show(table, context);
}

}  // namespace plumb::app
