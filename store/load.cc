#include <map>

#include "absl/strings/str_cat.h"
#include "domain/status_macros.h"
#include "store/store.h"

namespace plumb::store {
namespace {

// Calls `row` for each row of `sql`.
template <typename F>
absl::Status ForEach(Database& db, const std::string& sql, F row) {
  ASSIGN_OR_RETURN(Statement s, db.Prepare(sql));
  while (true) {
    ASSIGN_OR_RETURN(const bool more, s.Step());
    if (!more) return absl::OkStatus();
    row(s);
  }
}

constexpr char kLiveTrials[] =
    "(SELECT DISTINCT trial_id FROM stage WHERE state IN ('pending', 'running', 'paused'))";

}  // namespace

absl::StatusOr<ClusterSnapshot> Store::Load() {
  ClusterSnapshot out;
  RETURN_IF_ERROR(ForEach(db_, "SELECT incarnation, starts, cluster_time_us, uid FROM cluster",
                          [&](Statement& s) {
                            out.incarnation = s.Int(0);
                            out.starts = s.Int(1);
                            out.cluster_time = absl::Microseconds(s.Int(2));
                            out.uid = s.Text(3);
                          }));
  int64_t before = 0;
  RETURN_IF_ERROR(ForEach(db_, "SELECT run, cluster_time_us FROM server_start ORDER BY start",
                          [&](Statement& s) {
                            out.run = s.Int(0);
                            if (before != 0) out.run_ends[before] = absl::Microseconds(s.Int(1));
                            before = out.run;
                          }));
  RETURN_IF_ERROR(ForEach(db_,
                          "SELECT max((SELECT coalesce(max(id), 0) FROM sweep), r.last_sweep), "
                          "max((SELECT coalesce(max(id), 0) FROM trial), r.last_trial), "
                          "max((SELECT coalesce(max(id), 0) FROM stage), r.last_stage), "
                          "(SELECT coalesce(max(id), 0) FROM worker), "
                          "(SELECT coalesce(max(session_id), 0) FROM worker) FROM removed r",
                          [&](Statement& s) {
                            out.last_sweep = SweepId{s.Int(0)};
                            out.last_trial = TrialId{s.Int(1)};
                            out.last_stage = StageId{s.Int(2)};
                            out.last_worker = WorkerId{s.Int(3)};
                            out.last_session = SessionId{s.Int(4)};
                          }));
  RETURN_IF_ERROR(ForEach(
      db_,
      "SELECT id, name, state, request_id, request_hash, objective, trials, cursor, "
      "create_time_us, end_time_us, user, priority, paused, open, "
      "coalesce((SELECT imported FROM sweep_origin WHERE sweep_id = id), 0), objective_stage, "
      "objective_at, objective_goal FROM sweep ORDER BY id",
      [&](Statement& s) {
        out.sweeps.push_back({.id = SweepId{s.Int(0)},
                              .name = s.Text(1),
                              .state = SweepStateFromName(s.Text(2)).value_or(SweepState::kRunning),
                              .request_id = s.Text(3),
                              .request_hash = s.Text(4),
                              .objective = s.Text(5),
                              .objective_stage = s.Text(15),
                              .objective_at = s.Text(16),
                              .maximize = s.Text(17) == "maximize",
                              .trials = s.Int(6),
                              .cursor = s.Int(7),
                              .create_time_us = s.Int(8),
                              .end_time_us = s.Int(9),
                              .user = s.Text(10),
                              .priority = s.Int(11),
                              .paused = s.Int(12) != 0,
                              .open = s.Int(13) != 0,
                              .imported = s.Int(14) != 0});
      }));
  RETURN_IF_ERROR(ForEach(db_, "SELECT sweep_id, max(seq) + 1 FROM look GROUP BY sweep_id",
                          [&](Statement& s) { out.looks[SweepId{s.Int(0)}] = s.Int(1); }));
  RETURN_IF_ERROR(ForEach(db_,
                          "SELECT sweep_id, idx, name, payload_json, trials FROM sweep_addition "
                          "ORDER BY sweep_id, idx",
                          [&](Statement& s) {
                            out.additions.push_back({.sweep = SweepId{s.Int(0)},
                                                     .idx = s.Int(1),
                                                     .name = s.Text(2),
                                                     .payload_json = s.Text(3),
                                                     .trials = s.Int(4)});
                          }));
  std::map<TrialId, size_t> at;
  RETURN_IF_ERROR(ForEach(db_,
                          absl::StrCat("SELECT ", kTrialColumns, " FROM trial WHERE id IN ",
                                       kLiveTrials, " ORDER BY id"),
                          [&](Statement& s) {
                            out.trials.push_back({.trial = ReadTrial(s)});
                            at[out.trials.back().trial.id] = out.trials.size() - 1;
                          }));
  RETURN_IF_ERROR(ForEach(db_,
                          absl::StrCat("SELECT ", kStageColumns, " FROM stage WHERE trial_id IN ",
                                       kLiveTrials, " ORDER BY id"),
                          [&](Statement& s) {
                            StageRow row = ReadStage(s);
                            out.trials[at.at(row.trial)].stages.push_back(std::move(row));
                          }));
  RETURN_IF_ERROR(
      ForEach(db_,
              absl::StrCat("SELECT ", kLinkColumns, " FROM sweep_trial WHERE trial_id IN ",
                           kLiveTrials, " ORDER BY sweep_id, idx"),
              [&](Statement& s) { out.links.push_back(ReadLink(s)); }));
  RETURN_IF_ERROR(ForEach(
      db_,
      "SELECT id, name, host, slots, build, devices_json, session_id, state, register_time_us, "
      "labels, memory_bytes, drain, quarantined_until_ct_us, quarantines, on_probation, gang FROM "
      "worker "
      "ORDER BY id",
      [&](Statement& s) {
        out.workers.push_back({.id = WorkerId{s.Int(0)},
                               .name = s.Text(1),
                               .host = s.Text(2),
                               .slots = s.Int(3),
                               .build = s.Text(4),
                               .devices_json = s.Text(5),
                               .session = SessionId{s.Int(6)},
                               .state = WorkerStateFromName(s.Text(7)).value_or(WorkerState::kLost),
                               .register_time_us = s.Int(8),
                               .labels = s.Text(9),
                               .memory_bytes = s.Int(10),
                               .drain = s.Int(11) != 0,
                               .quarantined_until_ct = absl::Microseconds(s.Int(12)),
                               .quarantines = s.Int(13),
                               .on_probation = s.Int(14) != 0,
                               .gang = s.Text(15)});
      }));
  RETURN_IF_ERROR(ForEach(db_,
                          "SELECT name, weight, max_slots, consumed_us FROM user ORDER BY name",
                          [&](Statement& s) {
                            out.users.push_back({.name = s.Text(0),
                                                 .weight = s.Double(1),
                                                 .max_slots = s.Int(2),
                                                 .consumed_us = s.Int(3)});
                          }));
  RETURN_IF_ERROR(
      ForEach(db_,
              absl::StrCat("SELECT ", kAttemptColumns,
                           " FROM attempt WHERE outcome IS NULL ORDER BY stage_id, number"),
              [&](Statement& s) { out.attempts.push_back(ReadAttempt(s)); }));
  RETURN_IF_ERROR(
      ForEach(db_,
              absl::StrCat("SELECT ", kTrunkColumns,
                           " FROM trunk k JOIN stage g ON g.id = k.stage_id WHERE k.prefix_key IN "
                           "(SELECT prefix_key FROM stage WHERE trial_id IN ",
                           kLiveTrials, ") ORDER BY k.prefix_key, k.step"),
              [&](Statement& s) { out.trunks.push_back(ReadTrunk(s)); }));
  size_t i = 0;  // both in order
  RETURN_IF_ERROR(ForEach(
      db_,
      "SELECT m.stage_id, m.number, m.worker_id, m.first_rank, m.ranks, m.bundle FROM attempt a "
      "JOIN attempt_member m ON m.stage_id = a.stage_id AND m.number = a.number "
      "WHERE a.outcome IS NULL ORDER BY m.stage_id, m.number, m.first_rank",
      [&](Statement& s) {
        while (out.attempts[i].id != AttemptId{StageId{s.Int(0)}, s.Int(1)}) ++i;
        out.attempts[i].members.push_back({.worker = WorkerId{s.Int(2)},
                                           .first_rank = s.Int(3),
                                           .ranks = s.Int(4),
                                           .bundle = s.Int(5)});
      }));
  return out;
}

}  // namespace plumb::store
