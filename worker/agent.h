// The worker: registers with the coordinator, runs trainers, forwards their journals.
#pragma once

#include <atomic>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace plumb::worker {

struct WorkerOptions {
  std::string server;  // "127.0.0.1:PORT", or "file:PATH" to read the address from PATH each time
                       // it connects
  std::string name;    // "" : the host's name
  std::string dir;  // workspace: trainers, journals, checkpoints; one worker a workspace, by lock
  std::string data_root;     // prepared corpora ("" : data::DefaultRoot())
  std::string trainer_path;  // plumb-trainer ("" : beside this program)
  std::string guard_path;    // the program whose "__guard" command is the guard, and whose
                             // "__commands" runs commands ("" : this program)
  int64_t corpora_bytes = int64_t{50} << 30;  // that corpora from the server may take in `dir`
  int slots = 0;  // attempts at once; 0: one per core, or one where it has a GPU to itself
  bool shared_checkpoints = false;  // all workers see `dir`: checkpoints are not sent to the server
  std::vector<std::string> labels;  // that trials may ask for it by; "cuda" is added with a GPU
  // Whether sweeps may have it run commands (external: {command: …}), as the user it runs as.
  bool allow_commands = false;
  // Other trainer programs, by name (external: {trainer: …}).
  std::map<std::string, std::string> trainers;
  int gpu = -1;              // the one it has to itself, from 0; -1: the whole machine
  int64_t memory_bytes = 0;  // that trials may take; 0: nine tenths of the devices'
  // Where ranks on other machines reach this one's, and what they listen on: an address of this
  // machine. Empty: it takes no part in gangs, and nothing listens.
  std::string gang_address;
  int64_t until_unix_seconds =
      0;  // when its machine is taken from it, as a batch job's end; 0: never
  int exit_when_idle_seconds = 0;  // > 0: leave after so long without an assignment
};

// Runs until *stop, then drains: trainers checkpoint, their outcomes are reported, the session
// ends. Restarting it re-adopts live trainers. Returns an error only for what waiting does not mend
// (workspace in use, refused version).
absl::Status RunWorker(const WorkerOptions& options, const std::atomic<bool>* stop);

// The program that runs commands, as a trainer does (trainer/protocol/command_engine.h). Called as:
// PROGRAM __commands --dir DIR
int RunCommands(int argc, char** argv);

// The guard: starts the trainer of folder `dir`, waits for it and appends its exit to the journal.
// Returns the exit code for main. Called as: PROGRAM __guard DIR -- TRAINER ARGS…
int RunGuard(int argc, char** argv);

}  // namespace plumb::worker
