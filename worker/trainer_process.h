// One trainer and its guard, seen from the worker: started or found alive, spoken to over its
// socket.
//
//   1. The trainer's folder is locked for as long as the guard or the trainer lives; a worker never
//   starts a second one.
//   2. Commands are numbered and kept until answered; after a broken connection those the trainer
//   has not applied are
//      sent again.
// One thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace plumb::worker {

class TrainerProcess {
 public:
  enum class State {
    kAbsent,    // no process
    kStarting,  // a process, not heard yet
    kReady,     // it has answered hello
  };
  struct Answer {
    bool hello = false;
    std::vector<std::string> rows;  // hello: rows that have not ended
    std::string bundle;             // hello: the open one, "" for none
    // hello: what commands not yet answered when it came are about. Their answers may lie in the
    // same read: what hello says is older than they are.
    std::vector<std::string> unanswered;
    int64_t n = 0;
    std::string row;    // what the command was about, "" for none
    std::string error;  // "" : done
  };

  // `guard_path` has the "__guard" command.
  TrainerProcess(std::string dir, std::string guard_path);
  ~TrainerProcess();  // leaves the processes alone
  TrainerProcess(const TrainerProcess&) = delete;
  TrainerProcess& operator=(const TrainerProcess&) = delete;

  State state() const { return state_; }
  const std::string& dir() const { return dir_; }
  const std::string& program() const { return program_; }  // the name of what runs, or ran last
  bool FolderLocked() const;                               // a guard or a trainer lives

  // kAbsent → kStarting, by posix_spawn of the guard; `program`: the trainer and its first
  // arguments. `name` says which one it is, also to a worker that finds it alive.
  absl::Status Launch(const std::vector<std::string>& program, const std::string& name);
  void Adopt();  // kAbsent → kStarting, for a folder that is locked
  // Connects once the socket is there. Cheap to call again.
  void TryConnect();

  // Asks again what it runs; the answer is an Answer with `hello`.
  void AskHello();
  // Queues a command; its "n" is added here. `row`: what Answer::row says of it.
  void Command(nlohmann::json command, const std::string& row);
  bool HasUnanswered(const std::string& row) const;
  bool HasUnanswered() const { return !unanswered_.empty(); }

  int fd() const { return fd_; }  // −1 without a connection
  bool wants_write() const { return fd_ >= 0 && !out_.empty(); }
  // Moves bytes; returns what was answered.
  std::vector<Answer> Pump();

  // Whether guard and trainer are both gone. The caller then reads the journal to its end and calls
  // SetAbsent().
  bool Gone();
  void SetAbsent();

 private:
  struct Sent {
    int64_t n;
    std::string line;
    std::string row;
  };
  void Disconnect();
  void Flush();
  Answer OnLine(const std::string& line);

  const std::string dir_, guard_path_;
  std::string program_;
  State state_ = State::kAbsent;
  void Reap();

  pid_t guard_ = 0;             // our child; 0: adopted, or reaped
  std::vector<pid_t> leaving_;  // guards that have said their last word
  int fd_ = -1;
  std::string in_, out_;
  int64_t next_n_ = 1;
  std::deque<Sent> unanswered_;
};

// The last 64 KiB of the trainer's log.
std::string LogTail(const std::string& trainer_dir);

}  // namespace plumb::worker
