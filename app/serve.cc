// plumb server, plumb worker start, plumb up.
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "app/children.h"
#include "app/client.h"
#include "app/commands.h"
#include "app/exit_code.h"
#include "app/signals.h"
#include "app/up.h"
#include "coordinator/event_log.h"
#include "coordinator/server.h"
#include "worker/agent.h"
#include "worker/devices.h"

namespace plumb::app {
namespace {

std::atomic<bool> stop_asked = false;
std::atomic<coordinator::Server*> server_to_stop = nullptr;

std::string Absolute(const std::string& path) {
  return std::filesystem::absolute(path).lexically_normal().string();
}

// NAME=PATH among --trainer's values into `named`; the one without a name into `path`.
absl::Status ReadTrainers(const std::vector<std::string>& given, std::string* path,
                          std::map<std::string, std::string>* named) {
  for (const std::string& text : given) {
    const size_t at = text.find('=');
    const std::string name = text.substr(0, at == std::string::npos ? 0 : at);
    const std::string where = at == std::string::npos ? text : text.substr(at + 1);
    if (at == std::string::npos || name.find('/') != std::string::npos) {
      *path = text;
      continue;
    }
    const bool plain = !name.empty() && name.size() <= 50 &&
                       name.find_first_not_of(
                           "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") ==
                           std::string::npos;
    if (!plain) {
      return absl::InvalidArgumentError(
          absl::StrCat("--trainer ", text, ": a name is 1 to 50 letters, digits, - _ ."));
    }
    if (access(where.c_str(), X_OK) != 0) {
      return absl::NotFoundError(
          absl::StrCat("--trainer ", text, ": ", where,
                       " is no program (chmod +x it, with #! on its first line)"));
    }
    if (!named->emplace(name, Absolute(where)).second)
      return absl::InvalidArgumentError(absl::StrCat("--trainer ", name, " is there twice"));
  }
  return absl::OkStatus();
}

}  // namespace

std::string DefaultWorkerDir(const std::string& db) {
  return (std::filesystem::path(Absolute(db)).parent_path() / "worker").string();
}

int RunServerCommand(const Context& context, const ServerArgs& args) {
  DieWith(args.parent);
  BlockSignals();
  coordinator::ServerOptions options;
  options.db_path = context.db;
  options.listen = args.listen;
  options.data_root = args.data_root;
  options.lease = absl::Seconds(args.lease_seconds);
  options.report_interval = absl::Seconds(args.report_seconds);
  options.metrics = args.metrics;
  if (args.log_format == "json") coordinator::LogAsJson();
  options.snapshots = {.dir = args.snapshot_dir.empty() ? "" : Absolute(args.snapshot_dir),
                       .keep = args.snapshot_keep};
  if (!(args.blobs_gib >= 0 && args.blobs_gib < 1e9))
    return Finish(absl::InvalidArgumentError("--blobs-gib: from 0 on"));
  options.blobs.quota_bytes =
      args.no_blobs ? 0 : static_cast<int64_t>(args.blobs_gib * (int64_t{1} << 30));
  if (!absl::ParseDuration(args.snapshot_every, &options.snapshots.every) ||
      options.snapshots.every < absl::Seconds(1) || args.snapshot_keep < 1) {
    return Finish(absl::InvalidArgumentError(
        "--snapshot-every: a time from 1s on, as 10m; --snapshot-keep: from 1 on"));
  }
  auto server = coordinator::Server::Start(options);
  if (!server.ok()) return Finish(server.status());
  server_to_stop = server->get();
  StopOnSignal(&stop_asked, [] { server_to_stop.load()->Shutdown(); });
  std::printf("plumb server: %s serves %s\n", (*server)->address().c_str(), context.db.c_str());
  if (!(*server)->metrics_address().empty())
    std::printf("metrics: http://%s/metrics\n", (*server)->metrics_address().c_str());
  std::fflush(stdout);
  const absl::Status status = (*server)->Wait();
  return Finish(status);
}

namespace {

// A worker for each GPU, as children of this program: what is said of one GPU, its memory, its
// bundles, its quarantine, is said of a worker.
int RunWorkersOfGpus(const Context& context, const WorkerArgs& args) {
  const int64_t gpus = worker::CountGpus(worker::ListDevices());
  if (gpus == 0) {
    return Finish(absl::InvalidArgumentError(
        "--gpu all: no GPU is seen on this machine (nvidia-smi says?); leave --gpu out"));
  }
  const std::string name = args.name.empty() ? worker::HostName() : args.name;
  const std::string dir = args.dir.empty() ? DefaultWorkerDir(context.db) : Absolute(args.dir);
  std::error_code error;
  std::filesystem::create_directories(dir, error);
  if (error) {
    return Finish(
        absl::FailedPreconditionError(absl::StrCat("cannot make ", dir, ": ", error.message())));
  }
  Children children;
  absl::Status s;
  for (int64_t gpu = 0; gpu < gpus && s.ok(); ++gpu) {
    std::vector<std::string> words = {"worker", "start", "--gpu", absl::StrCat(gpu)};
    const auto add = [&](const char* option, const std::string& value) {
      if (!value.empty()) words.insert(words.end(), {option, value});
    };
    context.server.empty() ? add("--db", Absolute(context.db)) : add("--server", context.server);
    add("--name", absl::StrCat(name, "-gpu", gpu));
    add("--dir", absl::StrCat(dir, "/gpu", gpu));
    add("--data-root", args.data_root);
    for (const std::string& trainer : args.trainers) add("--trainer", trainer);
    if (args.allow_commands) words.push_back("--allow-commands");
    add("--until", args.until);
    if (args.slots > 0) add("--slots", absl::StrCat(args.slots));
    if (args.memory_gib > 0) add("--memory-gib", absl::StrCat(args.memory_gib));
    if (args.exit_when_idle > 0) add("--exit-when-idle", absl::StrCat(args.exit_when_idle));
    add("--corpora-gib", absl::StrCat(args.corpora_gib));
    if (args.shared_checkpoints) words.push_back("--shared-checkpoints");
    for (const std::string& label : args.labels) add("--label", label);
    // A trial of several ranks is a gang of this machine's GPUs, unless others are to join.
    add("--gang-address", args.gang_address.empty() && gpus > 1 ? "127.0.0.1" : args.gang_address);
    s = children.Start(absl::StrCat("worker of GPU ", gpu), words,
                       absl::StrCat(dir, "/gpu", gpu, ".log"), Children::OnSuccess::kLetGo);
  }
  std::printf("plumb worker: %lld GPUs, a worker each: %s-gpu0 …; logs in %s\n",
              static_cast<long long>(gpus), name.c_str(), dir.c_str());
  std::fflush(stdout);
  while (s.ok() && children.Running() > 0) {
    const int signal = WaitForSignal(std::chrono::seconds(5));
    if (signal == SIGINT || signal == SIGTERM) break;
    s = children.Reap();
  }
  children.Stop();
  return Finish(s);
}

}  // namespace

int RunWorkerCommand(const Context& context, const WorkerArgs& args) {
  DieWith(args.parent);
  BlockSignals();
  if (args.gpu == "all") return RunWorkersOfGpus(context, args);
  worker::WorkerOptions options;
  options.server = context.server.empty() ? absl::StrCat("file:", Absolute(context.db), ".address")
                                          : context.server;
  options.name = args.name;
  options.dir = args.dir.empty() ? DefaultWorkerDir(context.db) : args.dir;
  options.data_root = args.data_root;
  options.trainer_path = args.trainer;
  if (absl::Status s = ReadTrainers(args.trainers, &options.trainer_path, &options.trainers);
      !s.ok())
    return Finish(s);
  options.allow_commands = args.allow_commands;
  for (const std::string& label : args.labels) {
    if (label == "commands" || label.rfind("trainer=", 0) == 0) {
      return Finish(absl::InvalidArgumentError(absl::StrCat(
          "--label ", label, ": a worker says that of itself; write ",
          label == "commands" ? std::string("--allow-commands") : "--trainer NAME=PATH")));
    }
  }
  options.slots = args.slots;
  options.labels = args.labels;
  options.shared_checkpoints = args.shared_checkpoints;
  options.gang_address = args.gang_address;
  if (!args.gpu.empty() && (!absl::SimpleAtoi(args.gpu, &options.gpu) || options.gpu < 0)) {
    return Finish(absl::InvalidArgumentError(
        absl::StrCat("--gpu ", args.gpu, ": a number from 0 on, or all")));
  }
  options.memory_bytes = static_cast<int64_t>(args.memory_gib * (1 << 30));
  if (!(args.corpora_gib >= 0 && args.corpora_gib < 1e9))
    return Finish(absl::InvalidArgumentError("--corpora-gib: from 0 on"));
  options.corpora_bytes = static_cast<int64_t>(args.corpora_gib * (1 << 30));
  if (!args.until.empty()) {
    absl::Duration from_now;
    if (args.until[0] == '@' &&
        absl::SimpleAtoi(absl::string_view(args.until).substr(1), &options.until_unix_seconds)) {
    } else if (absl::ParseDuration(args.until, &from_now) && from_now > absl::ZeroDuration()) {
      options.until_unix_seconds = absl::ToUnixSeconds(absl::Now() + from_now);
    } else {
      return Finish(
          absl::InvalidArgumentError(absl::StrCat("--until: \"", args.until,
                                                  "\" is neither a time from now, as 90m or 2h, "
                                                  "nor @UNIX_SECONDS")));
    }
  }
  options.exit_when_idle_seconds = args.exit_when_idle;
  StopOnSignal(&stop_asked, nullptr);
  return Finish(worker::RunWorker(options, &stop_asked));
}

absl::Status StartCluster(const Context& context, const UpArgs& args, Children* children,
                          std::string* address) {
  const std::filesystem::path folder = std::filesystem::path(Absolute(context.db)).parent_path();
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot make ", folder.string(), ": ", error.message()));
  }
  std::string trainer = args.trainer;
  std::map<std::string, std::string> named;
  if (absl::Status s = ReadTrainers(args.trainers, &trainer, &named); !s.ok()) return s;
  if (trainer.empty())
    trainer = (std::filesystem::path(ThisProgram()).parent_path() / "plumb-trainer").string();
  if (access(trainer.c_str(), X_OK) != 0) {
    return absl::FailedPreconditionError(absl::StrCat(
        "no trainer at ", trainer,
        "; build it (cmake -DPLUMB_TRAINER=ON, see script/setup) or name one: --trainer"));
  }
  // A server that runs already would be found by its address file; ours must write a new one.
  const std::string address_file = context.db + ".address";
  struct stat before = {};
  const bool had = stat(address_file.c_str(), &before) == 0;
  std::vector<std::string> server = {"server", "--db", context.db, "--listen", args.listen};
  std::vector<std::string> worker = {"worker", "start", "--db", context.db, "--trainer", trainer};
  for (const auto& [name, path] : named)
    worker.insert(worker.end(), {"--trainer", absl::StrCat(name, "=", path)});
  if (args.allow_commands) worker.push_back("--allow-commands");
  // One machine: whoever else comes is better served by `plumb server`.
  worker.push_back("--shared-checkpoints");
  worker.insert(worker.end(),
                {"--dir", args.dir.empty() ? DefaultWorkerDir(context.db) : args.dir});
  if (args.slots > 0) worker.insert(worker.end(), {"--slots", absl::StrCat(args.slots)});
  if (worker::CountGpus(worker::ListDevices()) > 0) worker.insert(worker.end(), {"--gpu", "all"});
  if (!args.data_root.empty()) {
    for (auto* list : {&server, &worker})
      list->insert(list->end(), {"--data-root", args.data_root});
  }
  absl::Status s = children->Start("server", server, absl::StrCat(context.db, ".server.log"));
  if (!s.ok()) return s;
  for (int i = 0;; ++i) {
    struct stat now = {};
    if (stat(address_file.c_str(), &now) == 0 &&
        (!had || now.st_ino != before.st_ino || now.st_mtim.tv_sec != before.st_mtim.tv_sec ||
         now.st_mtim.tv_nsec != before.st_mtim.tv_nsec)) {
      break;
    }
    const int signal = WaitForSignal(std::chrono::milliseconds(50));
    if (signal == SIGINT || signal == SIGTERM) return absl::CancelledError("interrupted");
    if (s = children->Reap(); !s.ok()) return s;
    if (i > 600) return absl::UnavailableError("the server does not come up within 30 s");
  }
  Context direct = context;
  direct.server.clear();
  absl::StatusOr<std::string> found = FindServer(direct);
  if (!found.ok()) return found.status();
  *address = *found;
  return children->Start("worker", worker, absl::StrCat(context.db, ".worker.log"));
}

// Beside this program, unless it is named. What is said of it to people.
absl::Status StartSuggester(const Context& context, const UpArgs& args, Children* children,
                            std::string* words) {
  const std::string program =
      args.suggester.empty()
          ? (std::filesystem::path(ThisProgram()).parent_path() / "plumb-suggest").string()
          : args.suggester;
  if (args.suggester == "none") {
    *words = "Searches by tpe, gp, cmaes and nsga2 wait for a suggester (--suggester none).";
    return absl::OkStatus();
  }
  if (access(program.c_str(), X_OK) != 0) {
    *words = absl::StrCat("Searches by tpe, gp, cmaes and nsga2 will wait: there is no ", program,
                          " (script/setup and a build make it; --suggester PROGRAM names another)");
    return absl::OkStatus();
  }
  const std::string log = absl::StrCat(context.db, ".suggest.log");
  *words = absl::StrCat("Searches by tpe, gp, cmaes and nsga2: ", log);
  return children->StartHelp("suggester", program, {"--db", context.db}, log);
}

int RunUp(const Context& context, const UpArgs& args) {
  BlockSignals();
  Children children;
  std::string address, suggester;
  absl::Status s = StartCluster(context, args, &children, &address);
  if (s.ok()) s = StartSuggester(context, args, &children, &suggester);
  if (!s.ok()) {
    children.Stop();
    return Finish(s);
  }
  const std::string db = context.db == "plumb.db" ? "" : absl::StrCat(" --db ", context.db);
  std::printf(
      "plumb is up: %s, database %s\n"
      "%s\n"
      "\n"
      "Next, in another terminal:\n"
      "  plumb init sweep.yaml                            a commented sweep file to start from\n"
      "  plumb sweep plan sweep.yaml                      what it costs\n"
      "  plumb sweep submit sweep.yaml --watch%s\n"
      "  plumb plot grid%s\n"
      "\n"
      "Ctrl-C ends server and worker; trials go on from their checkpoints at the next `plumb "
      "up`.\n",
      address.c_str(), context.db.c_str(), suggester.c_str(), db.c_str(), db.c_str());
  std::fflush(stdout);
  for (;;) {
    const int signal = WaitForSignal(std::chrono::seconds(5));
    if (signal == SIGINT || signal == SIGTERM) break;
    if (s = children.Reap(); !s.ok()) break;
  }
  if (s.ok()) {
    std::printf("\nEnding: trainers write checkpoints (Ctrl-C again: at once)\n");
    std::fflush(stdout);
  }
  children.Stop();
  return Finish(s);
}

}  // namespace plumb::app
