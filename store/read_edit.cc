// What editing, importing and removing ask of the database.
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "domain/status_macros.h"
#include "store/read.h"

namespace plumb::store {
namespace {

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

// Bound as one value, whatever it holds.
std::string Json(const std::vector<std::string>& texts) {
  return nlohmann::json(texts).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}
template <typename Id>
std::string Json(const std::vector<Id>& ids) {
  nlohmann::json out = nlohmann::json::array();
  for (const Id& id : ids) out.push_back(id.value);
  return out.dump();
}

}  // namespace

absl::StatusOr<std::string> Reader::PresentYaml(SweepId sweep) {
  ASSIGN_OR_RETURN(
      Statement * s,
      Cached("SELECT payload_json FROM sweep_addition WHERE sweep_id = ? AND name LIKE "
             "'edit %' ORDER BY idx DESC LIMIT 1"));
  s->Bind(1, sweep.value);
  std::string payload;
  RETURN_IF_ERROR(Rows(*s, [&](Statement& row) { payload = row.Text(0); }));
  const nlohmann::json edit = nlohmann::json::parse(payload, nullptr, false);
  if (edit.is_object() && edit.contains("yaml") && edit["yaml"].is_string())
    return edit["yaml"].get<std::string>();
  return SweepYaml(sweep);
}

absl::StatusOr<Annotations> Reader::AnnotationsOf(SweepId sweep) {
  Annotations out;
  ASSIGN_OR_RETURN(Statement * tags,
                   Cached("SELECT tag FROM sweep_tag WHERE sweep_id = ? ORDER BY tag"));
  tags->Bind(1, sweep.value);
  RETURN_IF_ERROR(Rows(*tags, [&](Statement& row) { out.tags.push_back(row.Text(0)); }));
  ASSIGN_OR_RETURN(Statement * note, Cached("SELECT text FROM sweep_note WHERE sweep_id = ?"));
  note->Bind(1, sweep.value);
  RETURN_IF_ERROR(Rows(*note, [&](Statement& row) { out.note = row.Text(0); }));
  ASSIGN_OR_RETURN(Statement * origin,
                   Cached("SELECT imported, origin_json FROM sweep_origin WHERE sweep_id = ?"));
  origin->Bind(1, sweep.value);
  RETURN_IF_ERROR(Rows(*origin, [&](Statement& row) {
    out.foreign = row.Int(0) != 0;
    out.origin_json = row.Text(1);
  }));
  return out;
}

absl::StatusOr<Annotations> Reader::AnnotationsOf(TrialId trial) {
  Annotations out;
  ASSIGN_OR_RETURN(Statement * tags,
                   Cached("SELECT tag FROM trial_tag WHERE trial_id = ? ORDER BY tag"));
  tags->Bind(1, trial.value);
  RETURN_IF_ERROR(Rows(*tags, [&](Statement& row) { out.tags.push_back(row.Text(0)); }));
  ASSIGN_OR_RETURN(Statement * note, Cached("SELECT text FROM trial_note WHERE trial_id = ?"));
  note->Bind(1, trial.value);
  RETURN_IF_ERROR(Rows(*note, [&](Statement& row) { out.note = row.Text(0); }));
  ASSIGN_OR_RETURN(Statement * origin,
                   Cached("SELECT is_foreign, origin_json FROM trial_origin WHERE trial_id = ?"));
  origin->Bind(1, trial.value);
  RETURN_IF_ERROR(Rows(*origin, [&](Statement& row) {
    out.foreign = row.Int(0) != 0;
    out.origin_json = row.Text(1);
  }));
  return out;
}

absl::StatusOr<std::vector<TrialId>> Reader::TrialsIn(SweepId sweep,
                                                      const std::vector<std::string>& states,
                                                      const std::vector<std::string>& cells) {
  ASSIGN_OR_RETURN(
      Statement * s,
      Cached("SELECT DISTINCT st.trial_id FROM sweep_trial st JOIN cell c ON c.id = st.cell_id "
             "JOIN trial t ON t.id = st.trial_id WHERE st.sweep_id = ?1 AND t.state IN (SELECT "
             "value FROM json_each(?2)) AND (json_array_length(?3) = 0 OR c.name IN (SELECT value "
             "FROM json_each(?3))) ORDER BY st.idx"));
  s->Bind(1, sweep.value).Bind(2, Json(states)).Bind(3, Json(cells));
  std::vector<TrialId> out;
  RETURN_IF_ERROR(Rows(*s, [&](Statement& row) { out.push_back(TrialId{row.Int(0)}); }));
  return out;
}

absl::StatusOr<RemovalCount> Reader::WhatGoes(const std::vector<SweepId>& sweeps) {
  const std::string ids = Json(sweeps);
  RemovalCount out;
  ASSIGN_OR_RETURN(
      Statement * s,
      Cached(
          "SELECT DISTINCT st.trial_id, EXISTS (SELECT 1 FROM sweep_trial o WHERE o.trial_id = "
          "st.trial_id AND o.sweep_id NOT IN (SELECT value FROM json_each(?1))), EXISTS (SELECT "
          "1 FROM trial_tag WHERE trial_id = st.trial_id AND tag = 'pinned') FROM sweep_trial st "
          "WHERE st.sweep_id IN (SELECT value FROM json_each(?1)) ORDER BY st.trial_id"));
  s->Bind(1, ids);
  RETURN_IF_ERROR(Rows(*s, [&](Statement& row) {
    if (row.Int(1) != 0) {
      ++out.shared;
    } else if (row.Int(2) != 0) {
      ++out.pinned;
    } else {
      out.trials.push_back(TrialId{row.Int(0)});
    }
  }));
  RETURN_IF_ERROR(Count(&out));
  return out;
}

absl::StatusOr<RemovalCount> Reader::WhatGoes(const std::vector<TrialId>& trials) {
  RemovalCount out;
  ASSIGN_OR_RETURN(
      Statement * s,
      Cached("SELECT t.id, EXISTS (SELECT 1 FROM trial_tag WHERE trial_id = t.id AND tag = "
             "'pinned') FROM trial t WHERE t.id IN (SELECT value FROM json_each(?1)) ORDER BY "
             "t.id"));
  s->Bind(1, Json(trials));
  RETURN_IF_ERROR(Rows(*s, [&](Statement& row) {
    if (row.Int(1) != 0) {
      ++out.pinned;
    } else {
      out.trials.push_back(TrialId{row.Int(0)});
    }
  }));
  RETURN_IF_ERROR(Count(&out));
  return out;
}

// A trial stays while one that stays began from it, and so on.
absl::Status Reader::Spare(RemovalCount* out) {
  ASSIGN_OR_RETURN(
      Statement * s,
      Cached("SELECT DISTINCT own.trial_id, branch.trial_id FROM stage own JOIN stage branch ON "
             "branch.branch_stage_id = own.id WHERE own.trial_id IN (SELECT value FROM "
             "json_each(?1)) AND branch.trial_id <> own.trial_id"));
  s->Bind(1, Json(out->trials));
  std::vector<std::pair<int64_t, int64_t>> edges;  // source, branch
  RETURN_IF_ERROR(Rows(*s, [&](Statement& row) { edges.emplace_back(row.Int(0), row.Int(1)); }));
  std::set<int64_t> go;
  for (const TrialId id : out->trials) go.insert(id.value);
  for (bool changed = true; changed;) {
    changed = false;
    for (const auto& [source, branch] : edges)
      changed |= !go.contains(branch) && go.erase(source) > 0;
  }
  out->needed = std::ssize(out->trials) - std::ssize(go);
  std::erase_if(out->trials, [&](TrialId id) { return !go.contains(id.value); });
  return absl::OkStatus();
}

absl::Status Reader::Count(RemovalCount* out) {
  RETURN_IF_ERROR(Spare(out));
  const std::string ids = Json(out->trials);
  ASSIGN_OR_RETURN(
      Statement * s,
      Cached("WITH g AS (SELECT id FROM stage WHERE trial_id IN (SELECT value FROM json_each(?1))) "
             "SELECT (SELECT count(*) FROM g JOIN series s ON s.stage_id = g.id JOIN measurement m "
             "ON m.series_id = s.id), (SELECT count(*) FROM g JOIN record r ON r.stage_id = g.id), "
             "(SELECT count(*) FROM g JOIN checkpoint c ON c.stage_id = g.id), (SELECT "
             "coalesce(sum(c.bytes), 0) FROM g JOIN checkpoint c ON c.stage_id = g.id), (SELECT "
             "count(*) FROM g JOIN attempt a ON a.stage_id = g.id)"));
  s->Bind(1, ids);
  return Rows(*s, [&](Statement& row) {
    out->points = row.Int(0);
    out->records = row.Int(1);
    out->checkpoints = row.Int(2);
    out->checkpoint_bytes = row.Int(3);
    out->attempts = row.Int(4);
  });
}

absl::StatusOr<SweepId> Reader::FindRequest(const std::string& request_id) {
  ASSIGN_OR_RETURN(Statement * s, Cached("SELECT id FROM sweep WHERE request_id = ?"));
  s->Bind(1, request_id);
  SweepId out;
  RETURN_IF_ERROR(Rows(*s, [&](Statement& row) { out = SweepId{row.Int(0)}; }));
  return out;
}

absl::StatusOr<bool> Reader::HasPlaces(SweepId sweep) {
  ASSIGN_OR_RETURN(Statement * s, Cached("SELECT 1 FROM sweep_trial WHERE sweep_id = ? LIMIT 1"));
  s->Bind(1, sweep.value);
  bool out = false;
  RETURN_IF_ERROR(Rows(*s, [&](Statement&) { out = true; }));
  return out;
}

absl::StatusOr<std::vector<TrialId>> Reader::Removed(int64_t limit) {
  ASSIGN_OR_RETURN(Statement * s, Cached("SELECT id FROM trial WHERE key >= 'removed:' AND key < "
                                         "'removed;' ORDER BY key LIMIT ?"));
  s->Bind(1, limit);
  std::vector<TrialId> out;
  RETURN_IF_ERROR(Rows(*s, [&](Statement& row) { out.push_back(TrialId{row.Int(0)}); }));
  return out;
}

absl::StatusOr<std::map<std::string, Reader::Held>> Reader::FindByKey(
    const std::vector<std::string>& keys) {
  std::map<std::string, Held> out;
  ASSIGN_OR_RETURN(Statement * s, Cached("SELECT key, id, state FROM trial WHERE key IN (SELECT "
                                         "value FROM json_each(?)) ORDER BY id"));
  s->Bind(1, Json(keys));
  RETURN_IF_ERROR(Rows(*s, [&](Statement& row) {
    out[row.Text(0)] = {.trial = TrialId{row.Int(1)}, .state = row.Text(2)};
  }));
  ASSIGN_OR_RETURN(
      Statement * points,
      Cached(
          "SELECT s.name, m.step, m.value FROM series s JOIN measurement m ON m.series_id = s.id "
          "WHERE s.stage_id = (SELECT min(id) FROM stage WHERE trial_id = ? AND parent_id IS "
          "NULL) AND s.layer = -1 AND m.step = (SELECT max(step) FROM measurement WHERE "
          "series_id = s.id) ORDER BY s.name, s.definition_version"));
  for (auto& [key, held] : out) {
    points->Bind(1, held.trial.value);
    RETURN_IF_ERROR(Rows(*points, [&held = held](Statement& row) {
      held.last[row.Text(0)] = {
          row.Int(1), row.IsNull(2) ? std::numeric_limits<double>::quiet_NaN() : row.Double(2)};
    }));
  }
  return out;
}

}  // namespace plumb::store
