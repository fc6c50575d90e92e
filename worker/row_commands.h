// From an assignment to the commands that make a trainer run it.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "plumb/v1/plumb.pb.h"

namespace plumb::worker {

struct RowCommands {
  std::string bundle;                    // that will be open afterwards
  std::vector<nlohmann::json> commands;  // in order
};

// `open_bundle`: the one that is open at the trainer, "" for none. FailedPrecondition: this worker
// cannot run it (no such corpus, another digest, a config it does not read); the message names the
// fix. `gang_address`: where this worker's ranks are reached.
absl::StatusOr<RowCommands> CommandsFor(const v1::Assignment& assignment, const std::string& row,
                                        const std::string& open_bundle,
                                        const std::string& data_root,
                                        const std::string& checkpoint_dir,
                                        const std::string& gang_address = "");

}  // namespace plumb::worker
