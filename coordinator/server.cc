#include "coordinator/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <future>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "coordinator/blobs.h"
#include "coordinator/edits.h"
#include "coordinator/http.h"
#include "coordinator/launch.h"
#include "coordinator/metrics.h"
#include "coordinator/services.h"
#include "coordinator/suggestion_desk.h"
#include "domain/status_macros.h"
#include "store/store.h"

namespace plumb::coordinator {
namespace {

absl::Status CheckLoopback(const std::string& listen) {
  const size_t colon = listen.rfind(':');
  const std::string host = colon == std::string::npos ? listen : listen.substr(0, colon);
  if (colon != std::string::npos &&
      (host == "127.0.0.1" || host == "localhost" || host == "[::1]")) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("refusing to listen on \"", listen,
                   "\": until the server has TLS and tokens it takes calls from this machine only; "
                   "use 127.0.0.1:PORT, "
                   "and an ssh tunnel from elsewhere"));
}

// Readers see the old address, the new one or none, never half a line.
absl::Status WriteAddress(const std::string& path, const std::string& address) {
  const std::string temporary = path + ".tmp";
  {
    std::ofstream out(temporary, std::ios::trunc);
    out << address << "\n";
    if (!out.flush()) return absl::DataLossError(absl::StrCat("cannot write ", temporary));
  }
  std::error_code error;
  std::filesystem::rename(temporary, path, error);
  if (error) return absl::DataLossError(absl::StrCat("cannot write ", path, ": ", error.message()));
  return absl::OkStatus();
}

class ServerImpl final : public Server {
 public:
  static absl::StatusOr<std::unique_ptr<Server>> Create(const ServerOptions& o, PlanFn plan) {
    RETURN_IF_ERROR(CheckLoopback(o.listen));
    std::error_code error;
    const std::string db_path = std::filesystem::absolute(o.db_path, error).string();
    ASSIGN_OR_RETURN(std::unique_ptr<store::Store> store,
                     store::Store::Open(db_path, absl::ToUnixMicros(absl::Now())));
    std::unique_ptr<ServerImpl> s(new ServerImpl(db_path, o.suggestion_stands));
    s->planner_ = std::make_unique<Planner>(std::move(plan), db_path, &s->desk_);
    ASSIGN_OR_RETURN(s->owner_, Owner::Start(
                                    std::move(store),
                                    {.lease = o.lease,
                                     .suspect = o.lease / 3,
                                     .max_failures = o.max_failures,
                                     .retry_backoff = o.retry_backoff,
                                     .strikes = o.strikes,
                                     .grants = o.grants},
                                    [planner = s->planner_.get()](const core::Core::Cursor& at) {
                                      planner->AskForSlice(at);
                                    },
                                    [planner = s->planner_.get()](const Owner::Question& question) {
                                      planner->AskForAdvice(question);
                                    }));
    s->owner_->OnFatal([raw = s.get()] { raw->AskToStop(); });
    s->planner_->Attach(s->owner_.get());
    s->edits_ = std::make_unique<Edits>(s->owner_.get(), db_path);
    ASSIGN_OR_RETURN(store::Reader reader, store::Reader::Open(db_path));
    const ServiceContext context{.owner = s->owner_.get(),
                                 .planner = s->planner_.get(),
                                 .desk = &s->desk_,
                                 .edits = s->edits_.get(),
                                 .reads = &s->reads_,
                                 .db_path = db_path,
                                 .version = PLUMB_VERSION,
                                 .lease = o.lease,
                                 .report_interval = o.report_interval,
                                 .blobs = o.blobs.quota_bytes > 0};
    if (o.blobs.quota_bytes > 0) {
      ASSIGN_OR_RETURN(s->blobs_, BlobServer::Start(s->owner_.get(), db_path, o.blobs));
    }
    s->workers_ = MakeWorkerService(context);
    s->sweeps_ = MakeSweepService(context, std::move(reader));
    s->suggesters_ = MakeSuggestService(context);
    if (!o.snapshots.dir.empty()) {
      std::filesystem::create_directories(o.snapshots.dir, error);
      if (error) {
        return absl::FailedPreconditionError(
            absl::StrCat("cannot make ", o.snapshots.dir, ": ", error.message()));
      }
    }
    if (!o.metrics.empty()) {
      ASSIGN_OR_RETURN(s->http_,
                       HttpServer::Start(o.metrics, [raw = s.get()](const std::string& path) {
                         return raw->Answer(path);
                       }));
    }
    RETURN_IF_ERROR(s->Listen(o.listen));
    s->snapshots_ = std::make_unique<Snapshots>(o.snapshots, db_path, &s->owner_->metrics());
    return std::unique_ptr<Server>(std::move(s));
  }

  ~ServerImpl() override {
    Shutdown();
    (void)Wait();
  }

  std::string address() const override { return address_; }
  std::string metrics_address() const override { return http_ ? http_->address() : ""; }

  void Shutdown() override { AskToStop(); }

  absl::Status Wait() override {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return stop_asked_; });
    }
    std::lock_guard lock(teardown_mutex_);
    if (!torn_down_) Teardown();
    torn_down_ = true;
    return owner_ ? owner_->fatal() : absl::OkStatus();
  }

 private:
  ServerImpl(std::string db_path, absl::Duration suggestion_stands)
      : db_path_(std::move(db_path)), desk_(absl::ToChronoMilliseconds(suggestion_stands)) {}

  // On the thread of the HTTP server.
  HttpServer::Reply Answer(const std::string& path) {
    if (path != "/metrics" && path != "/healthz") return {};
    auto said = std::make_shared<std::promise<std::string>>();
    auto text = std::make_shared<std::string>();
    owner_->Read(
        [text](const core::Core& core, core::Now now) { *text = ClusterExposition(core, now); },
        [said, text](absl::Status s) { said->set_value(s.ok() ? *text : ""); });
    std::future<std::string> future = said->get_future();
    if (future.wait_for(std::chrono::seconds(2)) != std::future_status::ready)
      return {.status = 503, .body = "the owner thread or the disk does not answer\n"};
    const std::string cluster = future.get();
    if (cluster.empty()) return {.status = 503, .body = "the server stops\n"};
    if (path == "/healthz") return {.status = 200, .body = "ok\n"};
    return {.status = 200,
            .type = "text/plain; version=0.0.4; charset=utf-8",
            .body = owner_->metrics().Exposition(cluster, PLUMB_VERSION)};
  }

  void AskToStop() {
    {
      std::lock_guard lock(mutex_);
      stop_asked_ = true;
    }
    changed_.notify_all();
  }

  absl::Status Listen(const std::string& listen) {
    static const bool plugins = [] {  // once a process
      grpc::EnableDefaultHealthCheckService(true);
      grpc::reflection::InitProtoReflectionServerBuilderPlugin();
      return true;
    }();
    (void)plugins;
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort(listen, grpc::InsecureServerCredentials(), &port);
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT,
                               0);  // two servers on one port: an error, not a lottery
    builder.RegisterService(workers_.get());
    builder.RegisterService(sweeps_.get());
    builder.RegisterService(suggesters_.get());
    if (blobs_) builder.RegisterService(blobs_->service());
    grpc_ = builder.BuildAndStart();
    if (grpc_ == nullptr || port == 0) {
      return absl::UnavailableError(
          absl::StrCat("cannot listen on ", listen, ": the port is taken; use port 0 for any"));
    }
    address_ = absl::StrCat(listen.substr(0, listen.rfind(':')), ":", port);
    return WriteAddress(db_path_ + ".address", address_);
  }

  void Teardown() {
    if (!address_.empty()) {
      std::error_code ignored;
      std::filesystem::remove(db_path_ + ".address", ignored);
    }
    // The owner answers everyone, held polls too; then gRPC has nothing to wait for.
    snapshots_.reset();
    http_.reset();
    planner_->Stop();
    desk_.Stop();
    if (edits_) edits_->Stop();
    if (owner_) owner_->Stop();
    if (blobs_) blobs_->Stop();
    reads_.Stop();
    if (grpc_) grpc_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(5));
  }

  const std::string db_path_;
  std::string address_;
  TaskThread reads_;
  SuggestionDesk desk_;
  std::unique_ptr<Planner> planner_;
  std::unique_ptr<Owner> owner_;
  std::unique_ptr<Edits> edits_;
  std::unique_ptr<v1::WorkerService::CallbackService> workers_;
  std::unique_ptr<v1::SweepService::CallbackService> sweeps_;
  std::unique_ptr<v1::SuggestService::CallbackService> suggesters_;
  std::unique_ptr<BlobServer> blobs_;
  std::unique_ptr<grpc::Server> grpc_;
  std::unique_ptr<HttpServer> http_;
  std::unique_ptr<Snapshots> snapshots_;

  std::mutex mutex_;
  std::condition_variable changed_;
  bool stop_asked_ = false;  // by mutex_
  std::mutex teardown_mutex_;
  bool torn_down_ = false;  // by teardown_mutex_
};

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Launch(const ServerOptions& options, PlanFn plan) {
  return ServerImpl::Create(options, std::move(plan));
}

}  // namespace plumb::coordinator
