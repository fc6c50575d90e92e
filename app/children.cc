#include "app/children.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "app/exit_code.h"
#include "app/signals.h"

extern char** environ;

namespace plumb::app {
namespace {

constexpr auto kWindow = std::chrono::minutes(1);
constexpr size_t kStartsPerWindow = 6;

std::string Tail(const std::string& path) {
  std::ifstream in(path, std::ios::ate | std::ios::binary);
  if (!in) return "";
  const std::streamoff size = in.tellg();
  in.seekg(std::max<std::streamoff>(0, size - 1500));
  std::string text((std::istreambuf_iterator<char>(in)), {});
  return text;
}

}  // namespace

std::string ThisProgram() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).string();
}

Children::~Children() {
  for (Child& c : children_) {
    if (c.pid <= 0) continue;
    kill(c.pid, SIGKILL);
    waitpid(c.pid, nullptr, 0);
  }
}

absl::Status Children::Start(const std::string& name, std::vector<std::string> args,
                             const std::string& log, OnSuccess on_success) {
  children_.push_back(
      {.name = name, .log = log, .args = std::move(args), .on_success = on_success});
  return Spawn(children_.back());
}

absl::Status Children::StartHelp(const std::string& name, const std::string& program,
                                 std::vector<std::string> args, const std::string& log) {
  children_.push_back(
      {.name = name, .log = log, .args = std::move(args), .program = program, .is_help = true});
  return Spawn(children_.back());
}

int64_t Children::Running() const {
  return std::count_if(children_.begin(), children_.end(),
                       [](const Child& c) { return c.pid > 0; });
}

absl::Status Children::Spawn(Child& child) {
  const std::string program = child.program.empty() ? ThisProgram() : child.program;
  const std::string parent = absl::StrCat(getpid());
  std::vector<std::string> args = {program};
  args.insert(args.end(), child.args.begin(), child.args.end());
  args.insert(args.end(), {"--parent", parent});
  std::vector<char*> argv;
  for (std::string& a : args) argv.push_back(a.data());
  argv.push_back(nullptr);

  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  if (!child.log.empty()) {
    posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, child.log.c_str(),
                                     O_WRONLY | O_CREAT | O_APPEND, 0644);
    posix_spawn_file_actions_adddup2(&files, STDOUT_FILENO, STDERR_FILENO);
  }
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  const int error =
      posix_spawn(&child.pid, program.c_str(), &files, &attributes, argv.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) {
    child.pid = 0;
    return absl::InternalError(
        absl::StrCat("cannot start the ", child.name, ": ", strerror(error),
                     child.log.empty() ? "" : " (its log: " + child.log + ")"));
  }
  child.starts.push_back(std::chrono::steady_clock::now());
  return absl::OkStatus();
}

absl::Status Children::Reap() {
  for (Child& c : children_) {
    int status = 0;
    if (c.pid <= 0 || waitpid(c.pid, &status, WNOHANG) != c.pid) continue;
    c.pid = 0;
    if (c.on_success == OnSuccess::kLetGo && WIFEXITED(status) && WEXITSTATUS(status) == 0)
      continue;
    // A code of ours below 100 (a lock held, a port taken, a newer schema) comes again after a
    // restart.
    const bool final = WIFEXITED(status) && WEXITSTATUS(status) != 0 && WEXITSTATUS(status) < 100;
    std::erase_if(c.starts, [](auto t) { return std::chrono::steady_clock::now() - t > kWindow; });
    if (c.is_help && (final || c.starts.size() >= kStartsPerWindow)) {
      std::fprintf(stderr, "plumb: the %s ended and is not started again; its log (%s) ends:\n%s\n",
                   c.name.c_str(), c.log.c_str(), Tail(c.log).c_str());
      continue;
    }
    if (final || c.starts.size() >= kStartsPerWindow) {
      return absl::Status(
          final && WEXITSTATUS(status) == kConflict ? absl::StatusCode::kFailedPrecondition
                                                    : absl::StatusCode::kInternal,
          absl::StrCat("the ", c.name, " ended (",
                       WIFEXITED(status) ? absl::StrCat("exit ", WEXITSTATUS(status))
                                         : absl::StrCat("signal ", WTERMSIG(status)),
                       "); its log", c.log.empty() ? "" : absl::StrCat(" (", c.log, ")"),
                       " ends:\n", Tail(c.log)));
    }
    std::fprintf(stderr, "plumb: the %s ended (%s %d); starting it again\n", c.name.c_str(),
                 WIFEXITED(status) ? "exit" : "signal",
                 WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
    if (absl::Status s = Spawn(c); !s.ok()) return s;
  }
  return absl::OkStatus();
}

void Children::Stop() {
  bool at_once = false;
  for (auto c = children_.rbegin(); c != children_.rend(); ++c) {
    if (c->pid <= 0) continue;
    kill(c->pid, at_once ? SIGKILL : SIGTERM);
    for (;;) {
      int status = 0;
      const pid_t got = waitpid(c->pid, &status, WNOHANG);
      if (got == c->pid || (got < 0 && errno == ECHILD)) break;
      const int signal = WaitForSignal(std::chrono::milliseconds(200));
      if (signal == SIGINT || signal == SIGTERM) {
        at_once = true;
        kill(c->pid, SIGKILL);
      }
    }
    c->pid = 0;
  }
}

}  // namespace plumb::app
