// plumb-trainer: trains what a worker asks for, with LibTorch.
#include <cstdio>
#include <exception>

#include "trainer/protocol/serve.h"

#ifndef PLUMB_VERSION
#define PLUMB_VERSION "0.1.0"
#endif

int main(int argc, char** argv) {
  try {
    return plumb::trainer::TrainerMain(argc, argv, "plumb-trainer", PLUMB_VERSION,
                                       plumb::trainer::MakeTorchEngine);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "plumb-trainer: %s\n", e.what());
    return 1;
  }
}
