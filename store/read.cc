#include "store/read.h"

#include <limits>

#include "absl/strings/str_cat.h"
#include "domain/status_macros.h"
#include "store/migrations.h"
#include "store/store.h"

namespace plumb::store {
namespace {

constexpr char kSweepColumns[] =
    "id, name, state, request_id, request_hash, objective, trials, cursor, create_time_us, "
    "end_time_us, user, priority, paused, objective_stage, objective_at, objective_goal";

SweepRow ReadSweep(const Statement& s) {
  return {.id = SweepId{s.Int(0)},
          .name = s.Text(1),
          .state = SweepStateFromName(s.Text(2)).value_or(SweepState::kRunning),
          .request_id = s.Text(3),
          .request_hash = s.Text(4),
          .objective = s.Text(5),
          .objective_stage = s.Text(13),
          .objective_at = s.Text(14),
          .maximize = s.Text(15) == "maximize",
          .trials = s.Int(6),
          .cursor = s.Int(7),
          .create_time_us = s.Int(8),
          .end_time_us = s.Int(9),
          .user = s.Text(10),
          .priority = s.Int(11),
          .paused = s.Int(12) != 0};
}

constexpr char kTrialSelect[] =
    "SELECT st.sweep_id, st.idx, st.trial_id, st.replicate, st.aa, st.shared, st.tune, st.cell_id, "
    "c.idx, "
    "c.name, c.axes_json, "
    "c.flags_json, sw.objective, "
    // As the trial calls it.
    "coalesce((SELECT value FROM json_each(st.stages_json) WHERE key = sw.objective_stage), "
    "sw.objective_stage) FROM sweep_trial st JOIN cell c ON c.id = st.cell_id JOIN sweep sw "
    "ON sw.id = st.sweep_id ";

struct Judged {
  std::string series, stage;  // stage "": its first that has the series
};

TrialView ReadView(const Statement& s, Judged* objective) {
  TrialView v;
  v.link = ReadLink(s);
  v.cell_id = s.Int(7);
  v.link.cell_idx = s.Int(8);
  v.cell = {.sweep = v.link.sweep,
            .idx = s.Int(8),
            .name = s.Text(9),
            .axes_json = s.Text(10),
            .flags_json = s.Text(11)};
  *objective = {s.Text(12), s.Text(13)};
  return v;
}

// One statement's rows, read to the end and reset.
template <typename F>
absl::Status Rows(Statement& s, F row) {
  while (true) {
    absl::StatusOr<bool> more = s.Step();
    if (!more.ok()) return more.status();
    if (!*more) break;
    row(s);
  }
  s.Reset();
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Reader> Reader::Open(const std::string& path) {
  ASSIGN_OR_RETURN(Database db, Database::Open(path, Database::Mode::kReadOnly));
  RETURN_IF_ERROR(CheckSchema(db, path));
  return Reader(std::move(db));
}

absl::StatusOr<Statement*> Reader::Cached(const std::string& sql) {
  auto it = statements_.find(sql);
  if (it == statements_.end()) {
    ASSIGN_OR_RETURN(Statement s, db_.Prepare(sql));
    it = statements_.emplace(sql, std::move(s)).first;
  }
  it->second.Reset();
  return &it->second;
}

absl::StatusOr<std::vector<SweepView>> Reader::Sweeps(int64_t before_id, int64_t limit,
                                                      const std::string& tag) {
  ASSIGN_OR_RETURN(
      Statement * s,
      Cached(absl::StrCat(
          "SELECT ", kSweepColumns, " FROM sweep WHERE id < ?1 ",
          tag.empty() ? "" : "AND id IN (SELECT sweep_id FROM sweep_tag WHERE tag = ?3) ",
          "ORDER BY id DESC LIMIT ?2")));
  s->Bind(1, before_id).Bind(2, limit);
  if (!tag.empty()) s->Bind(3, tag);
  std::vector<SweepView> out;
  RETURN_IF_ERROR(Rows(*s, [&](Statement& row) { out.push_back({.row = ReadSweep(row)}); }));
  for (SweepView& view : out) RETURN_IF_ERROR(Fill(view));
  return out;
}

absl::StatusOr<SweepView> Reader::Sweep(SweepId sweep) {
  ASSIGN_OR_RETURN(Statement * s,
                   Cached(absl::StrCat("SELECT ", kSweepColumns, " FROM sweep WHERE ",
                                       sweep ? "id = ?" : "? = 0 ORDER BY id DESC LIMIT 1")));
  s->Bind(1, sweep.value);
  std::optional<SweepView> out;
  RETURN_IF_ERROR(Rows(*s, [&](Statement& row) { out = SweepView{.row = ReadSweep(row)}; }));
  if (!out) {
    return sweep ? absl::NotFoundError(
                       absl::StrCat("no sweep ", sweep.value, "; `plumb sweep list` shows them"))
                 : absl::NotFoundError("no sweep yet; `plumb sweep submit FILE` makes one");
  }
  ASSIGN_OR_RETURN(out->row.sweep_yaml, PresentYaml(out->row.id));
  RETURN_IF_ERROR(Fill(*out));
  return *std::move(out);
}

absl::StatusOr<std::string> Reader::SweepYaml(SweepId sweep) {
  ASSIGN_OR_RETURN(Statement * s, Cached("SELECT sweep_yaml FROM sweep WHERE id = ?"));
  s->Bind(1, sweep.value);
  std::string out;
  RETURN_IF_ERROR(Rows(*s, [&](Statement& row) { out = row.Text(0); }));
  return out;
}

absl::Status Reader::Fill(SweepView& v) {
  ASSIGN_OR_RETURN(v.annotations, AnnotationsOf(v.row.id));
  v.row.imported = v.annotations.foreign;
  v.row.origin_json = v.annotations.origin_json;
  {
    ASSIGN_OR_RETURN(Statement * s,
                     Cached("SELECT state, trials FROM sweep_state WHERE sweep_id = ? "
                            "AND trials > 0 ORDER BY state"));
    s->Bind(1, v.row.id.value);
    RETURN_IF_ERROR(Rows(*s, [&](Statement& row) { v.trials_by_state[row.Text(0)] = row.Int(1); }));
  }
  ASSIGN_OR_RETURN(Statement * s,
                   Cached("SELECT steps_done, steps_total, flops_done, flops_total, tokens_done, "
                          "first_start_time_us FROM sweep_total WHERE sweep_id = ?"));
  s->Bind(1, v.row.id.value);
  return Rows(*s, [&](Statement& row) {
    v.steps_done = row.Int(0);
    v.steps_total = row.Int(1);
    v.flops_done = row.Double(2);
    v.flops_total = row.Double(3);
    v.tokens_done = row.Int(4);
    v.first_start_time_us = row.Int(5);
  });
}

absl::StatusOr<std::vector<TrialView>> Reader::Trials(SweepId sweep, const std::string& state,
                                                      int64_t from_idx, int64_t limit,
                                                      const std::string& tag) {
  if (!sweep) {
    ASSIGN_OR_RETURN(const SweepView newest, Sweep(sweep));
    sweep = newest.row.id;
  }
  ASSIGN_OR_RETURN(
      Statement * s,
      Cached(absl::StrCat(kTrialSelect,
                          "JOIN trial t ON t.id = st.trial_id WHERE st.sweep_id = ?1 AND "
                          "st.idx >= ?2 AND (?3 = '' OR t.state = ?3) AND (?5 = '' OR EXISTS "
                          "(SELECT 1 FROM trial_tag WHERE trial_id = t.id AND tag = ?5)) "
                          "ORDER BY st.idx LIMIT ?4")));
  s->Bind(1, sweep.value).Bind(2, from_idx).Bind(3, state).Bind(4, limit).Bind(5, tag);
  std::vector<TrialView> out;
  std::vector<Judged> by;
  RETURN_IF_ERROR(
      Rows(*s, [&](Statement& row) { out.push_back(ReadView(row, &by.emplace_back())); }));
  for (size_t i = 0; i < out.size(); ++i) RETURN_IF_ERROR(Fill(out[i], by[i].series, by[i].stage));
  return out;
}

absl::StatusOr<TrialView> Reader::Trial(TrialId trial) {
  ASSIGN_OR_RETURN(
      Statement * s,
      Cached(absl::StrCat(kTrialSelect,
                          "WHERE st.trial_id = ? ORDER BY st.sweep_id DESC, st.idx LIMIT 1")));
  s->Bind(1, trial.value);
  std::optional<TrialView> out;
  Judged by;
  RETURN_IF_ERROR(Rows(*s, [&](Statement& row) { out = ReadView(row, &by); }));
  if (!out)
    return absl::NotFoundError(
        absl::StrCat("no trial ", trial.value, "; `plumb trial list` shows them"));
  RETURN_IF_ERROR(Fill(*out, by.series, by.stage));
  for (StageView& stage : out->stages) {
    std::string columns = "a.";  // the worker table has columns of the same names
    for (const char* c = kAttemptColumns; *c != 0; ++c) {
      columns += *c;
      if (*c == ' ') columns += "a.";
    }
    ASSIGN_OR_RETURN(
        Statement * a,
        Cached(absl::StrCat("SELECT ", columns,
                            ", w.name FROM attempt a JOIN worker w ON w.id = a.worker_id "
                            "WHERE a.stage_id = ? ORDER BY a.number")));
    a->Bind(1, stage.row.id.value);
    RETURN_IF_ERROR(Rows(*a, [&](Statement& row) {
      stage.attempts.push_back(ReadAttempt(row));
      stage.workers.push_back(row.Text(17));
    }));
  }
  return *std::move(out);
}

absl::Status Reader::Fill(TrialView& v, const std::string& objective, const std::string& stage) {
  const TrialId id = v.link.trial;
  {
    ASSIGN_OR_RETURN(Statement * s,
                     Cached(absl::StrCat("SELECT ", kTrialColumns, " FROM trial WHERE id = ?")));
    s->Bind(1, id.value);
    RETURN_IF_ERROR(Rows(*s, [&](Statement& row) { v.row = ReadTrial(row); }));
  }
  {
    ASSIGN_OR_RETURN(Statement * s,
                     Cached(absl::StrCat("SELECT ", kStageColumns,
                                         ", (SELECT trial_id FROM stage b WHERE b.id = "
                                         "stage.branch_stage_id) FROM stage WHERE trial_id = ? "
                                         "ORDER BY id")));
    s->Bind(1, id.value);
    RETURN_IF_ERROR(Rows(*s, [&](Statement& row) {
      v.stages.push_back({.row = ReadStage(row), .branch_trial = TrialId{row.Int(29)}});
    }));
  }
  ASSIGN_OR_RETURN(v.annotations, AnnotationsOf(id));
  for (StageView& stage : v.stages) {
    for (const StageView& parent : v.stages) {
      if (stage.row.parent && parent.row.id == stage.row.parent) stage.parent = parent.row.name;
    }
  }
  {
    ASSIGN_OR_RETURN(
        Statement * s,
        Cached(
            "SELECT w.name FROM stage g JOIN attempt a ON a.stage_id = g.id AND a.outcome IS NULL "
            "JOIN worker w ON w.id = a.worker_id WHERE g.trial_id = ? AND g.state = 'running' "
            "LIMIT 1"));
    s->Bind(1, id.value);
    RETURN_IF_ERROR(Rows(*s, [&](Statement& row) { v.worker = row.Text(0); }));
  }
  ASSIGN_OR_RETURN(v.objective, LastValue(id, objective, stage));
  ASSIGN_OR_RETURN(v.train_loss, LastValue(id, "train/loss"));
  ASSIGN_OR_RETURN(v.tokens_per_s, LastValue(id, "train/tokens_per_s"));
  return absl::OkStatus();
}

absl::StatusOr<double> Reader::LastValue(TrialId trial, const std::string& series,
                                         const std::string& stage) {
  ASSIGN_OR_RETURN(Statement * s,
                   Cached("SELECT m.value FROM stage g JOIN series s ON s.stage_id = g.id AND "
                          "s.name = ?2 AND s.layer = -1 "
                          "JOIN measurement m ON m.series_id = s.id WHERE g.trial_id = ?1 "
                          "AND (?3 = '' OR g.name = ?3) ORDER BY g.id, s.definition_version DESC, "
                          "m.step DESC LIMIT 1"));
  s->Bind(1, trial.value).Bind(2, series).Bind(3, stage);
  double out = std::numeric_limits<double>::quiet_NaN();
  RETURN_IF_ERROR(Rows(*s, [&](Statement& row) {
    if (!row.IsNull(0)) out = row.Double(0);
  }));
  return out;
}

absl::StatusOr<std::vector<TrialProgress>> Reader::Progress(SweepId sweep) {
  ASSIGN_OR_RETURN(Statement * s,
                   Cached("SELECT st.trial_id, g.id, st.idx, g.state, g.step, g.until_step, "
                          "g.checkpoint_step "
                          "FROM sweep_trial st JOIN stage g ON g.trial_id = st.trial_id AND "
                          "g.parent_id IS NULL WHERE st.sweep_id = ? ORDER BY st.idx, g.id"));
  s->Bind(1, sweep.value);
  std::vector<TrialProgress> out;
  RETURN_IF_ERROR(Rows(*s, [&](Statement& row) {
    if (!out.empty() && out.back().idx == row.Int(2)) return;  // of several roots the first
    out.push_back({.trial = TrialId{row.Int(0)},
                   .stage = StageId{row.Int(1)},
                   .idx = row.Int(2),
                   .state = StageStateFromName(row.Text(3)).value_or(StageState::kPending),
                   .step = row.Int(4),
                   .until_step = row.Int(5),
                   .checkpoint_step = row.Int(6)});
  }));
  return out;
}

absl::StatusOr<std::vector<StepValue>> Reader::Points(StageId stage, const std::string& series,
                                                      int64_t after_step) {
  ASSIGN_OR_RETURN(Statement * s,
                   Cached("SELECT m.step, m.value FROM measurement m WHERE m.series_id = (SELECT "
                          "id FROM series WHERE stage_id = ?1 AND name = ?2 AND layer = -1 ORDER "
                          "BY definition_version DESC LIMIT 1) AND m.step > ?3 ORDER BY m.step"));
  s->Bind(1, stage.value).Bind(2, series).Bind(3, after_step);
  std::vector<StepValue> out;
  RETURN_IF_ERROR(Rows(*s, [&](Statement& row) {
    out.push_back(
        {row.Int(0), row.IsNull(1) ? std::numeric_limits<double>::quiet_NaN() : row.Double(1)});
  }));
  return out;
}

absl::StatusOr<std::map<TrialId, NamedStage>> Reader::Stages(SweepId sweep,
                                                             const std::string& name) {
  ASSIGN_OR_RETURN(
      Statement * s,
      Cached("SELECT st.trial_id, g.id, g.state FROM sweep_trial st JOIN stage g ON g.trial_id = "
             "st.trial_id AND g.name = coalesce((SELECT value FROM json_each(st.stages_json) WHERE "
             "key = ?2), ?2) WHERE st.sweep_id = ?1"));
  s->Bind(1, sweep.value).Bind(2, name);
  std::map<TrialId, NamedStage> out;
  RETURN_IF_ERROR(Rows(*s, [&](Statement& row) {
    out[TrialId{row.Int(0)}] = {
        .stage = StageId{row.Int(1)},
        .state = StageStateFromName(row.Text(2)).value_or(StageState::kPending)};
  }));
  return out;
}

absl::StatusOr<std::vector<LookRow>> Reader::Looks(SweepId sweep) {
  ASSIGN_OR_RETURN(
      Statement * s,
      Cached("SELECT seq, trial_idx, step, value FROM look WHERE sweep_id = ? ORDER BY seq"));
  s->Bind(1, sweep.value);
  std::vector<LookRow> out;
  RETURN_IF_ERROR(Rows(*s, [&](Statement& row) {
    out.push_back({.sweep = sweep, .seq = row.Int(0), .trial_idx = row.Int(1), .step = row.Int(2)});
    if (!row.IsNull(3)) out.back().value = row.Double(3);
  }));
  return out;
}

absl::StatusOr<std::vector<EventRow>> Reader::Events(TrialId trial, int64_t limit) {
  ASSIGN_OR_RETURN(Statement * s, Cached("SELECT time_us, kind, sweep_id, trial_id, stage_id, "
                                         "attempt, worker_id, detail FROM event "
                                         "WHERE trial_id = ? ORDER BY id DESC LIMIT ?"));
  s->Bind(1, trial.value).Bind(2, limit);
  std::vector<EventRow> out;
  RETURN_IF_ERROR(Rows(*s, [&](Statement& row) {
    out.push_back({.time_us = row.Int(0),
                   .kind = row.Text(1),
                   .sweep = SweepId{row.Int(2)},
                   .trial = TrialId{row.Int(3)},
                   .stage = StageId{row.Int(4)},
                   .attempt = row.Int(5),
                   .worker = WorkerId{row.Int(6)},
                   .detail = row.Text(7)});
  }));
  return out;
}

absl::StatusOr<std::vector<EventView>> Reader::Events(const EventQuery& query) {
  ASSIGN_OR_RETURN(
      Statement * s,
      Cached("SELECT * FROM (SELECT e.id, e.time_us, e.kind, coalesce(e.sweep_id, (SELECT "
             "min(sweep_id) FROM sweep_trial WHERE trial_id = e.trial_id)), e.trial_id, s.name, "
             "e.attempt, w.name, e.detail FROM event e LEFT JOIN stage s ON s.id = e.stage_id LEFT "
             "JOIN worker w ON w.id = e.worker_id WHERE (?1 = 0 OR e.sweep_id = ?1 OR e.trial_id "
             "IN (SELECT trial_id FROM sweep_trial WHERE sweep_id = ?1)) AND (?2 = 0 OR e.trial_id "
             "= ?2) AND (?3 = '' OR e.kind GLOB ?3) AND e.time_us >= ?4 AND (?5 = '' OR w.name = "
             "?5) ORDER BY e.id DESC LIMIT ?6) ORDER BY id"));
  s->Bind(1, query.sweep.value).Bind(2, query.trial.value).Bind(3, query.kind);
  s->Bind(4, query.since_us).Bind(5, query.worker).Bind(6, query.limit);
  std::vector<EventView> out;
  RETURN_IF_ERROR(Rows(*s, [&](Statement& row) {
    out.push_back({.id = row.Int(0),
                   .row = {.time_us = row.Int(1),
                           .kind = row.Text(2),
                           .sweep = SweepId{row.Int(3)},
                           .trial = TrialId{row.Int(4)},
                           .attempt = row.Int(6),
                           .detail = row.Text(8)},
                   .stage = row.Text(5),
                   .worker = row.Text(7)});
  }));
  return out;
}

}  // namespace plumb::store
