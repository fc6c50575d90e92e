#include <clocale>
#include <cstring>

#include "app/cli.h"
#include "worker/agent.h"

int main(int argc, char** argv) {
  // The guard outlives the worker that starts it and is not for people: before anything else.
  if (argc > 1 && std::strcmp(argv[1], "__guard") == 0) return plumb::worker::RunGuard(argc, argv);
  if (argc > 1 && std::strcmp(argv[1], "__commands") == 0)
    return plumb::worker::RunCommands(argc, argv);
  return plumb::app::RunCli(argc, argv);
}
