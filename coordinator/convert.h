// Between protos and the domain: checks what comes in, with limits on everything, and fills what
// goes out.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "coordinator/core/core.h"
#include "plumb/v1/sweep_service.pb.h"
#include "plumb/v1/worker_service.pb.h"
#include "store/read.h"

namespace plumb::coordinator {

inline constexpr int kProtocol = 1;

// 1 to 64 letters, digits and characters of `also`.
bool IsWord(const std::string& text, absl::string_view also);
// InvalidArgument names the field and the limit.
absl::StatusOr<core::RegisterWorker> FromProto(const v1::RegisterWorkerRequest& request);
absl::StatusOr<core::Report> FromProto(const v1::ReportRequest& request);

void ToProto(const core::Grant& grant, v1::Assignment* out);
void ToProto(const store::EventView& v, v1::Event* out);
void ToProto(const store::EventView& view, v1::Event* out);
void ToProto(const core::Core::UserView& view, v1::User* out);
void ToProto(const store::SweepView& view, v1::Sweep* out);
// A list leaves out what a stage's line can do without.
enum class TrialParts { kList, kAll };
void ToProto(const store::TrialView& view, v1::Trial* out, TrialParts parts = TrialParts::kList);
void ToProto(const core::Core::WorkerView& view, v1::Worker* out);

}  // namespace plumb::coordinator
