// The owner loop: one thread that owns the core, one that owns the store, and the rule between
// them: whatever the core answers goes out only after the transaction that holds its changes is
// committed.
//
//   Post / Poll / Read ─► inbox ─► owner thread: Apply ─► batch ─► store thread: one transaction ─►
//   answers
//
// While the store commits, the owner goes on with the next events; batches that wait are committed
// together.
//
// A commit that fails on a constraint or a full disk: everything not committed is taken back, the
// core is rebuilt from disk, and the events are applied again, one a transaction; one that still
// fails is answered with the error, and the attempts whose facts a constraint refuses are
// quarantined. An I/O error or corruption stops the server.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/core/core.h"
#include "coordinator/metrics.h"
#include "store/store.h"

namespace plumb::coordinator {

class Owner {
 public:
  using Done = std::function<void(absl::StatusOr<core::Answer>)>;
  struct Desired {
    int64_t generation = 0;
    std::vector<core::Grant> grants;
  };
  using PollDone = std::function<void(absl::StatusOr<Desired>)>;
  using ReadFn = std::function<void(const core::Core&, core::Now)>;
  using ReadDone = std::function<void(absl::Status)>;
  // Asked, on the owner thread, for the next slice of a sweep; answers later with
  // Planned(MaterializeSlice) or, when the plan cannot be made, with Planned(AbandonSweep).
  using SliceFn = std::function<void(const core::Core::Cursor&)>;

  // Asked, on the store thread, for advice on an open sweep, once all that the core knew of it is
  // committed; answers later by Advised, once.
  struct Question {
    core::Core::Due due;
    core::Core::Cursor at;
    int64_t epoch = 0;  // the owner's
  };
  using AdviseFn = std::function<void(const Question&)>;

  static absl::StatusOr<std::unique_ptr<Owner>> Start(std::unique_ptr<store::Store> store,
                                                      const core::Options& options, SliceFn slices,
                                                      AdviseFn advise = nullptr);
  ~Owner();

  // Any thread. `done` is called once, from the store thread (or from here when the inbox is full
  // or the server stops).
  void Post(core::Event event, Done done);
  // Answers when the session's generation is not `generation`, or after `wait`.
  void Poll(SessionId session, int64_t generation, absl::Duration wait, PollDone done);
  // `read` runs on the owner thread; `done`, after what it saw is committed, on the store thread.
  void Read(ReadFn read, ReadDone done);
  Metrics& metrics() { return metrics_; }
  const std::string& cluster() const { return cluster_; }
  int64_t run() const { return run_; }  // ClusterSnapshot::run
  // Cluster time of the last commit. In `done`, that of the commit that holds the answer's changes.
  absl::Duration committed() const { return absl::Microseconds(committed_us_.load()); }
  // How often a worker is to report, at least: `base`, and with many workers as seldom as keeps all
  // of them together at about a thousand reports a second.
  absl::Duration ReportInterval(absl::Duration base, absl::Duration lease) const;
  // What SliceFn asked for.
  void Planned(core::Event slice_or_abandon);
  // What AdviseFn asked for: AdviseSweep, or AbandonSweep when the plan cannot be made.
  void Advised(const Question& question, core::Event advice_or_abandon);

  // Refuses what comes from now on, commits what came, answers held polls, joins. Idempotent.
  void Stop();
  // Why the server had to stop; OK while it need not. `on_fatal` is called once, from the store
  // thread.
  absl::Status fatal() const;
  void OnFatal(std::function<void()> on_fatal);

 private:
  struct Item {
    enum class Kind { kEvent, kPoll, kRead } kind = Kind::kEvent;
    core::Event event;
    Done done;
    bool looked_up = false;  // an event whose look-up on disk was made
    int64_t epoch = 0;       // of the core, at the look-up or at the question
    bool advice = false;
    SessionId session;
    int64_t generation = 0;
    absl::Duration wait;
    PollDone poll_done;
    ReadFn read;
    ReadDone read_done;
    std::function<void(absl::Status)> finish;  // set once applied; gets OK after the commit
  };
  using ItemPtr = std::unique_ptr<Item>;
  struct Batch {
    absl::Duration cluster_time;
    std::vector<ItemPtr> items;
    std::vector<Change> changes;
    std::function<void()> lookup;  // instead of the above: runs between two commits
  };
  enum class Urgency { kNormal, kInternal };  // internal items are never refused

  Owner(std::unique_ptr<store::Store> store, const core::Options& options,
        const ClusterSnapshot& snapshot, SliceFn slices, AdviseFn advise);
  void Put(ItemPtr item, Urgency urgency);
  static void Refuse(Item& item, const absl::Status& why);
  void OwnerLoop();
  void StoreLoop();
  // Advances cluster time by what passed, at most 1 s, and not while the store gets nowhere:
  // answers wait for it, so a stalled disk makes every worker look silent.
  core::Now Tock();
  void Push(Batch batch);
  void Handle(ItemPtr item, Batch& batch);
  void ApplyEvent(ItemPtr item, Batch& batch);
  void AnswerPoll(ItemPtr item, Batch& batch);
  void Wake(const std::vector<WorkerId>& woken, Batch& batch);
  void ExpirePolls(Batch& batch);
  void AskForSlice();
  void AskForAdvice(Batch& batch);
  bool NeedsLookup(const Item& item) const;
  void SendToLookup(ItemPtr item);
  absl::Status LookUp(core::Event& event);  // on the thread that holds the store
  void Recover();
  void Rebuild();
  void Isolate(const core::Event& event, const absl::Status& why);
  void Fail(const absl::Status& why);

  const core::Options options_;
  const SliceFn slices_;
  const AdviseFn advise_;
  const std::string cluster_;
  const int64_t run_;
  std::atomic<int64_t> committed_us_;
  std::atomic<int64_t> sessions_ = 0;  // of workers that are there
  std::unique_ptr<store::Store>
      store_;  // the store thread's, or the owner's while the store thread is halted

  // The owner thread's.
  std::unique_ptr<core::Core> core_;
  int64_t epoch_ = 0;  // how often the core was rebuilt
  core::Now now_;
  std::chrono::steady_clock::time_point last_turn_;
  int64_t pushed_ = 0;              // batches handed to the store
  int64_t finished_last_turn_ = 0;  // of them, done with at the last turn
  struct Held {
    ItemPtr item;
    std::chrono::steady_clock::time_point deadline;
  };
  std::map<SessionId, Held> polls_;
  std::optional<SweepId> slice_asked_;
  bool advice_asked_ = false;
  // After a failed commit nothing is begun of the server's own accord (slices, ticks) before this.
  std::chrono::steady_clock::time_point quiet_until_;

  std::mutex inbox_mutex_;
  std::condition_variable inbox_changed_;
  std::deque<ItemPtr> inbox_;  // by inbox_mutex_
  bool stopping_ = false;      // by inbox_mutex_
  bool failed_ = false;        // by inbox_mutex_: the store thread halted and waits for Recover

  mutable std::mutex queue_mutex_;
  std::condition_variable queue_changed_;
  std::deque<Batch> queue_;            // by queue_mutex_
  std::atomic<int64_t> finished_ = 0;  // batches the store is done with
  bool halted_ = false;                // by queue_mutex_
  bool queue_idle_ = false;            // by queue_mutex_: the store thread has nothing in hand
  bool queue_ended_ = false;           // by queue_mutex_: the owner thread is gone
  absl::Status fatal_;                 // by queue_mutex_
  std::function<void()> on_fatal_;     // by queue_mutex_

  Metrics metrics_;
  absl::StatusCode last_error_ = absl::StatusCode::kOk;  // the store thread's

  std::mutex stop_mutex_;
  std::thread store_thread_;
  std::thread owner_thread_;
};

}  // namespace plumb::coordinator
