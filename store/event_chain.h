// The table of events as a chain: each row's hash is SHA-256 over the hash before it and the row's
// columns, and the cluster row names the last one. So a row that was changed, removed or put in
// between later is found, and so is a tail that was cut off. It tells of accidents and of casual
// hands, not of one who makes the whole chain again.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "domain/rows.h"
#include "store/sqlite.h"

namespace plumb::store {

struct EventHead {
  int64_t id = 0;  // 0: no event yet
  std::string hash;
};

// SHA-256, hex, of: the hash before, id, time_us, kind, sweep, trial, stage, attempt, worker (0
// where there is none), detail; each as text followed by a zero byte.
std::string EventHash(const std::string& before, int64_t id, const EventRow& row);

absl::StatusOr<EventHead> ReadEventHead(Database& db);

// Appends within a transaction of the caller, who writes the head before its end.
absl::Status InsertEvent(Statement& insert, const EventRow& row, EventHead* head);
inline constexpr char kInsertEvent[] =
    "INSERT INTO event (id, time_us, kind, sweep_id, trial_id, stage_id, attempt, worker_id, "
    "detail, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
absl::Status WriteEventHead(Database& db, const EventHead& head);

// For the migration: chains rows that were written before there was a chain, then has the database
// refuse changes of the table.
absl::Status ChainOldEvents(Database& db);

// DataLoss names the first event that is not as it was written.
absl::Status CheckEventChain(Database& db);

}  // namespace plumb::store
