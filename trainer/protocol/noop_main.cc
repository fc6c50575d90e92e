// plumb-noop-trainer: the trainer's protocol without LibTorch, for tests and for measuring the
// orchestrator.
#include <cstdio>
#include <exception>

#include "trainer/protocol/serve.h"

int main(int argc, char** argv) {
  try {
    return plumb::trainer::TrainerMain(argc, argv, "plumb-noop-trainer", PLUMB_VERSION,
                                       plumb::trainer::MakeNoopEngine);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "plumb-noop-trainer: %s\n", e.what());
    return 1;
  }
}
