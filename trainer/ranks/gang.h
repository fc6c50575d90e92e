// The other ranks of a trial, seen from rank 0: processes of the same program that compute their
// share of each step and nothing else. Those on other machines, where there are any, are started
// there (trainer/ranks/member.h) and come to this one's door. Rank 0 alone speaks to the worker,
// evaluates, and writes journal and checkpoints.
//
//  1. A rank makes a step only when rank 0 says which: pausing, stopping and checkpoints need no
//     further agreement, since all ranks stand between the same two steps whenever rank 0 does.
//  2. When the object is gone, so are the processes of this machine. They die with rank 0, however
//     it dies: the kernel kills a rank whose parent has ended. Those of others end when their
//     connection does.
//  3. What goes wrong with a rank is thrown as RankLost; Explain() then says whose fault it was.
//
// One thread, beside one of its own within Join(); it must be the process's first, since the kernel
// counts a parent by its thread.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "trainer/protocol/engine.h"
#include "trainer/ranks/board.h"
#include "trainer/ranks/channel.h"
#include "trainer/ranks/collective.h"
#include "trainer/ranks/door.h"

namespace plumb::trainer {

enum class RankWork { kTrain, kTime };

class Gang {
 public:
  struct Failure {
    RowOutcome outcome = RowOutcome::kFailed;
    std::string cause;  // "rank 1 ended by signal 9"
  };

  // Starts ranks 1 … train.ranks - 1 of a row, which load its data and checkpoint meanwhile.
  // Throws std::runtime_error.
  Gang(const RowRequest& request, const std::string& data_dir, int64_t threads);
  ~Gang();
  Gang(const Gang&) = delete;
  Gang& operator=(const Gang&) = delete;

  // Where ranks of other machines are waited for; empty: none are, or all have come.
  std::string address() const { return door_ == nullptr ? "" : door_->address(); }
  std::string secret() const { return door_ == nullptr ? "" : door_->secret(); }
  // Lets them in, waiting `limit` at most. True once all are there. Throws RankLost.
  bool Gather(std::chrono::milliseconds limit);
  // Then: waits until all have loaded, and connects them. Throws RankLost.
  void Join(at::Device device);
  Collective& ranks() { return *ranks_; }

  // Has the others make step `step` (0 for the first); rank 0 then makes its own with ranks(), and
  // waits for the others' in Finish(). Throw RankLost.
  void Begin(RankWork work, int64_t step);
  void Finish();
  // Asks all for the digest of their weights; throws std::runtime_error where one differs from
  // `own`, RankLost.
  void CheckSame(const std::string& own);

  // After RankLost: which rank, and how. Waits a few seconds for their last words.
  Failure Explain(const std::string& lost);

  // Of the other ranks: CPU seconds of the last step, and the sum of their high-water marks.
  double step_cpu_seconds() const { return step_cpu_seconds_; }
  int64_t peak_bytes() const;

 private:
  struct Peer {
    int64_t rank;
    pid_t pid = 0;  // 0: reaped, or of another machine
    bool remote = false;
    std::unique_ptr<Channel> channel;
    std::optional<nlohmann::json> answer;  // not yet looked at
    std::optional<int> status;             // of waitpid, once it has ended; 0 of another machine's
    std::optional<Failure> failure;        // its own last words
    bool victim = false;                   // it lost another rank
    int64_t peak_bytes = 0;
  };
  void End();
  void Start(Peer* peer, const std::string& row);
  static std::string EndOf(const Peer& peer);
  void Say(const nlohmann::json& message);
  // Waits until each has answered. Throws RankLost when one ends or `limit` passes.
  void Await(std::chrono::milliseconds limit);
  // Takes in what has come from the peers, waiting for the first of it until `deadline`, or until
  // `wake` can be read.
  void Listen(std::chrono::steady_clock::time_point deadline, int wake = -1);

  const std::chrono::milliseconds timeout_;
  const int64_t total_;  // ranks, with this one
  const std::string host_;
  nlohmann::json load_;
  std::unique_ptr<Door> door_;
  std::vector<Peer> peers_;
  Board board_;
  std::unique_ptr<Collective> ranks_;
  double step_cpu_seconds_ = 0;
};

}  // namespace plumb::trainer
