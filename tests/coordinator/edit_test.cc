// Sweeps that users edit, import and remove.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/coordinator/picture.h"

namespace plumb::core {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

ExtendSweep Adds(SweepId sweep, const std::string& name, int64_t trials, int64_t before = 0) {
  return {.sweep = sweep,
          .addition = {.name = name, .payload_json = name, .trials = trials},
          .additions_before = before,
          .user = "ann",
          .what = "more"};
}

class Editing : public ::testing::Test {
 protected:
  Editing() {
    sweep_ = p_.Sweep({T{"a"}, T{"b"}});
    p_.Register("w", 1);
  }
  void Succeeds(const std::string& key) { p_.Says("w", {p_.Ended(key, Outcome::kSucceeded)}); }
  std::string State() const { return p_.SweepState(sweep_); }
  absl::Status Refused(const Event& e) {
    const Effects effects = p_.Do(e);
    EXPECT_TRUE(effects.changes.empty()) << "what is refused changes nothing";
    return effects.answer.status();
  }

  Picture p_;
  SweepId sweep_;
};

TEST_F(Editing, ARunningSweepGainsTrialsAndWaitsForThem) {
  const Effects e = p_.Do(Adds(sweep_, "edit 1", 1));
  EXPECT_EQ(std::get<Extended>(*e.answer).trials, 1);
  EXPECT_EQ(State(), "materializing");
  const auto slice = p_.core_.NextSlice();
  ASSERT_TRUE(slice);
  EXPECT_EQ(slice->from, 2);
  EXPECT_EQ(slice->trials, 3);
  p_.Slice(sweep_, 2, {T{"c"}});
  for (const char* key : {"a", "b"}) Succeeds(key);
  EXPECT_EQ(State(), "running");
  Succeeds("c");
  EXPECT_EQ(State(), "completed");
  EXPECT_THAT(p_.journal_, HasSubstr("sweep_extended:more; by ann"));
}

TEST_F(Editing, AFinishedSweepIsReopened) {
  Succeeds("a");
  Succeeds("b");
  ASSERT_EQ(State(), "completed");
  p_.Do(Adds(sweep_, "edit 1", 1));
  EXPECT_EQ(State(), "materializing");
  p_.Slice(sweep_, 2, {T{"c"}});
  Succeeds("c");
  EXPECT_EQ(State(), "completed");
  EXPECT_THAT(p_.journal_, HasSubstr("sweep_reopened"));
}

TEST_F(Editing, ARequestIsCarriedOutOnceAlsoAfterARestart) {
  p_.Do(Adds(sweep_, "edit 1", 1));
  const Effects again = p_.Do(Adds(sweep_, "edit 1", 1));
  EXPECT_TRUE(std::get<Extended>(*again.answer).repeated);
  EXPECT_EQ(p_.sweeps_.at(sweep_).trials, 3);
  Core restarted({}, p_.Snapshot());
  const Effects later = restarted.Apply(Adds(sweep_, "edit 1", 1), {});
  EXPECT_TRUE(std::get<Extended>(*later.answer).repeated);
  ASSERT_TRUE(restarted.NextSlice());
  EXPECT_EQ(restarted.NextSlice()->trials, 3);
  ExtendSweep other = Adds(sweep_, "edit 1", 1);
  other.addition.payload_json = "another";
  EXPECT_EQ(Refused(other).code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(Editing, AnEditMadeForAnOlderStateIsAborted) {
  p_.Do(Adds(sweep_, "edit 1", 1));
  EXPECT_EQ(Refused(Adds(sweep_, "edit 2", 1)).code(), absl::StatusCode::kAborted);
  EXPECT_TRUE(p_.Do(Adds(sweep_, "edit 2", 1, 1)).answer.ok());
  // And so is advice.
  AdviseSweep advice{.sweep = sweep_,
                     .additions = {{.name = "winner", .payload_json = "{}", .trials = 1}},
                     .additions_before = 1,
                     .open = false};
  EXPECT_TRUE(p_.Do(advice).changes.empty());
}

TEST_F(Editing, CellsThatHaveNotBegunAreTakenOut) {
  ExtendSweep e = Adds(sweep_, "edit 1", 0);
  const TrialId a = p_.ids_.at("a"), b = p_.ids_.at("b");
  e.removed = {{.cell_idx = 0, .name = "one", .trials = {a}}};
  EXPECT_THAT(std::string(Refused(e).message()),
              HasSubstr("cell one stays: its trial 1 has begun (stage pretrain is running)"));
  e.removed = {{.cell_idx = 1, .name = "two", .trials = {b}}};
  const Effects done = p_.Do(e);
  EXPECT_EQ(std::get<Extended>(*done.answer).cancelled_stages, 1);
  EXPECT_EQ(p_.Draw(), "a=running@w#1 b=cancelled");
  EXPECT_EQ(p_.Row("b").reason, "cell two was taken out of sweep 1 by ann");
  EXPECT_EQ(p_.flags_.at(1), "removed");
  Succeeds("a");
  EXPECT_EQ(State(), "completed");
}

TEST_F(Editing, TakingOutTheLastThatIsLiveEndsTheSweep) {
  Succeeds("a");
  p_.Do(CancelTrial{.trial = p_.ids_.at("b")});
  ASSERT_EQ(State(), "completed");
  ExtendSweep e = Adds(sweep_, "edit 1", 0);
  e.removed = {{.cell_idx = 1, .name = "two", .trials = {p_.ids_.at("b")}}};
  EXPECT_THAT(std::string(Refused(e).message()), HasSubstr("its trial 2 has ended"));
}

TEST_F(Editing, ATrialThatAnotherSweepWaitsForIsOnlyLetGo) {
  const SweepId other = p_.Sweep({T{"b"}});
  ExtendSweep e = Adds(sweep_, "edit 1", 0);
  e.removed = {{.cell_idx = 1, .name = "two", .trials = {p_.ids_.at("b")}}};
  EXPECT_EQ(std::get<Extended>(*p_.Do(e).answer).cancelled_stages, 0);
  Succeeds("a");
  EXPECT_EQ(State(), "completed");
  EXPECT_EQ(p_.SweepState(other), "running");
  Succeeds("b");
  EXPECT_EQ(p_.SweepState(other), "completed");
}

TEST_F(Editing, WhatIsCancelledIsNotEdited) {
  p_.Do(CancelSweep{sweep_});
  EXPECT_THAT(std::string(Refused(Adds(sweep_, "edit 1", 1)).message()),
              HasSubstr("plumb sweep fork 1"));
  EXPECT_EQ(Refused(Adds(SweepId{9}, "edit 1", 1)).code(), absl::StatusCode::kNotFound);
}

TEST_F(Editing, RetryTakesBackTheEndsThatAreAskedFor) {
  p_.Says("w", {p_.Ended("a", Outcome::kDiverged)});
  Succeeds("b");
  RetryTrial retry{.trial = p_.ids_.at("a"),
                   .known = p_.Tree("a"),
                   .links = {{.sweep = sweep_, .trial = p_.ids_.at("a")}}};
  EXPECT_EQ(std::get<Counted>(*p_.Do(retry).answer).stages, 0) << "a result";
  retry.from = {StageState::kDiverged};
  retry.user = "ann";
  retry.known = p_.Tree("a");
  EXPECT_EQ(std::get<Counted>(*p_.Do(retry).answer).stages, 1);
  EXPECT_EQ(p_.Draw(), "a=running@w#2 b=succeeded");
  EXPECT_EQ(State(), "running");
  EXPECT_THAT(p_.journal_, HasSubstr("retried:retried on request of ann"));
}

TEST_F(Editing, TagsAndNotesAreOfWhatIsThere) {
  p_.Do(Annotate{.sweep = sweep_, .add = {"baseline"}, .note = "n", .user = "ann"});
  EXPECT_THAT(p_.tags_, ElementsAre("baseline"));
  EXPECT_EQ(p_.note_, "n");
  p_.Do(Annotate{.trial = p_.ids_.at("a"), .remove = {"baseline"}});
  EXPECT_THAT(p_.tags_, SizeIs(0));
  EXPECT_EQ(Refused(Annotate{.sweep = SweepId{9}, .add = {"x"}}).code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(Refused(Annotate{.trial = TrialId{9}, .add = {"x"}}).code(),
            absl::StatusCode::kNotFound);
  EXPECT_THAT(p_.journal_, HasSubstr("tagged:baseline; by ann"));
}

class Importing : public Editing {
 protected:
  SweepId Begin(int64_t trials) {
    const Effects e = p_.Do(SubmitSweep{.sweep = {.name = "i",
                                                  .request_id = "import",
                                                  .request_hash = "h",
                                                  .trials = trials,
                                                  .imported = true,
                                                  .origin_json = "{}"}});
    return std::get<Submitted>(*e.answer).sweep;
  }
  Effects Import(SweepId sweep, int64_t from, const std::vector<std::string>& keys) {
    ImportTrials e{.sweep = sweep, .from = from};
    auto trials = std::make_shared<std::vector<ImportTrials::Imported>>();
    for (const std::string& key : keys) {
      ImportTrials::Imported t{.foreign = true, .origin_json = "{}"};
      t.trial.trial = {.key = key, .state = StageState::kSucceeded};
      t.trial.stages = {{.name = "pretrain", .kind = "pretrain", .state = StageState::kSucceeded}};
      t.trial.parents = {""};
      t.results = {std::make_shared<MeasurementBatch>()};
      trials->push_back(std::move(t));
      if (p_.ids_.contains(key)) e.known[key] = p_.Tree(key);
    }
    e.trials = trials;
    return p_.Do(e);
  }
};

TEST_F(Importing, TrialsComeWithTheirEndsAndNothingIsGranted) {
  const SweepId i = Begin(3);
  EXPECT_EQ(p_.core_.NextSlice(), std::nullopt) << "nobody plans them";
  Import(i, 0, {"x", "y"});
  EXPECT_EQ(p_.SweepState(i), "materializing");
  Import(i, 0, {"x", "y"});  // again
  EXPECT_EQ(p_.sweeps_.at(i).cursor, 2);
  Core restarted({}, p_.Snapshot());  // in between
  EXPECT_TRUE(restarted.CheckInvariants().ok());
  Import(i, 2, {"z"});
  EXPECT_EQ(p_.SweepState(i), "completed");
  EXPECT_EQ(p_.Draw(), "a=running@w#1 b=pending x=succeeded y=succeeded z=succeeded");
  EXPECT_TRUE(p_.origins_.at(p_.ids_.at("x")));
  EXPECT_THAT(p_.results_, SizeIs(3));
}

TEST_F(Importing, ATrialThatIsThereIsSharedAsItIs) {
  Succeeds("a");
  const SweepId i = Begin(2);
  Import(i, 0, {"a", "b"});
  EXPECT_EQ(p_.links_.at(2).trial, p_.ids_.at("a"));
  EXPECT_EQ(p_.links_.at(2).shared, 1);
  EXPECT_THAT(p_.results_, SizeIs(0)) << "nothing is overwritten";
  EXPECT_EQ(p_.SweepState(i), "running") << "b is computed here";
  Succeeds("b");
  EXPECT_EQ(p_.SweepState(i), "completed");
}

TEST_F(Importing, OnlyWhatWasBegunAsAnImportTakesTrialsAndNoMoreThanAnnounced) {
  EXPECT_EQ(Import(sweep_, 2, {"x"}).answer.status().code(), absl::StatusCode::kFailedPrecondition);
  const SweepId i = Begin(1);
  EXPECT_EQ(Import(i, 0, {"x", "y"}).answer.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Refused(Adds(i, "edit 1", 1)).code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(Editing, WhatLivesIsNotRemoved) {
  EXPECT_THAT(std::string(Refused(RemoveSweep{.sweep = sweep_}).message()),
              HasSubstr("sweep 1 is running; end it first"));
  EXPECT_EQ(Refused(RemoveTrial{.trial = p_.ids_.at("a"), .known = p_.Tree("a")}).code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Refused(PurgeTrial{.trial = p_.ids_.at("a")}).code(),
            absl::StatusCode::kFailedPrecondition);
  Succeeds("a");
  EXPECT_THAT(std::string(Refused(RemoveTrial{.trial = p_.ids_.at("a"),
                                              .known = p_.Tree("a"),
                                              .links = {{.sweep = sweep_}}})
                              .message()),
              HasSubstr("is of sweep 1, which is running"));
}

TEST_F(Editing, ARemovedSweepIsGoneAndItsIdIsNotGivenAgain) {
  Succeeds("a");
  Succeeds("b");
  p_.Do(RemoveSweep{.sweep = sweep_, .limit = 10});
  p_.Do(RemoveSweep{.sweep = sweep_, .last = true, .user = "ann"});
  EXPECT_EQ(p_.core_.Find(sweep_), nullptr);
  EXPECT_FALSE(p_.sweeps_.contains(sweep_));
  EXPECT_THAT(p_.journal_, HasSubstr("sweep_removed:s; by ann"));
  EXPECT_EQ(Refused(RemoveSweep{.sweep = sweep_}).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(p_.Plan(1).value, 2);
  EXPECT_TRUE(p_.Do(PurgeTrial{.trial = p_.ids_.at("a"), .limit = 5}).answer.ok());
  EXPECT_THAT(p_.purged_, ElementsAre(p_.ids_.at("a")));
  // A retry that was looked up before it went.
  EXPECT_TRUE(
      p_.Do(RetryTrial{
                .trial = p_.ids_.at("b"), .known = p_.Tree("b"), .links = {{.sweep = sweep_}}})
          .answer.ok());
}

}  // namespace
}  // namespace plumb::core
