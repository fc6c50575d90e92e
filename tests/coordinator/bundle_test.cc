// Bundles: what shares a trainer, how many rows are worth it, who is charged for what.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_split.h"
#include "tests/coordinator/picture.h"

namespace plumb::core {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<T> Trials(const std::string& name, int n, const std::string& fusion = "f",
                      int64_t bundle = 8, int64_t memory = 0) {
  std::vector<T> out;
  for (int i = 0; i < n; ++i)
    out.push_back({absl::StrCat(name, i), {{.memory = memory, .bundle = bundle}}, fusion});
  return out;
}
// Rows of each bundle on the worker, as trial keys.
std::vector<std::string> Bundles(const Picture& p, const std::string& worker) {
  std::map<int64_t, std::vector<std::string>> rows;
  for (const Grant& g : p.Desired(worker)) rows[g.bundle].push_back(p.trials_.at(g.trial).key);
  std::vector<std::string> out;
  for (const auto& [id, keys] : rows) out.push_back(absl::StrJoin(keys, "+"));
  return out;
}
std::vector<AttemptReport> All(const Picture& p, const std::string& worker,
                               std::optional<Outcome> outcome = std::nullopt) {
  std::vector<AttemptReport> out;
  for (const Grant& g : p.Desired(worker))
    out.push_back({.incarnation = g.incarnation, .attempt = g.attempt, .outcome = outcome});
  return out;
}
// What was running ends; then what was measured is known: `rows` rows took `seconds`.
void Round(Picture& p, const std::string& worker, double seconds) {
  p.Says(worker, All(p, worker));
  p.now_ += absl::Seconds(seconds);
  p.Says(worker, All(p, worker, Outcome::kSucceeded));
}
int64_t Charged(const Picture& p) {
  int64_t us = 0;
  for (const auto& [id, a] : p.attempts_) us += a.slot_us;
  return us;
}

TEST(Bundles, RowsDoubleForAsLongAsThatPays) {
  Picture p;
  p.Register("w", 1);
  p.Sweep(Trials("t", 40));
  EXPECT_EQ(Bundles(p, "w").size(), 1);
  EXPECT_EQ(p.Desired("w").size(), 1) << "one row is measured first";
  Round(p, "w", 10);
  EXPECT_EQ(p.Desired("w").size(), 2);
  Round(p, "w", 12);  // two in 12 s are better than one in 10
  EXPECT_EQ(p.Desired("w").size(), 4);
  Round(p, "w", 24);  // four in 24 s are not better than two in 12
  EXPECT_EQ(p.Desired("w").size(), 2);
  Round(p, "w", 12);
  EXPECT_EQ(p.Desired("w").size(), 2);
  EXPECT_EQ(Bundles(p, "w").size(), 1);
  EXPECT_EQ(p.Desired("w")[0].bundle_rows, 2);
}

TEST(Bundles, NeverMoreThanAskedForAndOnlyOfOneKeyUserAndNeed) {
  Picture p;
  p.Register("w", 1);
  p.Sweep(Trials("a", 3, "f", 3));
  Round(p, "w", 10);
  Round(p, "w", 10);  // two rows
  p.Sweep(Trials("b", 4, "f", 3), 1 << 30, "bob");
  p.Sweep(Trials("c", 4, "other", 3));
  p.Sweep(Trials("d", 9, "f", 3));
  // Anonymous and Bob take turns; each bundle is of one user, one key.
  for (int round = 0; round < 12 && !p.Desired("w").empty(); ++round) {
    for (const std::string& rows : Bundles(p, "w")) {
      std::set<char> kinds;
      for (const std::string& key : std::vector<std::string>(absl::StrSplit(rows, '+'))) {
        kinds.insert(key[0] == 'd' ? 'a' : key[0]);
      }
      EXPECT_EQ(kinds.size(), 1) << rows;
      EXPECT_LE(std::count(rows.begin(), rows.end(), '+'), 2) << rows;
    }
    Round(p, "w", 10);
  }
  for (const auto& [key, id] : p.ids_)
    EXPECT_EQ(p.trials_.at(id).state, StageState::kSucceeded) << key;
}

TEST(Bundles, FreeSlotsAreTakenBeforeRowsAreShared) {
  Picture p;
  p.Register("w", 1);
  p.Sweep(Trials("t", 3));
  Round(p, "w", 10);  // known: two rows may be tried
  p.Register("v", 1);
  EXPECT_THAT(Bundles(p, "w"), ElementsAre("t1+t2"));
  p.Sweep(Trials("u", 4));
  EXPECT_THAT(Bundles(p, "v"), ElementsAre("u0+u1"));
}

// Two rows are known to be better than one, and three are asked for at most.
void KnowTwo(Picture& p) {
  p.Register("w", 1);
  p.Sweep(Trials("k", 3));
  Round(p, "w", 10);
  Round(p, "w", 10);
  ASSERT_THAT(p.Desired("w"), IsEmpty());
}

TEST(Bundles, AFreedRowIsRefilledFromItsKey) {
  Picture p;
  KnowTwo(p);
  p.Sweep(Trials("t", 6, "f", 2));
  p.Sweep(Trials("x", 2, "other"));
  EXPECT_THAT(Bundles(p, "w"), ElementsAre("t0+t1"));
  p.now_ += absl::Seconds(5);
  p.Says("w", {p.Ended("t0", Outcome::kSucceeded), p.Running("t1")});
  EXPECT_THAT(Bundles(p, "w"), ElementsAre("t1+t2"));
  EXPECT_THAT(absl::StrJoin(p.core_.Explain(p.ids_.at("t1"), {.cluster = p.now_}), ""),
              HasSubstr("one of 2 rows (at most 2) of bundle"));
}

TEST(Bundles, AStageThatAllowsFewerRowsJoinsNoLargerBundle) {
  Picture p;
  KnowTwo(p);
  p.Sweep(Trials("t", 1, "f", 8));
  ASSERT_EQ(p.Desired("w")[0].bundle_rows, 4);
  p.Sweep(Trials("few", 1, "f", 2));
  p.Sweep(Trials("u", 1, "f", 8));
  EXPECT_THAT(Bundles(p, "w"), ElementsAre("t0+u0"));
}

TEST(Bundles, OneThatIsTooSmallByNowIsNotRefilledButFollowedByALargerOne) {
  Picture p;
  p.Register("w", 1);
  p.Sweep(Trials("t", 20));
  Round(p, "w", 10);
  ASSERT_THAT(Bundles(p, "w"), ElementsAre("t1+t2"));
  p.now_ += absl::Seconds(11);
  p.Says("w", {p.Ended("t1", Outcome::kSucceeded), p.Running("t2")});  // two are worth it
  EXPECT_THAT(Bundles(p, "w"), ElementsAre("t2"));
  p.Says("w", {p.Ended("t2", Outcome::kSucceeded)});
  EXPECT_THAT(Bundles(p, "w"), ElementsAre("t3+t4+t5+t6"));
}

TEST(Bundles, OneIsRefilledForAWhileOnlyWhileAnotherKeyWaits) {
  Picture p({.refill = absl::Seconds(30)});
  KnowTwo(p);
  p.Sweep(Trials("t", 30, "f", 2));
  p.Sweep(Trials("x", 1, "other"), 1 << 30, "ann");
  // Row by row, so that the bundle never runs empty by itself.
  int x_at = 0;
  for (int i = 0; i < 29 && x_at == 0; ++i) {
    p.now_ += absl::Seconds(10);
    std::vector<AttemptReport> says = All(p, "w");
    says.front().outcome = Outcome::kSucceeded;
    p.Says("w", says);
    if (p.Row("x0").state == StageState::kRunning) x_at = i + 1;
  }
  EXPECT_GT(x_at, 0) << "it starved";
  EXPECT_LE(x_at, 6);
}

TEST(Bundles, OneOfAUserOverHisQuotaTakesNoNewRows) {
  Picture p;
  KnowTwo(p);
  p.Register("v", 1);
  p.Sweep(Trials("t", 8, "f", 2));
  ASSERT_THAT(Bundles(p, "w"), ElementsAre("t0+t2"));
  p.Do(EditUser{.name = "", .max_slots = 1});
  p.Says("w", {p.Ended("t0", Outcome::kSucceeded), p.Running("t2")});
  EXPECT_THAT(Bundles(p, "w"), ElementsAre("t2"));
  p.Says("w", {p.Ended("t2", Outcome::kSucceeded)});
  p.Says("v", {p.Ended("t1", Outcome::kSucceeded), p.Running("t3")});
  EXPECT_EQ(Bundles(p, "w").size() + Bundles(p, "v").size(), 1);
  EXPECT_EQ(p.Desired("v").size(), 2) << "within his quota again";
}

TEST(Bundles, MoreUrgentWorkEndsAllRowsOfABundleAndNothingRefillsItThen) {
  Picture p;
  KnowTwo(p);
  p.Sweep(Trials("t", 6, "f", 2));
  p.Sweep(Trials("hi", 1, "f"), 1 << 30, "", 5);
  for (const Grant& g : p.Desired("w")) EXPECT_TRUE(g.preempt);
  p.Says("w", {p.Ended("t0", Outcome::kPreempted), p.Running("t1")});
  EXPECT_THAT(Bundles(p, "w"), ElementsAre("t1"));
  p.Says("w", {p.Ended("t1", Outcome::kPreempted)});
  EXPECT_THAT(Bundles(p, "w"), ElementsAre("hi0"));
}

TEST(Bundles, ABundleWhoseTrainerDiesIsSplit) {
  Picture p;
  KnowTwo(p);
  p.Sweep(Trials("t", 4, "f", 2));
  p.Says("w", All(p, "w", Outcome::kFailed));
  EXPECT_THAT(Bundles(p, "w"), ElementsAre("t2+t3"));
  p.Says("w", All(p, "w", Outcome::kSucceeded));
  p.Pass(absl::Seconds(10));
  EXPECT_THAT(Bundles(p, "w"), ElementsAre("t0"));  // alone, until it has got on
  EXPECT_EQ(p.Desired("w")[0].bundle_rows, 1);
  p.Says("w", {p.Running("t0")}, {p.Batch("t0", 1, 1, 10)});
  p.Says("w", {p.Ended("t0", Outcome::kSucceeded, 1)});
  EXPECT_THAT(Bundles(p, "w"), ElementsAre("t1"));
}

TEST(Bundles, TheSlotIsFreeOnceNoRowIsLeftAndNoneIsBeingStopped) {
  Picture p;
  KnowTwo(p);
  const SweepId s = p.Sweep(Trials("t", 2, "f", 2));
  p.Sweep(Trials("x", 1, "other"));
  EXPECT_THAT(Bundles(p, "w"), ElementsAre("t0+t1"));
  std::vector<AttemptReport> both = {p.Running("t0"), p.Running("t1")};
  p.Do(CancelTrial{.trial = p.ids_.at("t0")});
  EXPECT_THAT(Bundles(p, "w"), ElementsAre("t1"));
  p.Do(CancelSweep{s});
  EXPECT_THAT(Bundles(p, "w"), IsEmpty()) << "its trainer still runs both";
  p.Says("w", {both[1]});
  EXPECT_THAT(Bundles(p, "w"), IsEmpty());
  p.Says("w", {});
  EXPECT_THAT(Bundles(p, "w"), ElementsAre("x0"));
}

TEST(Bundles, TimeIsChargedToItsRowsInEqualPartsAndAddsUp) {
  Picture p;
  KnowTwo(p);
  const int64_t before = Charged(p);
  p.Sweep(Trials("t", 2, "f", 2));
  p.now_ += absl::Seconds(10);
  p.Says("w", {p.Ended("t0", Outcome::kSucceeded), p.Running("t1")});
  p.now_ += absl::Seconds(7);
  p.Says("w", {p.Ended("t1", Outcome::kSucceeded)});
  EXPECT_EQ(p.attempts_.at({p.Row("t0").id, 1}).slot_us, 5'000'000);
  EXPECT_EQ(p.attempts_.at({p.Row("t1").id, 1}).slot_us, 12'000'000);
  EXPECT_EQ(Charged(p) - before, 17'000'000);
  EXPECT_EQ(p.users_.at("").consumed_us, Charged(p));
}

TEST(Bundles, MemoryIsTakenForAllItsRowsAndLimitsThem) {
  Picture p;
  p.Register(WorkerRow{.name = "w", .slots = 2, .memory_bytes = int64_t{5} << 30});
  p.Sweep(Trials("t", 12, "f", 8, int64_t{1} << 30));
  EXPECT_EQ(p.Desired("w").size(), 2);
  Round(p, "w", 10);
  EXPECT_THAT(Bundles(p, "w"), ElementsAre("t2+t4", "t3+t5"));
  Round(p, "w", 10);
  // One of four rows, and for the second slot the memory of one row.
  EXPECT_THAT(Bundles(p, "w"), ElementsAre("t6+t8+t9+t10", "t7"));
}

TEST(Bundles, SurviveARestart) {
  Picture p;
  KnowTwo(p);
  p.Sweep(Trials("t", 5, "f", 2));
  ASSERT_THAT(Bundles(p, "w"), ElementsAre("t0+t1"));
  const int64_t id = p.Desired("w")[0].bundle;
  Core after(p.options_, p.Snapshot());
  EXPECT_TRUE(after.CheckInvariants().ok()) << after.CheckInvariants();
  const std::vector<Grant> grants = after.Desired(p.workers_.at("w"));
  ASSERT_EQ(grants.size(), 2);
  EXPECT_EQ(grants[0].bundle, id);
  EXPECT_EQ(grants[1].bundle, id);
  EXPECT_EQ(grants[0].bundle_rows, 2);
}

// A trial of a bundle is asked for by somebody else too, more urgently. After a restart it is for
// him, and its slot goes back to whom it was counted for.
TEST(Bundles, SlotsGoBackToWhomTheyWereCountedFor) {
  Picture p;
  KnowTwo(p);
  p.Sweep(Trials("t", 2, "f", 2), 1 << 30, "ann");
  ASSERT_THAT(Bundles(p, "w"), ElementsAre("t0+t1"));
  p.Sweep({Trials("t", 2, "f", 2)[1]}, 1 << 30, "bob", 5);
  const std::vector<Grant> grants = p.Desired("w");
  Core after(p.options_, p.Snapshot());
  const auto register_with = [&](size_t from) {
    RegisterWorker e{.worker = {.name = "w", .slots = 1}};
    for (size_t i = from; i < grants.size(); ++i)
      e.attempts.push_back({.incarnation = grants[i].incarnation, .attempt = grants[i].attempt});
    after.Apply(e, {.cluster = p.now_});
    EXPECT_TRUE(after.CheckInvariants().ok()) << after.CheckInvariants();
  };
  register_with(0);
  register_with(1);  // t0 is lost, and comes again
  for (TrialId trial : {grants[0].trial, grants[1].trial}) {
    after.Apply(CancelTrial{.trial = trial}, {.cluster = p.now_});
    EXPECT_TRUE(after.CheckInvariants().ok()) << after.CheckInvariants();
  }
  for (const Core::UserView& u : after.Users()) EXPECT_EQ(u.slots, 0) << u.row.name;
}

TEST(Bundles, QuarantineSurvivesARestart) {
  Picture p({.strikes = 2});
  p.Register("good", 1);
  p.Register("w", 1);
  p.Register("better", 1);
  p.Sweep(Trials("t", 9, "f", 1));
  for (int i = 0; i < 2; ++i) p.Says("w", All(p, "w", Outcome::kFailed));
  const auto silent = [&](const Core& core) {
    for (const Core::WorkerView& w : core.Workers({.cluster = p.now_}))
      if (w.row.name == "w") return w.quarantined;
    return absl::ZeroDuration();
  };
  ASSERT_GT(silent(p.core_), absl::ZeroDuration());
  const Core after(p.options_, p.Snapshot());
  EXPECT_EQ(silent(after), silent(p.core_));
}

}  // namespace
}  // namespace plumb::core
