// What the core is rebuilt from: everything live in full, of the rest only what the core must
// recognise.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "domain/rows.h"

namespace plumb {

struct ClusterSnapshot {
  std::string uid;  // names the cluster, through all its incarnations
  int64_t incarnation = 1;
  int64_t starts = 1;  // times a server opened the file: the high part of every generation
  int64_t run = 0;     // names this start among all of all copies
  std::map<int64_t, absl::Duration> run_ends;  // of earlier ones: the last cluster time they said
  int64_t min_generation = 0;  // generations go on above it (a core rebuilt within one start)
  absl::Duration cluster_time;
  SweepId last_sweep;  // highest ids given so far
  TrialId last_trial;
  StageId last_stage;
  WorkerId last_worker;
  SessionId last_session;

  std::vector<SweepRow> sweeps;        // all, without their YAML
  std::vector<AdditionRow> additions;  // all, in (sweep, idx) order
  std::map<SweepId, int64_t> looks;    // how many; of sweeps that have any
  std::vector<TrialTree> trials;       // those with a live stage, all stages of each
  std::vector<SweepTrialRow> links;    // of those trials, in (sweep, idx) order
  std::vector<WorkerRow> workers;      // all
  std::vector<UserRow> users;          // all
  std::vector<AttemptRow> attempts;    // running
  std::vector<TrunkRow> trunks;        // of the prefix keys of those trials
};

}  // namespace plumb
