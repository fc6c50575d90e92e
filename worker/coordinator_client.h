// Calls to the coordinator that never block: the answer comes back as an event, and a descriptor
// becomes readable.
#pragma once

#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <variant>
#include <vector>

#include "plumb/v1/worker_service.grpc.pb.h"

namespace plumb::worker {

class CoordinatorClient {
 public:
  template <typename Response>
  struct Done {
    grpc::Status status;
    Response response;
    int64_t connection =
        0;  // which connection it was made on; an answer of an older one says nothing of this one
  };
  using Event = std::variant<Done<v1::RegisterWorkerResponse>, Done<v1::ReportResponse>,
                             Done<v1::PollResponse>>;

  // `server`: "HOST:PORT", or "file:PATH", read at each Connect().
  explicit CoordinatorClient(std::string server);
  ~CoordinatorClient();  // cancels what is under way and waits for it
  CoordinatorClient(const CoordinatorClient&) = delete;
  CoordinatorClient& operator=(const CoordinatorClient&) = delete;

  // Makes a new connection; calls of the old one are cancelled. False: the address cannot be read
  // yet.
  bool Connect();
  int64_t connection() const { return connection_; }
  const std::string& address() const { return address_; }

  void Register(const v1::RegisterWorkerRequest& request);
  void Report(const v1::ReportRequest& request);
  void Poll(const v1::PollRequest& request);

  int event_fd() const { return shared_->event_fd; }
  std::vector<Event> TakeEvents();  // what has come back; makes event_fd() unreadable

 private:
  struct Shared {  // outlives the callbacks, which run in gRPC's threads
    ~Shared();
    int event_fd = -1;
    std::mutex mutex;
    std::condition_variable none_pending;
    int pending = 0;
    std::vector<Event> events;
  };
  template <typename Request, typename Response>
  void Call(const Request& request, int deadline_ms,
            void (v1::WorkerService::Stub::async::*method)(grpc::ClientContext*, const Request*,
                                                           Response*,
                                                           std::function<void(grpc::Status)>));
  void CancelAll();

  const std::string server_;
  std::string address_;
  int64_t connection_ = 0;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::WorkerService::Stub> stub_;
  std::shared_ptr<Shared> shared_;
  std::vector<std::weak_ptr<grpc::ClientContext>> contexts_;
};

}  // namespace plumb::worker
