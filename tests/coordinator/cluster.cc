#include "tests/coordinator/cluster.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <sstream>
#include <thread>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "trainer/spec/sha256.h"

namespace plumb::coordinator {

TempDir::TempDir() {
  std::string pattern = (std::filesystem::temp_directory_path() / "plumb-test-XXXXXX").string();
  path_ = mkdtemp(pattern.data());
}
TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

absl::StatusOr<sweeps::SweepPlan> PlanNoops(const std::string& text, const std::string& file_name) {
  std::istringstream in(text);
  int64_t n = 0, first = 0;
  if (!(in >> n)) {
    return absl::InvalidArgumentError(absl::StrCat(file_name, ":1:1: not a number\n", text, "\n^"));
  }
  in >> first;
  sweeps::SweepPlan plan{.name = "noops"};
  for (int64_t i = 0; i < n; ++i) {
    plan.cells.push_back({.name = absl::StrCat("i=", first + i), .axes_json = "{}"});
    sweeps::PlannedTrial t{
        .cell = i, .key = spec::Sha256Hex(absl::StrCat("noop ", first + i)), .fusion_key = "noop"};
    t.stages.push_back({.name = "noop", .kind = "noop", .target_step = 1});
    plan.trials.push_back(std::move(t));
  }
  return plan;
}

Client::Client(const std::string& address) {
  grpc::ChannelArguments args;
  args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  channel = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), args);
  sweeps = v1::SweepService::NewStub(channel);
  workers = v1::WorkerService::NewStub(channel);
}

int64_t Client::Submit(const std::string& text, const std::string& request_id) {
  v1::SubmitSweepRequest request;
  request.set_sweep_yaml(text);
  request.set_request_id(request_id);
  v1::SubmitSweepResponse response;
  grpc::ClientContext context;
  const grpc::Status s = sweeps->SubmitSweep(&context, request, &response);
  EXPECT_TRUE(s.ok()) << s.error_message();
  return response.sweep_id();
}

v1::Sweep Client::GetSweep(int64_t sweep) {
  v1::GetSweepRequest request;
  request.set_sweep_id(sweep);
  v1::GetSweepResponse response;
  grpc::ClientContext context;
  const grpc::Status s = sweeps->GetSweep(&context, request, &response);
  EXPECT_TRUE(s.ok()) << s.error_message();
  return response.sweep();
}

v1::Sweep Client::WaitFor(int64_t sweep, const std::string& state) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  v1::Sweep s = GetSweep(sweep);
  while (s.state() != state && std::chrono::steady_clock::now() < end) s = GetSweep(sweep);
  EXPECT_EQ(s.state(), state);
  return s;
}

std::vector<v1::Trial> Client::Trials(int64_t sweep) {
  v1::ListTrialsRequest request;
  request.set_sweep_id(sweep);
  request.set_page_size(10000);
  v1::ListTrialsResponse response;
  grpc::ClientContext context;
  const grpc::Status s = sweeps->ListTrials(&context, request, &response);
  EXPECT_TRUE(s.ok()) << s.error_message();
  return {response.trials().begin(), response.trials().end()};
}

ScriptedWorker::ScriptedWorker(Client& client, const std::string& name, int slots,
                               std::vector<v1::AttemptState> alive)
    : client_(&client) {
  v1::RegisterWorkerRequest request;
  request.set_worker_name(name);
  request.set_protocol_min(1);
  request.set_protocol_max(1);
  request.set_slots(slots);
  request.set_host("here");
  for (const v1::AttemptState& a : alive) *request.add_attempts() = a;
  grpc::ClientContext context;
  const grpc::Status s = client_->workers->RegisterWorker(&context, request, &registered);
  EXPECT_TRUE(s.ok()) << s.error_message();
}

grpc::Status ScriptedWorker::TryPoll(int64_t wait_ms) {
  v1::PollRequest request;
  request.set_session_id(registered.session_id());
  request.set_generation(generation);
  request.set_wait_ms(wait_ms);
  v1::PollResponse response;
  grpc::ClientContext context;
  const grpc::Status s = client_->workers->Poll(&context, request, &response);
  if (s.ok()) {
    generation = response.generation();
    assignments.assign(response.assignments().begin(), response.assignments().end());
    preempt.assign(response.preempt_stage_ids().begin(), response.preempt_stage_ids().end());
  }
  return s;
}

const std::vector<v1::Assignment>& ScriptedWorker::Poll(int64_t wait_ms) {
  const auto wanted = [this] {
    std::vector<std::tuple<int64_t, int64_t, bool>> all;
    for (const v1::Assignment& a : assignments) all.emplace_back(a.stage_id(), a.attempt(), true);
    for (const int64_t stage : preempt) all.emplace_back(stage, 0, false);
    return all;
  };
  const auto before = wanted();
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(wait_ms);
  // A new generation may say what the last one said, as when a stage ends that nobody holds any
  // more.
  for (;;) {
    const int64_t left = std::chrono::duration_cast<std::chrono::milliseconds>(
                             end - std::chrono::steady_clock::now())
                             .count();
    const grpc::Status s = TryPoll(std::max<int64_t>(left, 0));
    EXPECT_TRUE(s.ok()) << s.error_message();
    if (!s.ok() || left <= 0 || wanted() != before) return assignments;
  }
}

grpc::Status ScriptedWorker::Report(const v1::ReportRequest& request,
                                    v1::ReportResponse* response) {
  grpc::ClientContext context;
  return client_->workers->Report(&context, request, response);
}

v1::ReportResponse ScriptedWorker::SucceedAll() {
  v1::ReportRequest request;
  request.set_session_id(registered.session_id());
  request.set_generation(generation);
  for (const v1::Assignment& a : assignments) {
    *request.add_batches() = BatchOf(a, 1, 1, 1.0);
    *request.add_attempts() = StateOf(a, "succeeded", 1);
  }
  v1::ReportResponse response;
  const grpc::Status s = Report(request, &response);
  EXPECT_TRUE(s.ok()) << s.error_message();
  return response;
}

int ScriptedWorker::Work(int n) {
  int done = 0;
  while (done < n) {
    if (assignments.empty()) Poll();
    done += static_cast<int>(assignments.size());
    if (!assignments.empty()) SucceedAll();
    assignments.clear();
  }
  return done;
}

v1::AttemptState StateOf(const v1::Assignment& a, const std::string& outcome, int64_t through_seq) {
  v1::AttemptState s;
  s.set_incarnation(a.incarnation());
  s.set_stage_id(a.stage_id());
  s.set_attempt(a.attempt());
  s.set_outcome(outcome);
  s.set_through_seq(through_seq);
  return s;
}

v1::AttemptBatch BatchOf(const v1::Assignment& a, int64_t seq, int64_t step, double value) {
  v1::AttemptBatch b;
  b.set_incarnation(a.incarnation());
  b.set_stage_id(a.stage_id());
  b.set_attempt(a.attempt());
  b.set_first_seq(seq);
  b.set_last_seq(seq);
  v1::SeriesPoints* series = b.add_series();
  series->set_name("train/loss");
  series->set_layer(-1);
  series->set_definition_version(1);
  v1::Point* p = series->add_points();
  p->set_step(step);
  p->set_value(value);
  return b;
}

}  // namespace plumb::coordinator
