// Trials from elsewhere, handed to the server that holds the database.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "app/client.h"
#include "app/context.h"
#include "plumb/v1/sweep_service.pb.h"

namespace plumb::app {

// On one line; what is no UTF-8 is replaced.
std::string DumpJson(const nlohmann::ordered_json& json);

struct ImportOutcome {
  int64_t sweep = 0, trials = 0, shared = 0;
  bool before = false;  // it had been imported, or is here
  std::vector<v1::ImportConflict> conflicts;
};

// Sends trials in their order, in requests of a size that the server takes.
class ImportSender {
 public:
  // `begin` must outlive it.
  ImportSender(Client& client, const v1::ImportSweepRequest& begin,
               std::vector<std::string> cell_names);

  // Where to go on; nullopt: it is there.
  absl::StatusOr<std::optional<int64_t>> Begin();
  // `cells`: those first used by this trial, from `from_cell` on.
  absl::Status Add(v1::ImportedTrial trial, int64_t from_cell,
                   const std::vector<v1::ImportedCell>& cells);
  absl::StatusOr<ImportOutcome> End();

 private:
  absl::Status Flush();

  Client& client_;
  const v1::ImportSweepRequest& begin_;
  const std::vector<std::string> cell_names_;
  v1::ImportTrialsRequest slice_;
  size_t bytes_ = 0;
  ImportOutcome out_;
};

// What became of them, as the context's format says; returns the exit code.
int PrintImports(const Context& context, const std::vector<ImportOutcome>& outcomes);
int FinishImport(const Context& context, absl::StatusOr<ImportOutcome> outcome);

}  // namespace plumb::app
