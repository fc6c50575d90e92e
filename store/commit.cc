// Writes the core's changes: one statement a change, fences checked by how many rows it touched.
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "domain/status_macros.h"
#include "store/store.h"

namespace plumb::store {
namespace {

void BindId(Statement& s, int index, int64_t id) {
  if (id == 0) {
    s.BindNull(index);
  } else {
    s.Bind(index, id);
  }
}

}  // namespace

absl::Status Store::Commit(absl::Duration cluster_time, absl::Span<const Change> changes) {
  next_incarnation_ = incarnation_;
  next_events_ = events_;
  RETURN_IF_ERROR(db_.Begin());
  absl::Status s = [&]() -> absl::Status {
    ASSIGN_OR_RETURN(
        Statement * clock,
        Cached("UPDATE cluster SET cluster_time_us = ? WHERE id = 1 AND incarnation = ?"));
    RETURN_IF_ERROR(
        clock->Bind(1, absl::ToInt64Microseconds(cluster_time)).Bind(2, incarnation_).Run());
    if (db_.changes() != 1)
      return absl::FailedPreconditionError("the file's incarnation is not this server's");
    for (const Change& change : changes) {
      RETURN_IF_ERROR(std::visit([&](const auto& c) { return Put(c); }, change));
    }
    if (next_events_.id != events_.id) {
      ASSIGN_OR_RETURN(
          Statement * head,
          Cached("UPDATE cluster SET last_event = ?, last_event_hash = ? WHERE id = 1"));
      RETURN_IF_ERROR(head->Bind(1, next_events_.id).Bind(2, next_events_.hash).Run());
    }
    return db_.Commit();
  }();
  if (!s.ok()) {
    (void)db_.Rollback();  // SQLite may have rolled back by itself
    series_.clear();
    statements_.clear();  // and what was bound to the one that failed
    return s;
  }
  incarnation_ = next_incarnation_;
  events_ = std::move(next_events_);
  mark_.Write(absl::ToInt64Microseconds(cluster_time));
  return s;
}

absl::Status Store::FenceHeld(const Fence& fence, const char* what) {
  if (fence.incarnation == next_incarnation_ && db_.changes() == 1) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("fenced: ", what, " of attempt ", fence.attempt.number, " of stage ",
                   fence.attempt.stage.value, " under incarnation ", fence.incarnation,
                   " and session ", fence.session.value));
}

absl::Status Store::Put(const InsertSweep& c) {
  ASSIGN_OR_RETURN(
      Statement * s,
      Cached("INSERT INTO sweep (id, name, state, request_id, request_hash, sweep_yaml, objective, "
             "trials, cursor, create_time_us, user, priority, paused, open, objective_stage, "
             "objective_at, objective_goal) "
             "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"));
  const SweepRow& r = c.row;
  s->Bind(1, r.id.value)
      .Bind(2, r.name)
      .Bind(3, Name(r.state))
      .Bind(4, r.request_id)
      .Bind(5, r.request_hash);
  s->Bind(6, r.sweep_yaml)
      .Bind(7, r.objective)
      .Bind(8, r.trials)
      .Bind(9, r.cursor)
      .Bind(10, r.create_time_us);
  s->Bind(11, r.user).Bind(12, r.priority).Bind(13, int64_t{r.paused}).Bind(14, int64_t{r.open});
  s->Bind(15, r.objective_stage).Bind(16, r.objective_at);
  s->Bind(17, r.maximize ? "maximize" : "minimize");
  RETURN_IF_ERROR(s->Run());
  if (r.origin_json.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(
      Statement * origin,
      Cached("INSERT INTO sweep_origin (sweep_id, imported, origin_json) VALUES (?, ?, ?)"));
  return origin->Bind(1, r.id.value).Bind(2, int64_t{r.imported}).Bind(3, r.origin_json).Run();
}

absl::Status Store::Put(const UpdateSweep& c) {
  ASSIGN_OR_RETURN(Statement * s,
                   Cached("UPDATE sweep SET state = ?, cursor = ?, end_time_us = ?, priority = ?, "
                          "paused = ?, trials = ?, open = ? WHERE id = ?"));
  s->Bind(1, Name(c.state)).Bind(2, c.cursor).Bind(4, c.priority).Bind(5, int64_t{c.paused});
  s->Bind(6, c.trials).Bind(7, int64_t{c.open}).Bind(8, c.id.value);
  BindId(*s, 3, c.end_time_us);
  return s->Run();
}

absl::Status Store::Put(const InsertAddition& c) {
  ASSIGN_OR_RETURN(Statement * s,
                   Cached("INSERT INTO sweep_addition (sweep_id, idx, name, payload_json, trials) "
                          "VALUES (?, ?, ?, ?, ?)"));
  s->Bind(1, c.row.sweep.value).Bind(2, c.row.idx).Bind(3, c.row.name);
  return s->Bind(4, c.row.payload_json).Bind(5, c.row.trials).Run();
}

absl::Status Store::Put(const InsertCell& c) {
  ASSIGN_OR_RETURN(
      Statement * s,
      Cached(
          "INSERT INTO cell (sweep_id, idx, name, axes_json, flags_json) VALUES (?, ?, ?, ?, ?)"));
  const CellRow& r = c.row;
  return s->Bind(1, r.sweep.value)
      .Bind(2, r.idx)
      .Bind(3, r.name)
      .Bind(4, r.axes_json)
      .Bind(5, r.flags_json)
      .Run();
}

absl::Status Store::Put(const UpdateCell& c) {
  ASSIGN_OR_RETURN(Statement * s, Cached("UPDATE cell SET flags_json = ?, tuned_json = ? WHERE "
                                         "sweep_id = ? AND idx = ?"));
  s->Bind(1, c.flags_json).Bind(2, c.tuned_json);
  return s->Bind(3, c.sweep.value).Bind(4, c.idx).Run();
}

absl::Status Store::Put(const InsertLook& c) {
  ASSIGN_OR_RETURN(Statement * s,
                   Cached("INSERT INTO look (sweep_id, seq, trial_idx, step, value) VALUES "
                          "(?, ?, ?, ?, ?)"));
  s->Bind(1, c.row.sweep.value).Bind(2, c.row.seq).Bind(3, c.row.trial_idx).Bind(4, c.row.step);
  if (c.row.value) s->Bind(5, *c.row.value);
  return s->Run();
}

absl::Status Store::Put(const InsertTrial& c) {
  ASSIGN_OR_RETURN(Statement * s,
                   Cached("INSERT INTO trial (id, key, fusion_key, config_json, state, n_layers, "
                          "d_model, n_heads, n_kv_heads, head_dim, "
                          "d_ff, vocab_size, norm, position, mlp, tied_head, corpus, tokenizer, "
                          "seq_len, batch_tokens, steps, lr, "
                          "seed_init, seed_data, params_total, params_non_embedding, "
                          "params_embedding, flops_per_token, tokens, flops, "
                          "create_time_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, "
                          "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, "
                          "?, ?)"));
  const TrialRow& r = c.row;
  int i = 0;
  auto bind = [&](const auto&... values) { (s->Bind(++i, values), ...); };
  bind(r.id.value, r.key, r.fusion_key, r.config_json, Name(r.state), r.n_layers, r.d_model,
       r.n_heads, r.n_kv_heads, r.head_dim, r.d_ff, r.vocab_size, r.norm, r.position, r.mlp,
       r.tied_head, r.corpus, r.tokenizer, r.seq_len, r.batch_tokens, r.steps, r.lr, r.seed_init,
       r.seed_data, r.params_total, r.params_non_embedding, r.params_embedding, r.flops_per_token,
       r.tokens, r.flops, r.create_time_us);
  return s->Run();
}

absl::Status Store::Put(const UpdateTrial& c) {
  ASSIGN_OR_RETURN(Statement * s, Cached("UPDATE trial SET state = ? WHERE id = ?"));
  return s->Bind(1, Name(c.state)).Bind(2, c.id.value).Run();
}

absl::Status Store::Put(const InsertSweepTrial& c) {
  ASSIGN_OR_RETURN(
      Statement * s,
      Cached(
          "INSERT INTO sweep_trial (sweep_id, idx, cell_id, trial_id, replicate, aa, shared, tune, "
          "stages_json) VALUES (?1, ?2, (SELECT id FROM cell WHERE sweep_id = ?1 AND idx = ?3), "
          "?4, "
          "?5, ?6, ?7, ?8, ?9)"));
  const SweepTrialRow& r = c.row;
  s->Bind(1, r.sweep.value).Bind(2, r.idx).Bind(3, r.cell_idx).Bind(4, r.trial.value);
  return s->Bind(5, r.replicate)
      .Bind(6, r.aa)
      .Bind(7, r.shared)
      .Bind(8, r.tune)
      .Bind(9, r.stages_json)
      .Run();
}

absl::Status Store::Put(const InsertStage& c) {
  ASSIGN_OR_RETURN(
      Statement * s,
      Cached(
          "INSERT INTO stage (id, trial_id, name, kind, parent_id, settings_json, state, priority, "
          "target_step, step, attempts, failures, not_before_ct_us, threads, checkpoint_step, "
          "reason, losses, ooms, memory_bytes, labels, bundle, ranks, "
          "until_step, prefix_key, trunk_step, branch_stage_id, branch_step) "
          "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, "
          "?)"));
  const StageRow& r = c.row;
  s->Bind(1, r.id.value)
      .Bind(2, r.trial.value)
      .Bind(3, r.name)
      .Bind(4, r.kind)
      .Bind(6, r.settings_json);
  BindId(*s, 5, r.parent.value);
  s->Bind(7, Name(r.state))
      .Bind(8, r.priority)
      .Bind(9, r.target_step)
      .Bind(10, r.step)
      .Bind(11, r.attempts);
  s->Bind(12, r.failures).Bind(13, absl::ToInt64Microseconds(r.not_before_ct)).Bind(14, r.threads);
  s->Bind(15, r.checkpoint_step).Bind(16, r.reason).Bind(17, r.losses).Bind(18, r.ooms);
  s->Bind(19, r.memory_bytes).Bind(20, r.labels).Bind(21, r.bundle).Bind(22, r.ranks);
  s->Bind(23, r.until_step).Bind(24, r.prefix_key).Bind(25, r.trunk_step);
  BindId(*s, 26, r.branch_stage.value);
  return s->Bind(27, r.branch_step).Run();
}

absl::Status Store::Put(const UpdateStage& c) {
  ASSIGN_OR_RETURN(
      Statement * s,
      Cached(
          "UPDATE stage SET state = ?, step = ?, attempts = ?, failures = ?, not_before_ct_us = ?, "
          "checkpoint_step = ?, checkpoint_path = ?, checkpoint_digest = ?, reason = ?, losses = "
          "?, "
          "ooms = ?, memory_bytes = ?, until_step = ?, branch_stage_id = ?, branch_step = ?, "
          "prefix_key = ?, trunk_step = ? WHERE id = ? AND attempts <= ?3"));
  const StageRow& r = c.row;
  s->Bind(1, Name(r.state)).Bind(2, r.step).Bind(3, r.attempts).Bind(4, r.failures);
  s->Bind(5, absl::ToInt64Microseconds(r.not_before_ct)).Bind(6, r.checkpoint_step);
  if (r.checkpoint_step >= 0) s->Bind(7, r.checkpoint_path).Bind(8, r.checkpoint_digest);
  s->Bind(9, r.reason).Bind(10, r.losses).Bind(11, r.ooms).Bind(12, r.memory_bytes);
  BindId(*s, 14, r.branch_stage.value);
  RETURN_IF_ERROR(s->Bind(13, r.until_step)
                      .Bind(15, r.branch_step)
                      .Bind(16, r.prefix_key)
                      .Bind(17, r.trunk_step)
                      .Bind(18, r.id.value)
                      .Run());
  if (db_.changes() == 1) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("fenced: stage ", r.id.value, " is past attempt ", r.attempts));
}

absl::Status Store::Put(const UpsertWorker& c) {
  ASSIGN_OR_RETURN(
      Statement * s,
      Cached("INSERT INTO worker (id, name, host, slots, build, devices_json, session_id, state, "
             "register_time_us, labels, memory_bytes, drain, quarantined_until_ct_us, quarantines, "
             "on_probation, gang) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
             "ON CONFLICT (id) DO UPDATE SET "
             "host = excluded.host, slots = excluded.slots, build = excluded.build, "
             "devices_json = excluded.devices_json, session_id = excluded.session_id, "
             "state = excluded.state, register_time_us = excluded.register_time_us, "
             "labels = excluded.labels, memory_bytes = excluded.memory_bytes, drain = "
             "excluded.drain, quarantined_until_ct_us = excluded.quarantined_until_ct_us, "
             "quarantines = excluded.quarantines, on_probation = excluded.on_probation, "
             "gang = excluded.gang"));
  const WorkerRow& r = c.row;
  s->Bind(1, r.id.value)
      .Bind(2, r.name)
      .Bind(3, r.host)
      .Bind(4, r.slots)
      .Bind(5, r.build)
      .Bind(6, r.devices_json);
  s->Bind(7, r.session.value).Bind(8, Name(r.state)).Bind(9, r.register_time_us);
  s->Bind(10, r.labels).Bind(11, r.memory_bytes).Bind(12, int64_t{r.drain});
  s->Bind(13, absl::ToInt64Microseconds(r.quarantined_until_ct)).Bind(14, r.quarantines);
  return s->Bind(15, int64_t{r.on_probation}).Bind(16, r.gang).Run();
}

absl::Status Store::Put(const OpenAttempt& c) {
  const AttemptRow& r = c.row;
  ASSIGN_OR_RETURN(Statement * s, Cached("INSERT INTO attempt (stage_id, number, incarnation, "
                                         "worker_id, session_id, until_step, start_step, "
                                         "acked_seq, cause, log_tail, summary_json, start_time_us, "
                                         "bundle, bundle_rows) "
                                         "VALUES (?, ?, ?, ?, ?, ?, ?, 0, '', '', '{}', ?, ?, ?)"));
  s->Bind(1, r.id.stage.value).Bind(2, r.id.number).Bind(3, r.incarnation).Bind(4, r.worker.value);
  s->Bind(5, r.session.value).Bind(6, r.until_step).Bind(7, r.start_step).Bind(8, r.start_time_us);
  s->Bind(9, r.bundle).Bind(10, r.bundle_rows);
  RETURN_IF_ERROR(s->Run());
  for (const AttemptMember& m : r.members) {
    ASSIGN_OR_RETURN(Statement * member,
                     Cached("INSERT INTO attempt_member (stage_id, number, worker_id, first_rank, "
                            "ranks, bundle) VALUES (?, ?, ?, ?, ?, ?)"));
    member->Bind(1, r.id.stage.value).Bind(2, r.id.number).Bind(3, m.worker.value);
    RETURN_IF_ERROR(member->Bind(4, m.first_rank).Bind(5, m.ranks).Bind(6, m.bundle).Run());
  }
  if (r.incarnation != next_incarnation_)
    return absl::FailedPreconditionError("fenced: a grant of another incarnation");
  if (r.id.number == 1) return absl::OkStatus();
  // What was measured past the checkpoint is measured again.
  ASSIGN_OR_RETURN(
      Statement * points,
      Cached(
          "DELETE FROM measurement WHERE series_id IN (SELECT id FROM series WHERE stage_id = ?) "
          "AND step > ?"));
  RETURN_IF_ERROR(points->Bind(1, r.id.stage.value).Bind(2, c.keep_through_step).Run());
  // Documents are scored at the last step: from a checkpoint of that step nobody scores them again.
  ASSIGN_OR_RETURN(Statement * documents,
                   Cached("DELETE FROM document_score WHERE stage_id = ? AND ? < "
                          "(SELECT target_step FROM stage WHERE id = document_score.stage_id)"));
  RETURN_IF_ERROR(documents->Bind(1, r.id.stage.value).Bind(2, c.keep_through_step).Run());
  ASSIGN_OR_RETURN(Statement * records,
                   Cached("DELETE FROM record WHERE stage_id = ? AND step > ?"));
  RETURN_IF_ERROR(records->Bind(1, r.id.stage.value).Bind(2, c.keep_through_step).Run());
  ASSIGN_OR_RETURN(Statement * checkpoints,
                   Cached("DELETE FROM checkpoint WHERE stage_id = ? AND step > ?"));
  return checkpoints->Bind(1, r.id.stage.value).Bind(2, c.keep_through_step).Run();
}

absl::Status Store::Put(const AdoptAttempt& c) {
  ASSIGN_OR_RETURN(Statement * s,
                   Cached("UPDATE attempt SET session_id = ? WHERE stage_id = ? AND number = ? AND "
                          "incarnation = ? AND session_id = ? AND outcome IS NULL"));
  s->Bind(1, c.new_session.value)
      .Bind(2, c.fence.attempt.stage.value)
      .Bind(3, c.fence.attempt.number);
  RETURN_IF_ERROR(s->Bind(4, c.fence.incarnation).Bind(5, c.fence.session.value).Run());
  return FenceHeld(c.fence, "adoption");
}

absl::Status Store::Put(const CloseAttempt& c) {
  ASSIGN_OR_RETURN(Statement * s, Cached("UPDATE attempt SET outcome = ?, cause = ?, log_tail = ?, "
                                         "summary_json = ?, end_time_us = ?, slot_us = ? WHERE "
                                         "stage_id = ? AND number = ? AND incarnation = ? AND "
                                         "session_id = ? AND outcome IS NULL"));
  s->Bind(1, Name(c.outcome))
      .Bind(2, c.cause)
      .Bind(3, c.log_tail)
      .Bind(4, c.summary_json)
      .Bind(5, c.end_time_us)
      .Bind(6, c.slot_us);
  s->Bind(7, c.fence.attempt.stage.value)
      .Bind(8, c.fence.attempt.number)
      .Bind(9, c.fence.incarnation);
  RETURN_IF_ERROR(s->Bind(10, c.fence.session.value).Run());
  return FenceHeld(c.fence, "the end");
}

absl::StatusOr<int64_t> Store::SeriesId(StageId stage, const MeasurementBatch::Series& series) {
  auto key = std::make_tuple(stage, series.name, series.layer, series.definition_version);
  if (const auto it = series_.find(key); it != series_.end()) return it->second;
  ASSIGN_OR_RETURN(
      Statement * s,
      Cached("INSERT INTO series (stage_id, name, layer, definition_version) VALUES (?, ?, ?, ?) "
             "ON CONFLICT DO UPDATE SET name = excluded.name RETURNING id"));
  s->Reset();
  s->Bind(1, stage.value)
      .Bind(2, series.name)
      .Bind(3, series.layer)
      .Bind(4, series.definition_version);
  ASSIGN_OR_RETURN(const bool row, s->Step());
  if (!row) return absl::InternalError("RETURNING gave no row");
  const int64_t id = s->Int(0);
  RETURN_IF_ERROR(s->Run());
  if (series_.size() > 50'000) series_.clear();
  series_.emplace(std::move(key), id);
  return id;
}

absl::Status Store::Put(const ApplyBatch& c) {
  const MeasurementBatch& b = *c.batch;
  const int64_t stage = c.fence.attempt.stage.value;
  ASSIGN_OR_RETURN(
      Statement * ack,
      Cached("UPDATE attempt SET acked_seq = ? WHERE stage_id = ? AND number = ? AND "
             "incarnation = ? AND session_id = ? AND outcome IS NULL AND acked_seq = ?"));
  ack->Bind(1, b.last_seq)
      .Bind(2, stage)
      .Bind(3, c.fence.attempt.number)
      .Bind(4, c.fence.incarnation);
  RETURN_IF_ERROR(ack->Bind(5, c.fence.session.value).Bind(6, b.first_seq - 1).Run());
  RETURN_IF_ERROR(FenceHeld(c.fence, "a batch"));
  return WriteResults(c.fence.attempt.stage, c.fence.attempt.number, b, c.commit_time_us);
}

absl::Status Store::WriteResults(StageId stage_id, int64_t attempt, const MeasurementBatch& b,
                                 int64_t time_us) {
  const int64_t stage = stage_id.value;
  for (const MeasurementBatch::Series& series : b.series) {
    ASSIGN_OR_RETURN(const int64_t id, SeriesId(stage_id, series));
    // A point said twice: the later one stands.
    ASSIGN_OR_RETURN(Statement * s,
                     Cached("INSERT INTO measurement (series_id, step, value) VALUES (?, ?, ?) "
                            "ON CONFLICT DO UPDATE SET value = excluded.value"));
    for (const MeasurementBatch::Point& p : series.points) {
      RETURN_IF_ERROR(s->Bind(1, id).Bind(2, p.step).Bind(3, p.value).Run());
    }
  }
  for (const MeasurementBatch::DocumentScore& d : b.documents) {
    ASSIGN_OR_RETURN(
        Statement * s,
        Cached(
            "INSERT OR REPLACE INTO document_score (stage_id, split, document, nll, tokens, bytes) "
            "VALUES (?, ?, ?, ?, ?, ?)"));
    RETURN_IF_ERROR(s->Bind(1, stage)
                        .Bind(2, d.split)
                        .Bind(3, d.document)
                        .Bind(4, d.nll)
                        .Bind(5, d.tokens)
                        .Bind(6, d.bytes)
                        .Run());
  }
  for (const MeasurementBatch::Record& r : b.records) {
    // A constraint cannot say this (see the migration), and the views would fail on what is none.
    const nlohmann::json data = nlohmann::json::parse(r.data_json, nullptr, false);
    if (!data.is_object()) {
      return absl::FailedPreconditionError(
          absl::StrCat("record ", r.kind, " ", r.name, " ", r.idx, " is no JSON object"));
    }
    ASSIGN_OR_RETURN(
        Statement * s,
        Cached("INSERT INTO record (stage_id, kind, name, idx, step, data_json) VALUES (?, ?, ?, "
               "?, ?, ?) ON CONFLICT DO UPDATE SET step = excluded.step, data_json = "
               "excluded.data_json"));
    s->Bind(1, stage).Bind(2, r.kind).Bind(3, r.name).Bind(4, r.idx).Bind(5, r.step);
    RETURN_IF_ERROR(s->Bind(6, r.data_json).Run());
  }
  for (const CheckpointRow& r : b.checkpoints) {
    ASSIGN_OR_RETURN(
        Statement * s,
        Cached("INSERT OR REPLACE INTO checkpoint (stage_id, step, attempt, path, digest, bytes, "
               "commit_time_us) VALUES (?, ?, ?, ?, ?, ?, ?)"));
    s->Bind(1, stage).Bind(2, r.step).Bind(3, attempt).Bind(4, r.path).Bind(5, r.digest);
    RETURN_IF_ERROR(s->Bind(6, r.bytes).Bind(7, time_us).Run());
  }
  return absl::OkStatus();
}

absl::Status Store::Put(const PutTrunk& c) {
  ASSIGN_OR_RETURN(
      Statement * s,
      Cached("INSERT INTO trunk (prefix_key, step, stage_id, path, digest) VALUES (?, ?, ?, ?, ?) "
             "ON CONFLICT DO UPDATE SET stage_id = excluded.stage_id, path = excluded.path, "
             "digest = excluded.digest"));
  s->Bind(1, c.row.prefix_key).Bind(2, c.row.step).Bind(3, c.row.stage.value);
  return s->Bind(4, c.row.path).Bind(5, c.row.digest).Run();
}

absl::Status Store::Put(const RemoveTrunk& c) {
  ASSIGN_OR_RETURN(Statement * s, Cached("DELETE FROM trunk WHERE prefix_key = ? AND step = ?"));
  return s->Bind(1, c.prefix_key).Bind(2, c.step).Run();
}

absl::Status Store::Put(const UpsertUser& c) {
  ASSIGN_OR_RETURN(
      Statement * s,
      Cached("INSERT INTO user (name, weight, max_slots, consumed_us) VALUES (?, ?, ?, ?) ON "
             "CONFLICT (name) DO UPDATE SET weight = excluded.weight, max_slots = "
             "excluded.max_slots, consumed_us = excluded.consumed_us"));
  const UserRow& r = c.row;
  s->Bind(1, r.name).Bind(2, r.weight).Bind(3, r.max_slots);
  return s->Bind(4, r.consumed_us).Run();
}

absl::Status Store::Put(const AppendEvent& c) {
  ASSIGN_OR_RETURN(Statement * s, Cached(kInsertEvent));
  return InsertEvent(*s, c.row, &next_events_);
}

absl::Status Store::Put(const SetIncarnation& c) {
  // The side file first: a crash in between only raises the number once more.
  RETURN_IF_ERROR(WriteNumberFile(path_ + ".incarnation", c.incarnation));
  ASSIGN_OR_RETURN(Statement * s, Cached("UPDATE cluster SET incarnation = ? WHERE id = 1"));
  RETURN_IF_ERROR(s->Bind(1, c.incarnation).Run());
  next_incarnation_ = c.incarnation;
  return absl::OkStatus();
}

}  // namespace plumb::store
