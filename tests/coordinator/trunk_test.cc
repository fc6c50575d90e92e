// Trials that are the same up to some step: who waits for whom, and from where each begins.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

#include "tests/coordinator/picture.h"

namespace plumb::core {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class Trunks : public ::testing::Test {
 protected:
  // Budgets of one cell: each shares its steps up to `trunk`, of 100.
  static T Budget(const std::string& key, int64_t trunk, const std::string& prefix = "p",
                  int64_t until = -1, const std::string& labels = "") {
    return {key, {S{.labels = labels, .until = until, .prefix = prefix, .trunk = trunk}}};
  }
  // A batch with the checkpoint of that step, as the stage `key` writes it.
  void Saves(const std::string& worker, const std::string& key, int64_t seq, int64_t step) {
    auto b = std::make_shared<MeasurementBatch>(*p_.Batch(key, seq, seq));
    b->checkpoints.push_back({.step = step, .path = At(key, step), .digest = "d:" + At(key, step)});
    std::vector<AttemptReport> all;
    for (const Grant& g : p_.Desired(worker))
      all.push_back({.incarnation = p_.core_.incarnation(), .attempt = g.attempt});
    p_.Says(worker, all, {b});
  }
  static std::string At(const std::string& key, int64_t step) {
    return absl::StrCat(key, "/", step);
  }
  void Ends(const std::string& worker, const std::string& key, Outcome outcome, int64_t seq = 0,
            bool gone = false) {
    std::vector<AttemptReport> all;
    for (const Grant& g : p_.Desired(worker)) {
      AttemptReport r{.incarnation = p_.core_.incarnation(), .attempt = g.attempt};
      if (g.attempt.stage == p_.Row(key).id) {
        r = p_.Ended(key, outcome, seq);
        r.checkpoint_gone = gone;
      }
      all.push_back(r);
    }
    p_.Says(worker, all);
  }
  const Grant& GrantOf(const std::string& worker, const std::string& key) {
    desired_ = p_.Desired(worker);
    for (const Grant& g : desired_) {
      if (g.attempt.stage == p_.Row(key).id) return g;
    }
    ADD_FAILURE() << key << " is not on " << worker;
    return desired_.at(0);
  }
  std::string Why(const std::string& key) {
    return p_.core_.Explain(p_.ids_.at(key), Now{.cluster = p_.now_}).at(0);
  }

  Picture p_;
  std::vector<Grant> desired_;
};

TEST_F(Trunks, ALongerBudgetBeginsFromTheShorterOnesCheckpointWhileThatCoolsDown) {
  p_.Sweep({Budget("long", 80), Budget("short", 20), Budget("middle", 40)});
  p_.Register("w", 4);
  EXPECT_EQ(p_.Draw(), "long=pending short=running@w#1 middle=pending")
      << "with room for all: what the shortest computes, nobody else does";
  EXPECT_THAT(Why("middle"), HasSubstr("waits for trial 2"));
  EXPECT_THAT(Why("long"), HasSubstr("waits for trial 3"));
  EXPECT_EQ(GrantOf("w", "short").keep_step, 20);
  EXPECT_EQ(GrantOf("w", "short").checkpoint_path, "");
  Saves("w", "short", 1, 10);  // a checkpoint of its own
  EXPECT_EQ(p_.Row("middle").state, StageState::kPending);
  Saves("w", "short", 2, 20);
  EXPECT_EQ(p_.Draw(), "long=pending short=running@w#1 middle=running@w#1");
  const Grant& middle = GrantOf("w", "middle");
  EXPECT_EQ(middle.checkpoint_step, 20);
  EXPECT_EQ(middle.checkpoint_path, "short/20");
  EXPECT_EQ(middle.checkpoint_digest, "d:short/20");
  EXPECT_TRUE(middle.resume);
  EXPECT_EQ(middle.keep_step, 40);
  EXPECT_EQ(p_.Row("middle").branch_stage, p_.Row("short").id);
  EXPECT_EQ(p_.Row("middle").branch_step, 20);
  EXPECT_EQ(p_.attempts_.at({p_.Row("middle").id, 1}).start_step, 20);
  EXPECT_THAT(Why("middle"), HasSubstr("began from step 20"));
  Saves("w", "middle", 1, 40);
  EXPECT_EQ(GrantOf("w", "long").checkpoint_path, "middle/40");
  EXPECT_EQ(p_.Row("short").branch_stage, StageId());
}

TEST_F(Trunks, WhatDivergesOnItsWayIsNotWaitedFor) {
  p_.Sweep({Budget("short", 20), Budget("middle", 40), Budget("long", 80)});
  p_.Register("w", 4);
  Saves("w", "short", 1, 20);
  Ends("w", "middle", Outcome::kDiverged);
  EXPECT_EQ(GrantOf("w", "long").checkpoint_path, "short/20") << "the longest that there is";
}

TEST_F(Trunks, WhatIsCancelledIsNotWaitedFor) {
  p_.Sweep({Budget("short", 20), Budget("long", 80)});
  p_.Register("w", 4);
  p_.Do(CancelTrial{.trial = p_.ids_.at("short")});
  EXPECT_EQ(GrantOf("w", "long").checkpoint_step, 0);
  EXPECT_FALSE(GrantOf("w", "long").resume);
}

TEST_F(Trunks, AFailedAttemptIsWaitedForAsLongAsItIsTriedAgain) {
  p_.Sweep({Budget("short", 20), Budget("long", 80)});
  p_.Register("w", 4);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(p_.Row("short").state, StageState::kRunning) << i;
    EXPECT_EQ(p_.Row("long").state, StageState::kPending) << i;
    Ends("w", "short", Outcome::kFailed);
    p_.Pass(absl::Seconds(5));
  }
  EXPECT_EQ(p_.Row("short").state, StageState::kFailed);
  EXPECT_EQ(p_.Row("long").state, StageState::kRunning);
}

TEST_F(Trunks, NothingWaitsForWhatMayNotCome) {
  // Paused sweeps, rungs before the place, other labels, later sweeps: all by themselves.
  const SweepId paused = p_.Sweep({Budget("paused", 20)});
  p_.Do(EditSweep{.sweep = paused, .paused = true});
  p_.Sweep({Budget("rung", 21, "p", 10), Budget("label", 22, "p", -1, "gpu")});
  p_.Sweep({Budget("long", 80)});
  p_.Sweep({Budget("late", 30)});
  EXPECT_THAT(Why("long"), HasSubstr("no worker is connected")) << "it waits for nobody";
  p_.Register("w", 8);
  EXPECT_EQ(p_.Draw(),
            "paused=pending rung=running@w#1 label=pending long=running@w#1 late=running@w#1")
      << "late has nobody before it that may come there";
  p_.Do(EditSweep{.sweep = paused, .paused = false});
  EXPECT_EQ(GrantOf("w", "paused").checkpoint_step, 0);
}

TEST_F(Trunks, AnotherUsersQueueIsNotWaitedForButHisRunIs) {
  p_.Sweep({Budget("hers", 20)}, 1 << 30, "her");
  p_.Sweep({Budget("mine", 80)}, 1 << 30, "me");
  EXPECT_THAT(Why("mine"), HasSubstr("no worker is connected"));
  p_.Register("w", 1);
  EXPECT_EQ(p_.Draw(), "hers=running@w#1 mine=pending");
  EXPECT_THAT(Why("mine"), HasSubstr("waits for trial 1"));
}

TEST_F(Trunks, AnotherPrefixIsAnotherTrunk) {
  p_.Sweep({Budget("a", 20, "p"), Budget("b", 40, "q"), Budget("c", 0, "")});
  p_.Register("w", 4);
  EXPECT_EQ(p_.Draw(), "a=running@w#1 b=running@w#1 c=running@w#1");
  EXPECT_EQ(GrantOf("w", "c").keep_step, 0);
}

TEST_F(Trunks, TheLastStepIsMadeByEachForItself) {
  // Constant rates: all of each is trunk, and what is measured at the end is each trial's own.
  p_.Sweep({Budget("a", 100), Budget("b", 100), Budget("c", 30)});
  p_.Register("w", 4);
  EXPECT_EQ(p_.Draw(), "a=pending b=pending c=running@w#1");
  Saves("w", "c", 1, 30);
  EXPECT_EQ(p_.Draw(), "a=running@w#1 b=running@w#1 c=running@w#1")
      << "neither waits for the other's end";
  Saves("w", "a", 1, 100);
  p_.Sweep({Budget("d", 100)});
  EXPECT_EQ(GrantOf("w", "d").checkpoint_step, 30);
}

TEST_F(Trunks, ALaterSweepGoesOnFromAFinishedOne) {
  p_.Sweep({Budget("short", 20)});
  p_.Register("w", 4);
  Saves("w", "short", 1, 20);
  Saves("w", "short", 2, 100);
  Ends("w", "short", Outcome::kSucceeded, 2);
  EXPECT_EQ(p_.Row("short").state, StageState::kSucceeded);
  p_.Sweep({Budget("longer", 50), Budget("shorter", 10)});
  EXPECT_EQ(GrantOf("w", "longer").checkpoint_path, "short/20")
      << "longer than what the shorter one will come to";
  EXPECT_EQ(GrantOf("w", "shorter").checkpoint_step, 0) << "past its own trunk";
}

TEST_F(Trunks, ACheckpointThatIsGoneCostsWorkAndNothingElse) {
  p_.Sweep({Budget("short", 20)});
  p_.Register("w", 1);
  Saves("w", "short", 1, 20);
  Ends("w", "short", Outcome::kSucceeded, 1);
  p_.Sweep({Budget("long", 80)});
  ASSERT_EQ(GrantOf("w", "long").checkpoint_path, "short/20");
  EXPECT_THAT(p_.trunks_, SizeIs(1));
  Ends("w", "long", Outcome::kFailed, 0, /*gone=*/true);
  EXPECT_EQ(p_.Draw(), "short=succeeded long=running@w#2");
  EXPECT_EQ(GrantOf("w", "long").checkpoint_step, 0);
  EXPECT_EQ(p_.Row("long").branch_stage, StageId());
  EXPECT_EQ(p_.Row("long").failures, 0);
  EXPECT_THAT(p_.trunks_, IsEmpty());
}

TEST_F(Trunks, WhatGetsNowhereFromAnothersCheckpointBeginsByItself) {
  p_.Sweep({Budget("short", 20), Budget("long", 80), Budget("longer", 90)});
  p_.Register("w", 4);
  Saves("w", "short", 1, 20);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(GrantOf("w", "long").checkpoint_path, "short/20") << i;
    Ends("w", "long", Outcome::kFailed);
    p_.Pass(absl::Seconds(5));
  }
  const Grant alone = GrantOf("w", "long");
  EXPECT_EQ(alone.checkpoint_path, "");
  EXPECT_EQ(alone.keep_step, 0);
  EXPECT_EQ(p_.Row("long").failures, 0);
  EXPECT_EQ(GrantOf("w", "longer").checkpoint_path, "short/20") << "who waited for it does no more";
  EXPECT_THAT(p_.trunks_, SizeIs(1)) << "others may still begin there";
  Core again(p_.options_, p_.Snapshot());
  EXPECT_TRUE(again.CheckInvariants().ok()) << again.CheckInvariants();
  for (int i = 0; i < 3; ++i) {
    Ends("w", "long", Outcome::kFailed);
    p_.Pass(absl::Seconds(5));
  }
  EXPECT_EQ(p_.Row("long").state, StageState::kFailed);
}

TEST_F(Trunks, ALostBranchGoesOnFromTheTrunk) {
  p_.Sweep({Budget("short", 20), Budget("long", 80)});
  p_.Register("w", 4);
  Saves("w", "short", 1, 20);
  Ends("w", "long", Outcome::kLost);
  p_.Pass(absl::Minutes(1));
  p_.Register("w", 4, {p_.Running("short")});
  EXPECT_EQ(GrantOf("w", "long").attempt.number, 2);
  EXPECT_EQ(GrantOf("w", "long").checkpoint_path, "short/20");
}

TEST_F(Trunks, ARestartKnowsWhoWaitsAndWhatThereIs) {
  p_.Sweep({Budget("short", 20), Budget("middle", 40), Budget("long", 80)});
  p_.Register("w", 4);
  Saves("w", "short", 1, 20);
  Core again(p_.options_, p_.Snapshot());
  ASSERT_TRUE(again.CheckInvariants().ok()) << again.CheckInvariants();
  EXPECT_EQ(again.waiting(), 0) << "long waits for middle, which runs";
  again.Apply(CancelTrial{.trial = p_.ids_.at("middle")}, Now{.cluster = p_.now_});
  EXPECT_THAT(again.Explain(p_.ids_.at("long"), Now{.cluster = p_.now_})[0],
              HasSubstr("it began from step 20"));
}

TEST_F(Trunks, WhatRanOutOfMemoryIsNoTrunk) {
  p_.Sweep({Budget("short", 20), Budget("long", 80)});
  p_.Register("w", 4);
  Ends("w", "short", Outcome::kOutOfMemory);
  EXPECT_EQ(p_.Row("long").state, StageState::kRunning) << "it is not waited for any more";
  p_.Pass(absl::Minutes(1));
  p_.Register("w", 4, {p_.Running("long")});
  Saves("w", "short", 1, 20);
  EXPECT_THAT(p_.trunks_, IsEmpty());
}

TEST_F(Trunks, EqualTrunksAreComputedOnce) {
  p_.Sweep({Budget("a", 40), Budget("b", 40)});
  p_.Register("w", 4);
  EXPECT_EQ(p_.Draw(), "a=running@w#1 b=pending");
  Saves("w", "a", 1, 40);
  EXPECT_EQ(GrantOf("w", "b").checkpoint_path, "a/40");
}

}  // namespace
}  // namespace plumb::core
