#include "app/writer.h"

#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "domain/status_macros.h"

namespace plumb::app {

using Stub = v1::SweepService::Stub;

absl::StatusOr<Writer> Writer::Open(const Context& context, Missing missing) {
  if (!context.server.empty() || FindServer(context).ok()) {
    ASSIGN_OR_RETURN(Client client, Client::Connect(context));
    // An address may be left of a server that was killed.
    const auto there =
        client.Call(&Stub::GetServer, v1::GetServerRequest(), std::chrono::seconds(10));
    if (there.ok()) return Writer(nullptr, std::move(client));
    if (!context.server.empty() || !absl::IsUnavailable(there.status())) return there.status();
  }
  if (missing == Missing::kIsAnError && !std::filesystem::exists(context.db)) {
    return absl::NotFoundError(absl::StrCat("no database ", context.db,
                                            "; name one with --db FILE, or make one: plumb up"));
  }
  coordinator::ServerOptions options{.db_path = context.db, .grants = false};
  options.blobs.quota_bytes = 0;
  ASSIGN_OR_RETURN(std::unique_ptr<coordinator::Server> server,
                   coordinator::Server::Start(options));
  Context own = context;
  own.server = server->address();
  ASSIGN_OR_RETURN(Client client, Client::Connect(own));
  return Writer(std::move(server), std::move(client));
}

}  // namespace plumb::app
