// The journal: numbered JSON lines in segment files, the only way out of a trainer
// (docs/trainer-protocol.md).
//
//   1. Events are numbered 1, 2, … without gaps across segments; a segment is a file
//   NNNNNNNN.jsonl.
//   2. A line is there once its newline is. What follows the last newline is torn: readers ignore
//   it, the next writer
//      cuts it off.
//   3. One writer at a time (the trainer, then its guard); any number of readers.
//   4. A segment is deleted only when a later one holds a complete line, so the numbering is never
//   lost.
//
// Not synced: what a power cut takes is computed again from the last checkpoint. Errors are
// std::runtime_error.
#pragma once

#include <compare>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace plumb::trainer {

// A place between two lines.
struct JournalPosition {
  int64_t segment = 0;  // 0: before the first there is
  int64_t offset = 0;   // bytes
  auto operator<=>(const JournalPosition&) const = default;
};

// Segment numbers in the folder, ascending. Empty where there is no folder.
std::vector<int64_t> JournalSegments(const std::string& dir);

class JournalWriter {
 public:
  // Makes the folder where absent, cuts off a torn line and goes on after the last event.
  explicit JournalWriter(std::string dir, int64_t segment_bytes = 1 << 20);
  ~JournalWriter();
  JournalWriter(const JournalWriter&) = delete;
  JournalWriter& operator=(const JournalWriter&) = delete;

  // Appends an object and returns its number. Bytes that are not UTF-8 become U+FFFD. On an error
  // (no room) the journal is as before.
  int64_t Append(const nlohmann::json& event);
  int64_t last_seq() const { return last_seq_; }

 private:
  void OpenSegment(int64_t segment);

  const std::string dir_;
  const int64_t segment_bytes_;
  int fd_ = -1;
  int64_t segment_ = 0;
  int64_t size_ = 0;
  int64_t last_seq_ = 0;
};

struct JournalEvent {
  int64_t seq = 0;
  nlohmann::json json;
  JournalPosition begin;  // where its line begins
  JournalPosition end;    // and what follows it
  int64_t bytes() const { return end.offset - begin.offset; }
};

// Reads on from a position. Holds no file open between calls.
class JournalReader {
 public:
  explicit JournalReader(std::string dir, JournalPosition from = {})
      : dir_(std::move(dir)), at_(from) {}

  // The complete events that follow, about `max_bytes` of them at most (at least one where there is
  // one). Empty: none yet. A complete line that is no numbered object is skipped: its writer's disk
  // failed, and what it said is lost.
  std::vector<JournalEvent> Read(int64_t max_bytes = 1 << 20);
  JournalPosition position() const { return at_; }

 private:
  const std::string dir_;
  JournalPosition at_;
};

// Deletes the segments that lie wholly before `keep_from` (invariant 4 holds).
void TrimJournal(const std::string& dir, JournalPosition keep_from);

}  // namespace plumb::trainer
