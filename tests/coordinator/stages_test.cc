// Trees of stages: what starts from what, what is retried alone, what trials gain after their end.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/coordinator/picture.h"

namespace plumb::core {
namespace {

using ::testing::HasSubstr;

S Of(const std::string& name, const std::string& parent, const std::string& kind = "evaluate") {
  S s;
  s.name = name, s.parent = parent, s.kind = kind;
  return s;
}

class Stages : public ::testing::Test {
 protected:
  Stages() : p_({.max_failures = 1}) { p_.Register("w", 4); }
  // `others` run on.
  void Ends(const std::string& key, Outcome outcome, const std::vector<std::string>& others = {}) {
    std::vector<AttemptReport> says = {p_.Ended(key, outcome)};
    for (const std::string& other : others) says.push_back(p_.Running(other));
    p_.Says("w", says);
  }
  absl::StatusOr<Answer> Add(const std::string& key, StageRow stage,
                             const std::string& parent = "") {
    return p_
        .Do(AddStage{.trial = p_.ids_.at(key),
                     .stage = std::move(stage),
                     .parent = parent,
                     .known = p_.Tree(key),
                     .links = p_.links_})
        .answer;
  }
  absl::StatusOr<Answer> Retry(const std::string& key, const std::string& stage) {
    return p_
        .Do(RetryTrial{
            .trial = p_.ids_.at(key), .known = p_.Tree(key), .links = p_.links_, .stage = stage})
        .answer;
  }
  static StageRow Score(const std::string& settings = "{}") {
    return {.name = "score",
            .kind = "evaluate",
            .settings_json = settings,
            .target_step = 1,
            .labels = "z"};
  }
  Picture p_;
};

TEST_F(Stages, EachStartsFromTheNearestCheckpointBeforeIt) {
  p_.Sweep(
      {T{"a", {S{}, Of("cut", "pretrain", "external"), Of("look", "cut"), Of("sum", "look")}}});
  p_.Says("w", {p_.Running("a")}, {p_.Batch("a", 1, 1, 40)});
  Ends("a", Outcome::kSucceeded);
  const Grant cut = p_.Desired("w").at(0);
  EXPECT_EQ(cut.checkpoint_step, 40);
  EXPECT_FALSE(cut.resume);
  p_.Says("w", {p_.Running("a.cut")}, {p_.Batch("a.cut", 1, 1, 7)});
  EXPECT_EQ(p_.Draw(), "a=succeeded a.cut=running@w#1 a.look=pending a.sum=pending");
  Ends("a.cut", Outcome::kSucceeded);
  EXPECT_EQ(p_.Desired("w").at(0).checkpoint_step, 7);
  EXPECT_FALSE(p_.Desired("w").at(0).resume);
  Ends("a.look", Outcome::kSucceeded);  // leaves nothing: the one before it does
  EXPECT_EQ(p_.Desired("w").at(0).attempt.stage, p_.Row("a.sum").id);
  EXPECT_EQ(p_.Desired("w").at(0).checkpoint_step, 7);
}

TEST_F(Stages, WhatFailsTakesOnlyItsOwnBranch) {
  const SweepId sweep = p_.Sweep(
      {T{"a",
         {S{}, Of("cut", "pretrain"), Of("look", "cut"), Of("sum", "look"), Of("b", "pretrain")}}});
  Ends("a", Outcome::kSucceeded);
  Ends("a.cut", Outcome::kFailed, {"a.b"});
  EXPECT_EQ(p_.Draw(), "a=succeeded a.cut=failed a.look=cancelled a.sum=cancelled a.b=running@w#1");
  Ends("a.b", Outcome::kSucceeded);
  EXPECT_EQ(p_.SweepState(sweep), "completed");
  // Retried alone: with what was cancelled because of it, and nothing else.
  EXPECT_EQ(std::get<Counted>(*Retry("a", "cut")).stages, 3);
  EXPECT_EQ(p_.Draw(), "a=succeeded a.cut=running@w#2 a.look=pending a.sum=pending a.b=succeeded");
  EXPECT_EQ(p_.SweepState(sweep), "running");
  Ends("a.cut", Outcome::kSucceeded);
  Ends("a.look", Outcome::kFailed);
  EXPECT_EQ(std::get<Counted>(*Retry("a", "look")).stages, 2);
  Ends("a.look", Outcome::kSucceeded);
  Ends("a.sum", Outcome::kSucceeded);
  EXPECT_EQ(p_.SweepState(sweep), "completed");
}

TEST_F(Stages, RetryOfAStageSaysWhyNot) {
  p_.Sweep({T{"a", {S{}, Of("cut", "pretrain"), Of("look", "cut"), Of("far", "pretrain")}}});
  const auto why = [&](const std::string& stage) {
    return std::string(Retry("a", stage).status().message());
  };
  EXPECT_THAT(why("cut"), HasSubstr("has not ended (pending)"));
  Ends("a", Outcome::kSucceeded);
  EXPECT_THAT(why("lok"), HasSubstr("trial 1 has no stage lok; it has pretrain, cut, look, far"));
  EXPECT_THAT(why("pretrain"), HasSubstr("ended as succeeded, which is a result"));
  Ends("a.cut", Outcome::kFailed, {"a.far"});
  EXPECT_THAT(why("look"), HasSubstr("needs cut, which ended as failed; retry that one"));
  Ends("a.far", Outcome::kInfeasible);
  EXPECT_THAT(why("far"), HasSubstr("ended as infeasible, which is a result"));
  EXPECT_EQ(p_.Row("a.cut").state, StageState::kFailed);
}

TEST_F(Stages, AFinishedTrialGainsAStageOnceAndItsSweepsWait) {
  const SweepId first = p_.Sweep({T{"a"}}), second = p_.Sweep({T{"a"}});
  p_.Says("w", {p_.Running("a")}, {p_.Batch("a", 1, 1, 40)});
  Ends("a", Outcome::kSucceeded);
  EXPECT_EQ(p_.SweepState(first), "completed");
  const StageAdded added = std::get<StageAdded>(*Add("a", Score()));
  EXPECT_TRUE(added.is_new);
  EXPECT_EQ(added.name, "score");
  EXPECT_EQ(p_.Draw(), "a=succeeded a.score=pending") << "no worker is labelled z";
  EXPECT_EQ(p_.Row("a.score").labels, "z");
  EXPECT_EQ(p_.SweepState(first), "running");
  EXPECT_EQ(p_.SweepState(second), "running");
  EXPECT_FALSE(std::get<StageAdded>(*Add("a", Score())).is_new);
  EXPECT_EQ(std::get<StageAdded>(*Add("a", Score("{1}"))).name, "score-2");
  p_.Register(WorkerRow{.name = "z", .slots = 2, .labels = "z"});
  EXPECT_EQ(p_.Draw(), "a=succeeded a.score=running@z#1 a.score-2=running@z#1");
  EXPECT_EQ(p_.Desired("z").at(0).checkpoint_step, 40);
  p_.Says("z", {p_.Ended("a.score", Outcome::kSucceeded), p_.Ended("a.score-2", Outcome::kFailed)});
  EXPECT_EQ(p_.SweepState(first), "completed");
  EXPECT_EQ(p_.SweepState(second), "completed");
  // Asked for again: what has a result has it, what failed is tried again.
  EXPECT_FALSE(std::get<StageAdded>(*Add("a", Score())).retried);
  EXPECT_EQ(p_.SweepState(first), "completed");
  EXPECT_TRUE(std::get<StageAdded>(*Add("a", Score("{1}"))).retried);
  EXPECT_EQ(p_.SweepState(first), "running");
}

TEST_F(Stages, NoTrialGainsAStageThatCouldNotRun) {
  p_.Sweep({T{"a"}, T{"b"}});
  Ends("a", Outcome::kDiverged, {"b"});
  EXPECT_EQ(std::string(Add("a", Score()).status().message()),
            "its stage pretrain ended as diverged");
  EXPECT_EQ(std::string(Add("b", Score(), "cut").status().message()), "it has no stage cut");
  EXPECT_EQ(p_.Draw(), "a=diverged b=running@w#1");
  // One that is on its way may gain one.
  EXPECT_TRUE(std::get<StageAdded>(*Add("b", Score())).is_new);
  EXPECT_EQ(p_.Draw(), "a=diverged b=running@w#1 b.score=pending");
}

// What a sweep's file calls a stage, where the trial calls it otherwise.
std::string OtherNames(const Effects& effects) {
  for (const Change& change : effects.changes) {
    if (const auto* link = std::get_if<InsertSweepTrial>(&change)) return link->row.stages_json;
  }
  return "no trial";
}

TEST_F(Stages, WhatDoesTheSameUnderAnotherNameIsThatStage) {
  p_.Sweep({T{"a", {S{}, Of("score", "pretrain"), Of("more", "score", "external")}}});
  Ends("a", Outcome::kSucceeded);
  Ends("a.score", Outcome::kSucceeded);
  Ends("a.more", Outcome::kSucceeded);
  S root;
  root.name = "base";
  const auto asks = [&](const std::vector<S>& stages) {
    const SweepId sweep = p_.Plan(1);
    MaterializeSlice slice{.sweep = sweep};
    auto list = std::make_shared<std::vector<NewTrial>>();
    NewTrial n{.trial = {.key = "a", .fusion_key = "f", .seq_len = 8, .batch_tokens = 64}};
    for (const S& s : stages) {
      n.stages.push_back(
          {.name = s.name, .kind = s.kind, .settings_json = s.settings, .target_step = 100});
      n.parents.push_back(s.parent);
    }
    list->push_back(n);
    slice.trials = list;
    slice.known["a"] = p_.Tree("a");
    return OtherNames(p_.Do(slice));
  };
  EXPECT_EQ(asks({root, Of("eval", "base"), Of("more", "eval", "external")}),
            R"({"base":"pretrain","eval":"score"})");
  EXPECT_EQ(p_.Draw(), "a=succeeded a.score=succeeded a.more=succeeded") << "nothing is new";
  S other = Of("score", "base");
  other.settings = "{1}";
  EXPECT_EQ(asks({root, other}), R"({"base":"pretrain","score":"score-2"})");
  EXPECT_EQ(p_.Row("a.score-2").parent, p_.Row("a").id);
  // Two that do the same are two, as they would be in a new trial.
  EXPECT_EQ(asks({S{}, Of("score", "pretrain"), Of("again", "pretrain")}), "{}");
  EXPECT_EQ(p_.Row("a.again").kind, "evaluate");
}

TEST_F(Stages, WhoIsGivenUpAfterItsTrainingIsStoppedInWhatFollows) {
  const Effects e = p_.Do(SubmitSweep{
      .sweep = {
          .name = "s", .request_id = "open", .request_hash = "h", .trials = 1, .open = true}});
  const SweepId sweep = std::get<Submitted>(*e.answer).sweep;
  p_.Slice(sweep, 0,
           {T{"a", {S{}, Of("score", "pretrain"), Of("sum", "score"), Of("far", "pretrain")}}});
  Ends("a", Outcome::kSucceeded);
  EXPECT_EQ(p_.Draw(), "a=succeeded a.score=running@w#1 a.sum=pending a.far=running@w#1");
  const auto due = p_.core_.NextDue();
  p_.Do(AdviseSweep{.sweep = sweep, .open = true, .seen = due ? due->seen : -1});
  ASSERT_EQ(p_.core_.NextDue(), std::nullopt);
  Ends("a.far", Outcome::kSucceeded, {"a.score"});
  EXPECT_TRUE(p_.core_.NextDue())
      << "what a later stage measured may decide, while the trial lives";
  p_.Do(AdviseSweep{.sweep = sweep,
                    .verdicts = {{.trial = p_.ids_.at("a"), .stop = true, .reason = "it is worse"}},
                    .open = false});
  EXPECT_EQ(p_.Draw(), "a=succeeded a.score=stopped a.sum=cancelled a.far=succeeded");
  EXPECT_EQ(p_.SweepState(sweep), "completed");
}

}  // namespace
}  // namespace plumb::core
