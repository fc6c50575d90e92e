#include "worker/coordinator_client.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <chrono>
#include <fstream>

namespace plumb::worker {
namespace {

constexpr int kDeadlineMs = 15'000;
constexpr int kMaxMessage = 16 << 20;

}  // namespace

CoordinatorClient::Shared::~Shared() { close(event_fd); }

CoordinatorClient::CoordinatorClient(std::string server)
    : server_(std::move(server)), shared_(std::make_shared<Shared>()) {
  shared_->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

CoordinatorClient::~CoordinatorClient() {
  CancelAll();
  std::unique_lock lock(shared_->mutex);
  shared_->none_pending.wait(lock, [&] { return shared_->pending == 0; });
}

bool CoordinatorClient::Connect() {
  std::string address = server_;
  if (server_.starts_with("file:")) {
    address.clear();
    std::ifstream(server_.substr(5)) >> address;
    if (address.empty()) return false;
  }
  CancelAll();
  address_ = address;
  ++connection_;
  grpc::ChannelArguments arguments;
  // Each connection is a real one: no reuse of a socket whose back-off belongs to a server that is
  // gone.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetMaxReceiveMessageSize(kMaxMessage);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
  channel_ = grpc::CreateCustomChannel(address_, grpc::InsecureChannelCredentials(), arguments);
  stub_ = v1::WorkerService::NewStub(channel_);
  return true;
}

void CoordinatorClient::CancelAll() {
  for (const auto& weak : contexts_) {
    if (const auto context = weak.lock()) context->TryCancel();
  }
  contexts_.clear();
}

template <typename Request, typename Response>
void CoordinatorClient::Call(
    const Request& request, int deadline_ms,
    void (v1::WorkerService::Stub::async::*method)(grpc::ClientContext*, const Request*, Response*,
                                                   std::function<void(grpc::Status)>)) {
  struct State {
    Request request;
    Response response;
  };
  // Shared: the callback keeps both alive until the call is over.
  auto context = std::make_shared<grpc::ClientContext>();
  auto state = std::make_shared<State>();
  state->request = request;
  context->set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(deadline_ms));
  std::erase_if(contexts_, [](const auto& weak) { return weak.expired(); });
  contexts_.push_back(context);
  {
    std::lock_guard lock(shared_->mutex);
    ++shared_->pending;
  }
  (stub_->async()->*method)(
      context.get(), &state->request, &state->response,
      [context, state, shared = shared_, connection = connection_](grpc::Status status) {
        std::lock_guard lock(shared->mutex);
        shared->events.push_back(Done<Response>{status, std::move(state->response), connection});
        --shared->pending;
        shared->none_pending.notify_all();
        const uint64_t one = 1;
        if (write(shared->event_fd, &one, sizeof one) < 0) return;  // full: readable already
      });
}

void CoordinatorClient::Register(const v1::RegisterWorkerRequest& request) {
  Call<v1::RegisterWorkerRequest, v1::RegisterWorkerResponse>(
      request, kDeadlineMs, &v1::WorkerService::Stub::async::RegisterWorker);
}

void CoordinatorClient::Report(const v1::ReportRequest& request) {
  Call<v1::ReportRequest, v1::ReportResponse>(request, kDeadlineMs,
                                              &v1::WorkerService::Stub::async::Report);
}

void CoordinatorClient::Poll(const v1::PollRequest& request) {
  Call<v1::PollRequest, v1::PollResponse>(request,
                                          static_cast<int>(request.wait_ms()) + kDeadlineMs,
                                          &v1::WorkerService::Stub::async::Poll);
}

std::vector<CoordinatorClient::Event> CoordinatorClient::TakeEvents() {
  uint64_t ignored;
  if (read(shared_->event_fd, &ignored, sizeof ignored) < 0) {
  }
  std::lock_guard lock(shared_->mutex);
  return std::exchange(shared_->events, {});
}

}  // namespace plumb::worker
