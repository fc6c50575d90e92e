// A worker and its trainers under virtual time, by the rules of worker/: the whole state in every
// report, facts kept until they are acknowledged, trainers that outlive their agent.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "sim/loop.h"
#include "sim/meetings.h"
#include "sim/random.h"
#include "sim/scenario.h"
#include "sim/server.h"
#include "sim/truth.h"

namespace plumb::sim {

// Messages between one worker and the server.
class Network {
 public:
  virtual ~Network() = default;
  // Delivers `what` at the other end: never, once, or more than once, later.
  virtual void Send(int64_t worker, bool to_server, std::function<void()> what) = 0;
};

class Worker {
 public:
  Worker(int64_t number, const Scenario& scenario, Loop& loop, Random& random, Network& network,
         Meetings& meetings, Server& server)
      : number_(number),
        machine_(scenario.machines[number]),
        name_("w" + std::to_string(number)),
        scenario_(scenario),
        loop_(loop),
        random_(random),
        network_(network),
        meetings_(meetings),
        server_(server) {}

  void Start();  // the agent; finds what its trainers wrote
  void KillAgent();
  void CrashMachine(bool wipe);
  void Drain();
  void StopFor(absl::Duration length);  // SIGSTOP of the agent
  void KillTrainer(int64_t which);
  void Spoil(absl::Duration until) { spoiled_until_ = until; }

  bool up() const { return up_; }
  int64_t running() const;  // trainers at work now
  int64_t slots() const { return machine_.slots; }
  const std::string& name() const { return name_; }
  // Called when a trial takes its machine with it, and when a drained agent has left.
  std::function<void()> on_crash;
  std::function<void()> on_left;
  // Called when one of its attempts has ended, with what its trainer says.
  std::function<void(int64_t incarnation, const AttemptId&, Outcome)> on_ended;
  // Seconds that the steps computed so far take at speed 1, those computed again included.
  double seconds_computed() const { return seconds_computed_; }

 private:
  struct Key {
    int64_t incarnation = 0;
    AttemptId attempt;
    auto operator<=>(const Key&) const = default;
  };
  struct Fact {
    int64_t seq = 0;
    std::optional<int64_t> point;
    std::optional<int64_t> checkpoint;
  };
  enum class Stop { kNone, kPreempt, kCancel };
  struct Attempt {
    core::Grant grant;
    std::string key, stage;  // of its trial; the stage's name
    Truth truth;
    enum class Phase { kWaiting, kLive, kEnded } phase = Phase::kWaiting;
    Stop stop = Stop::kNone;
    int64_t step = 0;
    int64_t run = 0;         // which run of its trainer its timers belong to
    std::deque<Fact> facts;  // above `acked`
    int64_t last_seq = 0, acked = 0;
    bool acked_known = true;
    std::optional<Outcome> outcome;
    std::string cause;
    std::string meeting, secret;  // rank 0's, of a gang
    bool joined = false;          // another's: it has met rank 0
    bool member() const { return grant.first_rank > 0; }
  };
  int64_t RowsBeside(const Attempt& attempt) const;  // live rows of its bundle, itself included
  void TrainerDies(const Key& key, Outcome outcome, const std::string& cause);  // of that row

  void Soon();  // talk when what happens now has happened
  void Talk();
  void Register();
  void Report();
  void Poll();
  void OnReported(const absl::StatusOr<core::Answer>& answer);
  void OnDesired(const absl::StatusOr<Server::Desired>& answer);
  void Broken(const absl::Status& why);
  void Reconcile();
  void Begin(const Key& key, Attempt& attempt);
  void NextFact(const Key& key);
  void OpenMeeting(const Key& key, Attempt& attempt);
  void JoinMeeting(const Key& key, Attempt& attempt);
  void LeaveMeeting(const Attempt& attempt);
  // Ends it later, if it is still the same run of its trainer.
  void EndAfter(absl::Duration wait, const Key& key, Outcome outcome, const std::string& cause);
  void Advance(const Key& key, int64_t run, int64_t step);
  void End(const Key& key, Attempt& attempt, Outcome outcome, std::string cause);
  core::AttemptReport StateOf(const Key& key, const Attempt& attempt) const;
  void Heard(const core::Moment& told);
  void LeaveIfDone();
  // Sends a call; `reply` runs once, with what came or, after the deadline, with an error.
  template <typename Answer>
  void Call(absl::Duration deadline,
            std::function<void(std::function<void(absl::StatusOr<Answer>, core::Moment)>)> serve,
            std::function<void(absl::StatusOr<Answer>, core::Moment)> reply);
  void Later(absl::Duration wait, std::function<void()> what);

  const int64_t number_;
  const Machine machine_;
  const std::string name_;
  const Scenario& scenario_;
  Loop& loop_;
  Random& random_;
  Network& network_;
  Meetings& meetings_;
  Server& server_;

  // On its disk, or in its trainers.
  std::map<Key, Attempt> attempts_;
  int64_t known_incarnation_ = 0;
  core::Moment known_;
  absl::Duration spoiled_until_;
  double seconds_computed_ = 0;
  int64_t meetings_opened_ = 0;

  // The agent's.
  int64_t life_ = 0;
  bool up_ = false;
  absl::Duration Remaining() const {
    return machine_.life == absl::InfiniteDuration() ? machine_.life : taken_at_ - loop_.now();
  }
  absl::Duration taken_at_;  // the machine, as it announced
  bool draining_ = false;
  absl::Duration stopped_until_;
  SessionId session_;
  int64_t generation_ = 0;
  std::optional<std::vector<core::Grant>> desired_;
  bool register_pending_ = false, report_pending_ = false, poll_pending_ = false;
  bool talk_due_ = false;
  bool drain_said_ = false;
  absl::Duration report_due_, talk_after_, backoff_;
};

}  // namespace plumb::sim
