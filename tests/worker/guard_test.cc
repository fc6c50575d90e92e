// The guard as a real process around real programs.
#include <gmock/gmock.h>

#include <fstream>

#include "tests/protocol/temp_dir.h"
#include "tests/protocol/trainer_client.h"
#include "worker/trainer_process.h"

namespace plumb::worker {
namespace {

using testing::Events;
using ::testing::HasSubstr;
using testing::Process;
using testing::TempDir;
using testing::WaitForEvent;

const std::string kWorker = PLUMB_BINARY_DIR "/bin/plumb-test-worker";
const std::string kTrainer = PLUMB_BINARY_DIR "/bin/plumb-noop-trainer";

nlohmann::json ExitOf(const std::string& dir, const std::string& script) {
  EXPECT_EQ(Process({kWorker, "__guard", dir, "--", "/bin/sh", "-c", script}).Wait(), 0);
  return Events(dir, "exit").back();
}

TEST(Guard, WritesDownTheExitCode) {
  TempDir dir;
  const auto exit = ExitOf(dir.path(), "exit 7");
  EXPECT_EQ(exit["status"], 7);
  EXPECT_EQ(exit["signal"], 0);
  EXPECT_EQ(exit["out_of_memory"], false);
}

TEST(Guard, WritesDownTheSignalAndDoesNotCallItOutOfMemory) {
  TempDir dir;
  const auto exit = ExitOf(dir.path(), "kill -9 $$");
  EXPECT_EQ(exit["status"], -1);
  EXPECT_EQ(exit["signal"], SIGKILL);
  EXPECT_EQ(exit["out_of_memory"], false);
}

TEST(Guard, CutsOffTheLineItsTrainerWasKilledIn) {
  TempDir dir;
  const auto exit =
      ExitOf(dir.path(), "mkdir -p " + dir.path() +
                             "/journal && printf '{\"seq\":1,\"event\":\"hello\"}\\n{\"se' > " +
                             dir.path() + "/journal/00000001.jsonl");
  EXPECT_EQ(exit["seq"], 2);
  EXPECT_EQ(Events(dir.path(), "hello").size(), 1u);
}

TEST(Guard, KeepsWhatTheTrainerPrintedOfBothStreams) {
  TempDir dir;
  ExitOf(dir.path(), "echo out; echo err >&2");
  EXPECT_EQ(LogTail(dir.path()), "out\nerr\n");
}

TEST(Guard, LogTailIsTheLast64KiB) {
  TempDir dir;
  std::ofstream(dir / "trainer.log") << std::string(100'000, 'a') << "end";
  const std::string tail = LogTail(dir.path());
  EXPECT_EQ(tail.size(), 64u << 10);
  EXPECT_THAT(tail, HasSubstr("aend"));
}

TEST(Guard, SaysWhenTheTrainerCannotBeStarted) {
  TempDir dir;
  EXPECT_EQ(Process({kWorker, "__guard", dir.path(), "--", "/no/such/trainer"}).Wait(), 0);
  EXPECT_EQ(Events(dir.path(), "exit").back()["status"], 127);
  EXPECT_THAT(LogTail(dir.path()), HasSubstr("/no/such/trainer"));
}

TEST(Guard, FolderStaysLockedWhenTheGuardIsKilledAndTheTrainerLives) {
  TempDir dir;
  Process guard({kWorker, "__guard", dir.path(), "--", kTrainer, "--dir", dir.path()});
  testing::TrainerClient client(dir.path());
  const int trainer = client.Hello()["pid"];
  guard.Signal(SIGKILL);
  EXPECT_EQ(guard.Wait(), -SIGKILL);
  TrainerProcess seen(dir.path(), kWorker);
  EXPECT_TRUE(seen.FolderLocked());
  client.Call({{"n", 1}, {"command", "shutdown"}});
  EXPECT_TRUE(testing::WaitFor({dir.path()}, [&] { return !seen.FolderLocked(); })) << trainer;
}

TEST(Guard, TermAtTheGuardDoesNotEndItBeforeItsTrainer) {
  TempDir dir;
  Process guard({kWorker, "__guard", dir.path(), "--", kTrainer, "--dir", dir.path()});
  testing::TrainerClient client(dir.path());
  guard.Signal(SIGTERM);
  EXPECT_TRUE(client.Hello()["ok"]);
  kill(client.Hello()["pid"].get<int>(), SIGTERM);
  EXPECT_EQ(guard.Wait(), 0);
  EXPECT_EQ(Events(dir.path(), "exit").back()["status"], 75);
}

}  // namespace
}  // namespace plumb::worker
