// What the server would answer, read straight from the file when there is no server.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "app/context.h"
#include "app/table.h"
#include "plumb/v1/sweep_service.pb.h"

namespace plumb::app {

// --db given, or no server known and the file is there.
bool ReadFromFile(const Context& context);

// The file itself: --db's, or the one that the server names.
absl::StatusOr<std::string> DatabasePath(const Context& context);

absl::StatusOr<std::vector<v1::Sweep>> FetchSweeps(const Context& context,
                                                   const std::string& tag = "");      // "": any
absl::StatusOr<v1::GetSweepResponse> FetchSweep(const Context& context, int64_t id);  // 0: newest
absl::StatusOr<std::vector<v1::Trial>> FetchTrials(const Context& context, int64_t sweep,
                                                   const std::string& state,
                                                   int64_t limit = 0,  // 0: all
                                                   const std::string& tag = "");
absl::StatusOr<v1::Trial> FetchTrial(const Context& context, int64_t id);

// Prints a table in the format that the context asks for; returns the exit code.
int Show(const Table& table, const Context& context);

}  // namespace plumb::app
