// The agent: one thread that owns everything. It waits for the coordinator's answers (an event
// descriptor), for journals and sockets to appear or grow (inotify), for trainers' answers (their
// sockets) and for time; then makes what is equal what should be.
//
//   desired state (Poll) ──► Reconcile ──► commands to trainers
//   journals ──► Attempt::OnEvent ──► Report ──► Attempt::OnAck ──► segments deleted
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "trainer/protocol/journal.h"
#include "worker/agent.h"
#include "worker/attempt.h"
#include "worker/blobs.h"
#include "worker/coordinator_client.h"
#include "worker/reconcile.h"
#include "worker/row_commands.h"
#include "worker/slot.h"
#include "worker/workspace.h"

namespace plumb::worker {

class Agent {
 public:
  Agent(const WorkerOptions& options, Workspace workspace, std::vector<v1::Device> devices,
        const std::atomic<bool>* stop);
  ~Agent();

  // RunWorker, in the workspace that it has opened.
  absl::Status Run();

 private:
  using Clock = std::chrono::steady_clock;
  using milliseconds = std::chrono::milliseconds;
  using seconds = std::chrono::seconds;
  using JournalEvent = trainer::JournalEvent;

  enum class JournalOf { kKnownAttempts, kAnyAttempt };
  enum class SaveWhen { kDue, kNow };

  // An end waits so long for the ends of its neighbours.
  static constexpr milliseconds kCoalesce{3};
  static constexpr milliseconds kBackoffFirst{100};

  // ---- waiting and leaving (agent.cc) ----

  void Wait();
  void OnInotify();
  void Drain(const std::string& why);
  void LeaveWhenIdle();
  // Nothing runs, and the coordinator has heard of everything or cannot be reached.
  bool Drained();
  void EndTrainers();

  // ---- trainers (agent_trainers.cc) ----

  // Opens the trainers' folders, reads what their journals say, and finds those that live.
  absl::Status FindTrainers();
  // A trainer by its name (ProgramOf); empty for one that this worker does not have.
  std::vector<std::string> Program(const std::string& name) const;
  void Launch(Slot& slot, const std::string& program);
  void ServeSockets();
  void OnHello(Slot& slot, const TrainerProcess::Answer& hello);
  void CheckTrainers(Clock::time_point now);
  // Guard and trainer are gone (or the guard is about to be: `exit` is its last word).
  void OnExit(Slot& slot, const JournalEvent* exit);
  void EndRowsOf(Slot& slot, const std::string& outcome, const std::string& cause,
                 std::optional<trainer::JournalPosition> at);

  // ---- journals (agent_journals.cc) ----

  void ReadJournal(Slot& slot, JournalOf of);
  void OnJournal(Slot& slot, const JournalEvent& event, JournalOf of);
  // A line with a field of another kind than it should have. Its row cannot be trusted any more.
  void NotUnderstood(Slot& slot, const JournalEvent& event, const std::string& why);
  // Writes down how far the journal is done with, then deletes what lies before. At most once a
  // second, or when a whole segment can go.
  void SaveMark(Slot& slot, Clock::time_point now, SaveWhen when);

  // ---- attempts (agent_attempts.cc) ----

  // The attempt a row of a slot belongs to, made where there is none.
  Attempt* AttemptOfRow(const std::string& row, Slot* slot);
  Attempt* FindRow(const std::string& row);
  void NoteStarted(const AttemptKey& key);
  void EndAttempt(Attempt& attempt, const std::string& outcome, const std::string& cause,
                  std::optional<trainer::JournalPosition> at, bool with_log);
  void OnEnded(Attempt& attempt, bool with_log);
  void DoReconcile();
  // All trainers that were found alive have said what they run. Until then nothing new starts.
  bool Settled() const;
  void Carry(const Action& action);
  void Start(Attempt& attempt, Slot& slot);
  void Extend(Attempt& attempt, const v1::Assignment& now);

  // ---- checkpoints and corpora by way of the coordinator (agent_blobs.cc) ----

  // What is committed can be fetched: the fact waits until the coordinator has the files, or the
  // sending was given up.
  void SendCheckpoint(Attempt& attempt, const nlohmann::json& event);
  void OnBlob(const Blobs::Event& event);
  std::string FetchedPath(const v1::Assignment& a) const;
  // A stage that only reads, and a member of a gang, has no use for its copy any more.
  void RemoveFetched(const Attempt& attempt);
  CorpusRoots CorporaHere() const;
  // False: the corpus that it reads is being fetched, or cannot be had and the attempt has ended.
  bool CorpusReady(Attempt& attempt);
  // False: what it starts from is being fetched, or cannot be had and the attempt has ended.
  // Without blobs the trainer is left to say what it finds.
  bool CheckpointReady(Attempt& attempt);
  // Says in the stage's folder what the coordinator knows, so that its trainer keeps it.
  void Acknowledged(const Attempt& attempt);

  // ---- the session with the coordinator (agent_session.cc) ----

  void ReportSoon(milliseconds delay);
  // Makes the calls that are due. At most one Report and one Poll are under way.
  void Talk();
  // Of the machine, as announced; 0: nothing is.
  int64_t RemainingMs() const;
  void Register();
  void Report();
  void OnDone(CoordinatorClient::Done<v1::RegisterWorkerResponse>& done);
  void OnDone(CoordinatorClient::Done<v1::ReportResponse>& done);
  void OnDone(CoordinatorClient::Done<v1::PollResponse>& done);
  // The coordinator serves another database than the one this folder worked for. Attempts of that
  // one have the same names as attempts of this one; so they are forgotten, unless one still runs.
  bool LeaveCluster();
  void Heard();
  // A call failed. The connection is made anew after a pause, since the coordinator may have
  // another address by now.
  void Broken(const char* call, const grpc::Status& status);
  void BackOff(const std::string& why);
  void Fatal(absl::Status status);

  WorkerOptions options_;
  Workspace workspace_;
  const std::vector<v1::Device> devices_;
  const std::atomic<bool>* const stop_;
  CoordinatorClient client_;
  Blobs blobs_;
  bool takes_blobs_ = false;  // the coordinator, as it said at registration
  std::mt19937_64 random_{std::random_device{}()};

  std::vector<std::unique_ptr<Slot>> slots_;
  std::map<AttemptKey, std::unique_ptr<Attempt>> attempts_;
  std::map<std::pair<int64_t, int64_t>, int64_t>
      started_;  // (incarnation, stage) → highest attempt seen here
  int inotify_ = -1;
  std::map<int, int> folder_watch_, journal_watch_;  // watch → slot
  Clock::time_point next_check_, settle_deadline_;
  bool reconcile_ = false;

  Desired desired_;
  std::map<AttemptKey, v1::Assignment> assignments_;
  int64_t session_ = 0;
  int64_t generation_ = 0;
  milliseconds report_interval_{1000};
  Clock::time_point report_due_, talk_after_;
  milliseconds backoff_ = kBackoffFirst;
  bool register_pending_ = false, report_pending_ = false, poll_pending_ = false;
  bool broken_ = false;
  bool reachable_ = true;

  absl::Status fatal_;
  Clock::time_point drain_since_, idle_since_ = Clock::now();
  bool drain_said_ = false, drain_heard_ = false;
};

}  // namespace plumb::worker
