// The agent against a real coordinator, with real trainers (the no-op engine) behind real guards.
#include "worker/agent.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <fstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "store/sqlite.h"
#include "tests/coordinator/cluster.h"
#include "tests/protocol/trainer_client.h"
#include "trainer/spec/sha256.h"

namespace plumb::worker {
namespace {

using coordinator::Client;
using coordinator::ServerOptions;
using coordinator::TempDir;
using testing::Events;
using testing::Process;

const std::string kWorker = PLUMB_BINARY_DIR "/bin/plumb-test-worker";
const std::string kTrainer = PLUMB_BINARY_DIR "/bin/plumb-noop-trainer";

// "N SECONDS [RECORDS BYTES]": N trials of one no-op stage that lasts so long and says so many
// records of so many bytes.
absl::StatusOr<sweeps::SweepPlan> PlanTimedNoops(const std::string& text, const std::string&) {
  std::istringstream in(text);
  int64_t n = 0, records = 0, bytes = 0;
  double seconds = 0;
  in >> n >> seconds >> records >> bytes;
  sweeps::SweepPlan plan{.name = "noops"};
  for (int64_t i = 0; i < n; ++i) {
    plan.cells.push_back({.name = absl::StrCat("i=", i), .axes_json = "{}"});
    sweeps::PlannedTrial t{
        .cell = i, .key = spec::Sha256Hex(absl::StrCat(text, i)), .fusion_key = "noop"};
    t.stages.push_back({.name = "run",
                        .kind = "noop",
                        .settings_json = absl::StrCat("{\"seconds\": ", seconds, ", \"records\": ",
                                                      records, ", \"record_bytes\": ", bytes, "}"),
                        .target_step = 1});
    plan.trials.push_back(std::move(t));
  }
  return plan;
}

class AgentTest : public ::testing::Test {
 protected:
  AgentTest() {
    options_.db_path = dir_ / "plumb.db";
    options_.report_interval = absl::Milliseconds(200);
    options_.retry_backoff = absl::Milliseconds(10);
    StartServer();
  }
  ~AgentTest() override {
    for (const std::string& trainer : {TrainerDir(0), TrainerDir(1)}) {
      const auto hellos = Events(trainer, "hello");
      if (!hellos.empty() && Events(trainer, "exit").size() < hellos.size())
        kill(hellos.back()["pid"].get<int>(), SIGKILL);
    }
  }
  void StartServer() {
    auto server = coordinator::Launch(options_, PlanTimedNoops);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    client_ = std::make_unique<Client>(server_->address());
  }
  void StopServer() {
    server_->Shutdown();
    EXPECT_TRUE(server_->Wait().ok());
    server_.reset();
  }
  std::unique_ptr<Process> StartWorker(int slots = 2, const std::string& trainer = kTrainer) {
    return std::make_unique<Process>(
        std::vector<std::string>{kWorker, "file:" + options_.db_path + ".address", dir_ / "w", "w",
                                 std::to_string(slots), trainer});
  }
  std::string TrainerDir(int slot) { return dir_ / absl::StrCat("w/trainers/", slot); }
  // Waits until the trainer of a slot has begun `count` rows.
  void WaitForStarted(int slot, size_t count = 1) {
    std::filesystem::create_directories(TrainerDir(slot) + "/journal");
    ASSERT_TRUE(testing::WaitForEvent(TrainerDir(slot), "row_started", count));
  }
  int64_t Attempts(int64_t sweep) {
    int64_t attempts = 0;
    for (const v1::Trial& t : client_->Trials(sweep)) {
      v1::GetTrialRequest request;
      request.set_trial_id(t.id());
      v1::GetTrialResponse response;
      grpc::ClientContext context;
      EXPECT_TRUE(client_->sweeps->GetTrial(&context, request, &response).ok());
      for (const v1::Stage& stage : response.trial().stages()) attempts += stage.attempts_size();
    }
    return attempts;
  }

  TempDir dir_;
  ServerOptions options_;
  std::unique_ptr<coordinator::Server> server_;
  std::unique_ptr<Client> client_;
};

TEST_F(AgentTest, RunsASweepToItsEndAndLeavesCleanlyOnTerm) {
  auto worker = StartWorker();
  const int64_t sweep = client_->Submit("40 0", "r");
  EXPECT_EQ(client_->WaitFor(sweep, "completed").trials_by_state().at("succeeded"), 40);
  EXPECT_EQ(Attempts(sweep), 40);
  worker->Signal(SIGTERM);
  EXPECT_EQ(worker->Wait(), 0);
  EXPECT_EQ(Events(TrainerDir(0), "exit").back()["status"], 0);
  EXPECT_EQ(Events(TrainerDir(0), "hello").size(), 1u);  // one process served them all
}

TEST_F(AgentTest, RecordsReachTheDatabaseLargeOnesToo) {
  auto worker = StartWorker();
  const int64_t sweep = client_->Submit("2 0 5 1000000", "r");
  client_->WaitFor(sweep, "completed");
  auto db = store::Database::Open(options_.db_path, store::Database::Mode::kReadOnly);
  ASSERT_TRUE(db.ok()) << db.status();
  auto rows = db->Prepare(
      "SELECT count(*), count(DISTINCT trial_id), sum(json_extract(data_json, '$.value')), "
      "min(length(data_json)) FROM v_record WHERE kind = 'noop' AND name = 'record'");
  ASSERT_TRUE(rows.ok() && rows->Step().value()) << rows.status();
  EXPECT_EQ(rows->Int(0), 10);
  EXPECT_EQ(rows->Int(1), 2);
  EXPECT_EQ(rows->Int(2), 2 * (0 + 1 + 2 + 3 + 4));
  EXPECT_GT(rows->Int(3), 1000000);
  EXPECT_EQ(Attempts(sweep), 2);
}

TEST_F(AgentTest, KilledWorkerAdoptsItsTrainersAndNothingRunsTwice) {
  auto worker = StartWorker();
  const int64_t sweep = client_->Submit("2 1", "r");
  WaitForStarted(0);
  WaitForStarted(1);
  worker->Signal(SIGKILL);
  worker->Wait();
  worker = StartWorker();
  client_->WaitFor(sweep, "completed");
  EXPECT_EQ(Attempts(sweep), 2);
  EXPECT_EQ(
      Events(TrainerDir(0), "row_started").size() + Events(TrainerDir(1), "row_started").size(),
      2u);
}

TEST_F(AgentTest, WorkerThatWasAwayReadsHowItsAttemptsEnded) {
  auto worker = StartWorker();
  const int64_t sweep = client_->Submit("2 0.3", "r");
  WaitForStarted(0);
  WaitForStarted(1);
  worker->Signal(SIGKILL);
  worker->Wait();
  ASSERT_TRUE(testing::WaitForEvent(TrainerDir(0), "row_ended"));
  ASSERT_TRUE(testing::WaitForEvent(TrainerDir(1), "row_ended"));
  worker = StartWorker();
  client_->WaitFor(sweep, "completed");
  EXPECT_EQ(Attempts(sweep), 2);
}

TEST_F(AgentTest, TrialsGoOnWhileTheCoordinatorIsAwayAndAreTakenUpAfter) {
  auto worker = StartWorker();
  const int64_t sweep = client_->Submit("2 0.2", "r");
  WaitForStarted(0);
  WaitForStarted(1);
  StopServer();
  ASSERT_TRUE(testing::WaitForEvent(TrainerDir(0), "row_ended"));
  ASSERT_TRUE(testing::WaitForEvent(TrainerDir(1), "row_ended"));
  StartServer();
  client_->WaitFor(sweep, "completed");
  EXPECT_EQ(Attempts(sweep), 2);
}

TEST_F(AgentTest, KilledTrainerIsAFailureThatIsTriedAgain) {
  auto worker = StartWorker(1);
  const int64_t sweep = client_->Submit("1 0.5", "r");
  WaitForStarted(0);
  kill(Events(TrainerDir(0), "hello").back()["pid"].get<int>(), SIGKILL);
  client_->WaitFor(sweep, "completed");
  EXPECT_EQ(Attempts(sweep), 2);
  EXPECT_EQ(Events(TrainerDir(0), "exit").front()["signal"], SIGKILL);
}

TEST_F(AgentTest, AnAttemptThatItsTrainerNeverTookGetsAnotherTrainer) {
  // The first trainer ends, without a word, when the pipe does.
  const std::string trainer = dir_ / "trainer", pipe = dir_ / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  std::ofstream(trainer) << "#!/bin/sh\nif mkdir '" << dir_ / "began"
                         << "' 2>/dev/null; then\n"
                         << "  read word <'" << pipe << "'; exit 3\nfi\n"
                         << "exec '" << kTrainer << "' \"$@\"\n";
  std::filesystem::permissions(trainer, std::filesystem::perms::owner_all);
  auto worker = StartWorker(1, trainer);
  const int64_t sweep = client_->Submit("1 0", "r");
  std::ofstream open(pipe);  // returns once the trainer is there
  // Until the coordinator has heard of the attempt and has nothing more to say: three reports.
  int reports = 0;
  double silent = 0;
  EXPECT_TRUE(testing::WaitFor({dir_ / "w"}, [&] {
    v1::ListWorkersResponse workers;
    grpc::ClientContext context;
    if (!client_->sweeps->ListWorkers(&context, {}, &workers).ok() || workers.workers().empty())
      return false;
    reports += workers.workers(0).silent_seconds() < silent;
    silent = workers.workers(0).silent_seconds();
    return reports >= 3;
  }));
  open.close();
  client_->WaitFor(sweep, "completed");
  EXPECT_EQ(Attempts(sweep), 1);
  EXPECT_EQ(Events(TrainerDir(0), "exit").front()["status"], 3);
  worker->Signal(SIGTERM);
  EXPECT_EQ(worker->Wait(), 0);
}

TEST_F(AgentTest, KilledGuardDoesNotDisturbItsTrainer) {
  auto worker = StartWorker(1);
  const int64_t sweep = client_->Submit("1 0.5", "r");
  WaitForStarted(0);
  int guard = 0;
  std::ifstream(TrainerDir(0) + "/guard.lock") >> guard;
  ASSERT_GT(guard, 0);
  kill(guard, SIGKILL);
  client_->WaitFor(sweep, "completed");
  EXPECT_EQ(Attempts(sweep), 1);
}

TEST_F(AgentTest, CancelledSweepStopsItsTrainers) {
  auto worker = StartWorker(1);
  const int64_t sweep = client_->Submit("1 600", "r");
  WaitForStarted(0);
  v1::CancelSweepRequest request;
  request.set_sweep_id(sweep);
  v1::CancelSweepResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(client_->sweeps->CancelSweep(&context, request, &response).ok());
  ASSERT_TRUE(testing::WaitForEvent(TrainerDir(0), "row_ended"));
  EXPECT_EQ(Events(TrainerDir(0), "row_ended").front()["outcome"], "cancelled");
  const int64_t next = client_->Submit("1 0", "r2");
  client_->WaitFor(next, "completed");  // its slot is free again
}

TEST_F(AgentTest, AFolderOfAnotherClusterBringsNothingAlong) {
  {
    auto worker = StartWorker(1);
    client_->WaitFor(client_->Submit("3 0", "r"), "completed");
    worker->Signal(SIGKILL);  // with its attempts in the journal
    worker->Wait();
  }
  StopServer();
  // A new database in the place of the old one, whose stages have the same numbers.
  for (const char* tail : {"", "-wal", "-shm", ".incarnation", ".mark"})
    std::filesystem::remove(options_.db_path + tail);
  StartServer();
  auto worker = StartWorker(1);
  const int64_t sweep = client_->Submit("3 0", "r");
  EXPECT_EQ(client_->WaitFor(sweep, "completed").trials_by_state().at("succeeded"), 3);
  EXPECT_EQ(Attempts(sweep), 3) << "each once: nothing was taken for what it is not";
}

TEST_F(AgentTest, TermPreemptsWhatRunsAndAnotherWorkerGoesOn) {
  auto worker = StartWorker(1);
  const int64_t sweep = client_->Submit("1 0.5", "r");
  WaitForStarted(0);
  worker->Signal(SIGTERM);
  EXPECT_EQ(worker->Wait(), 0);
  EXPECT_EQ(Events(TrainerDir(0), "row_ended").front()["outcome"], "preempted");
  worker = StartWorker(1);
  client_->WaitFor(sweep, "completed");
  EXPECT_EQ(Attempts(sweep), 2);
}

TEST_F(AgentTest, SecondWorkerInAWorkspaceIsRefused) {
  auto worker = StartWorker(1);
  const int64_t sweep = client_->Submit("1 0", "r");
  client_->WaitFor(sweep, "completed");
  EXPECT_EQ(StartWorker(1)->Wait(), 1);
}

}  // namespace
}  // namespace plumb::worker
