#include "trainer/protocol/serve.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <stdexcept>

#include "trainer/protocol/command_server.h"
#include "trainer/protocol/commands.h"
#include "trainer/protocol/journal.h"
#include "trainer/protocol/journal_sink.h"

namespace plumb::trainer {
namespace {

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

class Trainer {
 public:
  Trainer(const ServeOptions& options, const EngineFactory& make_engine)
      : options_(options),
        journal_(options.dir + "/journal"),
        sink_(journal_),
        engine_(make_engine(sink_)),
        commands_(journal_, sink_, *engine_),
        socket_(options.dir) {
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
      if (live || socket_.connection() >= 0) idle_since = Clock::now();
      const auto idle = std::chrono::duration<double>(Clock::now() - idle_since).count();
      if (idle > options_.orphan_seconds) {
        commands_.CloseBundle();
        return kExitDone;
      }
      pollfd fds[] = {{signal_.fd(), POLLIN, 0},
                      {socket_.listener(), POLLIN, 0},
                      {socket_.connection(), POLLIN, 0}};
      if (poll(fds, 3, live ? 0 : 1000) < 0 && errno != EINTR) {
        throw std::runtime_error(std::string("poll: ") + std::strerror(errno));
      }
      if (fds[0].revents != 0) {
        Preempt();
        return kExitPreempted;
      }
      if (fds[1].revents != 0 || fds[2].revents != 0) {
        for (const std::string& line : socket_.Receive()) {
          socket_.Send(commands_.Answer(line));
          if (commands_.shutdown()) return kExitDone;
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
    commands_.CloseBundle();
  }

  const ServeOptions options_;
  StopSignal signal_;  // first of what may start threads
  JournalWriter journal_;
  JournalSink sink_;
  std::unique_ptr<Engine> engine_;
  Commands commands_;
  CommandServer socket_;
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
