#include "app/client.h"

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"

namespace plumb::app {
namespace {

std::string StartHint(const Context& context) {
  return context.db_given ? absl::StrCat("start one: plumb up --db ", context.db)
                          : "start one: plumb up";
}

}  // namespace

absl::StatusOr<std::string> FindServer(const Context& context) {
  if (!context.server.empty()) return context.server;
  const std::string file = context.db + ".address";
  std::ifstream in(file);
  std::string address;
  if (!std::getline(in, address) || address.empty()) {
    return absl::UnavailableError(absl::StrCat("no server for ", context.db, " (no ", file, "); ",
                                               StartHint(context),
                                               ", or name one: --server HOST:PORT"));
  }
  return address;
}

absl::StatusOr<Client> Client::Connect(const Context& context) {
  absl::StatusOr<std::string> address = FindServer(context);
  if (!address.ok()) return address.status();
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(256 << 20);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);  // a loopback address needs none
  Client client;
  client.address_ = *address;
  client.start_hint_ = StartHint(context);
  client.stub_ = v1::SweepService::NewStub(
      grpc::CreateCustomChannel(*address, grpc::InsecureChannelCredentials(), arguments));
  return client;
}

absl::Status Client::ToStatus(const grpc::Status& status) const {
  const auto code = static_cast<absl::StatusCode>(status.error_code());
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE) {
    return absl::Status(code, absl::StrCat("no server at ", address_, " (", status.error_message(),
                                           "); ", start_hint_));
  }
  if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
    return absl::Status(code, absl::StrCat("the server at ", address_, " did not answer in time"));
  }
  return absl::Status(code, status.error_message());
}

}  // namespace plumb::app
