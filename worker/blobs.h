// Checkpoints to and from the coordinator, and corpora from it, on a channel and threads of its
// own: bulk does not delay reports. A checkpoint is the files that its manifest.json names; the
// manifest's digest names it.
//
//   1. A manifest is sent after its files: what can be fetched is whole.
//   2. Of a stage's checkpoints at most one is under way and one, the newest, waits; beside those
//      that others may begin from.
//   3. Every Send and every Fetch comes back as one event, sooner or later: a Send that makes no
//      progress for 30 s, or is not done after 10 minutes, is given up; a Fetch goes on until it is
//      cancelled, or the coordinator says that it has no such checkpoint.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/attempt.h"

namespace grpc {
class ClientContext;
}

namespace plumb::worker {

class Blobs {
 public:
  // `server` as WorkerOptions.server. Calls are made between Open and Close.
  explicit Blobs(std::string server);
  ~Blobs();  // gives up what is under way
  Blobs(const Blobs&) = delete;
  Blobs& operator=(const Blobs&) = delete;

  // The coordinator has registered this worker and takes blobs (or not: Sends then end at once).
  void Open(int64_t session, bool takes_blobs);

  // `path` is a committed checkpoint of `step`, whose manifest has the SHA-256 `digest`. `keeps`: a
  // newer one does not take its place.
  void Send(const AttemptKey& attempt, int64_t step, const std::string& path,
            const std::string& digest, bool keeps = false);
  // Makes the checkpoint `digest` be at `path` (its parent folder is made), as a trainer writes it.
  void Fetch(const AttemptKey& attempt, const std::string& digest, const std::string& path);
  // Makes the corpus of this content digest be at `dir` (its parent folder is made). `room` bytes
  // are what corpora in that parent folder may take together; what is not in `in_use` (digests)
  // goes for it, the one that was last used longest ago first.
  void FetchCorpus(const AttemptKey& attempt, const std::string& corpus,
                   const std::string& tokenizer, const std::string& digest, const std::string& dir,
                   int64_t room, std::set<std::string> in_use);
  // Its events no longer matter.
  void Cancel(const AttemptKey& attempt);

  struct Event {
    bool fetched = false;  // else: sent
    bool corpus = false;   // and not a checkpoint
    AttemptKey attempt;
    int64_t step = 0;     // of a Send
    absl::Status status;  // of a Fetch, NotFound: the coordinator has no such checkpoint
  };
  int event_fd() const { return event_fd_; }  // readable while there are events
  std::vector<Event> TakeEvents();
  // Something is being sent to a coordinator that answers.
  bool Sending() const;

 private:
  struct Job {
    AttemptKey attempt;
    int64_t step = 0;
    std::string path, digest;
    bool keeps = false;
    std::string corpus, tokenizer;  // "": it is a checkpoint
    int64_t room = 0;
    std::set<std::string> in_use;
    std::chrono::steady_clock::time_point since;  // set when the first of its queue was put there
  };
  struct Lane {  // one thread's queue
    std::deque<Job> waiting;
    std::optional<AttemptKey> now;
    bool cancelled = false;                  // what is under way
    grpc::ClientContext* context = nullptr;  // of its call
  };
  class Connection;

  void Run(Lane& lane, bool fetches);
  absl::Status SendCheckpoint(Connection& to, const Job& job);
  absl::Status FetchCheckpoint(Connection& from, const Job& job);
  absl::Status FetchCorpusNow(Connection& from, const Job& job);
  void Say(Event event);

  const std::string server_;
  const int event_fd_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool stop_ = false;  // all by mutex_
  bool opened_ = false, takes_blobs_ = false;
  int64_t session_ = 0, opens_ = 0;
  bool answered_ = true;  // the last call of a Send
  Lane sends_, fetches_;
  std::vector<Event> events_;
  std::thread sender_, fetcher_;  // last: start when everything above is made
};

// Whether the corpus of this content digest was fetched to `dir`, whole and verified. Counts as a
// use of it.
bool HasCorpus(const std::string& dir, const std::string& digest);

// Whether `path` is a committed checkpoint whose manifest has this digest ("": any).
bool HasCheckpoint(const std::string& path, const std::string& digest);

}  // namespace plumb::worker
