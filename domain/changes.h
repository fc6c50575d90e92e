// What the core wants written, as values: made by the core, committed by the store in order, in one
// transaction.
//
// Every change that is an effect of an attempt carries its fence (incarnation, attempt number,
// session). The store checks it in the same transaction; a mismatch fails the transaction, never
// half of it.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "domain/rows.h"

namespace plumb {

struct Fence {
  int64_t incarnation = 0;
  AttemptId attempt;
  SessionId session;
};

struct InsertSweep {
  SweepRow row;
};
// Everything of a sweep that moves.
struct UpdateSweep {
  SweepId id;
  SweepState state = SweepState::kRunning;
  int64_t cursor = 0;
  int64_t end_time_us = 0;
  int64_t priority = 0;
  bool paused = false;
  int64_t trials = 0;
  bool open = false;
};
struct InsertAddition {
  AdditionRow row;
};
struct InsertCell {
  CellRow row;
};
// What a cell gains once it is tuned; (sweep, idx) names it.
struct UpdateCell {
  SweepId sweep;
  int64_t idx = 0;
  std::string flags_json, tuned_json;
};
// A cell is called otherwise: a field became an axis.
struct RenameCell {
  SweepId sweep;
  int64_t idx = 0;
  std::string name, axes_json;
};
// One more of its flags.
struct FlagCell {
  SweepId sweep;
  int64_t idx = 0;
  std::string flag;
};
struct InsertLook {
  LookRow row;
};
// Of a sweep or of a trial; the other is none.
struct PutTag {
  SweepId sweep;
  TrialId trial;
  std::string tag;
  bool remove = false;
  std::string user;
  int64_t time_us = 0;
};
// Takes the place of the note before it; an empty one removes it.
struct PutNote {
  SweepId sweep;
  TrialId trial;
  std::string text;
  std::string user;
  int64_t time_us = 0;
};
struct InsertTrialOrigin {
  TrialId trial;
  bool foreign = false;  // not trained by Plumb
  std::string origin_json;
};
// Results that no attempt brought: of an import.
struct PutResults {
  StageId stage;
  MeasurementBatchPtr batch;
  int64_t time_us = 0;
};
// Removes up to `limit` of a sweep's places for trials. A trial without any, and without the tag
// "pinned", loses its key: nobody shares it any more, and PurgeTrial may have it.
struct ForgetPlaces {
  SweepId sweep;
  TrialId trial;  // only this one's places, in all sweeps, where there is one
  int64_t limit = 0;
};
// A sweep without places: its row and what hangs on it.
struct ForgetSweep {
  SweepId sweep;
};
// Removes up to `limit` rows of what a trial without places has, the trial itself last.
struct PurgeTrial {
  TrialId trial;
  int64_t limit = 0;
};
struct InsertTrial {
  TrialRow row;
};
struct UpdateTrial {
  TrialId id;
  StageState state = StageState::kPending;
};
struct InsertSweepTrial {
  SweepTrialRow row;
};
struct InsertStage {
  StageRow row;
};
// Everything of a stage that moves.
struct UpdateStage {
  StageRow row;
};
struct UpsertWorker {
  WorkerRow row;
};
// Opens an attempt and rolls back what an earlier one measured past the checkpoint it starts from.
struct OpenAttempt {
  AttemptRow row;
  int64_t keep_through_step =
      -1;  // measurements and records past this step go, and all document scores
};
// Hands a live attempt to a new session of its worker.
struct AdoptAttempt {
  Fence fence;
  SessionId new_session;
};
struct CloseAttempt {
  Fence fence;
  Outcome outcome = Outcome::kLost;
  std::string cause;
  std::string log_tail;
  std::string summary_json = "{}";
  int64_t end_time_us = 0;
  int64_t slot_us = 0;
};
// Applies a batch once: its first_seq must follow the attempt's acked_seq.
struct ApplyBatch {
  Fence fence;
  MeasurementBatchPtr batch;
  int64_t commit_time_us = 0;
};
// In place of the one of the same prefix key and step, if there is one.
struct PutTrunk {
  TrunkRow row;
};
struct RemoveTrunk {
  std::string prefix_key;
  int64_t step = 0;
};
struct UpsertUser {
  UserRow row;
};
struct AppendEvent {
  EventRow row;
};
struct SetIncarnation {
  int64_t incarnation = 0;
};

using Change =
    std::variant<InsertSweep, UpdateSweep, InsertAddition, InsertLook, InsertCell, UpdateCell,
                 RenameCell, FlagCell, PutTag, PutNote, InsertTrialOrigin, PutResults, ForgetPlaces,
                 ForgetSweep, PurgeTrial, InsertTrial, UpdateTrial, InsertSweepTrial, InsertStage,
                 UpdateStage, UpsertWorker, OpenAttempt, AdoptAttempt, CloseAttempt, ApplyBatch,
                 PutTrunk, RemoveTrunk, UpsertUser, AppendEvent, SetIncarnation>;

}  // namespace plumb
