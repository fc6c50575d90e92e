// The trainer of external commands: the protocol of every trainer, with a process of others as its
// row.
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "trainer/protocol/command_engine.h"
#include "trainer/protocol/serve.h"
#include "worker/agent.h"

#ifndef PLUMB_VERSION
#define PLUMB_VERSION "0.1.0"
#endif

namespace plumb::worker {

int RunCommands(int argc, char** argv) {
  std::vector<char*> args = {argv[0]};
  args.insert(args.end(), argv + 2, argv + argc);
  try {
    return trainer::TrainerMain(static_cast<int>(args.size()), args.data(),
                                std::string(argv[0]) + " __commands", PLUMB_VERSION,
                                trainer::MakeCommandEngine);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "plumb __commands: %s\n", e.what());
    return 1;
  }
}

}  // namespace plumb::worker
