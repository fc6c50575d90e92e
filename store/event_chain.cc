#include "store/event_chain.h"

#include "absl/strings/str_cat.h"
#include "domain/status_macros.h"
#include "trainer/spec/sha256.h"

namespace plumb::store {
namespace {

constexpr char kSelect[] =
    "SELECT id, time_us, kind, sweep_id, trial_id, stage_id, attempt, worker_id, detail, hash FROM "
    "event ORDER BY id";

EventRow ReadRow(const Statement& s) {
  return {.time_us = s.Int(1),
          .kind = s.Text(2),
          .sweep = SweepId{s.Int(3)},
          .trial = TrialId{s.Int(4)},
          .stage = StageId{s.Int(5)},
          .attempt = s.Int(6),
          .worker = WorkerId{s.Int(7)},
          .detail = s.Text(8)};
}

}  // namespace

std::string EventHash(const std::string& before, int64_t id, const EventRow& r) {
  const absl::string_view end("\0", 1);
  spec::Sha256 hash;
  const std::string text =
      absl::StrCat(before, end, id, end, r.time_us, end, r.kind, end,
                   absl::StrCat(r.sweep.value, end, r.trial.value, end, r.stage.value, end,
                                r.attempt, end, r.worker.value, end),
                   r.detail, end);
  hash.Update(text.data(), text.size());
  return hash.HexDigest();
}

absl::StatusOr<EventHead> ReadEventHead(Database& db) {
  ASSIGN_OR_RETURN(Statement s,
                   db.Prepare("SELECT last_event, last_event_hash FROM cluster WHERE id = 1"));
  ASSIGN_OR_RETURN(const bool row, s.Step());
  if (!row) return absl::DataLossError("the cluster row is missing");
  return EventHead{.id = s.Int(0), .hash = s.Text(1)};
}

absl::Status InsertEvent(Statement& s, const EventRow& r, EventHead* head) {
  const auto bind = [&](int index, int64_t id) {
    if (id == 0) {
      s.BindNull(index);
    } else {
      s.Bind(index, id);
    }
  };
  std::string hash = EventHash(head->hash, head->id + 1, r);
  s.Bind(1, head->id + 1).Bind(2, r.time_us).Bind(3, r.kind).Bind(9, r.detail).Bind(10, hash);
  bind(4, r.sweep.value);
  bind(5, r.trial.value);
  bind(6, r.stage.value);
  bind(7, r.attempt);
  bind(8, r.worker.value);
  RETURN_IF_ERROR(s.Run());
  ++head->id;
  head->hash = std::move(hash);
  return absl::OkStatus();
}

absl::Status WriteEventHead(Database& db, const EventHead& head) {
  ASSIGN_OR_RETURN(
      Statement s,
      db.Prepare("UPDATE cluster SET last_event = ?, last_event_hash = ? WHERE id = 1"));
  return s.Bind(1, head.id).Bind(2, head.hash).Run();
}

absl::Status ChainOldEvents(Database& db) {
  // Numbered without gaps from here on: what was there keeps its order.
  EventHead head;
  std::vector<std::pair<int64_t, EventRow>> rows;
  {
    ASSIGN_OR_RETURN(Statement all, db.Prepare(kSelect));
    while (true) {
      ASSIGN_OR_RETURN(const bool more, all.Step());
      if (!more) break;
      rows.emplace_back(all.Int(0), ReadRow(all));
    }
  }
  ASSIGN_OR_RETURN(Statement update, db.Prepare("UPDATE event SET id = ?, hash = ? WHERE id = ?"));
  for (const auto& [id, row] : rows) {
    head.hash = EventHash(head.hash, head.id + 1, row);
    ++head.id;
    RETURN_IF_ERROR(update.Bind(1, head.id).Bind(2, head.hash).Bind(3, id).Run());
  }
  RETURN_IF_ERROR(WriteEventHead(db, head));
  return db.Execute(
      "CREATE TRIGGER event_is_never_updated BEFORE UPDATE ON event BEGIN SELECT RAISE(ABORT, "
      "'events are append-only'); END;"
      "CREATE TRIGGER event_is_never_deleted BEFORE DELETE ON event BEGIN SELECT RAISE(ABORT, "
      "'events are append-only'); END;");
}

absl::Status CheckEventChain(Database& db) {
  // One snapshot for head and rows, while a server may be writing.
  RETURN_IF_ERROR(db.Execute("BEGIN"));
  const absl::Status checked = [&]() -> absl::Status {
    ASSIGN_OR_RETURN(const EventHead end, ReadEventHead(db));
    ASSIGN_OR_RETURN(Statement all, db.Prepare(kSelect));
    EventHead head;
    while (true) {
      ASSIGN_OR_RETURN(const bool more, all.Step());
      if (!more) break;
      const int64_t id = all.Int(0);
      if (id != head.id + 1) {
        return absl::DataLossError(absl::StrCat("the event chain is broken: after event ", head.id,
                                                " comes event ", id, "; some were removed"));
      }
      head.hash = EventHash(head.hash, id, ReadRow(all));
      head.id = id;
      if (head.hash != all.Text(9)) {
        return absl::DataLossError(absl::StrCat("the event chain is broken: event ", id,
                                                " is not as it was written, or one before it"));
      }
    }
    if (head.id != end.id || head.hash != end.hash) {
      return absl::DataLossError(absl::StrCat("the event chain is broken: it ends at event ",
                                              head.id, ", the last one written was ", end.id));
    }
    return absl::OkStatus();
  }();
  (void)db.Rollback();
  return checked;
}

}  // namespace plumb::store
