// Ranks on two machines: here two engines of one process, which meet over TCP as on two.
#include <ATen/Parallel.h>
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "tests/trainer/engine_fixture.h"
#include "trainer/ranks/channel.h"
#include "trainer/ranks/door.h"

namespace plumb::trainer {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

struct GangEar : Ear {
  void Gathering(const std::string&, const std::string& where, const std::string& key) override {
    address = where, secret = key;
  }
  std::string address, secret;
};

std::vector<pid_t> Children() {
  std::ifstream list("/proc/self/task/" + std::to_string(getpid()) + "/children");
  std::vector<pid_t> out;
  for (pid_t pid; list >> pid;) out.push_back(pid);
  return out;
}

class GangTest : public EngineTest {
 protected:
  GangTest() : lead_(MakeTorchEngine(lead_ear_)), member_(MakeTorchEngine(member_ear_)) {
    at::set_num_threads(1);
    for (Engine* engine : {lead_.get(), member_.get()}) engine->Open("b", 1, data_.path(), 1);
  }
  RowRequest Lead(const std::string& row, int64_t ranks, int64_t here, int64_t steps = 40) {
    spec::TrialSpec s = Spec(0.003, 1, steps);
    s.train.ranks = ranks, s.execution.checkpoint_steps = 10;
    s.train.batch_tokens = 16 * ranks * 2;
    const auto errors = spec::Resolve(&s);
    EXPECT_THAT(errors, IsEmpty()) << spec::Format(errors);
    RowRequest request = Request(row, s);
    if (here < ranks) request.gang = GangPart{.ranks_here = here};
    return request;
  }
  RowRequest MemberOf(RowRequest request) {
    const int64_t lead = request.gang->ranks_here;
    request.gang = GangPart{.first_rank = lead,
                            .ranks_here = request.spec.train.ranks - lead,
                            .rendezvous = lead_ear_.address,
                            .secret = lead_ear_.secret};
    return request;
  }
  void Meet(const RowRequest& request) {
    lead_->AddRow(request);
    ASSERT_NE(lead_ear_.address, "") << lead_ear_.told[request.row].cause;
    member_->AddRow(MemberOf(request));
    while (lead_ear_.told[request.row].started.empty() && lead_ear_.told[request.row].ends == 0)
      lead_->Step();
  }
  static void RunAll(Engine& engine) {
    while (engine.Step()) {
    }
  }
  GangEar lead_ear_;
  Ear member_ear_;
  std::unique_ptr<Engine> lead_, member_;
};

TEST_F(GangTest, EndsOnTheBitsOfRanksOnOneMachine) {
  for (const auto& [ranks, here] : {std::pair{2, 1}, {3, 2}, {3, 1}}) {
    const std::string row = "r" + std::to_string(ranks) + std::to_string(here);
    const Told together = Alone(Lead(row, ranks, ranks));
    ASSERT_EQ(together.outcome, RowOutcome::kSucceeded) << together.cause;
    Meet(Lead(row, ranks, here));
    EXPECT_THAT(Children(), SizeIs(ranks - 1));
    RunAll(*lead_);
    const Told& apart = lead_ear_.told[row];
    ASSERT_EQ(apart.outcome, RowOutcome::kSucceeded) << apart.cause;
    EXPECT_EQ(Results(apart), Results(together));
    for (const char* file : {"weights.safetensors", "optimizer.safetensors"})
      EXPECT_EQ(Weights(apart.checkpoints.back(), file),
                Weights(together.checkpoints.back(), file));
    RunAll(*member_);
    EXPECT_EQ(member_ear_.told[row].outcome, RowOutcome::kSucceeded);
    EXPECT_EQ(member_ear_.told[row].cause, "rank 0 has ended");
    EXPECT_THAT(Children(), IsEmpty());
  }
}

TEST_F(GangTest, GoesOnFromTheCheckpointThatEachMachineHasInItsOwnPlace) {
  const RowRequest whole = Lead("w", 2, 2);
  const Told together = Alone(whole);
  ASSERT_THAT(together.checkpoints, SizeIs(4));
  RowRequest request = Lead("r", 2, 1);
  request.checkpoint = together.checkpoints[2];  // older ones are tidied away
  lead_->AddRow(request);
  RowRequest member = MemberOf(request);
  member.checkpoint->path = work_ / "copy";
  std::filesystem::copy(request.checkpoint->path, member.checkpoint->path,
                        std::filesystem::copy_options::recursive);
  member_->AddRow(member);
  RunAll(*lead_);
  const Told& apart = lead_ear_.told["r"];
  ASSERT_EQ(apart.outcome, RowOutcome::kSucceeded) << apart.cause;
  EXPECT_EQ(apart.started, std::vector<int64_t>{30});
  EXPECT_EQ(Weights(apart.checkpoints.back()), Weights(together.checkpoints.back()));
  RunAll(*member_);
}

TEST_F(GangTest, AKilledRankEndsBothSides) {
  Meet(Lead("r", 2, 1, 1'000'000));
  ASSERT_THAT(Children(), SizeIs(1));
  kill(Children()[0], SIGKILL);
  RunAll(*lead_);
  EXPECT_EQ(lead_ear_.told["r"].outcome, RowOutcome::kFailed);
  EXPECT_THAT(lead_ear_.told["r"].cause, HasSubstr("rank 1 on another machine has ended"));
  RunAll(*member_);
  EXPECT_EQ(member_ear_.told["r"].outcome, RowOutcome::kFailed);
  EXPECT_THAT(member_ear_.told["r"].cause, HasSubstr("rank 1 ended by signal 9"));
}

TEST_F(GangTest, TheEndOfRankZeroLetsTheOthersGo) {
  Meet(Lead("r", 3, 1, 1'000'000));
  lead_->StopRow("r", Engine::StopMode::kPreempt);
  EXPECT_EQ(lead_ear_.told["r"].outcome, RowOutcome::kPreempted);
  EXPECT_THAT(lead_ear_.told["r"].checkpoints, SizeIs(1));
  RunAll(*member_);
  EXPECT_EQ(member_ear_.told["r"].outcome, RowOutcome::kSucceeded);
}

TEST_F(GangTest, WhatWaitsForItsRanksHearsThatItIsToEnd) {
  lead_->AddRow(Lead("r", 2, 1));
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(lead_->Step());
  lead_->StopRow("r", Engine::StopMode::kPreempt);
  EXPECT_EQ(lead_ear_.told["r"].outcome, RowOutcome::kPreempted);
  EXPECT_THAT(lead_ear_.told["r"].checkpoints, IsEmpty());
  EXPECT_FALSE(lead_->Step());
}

TEST_F(GangTest, AMemberThatIsStoppedLeavesNoProcess) {
  Meet(Lead("r", 2, 1, 1'000'000));
  EXPECT_EQ(member_->LiveRows(), std::vector<std::string>{"r"});
  EXPECT_THROW(member_->AddRow(Lead("other", 1, 1)), std::length_error);
  member_->StopRow("r", Engine::StopMode::kCancel);
  EXPECT_EQ(member_ear_.told["r"].outcome, RowOutcome::kCancelled);
  EXPECT_THAT(Children(), IsEmpty());
  RunAll(*lead_);
  EXPECT_EQ(lead_ear_.told["r"].outcome, RowOutcome::kFailed);
}

TEST_F(GangTest, AMemberThatCannotLoadSaysWhyToBoth) {
  RowRequest request = Lead("r", 2, 1);
  lead_->AddRow(request);
  member_->Close();
  member_->Open("b", 1, work_ / "nowhere", 1);
  member_->AddRow(MemberOf(request));
  RunAll(*lead_);
  EXPECT_THAT(lead_ear_.told["r"].cause, HasSubstr("rank 1: "));
  RunAll(*member_);
  EXPECT_EQ(member_ear_.told["r"].outcome, RowOutcome::kFailed);
  EXPECT_THAT(member_ear_.told["r"].cause, HasSubstr("nowhere"));
}

// ---- the door ----

int Dial(const std::string& address) {
  sockaddr_in to = {};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
  return fd;
}

TEST(Door, LetsInWhoHasTheSecretAndNobodyElse) {
  Door door("127.0.0.1");
  std::vector<Door::Guest> in;
  std::string refused;
  int known = -1;
  // Who says nothing, and who says too much, keep nobody waiting.
  const int silent = Dial(door.address()), loud = Dial(door.address());
  const std::string noise(10'000, 'x');
  EXPECT_GT(send(loud, noise.data(), noise.size(), MSG_NOSIGNAL), 0);
  std::thread others([&] {
    try {
      Knock(door.address(), "guessed", 1, milliseconds(300));
    } catch (const std::runtime_error& e) {
      refused = e.what();
    }
    known = Knock(door.address(), door.secret(), 7, milliseconds(10'000));
  });
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (in.empty() && std::chrono::steady_clock::now() < deadline)
    in = door.LetIn(milliseconds(50));
  others.join();
  EXPECT_THAT(refused, HasSubstr("not rank 0 of this trial"));
  ASSERT_THAT(in, SizeIs(1));
  EXPECT_EQ(in[0].rank, 7);
  // What is said next is the channel's, to the byte.
  Channel here(in[0].fd), there(known);
  EXPECT_TRUE(here.Send({{"a", 1}}));
  EXPECT_TRUE(there.Fill(/*wait=*/true));
  EXPECT_EQ(there.Next(), (nlohmann::json{{"a", 1}}));
  char c;
  EXPECT_LE(recv(loud, &c, 0, 0), 0);
  close(silent);
  close(loud);
}

TEST(Door, WhoAnswersInItsPlaceIsNotBelieved) {
  Door impostor("127.0.0.1");
  std::thread answers([&] {
    const auto until = std::chrono::steady_clock::now() + milliseconds(400);
    while (std::chrono::steady_clock::now() < until) impostor.LetIn(milliseconds(20));
  });
  EXPECT_THROW(Knock(impostor.address(), "the real one's secret", 1, milliseconds(300)),
               std::runtime_error);
  answers.join();
}

TEST(Door, AnAddressOfAnotherMachineIsRefusedByName) {
  try {
    Door door("192.0.2.1");
    FAIL();
  } catch (const std::runtime_error& e) {
    EXPECT_THAT(e.what(), HasSubstr("--gang-address"));
  }
}

}  // namespace
}  // namespace plumb::trainer
