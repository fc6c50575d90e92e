#include "trainer/protocol/retention.h"

#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <vector>

#include "tests/protocol/temp_dir.h"

namespace plumb::trainer {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;

std::string Name(int64_t step) {
  char name[32];
  std::snprintf(name, sizeof name, "step-%012lld", static_cast<long long>(step));
  return name;
}

class Retention : public ::testing::Test {
 protected:
  void Commit(int64_t step) {
    fs::create_directories(fs::path(dir_.path()) / Name(step));
    std::ofstream(fs::path(dir_.path()) / Name(step) / "DONE");
  }
  std::vector<int64_t> Kept() {
    std::vector<int64_t> kept;
    for (int64_t step = 0; step < 100; ++step) {
      if (fs::exists(fs::path(dir_.path()) / Name(step) / "DONE")) kept.push_back(step);
    }
    return kept;
  }
  testing::TempDir dir_;
};

TEST_F(Retention, TheLastTwoWhereNothingIsAcknowledged) {
  for (int64_t step = 1; step <= 5; ++step) Commit(step);
  RetainCheckpoints(dir_.path(), "");
  EXPECT_THAT(Kept(), ElementsAre(4, 5));
}

TEST_F(Retention, WhatMayBeKnownStaysUntilALaterOneIsAcknowledged) {
  ASSERT_TRUE(WriteAcknowledged(dir_.path(), 2));
  for (int64_t step = 1; step <= 6; ++step) Commit(step);
  RetainCheckpoints(dir_.path(), "");
  EXPECT_THAT(Kept(), ElementsAre(2, 3, 4, 5, 6));
  ASSERT_TRUE(WriteAcknowledged(dir_.path(), 6));
  RetainCheckpoints(dir_.path(), "");
  EXPECT_THAT(Kept(), ElementsAre(5, 6));
}

TEST_F(Retention, WhatOthersMayBeginFromStays) {
  WriteKept(dir_.path(), 3);
  for (int64_t step = 1; step <= 9; ++step) Commit(step);
  ASSERT_TRUE(WriteAcknowledged(dir_.path(), 9));
  RetainCheckpoints(dir_.path(), "");
  EXPECT_THAT(Kept(), ElementsAre(3, 8, 9));
  EXPECT_THROW(WriteKept(dir_.path() + "/" + Name(9) + "/DONE", 3), std::runtime_error);
}

TEST_F(Retention, AWorkerThatIsAwayForLongDoesNotFillTheDisk) {
  ASSERT_TRUE(WriteAcknowledged(dir_.path(), 10));
  for (int64_t step = 10; step < 90; ++step) Commit(step);
  RetainCheckpoints(dir_.path(), "");
  const std::vector<int64_t> kept = Kept();
  ASSERT_EQ(kept.size(), 35u);
  EXPECT_EQ(kept.front(), 10);
  EXPECT_EQ(kept[32], 42);
  EXPECT_EQ(kept.back(), 89);
}

TEST_F(Retention, LaterOnesOfAnotherAttemptAreLeftAlone) {
  for (int64_t step : {1, 2, 3, 8, 9}) Commit(step);
  RetainCheckpoints(dir_.path(), fs::path(dir_.path()) / Name(3));
  EXPECT_THAT(Kept(), ElementsAre(2, 3, 8, 9));
}

TEST_F(Retention, LeftoversOfProcessesThatAreGoneAreRemovedAndNoOthers) {
  const fs::path dir = dir_.path();
  const pid_t gone = fork();
  if (gone == 0) _exit(0);
  waitpid(gone, nullptr, 0);
  const fs::path dead = dir / (Name(40) + ".tmp-" + std::to_string(gone));
  const fs::path live = dir / (Name(80) + ".tmp-" + std::to_string(getpid()));
  fs::create_directories(dead);
  fs::create_directories(live);
  std::ofstream(dir / "acknowledged.new") << "4";
  Commit(1);
  RemoveLeftovers(dir_.path());
  EXPECT_FALSE(fs::exists(dead));
  EXPECT_TRUE(fs::exists(live));
  EXPECT_FALSE(fs::exists(dir / "acknowledged.new"));
  EXPECT_THAT(Kept(), ElementsAre(1));
  RemoveLeftovers(dir_.path() + std::string("/nothing"));
}

}  // namespace
}  // namespace plumb::trainer
