// What happens to the core, and what it answers: plain values.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "domain/changes.h"
#include "domain/rows.h"

namespace plumb::core {

// Cluster time decides; wall time is only written down for people.
struct Now {
  absl::Duration cluster;
  int64_t wall_us = 0;
};

// Cluster time as a start of a server told it, after a commit.
struct Moment {
  int64_t run = 0;  // ClusterSnapshot::run; 0: told by a server of an older release
  absl::Duration cluster;
};

// ---- events ----

// A planned sweep. The same request_id and request_hash answer with the sweep made before; the same
// request_id with another hash is an error.
struct SubmitSweep {
  SweepRow sweep;  // id, state and cursor are the core's to set
};

struct NewTrial {
  TrialRow trial;
  std::vector<StageRow> stages;      // parents before children; ids are the core's
  std::vector<std::string> parents;  // by stage: its parent's name, "" for a root
  int64_t cell_idx = 0;
  int64_t replicate = 0;
  int64_t aa = 0;
  int64_t tune = 0;
};

// Trials found on disk, by key (MaterializeSlice) or by id (CancelTrial, RetryTrial). Looked up
// while the core is pinned, after every earlier commit; what the core has in memory goes before it.
using TrialsByKey = std::map<std::string, TrialTree>;

// Trials [from, from + trials.size()) of a sweep's plan and the cells first used by them. Ignored
// unless `from` is the sweep's cursor, so that a slice may come twice.
struct MaterializeSlice {
  SweepId sweep;
  int64_t from = 0;
  std::vector<CellRow> cells;
  std::shared_ptr<const std::vector<NewTrial>>
      trials;  // shared with the replay of a failed commit; immutable
  TrialsByKey known;
  std::vector<TrunkRow> trunks;  // looked up with them, of their prefix keys
};

// What a sweep's advisor decided: trials that it gains beyond its plan and whether more may come,
// what its cells' tuning came to, and who of its trials goes on. All of it may come twice: an
// addition whose name the sweep has is not made again, verdicts say what is to hold. Looks that do
// not continue those that the sweep has were made of an older state: then nothing of the event
// holds.
struct AdviseSweep {
  struct Addition {
    std::string name;
    std::string payload_json;
    int64_t trials = 0;
    std::string why;
  };
  struct Tuned {
    int64_t cell_idx = 0;
    std::string flags_json, tuned_json;
  };
  // Of a trial that has not ended.
  struct Verdict {
    TrialId trial;
    bool stop = false;        // it ends, unless another sweep waits for it
    int64_t until_step = -1;  // else it goes on to there; -1: to its end
    std::string reason;
    // Of one that shares no prefix: the checkpoint of this step is kept, since another begins from
    // it; 0: none.
    int64_t keep_step = 0;
  };
  SweepId sweep;
  std::vector<Addition> additions;
  int64_t additions_before = -1;  // that the sweep had for who was asked; with others nothing holds
  std::vector<Tuned> tuned;
  int64_t looks_before = 0;
  std::vector<LookRow> looks;  // without sweep and seq
  std::vector<Verdict> verdicts;
  bool open = false;
  int64_t seen = -1;  // Core::Due::seen of who was asked; -1: nobody was
};

// The plan of a sweep that has trials to come cannot be made again after a restart (a corpus is
// gone): it ends as cancelled.
struct AbandonSweep {
  SweepId sweep;
  std::string reason;
};

// An attempt as its worker sees it.
struct AttemptReport {
  int64_t incarnation = 0;
  AttemptId attempt;
  int64_t step = 0;
  std::optional<Outcome> outcome;
  int64_t through_seq = 0;
  std::string cause;
  std::string log_tail;
  std::string summary_json = "{}";
  bool checkpoint_gone = false;  // it failed because the checkpoint to go on from is not there
  // Of the worker with rank 0, of a gang: where the others find it, "HOST:PORT", and what they
  // prove with that they are of its trial. Said again in each report.
  std::string rendezvous, secret;
};

struct RegisterWorker {
  WorkerRow worker;  // name, host, slots, build, devices, labels, memory
  int64_t known_incarnation = 0;
  Moment known;                         // the latest that it heard under that incarnation
  std::vector<AttemptReport> attempts;  // still at the worker
  absl::Duration remaining = absl::InfiniteDuration();  // until its machine is taken from it
};

struct Report {
  SessionId session;
  int64_t generation = 0;
  int64_t known_incarnation = 0;
  Moment known;
  std::vector<AttemptReport> attempts;
  std::vector<MeasurementBatchPtr> batches;
  bool draining = false;
  absl::Duration remaining = absl::InfiniteDuration();
};

struct CancelSweep {
  SweepId sweep;
};
// What is running of a paused sweep is asked for a checkpoint and its end, unless another sweep
// that is not paused waits for it too.
struct EditSweep {
  SweepId sweep;
  std::optional<bool> paused;
  std::optional<int64_t> priority;
};
// A drained worker gives back what it has, by checkpoint, and takes nothing until that is undone.
struct EditWorker {
  std::string name;
  bool drain = false;
};
struct EditUser {
  std::string name;
  std::optional<double> weight;
  std::optional<int64_t> max_slots;
};
struct CancelTrial {
  TrialId trial;
  std::optional<TrialTree> known;
};
struct RetryTrial {
  TrialId trial;
  std::optional<TrialTree> known;
  std::vector<SweepTrialRow> links;  // the sweeps it belongs to
  std::vector<TrunkRow> trunks;      // of its prefix keys
  // Which ends are taken back; empty: failed, cancelled, stopped.
  std::vector<StageState> from = {};
  std::string user = "";
  std::string stage = "";  // this one, and what was cancelled because of it; "": all that ended so
};
// A trial, finished or not, gains a stage, unless it has the same already.
struct AddStage {
  TrialId trial;
  StageRow stage;  // name, kind, settings, target, memory, labels; what it needs beside that and
                   // its place in line are those of the trial's first stage
  std::string parent;  // the stage that it follows; "": the first
  std::optional<TrialTree> known;
  std::vector<SweepTrialRow> links;
};

// A user's edit of a sweep, running or over: trials that it gains, and cells that it loses, none of
// whose trials has begun. All of it holds or nothing. The same name and payload answer as before.
struct ExtendSweep {
  struct Cell {
    int64_t idx = 0;
    std::string name, axes_json;
  };
  struct Removed {
    int64_t cell_idx = 0;
    std::string name;
    std::vector<TrialId> trials;
  };
  SweepId sweep;
  AdditionRow addition;          // sweep and idx are the core's to set
  int64_t additions_before = 0;  // that it was made for; Aborted when there are more meanwhile
  std::vector<Cell> renamed;
  std::vector<Removed> removed;
  std::optional<int64_t> priority;
  bool open = false;  // more trials follow from results
  bool more = false;  // so it may go on though it gains none by this: of a search
  std::string user;
  std::string what;  // in words
};

// Tags and a note of a sweep, or of a trial.
struct Annotate {
  SweepId sweep;
  TrialId trial;
  std::optional<TrialTree> known;  // of the trial
  std::vector<std::string> add, remove;
  std::optional<std::string> note;
  std::string user;
};

// Trials [from, from + trials.size()) of an imported sweep, with their results. Those whose key is
// there already are shared as they are. Ignored unless `from` is the sweep's cursor.
struct ImportTrials {
  struct Imported {
    NewTrial trial;                            // stages with the states in which they ended
    std::vector<std::string> called;           // by stage: what the sweep calls it; none: its name
    std::vector<MeasurementBatchPtr> results;  // by stage
    bool foreign = false;
    std::string origin_json;
  };
  SweepId sweep;
  int64_t from = 0;
  std::vector<CellRow> cells;
  std::shared_ptr<const std::vector<Imported>> trials;
  TrialsByKey known;
};

// Removes a sweep that has ended: up to `limit` of its places for trials, or, where `last` says
// that none is left, the sweep. What its trials hold is PurgeTrial's to remove.
struct RemoveSweep {
  SweepId sweep;
  int64_t limit = 0;
  bool last = false;
  std::string user;
};
// The places of a trial in sweeps that have all ended.
struct RemoveTrial {
  TrialId trial;
  std::optional<TrialTree> known;
  std::vector<SweepTrialRow> links;
  std::string user;
};
// Of a trial without places: up to `limit` rows.
struct PurgeTrial {
  TrialId trial;
  int64_t limit = 0;
};

// An attempt whose facts the database refuses: ends as failed, without taking others with it.
struct QuarantineAttempts {
  std::vector<AttemptId> attempts;
  std::string cause;
};

// Whose trunks are looked up on disk with it. Those of a trial that is found there, of a retry, are
// in its stages.
std::set<std::string> PrefixKeysOf(const MaterializeSlice& slice);
std::set<std::string> PrefixKeysOf(const RetryTrial& retry);

// Time has passed: judges leases and back-offs. The inbox is empty when it comes.
struct Tick {};

using Event = std::variant<SubmitSweep, MaterializeSlice, AdviseSweep, AbandonSweep, RegisterWorker,
                           Report, CancelSweep, CancelTrial, RetryTrial, AddStage, EditSweep,
                           EditWorker, EditUser, ExtendSweep, Annotate, ImportTrials, RemoveSweep,
                           RemoveTrial, PurgeTrial, QuarantineAttempts, Tick>;

// ---- answers ----

struct Submitted {
  SweepId sweep;
  int64_t trials = 0;
  bool repeated = false;
};
struct Registered {
  SessionId session;
  int64_t incarnation = 0;
  WorkerId worker;
};
struct Ack {
  AttemptId attempt;
  int64_t through_seq = 0;
  bool fenced = false;
};
struct Reported {
  std::vector<Ack> acks;
};
struct Counted {
  int64_t stages = 0;
};
struct StageAdded {
  std::string name;  // with -2 where another stage of the trial has its name
  bool is_new = false;
  bool retried = false;  // it was there, and had failed or was cancelled
};
struct Extended {
  int64_t trials = 0;            // gained
  int64_t cancelled_stages = 0;  // of cells that it lost
  bool repeated = false;
};
using Answer =
    std::variant<std::monostate, Submitted, Registered, Reported, Counted, StageAdded, Extended>;

struct Effects {
  std::vector<Change> changes;  // to be committed in one transaction, in order
  absl::StatusOr<Answer> answer = Answer{};
  std::vector<WorkerId> woken;  // workers whose desired state changed
};

// One entry of a worker's desired state.
struct Grant {
  int64_t incarnation = 0;
  AttemptId attempt;
  TrialId trial;
  std::string kind;
  std::string config_json;
  std::string settings_json;
  std::string fusion_key;
  int64_t until_step = -1;
  std::string checkpoint_path, checkpoint_digest;
  int64_t checkpoint_step = 0;
  bool resume = false;
  bool exclusive = false;
  int64_t micro_batch = 0;  // sequences; 0: as the config says
  int64_t bundle = 0;       // grants of one bundle share a trainer
  int64_t bundle_rows = 1;  // for so many rows at most
  bool preempt = false;     // to end with a checkpoint
  int64_t keep_step = 0;   // the checkpoint of this step is kept, for others to begin from; 0: none
  int64_t ranks = 1;       // of the stage, in all
  int64_t first_rank = 0;  // of those that run here; above 0: this worker is not the one that tells
  int64_t ranks_here = 1;
  std::string rendezvous, secret;  // with first_rank > 0, once it is known
};

}  // namespace plumb::core
