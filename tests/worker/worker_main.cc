// The worker as a program of its own, and its own guard: what `plumb worker` is, without the rest
// of plumb.
//   plumb-test-worker SERVER DIR NAME SLOTS TRAINER
//   plumb-test-worker __guard DIR -- TRAINER ARGS...
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "worker/agent.h"

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "__guard") == 0) return plumb::worker::RunGuard(argc, argv);
  if (argc > 1 && std::strcmp(argv[1], "__commands") == 0)
    return plumb::worker::RunCommands(argc, argv);
  if (argc != 6) return 2;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  static std::atomic<bool> stop = false;
  std::thread([set] {
    int signal = 0;
    sigwait(&set, &signal);
    stop = true;
  }).detach();
  const absl::Status status = plumb::worker::RunWorker({.server = argv[1],
                                                        .name = argv[3],
                                                        .dir = argv[2],
                                                        .trainer_path = argv[5],
                                                        .slots = std::atoi(argv[4])},
                                                       &stop);
  if (!status.ok()) std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  return status.ok() ? 0 : 1;
}
