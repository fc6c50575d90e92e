// What the protocol's server drives: the Torch engine in plumb-trainer, a no-op engine in tests and
// measurements. Torch-free. One thread calls; errors are exceptions of std::exception.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "trainer/spec/trial_spec.h"

namespace plumb::trainer {

// A committed checkpoint to start from.
struct CheckpointRef {
  std::string path;    // the folder step-…
  std::string digest;  // SHA-256 of its manifest.json
  int64_t step = 0;
  bool resume = true;  // true: go on bit for bit, from this stage's own or one of a trial that is
                       // the same up to there; false: the parent's, take its weights
};

// Which of a trial's ranks run at this trainer, where the others are on other machines.
struct GangPart {
  int64_t first_rank = 0;  // 0: this trainer is rank 0, and waits for the others
  int64_t ranks_here = 1;
  std::string address = "127.0.0.1";  // of this machine, as the others reach it
  std::string rendezvous, secret;     // with first_rank > 0: where rank 0 waits, and for whom
};

// The arguments of add_row (docs/trainer-protocol.md).
struct RowRequest {
  std::string row;       // name, unique in the trainer's life
  std::string kind;      // "pretrain", "timing", "noop"
  spec::TrialSpec spec;  // resolved
  std::string stage_json = "{}";
  int64_t until_step = -1;
  std::optional<CheckpointRef> checkpoint;
  std::string checkpoint_dir;
  int64_t keep_step = 0;         // the checkpoint of this step is written and stays; 0: none
  std::optional<GangPart> gang;  // none: all ranks run here

  int64_t ranks_here() const { return gang ? gang->ranks_here : spec.train.ranks; }
};

struct PointValue {
  std::string name;  // "train/loss"
  int64_t layer = -1;
  int64_t definition_version = 1;
  double value = 0;
};

struct DocumentScore {
  int64_t document = 0;
  double nll = 0;  // nats, summed
  int64_t tokens = 0;
  int64_t bytes = 0;
};

// The largest record, as JSON bytes.
inline constexpr int64_t kMaxRecordBytes = 1 << 20;

enum class RowOutcome {
  kSucceeded,
  kPaused,
  kInfeasible,
  kDiverged,
  kOutOfMemory,
  kFailed,
  kPreempted,
  kCancelled
};
const char* Name(RowOutcome outcome);

// Where an engine says what happened; the journal behind it. Order is the order of calls.
class EventSink {
 public:
  virtual ~EventSink() = default;
  // Rank 0 waits at `address` for who has the secret; RowStarted() follows when all have come.
  virtual void Gathering(const std::string& /*row*/, const std::string& /*address*/,
                         const std::string& /*secret*/) {}
  virtual void RowStarted(const std::string& row, int64_t step) = 0;
  virtual void Points(const std::string& row, int64_t step,
                      const std::vector<PointValue>& values) = 0;
  virtual void Documents(const std::string& row, const std::string& split,
                         const std::vector<DocumentScore>& scores) = 0;
  // A structured result: (kind, name, index) names it within its stage, and said again it replaces
  // the one before, so that what is said at several steps needs an index for each. `json` is an
  // object of at most kMaxRecordBytes, in which a number that is not finite is null. Throws
  // std::invalid_argument, having written nothing, where it is not: the row is then to end as
  // failed with that cause.
  virtual void Record(const std::string& row, int64_t step, const std::string& kind,
                      const std::string& name, int64_t index, const std::string& json) = 0;
  // Only after the files are durable.
  virtual void Checkpoint(const std::string& row, int64_t step, const std::string& path,
                          const std::string& digest, int64_t bytes) = 0;
  virtual void RowEnded(const std::string& row, int64_t step, RowOutcome outcome,
                        const std::string& cause, const std::string& summary_json) = 0;
};

class Engine {
 public:
  virtual ~Engine() = default;
  virtual std::string Description() const = 0;  // "torch 2.13.0"
  virtual void Open(const std::string& bundle, int64_t capacity, const std::string& data_dir,
                    int64_t threads) = 0;
  // A request that cannot run (a shape the data refuses, a bad checkpoint, no memory) ends the row
  // through the sink (RowEnded with infeasible, failed, …); only a call that makes no sense (full
  // bundle, other fusion key) throws.
  virtual void AddRow(const RowRequest& request) = 0;
  virtual void ExtendRow(const std::string& row, int64_t until_step) = 0;
  virtual void CheckpointRow(const std::string& row) = 0;
  enum class StopMode { kPreempt, kCancel };
  virtual void StopRow(const std::string& row, StopMode mode) = 0;
  // One step of every live row, with what falls due at it (points, evaluation, checkpoint, end).
  // False: no live row.
  virtual bool Step() = 0;
  virtual std::vector<std::string> LiveRows() const = 0;
  virtual void
  Close() = 0;  // cancels live rows, frees memory; nothing to do when no bundle is open
};

// The engine linked into plumb-trainer. `sink` must outlive it.
std::unique_ptr<Engine> MakeTorchEngine(EventSink& sink);

// Runs no arithmetic: a "noop" row reports one point ("noop/value" = 1 at its last step) and
// succeeds at once, or after {"seconds": s} of its stage settings. {"records": n} adds records
// ("noop", "record", 0 … n - 1), each padded by {"record_bytes": b}. For measuring the orchestrator
// and for tests without LibTorch.
std::unique_ptr<Engine> MakeNoopEngine(EventSink& sink);

}  // namespace plumb::trainer
