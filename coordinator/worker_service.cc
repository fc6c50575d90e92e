#include <algorithm>
#include <utility>

#include "coordinator/convert.h"
#include "coordinator/services.h"

namespace plumb::coordinator {
namespace {

constexpr int64_t kMaxWaitMs = 30'000;

class WorkerServiceImpl final : public v1::WorkerService::CallbackService {
 public:
  explicit WorkerServiceImpl(const ServiceContext& context) : c_(context) {}

  grpc::ServerUnaryReactor* RegisterWorker(grpc::CallbackServerContext* context,
                                           const v1::RegisterWorkerRequest* request,
                                           v1::RegisterWorkerResponse* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    absl::StatusOr<core::RegisterWorker> event = FromProto(*request);
    if (!event.ok()) {
      reactor->Finish(ToGrpc(event.status()));
      return reactor;
    }
    if (!request->known_cluster().empty() && request->known_cluster() != c_.owner->cluster()) {
      event->known_incarnation = 0;
      event->known = {};
      event->attempts.clear();
    }
    c_.owner->Post(
        *std::move(event), [this, reactor, response](absl::StatusOr<core::Answer> answer) {
          if (answer.ok()) {
            const auto& r = std::get<core::Registered>(*answer);
            response->set_cluster(c_.owner->cluster());
            response->set_cluster_time_us(absl::ToInt64Microseconds(c_.owner->committed()));
            response->set_run(c_.owner->run());
            response->set_session_id(r.session.value);
            response->set_incarnation(r.incarnation);
            response->set_worker_id(r.worker.value);
            response->set_protocol(kProtocol);
            response->set_report_interval_ms(Interval());
            response->set_lease_ms(absl::ToInt64Milliseconds(c_.lease));
            response->set_blobs(c_.blobs);
          }
          reactor->Finish(ToGrpc(answer.status()));
        });
    return reactor;
  }

  grpc::ServerUnaryReactor* Report(grpc::CallbackServerContext* context,
                                   const v1::ReportRequest* request,
                                   v1::ReportResponse* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    absl::StatusOr<core::Report> event = FromProto(*request);
    if (event.ok() && IsOther(request->cluster())) event = OfAnotherCluster();
    if (!event.ok()) {
      reactor->Finish(ToGrpc(event.status()));
      return reactor;
    }
    c_.owner->Post(
        *std::move(event), [this, reactor, response](absl::StatusOr<core::Answer> answer) {
          if (answer.ok()) {
            for (const core::Ack& a : std::get<core::Reported>(*answer).acks) {
              v1::BatchAck* ack = response->add_acks();
              ack->set_stage_id(a.attempt.stage.value);
              ack->set_attempt(a.attempt.number);
              ack->set_through_seq(a.through_seq);
              ack->set_fenced(a.fenced);
            }
            response->set_report_interval_ms(Interval());
            response->set_cluster_time_us(absl::ToInt64Microseconds(c_.owner->committed()));
            response->set_run(c_.owner->run());
          }
          reactor->Finish(ToGrpc(answer.status()));
        });
    return reactor;
  }

  grpc::ServerUnaryReactor* Poll(grpc::CallbackServerContext* context,
                                 const v1::PollRequest* request,
                                 v1::PollResponse* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    if (IsOther(request->cluster())) {
      reactor->Finish(ToGrpc(OfAnotherCluster()));
      return reactor;
    }
    const absl::Duration wait =
        absl::Milliseconds(std::clamp<int64_t>(request->wait_ms(), 0, kMaxWaitMs));
    c_.owner->Poll(SessionId{request->session_id()}, request->generation(), wait,
                   [reactor, response](absl::StatusOr<Owner::Desired> desired) {
                     if (desired.ok()) {
                       response->set_generation(desired->generation);
                       for (const core::Grant& g : desired->grants) {
                         ToProto(g, response->add_assignments());
                         if (g.preempt) response->add_preempt_stage_ids(g.attempt.stage.value);
                       }
                     }
                     reactor->Finish(ToGrpc(desired.status()));
                   });
    return reactor;
  }

 private:
  int64_t Interval() const {
    return absl::ToInt64Milliseconds(c_.owner->ReportInterval(c_.report_interval, c_.lease));
  }
  bool IsOther(const std::string& cluster) const {
    return !cluster.empty() && cluster != c_.owner->cluster();
  }
  static absl::Status OfAnotherCluster() {
    return absl::NotFoundError("the session is of another cluster; register again");
  }

  const ServiceContext c_;
};

}  // namespace

std::unique_ptr<v1::WorkerService::CallbackService> MakeWorkerService(
    const ServiceContext& context) {
  return std::make_unique<WorkerServiceImpl>(context);
}

grpc::Status ToGrpc(const absl::Status& s) {
  if (s.ok()) return grpc::Status::OK;
  return grpc::Status(static_cast<grpc::StatusCode>(s.code()), std::string(s.message()));
}

}  // namespace plumb::coordinator
