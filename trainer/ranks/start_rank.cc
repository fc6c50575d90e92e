#include "trainer/ranks/start_rank.h"

#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include <cstring>
#include <stdexcept>

extern char** environ;

namespace plumb::trainer {

pid_t StartRank(std::vector<std::string> args, const std::vector<int>& keep,
                std::vector<std::string> extra) {
  args.insert(args.begin(), "plumb-trainer");
  std::vector<char*> argv, env;
  for (std::string& arg : args) argv.push_back(arg.data());
  for (std::string& one : extra) env.push_back(one.data());
  for (char** one = environ; *one != nullptr; ++one) env.push_back(*one);
  argv.push_back(nullptr);
  env.push_back(nullptr);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  for (int fd : keep) posix_spawn_file_actions_adddup2(&files, fd, fd);  // stays open there
  pid_t pid = 0;
  const int error = posix_spawn(&pid, "/proc/self/exe", &files, nullptr, argv.data(), env.data());
  posix_spawn_file_actions_destroy(&files);
  if (error != 0) throw std::runtime_error(std::string("cannot start it: ") + std::strerror(error));
  return pid;
}

std::string EndOf(int status) {
  if (!WIFSIGNALED(status)) return "ended with exit code " + std::to_string(WEXITSTATUS(status));
  const int signal = WTERMSIG(status);
  return "ended by signal " + std::to_string(signal) +
         (signal == SIGKILL ? " (by hand, or by the kernel for want of memory)" : "");
}

}  // namespace plumb::trainer
