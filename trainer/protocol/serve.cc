#include "trainer/protocol/serve.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "trainer/protocol/command_server.h"
#include "trainer/protocol/journal.h"
#include "trainer/protocol/journal_sink.h"
#include "trainer/spec/parse.h"

namespace plumb::trainer {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

// SIGTERM and SIGINT as a readable descriptor.
class StopSignal {
 public:
  StopSignal() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    fd_ = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd_ < 0) throw std::runtime_error(std::string("signalfd: ") + std::strerror(errno));
  }
  ~StopSignal() { close(fd_); }
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;
  int fd() const { return fd_; }

 private:
  int fd_;
};

std::optional<CheckpointRef> ParseCheckpoint(const json& command) {
  const auto it = command.find("checkpoint");
  if (it == command.end() || it->is_null()) return std::nullopt;
  return CheckpointRef{it->at("path").get<std::string>(), it->at("digest").get<std::string>(),
                       it->at("step").get<int64_t>(), it->at("resume").get<bool>()};
}

class Trainer {
 public:
  Trainer(const ServeOptions& options, const EngineFactory& make_engine)
      : options_(options),
        journal_(options.dir + "/journal"),
        sink_(journal_),
        engine_(make_engine(sink_)),
        commands_(options.dir) {
    journal_.Append({{"event", "hello"},
                     {"protocol", kProtocolVersion},
                     {"build", options_.build},
                     {"pid", getpid()},
                     {"engine", engine_->Description()}});
  }

  int Run() {
    bool live = false;
    Clock::time_point idle_since = Clock::now();
    for (;;) {
      if (live || commands_.connection() >= 0) idle_since = Clock::now();
      const auto idle = std::chrono::duration<double>(Clock::now() - idle_since).count();
      if (idle > options_.orphan_seconds) {
        CloseBundle();
        return kExitDone;
      }
      pollfd fds[] = {{signal_.fd(), POLLIN, 0},
                      {commands_.listener(), POLLIN, 0},
                      {commands_.connection(), POLLIN, 0}};
      if (poll(fds, 3, live ? 0 : 1000) < 0 && errno != EINTR) {
        throw std::runtime_error(std::string("poll: ") + std::strerror(errno));
      }
      if (fds[0].revents != 0) {
        Preempt();
        return kExitPreempted;
      }
      if (fds[1].revents != 0 || fds[2].revents != 0) {
        for (const std::string& line : commands_.Receive()) {
          commands_.Send(Answer(line).dump(-1, ' ', false, json::error_handler_t::replace));
          if (shutdown_) return kExitDone;
        }
      }
      live = engine_->Step();
    }
  }

 private:
  void Preempt() {
    for (const std::string& row : engine_->LiveRows())
      engine_->StopRow(row, Engine::StopMode::kPreempt);
    while (!engine_->LiveRows().empty()) engine_->Step();
    CloseBundle();
  }

  void CloseBundle() {
    if (bundle_.empty()) return;
    engine_->Close();
    journal_.Append({{"event", "closed"}, {"bundle", bundle_}});
    bundle_.clear();
  }

  // A command that failed changed nothing and does not use up its number.
  json Answer(const std::string& line) {
    const json command = json::parse(line, nullptr, false);
    if (!command.is_object() || !command.contains("command") || !command["command"].is_string()) {
      return {{"ok", false}, {"error", "not a command: an object with \"command\" is needed"}};
    }
    json answer = {{"ok", true}};
    if (command.contains("n")) answer["n"] = command["n"];
    try {
      const std::string name = command["command"];
      if (name == "hello") {
        Hello(command, answer);
        return answer;
      }
      const int64_t n = command.at("n").get<int64_t>();
      if (n <= last_n_) {
        answer["repeated"] = true;
        return answer;
      }
      Apply(name, command);
      last_n_ = n;
    } catch (const std::exception& e) {
      answer["ok"] = false;
      answer["error"] = e.what();
    }
    return answer;
  }

  void Hello(const json& command, json& answer) {
    const int low = command.value("protocol_min", 1), high = command.value("protocol_max", 1);
    if (low > kProtocolVersion || high < kProtocolVersion) {
      throw std::runtime_error("this trainer speaks protocol " + std::to_string(kProtocolVersion) +
                               ", the worker " + std::to_string(low) + " to " +
                               std::to_string(high) +
                               ": install worker and trainer of one release");
    }
    answer["protocol"] = kProtocolVersion;
    answer["last_n"] = last_n_;
    answer["pid"] = getpid();
    answer["bundle"] = bundle_;
    answer["rows"] = engine_->LiveRows();
  }

  void Apply(const std::string& name, const json& command) {
    if (name == "open") {
      if (!bundle_.empty())
        throw std::runtime_error("bundle " + bundle_ + " is open: close it first");
      const std::string bundle = command.at("bundle");
      if (bundle.empty()) throw std::runtime_error("a bundle needs a name");
      engine_->Open(bundle, command.at("capacity").get<int64_t>(),
                    command.at("data_dir").get<std::string>(),
                    command.at("threads").get<int64_t>());
      bundle_ = bundle;
      journal_.Append({{"event", "opened"}, {"bundle", bundle_}});
    } else if (name == "add_row") {
      AddRow(command);
    } else if (name == "extend_row") {
      engine_->ExtendRow(command.at("row"), command.at("until_step"));
    } else if (name == "checkpoint_row") {
      engine_->CheckpointRow(command.at("row"));
    } else if (name == "stop_row") {
      const std::string mode = command.at("mode");
      if (mode != "preempt" && mode != "cancel")
        throw std::runtime_error("mode: \"preempt\" or \"cancel\"");
      engine_->StopRow(command.at("row"),
                       mode == "preempt" ? Engine::StopMode::kPreempt : Engine::StopMode::kCancel);
    } else if (name == "close") {
      const std::string bundle = command.at("bundle");
      if (bundle != bundle_) throw std::runtime_error("bundle " + bundle + " is not open");
      CloseBundle();
    } else if (name == "shutdown") {
      CloseBundle();
      shutdown_ = true;
    } else {
      throw std::runtime_error("unknown command \"" + name + "\"");
    }
  }

  void AddRow(const json& command) {
    if (bundle_.empty()) throw std::runtime_error("no bundle is open");
    RowRequest request;
    request.row = command.at("row");
    request.kind = command.at("kind");
    request.stage_json = command.value("stage", json::object()).dump();
    request.until_step = command.value("until_step", int64_t{-1});
    request.checkpoint = ParseCheckpoint(command);
    request.checkpoint_dir = command.value("checkpoint_dir", "");
    if (request.kind != "noop") {  // a no-op has no config
      const auto errors = spec::ParseResolved(command.at("config").dump(), &request.spec);
      if (!errors.empty()) {
        sink_.RowEnded(request.row, 0, RowOutcome::kInfeasible, spec::Format(errors), "{}");
        return;
      }
    }
    engine_->AddRow(request);
  }

  const ServeOptions options_;
  StopSignal signal_;  // first of what may start threads
  JournalWriter journal_;
  JournalSink sink_;
  std::unique_ptr<Engine> engine_;
  CommandServer commands_;
  std::string bundle_;
  int64_t last_n_ = 0;
  bool shutdown_ = false;
};

}  // namespace

int Serve(const ServeOptions& options, const EngineFactory& make_engine) {
  std::filesystem::create_directories(options.dir);
  return Trainer(options, make_engine).Run();
}

int TrainerMain(int argc, char** argv, const std::string& program, const std::string& build,
                const EngineFactory& make_engine) {
  const std::string usage =
      "usage: " + program +
      " --dir DIR\n\nServes training commands on DIR/trainer.sock and writes its events to "
      "DIR/journal. A worker starts it;\nsee docs/trainer-protocol.md.\n\n  --dir DIR   the "
      "trainer's folder\n  --version   print the version\n  --help      print this\n";
  ServeOptions options{.build = build};
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg == "--help" || arg == "-h") {
      std::fputs(usage.c_str(), stdout);
      return kExitDone;
    }
    if (arg == "--version") {
      std::printf("%s %s\n", program.c_str(), build.c_str());
      return kExitDone;
    }
    if (arg == "--dir" && i + 1 < argc) {
      options.dir = argv[++i];
    } else {
      std::fprintf(stderr, "%s: unknown argument %s\n%s", program.c_str(), arg.c_str(),
                   usage.c_str());
      return kExitUsage;
    }
  }
  if (options.dir.empty()) {
    std::fprintf(stderr, "%s: --dir is needed\n%s", program.c_str(), usage.c_str());
    return kExitUsage;
  }
  return Serve(options, make_engine);
}

}  // namespace plumb::trainer
