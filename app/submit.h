// Handing a sweep file to the server.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "app/client.h"
#include "sweeps/plan.h"

namespace plumb::app {

// "-": standard input. What it includes is inlined (sweeps/include.h), files that it
// names are pinned (sweeps/stage_files.h).
absl::StatusOr<std::string> ReadSweepFile(const std::string& file);
std::string NewRequestId();
// Corpora that are prepared here, or as if they had so many tokens.
sweeps::CorpusLookup CorporaOf(const std::string& data_root, const std::string& assume_tokens);
std::string ThisUser();
// As `plumb sweep plan` does.
absl::StatusOr<sweeps::SweepPlan> PlanText(const std::string& yaml, const std::string& file,
                                           const std::string& data_root,
                                           const std::string& assume_tokens);

// The median rate of a trial alone that this database has measured; 0 where there is none.
double MeasuredFlopsPerSecond(const std::string& db_path);

// Retries while the server is unreachable; the request id makes that safe.
absl::StatusOr<v1::SubmitSweepResponse> Submit(Client& client, const std::string& yaml,
                                               const std::string& file,
                                               const std::string& request_id);

}  // namespace plumb::app
