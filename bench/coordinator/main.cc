// The parts of the coordinator's benchmark; run.py puts them together. Everything is what a cluster
// runs: gRPC on loopback, SQLite with its syncs, one agent a worker with its own session and
// connection, a guard and a trainer process each.
//   plumb-coordinator-bench server DB                         the coordinator, until SIGTERM
//   plumb-coordinator-bench swarm SERVER DIR N TRAINER        N workers of one slot in one process,
//   until SIGTERM plumb-coordinator-bench submit SERVER FILE ID             submits, waits for the
//   end; prints {"seconds", …} plumb-coordinator-bench singles SERVER COUNT ID           COUNT
//   sweeps of one trial, one after another plumb-coordinator-bench __guard DIR -- TRAINER ARGS...
//   the guard
#include <grpcpp/grpcpp.h>
#include <signal.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "coordinator/server.h"
#include "plumb/v1/sweep_service.grpc.pb.h"
#include "worker/agent.h"

namespace plumb {
namespace {

using Clock = std::chrono::steady_clock;

double Seconds(Clock::duration d) { return std::chrono::duration<double>(d).count(); }
int64_t WallMicros() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

int Fail(const std::string& what) {
  std::fprintf(stderr, "plumb-coordinator-bench: %s\n", what.c_str());
  return 1;
}

void WaitForTerm(const sigset_t& set) {
  int signal = 0;
  sigwait(&set, &signal);
}

int RunServer(const std::string& db, const sigset_t& set) {
  auto server = coordinator::Server::Start({.db_path = db});
  if (!server.ok()) return Fail(std::string(server.status().message()));
  WaitForTerm(set);
  (*server)->Shutdown();
  const absl::Status status = (*server)->Wait();
  return status.ok() ? 0 : Fail(std::string(status.message()));
}

int RunSwarm(const std::string& server, const std::string& dir, int count,
             const std::string& trainer, const sigset_t& set) {
  std::atomic<bool> stop = false;
  std::atomic<int> failed = 0;
  std::vector<std::thread> workers;
  for (int i = 0; i < count; ++i) {
    workers.emplace_back([&, i] {
      const std::string name = "w" + std::to_string(i);
      const absl::Status status = worker::RunWorker({.server = server,
                                                     .name = name,
                                                     .dir = dir + "/" + name,
                                                     .trainer_path = trainer,
                                                     .slots = 1},
                                                    &stop);
      if (!status.ok()) failed += Fail(std::string(status.message()));
    });
  }
  WaitForTerm(set);
  stop = true;
  for (std::thread& worker : workers) worker.join();
  return failed == 0 ? 0 : 1;
}

class Client {
 public:
  explicit Client(const std::string& server) {
    std::string address = server;
    if (server.starts_with("file:")) std::ifstream(server.substr(5)) >> address;
    stub_ =
        v1::SweepService::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  }

  // 0: refused, and said why.
  int64_t Submit(const std::string& yaml, const std::string& id) {
    v1::SubmitSweepRequest request;
    request.set_sweep_yaml(yaml);
    request.set_request_id(id);
    request.set_file_name(id + ".yaml");
    v1::SubmitSweepResponse response;
    grpc::ClientContext context;
    const grpc::Status status = stub_->SubmitSweep(&context, request, &response);
    if (!status.ok()) Fail(status.error_message());
    return response.sweep_id();
  }

  // Waits until the sweep has completed, asking every `pause`.
  bool Await(int64_t sweep, std::chrono::milliseconds pause) {
    for (;;) {
      v1::GetSweepRequest request;
      request.set_sweep_id(sweep);
      v1::GetSweepResponse response;
      grpc::ClientContext context;
      if (!stub_->GetSweep(&context, request, &response).ok()) return false;
      if (response.sweep().state() == "completed") return true;
      if (response.sweep().state() == "cancelled") return false;
      std::this_thread::sleep_for(pause);
    }
  }

 private:
  std::unique_ptr<v1::SweepService::Stub> stub_;
};

int RunSubmit(const std::string& server, const std::string& file, const std::string& id) {
  std::stringstream yaml;
  yaml << std::ifstream(file).rdbuf();
  Client client(server);
  const int64_t wall = WallMicros();
  const Clock::time_point begin = Clock::now();
  const int64_t sweep = client.Submit(yaml.str(), id);
  const double submitted = Seconds(Clock::now() - begin);
  if (sweep == 0 || !client.Await(sweep, std::chrono::milliseconds(20)))
    return Fail("the sweep did not complete");
  std::printf("{\"sweep\": %lld, \"wall_us\": %lld, \"submit_seconds\": %.6f, \"seconds\": %.6f}\n",
              static_cast<long long>(sweep), static_cast<long long>(wall), submitted,
              Seconds(Clock::now() - begin));
  return 0;
}

int RunSingles(const std::string& server, int count, const std::string& id) {
  Client client(server);
  for (int i = 0; i < count; ++i) {
    const std::string name = id + "-" + std::to_string(i);
    // A no-op is keyed by its sweep's name too: an equal one would be shared, not run.
    const std::string yaml = "sweep: " + name + "\nstages: {run: {noop: {}}}\n";
    const int64_t wall = WallMicros();
    const int64_t sweep = client.Submit(yaml, name);
    if (sweep == 0 || !client.Await(sweep, std::chrono::milliseconds(5)))
      return Fail("a single trial did not complete");
    std::printf("{\"sweep\": %lld, \"wall_us\": %lld}\n", static_cast<long long>(sweep),
                static_cast<long long>(wall));
  }
  return 0;
}

}  // namespace
}  // namespace plumb

int main(int argc, char** argv) {
  const std::vector<std::string> args(argv, argv + argc);
  const std::string mode = argc > 1 ? args[1] : "";
  if (mode == "__guard") return plumb::worker::RunGuard(argc, argv);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  if (mode == "server" && argc == 3) return plumb::RunServer(args[2], set);
  if (mode == "swarm" && argc == 6)
    return plumb::RunSwarm(args[2], args[3], std::atoi(argv[4]), args[5], set);
  if (mode == "submit" && argc == 5) return plumb::RunSubmit(args[2], args[3], args[4]);
  if (mode == "singles" && argc == 5)
    return plumb::RunSingles(args[2], std::atoi(argv[3]), args[4]);
  std::fprintf(stderr, "see bench/coordinator/main.cc; run script/bench coordinator\n");
  return 2;
}
