#include "coordinator/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio.hpp>
#include <filesystem>
#include <fstream>
#include <future>
#include <thread>

#include "coordinator/owner.h"
#include "store/backup.h"
#include "store/read.h"
#include "store/store.h"
#include "tests/coordinator/cluster.h"

namespace plumb::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

class ServerTest : public ::testing::Test {
 protected:
  ServerTest() { options_.db_path = dir_ / "plumb.db"; }
  void Start() {
    absl::StatusOr<std::unique_ptr<Server>> server = Launch(options_, PlanNoops);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    client_ = std::make_unique<Client>(server_->address());
  }
  void Stop() {
    server_->Shutdown();
    EXPECT_TRUE(server_->Wait().ok());
    server_.reset();
  }

  TempDir dir_;
  ServerOptions options_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<Client> client_;
};

TEST_F(ServerTest, SubmittedSweepIsGrantedReportedAndCompleted) {
  Start();
  const int64_t sweep = client_->Submit("3", "r1");
  ScriptedWorker worker(*client_, "w", 2);
  worker.Work(3);
  const v1::Sweep done = client_->WaitFor(sweep, "completed");
  EXPECT_EQ(done.trials_by_state().at("succeeded"), 3);
  for (const v1::Trial& t : client_->Trials(sweep)) EXPECT_EQ(t.train_loss(), 1.0);
}

TEST_F(ServerTest, RestartInTheMiddleLosesNothingAndDoublesNothing) {
  options_.retry_backoff = absl::Milliseconds(1);
  Start();
  const int64_t sweep = client_->Submit("600", "r1");  // more than one slice
  ScriptedWorker worker(*client_, "w", 4);
  for (int round = 0; round < 4; ++round) {
    worker.Work(40);
    worker.Poll(0);  // holds grants now
    Stop();
    Start();
    worker.MoveTo(*client_);  // the session outlives the server, the grants too
  }
  EXPECT_EQ(worker.Poll().size(), 4);
  worker.Work(600 - 160);
  const v1::Sweep done = client_->WaitFor(sweep, "completed");
  EXPECT_EQ(done.trials_by_state().at("succeeded"), 600);
  Stop();
  absl::StatusOr<store::Database> db =
      store::Database::Open(options_.db_path, store::Database::Mode::kReadOnly);
  absl::StatusOr<store::Statement> s = db->Prepare(
      "SELECT (SELECT count(*) FROM measurement), (SELECT count(*) FROM attempt), (SELECT count(*) "
      "FROM trial), "
      "(SELECT count(*) FROM sweep_trial), (SELECT count(*) FROM cell)");
  ASSERT_TRUE(*s->Step());
  for (int i = 0; i < 5; ++i) EXPECT_EQ(s->Int(i), 600) << i;
}

TEST_F(ServerTest, RepeatedRequestAnswersWithTheSameSweep) {
  Start();
  EXPECT_EQ(client_->Submit("2", "same"), client_->Submit("2", "same"));
  v1::SubmitSweepRequest request;
  request.set_request_id("same");
  request.set_sweep_yaml("3");
  v1::SubmitSweepResponse response;
  grpc::ClientContext context;
  const grpc::Status s = client_->sweeps->SubmitSweep(&context, request, &response);
  EXPECT_EQ(s.error_code(), grpc::StatusCode::ALREADY_EXISTS);
}

TEST_F(ServerTest, BadSweepFileIsAnsweredWithItsPlaceAndChangesNothing) {
  Start();
  v1::SubmitSweepRequest request;
  request.set_request_id("r");
  request.set_sweep_yaml("x");
  request.set_file_name("my.yaml");
  v1::SubmitSweepResponse response;
  grpc::ClientContext context;
  const grpc::Status s = client_->sweeps->SubmitSweep(&context, request, &response);
  EXPECT_EQ(s.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(s.error_message(), "my.yaml:1:1: not a number\nx\n^");
  v1::ListSweepsResponse list;
  grpc::ClientContext context2;
  EXPECT_TRUE(client_->sweeps->ListSweeps(&context2, {}, &list).ok());
  EXPECT_THAT(list.sweeps(), SizeIs(0));
}

// Until the coordinator carries out what the planner plans.
TEST_F(ServerTest, WhatIsPlannedButNotServedIsRefusedInWordsAndChangesNothing) {
  absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(options_);
  ASSERT_TRUE(server.ok()) << server.status();
  server_ = *std::move(server);
  client_ = std::make_unique<Client>(server_->address());
  v1::SubmitSweepRequest request;
  request.set_request_id("r");
  request.set_sweep_yaml(
      "sweep: s\nobjective: noop/value\nstop: {divergence: {}}\nstages: {run: {noop: {seconds: "
      "0}}}\n");
  v1::SubmitSweepResponse response;
  grpc::ClientContext context;
  const grpc::Status s = client_->sweeps->SubmitSweep(&context, request, &response);
  EXPECT_EQ(s.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_THAT(s.error_message(), HasSubstr("noop/value is not of a split"));
  v1::ListSweepsResponse list;
  grpc::ClientContext context2;
  EXPECT_TRUE(client_->sweeps->ListSweeps(&context2, {}, &list).ok());
  EXPECT_THAT(list.sweeps(), SizeIs(0));
}

TEST_F(ServerTest, OnlyLoopbackIsListenedOn) {
  for (const char* listen : {"0.0.0.0:0", "[::]:0", "192.168.1.2:50051", ":0", "127.0.0.1"}) {
    options_.listen = listen;
    const absl::Status s = Launch(options_, PlanNoops).status();
    EXPECT_EQ(s.code(), absl::StatusCode::kInvalidArgument) << listen;
    EXPECT_THAT(std::string(s.message()), HasSubstr("127.0.0.1:PORT"));
  }
  EXPECT_FALSE(std::filesystem::exists(options_.db_path));
}

TEST_F(ServerTest, AddressFileIsThereWhileItServes) {
  Start();
  std::ifstream in(options_.db_path + ".address");
  std::string line;
  std::getline(in, line);
  EXPECT_EQ(line, server_->address());
  EXPECT_THAT(std::string(Launch(options_, PlanNoops).status().message()),
              HasSubstr("another server"));
  Stop();
  EXPECT_FALSE(std::filesystem::exists(options_.db_path + ".address"));
}

TEST_F(ServerTest, HeldPollWakesForWorkAndOfAFencedSessionWithAnError) {
  Start();
  ScriptedWorker worker(*client_, "w", 1);
  worker.Poll(0);
  std::thread submit([&] { client_->Submit("1", "r"); });
  EXPECT_THAT(worker.Poll(20'000), SizeIs(1));
  submit.join();
  grpc::Status fenced;
  std::thread held([&] { fenced = worker.TryPoll(20'000); });
  ScriptedWorker newer(*client_, "w", 1);
  held.join();
  EXPECT_EQ(fenced.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  v1::ReportRequest report;
  report.set_session_id(12345);
  v1::ReportResponse response;
  EXPECT_EQ(newer.Report(report, &response).error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(ServerTest, ShutdownAnswersHeldPolls) {
  Start();
  ScriptedWorker worker(*client_, "w", 1);
  worker.Poll(0);
  grpc::Status s;
  std::thread held([&] { s = worker.TryPoll(30'000); });
  Stop();
  held.join();
  // Held, it is told; still on its way, gRPC ends it.
  EXPECT_THAT(s.error_code(),
              ::testing::AnyOf(grpc::StatusCode::UNAVAILABLE, grpc::StatusCode::CANCELLED));
}

TEST_F(ServerTest, CancelRetryAndExplainOverRpc) {
  Start();
  const int64_t sweep = client_->Submit("1", "r");
  ScriptedWorker worker(*client_, "w", 1);
  ASSERT_THAT(worker.Poll(), SizeIs(1));
  v1::CancelSweepRequest cancel;
  cancel.set_sweep_id(sweep);
  v1::CancelSweepResponse cancelled;
  grpc::ClientContext c1;
  ASSERT_TRUE(client_->sweeps->CancelSweep(&c1, cancel, &cancelled).ok());
  EXPECT_EQ(cancelled.cancelled_stages(), 1);
  EXPECT_THAT(worker.Poll(), SizeIs(0));
  worker.SucceedAll();  // reports nothing: it has let go
  v1::RetryTrialRequest retry;
  retry.set_trial_id(client_->Trials(sweep).at(0).id());
  v1::RetryTrialResponse retried;
  grpc::ClientContext c2;
  ASSERT_TRUE(client_->sweeps->RetryTrial(&c2, retry, &retried).ok());
  EXPECT_EQ(retried.retried_stages(), 1);
  ASSERT_THAT(worker.Poll(), SizeIs(1));
  EXPECT_EQ(worker.assignments[0].attempt(), 2);
  v1::ExplainTrialRequest ask;
  ask.set_trial_id(retry.trial_id());
  v1::ExplainTrialResponse why;
  grpc::ClientContext c3;
  ASSERT_TRUE(client_->sweeps->ExplainTrial(&c3, ask, &why).ok());
  EXPECT_THAT(why.lines(0), HasSubstr("stage noop is running: attempt 2 on worker w"));
  EXPECT_THAT(why.lines(1), HasSubstr("noop attempt 2 granted: to worker w"));
  EXPECT_THAT(std::string(why.lines(2)), HasSubstr("retried on request"));
  worker.SucceedAll();
  v1::GetTrialRequest get;
  get.set_trial_id(retry.trial_id());
  v1::GetTrialResponse got;
  grpc::ClientContext c4;
  ASSERT_TRUE(client_->sweeps->GetTrial(&c4, get, &got).ok());
  EXPECT_EQ(got.trial().state(), "succeeded");
  std::vector<std::string> outcomes;
  for (const v1::Attempt& a : got.trial().stages(0).attempts())
    outcomes.push_back(a.outcome() + " " + a.worker());
  EXPECT_THAT(outcomes, ElementsAre("cancelled w", "succeeded w"));
  v1::ListWorkersResponse workers;
  grpc::ClientContext c5;
  ASSERT_TRUE(client_->sweeps->ListWorkers(&c5, {}, &workers).ok());
  EXPECT_EQ(workers.workers(0).state(), "connected");
  EXPECT_EQ(workers.workers(0).busy(), 0);
}

TEST_F(ServerTest, PausedSweepIsAskedBackGoesOnWhenResumedAndStaysPausedOverARestart) {
  Start();
  const int64_t sweep = client_->Submit("3", "r1");
  ScriptedWorker worker(*client_, "w", 2);
  ASSERT_EQ(worker.Poll().size(), 2);
  v1::UpdateSweepRequest request;
  request.set_sweep_id(sweep);
  request.set_paused(true);
  v1::UpdateSweepResponse response;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(client_->sweeps->UpdateSweep(&context, request, &response).ok());
  }
  ASSERT_TRUE(worker.TryPoll(0).ok());
  EXPECT_THAT(worker.preempt, SizeIs(2));
  v1::ReportRequest report;
  report.set_session_id(worker.registered.session_id());
  report.set_generation(worker.generation);
  for (const v1::Assignment& a : worker.assignments)
    *report.add_attempts() = StateOf(a, "preempted");
  v1::ReportResponse acks;
  ASSERT_TRUE(worker.Report(report, &acks).ok());
  Stop();
  Start();
  worker.MoveTo(*client_);
  ASSERT_TRUE(worker.TryPoll(0).ok());
  EXPECT_TRUE(worker.assignments.empty());
  EXPECT_TRUE(client_->GetSweep(sweep).paused());
  request.set_paused(false);
  {
    grpc::ClientContext context;
    ASSERT_TRUE(client_->sweeps->UpdateSweep(&context, request, &response).ok());
  }
  worker.Work(3);
  EXPECT_EQ(client_->WaitFor(sweep, "completed").trials_by_state().at("succeeded"), 3);
}

TEST_F(ServerTest, UsersAndWorkersAreEditedAndShown) {
  Start();
  grpc::ClientContext contexts[4];
  v1::UpdateUserRequest user;
  user.set_name("ann");
  user.set_max_slots(1);
  v1::UpdateUserResponse ignored;
  ASSERT_TRUE(client_->sweeps->UpdateUser(&contexts[0], user, &ignored).ok());
  user.set_name("a name");
  EXPECT_EQ(client_->sweeps->UpdateUser(&contexts[1], user, &ignored).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  v1::ListUsersResponse users;
  ASSERT_TRUE(client_->sweeps->ListUsers(&contexts[2], {}, &users).ok());
  ASSERT_EQ(users.users_size(), 1);
  EXPECT_EQ(users.users(0).max_slots(), 1);
  ScriptedWorker worker(*client_, "w", 2);
  v1::UpdateWorkerRequest drain;
  drain.set_name("w");
  drain.set_drain(true);
  v1::UpdateWorkerResponse drained;
  ASSERT_TRUE(client_->sweeps->UpdateWorker(&contexts[3], drain, &drained).ok());
  grpc::ClientContext context;
  v1::ListWorkersResponse workers;
  ASSERT_TRUE(client_->sweeps->ListWorkers(&context, {}, &workers).ok());
  EXPECT_EQ(workers.workers(0).state(), "draining");
}

// GET as a program would; the whole answer.
std::string Get(const std::string& address, const std::string& path, const std::string& host) {
  boost::asio::io_context io;
  boost::asio::ip::tcp::socket socket(io);
  const size_t colon = address.rfind(':');
  socket.connect({boost::asio::ip::make_address("127.0.0.1"),
                  static_cast<uint16_t>(std::stoi(address.substr(colon + 1)))});
  boost::asio::write(
      socket, boost::asio::buffer("GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n"));
  std::string answer;
  boost::system::error_code end;
  boost::asio::read(socket, boost::asio::dynamic_buffer(answer), end);
  return answer;
}

TEST_F(ServerTest, MetricsCountWhatIsCommittedAndAreForThisMachineOnly) {
  options_.metrics = "127.0.0.1:0";
  Start();
  const int64_t sweep = client_->Submit("3", "r1");
  ScriptedWorker worker(*client_, "w", 2);
  worker.Work(3);
  client_->WaitFor(sweep, "completed");
  const std::string at = server_->metrics_address();
  const std::string page = Get(at, "/metrics", at);
  EXPECT_THAT(page, HasSubstr("200 OK"));
  EXPECT_THAT(page, HasSubstr("\nplumb_points_total 3\n"));
  EXPECT_THAT(page, HasSubstr("\nplumb_slots 2\n"));
  EXPECT_THAT(page, HasSubstr("\nplumb_workers{state=\"connected\"} 1\n"));
  EXPECT_THAT(Get(at, "/healthz", "localhost"), HasSubstr("\r\n\r\nok\n"));
  EXPECT_THAT(Get(at, "/metrics", "rebound.example"), HasSubstr("403"));
  EXPECT_THAT(Get(at, "/etc/passwd", at), HasSubstr("404"));
  Stop();
  options_.metrics = "0.0.0.0:9100";
  EXPECT_EQ(Launch(options_, PlanNoops).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ServerTest, SnapshotsAreTakenCheckedAndPrunedWhileItServes) {
  options_.snapshots = {.dir = dir_ / "snaps", .every = absl::Milliseconds(20), .keep = 1};
  Start();
  client_->Submit("2", "r1");
  ScriptedWorker worker(*client_, "w", 2);
  worker.Work(2);
  grpc::ClientContext context;
  v1::GetServerResponse status;
  for (int i = 0; i < 1000 && status.last_snapshot_time() == 0; ++i) {
    grpc::ClientContext again;
    ASSERT_TRUE(client_->sweeps->GetServer(&again, {}, &status).ok());
    std::this_thread::yield();
  }
  Stop();
  int64_t copies = 0;
  for (const auto& entry : std::filesystem::directory_iterator(dir_ / "snaps")) {
    if (entry.path().extension() != ".db") continue;
    ++copies;
    EXPECT_TRUE(store::Check(entry.path().string())->damage.empty());
  }
  EXPECT_GE(copies, 1);
  EXPECT_LE(copies, 2);  // the newest, and one that was being pruned
}

TEST_F(ServerTest, UnknownIdsAndStatesAreErrorsThatNameTheFix) {
  Start();
  v1::GetTrialRequest get;
  get.set_trial_id(77);
  v1::GetTrialResponse got;
  grpc::ClientContext c1;
  const grpc::Status missing = client_->sweeps->GetTrial(&c1, get, &got);
  EXPECT_EQ(missing.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(missing.error_message(), HasSubstr("plumb trial list"));
  client_->Submit("1", "r");
  v1::ListTrialsRequest list;
  list.set_state("done");
  v1::ListTrialsResponse listed;
  grpc::ClientContext c2;
  EXPECT_EQ(client_->sweeps->ListTrials(&c2, list, &listed).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
}

// What the database refuses must end one attempt, not the server nor its neighbours.
TEST_F(ServerTest, RefusedFactsQuarantineTheirAttemptAndNothingElse) {
  {
    absl::StatusOr<std::unique_ptr<store::Store>> store = store::Store::Open(options_.db_path, 1);
    ASSERT_TRUE(store.ok());
    ASSERT_TRUE(
        (*store)
            ->database()
            .Execute("CREATE TRIGGER refuse BEFORE INSERT ON measurement WHEN NEW.value = 13.0 "
                     "BEGIN SELECT RAISE(ABORT, 'thirteen'); END")
            .ok());
  }
  Start();
  const int64_t sweep = client_->Submit("2", "r");
  ScriptedWorker bad(*client_, "bad", 1), good(*client_, "good", 1);
  while (bad.assignments.empty()) bad.Poll();
  while (good.assignments.empty()) good.Poll();
  v1::ReportRequest report;
  report.set_session_id(bad.registered.session_id());
  report.set_generation(bad.generation);
  *report.add_batches() = BatchOf(bad.assignments[0], 1, 1, 13.0);
  *report.add_attempts() = StateOf(bad.assignments[0], "succeeded", 1);
  v1::ReportResponse response;
  const grpc::Status s = bad.Report(report, &response);
  EXPECT_EQ(s.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_THAT(s.error_message(), HasSubstr("thirteen"));
  EXPECT_THAT(good.SucceedAll().acks(), SizeIs(1));
  const v1::Sweep done = client_->WaitFor(sweep, "completed");
  EXPECT_EQ(done.trials_by_state().at("succeeded"), 1);
  EXPECT_EQ(done.trials_by_state().at("failed"), 1);
  bad.Poll();
  EXPECT_THAT(bad.assignments, SizeIs(0));
}

// Of a trainer or worker that does not keep to the limits itself.
TEST_F(ServerTest, RecordThatIsTooLargeOrNoObjectEndsItsAttemptWithTheCause) {
  Start();
  const int64_t sweep = client_->Submit("2", "r");
  ScriptedWorker worker(*client_, "w", 1);
  for (const std::string& data :
       {"{\"x\":\"" + std::string(1 << 20, 'x') + "\"}", std::string("[]")}) {
    worker.assignments.clear();
    while (worker.assignments.empty()) worker.Poll();
    v1::ReportRequest report;
    report.set_session_id(worker.registered.session_id());
    report.set_generation(worker.generation);
    v1::AttemptBatch& batch = *report.add_batches();
    batch = BatchOf(worker.assignments[0], 1, 1, 1.0);
    v1::Record* record = batch.add_records();
    record->set_kind("topk");
    record->set_name("0");
    record->set_data_json(data);
    *report.add_attempts() = StateOf(worker.assignments[0]);
    v1::ReportResponse response;
    EXPECT_FALSE(worker.Report(report, &response).ok());
  }
  EXPECT_EQ(client_->WaitFor(sweep, "completed").trials_by_state().at("failed"), 2);
  Stop();
  absl::StatusOr<store::Database> db =
      store::Database::Open(options_.db_path, store::Database::Mode::kReadOnly);
  absl::StatusOr<store::Statement> s = db->Prepare("SELECT cause FROM attempt ORDER BY stage_id");
  ASSERT_TRUE(*s->Step());
  EXPECT_THAT(s->Text(0), HasSubstr("a_record_has_at_most_1_mib"));
  ASSERT_TRUE(*s->Step());
  EXPECT_THAT(s->Text(0), HasSubstr("record topk 0 0 is no JSON object"));
}

TEST_F(ServerTest, SweepWhoseTrialsAreRefusedIsAbandonedAndTheNextOneRuns) {
  {
    absl::StatusOr<std::unique_ptr<store::Store>> store = store::Store::Open(options_.db_path, 1);
    ASSERT_TRUE((*store)
                    ->database()
                    .Execute("CREATE TRIGGER refuse BEFORE INSERT ON cell WHEN NEW.name = 'i=0' "
                             "BEGIN SELECT RAISE(ABORT, 'zero'); END")
                    .ok());
  }
  Start();
  const int64_t refused = client_->Submit("2 0", "r1");
  const int64_t fine = client_->Submit("2 5", "r2");
  client_->WaitFor(refused, "cancelled");
  ScriptedWorker worker(*client_, "w", 1);
  worker.Work(2);
  client_->WaitFor(fine, "completed");
}

TEST_F(ServerTest, FullDiskIsAnsweredAsSuchAndTheServerGoesOn) {
  absl::StatusOr<std::unique_ptr<store::Store>> store = store::Store::Open(options_.db_path, 1);
  ASSERT_TRUE(store.ok());
  ASSERT_TRUE((*store)->database().Execute("PRAGMA max_page_count = 80").ok());
  absl::StatusOr<std::unique_ptr<Owner>> owner =
      Owner::Start(*std::move(store), {}, [](const core::Core::Cursor&) {});
  ASSERT_TRUE(owner.ok());
  std::vector<absl::Status> answers;
  for (int i = 0; i < 100; ++i) {
    std::promise<absl::Status> answer;
    (*owner)->Post(core::SubmitSweep{.sweep = {.name = "s",
                                               .request_id = std::to_string(i),
                                               .sweep_yaml = std::string(8000, 'x'),
                                               .trials = 1}},
                   [&](absl::StatusOr<core::Answer> a) { answer.set_value(a.status()); });
    answers.push_back(answer.get_future().get());
  }
  int64_t written = 0;
  for (const absl::Status& s : answers) {
    if (s.ok()) {
      ++written;
    } else {
      EXPECT_EQ(s.code(), absl::StatusCode::kResourceExhausted) << s;
    }
  }
  EXPECT_GT(written, 5);
  EXPECT_LT(written, 80);
  (*owner)->Stop();
  EXPECT_TRUE((*owner)->fatal().ok());
  absl::StatusOr<store::Reader> reader = store::Reader::Open(options_.db_path);
  EXPECT_EQ(static_cast<int64_t>(reader->Sweeps(1000, 1000)->size()), written);
}

std::string ReadFile(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST_F(ServerTest, RealSweepFileRunsFromSubmitToCompleted) {
  options_.data_root = dir_ / "data";
  absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(options_);
  ASSERT_TRUE(server.ok()) << server.status();
  Client client((*server)->address());
  const int64_t sweep = client.Submit(ReadFile(PLUMB_SOURCE_DIR "/sweeps/examples/noop.yaml"), "r");
  ScriptedWorker worker(client, "w", 64);
  worker.Work(1000);
  const v1::Sweep done = client.WaitFor(sweep, "completed");
  EXPECT_EQ(done.trials_by_state().at("succeeded"), 1000);
  const std::vector<v1::Trial> trials = client.Trials(sweep);
  EXPECT_EQ(trials.front().cell(), "n_layers=1 lr=1e-05");
  EXPECT_GT(trials.front().params_total(), 0);
  // Submitted again, there is nothing left to do.
  client.WaitFor(client.Submit(ReadFile(PLUMB_SOURCE_DIR "/sweeps/examples/noop.yaml"), "again"),
                 "completed");
}

TEST_F(ServerTest, TrialsOfAnEarlierSweepGainTheStagesOfALaterOne) {
  absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(options_);
  ASSERT_TRUE(server.ok()) << server.status();
  Client client((*server)->address());
  const std::string first = "sweep: s\nreplicates: 2\nstages:\n  run: {noop: {}}\n";
  const std::string more = "  more: {noop: {after: run, records: 1}}\n";
  const int64_t one = client.Submit(first, "r1");
  ScriptedWorker worker(client, "w", 2);
  worker.Work(2);
  client.WaitFor(one, "completed");
  const int64_t two = client.Submit(first + more, "r2");
  worker.Work(2);  // and no stage of the first sweep again
  client.WaitFor(two, "completed");
  for (const v1::Trial& t : client.Trials(two)) {
    ASSERT_EQ(t.stages_size(), 2);
    EXPECT_EQ(t.stages(1).name(), "more");
    EXPECT_EQ(t.stages(1).parent(), "run");
    EXPECT_EQ(t.stages(1).state(), "succeeded");
  }
  EXPECT_EQ(client.GetSweep(one).trials_by_state().at("succeeded"), 2);
  const int64_t three = client.Submit(first + more, "r3");
  client.WaitFor(three, "completed");  // nothing is left to do
  (*server)->Shutdown();
  EXPECT_TRUE((*server)->Wait().ok());
}

TEST_F(ServerTest, ErrorsOfARealSweepFileComeWithCarets) {
  options_.data_root = dir_ / "data";
  absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(options_);
  ASSERT_TRUE(server.ok()) << server.status();
  Client client((*server)->address());
  v1::SubmitSweepRequest request;
  request.set_request_id("r");
  request.set_file_name("mine.yaml");
  request.set_sweep_yaml("sweep: x\naxes: {model.n_layer: [1, 2]}\nstages: {run: {noop: {}}}\n");
  v1::SubmitSweepResponse response;
  grpc::ClientContext c1;
  const grpc::Status bad = client.sweeps->SubmitSweep(&c1, request, &response);
  EXPECT_EQ(bad.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(bad.error_message(), HasSubstr("mine.yaml:2:8:"));
  EXPECT_THAT(bad.error_message(), HasSubstr("\n         ^"));
  EXPECT_THAT(bad.error_message(), HasSubstr("model.n_layers"));
  request.set_sweep_yaml(
      "sweep: x\ntrial: {data: {corpus: nowhere}, train: {steps: 5}}\naxes: {model.n_layers: [1, "
      "2]}\n");
  grpc::ClientContext c2;
  const grpc::Status missing = client.sweeps->SubmitSweep(&c2, request, &response);
  EXPECT_FALSE(missing.ok());
  EXPECT_THAT(missing.error_message(), HasSubstr("plumb data prepare nowhere"));
}

}  // namespace
}  // namespace plumb::coordinator
