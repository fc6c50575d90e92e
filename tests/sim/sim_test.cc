// The cluster under virtual time: many seeds, each with its own machines, trials and faults, and
// everything that must hold looked at after every event (sim/oracle.h).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "sim/simulate.h"

namespace plumb::sim {
namespace {

const Size kSmall{.workers = 8, .trials = 60, .length = absl::Hours(2), .faults = 20};

class Folder {
 public:
  Folder() {
    char path[] = "/dev/shm/plumb-sim-XXXXXX";
    if (mkdtemp(path) != nullptr) path_ = path;
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

Result OnSqlite(Scenario scenario) {
  const Folder folder;
  scenario.sqlite_folder = folder.path();
  return Simulate(scenario);
}

TEST(Sim, NothingGoesWrongInAHundredSeeds) {
  std::map<std::string, int64_t> counts;
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    const Scenario scenario = Draw(seed, kSmall);
    const Result r = seed % 10 == 0 ? OnSqlite(scenario) : Simulate(scenario);
    EXPECT_EQ(r.wrong, "") << "plumb-sim-hunt --from " << seed << " --seeds 1";
    for (const auto& [name, n] : r.counts) counts[name] += n;
  }
  // What never happens is not tested.
  for (const char* happens :
       {"event_adopted", "event_rolled_back", "event_worker_lost", "event_incarnation_raised",
        "event_retried", "event_cancelled", "outcome_preempted", "outcome_lost", "outcome_failed",
        "outcome_out_of_memory", "outcome_diverged", "outcome_infeasible", "outcome_succeeded",
        "stage_failed", "stage_cancelled", "put_back", "gangs", "branched"}) {
    EXPECT_GT(counts[happens], 0) << happens;
  }
  for (int kind = 0; kind < kFaultKinds; ++kind) {
    const std::string name(Name(static_cast<FaultKind>(kind)));
    EXPECT_GT(counts["fault_" + name], 20) << name;
  }
}

TEST(Sim, AClusterDayEndsAThousandTrialsUnderFaults) {
  const Scenario scenario =
      Draw(4242, {.workers = 32, .trials = 1150, .length = absl::Hours(24), .faults = 40});
  const Result r = Simulate(scenario);
  EXPECT_EQ(r.wrong, "");
  EXPECT_GE(r.trials_ended, 1000);
  EXPECT_GE(r.faults, 20);
}

TEST(Sim, TheSameSeedHasTheSameHistory) {
  for (uint64_t seed : {3, 7, 11}) {
    const Result one = Simulate(Draw(seed, kSmall)), two = Simulate(Draw(seed, kSmall));
    EXPECT_EQ(one.history, two.history);
    EXPECT_EQ(one.end, two.end);
    EXPECT_TRUE(one.contents == two.contents);
  }
  EXPECT_NE(Simulate(Draw(3, kSmall)).history, Simulate(Draw(4, kSmall)).history);
}

// The memory storage is held to the real one: the same history, and the same rows at its end.
TEST(Sim, TablesInMemoryBehaveAsTheDatabaseDoes) {
  for (uint64_t seed : {2, 17, 33, 58, 71, 96}) {
    const Scenario scenario = Draw(seed, kSmall);
    const Result memory = Simulate(scenario), sqlite = OnSqlite(scenario);
    EXPECT_EQ(memory.history, sqlite.history) << seed;
    EXPECT_EQ(memory.contents.stages, sqlite.contents.stages) << seed;
    EXPECT_EQ(memory.contents.attempts, sqlite.contents.attempts) << seed;
    EXPECT_EQ(memory.contents.points, sqlite.contents.points) << seed;
    EXPECT_TRUE(memory.contents == sqlite.contents) << seed;
  }
}

TEST(Sim, WithoutFaultsEveryTrialRunsOnce) {
  Scenario scenario = Draw(5, kSmall);
  scenario.faults.clear();
  scenario.work.crashes = scenario.work.out_of_memory = scenario.work.kills_machine = 0;
  const Result r = Simulate(scenario);
  EXPECT_EQ(r.wrong, "");
  for (const auto& [id, attempt] : r.contents.attempts) EXPECT_EQ(id.number, 1);
}

// Every training on ranks, and no machine that could hold one: machines and trainers die under
// them.
TEST(Sim, GangsEndWhateverDiesUnderThem) {
  int64_t gangs = 0;
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    Scenario scenario =
        Draw(seed, {.workers = 6, .trials = 30, .length = absl::Hours(2), .faults = 0});
    for (Machine& m : scenario.machines) {
      m.slots = 1 + static_cast<int64_t>(seed % 2);
      m.gang = "net";
    }
    scenario.work = {.mean_seconds = 300, .gangs = 1, .most_ranks = 5};
    for (int64_t i = 0; i < 24; ++i) {
      scenario.faults.push_back({.at = absl::Minutes(5 * i + 2),
                                 .kind = i % 4 == 0   ? FaultKind::kCrashMachine
                                         : i % 4 == 1 ? FaultKind::kKillTrainer
                                         : i % 4 == 2 ? FaultKind::kKillWorker
                                                      : FaultKind::kPartition,
                                 .target = 7 * i + static_cast<int64_t>(seed),
                                 .length = absl::Seconds(30 * (i % 7))});
    }
    const Result r = seed % 4 == 0 ? OnSqlite(scenario) : Simulate(scenario);
    EXPECT_EQ(r.wrong, "") << seed;
    gangs += r.counts.at("gangs");
  }
  EXPECT_GT(gangs, 300);
}

TEST(Sim, AFailureIsMadeSmaller) {
  Scenario scenario = Draw(9, kSmall);
  scenario.patience = absl::Hours(30);
  // A machine that is down when everything must have ended, and the only one there is.
  scenario.machines.resize(1);
  scenario.patience = absl::Minutes(1);
  scenario.faults.push_back(
      {.at = absl::Minutes(119), .kind = FaultKind::kCrashMachine, .length = absl::Hours(1)});
  scenario.sweeps.resize(2);
  ASSERT_NE(Simulate(scenario).wrong, "");
  const Scenario small = Shrink(scenario, 60);
  EXPECT_NE(Simulate(small).wrong, "");
  EXPECT_LT(small.faults.size(), 3u);
}

}  // namespace
}  // namespace plumb::sim
