// The coordinator under virtual time: the real core over a storage, with the owner loop's rules
// (coordinator/owner.h) and none of its threads. It can be killed between any two of its steps.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/core/core.h"
#include "sim/loop.h"
#include "sim/random.h"
#include "sim/scenario.h"
#include "sim/storage.h"

namespace plumb::sim {

// Told of everything that becomes true, as it becomes true.
class Watcher {
 public:
  virtual ~Watcher() = default;
  virtual void OnApplied(const core::Core& core) = 0;
  virtual void OnCommitted(absl::Span<const Change> changes) = 0;
  virtual void OnLoaded(const ClusterSnapshot& snapshot) = 0;
  virtual void OnWrong(const std::string& what) = 0;
};

struct Disk {
  absl::Duration latency = absl::Milliseconds(1);
  double slower = 1;
  bool full = false;
  bool broken = false;  // the next commit is lost data
};

class Server {
 public:
  using Done = std::function<void(absl::StatusOr<core::Answer>, core::Moment told)>;
  struct Desired {
    int64_t generation = 0;
    std::vector<core::Grant> grants;
  };
  using PollDone = std::function<void(absl::StatusOr<Desired>, core::Moment told)>;

  Server(const Scenario& scenario, Loop& loop, Random& random, Storage& storage, Watcher& watcher)
      : scenario_(scenario), loop_(loop), random_(random), storage_(storage), watcher_(watcher) {}

  void Start();
  void Kill();
  bool up() const { return core_ != nullptr; }

  void Post(core::Event event, Done done);
  void Poll(SessionId session, int64_t generation, absl::Duration wait, PollDone done);

  Disk disk;
  absl::Duration wall_jump;  // of the machine's clock
  // Called when the server ends itself (its disk lost data).
  std::function<void()> on_exit;
  const core::Core* core() const { return core_.get(); }
  core::Now now() const { return now_; }
  int64_t commits() const { return commits_; }

 private:
  struct Item {
    enum class Kind { kEvent, kPoll } kind = Kind::kEvent;
    core::Event event;
    Done done;
    bool looked_up = false;
    int64_t epoch = 0;
    SessionId session;
    int64_t generation = 0;
    absl::Duration deadline;
    bool answer_now = false;
    PollDone poll_done;
    std::function<void(absl::Status)> finish;
  };
  using ItemPtr = std::shared_ptr<Item>;
  struct Batch {
    absl::Duration cluster_time;
    std::vector<ItemPtr> items;
    std::vector<Change> changes;
    ItemPtr lookup;
  };

  void Put(ItemPtr item);
  void WakeAt(absl::Duration when);
  void Turn();
  void Tock();
  void Handle(const ItemPtr& item, Batch& batch);
  void Apply(const ItemPtr& item, Batch& batch);
  void AnswerPoll(const ItemPtr& item, Batch& batch);
  void AskForSlice();
  void Push(Batch batch);
  void StartCommit();
  void EndCommit(std::vector<Batch> group);
  absl::Status CommitNow(absl::Duration cluster_time, const std::vector<Change>& changes);
  absl::Status LookUp(core::Event& event);
  void Recover(std::vector<Batch> lost);
  bool Rebuild();
  // Runs `what` after `wait`, unless the process has died by then.
  void Later(absl::Duration wait, std::function<void()> what);

  const Scenario& scenario_;
  Loop& loop_;
  Random& random_;
  Storage& storage_;
  Watcher& watcher_;

  int64_t life_ = 0;
  int64_t commits_ = 0;
  // Of this life.
  std::unique_ptr<core::Core> core_;
  core::Now now_;
  absl::Duration committed_cluster_;  // what a reply may say
  absl::Duration last_turn_;
  absl::Duration next_turn_;
  int64_t turn_ticket_ = 0;
  int64_t epoch_ = 0;
  int64_t pushed_ = 0, finished_ = 0, finished_last_turn_ = 0;
  std::deque<ItemPtr> inbox_;
  std::map<SessionId, ItemPtr> polls_;
  std::deque<Batch> queue_;
  std::vector<Batch> committing_;
  bool busy_ = false;
  std::optional<SweepId> slice_asked_;
  absl::Duration quiet_until_;
  std::optional<std::vector<Batch>> failed_;
};

}  // namespace plumb::sim
