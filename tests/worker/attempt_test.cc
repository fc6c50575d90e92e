#include "worker/attempt.h"

#include <gmock/gmock.h>

#include <cmath>

namespace plumb::worker {
namespace {

using ::testing::ElementsAre;

const AttemptKey kKey{.incarnation = 2, .stage = 7, .number = 3};

trainer::JournalEvent Event(int64_t seq, nlohmann::json json, int64_t bytes = 100) {
  return {.seq = seq,
          .json = std::move(json),
          .begin = {1, 1000 * seq},
          .end = {1, 1000 * seq + bytes}};
}
trainer::JournalEvent Points(int64_t seq, int64_t step, double value) {
  return Event(seq, {{"event", "points"},
                     {"step", step},
                     {"values", {{"train/loss", -1, 1, value}, {"grad/norm", 0, 1, 2.0}}}});
}

TEST(Attempt, RowNameIsTheFencingTokenAndBack) {
  EXPECT_EQ(kKey.RowName(), "2.7.3");
  EXPECT_EQ(AttemptKey::FromRowName("2.7.3"), kKey);
  for (const char* bad : {"", "2.7", "2.7.3.4", "2.7.x", "a.7.3", "2..3"})
    EXPECT_FALSE(AttemptKey::FromRowName(bad)) << bad;
}

TEST(Attempt, BatchGroupsPointsBySeriesFromWhatIsAcknowledgedOn) {
  Attempt attempt(kKey);
  attempt.TrustAck();
  attempt.OnEvent(Points(5, 10, 1.5));
  attempt.OnEvent(Points(9, 20, 1.25));
  const auto batch = attempt.Batch(1 << 20);
  EXPECT_EQ(batch.first_seq(), 1);
  EXPECT_EQ(batch.last_seq(), 9);
  ASSERT_EQ(batch.series_size(), 2);
  EXPECT_EQ(batch.series(0).name(), "train/loss");
  ASSERT_EQ(batch.series(0).points_size(), 2);
  EXPECT_EQ(batch.series(0).points(1).step(), 20);
  EXPECT_EQ(batch.series(0).points(1).value(), 1.25);
  attempt.OnAck(5);
  EXPECT_EQ(attempt.Batch(1 << 20).first_seq(), 6);
  EXPECT_EQ(attempt.Batch(1 << 20).series(0).points_size(), 1);
  attempt.OnAck(9);
  EXPECT_FALSE(attempt.HasSomethingToSend());
}

TEST(Attempt, WhatComesFromACheckpointOnWaitsUntilItWasSent) {
  Attempt attempt(kKey);
  attempt.TrustAck();
  const auto checkpoint = [](int64_t seq, int64_t step) {
    return Event(
        seq,
        {{"event", "checkpoint"}, {"step", step}, {"path", "p"}, {"digest", "d"}, {"bytes", 1}});
  };
  attempt.OnEvent(Points(1, 10, 1.5));
  attempt.OnEvent(checkpoint(2, 40));
  attempt.OnEvent(Points(3, 50, 1.25));
  attempt.OnEvent(checkpoint(4, 80));
  EXPECT_EQ(attempt.Batch(1 << 20).last_seq(), 4);  // nothing is sent: nothing waits
  attempt.sent_checkpoint = 39;
  EXPECT_EQ(attempt.Batch(1 << 20).last_seq(), 1);
  attempt.OnAck(1);
  EXPECT_FALSE(attempt.HasSomethingToSend());
  attempt.sent_checkpoint = 40;
  EXPECT_EQ(attempt.Batch(1 << 20).last_seq(), 3);
  attempt.sent_checkpoint = 80;
  EXPECT_EQ(attempt.Batch(1 << 20).last_seq(), 4);
}

TEST(Attempt, RecordsGoIntoTheBatchAsTheyWereSaid) {
  Attempt attempt(kKey);
  attempt.TrustAck();
  attempt.OnEvent(Event(3, {{"event", "record"},
                            {"step", 20},
                            {"kind", "topk"},
                            {"name", "prompt 0"},
                            {"index", 4},
                            {"data", {{"prompt", "海"}, {"p", nullptr}}}}));
  const auto batch = attempt.Batch(1 << 20);
  EXPECT_EQ(batch.last_seq(), 3);
  ASSERT_EQ(batch.records_size(), 1);
  EXPECT_EQ(batch.records(0).step(), 20);
  EXPECT_EQ(batch.records(0).kind(), "topk");
  EXPECT_EQ(batch.records(0).name(), "prompt 0");
  EXPECT_EQ(batch.records(0).index(), 4);
  EXPECT_EQ(batch.records(0).data_json(), "{\"p\":null,\"prompt\":\"海\"}");
  attempt.OnAck(3);
  EXPECT_FALSE(attempt.HasSomethingToSend());
}

TEST(Attempt, AFactThatCannotBeSentIsRefusedWhereItComes) {
  Attempt attempt(kKey);
  attempt.TrustAck();
  const nlohmann::json bad[] = {
      {{"event", "points"}, {"step", "ten"}, {"values", nlohmann::json::array()}},
      {{"event", "points"}, {"step", 1}, {"values", {{"train/loss", "x", 1, 0.5}}}},
      {{"event", "checkpoint"}, {"step", 1}, {"path", 7}, {"digest", "d"}, {"bytes", 1}},
      {{"event", "record"}, {"step", 1}, {"kind", "k"}, {"name", {}}, {"index", 0}, {"data", {}}},
      {{"event", "documents"}, {"split", "test"}, {"scores", {{1, 2.0}}}},
      {{"event", 7}},
  };
  int64_t seq = 0;
  for (const nlohmann::json& line : bad) {
    EXPECT_THROW(attempt.OnEvent(Event(++seq, line)), nlohmann::json::exception) << line;
  }
  EXPECT_FALSE(attempt.HasSomethingToSend());
}

TEST(Attempt, BatchKeepsToItsBudgetButAlwaysMovesOn) {
  Attempt attempt(kKey);
  attempt.TrustAck();
  for (int64_t seq = 1; seq <= 10; ++seq) attempt.OnEvent(Points(seq, seq, 1.0));
  EXPECT_EQ(attempt.Batch(350).last_seq(), 3);
  EXPECT_EQ(attempt.Batch(1).last_seq(), 1);
}

TEST(Attempt, NothingIsSentWhileTheCoordinatorsStateIsInDoubt) {
  Attempt attempt(kKey);
  attempt.TrustAck();
  attempt.OnEvent(Points(1, 1, 1.0));
  EXPECT_TRUE(attempt.HasSomethingToSend());
  attempt.DoubtAck();
  EXPECT_FALSE(attempt.HasSomethingToSend());
  attempt.OnAck(0);
  EXPECT_TRUE(attempt.HasSomethingToSend());
}

TEST(Attempt, OutcomeHoldsOnceItsLastFactIsDurable) {
  Attempt attempt(kKey);
  attempt.OnEvent(Points(4, 30, 1.0));
  attempt.OnEvent(Event(6, {{"event", "row_ended"},
                            {"step", 30},
                            {"outcome", "succeeded"},
                            {"summary", {{"threads", 1}}}}));
  const auto state = attempt.State(true);
  EXPECT_EQ(state.outcome(), "succeeded");
  EXPECT_EQ(state.through_seq(), 4);
  EXPECT_EQ(state.step(), 30);
  EXPECT_EQ(state.summary_json(), R"({"threads":1})");
  attempt.End("failed", "too late", std::nullopt);
  EXPECT_EQ(attempt.State(true).outcome(), "succeeded");
}

TEST(Attempt, JournalIsKeptFromTheFirstUnacknowledgedFactThenFromTheEnd) {
  Attempt attempt(kKey);
  EXPECT_EQ(attempt.KeepFrom(), std::nullopt);
  attempt.OnEvent(Points(4, 30, 1.0));
  attempt.OnEvent(Event(6, {{"event", "row_ended"}, {"outcome", "succeeded"}}));
  EXPECT_EQ(attempt.KeepFrom(), (trainer::JournalPosition{1, 4000}));
  attempt.OnAck(4);
  EXPECT_EQ(attempt.KeepFrom(), (trainer::JournalPosition{1, 6000}));
}

TEST(Attempt, EventsReadAgainAfterARestartAreNotSentTwice) {
  Attempt attempt(kKey);
  attempt.OnAck(5);
  attempt.OnEvent(Points(4, 10, 1.0));
  attempt.OnEvent(Points(6, 20, 1.0));
  const auto batch = attempt.Batch(1 << 20);
  EXPECT_EQ(batch.first_seq(), 6);
  EXPECT_EQ(batch.last_seq(), 6);
  ASSERT_EQ(batch.series(0).points_size(), 1);
  EXPECT_EQ(batch.series(0).points(0).step(), 20);
}

TEST(JournalMark, ListsTheLiveRowsThatBeganBeforeItAndNoOthers) {
  // 2: A begins, 4: A ends and is still to be reported, (a trainer exits, another says hello), 8: B
  // begins and lives.
  Attempt a({1, 1, 1}), b({1, 2, 1}), adopted({1, 3, 1});
  a.OnEvent(Event(2, {{"event", "row_started"}, {"step", 0}}));
  a.OnEvent(Event(4, {{"event", "row_ended"}, {"outcome", "succeeded"}}));
  b.OnEvent(Event(8, {{"event", "row_started"}, {"step", 0}}));
  adopted.phase = Phase::kLive;  // began before this process read anything
  const JournalMark mark = MarkFor({1, 9000}, {&a, &b, &adopted});
  EXPECT_EQ(mark.position, (trainer::JournalPosition{1, 4000}));
  EXPECT_THAT(mark.live, ElementsAre("1.3.1"));
  EXPECT_THAT(MarkFor({1, 9000}, {&b}).live, ElementsAre("1.2.1"));
}

TEST(Attempt, EndWithALogWaitsForRoomInTheReport) {
  Attempt attempt(kKey);
  attempt.End("failed", "exit code 1", std::nullopt);
  attempt.set_log_tail("Traceback \xff");
  EXPECT_EQ(attempt.State(false).outcome(), "");
  EXPECT_EQ(attempt.State(true).cause(), "exit code 1\nTraceback ?");
}

TEST(Attempt, CheckpointsDocumentsAndNonFiniteValuesTravel) {
  Attempt attempt(kKey);
  attempt.TrustAck();
  attempt.OnEvent(
      Event(1, {{"event", "points"}, {"step", 1}, {"values", {{"train/loss", -1, 1, "NaN"}}}}));
  attempt.OnEvent(Event(
      2, {{"event", "checkpoint"}, {"step", 5}, {"path", "/c"}, {"digest", "d"}, {"bytes", 9}}));
  attempt.OnEvent(Event(3, {{"event", "documents"},
                            {"split", "val"},
                            {"scores", {{0, 1.5, 10, 40}, {1, 2.5, 20, 80}}}}));
  EXPECT_TRUE(attempt.has_checkpoint_pending());
  const auto batch = attempt.Batch(1 << 20);
  EXPECT_TRUE(std::isnan(batch.series(0).points(0).value()));
  ASSERT_EQ(batch.checkpoints_size(), 1);
  EXPECT_EQ(batch.checkpoints(0).digest(), "d");
  ASSERT_EQ(batch.documents_size(), 2);
  EXPECT_EQ(batch.documents(1).bytes(), 80);
  attempt.OnAck(3);
  EXPECT_FALSE(attempt.has_checkpoint_pending());
}

TEST(Attempt, SaysWhereItsRanksMeetUntilTheyHave) {
  Attempt attempt(kKey);
  attempt.OnEvent(
      Event(4, {{"event", "gathering"}, {"row", "r"}, {"address", "h:1"}, {"secret", "s"}}));
  EXPECT_EQ(attempt.State(false).rendezvous(), "h:1");
  EXPECT_EQ(attempt.State(false).gang_secret(), "s");
  // A worker that starts again must find it in the journal.
  EXPECT_EQ(attempt.KeepFrom(), (trainer::JournalPosition{1, 4000}));
  attempt.OnEvent(Event(5, {{"event", "row_started"}, {"row", "r"}, {"step", 0}}));
  EXPECT_EQ(attempt.State(false).rendezvous(), "");
  EXPECT_EQ(attempt.KeepFrom(), std::nullopt);
}

TEST(ValidUtf8, KeepsTextAndReplacesTheRest) {
  EXPECT_EQ(ValidUtf8("aé漢😀"), "aé漢😀");
  EXPECT_EQ(ValidUtf8("a\x80z"), "a?z");
  EXPECT_EQ(ValidUtf8("cut \xe6\xbc"), "cut ??");
  EXPECT_EQ(ValidUtf8("\xed\xa0\x80"), "???");  // a surrogate
  EXPECT_EQ(ValidUtf8("\xc0\x80"), "??");       // overlong
}

}  // namespace
}  // namespace plumb::worker
