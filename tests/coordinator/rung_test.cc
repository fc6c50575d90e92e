// Stages that pause at rungs, and who goes on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/coordinator/picture.h"

namespace plumb::core {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

using Verdict = AdviseSweep::Verdict;

class Rungs : public ::testing::Test {
 protected:
  // An open sweep of "a" and "b", which pause at step 10, and a worker with room for one.
  Rungs() {
    sweep_ = Open("r");
    p_.Slice(sweep_, 0, {At("a", 10), At("b", 10)});
    p_.Register("w", 1);
  }
  SweepId Open(const std::string& request, int64_t trials = 2) {
    const Effects e = p_.Do(SubmitSweep{.sweep = {.name = "s",
                                                  .request_id = request,
                                                  .request_hash = "h",
                                                  .trials = trials,
                                                  .open = true}});
    return std::get<Submitted>(*e.answer).sweep;
  }
  static T At(const std::string& key, int64_t until) { return {key, {S{.until = until}}}; }
  // The trial comes to its rung, with a checkpoint.
  void Pauses(const std::string& key, int64_t step) {
    p_.Says("w", {p_.Running(key)}, {p_.Batch(key, 1, 1, step)});
    p_.Says("w", {p_.Ended(key, Outcome::kPaused, 1)});
  }
  void Judged(const std::string& key, int64_t until, bool stop = false, SweepId sweep = {}) {
    p_.Do(AdviseSweep{.sweep = sweep ? sweep : sweep_,
                      .verdicts = {{.trial = p_.ids_.at(key),
                                    .stop = stop,
                                    .until_step = until,
                                    .reason = "2.5 is the best"}},
                      .open = true});
  }
  SweepState State(SweepId sweep) const { return p_.sweeps_.at(sweep).state; }

  Picture p_;
  SweepId sweep_;
};

TEST_F(Rungs, APausedStageFreesItsPlaceAndGoesOnWhenItIsPromoted) {
  ASSERT_THAT(p_.Desired("w"), SizeIs(1));
  EXPECT_EQ(p_.Desired("w")[0].until_step, 10);
  Pauses("a", 10);
  EXPECT_EQ(p_.Draw(), "a=paused b=running@w#1");
  ASSERT_TRUE(p_.core_.NextDue());
  Judged("a", 30);
  EXPECT_EQ(p_.Draw(), "a=pending b=running@w#1");
  EXPECT_THAT(p_.Row("a").reason, HasSubstr("2.5 is the best"));
  Pauses("b", 10);
  EXPECT_EQ(p_.Draw(), "a=running@w#2 b=paused");
  EXPECT_EQ(p_.Desired("w")[0].until_step, 30);
  EXPECT_EQ(p_.Desired("w")[0].checkpoint_step, 10);
  Pauses("a", 30);
  Judged("a", -1);
  EXPECT_EQ(p_.Desired("w")[0].until_step, -1);
}

// The next promotion waits for it.
TEST_F(Rungs, APlaceOnTheWayToARungIsNews) {
  Pauses("a", 10);
  const auto due = p_.core_.NextDue();
  ASSERT_TRUE(due);
  p_.Do(AdviseSweep{.sweep = sweep_,
                    .verdicts = {{.trial = p_.ids_.at("a"), .until_step = 30}},
                    .open = true,
                    .seen = due->seen});
  EXPECT_EQ(p_.Draw(), "a=pending b=running@w#1");
  EXPECT_EQ(p_.core_.NextDue(), std::nullopt);
  p_.Register("v", 1);
  EXPECT_EQ(p_.Draw(), "a=running@v#2 b=running@w#1");
  EXPECT_TRUE(p_.core_.NextDue());
}

TEST_F(Rungs, WhatIsStoppedEndsWhereverItIs) {
  Judged("a", -1, /*stop=*/true);  // while it runs
  EXPECT_EQ(p_.Draw(), "a=stopped b=pending");
  p_.Says("w", {});
  EXPECT_EQ(p_.Draw(), "a=stopped b=running@w#1");
  Pauses("b", 10);
  Judged("b", -1, /*stop=*/true);
  EXPECT_EQ(p_.Draw(), "a=stopped b=stopped");
  EXPECT_EQ(State(sweep_), SweepState::kRunning);
  p_.Do(AdviseSweep{.sweep = sweep_, .open = false});
  EXPECT_EQ(State(sweep_), SweepState::kCompleted);
}

TEST_F(Rungs, PromotedOnItsWayItDoesNotStayPaused) {
  Judged("a", 30);
  EXPECT_EQ(p_.Desired("w")[0].until_step, 30) << "the worker is told";
  Pauses("a", 10);  // it had come there before it heard
  EXPECT_EQ(p_.Draw(), "a=running@w#2 b=pending");
}

TEST_F(Rungs, AVerdictIsNeverTakenBackAndMayComeTwice) {
  Judged("a", 30);
  Judged("a", 20);
  EXPECT_EQ(p_.Row("a").until_step, 30);
  Judged("a", 100);  // its end
  EXPECT_EQ(p_.Row("a").until_step, -1);
  Judged("a", 50);
  EXPECT_EQ(p_.Row("a").until_step, -1);
}

// Another begins from it, perhaps when this one is far beyond.
TEST_F(Rungs, TheCheckpointOfAForkIsKept) {
  Pauses("a", 10);
  EXPECT_EQ(p_.Row("a").trunk_step, 0);
  p_.Do(AdviseSweep{.sweep = sweep_,
                    .verdicts = {{.trial = p_.ids_.at("a"), .until_step = 30, .keep_step = 10}},
                    .open = true});
  Pauses("b", 10);
  ASSERT_EQ(p_.Draw(), "a=running@w#2 b=paused");
  EXPECT_EQ(p_.Desired("w")[0].keep_step, 10);
  Core again({}, p_.Snapshot());
  EXPECT_EQ(again.Desired(p_.workers_.at("w"))[0].keep_step, 10);
  Pauses("a", 30);
  Judged("a", -1);
  EXPECT_EQ(p_.Desired("w")[0].keep_step, 0) << "no one begins from the next";
}

// It is no branch of a trunk: what it begins with is in its config, and stands when its own
// checkpoint is lost.
TEST_F(Rungs, AForkSaysWhereItBeganAndBeginsThereAgain) {
  Pauses("a", 10);
  const SweepId sweep = Open("f", 1);
  p_.Slice(sweep, 0, {{"f", {S{.until = 20, .branch = p_.Row("a").id, .branch_step = 10}}}});
  EXPECT_THAT(p_.journal_, HasSubstr("forked"));
  p_.Register("v", 1);
  ASSERT_EQ(p_.Draw(), "a=paused b=running@w#1 f=running@v#1");
  EXPECT_FALSE(p_.Desired("v")[0].resume);
  p_.Says("v", {p_.Running("f")}, {p_.Batch("f", 1, 1, 12)});
  p_.Says("v", {p_.Ended("f", Outcome::kPreempted, 1)});
  ASSERT_EQ(p_.Draw(), "a=paused b=running@w#1 f=running@v#2");
  EXPECT_EQ(p_.Desired("v")[0].checkpoint_step, 12);
  AttemptReport gone = p_.Ended("f", Outcome::kFailed);
  gone.checkpoint_gone = true;
  p_.Says("v", {gone});
  EXPECT_EQ(p_.Row("f").checkpoint_step, -1);
  EXPECT_EQ(p_.Row("f").branch_stage, p_.Row("a").id);
  EXPECT_EQ(p_.Row("f").branch_step, 10);
}

TEST_F(Rungs, StandsAfterARestart) {
  Pauses("a", 10);
  Core again({}, p_.Snapshot());
  EXPECT_TRUE(again.NextDue());
  again.Apply(AdviseSweep{.sweep = sweep_,
                          .verdicts = {{.trial = p_.ids_.at("a"), .until_step = -1}},
                          .open = true},
              {.cluster = absl::Seconds(1)});
  ASSERT_TRUE(again.CheckInvariants().ok()) << again.CheckInvariants();
  EXPECT_EQ(again.waiting(), 1);
}

TEST_F(Rungs, AnEvaluationIsNewsAndOtherPointsAreNot) {
  const auto says = [&](const std::string& series, int64_t seq) {
    auto batch = std::make_shared<MeasurementBatch>(*p_.Batch("a", seq, seq));
    batch->series.push_back({.name = series, .points = {{.step = 5, .value = 1}}});
    p_.Says("w", {p_.Running("a")}, {batch});
  };
  says("train/loss", 1);
  const auto before = p_.core_.NextDue();
  if (before) p_.Do(AdviseSweep{.sweep = sweep_, .open = true, .seen = before->seen});
  says("train/loss", 2);
  EXPECT_EQ(p_.core_.NextDue(), std::nullopt);
  says("tune/bits_per_byte", 3);
  EXPECT_TRUE(p_.core_.NextDue());
}

TEST_F(Rungs, LooksAreNumberedAndThoseOfAnOlderStateChangeNothing) {
  p_.Do(AdviseSweep{
      .sweep = sweep_, .looks = {{.trial_idx = 0, .step = 10, .value = 2.5}}, .open = true});
  p_.Do(AdviseSweep{
      .sweep = sweep_, .looks_before = 1, .looks = {{.trial_idx = 1, .step = 10}}, .open = true});
  p_.Do(AdviseSweep{.sweep = sweep_,
                    .looks_before = 1,
                    .looks = {{.trial_idx = 1, .step = 20}},
                    .verdicts = {{.trial = p_.ids_.at("a"), .stop = true}},
                    .open = true});
  ASSERT_THAT(p_.looks_, SizeIs(2));
  EXPECT_EQ(p_.looks_[1].seq, 1);
  EXPECT_EQ(p_.Row("a").state, StageState::kRunning);
  Core again({}, p_.Snapshot());
  again.Apply(AdviseSweep{.sweep = sweep_,
                          .looks_before = 1,
                          .looks = {{.trial_idx = 1, .step = 20}},
                          .verdicts = {{.trial = p_.ids_.at("a"), .stop = true}},
                          .open = true},
              {.cluster = absl::Seconds(1)});
  EXPECT_FALSE(again.Desired(p_.workers_.at("w")).empty());
}

TEST_F(Rungs, AnotherSweepThatWantsAllOfATrialGetsIt) {
  Pauses("a", 10);
  p_.Sweep({T{"a"}});  // without a rung
  EXPECT_EQ(p_.Row("a").state, StageState::kPending);
  EXPECT_EQ(p_.Row("a").until_step, -1);
  Judged("a", -1, /*stop=*/true);
  EXPECT_EQ(p_.Row("a").state, StageState::kPending) << "the other sweep waits for it";
}

TEST_F(Rungs, WhatOneSweepStoppedAnotherMayHaveOn) {
  Pauses("a", 10);
  Judged("a", -1, /*stop=*/true);
  EXPECT_EQ(p_.Row("a").state, StageState::kStopped);
  p_.Sweep({T{"a"}});
  EXPECT_EQ(p_.Row("a").state, StageState::kPending);
  EXPECT_EQ(p_.Row("a").until_step, -1);
  EXPECT_EQ(p_.Row("a").checkpoint_step, 10);
}

TEST_F(Rungs, StopsWhenAllThatWaitForItHaveGivenItUp) {
  const SweepId other = Open("other");
  p_.Slice(other, 0, {At("a", 10), At("c", 10)});
  Pauses("a", 10);
  Judged("a", -1, /*stop=*/true);
  EXPECT_EQ(p_.Row("a").state, StageState::kPaused);
  Judged("a", -1, /*stop=*/true, other);
  EXPECT_EQ(p_.Row("a").state, StageState::kStopped);
}

TEST_F(Rungs, StopsWhenTheLastThatHadNotGivenItUpIsCancelled) {
  const SweepId other = Open("other");
  p_.Slice(other, 0, {At("a", 10), At("c", 10)});
  Pauses("a", 10);
  Judged("a", -1, /*stop=*/true);
  p_.Do(CancelSweep{other});
  EXPECT_EQ(p_.Row("a").state, StageState::kStopped);
}

}  // namespace
}  // namespace plumb::core
