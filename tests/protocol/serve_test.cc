// The serve loop in a real process with the no-op engine.
#include "trainer/protocol/serve.h"

#include <gmock/gmock.h>

#include "tests/protocol/temp_dir.h"
#include "tests/protocol/trainer_client.h"

namespace plumb::trainer {
namespace {

using ::testing::ElementsAre;
using testing::Events;
using ::testing::HasSubstr;
using testing::Process;
using testing::TempDir;
using testing::TrainerClient;
using testing::WaitForEvent;

const std::string kTrainer = PLUMB_BINARY_DIR "/bin/plumb-noop-trainer";

std::vector<std::string> Outcomes(const std::string& dir) {
  std::vector<std::string> outcomes;
  for (const auto& e : Events(dir, "row_ended")) outcomes.push_back(e["outcome"]);
  return outcomes;
}

TEST(Serve, RunsRowAfterRowAndShutsDownOnRequest) {
  TempDir dir;
  Process trainer({kTrainer, "--dir", dir.path()});
  TrainerClient client(dir.path());
  EXPECT_EQ(client.Hello()["last_n"], 0);
  EXPECT_TRUE(client.Open(1)["ok"]);
  EXPECT_TRUE(client.AddNoop(2, "1.1.1")["ok"]);
  ASSERT_TRUE(WaitForEvent(dir.path(), "row_ended"));
  EXPECT_TRUE(client.AddNoop(3, "1.2.1")["ok"]);
  ASSERT_TRUE(WaitForEvent(dir.path(), "row_ended", 2));
  EXPECT_TRUE(client.Call({{"n", 4}, {"command", "shutdown"}})["ok"]);
  EXPECT_EQ(trainer.Wait(), 0);
  EXPECT_THAT(Outcomes(dir.path()), ElementsAre("succeeded", "succeeded"));
  const auto points = Events(dir.path(), "points");
  ASSERT_EQ(points.size(), 2u);
  EXPECT_EQ(
      points[0].dump(),
      R"({"event":"points","row":"1.1.1","seq":4,"step":7,"values":[["noop/value",-1,1,1.0]]})");
}

TEST(Serve, RepeatedCommandDoesNothingAndAFailedOneKeepsItsNumber) {
  TempDir dir;
  Process trainer({kTrainer, "--dir", dir.path()});
  TrainerClient client(dir.path());
  EXPECT_FALSE(client.AddNoop(1, "1.1.1")["ok"]);  // nothing is open
  EXPECT_TRUE(client.Open(1)["ok"]);
  EXPECT_TRUE(client.AddNoop(2, "1.1.1")["ok"]);
  EXPECT_EQ(client.AddNoop(2, "1.1.1")["repeated"], true);
  EXPECT_THAT(client.Call({{"n", 3}, {"command", "dance"}})["error"].get<std::string>(),
              HasSubstr("dance"));
  EXPECT_EQ(client.Hello()["last_n"], 2);
  ASSERT_TRUE(WaitForEvent(dir.path(), "row_ended"));
  EXPECT_EQ(Events(dir.path(), "row_started").size(), 1u);
}

TEST(Serve, NewConnectionEndsTheOldOneAndFindsTheLiveRows) {
  TempDir dir;
  Process trainer({kTrainer, "--dir", dir.path()});
  TrainerClient first(dir.path());
  first.Open(1);
  first.AddNoop(2, "1.5.2", 60);
  TrainerClient second(dir.path());
  const auto hello = second.Hello();
  EXPECT_EQ(hello["last_n"], 2);
  EXPECT_EQ(hello["rows"], nlohmann::json({"1.5.2"}));
  EXPECT_EQ(hello["bundle"], "b");
  EXPECT_TRUE(
      second.Call({{"n", 3}, {"command", "stop_row"}, {"row", "1.5.2"}, {"mode", "cancel"}})["ok"]);
  EXPECT_THAT(Outcomes(dir.path()), ElementsAre("cancelled"));
}

TEST(Serve, SigtermPreemptsTheRowsAndExits75) {
  TempDir dir;
  Process trainer({kTrainer, "--dir", dir.path()});
  TrainerClient client(dir.path());
  client.Open(1, 2);
  client.AddNoop(2, "1.1.1", 60);
  client.AddNoop(3, "1.2.1", 60);
  trainer.Signal(SIGTERM);
  EXPECT_EQ(trainer.Wait(), kExitPreempted);
  EXPECT_THAT(Outcomes(dir.path()), ElementsAre("preempted", "preempted"));
  EXPECT_FALSE(std::filesystem::exists(dir / "trainer.sock"));
}

TEST(Serve, NoopSaysTheRecordsItsSettingsAskFor) {
  TempDir dir;
  Process trainer({kTrainer, "--dir", dir.path()});
  TrainerClient client(dir.path());
  client.Open(1);
  client.AddNoop(2, "1.1.1", 0, {{"records", 3}});
  ASSERT_TRUE(WaitForEvent(dir.path(), "row_ended"));
  const auto records = Events(dir.path(), "record");
  ASSERT_EQ(records.size(), 3u);
  EXPECT_EQ(records[2]["row"], "1.1.1");
  EXPECT_EQ(records[2]["kind"], "noop");
  EXPECT_EQ(records[2]["name"], "record");
  EXPECT_EQ(records[2]["index"], 2);
  EXPECT_EQ(records[2]["step"], 7);
  EXPECT_EQ(records[2]["data"], nlohmann::json({{"value", 2}}));
}

TEST(Serve, RecordOverOneMebibyteEndsItsRowWithTheCause) {
  TempDir dir;
  Process trainer({kTrainer, "--dir", dir.path()});
  TrainerClient client(dir.path());
  client.Open(1, 2);
  client.AddNoop(2, "1.1.1", 0, {{"records", 1}, {"record_bytes", (1 << 20) - 100}});
  client.AddNoop(3, "1.2.1", 0, {{"records", 1}, {"record_bytes", 1 << 20}});
  ASSERT_TRUE(WaitForEvent(dir.path(), "row_ended", 2));
  EXPECT_THAT(Outcomes(dir.path()), ElementsAre("succeeded", "failed"));
  EXPECT_THAT(Events(dir.path(), "row_ended")[1]["cause"].get<std::string>(),
              HasSubstr("at most 1 MiB"));
  EXPECT_EQ(Events(dir.path(), "record").size(), 1u);
}

TEST(Serve, CloseCancelsWhatStillRuns) {
  TempDir dir;
  Process trainer({kTrainer, "--dir", dir.path()});
  TrainerClient client(dir.path());
  client.Open(1);
  client.AddNoop(2, "1.1.1", 60);
  EXPECT_FALSE(client.Open(3)["ok"]);  // one at a time
  EXPECT_TRUE(client.Call({{"n", 3}, {"command", "close"}, {"bundle", "b"}})["ok"]);
  EXPECT_THAT(Outcomes(dir.path()), ElementsAre("cancelled"));
  EXPECT_TRUE(client.Open(4)["ok"]);
}

TEST(Serve, ConfigWithErrorsEndsTheRowAsInfeasibleAndNamesThem) {
  TempDir dir;
  Process trainer({kTrainer, "--dir", dir.path()});
  TrainerClient client(dir.path());
  client.Open(1);
  EXPECT_TRUE(client.Call({{"n", 2},
                           {"command", "add_row"},
                           {"row", "1.1.1"},
                           {"kind", "pretrain"},
                           {"config", {{"modle", 1}}}})["ok"]);
  ASSERT_EQ(Outcomes(dir.path()).size(), 1u);
  EXPECT_EQ(Outcomes(dir.path())[0], "infeasible");
  EXPECT_THAT(Events(dir.path(), "row_ended")[0]["cause"].get<std::string>(), HasSubstr("modle"));
}

TEST(Serve, AnotherProtocolIsRefusedWithTheFix) {
  TempDir dir;
  Process trainer({kTrainer, "--dir", dir.path()});
  TrainerClient client(dir.path());
  const auto answer = client.Call({{"command", "hello"}, {"protocol_min", 2}, {"protocol_max", 3}});
  EXPECT_EQ(answer["ok"], false);
  EXPECT_THAT(answer["error"].get<std::string>(), HasSubstr("one release"));
}

TEST(Serve, JournalGoesOnWhereTheLastTrainerStopped) {
  TempDir dir;
  for (int64_t round = 1; round <= 2; ++round) {
    Process trainer({kTrainer, "--dir", dir.path()});
    TrainerClient client(dir.path());
    client.Hello();
    client.Call({{"n", 1}, {"command", "shutdown"}});
    EXPECT_EQ(trainer.Wait(), 0);
    EXPECT_EQ(Events(dir.path(), "hello").back()["seq"], round);
  }
}

TEST(Serve, FolderWithALongPathHasASocketToo) {
  TempDir dir;
  const std::string deep = dir / (std::string(90, 'a') + "/" + std::string(90, 'b'));
  std::filesystem::create_directories(deep);
  Process trainer({kTrainer, "--dir", deep});
  TrainerClient client(deep);
  EXPECT_TRUE(client.Hello()["ok"]);
}

TEST(Serve, WrongArgumentsAreUsageErrors) {
  EXPECT_EQ(Process({kTrainer}).Wait(), kExitUsage);
  EXPECT_EQ(Process({kTrainer, "--frob"}).Wait(), kExitUsage);
  EXPECT_EQ(Process({kTrainer, "--version"}).Wait(), 0);
}

}  // namespace
}  // namespace plumb::trainer
