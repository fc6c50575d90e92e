// Who writes to the database: the server that holds it, or, where none does, one in this process.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "app/client.h"
#include "coordinator/server.h"

namespace plumb::app {

enum class Missing { kIsAnError, kIsMade };  // the database file

class Writer {
 public:
  // A server in this process gives nothing to workers and ends with this.
  static absl::StatusOr<Writer> Open(const Context& context, Missing missing = Missing::kIsAnError);
  Client& client() { return client_; }

 private:
  Writer(std::unique_ptr<coordinator::Server> server, Client client)
      : server_(std::move(server)), client_(std::move(client)) {}
  std::unique_ptr<coordinator::Server> server_;
  Client client_;
};

}  // namespace plumb::app
