// The gRPC services: validate, convert, post; answer when the owner says that it is committed.
#pragma once

#include <memory>
#include <string>

#include "absl/time/time.h"
#include "coordinator/edits.h"
#include "coordinator/owner.h"
#include "coordinator/planner.h"
#include "coordinator/task_thread.h"
#include "plumb/v1/suggest_service.grpc.pb.h"
#include "plumb/v1/sweep_service.grpc.pb.h"
#include "plumb/v1/worker_service.grpc.pb.h"
#include "store/read.h"

namespace plumb::coordinator {

class SuggestionDesk;

struct ServiceContext {
  Owner* owner = nullptr;  // these four outlive the services
  Planner* planner = nullptr;
  SuggestionDesk* desk = nullptr;
  Edits* edits = nullptr;
  TaskThread* reads = nullptr;  // runs what reads the database
  std::string db_path;
  std::string version;
  absl::Duration lease;
  absl::Duration report_interval;
  bool blobs = false;  // workers may send checkpoints
};

std::unique_ptr<v1::WorkerService::CallbackService> MakeWorkerService(
    const ServiceContext& context);
// `reader` is used on the thread of context.reads only.
std::unique_ptr<v1::SweepService::CallbackService> MakeSweepService(const ServiceContext& context,
                                                                    store::Reader reader);

std::unique_ptr<v1::SuggestService::CallbackService> MakeSuggestService(
    const ServiceContext& context);

grpc::Status ToGrpc(const absl::Status& status);

}  // namespace plumb::coordinator
