// The guard: one small process per trainer, which outlives the worker and writes down how the
// trainer ended.
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <string>

#include "trainer/protocol/journal.h"
#include "worker/agent.h"

extern char** environ;

namespace plumb::worker {
namespace {

constexpr int kExitUsage = 2;
constexpr int kExitLocked = 73;
constexpr int kExitNoTrainer = 127;

// How many processes the kernel has killed for want of memory; −1 where it does not say. The
// counter of our own cgroup where there is one, else the machine's.
int64_t OomKills() {
  std::ifstream own("/proc/self/cgroup");
  std::string line, folder;
  while (std::getline(own, line)) {
    if (line.starts_with("0::")) folder = line.substr(3);
  }
  for (const auto& [path, key] : {std::pair<std::string, std::string>{
                                      "/sys/fs/cgroup" + folder + "/memory.events", "oom_kill"},
                                  {"/proc/vmstat", "oom_kill"}}) {
    std::ifstream file(path);
    std::string name;
    int64_t count;
    while (file >> name >> count) {
      if (name == key) return count;
    }
  }
  return -1;
}

// The guard before this one may still be writing its last line: wait a few seconds for it.
bool TakeLock(int fd) {
  for (int i = 0; i < 500; ++i) {
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) return true;
    const timespec pause = {0, 10'000'000};
    nanosleep(&pause, nullptr);
  }
  return false;
}

// Starts the trainer with clean signals, its output to DIR/trainer.log. Returns 0 or an errno.
int Spawn(const std::string& dir, char** args, pid_t* pid) {
  // Threads that wait by spinning starve the trials beside them; the OpenMP library reads this as
  // it loads.
  setenv("OMP_WAIT_POLICY", "PASSIVE", /*overwrite=*/0);
  const std::string log = dir + "/trainer.log";
  std::rename(log.c_str(), (log + ".1").c_str());
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, log.c_str(),
                                   O_WRONLY | O_CREAT | O_APPEND, 0644);
  posix_spawn_file_actions_adddup2(&files, STDOUT_FILENO, STDERR_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  const int error = posix_spawnp(pid, args[0], &files, &attributes, args, environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  if (error != 0) {
    std::ofstream(log, std::ios::app)
        << "cannot start " << args[0] << ": " << std::strerror(error) << "\n";
  }
  return error;
}

// What the trainer has started and left behind: all of this session but the guard, which leads it.
void EndSession() {
  for (int round = 0; round < 50; ++round) {
    bool any = false;
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator("/proc", ignored)) {
      const int pid = std::atoi(entry.path().filename().c_str());
      if (pid <= 0 || pid == getpid() || getsid(pid) != getpid()) continue;
      std::ifstream stat(entry.path() / "stat");
      std::string line;
      std::getline(stat, line);
      const size_t name = line.rfind(')');
      if (name == std::string::npos || line.compare(name, 3, ") Z") == 0) continue;
      any = true;
      kill(pid, SIGKILL);
    }
    if (!any) return;
    const timespec pause = {0, 10'000'000};
    nanosleep(&pause, nullptr);
  }
}

int Guard(const std::string& dir, char** args) {
  setsid();
  sigset_t set;
  sigemptyset(&set);
  for (int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, signal);
  sigprocmask(SIG_BLOCK, &set, nullptr);  // ends with its trainer and not before

  // Without O_CLOEXEC: the trainer holds the lock too, so that the lock is free only when both are
  // gone.
  const int lock = open((dir + "/guard.lock").c_str(), O_RDWR | O_CREAT, 0644);
  if (lock < 0 || !TakeLock(lock)) return kExitLocked;
  const std::string pid_text = std::to_string(getpid()) + "\n";
  if (ftruncate(lock, 0) != 0 || pwrite(lock, pid_text.data(), pid_text.size(), 0) < 0)
    return kExitLocked;

  unlink((dir + "/trainer.sock").c_str());  // a dead trainer's; only who holds the lock may
  const int64_t kills_before = OomKills();
  nlohmann::json event = {
      {"event", "exit"}, {"status", -1}, {"signal", 0}, {"out_of_memory", false}};
  pid_t pid;
  if (Spawn(dir, args, &pid) != 0) {
    event["status"] = kExitNoTrainer;
  } else {
    int status;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (WIFEXITED(status)) event["status"] = WEXITSTATUS(status);
    if (WIFSIGNALED(status)) {
      event["signal"] = WTERMSIG(status);
      // Said only when the kernel's count of such kills rose meanwhile; another process's kill may
      // be taken for ours.
      const int64_t kills = OomKills();
      event["out_of_memory"] =
          WTERMSIG(status) == SIGKILL && kills_before >= 0 && kills > kills_before;
    }
  }
  EndSession();
  unlink((dir + "/trainer.sock").c_str());
  trainer::JournalWriter(dir + "/journal").Append(event);
  return 0;
}

}  // namespace

int RunGuard(int argc, char** argv) {
  if (argc < 5 || std::strcmp(argv[3], "--") != 0) {
    std::fprintf(stderr, "usage: %s __guard DIR -- TRAINER ARGS...\n",
                 argc > 0 ? argv[0] : "plumb");
    return kExitUsage;
  }
  try {
    return Guard(argv[2], argv + 4);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "guard of %s: %s\n", argv[2], e.what());
    return 1;
  }
}

}  // namespace plumb::worker
