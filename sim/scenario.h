// What a simulation is told: the cluster, the trials that users bring, and the faults. All of it
// follows from a seed, and all of it is a value, so that a failing run can be made smaller.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "coordinator/core/core.h"

namespace plumb::sim {

enum class FaultKind {
  kKillServer,      // kill -9; back after `length`
  kKillWorker,      // kill -9 of the agent; its trainers run on; back after `length`
  kStopWorker,      // SIGSTOP for `length`
  kCrashMachine,    // the worker's machine reboots: agent and trainers end; back after `length`
  kWipeMachine,     // the same, and its disk is empty
  kDrainWorker,     // SIGTERM: it checkpoints and leaves; back after `length`
  kKillTrainer,     // one of the worker's trainers dies
  kBadMachine,      // for `length`, every trial that starts there dies soon
  kPartition,       // no message either way for `length`
  kPartitionTo,     // none to the server
  kPartitionFrom,   // none from the server
  kSlowDisk,        // a commit takes `size` times as long, for `length`
  kFullDisk,        // commits fail for `length`
  kBrokenDisk,      // the next commit fails as lost data: the server stops; back after `length`
  kPutBack,         // server down, an earlier copy of the database in its place, up after `length`
  kPutBackAlone,    // the same on another machine: what lay beside the file is gone
  kClockJump,       // the server's wall clock jumps by `size` seconds
  kBadNetwork,      // for `length`, messages are lost and doubled with probability `size`, and late
  kCancelSweep,     // a user
  kCancelTrial,     // a user
  kRetryTrial,      // a user
  kPauseSweep,      // a user; resumed after `length`
  kPrioritise,      // a user: a sweep's priority becomes `size`
  kQuota,           // a user may have at most `size` slots, for `length`
  kDrainOnRequest,  // somebody drains a worker, and undoes it after `length`
};
inline constexpr int kFaultKinds = static_cast<int>(FaultKind::kDrainOnRequest) + 1;
absl::string_view Name(FaultKind kind);

struct Fault {
  absl::Duration at;
  FaultKind kind = FaultKind::kKillServer;
  int64_t target = 0;  // which worker, sweep or trial, modulo how many there are
  absl::Duration length;
  double size = 0;
};

struct Machine {
  int64_t slots = 1;
  double speed = 1;  // steps per second, times a trial's own
  std::string labels;
  int64_t memory_bytes = 0;
  std::string gang;  // those of one name reach each other
  // Announced at its start: then it is taken away, and comes back.
  absl::Duration life = absl::InfiniteDuration();
};

struct SweepPlan {
  absl::Duration at;
  std::string name;
  std::vector<std::string> keys;  // of its trials; equal keys are equal trials, also across sweeps
  int64_t slice = 50;
  std::string user;
  int64_t priority = 0;
};

// What trials are like. Which trial has which fate follows from its key.
struct Work {
  double mean_seconds = 600;  // of a trial on a machine of speed 1
  double diverges = 0.03, infeasible = 0.01, crashes = 0.02, out_of_memory = 0.01,
         kills_machine = 0.005;
  double exclusive = 0.02;  // has a timing stage
  double two_threads = 0.1;
  double bundles = 0;  // of trials that may share a trainer
  double alike = 0;    // of those, one kind that `alike_rows` of may
  int64_t alike_rows = 2;
  double gangs = 0;  // of trials that train on several ranks
  int64_t most_ranks = 2;
  double trunks = 0;   // of trials that begin from checkpoints of each other, in families
  double child = 0.3;  // has an evaluation after its training
  double special = 0;  // needs a machine with a label
  double memory = 0;   // mean GiB
};

struct Scenario {
  uint64_t seed = 1;
  std::vector<Machine> machines;
  std::vector<SweepPlan> sweeps;
  std::vector<Fault> faults;
  Work work;
  core::Options options;
  absl::Duration report_every = absl::Seconds(10);
  absl::Duration length = absl::Hours(2);     // faults end here; what is left must then drain
  absl::Duration patience = absl::Hours(12);  // and within this
  std::string sqlite_folder;                  // empty: in memory
  int64_t check_every = 1;                    // events: the core's own invariants; 0: never
};

struct Size {
  int64_t workers = 32;
  int64_t trials = 1000;
  absl::Duration length = absl::Hours(24);
  int64_t faults = 40;
};

// The scenario that `seed` names: its own mix of machines, work and faults.
Scenario Draw(uint64_t seed, const Size& size);

// One line a fault, for people and for a failing seed's report.
std::string Describe(const Fault& fault);

}  // namespace plumb::sim
