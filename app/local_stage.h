// One stage, run by a trainer of its own on this machine: no server, no worker, no database.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "app/records.h"
#include "trainer/protocol/engine.h"
#include "trainer/spec/trial_spec.h"

namespace plumb::app {

struct LocalStage {
  std::string name, kind, settings_json = "{}";  // settings: canonical
  spec::TrialSpec config;                        // resolved
  trainer::CheckpointRef checkpoint;             // whose weights it begins with
  std::string data_dir;                          // a prepared corpus
  int64_t threads = 1;
  std::string trainer;  // program
};

// What it said, in the order in which it did.
struct LocalResult {
  std::string engine;  // "torch 2.13.0"
  std::vector<trainer::PointValue> points;
  std::vector<Record> records;
  struct Documents {
    std::string split;
    std::vector<trainer::DocumentScore> scores;
  };
  std::vector<Documents> documents;
  nlohmann::json summary = nlohmann::json::object();  // seconds, memory
};

// Runs it with `dir`, a folder that is there, as the trainer's own. Tells on stderr how long it has
// been at work. Signals must be blocked (app/signals.h); SIGINT and SIGTERM end it as Cancelled. No
// process is left when this returns. Errors: FailedPrecondition for what the model cannot do
// (infeasible), Internal for a failure, with the end of the trainer's log where it crashed.
absl::StatusOr<LocalResult> RunLocalStage(const LocalStage& stage, const std::string& dir);

// Kills the trainer that runs with `dir` as its own, with all that it started; nothing to do where
// none does.
void KillTrainer(const std::string& dir);

}  // namespace plumb::app
