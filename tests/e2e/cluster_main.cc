// Coordinator and worker with the short times a test of faults needs, each a process of its own
// that can be killed.
//   plumb-e2e server DB DATA_ROOT [no-blobs]
//   plumb-e2e worker SERVER DIR SLOTS TRAINER DATA_ROOT [NAME [GANG_ADDRESS]]
//   plumb-e2e submit SERVER FILE REQUEST_ID               prints the sweep's id; may be sent again
//   plumb-e2e count KIND < CONFIG                         measurements a stage that succeeds leaves
//   (trainer/measure_plan.h) plumb-e2e __guard DIR -- TRAINER ARGS...
#include <grpcpp/grpcpp.h>
#include <signal.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "coordinator/server.h"
#include "plumb/v1/sweep_service.grpc.pb.h"
#include "trainer/measure_plan.h"
#include "trainer/spec/parse.h"
#include "worker/agent.h"

namespace plumb {
namespace {

int Fail(const std::string& what) {
  std::fprintf(stderr, "plumb-e2e: %s\n", what.c_str());
  return 1;
}

int RunServer(const std::string& db, const std::string& data_root, bool blobs,
              const sigset_t& set) {
  auto server =
      coordinator::Server::Start({.db_path = db,
                                  .data_root = data_root,
                                  .lease = absl::Seconds(5),
                                  .report_interval = absl::Milliseconds(200),
                                  .max_failures = 1000,  // every failure here is the test's doing
                                  .strikes = 1000,
                                  .retry_backoff = absl::Milliseconds(50),
                                  .blobs = {.quota_bytes = blobs ? int64_t{1} << 30 : 0,
                                            .grace = absl::Seconds(5),
                                            .collect_every = absl::Milliseconds(300)}});
  if (!server.ok()) return Fail(std::string(server.status().message()));
  // It ends by itself too: a disk that fails is fatal.
  std::thread([set, raw = server->get()] {
    int signal = 0;
    sigwait(&set, &signal);
    raw->Shutdown();
  }).detach();
  const absl::Status status = (*server)->Wait();
  if (!status.ok()) std::_Exit(Fail(std::string(status.message())));
  (*server)->Shutdown();
  return 0;
}

int RunWorker(const worker::WorkerOptions& options, const sigset_t& set) {
  static std::atomic<bool> stop = false;
  std::thread([set] {
    int signal = 0;
    sigwait(&set, &signal);
    stop = true;
  }).detach();
  const absl::Status status = worker::RunWorker(options, &stop);
  return status.ok() ? 0 : Fail(std::string(status.message()));
}

int Submit(const std::string& server, const std::string& file, const std::string& id) {
  std::string address;
  std::ifstream(server.substr(5)) >> address;
  std::stringstream yaml;
  yaml << std::ifstream(file).rdbuf();
  v1::SubmitSweepRequest request;
  request.set_sweep_yaml(yaml.str());
  request.set_request_id(id);
  request.set_file_name(file);
  v1::SubmitSweepResponse response;
  grpc::ClientContext context;
  const grpc::Status status =
      v1::SweepService::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()))
          ->SubmitSweep(&context, request, &response);
  if (!status.ok()) return Fail(status.error_message());
  std::printf("%lld\n", static_cast<long long>(response.sweep_id()));
  return 0;
}

int Count(const std::string& kind) {
  if (kind != "pretrain") return Fail("no closed form for stages of kind " + kind);
  spec::TrialSpec spec;
  const std::string config(std::istreambuf_iterator<char>(std::cin), {});
  const auto errors = spec::ParseResolved(config, &spec);
  if (!errors.empty()) return Fail(spec::Format(errors));
  std::printf("%lld\n", static_cast<long long>(trainer::CountPoints(spec, /*with_bytes=*/true)));
  return 0;
}

}  // namespace
}  // namespace plumb

int main(int argc, char** argv) {
  const std::vector<std::string> args(argv, argv + argc);
  const std::string mode = argc > 1 ? args[1] : "";
  if (mode == "__guard") return plumb::worker::RunGuard(argc, argv);
  if (mode == "__commands") return plumb::worker::RunCommands(argc, argv);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  if (mode == "server" && (argc == 4 || argc == 5))
    return plumb::RunServer(args[2], args[3], argc == 4, set);
  if (mode == "worker" && argc >= 7 && argc <= 9) {
    return plumb::RunWorker({.server = args[2],
                             .name = argc >= 8 ? args[7] : "w",
                             .dir = args[3],
                             .data_root = args[6],
                             .trainer_path = args[5],
                             .slots = std::atoi(argv[4]),
                             .gang_address = argc == 9 ? args[8] : ""},
                            set);
  }
  if (mode == "submit" && argc == 5) return plumb::Submit(args[2], args[3], args[4]);
  if (mode == "count" && argc == 3) return plumb::Count(args[2]);
  return 2;
}
