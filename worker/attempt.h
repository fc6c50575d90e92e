// What a worker knows of one attempt: how far it is, how it ended, and what the coordinator has not
// made durable yet.
//
//   1. `pending` holds the attempt's facts with numbers above `acked`, in order; nothing in it is
//   forgotten before the
//      coordinator acknowledged it or dropped the attempt.
//   2. Batches are sent only while `acked_known`: after any doubt the coordinator is asked first.
#pragma once

#include <compare>
#include <cstdint>
#include <deque>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "plumb/v1/worker_service.pb.h"
#include "trainer/protocol/journal.h"

namespace plumb::worker {

// The fencing token.
struct AttemptKey {
  int64_t incarnation = 0;
  int64_t stage = 0;
  int64_t number = 0;
  auto operator<=>(const AttemptKey&) const = default;

  // The attempt's name as a row of a trainer: "<incarnation>.<stage>.<attempt>".
  std::string RowName() const;
  static std::optional<AttemptKey> FromRowName(const std::string& row);
};
AttemptKey KeyOf(const v1::Assignment& assignment);

enum class Phase {
  kWaiting,  // granted; no trainer has it yet
  kSent,     // handed to a trainer, which has not said that it began
  kLive,
  kEnded,
};
enum class Fetch { kNone, kUnderWay, kHere, kMissing, kFailed };
enum class Stop { kNone, kPreempt, kCancel };

class Attempt {
 public:
  explicit Attempt(AttemptKey key) : key_(key) {}

  const AttemptKey& key() const { return key_; }
  Phase phase = Phase::kWaiting;
  Stop stop = Stop::kNone;  // what its trainer was asked
  int slot = -1;
  int launches = 0;  // trainers started for it that died before they had it
  int64_t step = 0;
  bool checkpoint_gone = false;   // the one it was to go on from
  int64_t acked_checkpoint = -1;  // step of the last one that the coordinator has committed
  // Facts from the first checkpoint past this step on wait: it is being sent to the coordinator.
  int64_t sent_checkpoint = INT64_MAX;
  Fetch fetch = Fetch::kNone;                // of the checkpoint it starts from
  Fetch corpus_fetch = Fetch::kNone;         // of the corpus it reads
  std::string corpus_problem;                // why that could not be had
  std::optional<v1::Assignment> assignment;  // absent while only the journal speaks of it

  // Takes an event of its row in: facts are kept until acknowledged, row_ended ends it. Throws
  // nlohmann's exceptions where a field is not what it should be, and then has not taken it.
  void OnEvent(const trainer::JournalEvent& event);
  // Ends it, unless it has ended. `at`: the event that tells so, for trimming.
  void End(const std::string& outcome, const std::string& cause,
           std::optional<trainer::JournalPosition> at);
  void set_log_tail(std::string tail) { log_tail_ = std::move(tail); }
  const std::string& outcome() const { return outcome_; }
  bool member() const { return assignment && assignment->first_rank() > 0; }  // of a gang

  // Everything up to `seq` is durable.
  void OnAck(int64_t seq);
  void DoubtAck() {
    acked_known_ = false;
  }                                         // the coordinator may or may not have got what was sent
  void TrustAck() { acked_known_ = true; }  // a new attempt: nothing was sent yet

  // Where its first event stands, as far as this process has read it.
  std::optional<trainer::JournalPosition> first_event() const { return first_event_; }
  // Earliest place in the journal that is still needed; nullopt: none.
  std::optional<trainer::JournalPosition> KeepFrom() const;
  int64_t pending_bytes() const { return pending_bytes_; }
  bool HasSomethingToSend() const {
    return acked_known_ && !pending_.empty() && !IsHeld(pending_.front());
  }
  bool has_checkpoint_pending() const { return checkpoints_pending_ > 0; }

  // Its line in a Report. `with_log`: the end comes with the log's tail; an end that has one and is
  // not given room for it is told later.
  v1::AttemptState State(bool with_log) const;
  int64_t LogBytes() const { return static_cast<int64_t>(log_tail_.size()); }
  // The next facts, about `budget` bytes of them at most (one fact at least).
  v1::AttemptBatch Batch(int64_t budget) const;

 private:
  struct Fact {
    int64_t seq;
    int64_t bytes;
    trainer::JournalPosition begin;
    nlohmann::json json;
    bool is_checkpoint;
  };

  bool IsHeld(const Fact& fact) const;

  const AttemptKey key_;
  std::deque<Fact> pending_;
  int64_t pending_bytes_ = 0;
  int checkpoints_pending_ = 0;
  int64_t acked_ = 0;
  bool acked_known_ = false;
  int64_t through_seq_ = 0;  // last fact seen

  std::string outcome_, cause_, log_tail_, summary_json_ = "{}";
  std::optional<trainer::JournalPosition> first_event_, ended_at_;
  // Of a gang's rank 0, until the others have come.
  std::string rendezvous_, secret_;
  std::optional<trainer::JournalPosition> gathers_;
};

// Where reading of a trainer's journal goes on after a restart. Everything before `position` is
// done with, but for the rows in `live`, which had begun and not ended by then. Rows that began
// after it are found again in the journal, in their place between one trainer's exit and the next
// one's hello: listed here, an older exit would be taken for their end.
struct JournalMark {
  trainer::JournalPosition position;
  std::vector<std::string> live;
};
// The mark of a journal that has been read up to `read`, by the attempts of its trainer.
JournalMark MarkFor(trainer::JournalPosition read, const std::vector<const Attempt*>& attempts);

// Bytes that are no UTF-8 as '?': protobuf strings must be UTF-8.
std::string ValidUtf8(const std::string& text);

}  // namespace plumb::worker
