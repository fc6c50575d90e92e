// A command as a process: its own process group, its stdout read line by line, killed with its
// parent.
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <chrono>
#include <map>
#include <string>
#include <vector>

namespace plumb::trainer {

class CommandProcess {
 public:
  // Starts argv[0] (found by PATH) in `folder`, with these variables beside those of this process,
  // and `input` on stdin. Throws std::runtime_error where it cannot be started.
  CommandProcess(const std::vector<std::string>& argv, const std::string& folder,
                 const std::map<std::string, std::string>& environment, const std::string& input);
  ~CommandProcess();  // kills its group
  CommandProcess(const CommandProcess&) = delete;
  CommandProcess& operator=(const CommandProcess&) = delete;

  // Waits up to so long for it to say something or to end, and returns the whole lines that came,
  // the last one too when it has ended without its newline. A line over 4 MiB throws.
  std::vector<std::string> Read(int wait_ms);
  void Signal(int signal) const;  // to its group
  // Whether it has ended and all that it said was read.
  bool Ended();
  int status() const { return status_; }  // of waitpid, once it has ended
  const rusage& usage() const { return usage_; }

 private:
  void Feed();

  pid_t pid_ = 0;
  int in_ = -1, out_ = -1;
  std::string to_feed_, buffer_;
  bool exited_ = false;
  int status_ = 0;
  std::chrono::steady_clock::time_point exit_time_;
  rusage usage_ = {};
};

}  // namespace plumb::trainer
