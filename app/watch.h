// A sweep while it runs: a live table on a terminal, one line per change otherwise.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "app/client.h"
#include "app/commands.h"

namespace plumb::app {

struct WatchOptions {
  FailOn fail_on = FailOn::kAny;
  double timeout_seconds = 0;   // 0: none
  std::string after_interrupt;  // a sentence for Ctrl-C
  // Called about twice a second; an error ends the watch.
  std::function<absl::Status()> tick = [] { return absl::OkStatus(); };
};

absl::StatusOr<FailOn> ParseFailOn(const std::string& name);

// Until the sweep ends. Returns the exit code: 0, 7 (trials failed), 8 (timeout), 130 (Ctrl-C: the
// sweep runs on).
absl::StatusOr<int> Watch(Client& client, int64_t sweep_id, const WatchOptions& options);

// Trials that count as failed, of all: failed, infeasible, diverged.
int64_t Failed(const v1::Sweep& sweep);

}  // namespace plumb::app
