// The results file, read straight.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "app/table.h"
#include "store/sqlite.h"

namespace plumb::app {

// Read-only. NotFound names the fix where there is no such file.
absl::StatusOr<store::Database> OpenResults(const std::string& path);

Value ColumnValue(sqlite3_stmt* row, int column);

}  // namespace plumb::app
