// States of sweeps and stages, outcomes of attempts, and the one table of legal transitions.
//
//   PENDING → RUNNING → SUCCEEDED | FAILED | INFEASIBLE | DIVERGED | STOPPED
//   PENDING → INFEASIBLE
//   RUNNING → PAUSED → PENDING (promoted) | STOPPED
//   RUNNING → PENDING (lost, preempted, out of memory or failed, with budget left)
//   any live state → CANCELLED
#pragma once

#include <array>
#include <optional>

#include "absl/strings/string_view.h"

namespace plumb {

enum class StageState {
  kPending,
  kRunning,
  kPaused,
  kSucceeded,
  kFailed,
  kInfeasible,
  kDiverged,
  kStopped,
  kCancelled
};
inline constexpr std::array kAllStageStates = {
    StageState::kPending,   StageState::kRunning, StageState::kPaused,
    StageState::kSucceeded, StageState::kFailed,  StageState::kInfeasible,
    StageState::kDiverged,  StageState::kStopped, StageState::kCancelled};

enum class SweepState { kMaterializing, kRunning, kCompleted, kCancelled };

// How an attempt ended.
enum class Outcome {
  kSucceeded,
  kPaused,      // reached until_step
  kInfeasible,  // the config cannot be run
  kDiverged,
  kOutOfMemory,
  kFailed,     // a crash or an error of the trainer
  kPreempted,  // checkpointed and left on request
  kLost,       // the worker was not heard of, or came back without it
  kCancelled,
};
inline constexpr std::array kAllOutcomes = {
    Outcome::kSucceeded, Outcome::kPaused,      Outcome::kInfeasible,
    Outcome::kDiverged,  Outcome::kOutOfMemory, Outcome::kFailed,
    Outcome::kPreempted, Outcome::kLost,        Outcome::kCancelled};

// Names as in the database, the CLI and JSON: lower snake case.
absl::string_view Name(StageState state);
absl::string_view Name(SweepState state);
absl::string_view Name(Outcome outcome);
std::optional<StageState> StageStateFromName(absl::string_view name);
std::optional<SweepState> SweepStateFromName(absl::string_view name);
std::optional<Outcome> OutcomeFromName(absl::string_view name);

bool IsTerminal(StageState state);
bool CanMove(StageState from, StageState to);  // the table above; no state moves to itself

}  // namespace plumb
