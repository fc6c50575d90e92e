// Rows of the database as values. Columns keep their names; docs/database.md says what they mean.
//
// Times ending in _time_us are wall-clock microseconds since 1970, for display only; those ending
// in _ct are cluster time, a duration since the cluster was made, which advances only while a
// server serves.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "domain/id.h"
#include "domain/state.h"

namespace plumb {

struct SweepRow {
  SweepId id;
  std::string name;
  SweepState state = SweepState::kMaterializing;
  std::string request_id;
  std::string request_hash;  // of what was asked, so that a reused request_id with another payload
                             // is noticed
  std::string sweep_yaml;
  std::string objective;        // series
  std::string objective_stage;  // of a trial, as the sweep's file calls it; "": its first with it
  std::string objective_at = "last";
  bool maximize = false;  // else less of the objective is better
  int64_t trials = 0;     // planned, shared ones included
  int64_t cursor = 0;     // trials materialised
  int64_t create_time_us = 0;
  int64_t end_time_us = 0;  // 0 (NULL in the file) while it lives
  std::string user;         // who submitted it, as the client says
  int64_t priority = 0;     // larger first
  bool paused = false;      // nothing of it is granted
  bool open = false;        // more trials may be added: it is not completed when all has ended
  bool imported = false;    // its trials come from elsewhere, results and all; none is planned
  std::string origin_json;  // where it comes from: an object, or empty where it was written here
};

// Trials that a sweep has beyond its plan. With the plan, additions in order say which trials it
// has.
struct AdditionRow {
  SweepId sweep;
  int64_t idx = 0;
  std::string name;  // of the decision, so that it is made once
  std::string payload_json = "{}";
  int64_t trials = 0;
};

// A value that a sweep's stopping rule judged, the seq-th of them.
struct LookRow {
  SweepId sweep;
  int64_t seq = 0;
  int64_t trial_idx = 0;  // SweepTrialRow::idx
  int64_t step = 0;
  std::optional<double> value;  // none: the run has diverged or failed
};

// What one user may have, and has had.
struct UserRow {
  std::string name;
  double weight = 1;        // of device time, against other users'
  int64_t max_slots = 0;    // taken at once; 0: no limit
  int64_t consumed_us = 0;  // slot-microseconds, or what others had had when this user came back
};

// The id is the database's to give; (sweep, idx) names a cell before it has one.
struct CellRow {
  SweepId sweep;
  int64_t idx = 0;
  std::string name;
  std::string axes_json = "{}";
  std::string flags_json = "[]";
  std::string tuned_json = "{}";  // values chosen on its tune trials, by field
};

struct TrialRow {
  TrialId id;
  std::string key;
  std::string fusion_key;
  std::string config_json = "{}";
  StageState state = StageState::kPending;
  int64_t n_layers = 0, d_model = 0, n_heads = 0, n_kv_heads = 0, head_dim = 0, d_ff = 0,
          vocab_size = 0;
  std::string norm, position, mlp;
  int64_t tied_head = 0;
  std::string corpus, tokenizer;
  int64_t seq_len = 0, batch_tokens = 0, steps = 0;
  double lr = 0;
  int64_t seed_init = 0, seed_data = 0;
  int64_t params_total = 0, params_non_embedding = 0, params_embedding = 0, flops_per_token = 0,
          tokens = 0;
  double flops = 0;
  int64_t create_time_us = 0;
};

struct SweepTrialRow {
  SweepId sweep;
  int64_t idx = 0;       // position in the plan
  int64_t cell_idx = 0;  // the cell's position in the plan
  TrialId trial;
  int64_t replicate = 0;
  int64_t aa = 0;
  int64_t shared = 0;
  int64_t tune = 0;  // 1: it chooses a nuisance value; conclusions are not drawn from it
  // Stages that the trial calls otherwise than the sweep's file: {"score": "score-2"}.
  std::string stages_json = "{}";
};

struct StageRow {
  StageId id;
  TrialId trial;
  std::string name;
  std::string kind;
  StageId parent;  // none: a root
  std::string settings_json = "{}";
  StageState state = StageState::kPending;
  int64_t priority = 0;
  int64_t target_step = 0;
  int64_t step = 0;
  int64_t attempts = 0;
  int64_t failures = 0;
  absl::Duration not_before_ct;
  int64_t threads = 1;
  int64_t checkpoint_step = -1;
  std::string checkpoint_path;
  std::string checkpoint_digest;
  std::string reason;
  int64_t losses = 0;        // attempts lost without progress
  int64_t ooms = 0;          // attempts that ran out of memory; each halves the micro-batch
  int64_t memory_bytes = 0;  // it is predicted to take; 0: unknown
  std::string labels;        // of a worker that it needs: sorted, with commas
  int64_t bundle = 1;        // rows of a bundle that it may share, at most
  // Equal parts, of its slots and memory, that several workers may share: a process each.
  int64_t ranks = 1;
  int64_t until_step = -1;  // it pauses there, at a rung; -1: it goes to its target
  // Stages of one prefix key have the same state at each step up to the least of their trunk steps,
  // so that one may begin from a checkpoint of another. Empty: it shares nothing.
  std::string prefix_key;
  // The last step that follows from the prefix key, or one that a fork begins from: its checkpoint
  // is kept. 0: none.
  int64_t trunk_step = 0;
  StageId branch_stage;  // whose checkpoint it began from; none: it began by itself
  int64_t branch_step = 0;
};

// A checkpoint that stages of its prefix key may begin from.
struct TrunkRow {
  std::string prefix_key;
  int64_t step = 0;
  StageId stage;  // that made it
  TrialId trial;  // of that
  std::string path;
  std::string digest;
};

// A stage of this kind has its worker to itself.
inline bool IsExclusive(const StageRow& stage) { return stage.kind == "timing"; }

enum class WorkerState { kConnected, kDraining, kLost, kGone };
absl::string_view Name(WorkerState state);
std::optional<WorkerState> WorkerStateFromName(absl::string_view name);

struct WorkerRow {
  WorkerId id;
  std::string name;
  std::string host;
  int64_t slots = 0;
  std::string build;
  std::string devices_json = "[]";
  SessionId session;
  WorkerState state = WorkerState::kConnected;
  int64_t register_time_us = 0;
  std::string labels;        // sorted, with commas
  int64_t memory_bytes = 0;  // 0: unknown
  bool drain = false;        // asked to give back what it has and take nothing
  absl::Duration quarantined_until_ct;
  int64_t quarantines = 0;    // since something last got on there
  bool on_probation = false;  // after a quarantine: one attempt at a time
  // Workers of one such name reach each other, and may form gangs; empty: it takes no part in any.
  std::string gang;
};

// Another worker that an attempt runs on, with so many of its ranks, numbered from `first_rank`.
struct AttemptMember {
  WorkerId worker;
  int64_t first_rank = 0, ranks = 0;
  int64_t bundle = 0;
};

struct AttemptRow {
  AttemptId id;
  int64_t incarnation = 0;
  WorkerId worker;
  SessionId session;
  int64_t until_step = -1;
  int64_t start_step = 0;
  int64_t bundle = 0;       // its trainer's array; 0: made before there were any
  int64_t bundle_rows = 1;  // that array's size
  int64_t slot_us = 0;      // its share of the bundle's slot-microseconds, once it has ended
  int64_t acked_seq = 0;
  std::optional<Outcome> outcome;
  std::string cause;
  std::string log_tail;
  std::string summary_json = "{}";
  int64_t start_time_us = 0;
  int64_t end_time_us = 0;
  std::vector<AttemptMember> members;  // empty: it runs on `worker` alone
};

struct CheckpointRow {
  int64_t step = 0;
  std::string path;
  std::string digest;
  int64_t bytes = 0;
};

struct EventRow {
  int64_t time_us = 0;
  std::string kind;
  SweepId sweep;
  TrialId trial;
  StageId stage;
  int64_t attempt = 0;
  WorkerId worker;
  std::string detail;
};

// New facts of one attempt: journal events (first_seq … last_seq). Immutable once made, so that it
// may travel from thread to thread by pointer.
struct MeasurementBatch {
  struct Point {
    int64_t step = 0;
    double value = 0;
  };
  struct Series {
    std::string name;
    int64_t layer = -1;
    int64_t definition_version = 1;
    std::vector<Point> points;
  };
  struct DocumentScore {
    std::string split;
    int64_t document = 0;
    double nll = 0;
    int64_t tokens = 0;
    int64_t bytes = 0;
  };
  // A structured result; (kind, name, idx) names it within its stage.
  struct Record {
    std::string kind;
    std::string name;
    int64_t idx = 0;
    int64_t step = 0;
    std::string data_json;
  };
  int64_t incarnation = 0;
  AttemptId attempt;
  int64_t first_seq = 0;
  int64_t last_seq = 0;
  std::vector<Series> series;
  std::vector<CheckpointRow> checkpoints;
  std::vector<DocumentScore> documents;
  std::vector<Record> records;
};
// Shared because a batch is in the core's effects and, until they are committed, in the event that
// a failed commit replays; nobody changes it.
using MeasurementBatchPtr = std::shared_ptr<const MeasurementBatch>;

// A trial with its stages, as looked up on disk.
struct TrialTree {
  TrialRow trial;
  std::vector<StageRow> stages;  // parents before children
};

}  // namespace plumb
