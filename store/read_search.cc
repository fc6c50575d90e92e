// What a search asks of the database: results of its own points, and of earlier sweeps.
#include <limits>

#include "domain/status_macros.h"
#include "store/read.h"

namespace plumb::store {
namespace {

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

absl::StatusOr<TrialSeries> Reader::Series(TrialId trial, const std::string& series) {
  TrialSeries out;
  StageId stage;
  {
    ASSIGN_OR_RETURN(Statement * s,
                     Cached("SELECT g.id, g.state FROM stage g JOIN series r ON r.stage_id = g.id "
                            "WHERE g.trial_id = ? AND r.name = ? AND r.layer = -1 "
                            "ORDER BY g.id LIMIT 1"));
    s->Bind(1, trial.value).Bind(2, series);
    RETURN_IF_ERROR(Rows(*s, [&](Statement& row) {
      out.found = true;
      stage = StageId{row.Int(0)};
      out.state = StageStateFromName(row.Text(1)).value_or(StageState::kPending);
    }));
  }
  if (!out.found) return out;
  ASSIGN_OR_RETURN(out.points, Points(stage, series));
  return out;
}

absl::StatusOr<bool> Reader::HasLiveStage(TrialId trial) {
  ASSIGN_OR_RETURN(Statement * s, Cached("SELECT count(*) FROM stage WHERE trial_id = ? AND state "
                                         "IN ('pending', 'running', 'paused')"));
  s->Bind(1, trial.value);
  bool out = false;
  RETURN_IF_ERROR(Rows(*s, [&](Statement& row) { out = row.Int(0) > 0; }));
  return out;
}

absl::StatusOr<std::vector<CellTrial>> Reader::CellTrials(SweepId sweep) {
  ASSIGN_OR_RETURN(
      Statement * s,
      Cached("SELECT st.trial_id, c.idx, t.config_json, c.axes_json FROM sweep_trial st JOIN cell "
             "c ON c.id = st.cell_id JOIN trial t ON t.id = st.trial_id WHERE st.sweep_id = ? AND "
             "st.aa = 0 AND st.tune = 0 ORDER BY c.idx, st.replicate, st.idx"));
  s->Bind(1, sweep.value);
  std::vector<CellTrial> out;
  RETURN_IF_ERROR(Rows(*s, [&](Statement& row) {
    out.push_back({TrialId{row.Int(0)}, row.Int(1), row.Text(2), row.Text(3)});
  }));
  return out;
}

absl::StatusOr<std::string> Reader::ConfigBegunFrom(TrialId source) {
  ASSIGN_OR_RETURN(Statement * s,
                   Cached("SELECT config_json FROM trial WHERE config_json LIKE '%\"init\":%' "
                          "AND json_extract(config_json, '$.init.trial') = ? ORDER BY id LIMIT 1"));
  s->Bind(1, source.value);
  std::string out;
  RETURN_IF_ERROR(Rows(*s, [&](Statement& row) { out = row.Text(0); }));
  return out;
}

absl::StatusOr<SweepId> Reader::SweepByName(const std::string& name, SweepId before) {
  ASSIGN_OR_RETURN(
      Statement * s,
      Cached("SELECT id FROM sweep WHERE name = ? AND id < ? ORDER BY id DESC LIMIT 1"));
  s->Bind(1, name).Bind(2, before ? before.value : std::numeric_limits<int64_t>::max());
  SweepId out;
  RETURN_IF_ERROR(Rows(*s, [&](Statement& row) { out = SweepId{row.Int(0)}; }));
  return out;
}

}  // namespace plumb::store
