// A server and a worker as children of this program: what `plumb up` and `plumb demo` share.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "app/children.h"
#include "app/commands.h"

namespace plumb::app {

std::string DefaultWorkerDir(const std::string& db);  // "worker" beside the database

// Starts both and returns when the server listens at *address. Logs lie beside the database.
// Cancelled on Ctrl-C.
absl::Status StartCluster(const Context& context, const UpArgs& args, Children* children,
                          std::string* address);

}  // namespace plumb::app
