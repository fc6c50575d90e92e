#include "domain/state.h"

#include <gtest/gtest.h>

#include <set>
#include <utility>

#include "domain/rows.h"

namespace plumb {
namespace {

using enum StageState;

TEST(State, TransitionsAreExactlyTheTable) {
  const std::set<std::pair<StageState, StageState>> table = {
      {kPending, kRunning}, {kPending, kInfeasible}, {kPending, kCancelled}, {kRunning, kSucceeded},
      {kRunning, kFailed},  {kRunning, kInfeasible}, {kRunning, kDiverged},  {kRunning, kStopped},
      {kRunning, kPaused},  {kRunning, kPending},    {kRunning, kCancelled}, {kPaused, kPending},
      {kPaused, kStopped},  {kPending, kStopped},    {kPaused, kCancelled},
  };
  for (StageState from : kAllStageStates) {
    for (StageState to : kAllStageStates) {
      EXPECT_EQ(CanMove(from, to), table.contains({from, to})) << Name(from) << " -> " << Name(to);
    }
  }
}

TEST(State, TerminalStatesAreThoseWithoutAWayOut) {
  for (StageState from : kAllStageStates) {
    bool leaves = false;
    for (StageState to : kAllStageStates) leaves |= CanMove(from, to);
    EXPECT_EQ(IsTerminal(from), !leaves) << Name(from);
  }
}

TEST(State, NamesRoundTripAndAreDistinct) {
  std::set<std::string> names;
  for (StageState s : kAllStageStates) {
    EXPECT_EQ(StageStateFromName(Name(s)), s);
    EXPECT_TRUE(names.insert(std::string(Name(s))).second);
  }
  names.clear();
  for (Outcome o : kAllOutcomes) {
    EXPECT_EQ(OutcomeFromName(Name(o)), o);
    EXPECT_TRUE(names.insert(std::string(Name(o))).second);
  }
  for (SweepState s : {SweepState::kMaterializing, SweepState::kRunning, SweepState::kCompleted,
                       SweepState::kCancelled}) {
    EXPECT_EQ(SweepStateFromName(Name(s)), s);
  }
  for (WorkerState s :
       {WorkerState::kConnected, WorkerState::kDraining, WorkerState::kLost, WorkerState::kGone}) {
    EXPECT_EQ(WorkerStateFromName(Name(s)), s);
  }
  EXPECT_EQ(StageStateFromName("finished"), std::nullopt);
  EXPECT_EQ(OutcomeFromName(""), std::nullopt);
}

}  // namespace
}  // namespace plumb
