// What people write on sweeps and trials, and results that no attempt brought.
#include "domain/status_macros.h"
#include "store/store.h"

namespace plumb::store {

absl::Status Store::Put(const RenameCell& c) {
  ASSIGN_OR_RETURN(
      Statement * s,
      Cached("UPDATE cell SET name = ?, axes_json = ? WHERE sweep_id = ? AND idx = ?"));
  return s->Bind(1, c.name).Bind(2, c.axes_json).Bind(3, c.sweep.value).Bind(4, c.idx).Run();
}

absl::Status Store::Put(const FlagCell& c) {
  ASSIGN_OR_RETURN(Statement * s,
                   Cached("UPDATE cell SET flags_json = json_insert(flags_json, '$[#]', ?1) WHERE "
                          "sweep_id = ?2 AND idx = ?3 AND NOT EXISTS (SELECT 1 FROM "
                          "json_each(flags_json) WHERE value = ?1)"));
  return s->Bind(1, c.flag).Bind(2, c.sweep.value).Bind(3, c.idx).Run();
}

absl::Status Store::Put(const PutTag& c) {
  const bool sweep = static_cast<bool>(c.sweep);
  if (c.remove) {
    ASSIGN_OR_RETURN(Statement * s,
                     Cached(sweep ? "DELETE FROM sweep_tag WHERE sweep_id = ? AND tag = ?"
                                  : "DELETE FROM trial_tag WHERE trial_id = ? AND tag = ?"));
    return s->Bind(1, sweep ? c.sweep.value : c.trial.value).Bind(2, c.tag).Run();
  }
  ASSIGN_OR_RETURN(
      Statement * s,
      Cached(sweep ? "INSERT INTO sweep_tag (sweep_id, tag, create_time_us, user) VALUES (?, ?, ?, "
                     "?) ON CONFLICT DO NOTHING"
                   : "INSERT INTO trial_tag (trial_id, tag, create_time_us, user) VALUES (?, ?, ?, "
                     "?) ON CONFLICT DO NOTHING"));
  s->Bind(1, sweep ? c.sweep.value : c.trial.value).Bind(2, c.tag);
  return s->Bind(3, c.time_us).Bind(4, c.user).Run();
}

absl::Status Store::Put(const PutNote& c) {
  const bool sweep = static_cast<bool>(c.sweep);
  const int64_t id = sweep ? c.sweep.value : c.trial.value;
  if (c.text.empty()) {
    ASSIGN_OR_RETURN(Statement * s, Cached(sweep ? "DELETE FROM sweep_note WHERE sweep_id = ?"
                                                 : "DELETE FROM trial_note WHERE trial_id = ?"));
    return s->Bind(1, id).Run();
  }
  ASSIGN_OR_RETURN(
      Statement * s,
      Cached(sweep ? "INSERT OR REPLACE INTO sweep_note (sweep_id, text, create_time_us, user) "
                     "VALUES (?, ?, ?, ?)"
                   : "INSERT OR REPLACE INTO trial_note (trial_id, text, create_time_us, user) "
                     "VALUES (?, ?, ?, ?)"));
  return s->Bind(1, id).Bind(2, c.text).Bind(3, c.time_us).Bind(4, c.user).Run();
}

absl::Status Store::Put(const InsertTrialOrigin& c) {
  ASSIGN_OR_RETURN(
      Statement * s,
      Cached("INSERT INTO trial_origin (trial_id, is_foreign, origin_json) VALUES (?, ?, ?)"));
  return s->Bind(1, c.trial.value).Bind(2, int64_t{c.foreign}).Bind(3, c.origin_json).Run();
}

absl::Status Store::Put(const PutResults& c) {
  return WriteResults(c.stage, /*attempt=*/0, *c.batch, c.time_us);
}

}  // namespace plumb::store
