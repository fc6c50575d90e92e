// Ranks over several workers: all at once or not at all, and ended together.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/coordinator/picture.h"

namespace plumb::core {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

WorkerRow Machine(const std::string& name, int64_t slots, const std::string& labels = "") {
  return {.name = name, .slots = slots, .labels = labels, .gang = "net"};
}
S Ranks(int64_t ranks, int64_t threads = 1) { return {.threads = ranks * threads, .ranks = ranks}; }
// Ranks that each worker has of what it is granted, "a:2@0 b:1@2", with the first one's number.
std::string Parts(const Picture& p) {
  std::vector<std::string> out;
  for (const auto& [name, id] : p.workers_) {
    for (const Grant& g : p.Desired(name))
      out.push_back(absl::StrCat(name, ":", g.ranks_here, "@", g.first_rank));
  }
  return absl::StrJoin(out, " ");
}
int64_t Used(const Picture& p, const std::string& worker) {
  for (const Core::WorkerView& w : p.core_.Workers({.cluster = p.now_})) {
    if (w.row.name == worker) return w.used;
  }
  return -1;
}

TEST(Gangs, AStageThatFitsOneWorkerGoesToIt) {
  Picture p;
  p.Register(Machine("a", 2));
  p.Register(Machine("b", 4));
  p.Sweep({T{"t", {Ranks(3)}}});
  EXPECT_EQ(Parts(p), "b:3@0");
  p.Sweep({T{"u", {Ranks(3)}}});  // there would be room on both, but b could hold it
  EXPECT_EQ(p.Draw(), "t=running@b#1 u=pending");
}

TEST(Gangs, OneThatFitsNoneIsGrantedToAsFewAsCanHoldIt) {
  Picture p;
  for (const char* name : {"a", "b", "c"}) p.Register(Machine(name, name[0] == 'b' ? 3 : 2));
  p.Sweep({T{"t", {Ranks(4)}}});
  EXPECT_EQ(Parts(p), "a:1@3 b:3@0");
  EXPECT_EQ(Used(p, "a"), 1);
  EXPECT_EQ(Used(p, "b"), 3);
  EXPECT_EQ(Used(p, "c"), 0);
  EXPECT_THAT(p.core_.Explain(p.ids_.at("t"), {})[0],
              HasSubstr("as one gang of 2 workers: b (3), a (1 of 4 ranks)"));
}

TEST(Gangs, WholeRanksGoToAWorker) {
  Picture p;
  p.Register(Machine("a", 3));
  p.Register(Machine("b", 3));
  p.Sweep({T{"t", {Ranks(2, 2)}}});
  EXPECT_EQ(Parts(p), "a:1@0 b:1@1");
  p.Sweep({T{"u", {Ranks(2, 2)}}});  // a slot is free on each: no place for a rank
  EXPECT_EQ(p.Draw(), "t=running@a#1@b#1 u=pending");
}

TEST(Gangs, AllOrNothing) {
  Picture p;
  p.Register(Machine("a", 1));
  p.Register(Machine("b", 1));
  p.Sweep({T{"t", {Ranks(3)}}});
  EXPECT_EQ(Parts(p), "");
  EXPECT_THAT(p.core_.Explain(p.ids_.at("t"), {})[0], HasSubstr("have room for 2 ranks"));
  p.Register(Machine("c", 1));
  EXPECT_EQ(Parts(p), "a:1@0 b:1@1 c:1@2");
}

TEST(Gangs, OnlyWorkersThatReachEachOtherAndHaveTheLabels) {
  Picture p;
  WorkerRow far = Machine("far", 2), none = Machine("none", 2);
  far.gang = "host x";
  none.gang = "";
  p.Register(far);
  p.Register(none);
  p.Register(Machine("plain", 2));
  p.Register(Machine("gpu1", 1, "gpu"));
  S stage = Ranks(3);
  stage.labels = "gpu";
  p.Sweep({T{"t", {stage}}});
  EXPECT_EQ(Parts(p), "");
  p.Register(Machine("gpu2", 2, "gpu"));
  EXPECT_EQ(Parts(p), "gpu1:1@2 gpu2:2@0");
}

TEST(Gangs, MemoryIsSharedByRanks) {
  constexpr int64_t kGiB = int64_t{1} << 30;
  Picture p;
  for (const char* name : {"a", "b"}) {
    WorkerRow row = Machine(name, 8);
    row.memory_bytes = 8 * kGiB;
    p.Register(row);
  }
  S stage = Ranks(4);
  stage.memory = 12 * kGiB;
  p.Sweep({T{"t", {stage}}});
  EXPECT_EQ(Parts(p), "a:2@0 b:2@2");
}

TEST(Gangs, AQuotaCountsAllSlots) {
  Picture p;
  p.Register(Machine("a", 1));
  p.Register(Machine("b", 1));
  p.Do(EditUser{.name = "ann", .max_slots = 1});
  p.Sweep({T{"t", {Ranks(2)}}}, 1 << 30, "ann");
  EXPECT_EQ(Parts(p), "");
  p.Do(EditUser{.name = "ann", .max_slots = 2});
  EXPECT_EQ(Parts(p), "a:1@0 b:1@1");
  EXPECT_EQ(p.core_.Users()[0].slots, 2);
}

class TwoWorkers : public ::testing::Test {
 protected:
  TwoWorkers() {
    p_.Register(Machine("a", 1));
    p_.Register(Machine("b", 1));
    p_.Sweep({T{"t", {Ranks(2)}}});
    EXPECT_EQ(p_.Draw(), "t=running@a#1@b#1");
  }
  Picture p_;
};

TEST_F(TwoWorkers, MembersHearWhereRankZeroIs) {
  EXPECT_EQ(p_.Desired("b")[0].rendezvous, "");
  AttemptReport lead = p_.Running("t");
  lead.rendezvous = "a:1";
  lead.secret = "s";
  EXPECT_THAT(p_.Says("a", {lead}).woken, SizeIs(1));
  EXPECT_EQ(p_.Desired("b")[0].rendezvous, "a:1");
  EXPECT_EQ(p_.Desired("b")[0].secret, "s");
  EXPECT_EQ(p_.Desired("a")[0].secret, "");
  EXPECT_THAT(p_.Says("a", {lead}).woken, IsEmpty());
}

TEST_F(TwoWorkers, RankZeroEndsItAndMembersRoomIsFreeOnceTheyHaveLetGo) {
  p_.Says("b", {p_.Running("t")});
  p_.Sweep({T{"u"}, T{"v"}});
  p_.Says("a", {p_.Ended("t", Outcome::kSucceeded)});
  EXPECT_EQ(p_.Draw(), "t=succeeded u=running@a#1 v=pending");
  EXPECT_EQ(Used(p_, "b"), 1);
  p_.Says("b", {});
  EXPECT_EQ(p_.Draw(), "t=succeeded u=running@a#1 v=running@b#1");
}

TEST_F(TwoWorkers, AMemberThatWasLetGoIsNotTheEnd) {
  p_.Says("b", {p_.Ended("t", Outcome::kSucceeded)});
  EXPECT_EQ(p_.Draw(), "t=running@a#1@b#1");
}

TEST_F(TwoWorkers, AMemberThatFailsEndsTheAttempt) {
  p_.Says("b", {p_.Ended("t", Outcome::kFailed)});
  EXPECT_EQ(p_.Draw(), "t=pending");
  EXPECT_EQ(p_.Row("t").failures, 1);
  EXPECT_THAT(p_.Row("t").reason, HasSubstr("its part on worker b ended: because"));
  // Both are needed again; a is asked for its room first.
  p_.Pass(absl::Seconds(2));
  EXPECT_EQ(p_.Draw(), "t=pending");
  p_.Says("a", {});
  EXPECT_EQ(p_.Draw(), "t=running@a#2@b#2");
}

TEST_F(TwoWorkers, AMemberThatRanOutOfMemoryHalvesTheMicroBatch) {
  p_.Says("b", {p_.Ended("t", Outcome::kOutOfMemory)});
  EXPECT_EQ(p_.Row("t").ooms, 1);
}

TEST_F(TwoWorkers, AMemberThatIsLostEndsTheAttempt) {
  p_.Says("b", {p_.Running("t")});
  for (int i = 0; i < 3; ++i) {
    p_.Pass(absl::Seconds(30));
    p_.Says("a", {p_.Running("t")});
  }
  EXPECT_EQ(p_.Draw(), "t=pending");
  EXPECT_EQ(p_.Row("t").losses, 1);
  EXPECT_EQ(Used(p_, "b"), 0);
}

TEST_F(TwoWorkers, RankZeroThatIsLostEndsTheAttemptAndStopsTheMembers) {
  p_.Says("a", {p_.Running("t")});
  for (int i = 0; i < 3; ++i) {
    p_.Pass(absl::Seconds(30));
    p_.Says("b", {p_.Running("t")});
  }
  EXPECT_EQ(p_.Draw(), "t=pending");
  EXPECT_EQ(Used(p_, "b"), 1);  // it spoke of it in its last report
  p_.Says("b", {});
  EXPECT_EQ(Used(p_, "b"), 0);
}

TEST_F(TwoWorkers, AMemberWhoseWorkerNoLongerHasItEndsTheAttempt) {
  p_.Says("b", {});
  EXPECT_EQ(p_.Draw(), "t=pending");
  EXPECT_EQ(p_.Row("t").losses, 0);  // it never had it
}

TEST_F(TwoWorkers, AMemberThatNeverBeganCostsNothing) {
  p_.Says("b", {p_.Ended("t", Outcome::kPreempted)});
  EXPECT_EQ(p_.Draw(), "t=pending");
  EXPECT_EQ(p_.Row("t").failures + p_.Row("t").losses, 0);
}

TEST_F(TwoWorkers, ARestartedWorkerKeepsItsPart) {
  p_.Register(Machine("b", 1), {p_.Running("t")});
  EXPECT_EQ(p_.Draw(), "t=running@a#1@b#1");
  p_.Register(Machine("b", 1));
  EXPECT_EQ(p_.Draw(), "t=pending");
}

TEST_F(TwoWorkers, DrainingAMemberAsksRankZeroForACheckpoint) {
  p_.Do(EditWorker{.name = "b", .drain = true});
  EXPECT_TRUE(p_.Desired("a")[0].preempt);
  EXPECT_FALSE(p_.Desired("b")[0].preempt);
  p_.Says("a", {p_.Ended("t", Outcome::kPreempted)});
  EXPECT_EQ(p_.Draw(), "t=pending");
}

TEST_F(TwoWorkers, AMemberThatLeavesByItselfDoesSoToo) {
  p_.Do(Report{.session = p_.sessions_.at("b"),
               .generation = p_.core_.Generation(p_.workers_.at("b")),
               .attempts = {p_.Running("t")},
               .draining = true});
  EXPECT_TRUE(p_.Desired("a")[0].preempt);
}

TEST_F(TwoWorkers, CancellingStopsAllAndKeepsTheirRoomUntilThen) {
  p_.Do(CancelTrial{.trial = p_.ids_.at("t")});
  EXPECT_EQ(Parts(p_), "");
  EXPECT_EQ(Used(p_, "a") + Used(p_, "b"), 2);
  p_.Says("a", {});
  p_.Says("b", {});
  EXPECT_EQ(Used(p_, "a") + Used(p_, "b"), 0);
}

TEST_F(TwoWorkers, FactsOfAMemberAreNotTheAttempts) {
  const Effects e = p_.Says("b", {p_.Running("t")}, {p_.Batch("t", 1, 3)});
  EXPECT_EQ(std::get<Reported>(*e.answer).acks[0].through_seq, 0);
  for (const Change& change : e.changes) EXPECT_FALSE(std::holds_alternative<ApplyBatch>(change));
}

TEST_F(TwoWorkers, ACoordinatorThatRestartsKnowsTheMembers) {
  Picture again({}, p_.Snapshot());
  again.ids_ = p_.ids_;
  again.trials_ = p_.trials_;
  again.stages_ = p_.stages_;
  again.attempts_ = p_.attempts_;
  again.workers_ = p_.workers_;
  again.sessions_ = p_.sessions_;
  again.sweeps_ = p_.sweeps_;
  EXPECT_EQ(Parts(again), "a:1@0 b:1@1");
  EXPECT_EQ(Used(again, "b"), 1);
  EXPECT_EQ(again.Desired("b")[0].bundle, p_.Desired("b")[0].bundle);
  again.Says("b", {again.Ended("t", Outcome::kFailed)});
  EXPECT_EQ(again.Draw(), "t=pending");
}

TEST(Gangs, AreNotStarvedBySmallStages) {
  Picture p;
  for (const char* name : {"a", "b", "c"}) p.Register(Machine(name, 2));
  std::vector<T> small;
  for (int i = 0; i < 40; ++i) small.push_back({absl::StrCat("s", i)});
  p.Sweep({small.begin(), small.begin() + 6});
  p.Sweep({T{"t", {Ranks(5)}}});
  p.Sweep({small.begin() + 6, small.end()});
  // One of what runs ends, and another, …: what is freed is kept.
  for (int round = 0; round < 20 && p.Row("t").state != StageState::kRunning; ++round) {
    for (const auto& [name, worker] : p.workers_) {
      std::vector<AttemptReport> says;
      for (const Grant& g : p.Desired(name)) {
        says.push_back({.incarnation = g.incarnation, .attempt = g.attempt});
        if (says.size() == 1) says[0].outcome = Outcome::kSucceeded;
      }
      p.Says(name, says);
    }
  }
  EXPECT_EQ(p.Row("t").state, StageState::kRunning);
}

TEST(Gangs, OfAMoreUrgentSweepAskOthersToEnd) {
  Picture p;
  for (const char* name : {"a", "b"}) p.Register(Machine(name, 1));
  p.Sweep({T{"s0"}, T{"s1"}, T{"s2"}});
  p.Sweep({T{"t", {Ranks(2)}}}, 1 << 30, "", /*priority=*/1);
  for (const char* name : {"a", "b"}) {
    ASSERT_THAT(p.Desired(name), SizeIs(1));
    EXPECT_TRUE(p.Desired(name)[0].preempt) << name;
  }
  p.Says("a", {p.Ended("s0", Outcome::kPreempted)});
  EXPECT_EQ(p.Draw(), "s0=pending s1=running@b#1 s2=pending t=pending");  // a is kept
  p.Says("b", {p.Ended("s1", Outcome::kPreempted)});
  EXPECT_EQ(p.Draw(), "s0=pending s1=pending s2=pending t=running@a#1@b#1");
}

TEST(Gangs, MakeRoomForWhatIsMoreUrgent) {
  Picture p;
  p.Register(Machine("a", 1));
  p.Register(Machine("b", 1, "gpu"));
  p.Sweep({T{"t", {Ranks(2)}}});
  p.Sweep({T{"u", {S{.labels = "gpu"}}}}, 1 << 30, "", /*priority=*/1);
  EXPECT_TRUE(p.Desired("a")[0].preempt);
}

TEST(Gangs, ATimingHasItsWorkersToItself) {
  Picture p;
  for (const char* name : {"a", "b"}) p.Register(Machine(name, 2));
  p.Sweep({T{"s"}});
  S timing = Ranks(3);
  timing.kind = "timing";
  p.Sweep({T{"t", {timing}}, T{"u"}});
  EXPECT_EQ(p.Row("t").state, StageState::kPending);
  p.Says("a", {p.Ended("s", Outcome::kSucceeded)});
  EXPECT_EQ(Parts(p), "a:1@2 b:2@0");  // b was kept for it
  EXPECT_EQ(p.Row("u").state, StageState::kPending);
}

}  // namespace
}  // namespace plumb::core
