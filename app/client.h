// The coordinator as the command line sees it: where it is, and calls with deadlines and errors
// that name the fix.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "app/context.h"
#include "plumb/v1/sweep_service.grpc.pb.h"

namespace plumb::app {

// Unavailable with the fix where no server is known.
absl::StatusOr<std::string> FindServer(const Context& context);

class Client {
 public:
  static absl::StatusOr<Client> Connect(const Context& context);

  // client.Call(&Stub::GetSweep, request): one unary call. Unavailable says how to start a server.
  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(grpc::Status (v1::SweepService::Stub::*method)(grpc::ClientContext*,
                                                                               const Request&,
                                                                               Response*),
                                const Request& request,
                                std::chrono::seconds deadline = std::chrono::seconds(15)) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + deadline);
    Response response;
    const grpc::Status status = (stub_.get()->*method)(&context, request, &response);
    if (!status.ok()) return ToStatus(status);
    return response;
  }
  const std::string& address() const { return address_; }

 private:
  absl::Status ToStatus(const grpc::Status& status) const;
  std::string address_, start_hint_;
  std::unique_ptr<v1::SweepService::Stub> stub_;
};

}  // namespace plumb::app
