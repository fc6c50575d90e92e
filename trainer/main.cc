// plumb-trainer: trains what a worker asks for, with LibTorch.
#include <malloc.h>

#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>

#include "trainer/block_check.h"
#include "trainer/coord_check.h"
#include "trainer/host_memory.h"
#include "trainer/protocol/serve.h"
#include "trainer/ranks/rank_process.h"
#include "trainer/shape_cost.h"

#ifndef PLUMB_VERSION
#define PLUMB_VERSION "0.1.0"
#endif

int main(int argc, char** argv) {
  // Freed activations stay with the process: returning them would fault every page in again at each
  // step.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  plumb::trainer::ReuseHostMemory();
  // A peer that is gone is an error of the call, not the end of this process.
  std::signal(SIGPIPE, SIG_IGN);
  try {
    if (argc > 1 && std::strcmp(argv[1], plumb::trainer::kRankArgument) == 0)
      return plumb::trainer::RankMain(argc, argv);
    if (argc == 2 && std::strcmp(argv[1], "coordcheck") == 0)
      return plumb::trainer::CoordinateCheckMain();
    if (argc == 2 && std::strcmp(argv[1], "shape-cost") == 0)
      return plumb::trainer::ShapeCostMain();
    if (argc == 3 && std::strcmp(argv[1], "block-test") == 0)
      return plumb::trainer::BlockTestMain(argv[2]);
    return plumb::trainer::TrainerMain(argc, argv, "plumb-trainer", PLUMB_VERSION,
                                       plumb::trainer::MakeTorchEngine);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "plumb-trainer: %s\n", e.what());
    return 1;
  }
}
