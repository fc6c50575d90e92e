#include "domain/state.h"

#include "domain/rows.h"

namespace plumb {

absl::string_view Name(StageState state) {
  switch (state) {
    case StageState::kPending:
      return "pending";
    case StageState::kRunning:
      return "running";
    case StageState::kPaused:
      return "paused";
    case StageState::kSucceeded:
      return "succeeded";
    case StageState::kFailed:
      return "failed";
    case StageState::kInfeasible:
      return "infeasible";
    case StageState::kDiverged:
      return "diverged";
    case StageState::kStopped:
      return "stopped";
    case StageState::kCancelled:
      return "cancelled";
  }
  return "?";
}

absl::string_view Name(SweepState state) {
  switch (state) {
    case SweepState::kMaterializing:
      return "materializing";
    case SweepState::kRunning:
      return "running";
    case SweepState::kCompleted:
      return "completed";
    case SweepState::kCancelled:
      return "cancelled";
  }
  return "?";
}

absl::string_view Name(Outcome outcome) {
  switch (outcome) {
    case Outcome::kSucceeded:
      return "succeeded";
    case Outcome::kPaused:
      return "paused";
    case Outcome::kInfeasible:
      return "infeasible";
    case Outcome::kDiverged:
      return "diverged";
    case Outcome::kOutOfMemory:
      return "out_of_memory";
    case Outcome::kFailed:
      return "failed";
    case Outcome::kPreempted:
      return "preempted";
    case Outcome::kLost:
      return "lost";
    case Outcome::kCancelled:
      return "cancelled";
  }
  return "?";
}

absl::string_view Name(WorkerState state) {
  switch (state) {
    case WorkerState::kConnected:
      return "connected";
    case WorkerState::kDraining:
      return "draining";
    case WorkerState::kLost:
      return "lost";
    case WorkerState::kGone:
      return "gone";
  }
  return "?";
}

std::optional<WorkerState> WorkerStateFromName(absl::string_view name) {
  for (WorkerState s :
       {WorkerState::kConnected, WorkerState::kDraining, WorkerState::kLost, WorkerState::kGone}) {
    if (Name(s) == name) return s;
  }
  return std::nullopt;
}

std::optional<StageState> StageStateFromName(absl::string_view name) {
  for (StageState s : kAllStageStates) {
    if (Name(s) == name) return s;
  }
  return std::nullopt;
}

std::optional<SweepState> SweepStateFromName(absl::string_view name) {
  for (SweepState s : {SweepState::kMaterializing, SweepState::kRunning, SweepState::kCompleted,
                       SweepState::kCancelled}) {
    if (Name(s) == name) return s;
  }
  return std::nullopt;
}

std::optional<Outcome> OutcomeFromName(absl::string_view name) {
  for (Outcome o : kAllOutcomes) {
    if (Name(o) == name) return o;
  }
  return std::nullopt;
}

bool IsTerminal(StageState state) {
  switch (state) {
    case StageState::kPending:
    case StageState::kRunning:
    case StageState::kPaused:
      return false;
    case StageState::kSucceeded:
    case StageState::kFailed:
    case StageState::kInfeasible:
    case StageState::kDiverged:
    case StageState::kStopped:
    case StageState::kCancelled:
      return true;
  }
  return true;
}

bool CanMove(StageState from, StageState to) {
  if (to == StageState::kCancelled) return !IsTerminal(from);
  switch (from) {
    case StageState::kPending:
      return to == StageState::kRunning || to == StageState::kInfeasible ||
             to == StageState::kStopped;
    case StageState::kRunning:
      return to == StageState::kSucceeded || to == StageState::kFailed ||
             to == StageState::kInfeasible || to == StageState::kDiverged ||
             to == StageState::kStopped || to == StageState::kPaused || to == StageState::kPending;
    case StageState::kPaused:
      return to == StageState::kPending || to == StageState::kStopped;
    case StageState::kSucceeded:
    case StageState::kFailed:
    case StageState::kInfeasible:
    case StageState::kDiverged:
    case StageState::kStopped:
    case StageState::kCancelled:
      return false;
  }
  return false;
}

}  // namespace plumb
