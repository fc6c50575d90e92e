// The database's one writer: opens, migrates, loads, commits. One thread at a time; all writes and
// all checkpoints of the file go through its one connection.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "domain/changes.h"
#include "domain/snapshot.h"
#include "store/event_chain.h"
#include "store/lock.h"
#include "store/sqlite.h"

namespace plumb::store {

class Store {
 public:
  // Takes `<path>.lock`, opens or makes the file, brings it up to date, counts the start, and
  // compares it with what lies beside it, `<path>.incarnation` and `<path>.mark`: a file that has
  // come less far is a copy put back, so the incarnation rises and all running attempts end as
  // lost. `wall_us` is for display.
  static absl::StatusOr<std::unique_ptr<Store>> Open(const std::string& path, int64_t wall_us);

  absl::StatusOr<ClusterSnapshot> Load();

  // All of `changes`, in order, in one durable transaction, or none. Errors: FailedPrecondition (a
  // constraint or a fence), ResourceExhausted (the disk is full), DataLoss (I/O, corruption: the
  // caller must stop).
  absl::Status Commit(absl::Duration cluster_time, absl::Span<const Change> changes);

  // Trials on disk. Keys and ids that are not there are left out.
  absl::StatusOr<std::map<std::string, TrialTree>> FindByKey(const std::vector<std::string>& keys);
  absl::StatusOr<std::optional<TrialTree>> Find(TrialId trial);
  absl::StatusOr<std::vector<SweepTrialRow>> LinksOf(TrialId trial);
  absl::StatusOr<std::vector<TrunkRow>> FindTrunks(const std::set<std::string>& prefix_keys);

  int64_t incarnation() const { return incarnation_; }
  Database& database() { return db_; }

 private:
  Store(Database db, FileLock lock, MarkFile mark, std::string path)
      : lock_(std::move(lock)),
        mark_(std::move(mark)),
        path_(std::move(path)),
        db_(std::move(db)) {}
  absl::Status Begin(int64_t wall_us);
  // Compiled once a text; `sql` must be a literal.
  absl::StatusOr<Statement*> Cached(const char* sql);
  absl::StatusOr<std::vector<StageRow>> StagesOf(TrialId trial);
  absl::StatusOr<int64_t> SeriesId(StageId stage, const MeasurementBatch::Series& series);

  absl::Status Put(const InsertSweep& c);
  absl::Status Put(const UpdateSweep& c);
  absl::Status Put(const InsertAddition& c);
  absl::Status Put(const InsertCell& c);
  absl::Status Put(const UpdateCell& c);
  absl::Status Put(const InsertLook& c);
  // edit.cc
  absl::Status Put(const RenameCell& c);
  absl::Status Put(const FlagCell& c);
  absl::Status Put(const PutTag& c);
  absl::Status Put(const PutNote& c);
  absl::Status Put(const InsertTrialOrigin& c);
  absl::Status Put(const PutResults& c);
  absl::Status WriteResults(StageId stage, int64_t attempt, const MeasurementBatch& batch,
                            int64_t time_us);
  // remove.cc
  absl::Status Put(const ForgetPlaces& c);
  absl::Status Put(const ForgetSweep& c);
  absl::Status Put(const PurgeTrial& c);
  absl::Status Put(const InsertTrial& c);
  absl::Status Put(const UpdateTrial& c);
  absl::Status Put(const InsertSweepTrial& c);
  absl::Status Put(const InsertStage& c);
  absl::Status Put(const UpdateStage& c);
  absl::Status Put(const UpsertWorker& c);
  absl::Status Put(const OpenAttempt& c);
  absl::Status Put(const AdoptAttempt& c);
  absl::Status Put(const CloseAttempt& c);
  absl::Status Put(const ApplyBatch& c);
  absl::Status Put(const PutTrunk& c);
  absl::Status Put(const RemoveTrunk& c);
  absl::Status Put(const UpsertUser& c);
  absl::Status Put(const AppendEvent& c);
  absl::Status Put(const SetIncarnation& c);
  // FailedPrecondition unless the last statement changed one row: the fence did not match.
  absl::Status FenceHeld(const Fence& fence, const char* what);

  FileLock lock_;
  MarkFile mark_;
  std::string path_;
  Database db_;
  int64_t incarnation_ = 1;       // as committed
  int64_t next_incarnation_ = 1;  // within the transaction
  EventHead events_, next_events_;
  std::unordered_map<const char*, Statement> statements_;
  // Ids of series, of stages that are being written to; emptied when it grows too large and after a
  // rollback.
  std::map<std::tuple<StageId, std::string, int64_t, int64_t>, int64_t> series_;
};

// Columns of a row as the SELECTs of this folder list them.
inline constexpr const char kTrialColumns[] =
    "id, key, fusion_key, config_json, state, n_layers, d_model, n_heads, n_kv_heads, head_dim, "
    "d_ff, vocab_size, norm, "
    "position, mlp, tied_head, corpus, tokenizer, seq_len, batch_tokens, steps, lr, seed_init, "
    "seed_data, params_total, "
    "params_non_embedding, params_embedding, flops_per_token, tokens, flops, create_time_us";
inline constexpr const char kStageColumns[] =
    "id, trial_id, name, kind, parent_id, settings_json, state, priority, target_step, step, "
    "attempts, failures, "
    "not_before_ct_us, threads, checkpoint_step, checkpoint_path, checkpoint_digest, reason, "
    "losses, ooms, memory_bytes, labels, bundle, ranks, until_step, prefix_key, "
    "trunk_step, branch_stage_id, branch_step";
inline constexpr const char kAttemptColumns[] =
    "stage_id, number, incarnation, worker_id, session_id, until_step, start_step, acked_seq, "
    "outcome, cause, log_tail, "
    "summary_json, start_time_us, end_time_us, bundle, bundle_rows, slot_us";
inline constexpr const char kTrunkColumns[] =
    "k.prefix_key, k.step, k.stage_id, g.trial_id, k.path, k.digest";  // of trunk k, its stage g
inline constexpr const char kLinkColumns[] = "sweep_id, idx, trial_id, replicate, aa, shared, tune";
TrialRow ReadTrial(const Statement& s);
StageRow ReadStage(const Statement& s);
AttemptRow ReadAttempt(const Statement& s);
TrunkRow ReadTrunk(const Statement& s);
SweepTrialRow ReadLink(const Statement& s);  // without cell_idx

}  // namespace plumb::store
