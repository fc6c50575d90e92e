// Rows that are processes of others: the engine of `external: {command: …}` stages.
//
// The command is an argument list, never read by a shell. It runs in a folder of its own, with its
// job as one JSON object on stdin and in the file that PLUMB_JOB names, and in a process group that
// is killed with it. What it prints on stdout, a JSON object a line, is read as facts
// (docs/how-to/external-stages.md); every other line, and stderr, goes to the log.
//
//   {"step": 10, "values": {"val/loss": 3.2}}      points; without a step they are of the last one
//   {"checkpoint": "FOLDER", "step": 10}           a folder with files, which becomes the row's
//   {"record": {…}, "kind": "k", "name": "n", "index": 0}
//   {"outcome": "diverged", "cause": "…"}          or "infeasible", instead of a success
#pragma once

#include <memory>

#include "trainer/protocol/engine.h"

namespace plumb::trainer {

// One row at a time. `sink` must outlive it.
std::unique_ptr<Engine> MakeCommandEngine(EventSink& sink);

}  // namespace plumb::trainer
