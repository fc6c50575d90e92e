// The schema's history, embedded in the program, and how a file is brought up to date.
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "store/sqlite.h"

namespace plumb::store {

// "PLMB" in the file's header: so that another program's database is never touched.
inline constexpr int64_t kApplicationId = 0x504c4d42;

// Migration i (0-based) leads to user_version i + 1. Append-only.
const std::vector<const char*>& Migrations();

// Brings an open file up to the newest schema, each step in a transaction of its own. Refuses, and
// changes nothing: a database of another program, and one written by a newer version
// (FailedPrecondition).
absl::Status Migrate(Database& db, const std::string& path, int64_t wall_us);

// The same checks for a reader, without changing anything.
absl::Status CheckSchema(Database& db, const std::string& path);

}  // namespace plumb::store
