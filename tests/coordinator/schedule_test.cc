// Who gets what: users, priorities, pauses, labels, memory, machines that go wrong or end.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/coordinator/picture.h"

namespace plumb::core {
namespace {

using ::testing::HasSubstr;

std::vector<T> Trials(const std::string& name, int n, S stage = {}) {
  std::vector<T> out;
  for (int i = 0; i < n; ++i) out.push_back({absl::StrCat(name, i), {stage}});
  return out;
}
int64_t SlotsOf(const Picture& p, const std::string& user) {
  for (const Core::UserView& u : p.core_.Users()) {
    if (u.row.name == user) return u.slots;
  }
  return 0;
}
// Every worker ends what it has, as `outcome`.
void EndAll(Picture& p, Outcome outcome = Outcome::kSucceeded) {
  for (const auto& [name, worker] : p.workers_) {
    std::vector<AttemptReport> ends;
    for (const Grant& g : p.Desired(name)) {
      ends.push_back({.incarnation = g.incarnation, .attempt = g.attempt, .outcome = outcome});
    }
    p.Says(name, ends);
  }
}
bool AskedToEnd(const Picture& p, const std::string& worker, const std::string& stage) {
  for (const Grant& g : p.Desired(worker)) {
    if (g.attempt.stage == p.Row(stage).id) return g.preempt;
  }
  return false;
}

TEST(Users, TwoShareTheClusterHalfAndHalfWhoeverCameFirst) {
  Picture p;
  p.Register("w", 4);
  p.Sweep(Trials("a", 40), 1 << 30, "ann");
  p.Sweep(Trials("b", 40), 1 << 30, "bob");
  int64_t ann = 0, bob = 0;
  for (int round = 0; round < 8; ++round) {
    ann += SlotsOf(p, "ann");
    bob += SlotsOf(p, "bob");
    p.now_ += absl::Seconds(10);
    EndAll(p);
  }
  // All the first round is Ann's, as Bob was not there; from then on they take turns.
  EXPECT_EQ(ann + bob, 32);
  EXPECT_GE(bob, 13);
  EXPECT_LE(bob, 17);
}

TEST(Users, WeightsDivideTheClusterByDeviceTimeNotByTrials) {
  Picture p;
  p.Do(EditUser{.name = "ann", .weight = 3});
  p.Register("w", 8);
  p.Sweep(Trials("a", 400, {.threads = 1}), 1 << 30, "ann");
  p.Sweep(Trials("b", 400, {.threads = 2}), 1 << 30, "bob");
  int64_t ann = 0, bob = 0;
  for (int round = 0; round < 40; ++round) {
    ann += SlotsOf(p, "ann");
    bob += SlotsOf(p, "bob");
    p.now_ += absl::Seconds(10);
    EndAll(p);
  }
  const double share = static_cast<double>(ann) / static_cast<double>(ann + bob);
  EXPECT_NEAR(share, 0.75, 0.06) << ann << " " << bob;
}

TEST(Users, OneWhoWasAwayStartsLevelAndOneWhoHadMuchIsNotPunishedForEver) {
  Picture p;
  p.Register("w", 2);
  p.Sweep(Trials("a", 60), 1 << 30, "ann");
  for (int round = 0; round < 20; ++round) {
    p.now_ += absl::Hours(1);
    p.Says("w", [&] {
      std::vector<AttemptReport> ends;
      for (const Grant& g : p.Desired("w"))
        ends.push_back({.incarnation = 1, .attempt = g.attempt, .outcome = Outcome::kSucceeded});
      return ends;
    }());
  }
  p.Sweep(Trials("b", 60), 1 << 30, "bob");
  int64_t bob = 0;
  for (int round = 0; round < 10; ++round) {
    p.now_ += absl::Hours(1);
    EndAll(p);
    bob += SlotsOf(p, "bob");
  }
  EXPECT_GE(bob, 8);
  EXPECT_LE(bob, 13);  // of 20: not all, though Ann had forty hours before
}

TEST(Users, QuotaHoldsAndLeavesTheRestToOthers) {
  Picture p;
  p.Do(EditUser{.name = "ann", .max_slots = 2});
  p.Register("w", 5);
  p.Sweep(Trials("a", 9), 1 << 30, "ann");
  EXPECT_EQ(SlotsOf(p, "ann"), 2);
  EXPECT_THAT(absl::StrJoin(p.core_.Explain(p.ids_.at("a5"), {.cluster = p.now_}), ""),
              HasSubstr("user ann has 2 of at most 2 slots"));
  p.Sweep(Trials("b", 9), 1 << 30, "bob");
  EXPECT_EQ(SlotsOf(p, "bob"), 3);
  p.Do(EditUser{.name = "ann", .max_slots = 0});
  EndAll(p);
  EXPECT_EQ(SlotsOf(p, "ann") + SlotsOf(p, "bob"), 5);
  EXPECT_GE(SlotsOf(p, "ann"), 2);
}

TEST(Users, WhatTheyHadSurvivesARestart) {
  Picture p;
  p.Do(EditUser{.name = "ann", .weight = 2, .max_slots = 3});
  p.Register("w", 1);
  p.Sweep(Trials("a", 2), 1 << 30, "ann");
  p.now_ += absl::Seconds(10);
  p.Says("w", {p.Ended("a0", Outcome::kSucceeded)});
  const Core after(p.options_, p.Snapshot());
  ASSERT_EQ(after.Users().size(), 1);
  EXPECT_EQ(after.Users()[0].row.consumed_us, 10'000'000);
  EXPECT_EQ(after.Users()[0].row.weight, 2);
  EXPECT_EQ(after.Users()[0].row.max_slots, 3);
  EXPECT_EQ(after.Users()[0].slots, 1);
  EXPECT_TRUE(after.CheckInvariants().ok()) << after.CheckInvariants();
}

TEST(Sweeps, HigherPriorityGoesFirstAndHasLessUrgentAttemptsEndWithACheckpoint) {
  Picture p;
  p.Register("w", 2);
  p.Sweep(Trials("low", 3));
  EXPECT_EQ(p.Draw(), "low0=running@w#1 low1=running@w#1 low2=pending");
  p.Sweep(Trials("hi", 1), 1 << 30, "", 5);
  // One slot is wanted: the newest of the less urgent gives way, and only that.
  EXPECT_TRUE(AskedToEnd(p, "w", "low1"));
  EXPECT_FALSE(AskedToEnd(p, "w", "low0"));
  p.Says("w", {p.Running("low0"), p.Running("low1")},
         {p.Batch("low1", 1, 1, /*checkpoint_step=*/30)});
  EXPECT_FALSE(AskedToEnd(p, "w", "low0"));  // asked for once
  p.Says("w", {p.Running("low0"), p.Ended("low1", Outcome::kPreempted, 1)});
  EXPECT_EQ(p.Draw(), "low0=running@w#1 low1=pending low2=pending hi0=running@w#1");
  EXPECT_EQ(p.Row("low1").checkpoint_step, 30);
  EXPECT_EQ(p.Row("low1").failures, 0);
  p.Says("w", {p.Running("low0"), p.Ended("hi0", Outcome::kSucceeded)});
  EXPECT_EQ(p.Desired("w").size(), 2);
}

TEST(Sweeps, AStageThatNeedsAWholeWorkerPreemptsWhatIsLessUrgentThere) {
  Picture p;
  p.Register("w", 2);
  p.Register("x", 2);
  p.Sweep(Trials("low", 4));
  p.Sweep({{"hi", {{.threads = 2}}}}, 1 << 30, "", 1);
  int asked = 0;
  for (const std::string name : {"w", "x"}) {
    const auto grants = p.Desired(name);
    const int64_t n =
        std::count_if(grants.begin(), grants.end(), [](auto& g) { return g.preempt; });
    EXPECT_TRUE(n == 0 || n == 2);
    asked += static_cast<int>(n);
  }
  EXPECT_EQ(asked, 2);
  for (const std::string name : {"w", "x"}) {
    std::vector<AttemptReport> says;
    for (const Grant& g : p.Desired(name)) {
      says.push_back({.incarnation = 1, .attempt = g.attempt});
      if (g.preempt) says.back().outcome = Outcome::kPreempted;
    }
    p.Says(name, says);
  }
  EXPECT_EQ(p.Row("hi").state, StageState::kRunning);
}

TEST(Sweeps, PausedOneGivesBackWhatItHasAndGoesOnWhenResumed) {
  Picture p;
  p.Register("w", 2);
  const SweepId one = p.Sweep(Trials("a", 3));
  ASSERT_TRUE(p.Do(EditSweep{.sweep = one, .paused = true}).answer.ok());
  EXPECT_TRUE(AskedToEnd(p, "w", "a0"));
  p.Says("w", {p.Ended("a0", Outcome::kPreempted), p.Ended("a1", Outcome::kPreempted)});
  EXPECT_EQ(p.Draw(), "a0=pending a1=pending a2=pending");
  EXPECT_THAT(absl::StrJoin(p.core_.Explain(p.ids_.at("a0"), {.cluster = p.now_}), ""),
              HasSubstr("paused"));
  // Others are not held up, and a restart does not forget it.
  p.Sweep(Trials("b", 1));
  EXPECT_EQ(p.Row("b0").state, StageState::kRunning);
  Core after(p.options_, p.Snapshot());
  EXPECT_TRUE(after.CheckInvariants().ok()) << after.CheckInvariants();
  EXPECT_EQ(after.waiting(), 0);
  p.Do(EditSweep{.sweep = one, .paused = false});
  EXPECT_EQ(p.Draw(), "a0=running@w#2 a1=pending a2=pending b0=running@w#1");
}

TEST(Sweeps, ATrialThatAnotherSweepWaitsForToRunsOnWhenOneIsPaused) {
  Picture p;
  p.Register("w", 2);
  const SweepId one = p.Sweep({{"a"}, {"b"}});
  p.Sweep({{"b"}});
  p.Do(EditSweep{.sweep = one, .paused = true});
  EXPECT_TRUE(AskedToEnd(p, "w", "a"));
  EXPECT_FALSE(AskedToEnd(p, "w", "b"));
}

TEST(Sweeps, EditsOfWhatIsNotThereOrHasEndedAreRefused) {
  Picture p;
  EXPECT_EQ(p.Do(EditSweep{.sweep = SweepId{9}, .paused = true}).answer.status().code(),
            absl::StatusCode::kNotFound);
  const SweepId one = p.Sweep({{"a"}});
  EXPECT_EQ(p.Do(EditSweep{.sweep = one, .priority = 1 << 20}).answer.status().code(),
            absl::StatusCode::kInvalidArgument);
  p.Do(CancelSweep{one});
  const Effects e = p.Do(EditSweep{.sweep = one, .paused = true});
  EXPECT_EQ(e.answer.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(e.changes.empty());
  EXPECT_EQ(p.Do(EditWorker{.name = "nobody", .drain = true}).answer.status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(p.Do(EditUser{.name = "ann", .weight = 0}).answer.status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(Workers, LabelsAreAskedForAndSpecialOnesAreKeptForThoseWhoAsk) {
  Picture p;
  p.Sweep({{"any"}, {"gpu", {{.labels = "h200"}}}});
  p.Register({.name = "big", .slots = 4, .labels = "fast,h200"});
  EXPECT_EQ(p.Draw(), "any=running@big#1 gpu=running@big#1");
  p.Register("plain", 4);
  p.Sweep({{"c"}, {"d", {{.labels = "fast,h200"}}}, {"e", {{.labels = "tpu"}}}});
  EXPECT_EQ(p.Draw(),
            "any=running@big#1 gpu=running@big#1 c=running@plain#1 d=running@big#1 e=pending");
  EXPECT_THAT(absl::StrJoin(p.core_.Explain(p.ids_.at("e"), {.cluster = p.now_}), ""),
              HasSubstr("no connected worker has all that it needs: 1 slot, labels tpu"));
}

TEST(Workers, MemoryIsNotGivenTwiceAndWhatWasMeasuredCorrectsThePrediction) {
  constexpr int64_t kGiB = int64_t{1} << 30;
  Picture p;
  p.Register({.name = "w", .slots = 8, .memory_bytes = 8 * kGiB});
  p.Sweep(Trials("a", 6, {.memory = 3 * kGiB}));
  EXPECT_EQ(p.Desired("w").size(), 2);
  auto b = std::make_shared<MeasurementBatch>(*p.Batch("a0", 1, 1));
  b->series.push_back({.name = "memory/peak_bytes", .points = {{50, 1.0 * kGiB}}});
  p.Says("w", {p.Ended("a0", Outcome::kSucceeded, 1), p.Running("a1")}, {b});
  // What waited keeps the need it was queued with: a2 takes 3 GiB; what comes now needs 1.
  p.Sweep(Trials("b", 6, {.memory = 3 * kGiB}), 1 << 30, "", /*priority=*/0);
  EXPECT_EQ(p.Desired("w").size(), 2);
  p.Says("w", {p.Running("a1"), p.Running("a2")});
  p.Do(CancelSweep{SweepId{1}});
  p.Says("w", {});
  EXPECT_EQ(p.Desired("w").size(), 6);
}

TEST(Workers, OutOfMemoryIsAnsweredByHalfTheMicroBatchElsewhereWithABudgetOfItsOwn) {
  Picture p({.retry_backoff = absl::ZeroDuration()});
  p.Register("w", 1);
  p.Sweep({{"a"}});
  EXPECT_EQ(p.Desired("w")[0].micro_batch, 0);
  p.Register("x", 1);
  p.Says("w", {p.Ended("a", Outcome::kOutOfMemory)});
  EXPECT_EQ(p.Draw(), "a=running@x#2");
  EXPECT_EQ(p.Desired("x")[0].micro_batch, 4);  // a batch has 64 / 8 sequences
  p.Says("x", {p.Ended("a", Outcome::kOutOfMemory)});
  const std::string third = p.Desired("w").empty() ? "x" : "w";
  EXPECT_EQ(p.Desired(third)[0].micro_batch, 2);
  p.Says(third, {p.Ended("a", Outcome::kOutOfMemory)});
  const std::string fourth = p.Desired("w").empty() ? "x" : "w";
  EXPECT_EQ(p.Desired(fourth)[0].micro_batch, 1);
  EXPECT_EQ(p.Row("a").failures, 0);
  p.Says(fourth, {p.Ended("a", Outcome::kOutOfMemory)});
  EXPECT_EQ(p.Row("a").state, StageState::kFailed);
}

TEST(Workers, LossesHaveABudgetOfTheirOwn) {
  Picture p({.max_failures = 2, .max_losses = 3, .retry_backoff = absl::ZeroDuration()});
  p.Sweep({{"a"}});
  p.Register("w", 1);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(p.Row("a").state, StageState::kRunning);
    p.Register("w", 1);  // its grant was never seen: no loss
    p.Says("w", {p.Running("a")});
    p.Register("w", 1);  // without it: lost
    EXPECT_EQ(p.Row("a").losses, i + 1);
    EXPECT_EQ(p.Row("a").failures, 0);
  }
  EXPECT_EQ(p.Row("a").state, StageState::kFailed);
}

TEST(Workers, OneThatIsSilentGetsNothingNewUntilItIsHeard) {
  Picture p({.lease = absl::Seconds(60), .suspect = absl::Seconds(20)});
  p.Register("w", 2);
  p.Pass(absl::Seconds(20));
  p.Sweep({{"a"}});
  EXPECT_EQ(p.Draw(), "a=pending");
  EXPECT_TRUE(p.core_.Workers({.cluster = p.now_})[0].suspect);
  p.Says("w", {});
  EXPECT_EQ(p.Draw(), "a=running@w#1");
}

TEST(Workers, OneWhereTrialAfterTrialFailsIsQuarantinedTriedAndReleased) {
  Picture p({.retry_backoff = absl::Seconds(1), .quarantine = absl::Seconds(100)});
  p.Register("bad", 1);
  p.Sweep(Trials("a", 9));
  p.Register("good", 1);
  const auto heard = [&] {
    for (const std::string name : {"bad", "good"}) {
      std::vector<AttemptReport> says;
      for (const Grant& g : p.Desired(name))
        says.push_back({.incarnation = 1, .attempt = g.attempt});
      p.Says(name, says);
    }
  };
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(p.Desired("bad").size(), 1);
    const AttemptId it = p.Desired("bad")[0].attempt;
    p.Says("bad", {{.incarnation = 1, .attempt = it, .outcome = Outcome::kFailed}});
    if (i < 2) EXPECT_EQ(p.stages_.at(it.stage).failures, 1);
  }
  EXPECT_TRUE(p.Desired("bad").empty());
  EXPECT_GT(p.core_.Workers({.cluster = p.now_})[0].quarantined, absl::ZeroDuration());
  for (const auto& [id, row] : p.stages_) EXPECT_EQ(row.failures, 0);  // not the trials' fault
  for (int i = 0; i < 10; ++i) {
    p.Pass(absl::Seconds(10));
    heard();
  }
  ASSERT_EQ(p.Desired("bad").size(), 1);  // on probation
  const AttemptId again = p.Desired("bad")[0].attempt;
  p.Says("bad", {{.incarnation = 1, .attempt = again, .outcome = Outcome::kFailed}});
  EXPECT_TRUE(p.Desired("bad").empty());
  for (int i = 0; i < 19; ++i) {  // twice as long
    p.Pass(absl::Seconds(10));
    heard();
    EXPECT_TRUE(p.Desired("bad").empty()) << i;
  }
  p.Pass(absl::Seconds(10));
  heard();
  ASSERT_EQ(p.Desired("bad").size(), 1);
  const AttemptId good = p.Desired("bad")[0].attempt;
  p.Says("bad", {{.incarnation = 1, .attempt = good, .outcome = Outcome::kSucceeded}});
  EXPECT_FALSE(p.core_.Workers({.cluster = p.now_})[0].on_probation);
  EXPECT_THAT(p.journal_, HasSubstr("worker_released"));
}

TEST(Workers, ATrialThatBringsMachinesDownComesToAnEnd) {
  // Only `a` and `b` have its label, and each is in quarantine or on probation after a while.
  Picture p({.max_losses = 6, .strikes = 2});
  for (const char* other : {"v", "x", "y", "z"}) p.Register(other, 1);
  p.Register(WorkerRow{.name = "a", .slots = 1, .labels = "gpu"});
  p.Register(WorkerRow{.name = "b", .slots = 1, .labels = "gpu"});
  p.Sweep(Trials("killer", 1, {.labels = "gpu"}));
  p.Sweep(Trials("other", 3, {.labels = "gpu"}));
  for (int i = 0; i < 60 && p.Row("killer0").state != StageState::kFailed; ++i) {
    for (const char* name : {"a", "b"}) {
      const std::vector<Grant> grants = p.Desired(name);
      if (grants.empty()) continue;
      p.Says(name, {{.incarnation = 1, .attempt = grants[0].attempt}});
      p.Register(WorkerRow{.name = name, .slots = 1, .labels = "gpu"});  // it came back without it
    }
    for (const char* name : {"a", "b", "v", "x", "y", "z"}) p.Says(name, {});
    for (int k = 0; k < 40; ++k) {  // hours, heard all the while
      p.Pass(absl::Minutes(10));
      for (const char* name : {"a", "b", "v", "x", "y", "z"}) {
        std::vector<AttemptReport> running;
        for (const Grant& g : p.Desired(name))
          running.push_back({.incarnation = 1, .attempt = g.attempt});
        p.Says(name, running);
      }
    }
  }
  EXPECT_EQ(p.Row("killer0").state, StageState::kFailed);
}

TEST(Workers, BadWorkQuarantinesNobody) {
  Picture p({.retry_backoff = absl::ZeroDuration()});
  p.Register("w", 1);
  p.Register("x", 1);
  p.Sweep(Trials("a", 8));
  for (int i = 0; i < 40; ++i) EndAll(p, Outcome::kFailed);
  for (const auto& [id, row] : p.stages_) EXPECT_EQ(row.state, StageState::kFailed);
  EXPECT_THAT(p.journal_, ::testing::Not(HasSubstr("worker_quarantined")));
}

TEST(Workers, AStageGoesElsewhereAfterAFailureAndBackToItsCheckpointAfterAnEnd) {
  Picture p({.retry_backoff = absl::ZeroDuration()});
  p.Register("w", 4);
  p.Sweep({{"a"}, {"b"}});
  p.Register("x", 1);
  p.Says("w", {p.Ended("a", Outcome::kFailed), p.Running("b")});
  EXPECT_EQ(p.Draw(), "a=running@x#2 b=running@w#1");
  p.Says("x", {p.Running("a")}, {p.Batch("a", 1, 1, 10)});
  p.Says("x", {p.Ended("a", Outcome::kPreempted, 1)});
  EXPECT_EQ(p.Draw(), "a=running@x#3 b=running@w#1");  // though w has more room
}

TEST(Workers, DrainedOneGivesBackWhatItHasAndTakesNothingAlsoAfterItsRestart) {
  Picture p;
  p.Register("w", 2);
  p.Sweep(Trials("a", 2));
  p.Do(EditWorker{.name = "w", .drain = true});
  EXPECT_TRUE(AskedToEnd(p, "w", "a0"));
  p.Says("w", {p.Ended("a0", Outcome::kPreempted), p.Ended("a1", Outcome::kPreempted)});
  EXPECT_EQ(p.Draw(), "a0=pending a1=pending");
  p.Register("w", 2);
  EXPECT_EQ(p.Draw(), "a0=pending a1=pending");
  p.Do(EditWorker{.name = "w", .drain = false});
  EXPECT_EQ(p.Draw(), "a0=running@w#2 a1=running@w#2");
}

TEST(Workers, OneThatAnnouncesItsEndIsLeftInTime) {
  Picture p({.leave = absl::Seconds(60)});
  p.Register({.name = "slurm", .slots = 2}, {}, 0, absl::Seconds(300));
  p.Sweep(Trials("a", 1));
  for (int i = 0; i < 24; ++i) {
    EXPECT_FALSE(AskedToEnd(p, "slurm", "a0"));
    p.Do(Report{.session = p.sessions_.at("slurm"),
                .generation = p.core_.Generation(p.workers_.at("slurm")),
                .attempts = {p.Running("a0")},
                .remaining = absl::Seconds(300) - p.now_});
    p.Pass(absl::Seconds(10));
  }
  EXPECT_TRUE(AskedToEnd(p, "slurm", "a0"));
  p.Says("slurm", {p.Ended("a0", Outcome::kPreempted)});
}

TEST(Workers, WhatIsLikelyToOutlastOneGoesToAnother) {
  Picture p({.leave = absl::Seconds(60), .typical = absl::Minutes(30)});
  p.Register({.name = "ends", .slots = 8}, {}, 0, absl::Minutes(20));
  p.Register("stays", 1);
  p.Sweep(Trials("a", 2));
  EXPECT_EQ(p.Draw(), "a0=running@stays#1 a1=running@ends#1");
}

}  // namespace
}  // namespace plumb::core
