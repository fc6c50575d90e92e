// A real server in process, a client of it, and a worker that does what a test says.
#pragma once

#include <grpcpp/grpcpp.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "coordinator/launch.h"
#include "plumb/v1/sweep_service.grpc.pb.h"
#include "plumb/v1/worker_service.grpc.pb.h"

namespace plumb::coordinator {

// A folder of its own, gone with the test.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

// "N [first]" plans N trials of one no-op stage, keyed by their number from `first` on; anything
// else is an error.
absl::StatusOr<sweeps::SweepPlan> PlanNoops(const std::string& text, const std::string& file_name);

class Client {
 public:
  explicit Client(const std::string& address);
  // Each call dies with the test's message when it fails.
  int64_t Submit(const std::string& text, const std::string& request_id);
  v1::Sweep GetSweep(int64_t sweep);
  // Asks until the sweep's state is `state`; at most 20 s.
  v1::Sweep WaitFor(int64_t sweep, const std::string& state);
  std::vector<v1::Trial> Trials(int64_t sweep);

  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::SweepService::Stub> sweeps;
  std::unique_ptr<v1::WorkerService::Stub> workers;
};

// One session of a scripted worker.
class ScriptedWorker {
 public:
  ScriptedWorker(Client& client, const std::string& name, int slots,
                 std::vector<v1::AttemptState> alive = {});
  // Goes on with the same session, as after a restart of the server.
  void MoveTo(Client& client) { client_ = &client; }
  grpc::Status TryPoll(int64_t wait_ms);
  // The desired state, as soon as it differs from the last one seen (or after `wait_ms`).
  const std::vector<v1::Assignment>& Poll(int64_t wait_ms = 5000);
  // Reports every assignment as succeeded with one point at its last step; returns the acks.
  v1::ReportResponse SucceedAll();
  grpc::Status Report(const v1::ReportRequest& request, v1::ReportResponse* response);
  // Polls and succeeds until `n` attempts were done.
  int Work(int n);

  v1::RegisterWorkerResponse registered;
  int64_t generation = 0;
  std::vector<v1::Assignment> assignments;
  std::vector<int64_t> preempt;  // stages asked to end with a checkpoint

 private:
  Client* client_;
};

v1::AttemptState StateOf(const v1::Assignment& a, const std::string& outcome = "",
                         int64_t through_seq = 0);
// Point (step, value) of train/loss as journal event `seq`.
v1::AttemptBatch BatchOf(const v1::Assignment& a, int64_t seq, int64_t step, double value);

}  // namespace plumb::coordinator
