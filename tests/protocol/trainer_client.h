// A trainer program as a real process, spoken to over its real socket.
#pragma once

#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "trainer/protocol/journal.h"
#include "trainer/protocol/unix_socket.h"

extern char** environ;

namespace plumb::testing {

// Starts a program; its end is waited for by Wait().
class Process {
 public:
  explicit Process(std::vector<std::string> args) {
    std::vector<char*> argv;
    for (std::string& arg : args) argv.push_back(arg.data());
    argv.push_back(nullptr);
    if (posix_spawn(&pid_, argv[0], nullptr, nullptr, argv.data(), environ) != 0)
      throw std::runtime_error("no " + args[0]);
  }
  ~Process() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  pid_t pid() const { return pid_; }
  void Signal(int signal) { kill(pid_, signal); }
  int Wait() {  // exit code, or -signal
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

 private:
  pid_t pid_ = 0;
};

// Waits, woken by changes in `dirs`, until `done`; false after `limit`.
inline bool WaitFor(const std::vector<std::string>& dirs, const std::function<bool()>& done,
                    std::chrono::seconds limit = std::chrono::seconds(30)) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  const int watch = inotify_init1(IN_NONBLOCK);
  bool result = false;
  for (;;) {
    for (const std::string& dir : dirs)
      inotify_add_watch(watch, dir.c_str(), IN_CREATE | IN_MODIFY | IN_DELETE | IN_MOVED_TO);
    result = done();
    if (result || std::chrono::steady_clock::now() > deadline) break;
    pollfd fd = {watch, POLLIN, 0};
    poll(&fd, 1, 200);
    char drained[4096];
    while (read(watch, drained, sizeof drained) > 0) {
    }
  }
  close(watch);
  return result;
}

class TrainerClient {
 public:
  explicit TrainerClient(const std::string& dir) {
    if (!WaitFor({dir},
                 [&] { return (fd_ = trainer::ConnectInFolder(dir, "trainer.sock")) >= 0; })) {
      throw std::runtime_error("no trainer in " + dir);
    }
  }
  ~TrainerClient() { close(fd_); }
  TrainerClient(const TrainerClient&) = delete;
  TrainerClient& operator=(const TrainerClient&) = delete;

  nlohmann::json Call(const nlohmann::json& command) {
    const std::string line = command.dump() + "\n";
    if (send(fd_, line.data(), line.size(), MSG_NOSIGNAL) < 0) throw std::runtime_error("send");
    size_t end;
    while ((end = in_.find('\n')) == std::string::npos) {
      pollfd fd = {fd_, POLLIN, 0};
      if (poll(&fd, 1, 10'000) <= 0) throw std::runtime_error("no answer to " + line);
      char chunk[4096];
      const ssize_t n = recv(fd_, chunk, sizeof chunk, 0);
      if (n <= 0) return nullptr;  // the trainer has ended the connection
      in_.append(chunk, static_cast<size_t>(n));
    }
    const auto answer = nlohmann::json::parse(in_.substr(0, end));
    in_.erase(0, end + 1);
    return answer;
  }
  nlohmann::json Hello() {
    return Call({{"command", "hello"}, {"protocol_min", 1}, {"protocol_max", 1}});
  }
  nlohmann::json Open(int n, int capacity = 1) {
    return Call({{"n", n},
                 {"command", "open"},
                 {"bundle", "b"},
                 {"capacity", capacity},
                 {"data_dir", ""},
                 {"threads", 1}});
  }
  nlohmann::json AddNoop(int n, const std::string& row, double seconds = 0,
                         nlohmann::json more = nlohmann::json::object()) {
    nlohmann::json stage = {{"seconds", seconds}, {"steps", 7}};
    stage.update(more);
    return Call({{"n", n},
                 {"command", "add_row"},
                 {"row", row},
                 {"kind", "noop"},
                 {"config", nlohmann::json::object()},
                 {"stage", std::move(stage)},
                 {"until_step", -1},
                 {"checkpoint", nullptr},
                 {"checkpoint_dir", ""}});
  }

 private:
  int fd_ = -1;
  std::string in_;
};

// The events of a kind in a trainer's folder, in order.
inline std::vector<nlohmann::json> Events(const std::string& dir, const std::string& kind) {
  std::vector<nlohmann::json> events;
  trainer::JournalReader reader(dir + "/journal");
  for (;;) {
    const auto read = reader.Read();
    if (read.empty()) return events;
    for (const auto& e : read) {
      if (e.json.value("event", "") == kind) events.push_back(e.json);
    }
  }
}
inline bool WaitForEvent(const std::string& dir, const std::string& kind, size_t count = 1) {
  return WaitFor({dir, dir + "/journal"}, [&] { return Events(dir, kind).size() >= count; });
}

}  // namespace plumb::testing
