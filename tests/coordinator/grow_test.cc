// Sweeps that gain trials while they run, and after.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/coordinator/picture.h"

namespace plumb::core {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

AdviseSweep Adds(SweepId sweep, const std::string& name, int64_t trials, bool open,
                 int64_t seen = -1) {
  return {.sweep = sweep,
          .additions = {{.name = name, .payload_json = "{}", .trials = trials}},
          .open = open,
          .seen = seen};
}

class Growing : public ::testing::Test {
 protected:
  // An open sweep with the trial "a", a worker that runs it.
  Growing() {
    const Effects e = p_.Do(SubmitSweep{
        .sweep = {.name = "s", .request_id = "r", .request_hash = "h", .trials = 1, .open = true}});
    sweep_ = std::get<Submitted>(*e.answer).sweep;
    p_.Slice(sweep_, 0, {T{"a"}});
    p_.Register("w", 4);
  }
  void Succeeds(const std::string& key) { p_.Says("w", {p_.Ended(key, Outcome::kSucceeded)}); }
  SweepState State() const { return p_.sweeps_.at(sweep_).state; }

  Picture p_;
  SweepId sweep_;
};

TEST_F(Growing, AnOpenSweepWaitsForWhoAdvisesIt) {
  Succeeds("a");
  EXPECT_EQ(State(), SweepState::kRunning);
  const auto due = p_.core_.NextDue();
  ASSERT_TRUE(due);
  EXPECT_EQ(due->sweep, sweep_);
  p_.Do(Adds(sweep_, "winner of cell 0", 2, true, due->seen));
  EXPECT_EQ(State(), SweepState::kMaterializing);
  EXPECT_EQ(p_.core_.NextDue(), std::nullopt) << "not while its trials are still to come";
  const auto slice = p_.core_.NextSlice();
  ASSERT_TRUE(slice);
  EXPECT_EQ(slice->from, 1);
  EXPECT_EQ(slice->trials, 3);
  ASSERT_THAT(slice->additions, SizeIs(1));
  EXPECT_EQ(slice->additions[0].name, "winner of cell 0");
  p_.Slice(sweep_, 1, {T{"b"}, T{"c"}});
  EXPECT_EQ(State(), SweepState::kRunning);
  p_.Says("w", {p_.Ended("b", Outcome::kSucceeded), p_.Ended("c", Outcome::kDiverged)});
  EXPECT_EQ(State(), SweepState::kRunning);
  const auto again = p_.core_.NextDue();
  ASSERT_TRUE(again);
  p_.Do(AdviseSweep{.sweep = sweep_, .open = false, .seen = again->seen});
  EXPECT_EQ(State(), SweepState::kCompleted);
  EXPECT_FALSE(p_.sweeps_.at(sweep_).open);
}

TEST_F(Growing, IsDueAgainOnlyWhenSomethingMoreHasEnded) {
  p_.Do(Adds(sweep_, "more", 1, true));
  p_.Slice(sweep_, 1, {T{"b"}});
  p_.Says("w", {p_.Ended("a", Outcome::kSucceeded), p_.Running("b")});
  const auto first = p_.core_.NextDue();
  ASSERT_TRUE(first);
  Succeeds("b");  // while the advisor looks
  p_.Do(AdviseSweep{.sweep = sweep_, .open = true, .seen = first->seen});
  const auto second = p_.core_.NextDue();
  ASSERT_TRUE(second);
  p_.Do(AdviseSweep{.sweep = sweep_, .open = true, .seen = second->seen});
  EXPECT_EQ(p_.core_.NextDue(), std::nullopt);
}

TEST_F(Growing, ADecisionIsMadeOnceAlsoAcrossARestart) {
  Succeeds("a");
  p_.Do(Adds(sweep_, "winner", 1, true));
  p_.Do(Adds(sweep_, "winner", 1, true));
  EXPECT_EQ(p_.sweeps_.at(sweep_).trials, 2);
  Core again({}, p_.Snapshot());
  again.Apply(Adds(sweep_, "winner", 1, true), {.cluster = absl::Seconds(1)});
  const auto slice = again.NextSlice();
  ASSERT_TRUE(slice);
  EXPECT_EQ(slice->trials, 2);
  EXPECT_THAT(slice->additions, SizeIs(1));
  ASSERT_TRUE(again.CheckInvariants().ok()) << again.CheckInvariants();
}

TEST_F(Growing, IsDueAfterARestart) {
  Succeeds("a");
  const auto due = p_.core_.NextDue();
  p_.Do(AdviseSweep{.sweep = sweep_, .open = true, .seen = due->seen});
  EXPECT_EQ(p_.core_.NextDue(), std::nullopt);
  EXPECT_TRUE(Core({}, p_.Snapshot()).NextDue());
}

TEST_F(Growing, OneThatIsOverIsReopenedByTrialsAndByNothingElse) {
  Succeeds("a");
  p_.Do(AdviseSweep{.sweep = sweep_, .open = false});
  ASSERT_EQ(State(), SweepState::kCompleted);
  p_.Do(AdviseSweep{.sweep = sweep_, .open = true});
  EXPECT_EQ(State(), SweepState::kCompleted);
  p_.Do(Adds(sweep_, "two more", 2, false));
  EXPECT_EQ(State(), SweepState::kMaterializing);
  p_.Slice(sweep_, 1, {T{"b"}, T{"a"}});  // one of them is there already
  Succeeds("b");
  EXPECT_EQ(State(), SweepState::kCompleted);
}

TEST_F(Growing, AllSharedAdditionsAreDueAtOnce) {
  Succeeds("a");
  const auto due = p_.core_.NextDue();
  p_.Do(Adds(sweep_, "the same again", 1, true, due->seen));
  p_.Slice(sweep_, 1, {T{"a"}});
  EXPECT_TRUE(p_.core_.NextDue());
  EXPECT_EQ(State(), SweepState::kRunning);
}

TEST_F(Growing, WhatIsCancelledOrUnknownIsNotExtended) {
  EXPECT_EQ(p_.Do(Adds(SweepId{99}, "x", 1, false)).answer.status().code(),
            absl::StatusCode::kNotFound);
  p_.Do(CancelSweep{sweep_});
  EXPECT_EQ(p_.core_.NextDue(), std::nullopt);
  EXPECT_EQ(p_.Do(Adds(sweep_, "x", 1, true)).answer.status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(p_.sweeps_.at(sweep_).trials, 1);
}

}  // namespace
}  // namespace plumb::core
