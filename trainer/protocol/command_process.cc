#include "trainer/protocol/command_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>

namespace plumb::trainer {
namespace {

constexpr size_t kLongestLine = 4 << 20;
constexpr std::chrono::seconds kPatience{2};

// In the child, between fork and exec: nothing that allocates. Never returns.
[[noreturn]] void Exec(char* const* argv, char* const* environment, const char* folder, int in,
                       int out, int failed) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // as the kernel does with a trainer's ranks
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  for (int signal : {SIGPIPE, SIGTERM, SIGINT, SIGHUP, SIGCHLD}) ::signal(signal, SIG_DFL);
  if (dup2(in, STDIN_FILENO) >= 0 && dup2(out, STDOUT_FILENO) >= 0 && chdir(folder) == 0)
    execvpe(argv[0], argv, environment);
  const int error = errno;
  (void)!write(failed, &error, sizeof error);
  _exit(127);
}

std::vector<char*> Pointers(std::vector<std::string>& texts) {
  std::vector<char*> out;
  for (std::string& t : texts) out.push_back(t.data());
  out.push_back(nullptr);
  return out;
}

}  // namespace

CommandProcess::CommandProcess(const std::vector<std::string>& argv, const std::string& folder,
                               const std::map<std::string, std::string>& environment,
                               const std::string& input)
    : to_feed_(input) {
  std::vector<std::string> words = argv, variables;
  for (char** e = environ; *e != nullptr; ++e) {
    const std::string entry = *e;
    if (!environment.contains(entry.substr(0, entry.find('=')))) variables.push_back(entry);
  }
  for (const auto& [name, value] : environment) variables.push_back(name + "=" + value);
  const std::vector<char*> argv_pointers = Pointers(words),
                           environment_pointers = Pointers(variables);
  int in[2], out[2], failed[2];
  if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0 || pipe2(failed, O_CLOEXEC) != 0)
    throw std::runtime_error(std::string("pipe: ") + std::strerror(errno));
  pid_ = fork();
  if (pid_ == 0)
    Exec(argv_pointers.data(), environment_pointers.data(), folder.c_str(), in[0], out[1],
         failed[1]);
  const int fork_error = errno;
  close(in[0]), close(out[1]), close(failed[1]);
  in_ = in[1], out_ = out[0];
  int error = pid_ < 0 ? fork_error : 0;
  while (pid_ > 0 && read(failed[0], &error, sizeof error) < 0 && errno == EINTR) {
  }
  close(failed[0]);
  if (error != 0) {
    if (pid_ > 0) waitpid(pid_, nullptr, 0);
    close(in_), close(out_);
    throw std::runtime_error("cannot start " + argv[0] + ": " + std::strerror(error));
  }
  setpgid(pid_, pid_);  // whoever is first
  fcntl(in_, F_SETFL, O_NONBLOCK);
  fcntl(out_, F_SETFL, O_NONBLOCK);
  Feed();
}

CommandProcess::~CommandProcess() {
  Signal(SIGKILL);
  if (!exited_) waitpid(pid_, nullptr, 0);
  if (in_ >= 0) close(in_);
  if (out_ >= 0) close(out_);
}

void CommandProcess::Signal(int signal) const { kill(-pid_, signal); }

// SIGPIPE is ignored in a trainer that has sockets; here the write may meet a closed pipe.
void CommandProcess::Feed() {
  while (in_ >= 0 && !to_feed_.empty()) {
    const auto before = ::signal(SIGPIPE, SIG_IGN);
    const ssize_t n = write(in_, to_feed_.data(), to_feed_.size());
    const int error = errno;
    ::signal(SIGPIPE, before);
    if (n > 0) {
      to_feed_.erase(0, static_cast<size_t>(n));
    } else if (error == EINTR) {
      continue;
    } else {
      if (error == EAGAIN) return;
      to_feed_.clear();  // it does not read it
    }
  }
  if (in_ >= 0) close(in_);
  in_ = -1;
}

std::vector<std::string> CommandProcess::Read(int wait_ms) {
  pollfd fds[] = {{out_, POLLIN, 0}, {to_feed_.empty() ? -1 : in_, POLLOUT, 0}};
  poll(fds, 2, wait_ms);
  Feed();
  std::vector<std::string> lines;
  char chunk[64 << 10];
  while (out_ >= 0) {
    const ssize_t n = read(out_, chunk, sizeof chunk);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) break;
    if (n <= 0) {
      close(out_);
      out_ = -1;
      if (!buffer_.empty()) lines.push_back(std::move(buffer_));
      buffer_.clear();
      break;
    }
    buffer_.append(chunk, static_cast<size_t>(n));
    size_t begin = 0;
    for (size_t end; (end = buffer_.find('\n', begin)) != std::string::npos; begin = end + 1)
      lines.push_back(buffer_.substr(begin, end - begin));
    buffer_.erase(0, begin);
    if (buffer_.size() > kLongestLine)
      throw std::runtime_error("a line of its output is over 4 MiB");
  }
  if (out_ < 0 && !exited_) {  // it may have closed stdout and run on
    poll(nullptr, 0, std::min(wait_ms, 5));
  }
  return lines;
}

bool CommandProcess::Ended() {
  if (!exited_ && wait4(pid_, &status_, WNOHANG, &usage_) == pid_) {
    exited_ = true;
    // What it has started and left behind would hold the pipe open.
    Signal(SIGKILL);
    exit_time_ = std::chrono::steady_clock::now();
  }
  // One that has left the group may hold it all the same.
  const bool patient = std::chrono::steady_clock::now() < exit_time_ + kPatience;
  return exited_ && (out_ < 0 || !patient);
}

}  // namespace plumb::trainer
