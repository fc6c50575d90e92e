// A server with a planner of one's choice: Server::Start gives it the sweep language and the
// prepared corpora.
#pragma once

#include <memory>

#include "coordinator/planner.h"
#include "coordinator/server.h"

namespace plumb::coordinator {

absl::StatusOr<std::unique_ptr<Server>> Launch(const ServerOptions& options, PlanFn plan);

}  // namespace plumb::coordinator
