// Removal of trials as a whole. First their places in sweeps go and with the last one their key;
// then, bit by bit, what they hold. Whatever stands between two transactions is whole for readers:
// the documented views begin at a place in a sweep.
#include "domain/status_macros.h"
#include "store/store.h"

namespace plumb::store {
namespace {

// In the order in which foreign keys let go.
constexpr const char* kOfSeries[] = {
    "DELETE FROM measurement WHERE series_id = ?1 AND step <= (SELECT max(step) FROM (SELECT step "
    "FROM measurement WHERE series_id = ?1 ORDER BY step LIMIT ?2))",
};
constexpr const char* kOfStage[] = {
    "DELETE FROM trunk WHERE (prefix_key, step) IN (SELECT prefix_key, step FROM trunk WHERE "
    "stage_id = ?1 LIMIT ?2)",
    "DELETE FROM document_score WHERE (stage_id, split, document) IN (SELECT stage_id, split, "
    "document FROM document_score WHERE stage_id = ?1 LIMIT ?2)",
    "DELETE FROM record WHERE (stage_id, kind, name, idx) IN (SELECT stage_id, kind, name, idx "
    "FROM "
    "record WHERE stage_id = ?1 LIMIT ?2)",
    "DELETE FROM checkpoint WHERE (stage_id, step) IN (SELECT stage_id, step FROM checkpoint WHERE "
    "stage_id = ?1 LIMIT ?2)",
    "DELETE FROM attempt_member WHERE (stage_id, number, first_rank) IN (SELECT stage_id, number, "
    "first_rank FROM attempt_member WHERE stage_id = ?1 LIMIT ?2)",
    "DELETE FROM attempt WHERE (stage_id, number) IN (SELECT stage_id, number FROM attempt WHERE "
    "stage_id = ?1 LIMIT ?2)",
};

}  // namespace

absl::Status Store::Put(const ForgetPlaces& c) {
  // The places, of one sweep or of one trial.
  std::vector<std::pair<int64_t, int64_t>> places;  // sweep, idx
  std::vector<int64_t> trials;
  {
    ASSIGN_OR_RETURN(Statement * s,
                     Cached(c.sweep ? "SELECT sweep_id, idx, trial_id FROM sweep_trial WHERE "
                                      "sweep_id = ? ORDER BY idx LIMIT ?"
                                    : "SELECT sweep_id, idx, trial_id FROM sweep_trial WHERE "
                                      "trial_id = ? ORDER BY sweep_id, idx LIMIT ?"));
    s->Reset();
    s->Bind(1, c.sweep ? c.sweep.value : c.trial.value).Bind(2, c.limit);
    while (true) {
      ASSIGN_OR_RETURN(const bool row, s->Step());
      if (!row) break;
      places.emplace_back(s->Int(0), s->Int(1));
      trials.push_back(s->Int(2));
    }
    s->Reset();
  }
  ASSIGN_OR_RETURN(Statement * forget,
                   Cached("DELETE FROM sweep_trial WHERE sweep_id = ? AND idx = ?"));
  for (const auto& [sweep, idx] : places)
    RETURN_IF_ERROR(forget->Bind(1, sweep).Bind(2, idx).Run());
  // Who has no place left, and is not pinned, is nobody's.
  if (c.trial && places.empty()) trials.push_back(c.trial.value);
  ASSIGN_OR_RETURN(
      Statement * free,
      Cached("UPDATE trial SET key = 'removed:' || id WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM "
             "sweep_trial WHERE trial_id = ?1) AND NOT EXISTS (SELECT 1 FROM trial_tag WHERE "
             "trial_id = ?1 AND tag = 'pinned')"));
  for (const int64_t trial : trials) RETURN_IF_ERROR(free->Bind(1, trial).Run());
  return absl::OkStatus();
}

absl::Status Store::Put(const ForgetSweep& c) {
  for (const char* sql :
       {"DELETE FROM cell WHERE sweep_id = ?", "DELETE FROM sweep_addition WHERE sweep_id = ?",
        "DELETE FROM look WHERE sweep_id = ?", "DELETE FROM sweep_tag WHERE sweep_id = ?",
        "DELETE FROM sweep_note WHERE sweep_id = ?", "DELETE FROM sweep_origin WHERE sweep_id = ?",
        "DELETE FROM sweep_state WHERE sweep_id = ?", "DELETE FROM sweep_total WHERE sweep_id = ?",
        "UPDATE removed SET last_sweep = max(last_sweep, ?) WHERE id = 1",
        "DELETE FROM sweep WHERE id = ?"}) {
    ASSIGN_OR_RETURN(Statement * s, Cached(sql));
    RETURN_IF_ERROR(s->Bind(1, c.sweep.value).Run());
  }
  return absl::OkStatus();
}

absl::Status Store::Put(const PurgeTrial& c) {
  int64_t left = c.limit;
  const int64_t trial = c.trial.value;
  {
    ASSIGN_OR_RETURN(Statement * s, Cached("SELECT 1 FROM trial WHERE id = ? AND key GLOB "
                                           "'removed:*'"));
    s->Reset();
    s->Bind(1, trial);
    ASSIGN_OR_RETURN(const bool row, s->Step());
    s->Reset();
    if (!row) return absl::OkStatus();  // it is there no more, or somebody's
  }
  const auto ids = [&](const char* sql) -> absl::StatusOr<std::vector<int64_t>> {
    ASSIGN_OR_RETURN(Statement * s, Cached(sql));
    s->Reset();
    s->Bind(1, trial);
    std::vector<int64_t> out;
    while (true) {
      ASSIGN_OR_RETURN(const bool row, s->Step());
      if (!row) break;
      out.push_back(s->Int(0));
    }
    s->Reset();
    return out;
  };
  const auto remove = [&](const char* sql, int64_t id) -> absl::Status {
    if (left <= 0) return absl::OkStatus();
    ASSIGN_OR_RETURN(Statement * s, Cached(sql));
    RETURN_IF_ERROR(s->Bind(1, id).Bind(2, left).Run());
    left -= db_.changes();
    return absl::OkStatus();
  };
  ASSIGN_OR_RETURN(const std::vector<int64_t> series,
                   ids("SELECT s.id FROM stage g JOIN series s ON s.stage_id = g.id WHERE "
                       "g.trial_id = ? ORDER BY s.id"));
  for (const int64_t id : series) {
    RETURN_IF_ERROR(remove(kOfSeries[0], id));
    if (left <= 0) return absl::OkStatus();
    ASSIGN_OR_RETURN(Statement * s, Cached("DELETE FROM series WHERE id = ?"));
    RETURN_IF_ERROR(s->Bind(1, id).Run());
    --left;
  }
  series_.clear();  // ids of series that are gone
  ASSIGN_OR_RETURN(const std::vector<int64_t> stages,
                   ids("SELECT id FROM stage WHERE trial_id = ? ORDER BY id DESC"));
  for (const int64_t id : stages) {
    for (const char* sql : kOfStage) RETURN_IF_ERROR(remove(sql, id));
    if (left <= 0) return absl::OkStatus();
  }
  for (const int64_t id : stages) {  // children have the higher ids
    ASSIGN_OR_RETURN(Statement * s, Cached("DELETE FROM stage WHERE id = ?"));
    RETURN_IF_ERROR(s->Bind(1, id).Run());
  }
  for (const char* sql :
       {"DELETE FROM trial_tag WHERE trial_id = ?", "DELETE FROM trial_note WHERE trial_id = ?",
        "DELETE FROM trial_origin WHERE trial_id = ?", "DELETE FROM trial WHERE id = ?"}) {
    ASSIGN_OR_RETURN(Statement * s, Cached(sql));
    RETURN_IF_ERROR(s->Bind(1, trial).Run());
  }
  ASSIGN_OR_RETURN(Statement * last, Cached("UPDATE removed SET last_trial = max(last_trial, ?1), "
                                            "last_stage = max(last_stage, ?2) WHERE id = 1"));
  return last->Bind(1, trial).Bind(2, stages.empty() ? int64_t{0} : stages.front()).Run();
}

}  // namespace plumb::store
