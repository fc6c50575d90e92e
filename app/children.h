// `plumb server` and `plumb worker` as children of this program: started, restarted when they
// crash, ended cleanly.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace plumb::app {

std::string ThisProgram();  // absolute path of the running executable

// Not thread-safe; signals must be blocked (BlockSignals) and waited for by the same thread.
class Children {
 public:
  Children() = default;
  Children(const Children&) = delete;
  ~Children();  // SIGKILL for what still runs

  // Starts `plumb ARGS…` in a process group of its own, so that Ctrl-C reaches this program alone;
  // output goes to `log` (appended; "": inherited). A child that crashes is started again, at most
  // 5 times a minute.
  // One that ends well is started again too, or is let go.
  enum class OnSuccess { kRestart, kLetGo };
  absl::Status Start(const std::string& name, std::vector<std::string> args, const std::string& log,
                     OnSuccess on_success = OnSuccess::kRestart);
  int64_t Running() const;

  // The same for another program, which is given --parent PID too. It is a help and no more: when
  // it ends on its own that is said once, with the end of its log, and is no error.
  absl::Status StartHelp(const std::string& name, const std::string& program,
                         std::vector<std::string> args, const std::string& log);

  // Takes the ends of children: restarts after a crash. Error: one ended on its own with a code
  // that a restart does not mend (its message names the log).
  absl::Status Reap();

  // SIGTERM in the reverse order of starting, waiting for each; a stop signal meanwhile ends all at
  // once.
  void Stop();

 private:
  struct Child {
    std::string name, log;
    std::vector<std::string> args;
    std::string program;  // "": this one
    bool is_help = false;
    OnSuccess on_success = OnSuccess::kRestart;
    pid_t pid = 0;  // 0: not running
    std::vector<std::chrono::steady_clock::time_point> starts;
  };
  absl::Status Spawn(Child& child);
  std::vector<Child> children_;
};

}  // namespace plumb::app
