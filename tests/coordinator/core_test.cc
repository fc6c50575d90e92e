#include "coordinator/core/core.h"

#include <gmock/gmock.h>

#include "tests/coordinator/picture.h"

namespace plumb::core {
namespace {

using ::testing::HasSubstr;

const std::vector<S> kWithTiming = {
    S{}, S{.name = "timing", .kind = "timing", .parent = "pretrain", .priority = 1}};

TEST(Core, GrantsInOrderOfPriorityThenSweepThenPlace) {
  Picture p;
  p.Sweep({T{"a"}, T{"b", {S{.priority = -1}}}});
  p.Sweep({T{"c"}});
  p.Register("w", 2);
  EXPECT_EQ(p.Draw(), "a=running@w#1 b=running@w#1 c=pending");
  p.Says("w", {p.Ended("b", Outcome::kSucceeded), p.Running("a")});
  EXPECT_EQ(p.Draw(), "a=running@w#1 b=succeeded c=running@w#1");
}

TEST(Core, SlotsAreThreads) {
  Picture p;
  p.Register("small", 1);
  p.Register("big", 3);
  p.Sweep({T{"a", {S{.threads = 2}}}, T{"b", {S{.threads = 2}}}, T{"c"}, T{"d"}, T{"e"}});
  // b waits for big, which is kept free for it: nothing smaller slips in there.
  EXPECT_EQ(p.Draw(), "a=running@big#1 b=pending c=running@small#1 d=pending e=pending");
  p.Says("big", {p.Ended("a", Outcome::kSucceeded)});
  EXPECT_EQ(p.Draw(), "a=succeeded b=running@big#1 c=running@small#1 d=running@big#1 e=pending");
}

TEST(Core, SweepIsCompletedWhenAllStagesHaveEnded) {
  Picture p;
  const SweepId sweep = p.Sweep({T{"a"}, T{"b"}});
  p.Register("w", 2);
  EXPECT_EQ(p.SweepState(sweep), "running");
  p.Says("w", {p.Ended("a", Outcome::kSucceeded), p.Ended("b", Outcome::kDiverged)});
  EXPECT_EQ(p.Draw(), "a=succeeded b=diverged");
  EXPECT_EQ(p.SweepState(sweep), "completed");
  EXPECT_FALSE(p.core_.IsLive(p.ids_.at("a")));
}

TEST(Core, ChildWaitsForItsParentAndStartsFromItsCheckpoint) {
  Picture p;
  p.Sweep({T{"a", kWithTiming}});
  p.Register("w", 1);
  EXPECT_EQ(p.Draw(), "a=running@w#1 a.timing=pending");
  p.Says("w", {p.Ended("a", Outcome::kSucceeded, 1)}, {p.Batch("a", 1, 1, 100)});
  EXPECT_EQ(p.Draw(), "a=succeeded a.timing=running@w#1");
  const Grant g = p.Desired("w").at(0);
  EXPECT_EQ(g.checkpoint_step, 100);
  EXPECT_EQ(g.checkpoint_path, "p");
  EXPECT_FALSE(g.resume);
  EXPECT_TRUE(g.exclusive);
}

TEST(Core, ChildrenOfAFailedParentAreCancelledWithAReason) {
  Picture p;
  const SweepId sweep = p.Sweep({T{"a", kWithTiming}});
  p.Register("w", 1);
  p.Says("w", {p.Ended("a", Outcome::kDiverged)});
  EXPECT_EQ(p.Draw(), "a=diverged a.timing=cancelled");
  EXPECT_THAT(p.Row("a.timing").reason, HasSubstr("its parent stage pretrain ended as diverged"));
  EXPECT_EQ(p.trials_.at(p.ids_.at("a")).state, StageState::kDiverged);
  EXPECT_EQ(p.SweepState(sweep), "completed");
}

TEST(Core, ExclusiveStageGetsAWholeIdleWorkerAndBlocksIt) {
  Picture p;
  p.Sweep({T{"a"}, T{"b"}, T{"t", {S{.kind = "timing"}}}, T{"c"}});
  p.Register("w", 2);
  // t comes before c and needs the worker to itself, so c does not take the slot that t waits for.
  EXPECT_EQ(p.Draw(), "a=running@w#1 b=running@w#1 t=pending c=pending");
  p.Says("w", {p.Ended("a", Outcome::kSucceeded), p.Running("b")});
  EXPECT_EQ(p.Draw(), "a=succeeded b=running@w#1 t=pending c=pending");
  p.Says("w", {p.Ended("b", Outcome::kSucceeded)});
  EXPECT_EQ(p.Draw(), "a=succeeded b=succeeded t=running@w#1 c=pending");
  p.Says("w", {p.Ended("t", Outcome::kSucceeded)});
  EXPECT_EQ(p.Draw(), "a=succeeded b=succeeded t=succeeded c=running@w#1");
}

TEST(Core, ExpiredLeaseReturnsStageToPendingAfterBackoff) {
  Picture p({.lease = absl::Seconds(60), .retry_backoff = absl::Seconds(1)});
  p.Sweep({T{"a"}});
  p.Register("w", 1);
  p.Says("w", {p.Running("a")});
  p.Pass(absl::Seconds(59));
  EXPECT_EQ(p.Draw(), "a=running@w#1");
  p.Pass(absl::Seconds(1));
  EXPECT_EQ(p.Draw(), "a=pending");
  EXPECT_THAT(p.Row("a").reason, HasSubstr("worker w was silent for 1m"));
  p.Register("v", 1);
  EXPECT_EQ(p.Draw(), "a=pending");
  EXPECT_EQ(p.core_.NextWakeup(), absl::Seconds(61));
  p.Pass(absl::Seconds(1));
  EXPECT_EQ(p.Draw(), "a=running@v#2");
}

TEST(Core, LostWorkerThatComesBackIsFencedAndGetsNewWork) {
  Picture p({.lease = absl::Seconds(60), .retry_backoff = absl::Seconds(1)});
  p.Sweep({T{"a"}});
  p.Register("w", 1);
  const AttemptReport old = p.Running("a");
  p.Says("w", {old});
  p.Pass(absl::Seconds(60));
  const Effects e = p.Says("w", {old});
  EXPECT_TRUE(std::get<Reported>(*e.answer).acks.at(0).fenced);
  p.Pass(absl::Seconds(1));
  EXPECT_EQ(p.Draw(), "a=running@w#2");
}

TEST(Core, StaleBatchAndStaleOutcomeAreRefused) {
  Picture p({.retry_backoff = absl::ZeroDuration()});
  p.Sweep({T{"a"}});
  p.Register("w", 1);
  const AttemptReport old_end = p.Ended("a", Outcome::kSucceeded);
  const MeasurementBatchPtr old_batch = p.Batch("a", 1, 1);
  p.Says("w", {p.Ended("a", Outcome::kFailed)});
  EXPECT_EQ(p.Draw(), "a=running@w#2");
  const Effects e = p.Says("w", {old_end, p.Running("a")}, {old_batch});
  EXPECT_EQ(p.Draw(), "a=running@w#2");
  EXPECT_TRUE(std::get<Reported>(*e.answer).acks.at(0).fenced);
  for (const Change& c : e.changes) EXPECT_FALSE(std::holds_alternative<ApplyBatch>(c));
}

TEST(Core, RepeatedBatchIsAcknowledgedAgainAndAGapIsNot) {
  Picture p;
  p.Sweep({T{"a"}});
  p.Register("w", 1);
  auto acked = [&](MeasurementBatchPtr b) {
    return std::get<Reported>(*p.Says("w", {p.Running("a")}, {std::move(b)}).answer)
        .acks.at(0)
        .through_seq;
  };
  EXPECT_EQ(acked(p.Batch("a", 1, 3)), 3);
  EXPECT_EQ(acked(p.Batch("a", 1, 3)), 3);
  EXPECT_EQ(acked(p.Batch("a", 5, 6)), 3);
  EXPECT_EQ(acked(p.Batch("a", 4, 6)), 6);
}

TEST(Core, OutcomeHoldsOnceItsBatchesAreDurable) {
  Picture p;
  p.Sweep({T{"a"}});
  p.Register("w", 1);
  p.Says("w", {p.Ended("a", Outcome::kSucceeded, 2)}, {p.Batch("a", 1, 1)});
  EXPECT_EQ(p.Draw(), "a=running@w#1");
  p.Says("w", {p.Ended("a", Outcome::kSucceeded, 2)}, {p.Batch("a", 2, 2)});
  EXPECT_EQ(p.Draw(), "a=succeeded");
}

TEST(Core, GoneIsBelievedOnlyFromAWorkerThatHadAppliedTheGrant) {
  Picture p({.retry_backoff = absl::Seconds(1)});
  p.Register("w", 1);
  const int64_t before = p.core_.Generation(p.workers_.at("w"));
  p.Sweep({T{"a"}});
  p.Do(Report{.session = p.sessions_.at("w"), .generation = before});
  EXPECT_EQ(p.Draw(), "a=running@w#1");
  p.Says("w", {p.Running("a")});
  p.Says("w", {});
  EXPECT_EQ(p.Draw(), "a=pending");
  EXPECT_EQ(p.Row("a").losses, 1);
}

TEST(Core, NewSessionFencesTheOldOneAndReadoptsWhatItStillHas) {
  Picture p({.retry_backoff = absl::Seconds(1)});
  p.Sweep({T{"a"}, T{"b"}});
  p.Register("w", 2);
  p.Says("w", {p.Running("a"), p.Running("b")});
  const SessionId old = p.sessions_.at("w");
  p.Register("w", 2, {p.Running("a")});
  EXPECT_EQ(p.Draw(), "a=running@w#1 b=pending");
  EXPECT_THAT(p.Row("b").reason, HasSubstr("its worker came back without it"));
  const Effects e = p.Do(Report{.session = old, .attempts = {p.Ended("a", Outcome::kSucceeded)}});
  EXPECT_EQ(e.answer.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(p.Draw(), "a=running@w#1 b=pending");
  p.Says("w", {p.Ended("a", Outcome::kSucceeded)});
  EXPECT_EQ(p.Draw(), "a=succeeded b=pending");
}

TEST(Core, UndeliveredGrantThatIsLostDoesNotCount) {
  Picture p({.max_failures = 1});
  p.Sweep({T{"a"}});
  p.Register("w", 1);
  p.Register("w", 1);
  EXPECT_EQ(p.Row("a").failures, 0);
  EXPECT_EQ(p.Row("a").state, StageState::kPending);
}

TEST(Core, RetriesBackOffDoublingAndEndAtTheCap) {
  Picture p({.max_failures = 4,
             .retry_backoff = absl::Seconds(20),
             .retry_backoff_max = absl::Seconds(60)});
  p.Sweep({T{"a"}});
  p.Register("w", 1);
  std::vector<absl::Duration> waits;
  while (p.Row("a").state == StageState::kRunning) {
    p.Says("w", {p.Ended("a", Outcome::kFailed)});
    if (p.Row("a").state != StageState::kPending) break;
    waits.push_back(p.Row("a").not_before_ct - p.now_);
    p.now_ += waits.back();
    p.Says("w", {});
    p.Do(Tick{});
  }
  EXPECT_THAT(waits,
              ::testing::ElementsAre(absl::Seconds(20), absl::Seconds(40), absl::Seconds(60)));
  EXPECT_EQ(p.Draw(), "a=failed");
  EXPECT_THAT(p.Row("a").reason, HasSubstr("without progress: 4 failures"));
}

TEST(Core, ProgressResetsTheBudgetAndPreemptionNeverCounts) {
  Picture p({.max_failures = 2, .retry_backoff = absl::ZeroDuration()});
  p.Sweep({T{"a"}});
  p.Register("w", 1);
  p.Says("w", {p.Ended("a", Outcome::kFailed)});
  EXPECT_EQ(p.Row("a").failures, 1);
  p.Says("w", {p.Ended("a", Outcome::kPreempted)});
  EXPECT_EQ(p.Row("a").failures, 1);
  p.Says("w", {p.Running("a")}, {p.Batch("a", 1, 1, 40)});
  EXPECT_EQ(p.Row("a").failures, 0);
  p.Says("w", {p.Ended("a", Outcome::kOutOfMemory)});
  EXPECT_EQ(p.Draw(), "a=running@w#4");
  const Grant g = p.Desired("w").at(0);
  EXPECT_EQ(g.checkpoint_step, 40);
  EXPECT_TRUE(g.resume);
  EXPECT_EQ(p.attempts_.at(g.attempt).start_step, 40);
  p.Says("w", {p.Ended("a", Outcome::kFailed)});
  p.Says("w", {p.Ended("a", Outcome::kFailed)});
  EXPECT_EQ(p.Draw(), "a=failed");
}

TEST(Core, StageWhoseCheckpointIsGoneBeginsAgainAndNothingIsHeldAgainstIt) {
  Picture p({.max_failures = 1, .retry_backoff = absl::ZeroDuration()});
  p.Sweep({T{"a"}});
  p.Register("w", 1);
  p.Says("w", {p.Running("a")}, {p.Batch("a", 1, 1, 40)});
  p.Says("w", {p.Ended("a", Outcome::kPreempted)});
  EXPECT_EQ(p.Desired("w").at(0).checkpoint_step, 40);
  AttemptReport gone = p.Ended("a", Outcome::kFailed);
  gone.checkpoint_gone = true;
  p.Says("w", {gone});
  EXPECT_EQ(p.Draw(), "a=running@w#3");
  const Grant g = p.Desired("w").at(0);
  EXPECT_FALSE(g.resume);
  EXPECT_EQ(p.attempts_.at(g.attempt).start_step, 0);
  EXPECT_EQ(p.Row("a").failures, 0);
  // Without a checkpoint there is none to miss: this one failed.
  gone = p.Ended("a", Outcome::kFailed);
  gone.checkpoint_gone = true;
  p.Says("w", {gone});
  EXPECT_EQ(p.Draw(), "a=failed");
}

TEST(Core, CancelledSweepEndsItsStagesAndKeepsTheSlotUntilTheWorkerLetsGo) {
  Picture p;
  const SweepId sweep = p.Sweep({T{"a"}, T{"b"}});
  p.Register("w", 1);
  const AttemptReport a = p.Running("a");
  p.Says("w", {a});
  EXPECT_EQ(std::get<Counted>(*p.Do(CancelSweep{sweep}).answer).stages, 2);
  EXPECT_EQ(p.Draw(), "a=cancelled b=cancelled");
  EXPECT_EQ(p.SweepState(sweep), "cancelled");
  EXPECT_EQ(std::get<Counted>(*p.Do(CancelSweep{sweep}).answer).stages, 0);
  p.Sweep({T{"c"}});
  EXPECT_EQ(p.Row("c").state, StageState::kPending);
  p.Says("w", {a});
  EXPECT_EQ(p.Row("c").state, StageState::kPending);
  p.Says("w", {});
  EXPECT_EQ(p.Row("c").state, StageState::kRunning);
}

TEST(Core, CancellingASweepSparesTrialsAnotherSweepWaitsFor) {
  Picture p;
  const SweepId first = p.Sweep({T{"a"}, T{"b"}});
  const SweepId second = p.Sweep({T{"b"}, T{"c"}});
  p.Do(CancelSweep{first});
  EXPECT_EQ(p.Draw(), "a=cancelled b=pending c=pending");
  EXPECT_EQ(p.SweepState(second), "running");
}

TEST(Core, SameTrialRunsOnceAcrossSweeps) {
  Picture p;
  p.Register("w", 1);
  const SweepId first = p.Sweep({T{"a"}});
  const SweepId live = p.Sweep({T{"a"}});
  EXPECT_EQ(p.Draw(), "a=running@w#1");
  EXPECT_EQ(p.links_.at(1).shared, 1);
  p.Says("w", {p.Ended("a", Outcome::kSucceeded)});
  EXPECT_EQ(p.SweepState(first), "completed");
  EXPECT_EQ(p.SweepState(live), "completed");
  const SweepId later = p.Sweep({T{"a"}});
  EXPECT_EQ(p.SweepState(later), "completed");
  EXPECT_EQ(p.Draw(), "a=succeeded");
}

TEST(Core, SharedTrialThatFailedOrWasCancelledRunsAgainButADivergedOneDoesNot) {
  Picture p({.max_failures = 1});
  p.Register("w", 3);
  const SweepId first = p.Sweep({T{"f"}, T{"c"}, T{"d"}});
  p.Says("w", {p.Ended("f", Outcome::kFailed), p.Ended("d", Outcome::kDiverged), p.Running("c")});
  p.Do(CancelSweep{first});
  p.Says("w", {});
  EXPECT_EQ(p.Draw(), "f=failed c=cancelled d=diverged");
  const SweepId second = p.Sweep({T{"f"}, T{"c"}, T{"d"}});
  EXPECT_EQ(p.Draw(), "f=running@w#2 c=running@w#2 d=diverged");
  p.Says("w", {p.Ended("f", Outcome::kSucceeded), p.Ended("c", Outcome::kSucceeded)});
  EXPECT_EQ(p.SweepState(first), "cancelled");
  EXPECT_EQ(p.SweepState(second), "completed");
}

S Probe(const std::string& settings = "{}", const std::string& name = "probe") {
  return {.name = name, .kind = "probe", .parent = "pretrain", .settings = settings};
}

TEST(Core, FinishedTrialGainsTheStagesOfANewSweepAndOnlyThoseRun) {
  Picture p;
  p.Register("w", 2);
  const SweepId first = p.Sweep({T{"a"}, T{"b"}});
  p.Says("w", {p.Ended("a", Outcome::kSucceeded, 1), p.Ended("b", Outcome::kDiverged)},
         {p.Batch("a", 1, 1, 100)});
  EXPECT_EQ(p.SweepState(first), "completed");
  const SweepId second = p.Sweep({T{"a", {S{}, Probe()}}, T{"b", {S{}, Probe()}}});
  EXPECT_EQ(p.Draw(), "a=succeeded b=diverged a.probe=running@w#1 b.probe=cancelled");
  EXPECT_EQ(p.Row("b.probe").reason, "its parent stage pretrain ended as diverged");
  EXPECT_EQ(p.SweepState(second), "running");
  EXPECT_EQ(p.SweepState(first), "completed");
  const Grant g = p.Desired("w").at(0);
  EXPECT_EQ(g.checkpoint_step, 100);
  EXPECT_EQ(g.kind, "probe");
  EXPECT_FALSE(g.resume);
  p.Says("w", {p.Ended("a.probe", Outcome::kSucceeded)});
  EXPECT_EQ(p.SweepState(second), "completed");
  EXPECT_EQ(p.SweepState(p.Sweep({T{"a", {S{}, Probe()}}})), "completed");
  EXPECT_EQ(p.Draw(), "a=succeeded b=diverged a.probe=succeeded b.probe=cancelled");
}

TEST(Core, RunningTrialGainsStagesAndBothSweepsWaitForThem) {
  Picture p;
  p.Register("w", 2);
  const SweepId first = p.Sweep({T{"a"}});
  const SweepId second = p.Sweep({T{"a", {S{}, Probe()}}});
  EXPECT_EQ(p.Draw(), "a=running@w#1 a.probe=pending");
  p.Says("w", {p.Ended("a", Outcome::kSucceeded)});
  EXPECT_EQ(p.Draw(), "a=succeeded a.probe=running@w#1");
  EXPECT_EQ(p.SweepState(first), "running");
  p.Says("w", {p.Ended("a.probe", Outcome::kInfeasible)});
  EXPECT_EQ(p.SweepState(first), "completed");
  EXPECT_EQ(p.SweepState(second), "completed");
}

TEST(Core, StageOfTheSameNameThatDoesSomethingElseGetsASuffix) {
  Picture p;
  p.Register("w", 1);
  p.Sweep({T{"a", {S{}, Probe("{1}")}}});
  p.Sweep({T{"a", {S{}, Probe("{2}")}}});
  EXPECT_EQ(p.Draw(), "a=running@w#1 a.probe=pending a.probe-2=pending");
  p.Sweep({T{"a", {S{}, Probe("{2}")}}});
  p.Sweep({T{"a", {S{}, Probe("{1}")}}});
  EXPECT_EQ(p.Draw(), "a=running@w#1 a.probe=pending a.probe-2=pending");
  p.Sweep({T{"a", {S{}, Probe("{3}")}}});
  EXPECT_EQ(p.Row("a.probe-3").settings_json, "{3}");
  EXPECT_THAT(p.journal_, HasSubstr("stage_added:as probe-2: probe does something else"));
}

TEST(Core, NewSweepGivesANewBudgetToTheStagesItAsksForAlone) {
  Picture p({.max_failures = 1});
  p.Register("w", 2);
  p.Sweep({T{"a", {S{}, Probe("{1}", "x"), Probe("{2}", "y")}}});
  p.Says("w", {p.Ended("a", Outcome::kSucceeded)});
  p.Says("w", {p.Ended("a.x", Outcome::kFailed), p.Ended("a.y", Outcome::kFailed)});
  EXPECT_EQ(p.Draw(), "a=succeeded a.x=failed a.y=failed");
  const SweepId again = p.Sweep({T{"a", {S{}, Probe("{2}", "y")}}});
  EXPECT_EQ(p.Draw(), "a=succeeded a.x=failed a.y=running@w#2");
  p.Says("w", {p.Ended("a.y", Outcome::kSucceeded)});
  EXPECT_EQ(p.SweepState(again), "completed");
}

TEST(Core, ParentThatIsReopenedTakesItsNewChildAlong) {
  Picture p({.max_failures = 1});
  p.Register("w", 1);
  p.Sweep({T{"a"}});
  p.Says("w", {p.Ended("a", Outcome::kFailed)});
  p.Sweep({T{"a", {S{}, Probe()}}});
  EXPECT_EQ(p.Draw(), "a=running@w#2 a.probe=pending");
  p.Says("w", {p.Ended("a", Outcome::kSucceeded)});
  EXPECT_EQ(p.Draw(), "a=succeeded a.probe=running@w#1");
}

TEST(Core, RetryOnRequestReopensTheTrialAndItsSweep) {
  Picture p({.max_failures = 1});
  p.Register("w", 1);
  const SweepId sweep = p.Sweep({T{"a", kWithTiming}});
  p.Says("w", {p.Ended("a", Outcome::kFailed)});
  EXPECT_EQ(p.Draw(), "a=failed a.timing=cancelled");
  EXPECT_EQ(p.SweepState(sweep), "completed");
  const Effects e =
      p.Do(RetryTrial{.trial = p.ids_.at("a"), .known = p.Tree("a"), .links = p.links_});
  EXPECT_EQ(std::get<Counted>(*e.answer).stages, 2);
  EXPECT_EQ(p.Draw(), "a=running@w#2 a.timing=pending");
  EXPECT_EQ(p.SweepState(sweep), "running");
}

TEST(Core, MaterialisingGoesOnFromTheCursor) {
  Picture p;
  const std::vector<T> trials = {T{"a"}, T{"b"}, T{"c"}};
  const SweepId sweep = p.Sweep(trials, 2);
  EXPECT_EQ(p.SweepState(sweep), "materializing");
  EXPECT_EQ(p.core_.NextSlice()->from, 2);
  p.Slice(sweep, 0, {trials[0], trials[1]});  // again, as after a restart: nothing
  EXPECT_EQ(p.stages_.size(), 2);
  Core rebuilt({}, p.Snapshot());
  EXPECT_EQ(rebuilt.NextSlice()->from, 2);
  p.Slice(sweep, 2, {trials[2]});
  EXPECT_EQ(p.SweepState(sweep), "running");
  EXPECT_FALSE(p.core_.NextSlice().has_value());
}

TEST(Core, RebuiltFromDiskItGoesOnWithFreshLeases) {
  Picture before({.lease = absl::Seconds(60)});
  before.Sweep({T{"a", kWithTiming}, T{"b"}});
  before.Register("w", 1);
  before.Says("w", {before.Running("a")}, {before.Batch("a", 1, 4, 40)});
  before.now_ += absl::Seconds(59);
  Core after(before.options_, before.Snapshot());
  EXPECT_TRUE(after.CheckInvariants().ok()) << after.CheckInvariants();
  EXPECT_EQ(after.NextWakeup(), before.now_ + before.options_.suspect);
  EXPECT_GT(after.Generation(before.workers_.at("w")),
            before.core_.Generation(before.workers_.at("w")));
  ASSERT_EQ(after.Desired(before.workers_.at("w")).size(), 1);
  const Effects e = after.Apply(Report{.session = before.sessions_.at("w"),
                                       .generation = after.Generation(before.workers_.at("w")),
                                       .attempts = {before.Ended("a", Outcome::kSucceeded, 5)},
                                       .batches = {before.Batch("a", 5, 5)}},
                                {.cluster = before.now_});
  ASSERT_TRUE(e.answer.ok());
  EXPECT_EQ(std::get<Reported>(*e.answer).acks.at(0).through_seq, 5);
}

TEST(Core, AGenerationThatWasNeverGivenIsOfATimeTheFileHasForgotten) {
  Picture p;
  p.Sweep({T{"a"}});
  p.Register("w", 1);
  const Effects e = p.Do(Report{.session = p.sessions_.at("w"),
                                .generation = p.core_.generation() + 1,
                                .known_incarnation = 1});
  EXPECT_EQ(e.answer.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(p.core_.incarnation(), 2);
  EXPECT_EQ(p.Draw(), "a=pending");
  EXPECT_EQ(p.Row("a").losses, 0);
}

TEST(Core, WorkerThatKnowsALaterIncarnationEndsAllRunningAttempts) {
  Picture p({.retry_backoff = absl::Seconds(1)});
  p.Sweep({T{"a"}});
  p.Register("w", 1);
  p.Says("w", {p.Running("a")});
  const AttemptReport old = p.Ended("a", Outcome::kSucceeded);
  p.Register("v", 1, {}, /*known=*/5);
  EXPECT_EQ(p.core_.incarnation(), 6);
  EXPECT_EQ(p.Draw(), "a=pending");
  // No session of the forgotten time counts, and no number of one is given again.
  EXPECT_EQ(p.Says("w", {old}).answer.status().code(), absl::StatusCode::kNotFound);
  p.Register("w", 1, {old});
  EXPECT_EQ(p.Draw(), "a=pending");
  EXPECT_GT(p.sessions_.at("w").value, int64_t{5} << 32);
  EXPECT_TRUE(std::get<Reported>(*p.Says("w", {old}).answer).acks.at(0).fenced);
}

TEST(Core, WorkerThatRemembersMoreOfTheClusterThanTheFileDoesRaisesTheIncarnation) {
  Picture p;
  p.Sweep({T{"a"}});
  p.Register("w", 1);
  p.Says("w", {p.Running("a")});
  const Report report{.session = p.sessions_.at("w"),
                      .generation = p.core_.Generation(p.workers_.at("w")),
                      .known_incarnation = 1,
                      .known = {.cluster = absl::Seconds(9)},
                      .attempts = {p.Running("a")}};
  p.Pass(absl::Seconds(9));
  EXPECT_TRUE(p.Do(report).answer.ok()) << "as far as the worker knows, and no further";
  Report later = report;
  later.known.cluster = absl::Seconds(10);
  EXPECT_EQ(p.Do(later).answer.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(p.core_.incarnation(), 2);
  EXPECT_EQ(p.Draw(), "a=pending");
}

// A copy that was put back, and a server that has served it for longer than was lost: the time
// alone says nothing any more, but who told it does.
TEST(Core, AnOlderCopyIsNoticedHoweverLongItWasServed) {
  const auto incarnation_after = [](const Moment& known) {
    Picture p;
    p.Sweep({T{"a"}});
    p.Register("w", 1);
    p.Says("w", {p.Running("a")});
    ClusterSnapshot file = p.Snapshot();
    file.run = 3;
    file.run_ends = {{1, absl::Seconds(50)}, {2, absl::Seconds(60)}};
    Core core({}, file);
    core.Apply(RegisterWorker{.worker = {.name = "w", .slots = 1},
                              .known_incarnation = 1,
                              .known = known,
                              .attempts = {p.Running("a")}},
               {.cluster = absl::Seconds(100)});
    return core.incarnation();
  };
  EXPECT_EQ(incarnation_after({1, absl::Seconds(50)}), 1);
  EXPECT_EQ(incarnation_after({1, absl::Seconds(51)}), 2) << "start 1 came less far in this file";
  EXPECT_EQ(incarnation_after({2, absl::Seconds(60)}), 1);
  EXPECT_EQ(incarnation_after({3, absl::Seconds(70)}), 1) << "this one said so itself";
  EXPECT_EQ(incarnation_after({4, absl::Seconds(10)}), 2) << "a start that is not in this file";
}

TEST(Core, DrainingWorkerGetsNothingMoreAndIsGoneWhenEmpty) {
  Picture p;
  p.Sweep({T{"a"}, T{"b"}});
  p.Register("w", 1);
  auto drain = [&](std::vector<AttemptReport> attempts) {
    p.Do(Report{.session = p.sessions_.at("w"),
                .generation = p.core_.Generation(p.workers_.at("w")),
                .attempts = std::move(attempts),
                .draining = true});
  };
  drain({p.Running("a")});
  EXPECT_EQ(p.worker_rows_.at(p.workers_.at("w")).state, WorkerState::kDraining);
  drain({p.Ended("a", Outcome::kPreempted)});
  EXPECT_EQ(p.Draw(), "a=pending b=pending");
  EXPECT_EQ(p.worker_rows_.at(p.workers_.at("w")).state, WorkerState::kGone);
  EXPECT_EQ(p.core_.NextWakeup(), absl::InfiniteDuration());
}

TEST(Core, QuarantinedAttemptEndsAloneAsFailed) {
  Picture p;
  p.Sweep({T{"a"}, T{"b"}});
  p.Register("w", 2);
  p.Do(QuarantineAttempts{.attempts = {p.Running("a").attempt}, .cause = "refused"});
  EXPECT_EQ(p.Draw(), "a=failed b=running@w#1");
}

TEST(Core, RepeatedRequestIsAnsweredWithTheSweepMadeBefore) {
  Picture p;
  const SubmitSweep e{.sweep = {.request_id = "x", .request_hash = "1", .trials = 4}};
  const auto first = std::get<Submitted>(*p.Do(e).answer);
  const auto again = std::get<Submitted>(*p.Do(e).answer);
  EXPECT_EQ(again.sweep, first.sweep);
  EXPECT_TRUE(again.repeated);
  SubmitSweep other = e;
  other.sweep.request_hash = "2";
  EXPECT_EQ(p.Do(other).answer.status().code(), absl::StatusCode::kAlreadyExists);
}

TEST(Core, ExplainsEachReasonToWait) {
  Picture p({.retry_backoff = absl::Seconds(8)});
  p.Sweep({T{"a", kWithTiming}, T{"b"}, T{"big", {S{.threads = 9}}}});
  auto why = [&](const std::string& key) {
    return absl::StrJoin(p.core_.Explain(p.ids_.at(key), {.cluster = p.now_}), "\n");
  };
  EXPECT_THAT(why("a"), HasSubstr("no worker is connected"));
  p.Register("w", 1);
  EXPECT_THAT(why("a"), HasSubstr("attempt 1 on worker w, step 0 of 100"));
  EXPECT_THAT(
      why("a"),
      HasSubstr("timing is pending: waits for its parent stage pretrain, which is running"));
  EXPECT_THAT(
      why("b"),
      HasSubstr("waits for 1 slot; 1 of 1 slots of 1 worker are taken; 0 stages are before it"));
  EXPECT_THAT(why("big"), HasSubstr("it needs 9 slots on one worker and the largest has 1"));
  p.Says("w", {p.Ended("a", Outcome::kFailed)});
  EXPECT_THAT(why("a"), HasSubstr("backs off for 8s more (1 of at most 3 failures, 0 of 8 losses "
                                  "without progress); retried because "
                                  "attempt 1 on worker w ended as failed: because"));
}

// A cluster that does random things for a while and is then left in peace.
std::string RandomHistory(uint64_t seed) {
  Picture p({.lease = absl::Seconds(20), .max_failures = 3, .retry_backoff = absl::Seconds(1)});
  uint64_t x = seed * 2654435761u + 1;
  auto roll = [&](uint64_t n) {
    x = x * 6364136223846793005u + 1442695040888963407u;
    return (x >> 33) % n;
  };
  std::vector<SweepId> sweeps;
  const std::vector<std::string> names = {"u", "v", "w"};
  auto stage_name = [&](const Grant& g) {
    const StageRow& row = p.stages_.at(g.attempt.stage);
    return absl::StrCat(p.trials_.at(row.trial).key, ".", row.name);
  };
  auto report = [&](const std::string& name, bool peace) {
    std::vector<AttemptReport> attempts;
    std::vector<MeasurementBatchPtr> batches;
    for (const Grant& g : p.Desired(name)) {
      const std::string stage = stage_name(g);
      if (!peace && roll(10) == 0) continue;  // lost by the worker
      const int64_t acked = p.attempts_.at(g.attempt).acked_seq;
      if (roll(2) == 0)
        batches.push_back(p.Batch(stage, acked + 1, acked + 2, static_cast<int64_t>(roll(100))));
      const uint64_t end = roll(peace ? 2 : 12);
      constexpr Outcome kEnds[] = {Outcome::kSucceeded, Outcome::kFailed, Outcome::kDiverged,
                                   Outcome::kPreempted, Outcome::kPaused, Outcome::kOutOfMemory};
      if (end < (peace ? 1u : 6u)) {
        attempts.push_back(p.Ended(stage, kEnds[end]));
      } else {
        attempts.push_back(p.Running(stage, static_cast<int64_t>(roll(100))));
      }
    }
    p.Says(name, std::move(attempts), std::move(batches));
  };
  for (int i = 0; i < 300; ++i) {
    const std::string name = names[roll(names.size())];
    switch (roll(9)) {
      case 0: {
        std::vector<T> trials;
        for (uint64_t n = roll(4) + 1; n > 0; --n) {
          std::vector<S> stages = kWithTiming;
          stages[0].threads = 1 + static_cast<int64_t>(roll(2));
          stages[1].threads = stages[0].threads;
          if (roll(3) == 0) stages.push_back(Probe(absl::StrCat("{", roll(2), "}")));
          trials.push_back(
              T{absl::StrCat("k", roll(40)), roll(2) == 0 ? stages : std::vector<S>{S{}}});
        }
        sweeps.push_back(p.Sweep(trials));
        break;
      }
      case 1:
        p.Register(name, 1 + static_cast<int64_t>(roll(3)));
        break;
      case 2:
        if (!sweeps.empty() && roll(4) == 0) p.Do(CancelSweep{sweeps[roll(sweeps.size())]});
        break;
      case 3:
        p.Pass(absl::Seconds(static_cast<int64_t>(roll(15))));
        break;
      case 4:
        if (!p.ids_.empty()) {
          const std::string key =
              std::next(p.ids_.begin(), static_cast<int64_t>(roll(p.ids_.size())))->first;
          std::vector<SweepTrialRow> links;
          for (const SweepTrialRow& link : p.links_) {
            if (link.trial == p.ids_.at(key)) links.push_back(link);
          }
          p.Do(RetryTrial{.trial = p.ids_.at(key), .known = p.Tree(key), .links = links});
        }
        break;
      default:
        if (p.sessions_.contains(name)) report(name, false);
    }
  }
  for (const std::string& name : names) p.Register(name, 2);
  for (int i = 0; i < 2000 && p.core_.CheckInvariants().ok(); ++i) {
    for (const std::string& name : names) report(name, true);
    p.Pass(absl::Seconds(1));
    bool live = false;
    for (const auto& [id, row] : p.stages_) live |= !IsTerminal(row.state);
    if (!live) break;
  }
  for (const auto& [id, row] : p.stages_)
    EXPECT_TRUE(IsTerminal(row.state)) << "seed " << seed << ": " << p.Draw();
  for (SweepId id : sweeps) EXPECT_NE(p.SweepState(id), "running") << "seed " << seed;
  return p.journal_;
}

TEST(Core, HoldsItsInvariantsThroughRandomHistoriesAndThenDrains) {
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    RandomHistory(seed);
    if (::testing::Test::HasFailure()) FAIL() << "seed " << seed;
  }
}

TEST(Core, SameEventsGiveTheSameEffects) {
  const std::string once = RandomHistory(7);
  EXPECT_GT(once.size(), 1000);
  EXPECT_EQ(once, RandomHistory(7));
}

}  // namespace
}  // namespace plumb::core
