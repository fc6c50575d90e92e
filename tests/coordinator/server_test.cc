#include "coordinator/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <thread>

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

}  // namespace
}  // namespace plumb::coordinator
