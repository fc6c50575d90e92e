// The life of a trainer process: steps the engine, takes commands between two steps, leaves on
// SIGTERM.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "trainer/protocol/engine.h"

namespace plumb::trainer {

inline constexpr int kProtocolVersion = 1;

// Exit codes (docs/trainer-protocol.md).
inline constexpr int kExitDone = 0;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitPreempted = 75;

using EngineFactory = std::function<std::unique_ptr<Engine>(EventSink&)>;

struct ServeOptions {
  std::string dir;
  std::string build;
  // Leaves with 0 after so long without a row and without a connection: a worker that never returns
  // leaves no processes.
  double orphan_seconds = 600;
};

// Serves until `shutdown`, SIGTERM or SIGINT; returns the exit code. Blocks those signals in this
// thread first, so that threads the engine starts inherit that and no code ever runs in a handler.
// What the engine throws out of Step() is thrown on: the process is no longer sound, and the guard
// writes down how it ended.
int Serve(const ServeOptions& options, const EngineFactory& make_engine);

// main() of a trainer program: `PROGRAM --dir DIR [--version] [--help]`.
int TrainerMain(int argc, char** argv, const std::string& program, const std::string& build,
                const EngineFactory& make_engine);

}  // namespace plumb::trainer
