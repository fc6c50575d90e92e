#include "worker/trainer_process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "trainer/protocol/unix_socket.h"

extern char** environ;

namespace plumb::worker {
namespace {

using nlohmann::json;

constexpr char kSocketName[] = "trainer.sock";
constexpr int64_t kLogTailBytes = 64 << 10;

std::string Dump(const json& command) {
  return command.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

}  // namespace

TrainerProcess::TrainerProcess(std::string dir, std::string guard_path)
    : dir_(std::move(dir)), guard_path_(std::move(guard_path)) {
  std::ifstream(dir_ + "/program") >> program_;
}

TrainerProcess::~TrainerProcess() { Disconnect(); }

bool TrainerProcess::FolderLocked() const {
  const int fd = open((dir_ + "/guard.lock").c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return false;
  const bool locked = flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  close(fd);
  return locked;
}

absl::Status TrainerProcess::Launch(const std::vector<std::string>& program,
                                    const std::string& name) {
  SetAbsent();
  std::vector<std::string> args = {guard_path_, "__guard", dir_, "--"};
  args.insert(args.end(), program.begin(), program.end());
  args.insert(args.end(), {"--dir", dir_});
  program_ = name;
  // Before anything runs: a worker that is killed now finds what it has started.
  std::ofstream(dir_ + "/program", std::ios::trunc) << name << "\n";
  std::vector<char*> argv;
  for (std::string& arg : args) argv.push_back(arg.data());
  argv.push_back(nullptr);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  for (int fd : {STDIN_FILENO, STDOUT_FILENO,
                 STDERR_FILENO}) {  // the worker's terminal must be free to close
    posix_spawn_file_actions_addopen(&files, fd, "/dev/null", O_RDWR, 0);
  }
  // Spawned, never forked: gRPC's threads do not survive a fork. Its descriptors are close-on-exec.
  const int error = posix_spawnp(&guard_, argv[0], &files, &attributes, argv.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) {
    guard_ = 0;
    return absl::InternalError(
        absl::StrCat("cannot start the guard ", guard_path_, ": ", std::strerror(error)));
  }
  state_ = State::kStarting;
  return absl::OkStatus();
}

void TrainerProcess::Adopt() {
  SetAbsent();
  state_ = State::kStarting;
  TryConnect();
}

void TrainerProcess::TryConnect() {
  if (fd_ >= 0 || state_ == State::kAbsent) return;
  fd_ = trainer::ConnectInFolder(dir_, kSocketName);
  if (fd_ < 0) return;
  state_ = State::kStarting;
  in_.clear();
  out_.clear();
  AskHello();
}

void TrainerProcess::AskHello() {
  if (fd_ < 0) return;
  out_ += Dump({{"command", "hello"}, {"protocol_min", 1}, {"protocol_max", 1}});
  Flush();
}

void TrainerProcess::Command(json command, const std::string& row) {
  if (state_ != State::kReady) {  // numbered once the trainer has said where it is
    unanswered_.push_back({0, Dump(command), row});
    return;
  }
  command["n"] = next_n_;
  unanswered_.push_back({next_n_++, Dump(command), row});
  out_ += unanswered_.back().line;
  Flush();
}

bool TrainerProcess::HasUnanswered(const std::string& row) const {
  return std::any_of(unanswered_.begin(), unanswered_.end(),
                     [&](const Sent& s) { return s.row == row; });
}

void TrainerProcess::Flush() {
  while (fd_ >= 0 && !out_.empty()) {
    const ssize_t n = send(fd_, out_.data(), out_.size(), MSG_NOSIGNAL);
    if (n > 0) {
      out_.erase(0, static_cast<size_t>(n));
    } else if (errno == EINTR) {
      continue;
    } else {
      if (errno != EAGAIN && errno != EWOULDBLOCK) Disconnect();
      return;
    }
  }
}

void TrainerProcess::Disconnect() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
  in_.clear();
  out_.clear();
  if (state_ == State::kReady) state_ = State::kStarting;
}

std::vector<TrainerProcess::Answer> TrainerProcess::Pump() {
  std::vector<Answer> answers;
  Flush();
  while (fd_ >= 0) {
    char chunk[16 << 10];
    const ssize_t n = recv(fd_, chunk, sizeof chunk, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
    if (n <= 0) {
      Disconnect();
      break;
    }
    in_.append(chunk, static_cast<size_t>(n));
    for (size_t end; (end = in_.find('\n')) != std::string::npos;) {
      const std::string line = in_.substr(0, end);
      in_.erase(0, end + 1);
      answers.push_back(OnLine(line));
    }
  }
  return answers;
}

TrainerProcess::Answer TrainerProcess::OnLine(const std::string& line) {
  Answer answer;
  const auto json = nlohmann::json::parse(line, nullptr, false);
  if (!json.is_object()) {
    answer.error = "the trainer answered what is no JSON";
    return answer;
  }
  if (!json.value("ok", false)) answer.error = json.value("error", "refused");
  if (!json.contains("n")) {
    answer.hello = true;
    if (!answer.error.empty()) return answer;
    answer.rows = json.value("rows", std::vector<std::string>());
    answer.bundle = json.value("bundle", "");
    for (const Sent& sent : unanswered_) answer.unanswered.push_back(sent.row);
    if (state_ == State::kReady) return answer;  // asked again: nothing was lost
    const int64_t last_n = json.value("last_n", int64_t{0});
    next_n_ = std::max(next_n_, last_n + 1);
    state_ = State::kReady;
    while (!unanswered_.empty() && unanswered_.front().n != 0 && unanswered_.front().n <= last_n)
      unanswered_.pop_front();
    for (Sent& sent : unanswered_) {
      if (sent.n == 0) {
        auto command = nlohmann::json::parse(sent.line);
        sent.n = next_n_++;
        command["n"] = sent.n;
        sent.line = Dump(command);
      }
      out_ += sent.line;
    }
    Flush();
    return answer;
  }
  answer.n = json.value("n", int64_t{0});
  for (auto it = unanswered_.begin(); it != unanswered_.end(); ++it) {
    if (it->n != answer.n) continue;
    answer.row = it->row;
    unanswered_.erase(it);
    break;
  }
  return answer;
}

void TrainerProcess::Reap() {
  std::erase_if(leaving_, [](pid_t pid) { return waitpid(pid, nullptr, WNOHANG) != 0; });
}

bool TrainerProcess::Gone() {
  Reap();
  if (state_ == State::kAbsent) return true;
  if (guard_ > 0) {
    const pid_t result = waitpid(guard_, nullptr, WNOHANG);
    if (result == 0) return false;
    guard_ = 0;  // reaped: what counts now is the lock, which a trainer that outlived its guard
                 // still holds
  }
  return !FolderLocked();
}

void TrainerProcess::SetAbsent() {
  Disconnect();
  if (guard_ > 0) leaving_.push_back(guard_);
  guard_ = 0;
  Reap();
  state_ = State::kAbsent;
  unanswered_.clear();
  next_n_ = 1;
}

std::string LogTail(const std::string& trainer_dir) {
  std::ifstream file(trainer_dir + "/trainer.log", std::ios::binary | std::ios::ate);
  if (!file) return "";
  const int64_t size = file.tellg();
  const int64_t from = std::max<int64_t>(0, size - kLogTailBytes);
  file.seekg(from);
  std::string tail(static_cast<size_t>(size - from), '\0');
  file.read(tail.data(), static_cast<std::streamsize>(tail.size()));
  tail.resize(static_cast<size_t>(std::max<std::streamsize>(0, file.gcount())));
  return tail;
}

}  // namespace plumb::worker
