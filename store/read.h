// What users ask of the database, on a read-only connection: sees every committed transaction. One
// thread at a time. Each call is one short read transaction, so that it never pins the write-ahead
// log.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "domain/rows.h"
#include "store/sqlite.h"

namespace plumb::store {

// What people wrote on a sweep or a trial, and where it comes from.
struct Annotations {
  std::vector<std::string> tags;  // sorted
  std::string note;
  bool foreign = false;     // of a trial: not trained by Plumb
  std::string origin_json;  // "": it was made here
};

struct SweepView {
  SweepRow row;  // YAML only from Sweep(), as of its last edit
  Annotations annotations;
  std::map<std::string, int64_t> trials_by_state;
  int64_t steps_done = 0, steps_total = 0;
  double flops_done = 0, flops_total = 0;
  int64_t tokens_done = 0;          // of training
  int64_t first_start_time_us = 0;  // of an attempt; 0: none yet
};

struct StageView {
  StageRow row;
  std::string parent;    // name
  TrialId branch_trial;  // that StageRow::branch_stage is of
  std::vector<AttemptRow> attempts;
  std::vector<std::string> workers;  // by attempt: its worker's name
};

struct TrialView {
  TrialRow row;
  Annotations annotations;
  SweepTrialRow link;
  CellRow cell;
  int64_t cell_id = 0;
  std::vector<StageView> stages;
  double objective = 0, train_loss = 0, tokens_per_s = 0;  // last values; NaN: none yet
  std::string worker;                                      // of the running attempt
};

// How a trial of a sweep stands, by its first stage.
struct TrialProgress {
  TrialId trial;
  StageId stage;
  int64_t idx = 0;  // SweepTrialRow::idx
  StageState state = StageState::kPending;
  int64_t step = 0;
  int64_t until_step = -1;
  int64_t checkpoint_step = -1;
};
// The stage of a trial that its sweep's file calls by some name, whatever the trial calls it.
struct NamedStage {
  StageId stage;
  StageState state = StageState::kPending;
};
struct StepValue {
  int64_t step = 0;
  double value = 0;  // NaN: not finite
};

// A series of a trial, of its first stage that has it.
struct TrialSeries {
  bool found = false;
  StageState state = StageState::kPending;  // of that stage
  std::vector<StepValue> points;            // in step order
};
// A replicate of a cell, for searches that learn from it.
struct CellTrial {
  TrialId trial;
  int64_t cell_idx = 0;
  std::string config_json, axes_json;
};
// Trials that removal would take, and what they hold.
struct RemovalCount {
  std::vector<TrialId> trials;
  int64_t shared = 0;  // that another sweep has
  int64_t pinned = 0;
  int64_t needed = 0;  // that a trial which stays began from
  int64_t points = 0, records = 0, checkpoints = 0, checkpoint_bytes = 0, attempts = 0;
};

// Of an empty field: any.
struct EventQuery {
  SweepId sweep;
  TrialId trial;
  std::string kind;  // a pattern, as "worker_*"
  int64_t since_us = 0;
  std::string worker;
  int64_t limit = 100;  // the newest so many
};
struct EventView {
  int64_t id = 0;
  EventRow row;  // the sweep is the trial's first one where the event names none
  std::string stage, worker;
};

// What decides on a sweep's trials asks of their results.
class Results {
 public:
  virtual ~Results() = default;
  virtual absl::StatusOr<std::vector<TrialProgress>> Progress(SweepId sweep) = 0;  // by idx
  // By trial that has one: the stage that the sweep's file calls `name`.
  virtual absl::StatusOr<std::map<TrialId, NamedStage>> Stages(SweepId sweep,
                                                               const std::string& name) = 0;
  // Of the stage's series that is of no layer, in step order.
  virtual absl::StatusOr<std::vector<StepValue>> Points(StageId stage, const std::string& series,
                                                        int64_t after_step) = 0;
};

class Reader : public Results {
 public:
  static absl::StatusOr<Reader> Open(const std::string& path);

  absl::StatusOr<std::vector<SweepView>> Sweeps(
      int64_t before_id, int64_t limit,
      const std::string& tag = "");                // newest first, id < before_id; tag "": any
  absl::StatusOr<SweepView> Sweep(SweepId sweep);  // none: the newest
  absl::StatusOr<std::vector<TrialView>> Trials(SweepId sweep, const std::string& state,
                                                int64_t from_idx, int64_t limit,
                                                const std::string& tag = "");
  absl::StatusOr<TrialView> Trial(
      TrialId trial);  // with attempts, as in the newest sweep that holds it
  absl::StatusOr<std::vector<EventRow>> Events(TrialId trial, int64_t limit);  // newest first
  absl::StatusOr<std::vector<EventView>> Events(const EventQuery& query);      // oldest first
  absl::StatusOr<std::string> SweepYaml(SweepId sweep);                        // as submitted
  absl::StatusOr<std::string> PresentYaml(SweepId sweep);  // as of its last edit
  absl::StatusOr<Annotations> AnnotationsOf(SweepId sweep);
  absl::StatusOr<Annotations> AnnotationsOf(TrialId trial);
  // Trials of a sweep in any of these states (by name) and cells (by name; none: all).
  absl::StatusOr<std::vector<TrialId>> TrialsIn(SweepId sweep,
                                                const std::vector<std::string>& states,
                                                const std::vector<std::string>& cells);
  // What removing these sweeps, all of them together, would take.
  absl::StatusOr<RemovalCount> WhatGoes(const std::vector<SweepId>& sweeps);
  absl::StatusOr<RemovalCount> WhatGoes(const std::vector<TrialId>& trials);
  absl::StatusOr<SweepId> FindRequest(const std::string& request_id);  // none: no such sweep
  absl::StatusOr<bool> HasPlaces(SweepId sweep);                       // for trials
  // Trials that are being removed, up to `limit`.
  absl::StatusOr<std::vector<TrialId>> Removed(int64_t limit);
  // By key: the id, its state, and the last point of each series of its first stage.
  struct Held {
    TrialId trial;
    std::string state;
    std::map<std::string, StepValue> last;
  };
  absl::StatusOr<std::map<std::string, Held>> FindByKey(const std::vector<std::string>& keys);
  absl::StatusOr<std::vector<TrialProgress>> Progress(SweepId sweep) override;
  absl::StatusOr<std::map<TrialId, NamedStage>> Stages(SweepId sweep,
                                                       const std::string& name) override;
  absl::StatusOr<std::vector<StepValue>> Points(StageId stage, const std::string& series,
                                                int64_t after_step = -1) override;
  absl::StatusOr<std::vector<LookRow>> Looks(SweepId sweep);  // by seq
  // read_search.cc
  absl::StatusOr<TrialSeries> Series(TrialId trial, const std::string& series);
  absl::StatusOr<bool> HasLiveStage(TrialId trial);
  // Neither A/A members nor trials that tune; by cell and replicate.
  absl::StatusOr<std::vector<CellTrial>> CellTrials(SweepId sweep);
  // The config of a trial that began with that one's weights; "": none did.
  absl::StatusOr<std::string> ConfigBegunFrom(TrialId source);
  // The newest sweep of that name with an id below `before`; none: there is none.
  absl::StatusOr<SweepId> SweepByName(const std::string& name, SweepId before);

 private:
  explicit Reader(Database db) : db_(std::move(db)) {}
  absl::Status Fill(SweepView& view);
  absl::Status Fill(TrialView& view, const std::string& objective, const std::string& stage);
  absl::Status Spare(RemovalCount* out);
  absl::Status Count(RemovalCount* out);
  absl::StatusOr<double> LastValue(TrialId trial, const std::string& series,
                                   const std::string& stage = "");  // "": its first with it
  absl::StatusOr<Statement*> Cached(const std::string& sql);

  Database db_;
  std::map<std::string, Statement> statements_;
};

}  // namespace plumb::store
