// One trial on several processes: the same numbers as on one, and a clean end when one is lost.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>

#include <cmath>
#include <thread>

#include "tests/protocol/trainer_client.h"
#include "tests/spec/specs.h"
#include "tests/trainer/engine_fixture.h"
#include "trainer/bundle.h"
#include "trainer/counter_random.h"
#include "trainer/files/safetensors.h"
#include "trainer/ranks/board.h"
#include "trainer/ranks/collective.h"
#include "trainer/ranks/gang.h"
#include "trainer/ranks/rank_process.h"

namespace plumb::trainer {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr int64_t kSteps = 50;

// As plumb-trainer does: Gloo writes to ranks that are gone.
[[maybe_unused]] const auto kNoSigpipe = signal(SIGPIPE, SIG_IGN);

double RelativeDifference(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a.to(at::kDouble), y = b.to(at::kDouble);
  return ((x - y).norm() / y.norm()).item<double>();
}

// Bundles of all ranks, here as threads; each sees the whole batch, of which a part is not scored,
// more of it in the first sequences than in the last.
struct Trained {
  std::vector<double> loss;  // and, after each, its layer penalties
  std::vector<double> grad_norm;
  at::Tensor weights;
};
Trained Train(const std::string& optimizer, int64_t ranks, at::ScalarType type) {
  const spec::TrialSpec s = spec::ResolvedOrDie(
      R"({"train.optimizer": ")" + optimizer + R"(", "train.lr": )" +
      (optimizer == "sgd" ? "0.1" : "0.003") +
      R"(, "model": {"n_layers": 2, "d_model": 16, "n_heads": 2, "vocab_size": 256},
      "data": {"corpus": "c", "seq_len": 12}, "train": {"steps": 50,
      "batch_tokens": 96, "warmup_steps": 5}, "train.grad_clip": )" +
      (optimizer == "sgd" ? R"(0, "train.layer_cosine": 0.1, "train.layer_mse": 0.02)" : "0.5") +
      "}");
  const int64_t T = s.data.seq_len, B = s.train.batch_tokens / T;
  std::vector<Trained> runs(ranks);
  Board board;
  const auto train = [&](int64_t rank) {
    std::unique_ptr<Collective> group;
    if (ranks > 1) group = Collective::Join(board, rank, ranks, at::kCPU, std::chrono::seconds(60));
    Bundle bundle(s.model, T, 1, at::kCPU, type);
    bundle.Add(7, s.model);
    for (int64_t step = 0; step < kSteps; ++step) {
      const CounterRandom random(HashOf("tokens") + static_cast<uint64_t>(step));
      at::Tensor ids = at::empty({1, B, T}, at::kLong), targets = at::empty({1, B, T}, at::kLong);
      for (int64_t i = 0; i < B * T; ++i) {
        ids.data_ptr<int64_t>()[i] = static_cast<int64_t>(random.Bits(2 * i) % 50);
        const bool scored = random.Uniform(2 * i + 1) < (i < B * T / 2 ? 0.3 : 0.9);
        targets.data_ptr<int64_t>()[i] = scored ? (ids.data_ptr<int64_t>()[i] * 7 + 3) % 50 : -1;
      }
      const StepResult r = bundle.Step(ids, targets, {UpdateOf(s, step + 1)}, /*micro_batch=*/0,
                                       nullptr, group.get());
      runs[rank].loss.push_back(r.loss[0]);
      if (!r.layer_cosine.empty()) runs[rank].loss.push_back(r.layer_cosine[0] + r.layer_mse[0]);
      runs[rank].grad_norm.push_back(r.grad_norm[0]);
    }
    runs[rank].weights = bundle.arena().weights().clone();
  };
  std::vector<std::thread> threads;
  for (int64_t rank = 1; rank < ranks; ++rank) threads.emplace_back(train, rank);
  train(0);
  for (std::thread& t : threads) t.join();
  for (const Trained& other : runs) {  // the same update on every rank, bit for bit
    EXPECT_EQ(other.loss, runs[0].loss);
    EXPECT_TRUE(at::equal(other.weights, runs[0].weights));
  }
  return runs[0];
}

// sgd follows the gradient's size, which AdamW divides away.
struct Case {
  const char* optimizer;
  at::ScalarType type;
  double tolerance;
};

TEST(Ranks, MakeTheStepsOfOneProcessWithTheSameGlobalBatch) {
  for (const auto& [optimizer, type, tolerance] :
       {Case{"adamw", at::kDouble, 1e-10}, Case{"sgd", at::kDouble, 1e-10},
        Case{"adamw", at::kFloat, 1e-5}}) {
    const Trained one = Train(optimizer, 1, type);
    const size_t last = one.loss.size() - (optimizer == std::string("sgd") ? 2 : 1);
    ASSERT_LT(one.loss[last], 0.8 * one.loss.front()) << "nothing was learned";
    for (const int64_t ranks : {2, 4}) {
      const Trained many = Train(optimizer, ranks, type);
      double loss = 0, norm = 0;
      for (size_t i = 0; i < one.loss.size(); ++i)
        loss = std::max(loss, std::abs(many.loss[i] / one.loss[i] - 1));
      for (int64_t i = 0; i < kSteps; ++i) {
        norm = std::max(norm, std::abs(many.grad_norm[i] / one.grad_norm[i] - 1));
      }
      const double weights = RelativeDifference(many.weights, one.weights);
      EXPECT_LE(loss, tolerance) << ranks << " ranks, " << at::toString(type);
      EXPECT_LE(weights, tolerance) << ranks << " ranks, " << at::toString(type);
      EXPECT_LE(norm, 10 * tolerance) << ranks << " ranks, " << at::toString(type);
      std::printf("%s %s, %d ranks: loss %.1e, gradient norm %.1e, weights %.1e relative\n",
                  optimizer, at::toString(type), static_cast<int>(ranks), loss, norm, weights);
    }
  }
}

TEST(Ranks, RefuseABatchThatTheyCannotShare) {
  const spec::TrialSpec s = spec::ResolvedOrDie(
      R"({"model": {"n_layers": 1, "d_model": 8, "n_heads": 2}, "train": {"steps": 1}})");
  Board board;
  const auto group = Collective::Join(board, 0, 1, at::kCPU, std::chrono::milliseconds(10'000));
  Bundle bundle(s.model, 8, 2, at::kCPU);
  bundle.Add(1), bundle.Add(2);
  const at::Tensor ids = at::zeros({2, 4, 8}, at::kLong);
  EXPECT_THROW(bundle.Step(ids, ids, {RowUpdate(), RowUpdate()}, 0, nullptr, group.get()),
               std::invalid_argument);
}

TEST(Ranks, AreNotWaitedForOnceOneIsGone) {
  Board board;
  std::thread other([&] { board.Lose("rank 1 is gone"); });
  EXPECT_THROW(Collective::Join(board, 0, 2, at::kCPU, std::chrono::seconds(60)), RankLost);
  other.join();
  Board empty;
  EXPECT_THROW(Collective::Join(empty, 0, 2, at::kCPU, std::chrono::milliseconds(50)), RankLost);
}

std::vector<pid_t> ChildrenOf(pid_t pid) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/task/" + std::to_string(pid) + "/children");
  std::vector<pid_t> out;
  for (pid_t child; in >> child;) out.push_back(child);
  return out;
}

class RanksTest : public EngineTest {
 protected:
  RanksTest() { at::set_num_threads(1); }
  spec::TrialSpec RanksSpec(int64_t ranks, int64_t steps = kSteps) {
    spec::TrialSpec s = Spec(0.003, 1, steps);
    s.train.ranks = ranks, s.execution.checkpoint_steps = 10, s.train.log_every = 1;
    const auto errors = spec::Resolve(&s);
    EXPECT_THAT(errors, IsEmpty()) << spec::Format(errors);
    return s;
  }
  int64_t Step(const std::string& row) const {
    const auto it = ear_.told.find(row);
    int64_t last = 0;
    if (it == ear_.told.end()) return last;
    for (const auto& [key, value] : it->second.points) last = std::max(last, std::get<2>(key));
    return last;
  }
  void StepUntil(const std::string& row, int64_t step) {
    while (ear_.told[row].ends == 0 && Step(row) < step) engine_->Step();
  }
};

TEST_F(RanksTest, ProcessesEndWhereOneProcessDoes) {
  const Told one = Alone(Request("one", RanksSpec(1))), two = Alone(Request("two", RanksSpec(2)));
  ASSERT_EQ(one.outcome, RowOutcome::kSucceeded) << one.cause;
  ASSERT_EQ(two.outcome, RowOutcome::kSucceeded) << two.cause;
  EXPECT_THAT(ChildrenOf(getpid()), IsEmpty());
  double worst = 0;
  const auto results = Results(two);
  ASSERT_EQ(results.size(), Results(one).size());
  for (const auto& [key, value] : Results(one))
    worst = std::max(worst, std::abs(results.at(key) / value - 1));
  EXPECT_LE(worst, 1e-5);  // every loss of training and evaluation, every norm
  const TensorFile a = TensorFile::Read(one.checkpoints.back().path + "/weights.safetensors"),
                   b = TensorFile::Read(two.checkpoints.back().path + "/weights.safetensors");
  double difference = 0, size = 0;
  for (const auto& [name, tensor] : a.tensors()) {
    int64_t n = 1;
    for (const int64_t d : tensor.shape) n *= d;
    for (int64_t i = 0; i < n; ++i) {
      difference += std::pow(b.tensors().at(name).data[i] - tensor.data[i], 2);
      size += std::pow(tensor.data[i], 2);
    }
  }
  EXPECT_LE(std::sqrt(difference / size), 1e-5);
  EXPECT_GT(difference, 0) << "was it two ranks at all?";
  std::printf("points %.1e, weights %.1e relative\n", worst, std::sqrt(difference / size));
}

TEST_F(RanksTest, AKilledRankEndsTheAttemptAndTheNextOneEndsOnTheSameBits) {
  const Told undisturbed = Alone(Request("a", RanksSpec(2)));
  ASSERT_EQ(undisturbed.outcome, RowOutcome::kSucceeded) << undisturbed.cause;

  Open();
  engine_->AddRow(Request("b", RanksSpec(2)));
  StepUntil("b", 25);
  const std::vector<pid_t> ranks = ChildrenOf(getpid());
  ASSERT_THAT(ranks, SizeIs(1));
  kill(ranks[0], SIGKILL);
  RunAll();
  Told& told = ear_.told["b"];
  EXPECT_EQ(told.ends, 1);
  EXPECT_EQ(told.outcome, RowOutcome::kFailed);
  EXPECT_THAT(told.cause, HasSubstr("rank 1 ended by signal 9"));
  EXPECT_THAT(ChildrenOf(getpid()), IsEmpty());
  ASSERT_THAT(told.checkpoints, SizeIs(2));
  const std::map<std::tuple<std::string, int64_t, int64_t>, double> before = Results(told);
  for (const auto& entry : std::filesystem::directory_iterator(work_ / "b"))
    EXPECT_THAT(entry.path().filename(), ::testing::StartsWith("step-"));

  engine_->Close();
  Open();
  RowRequest again = Request("c", RanksSpec(2));
  again.checkpoint = told.checkpoints.back();
  engine_->AddRow(again);
  RunAll();
  const Told& resumed = ear_.told["c"];
  ASSERT_EQ(resumed.outcome, RowOutcome::kSucceeded) << resumed.cause;
  EXPECT_EQ(resumed.started, std::vector<int64_t>{20});
  for (const char* file : {"weights.safetensors", "optimizer.safetensors"}) {
    EXPECT_EQ(Weights(resumed.checkpoints.back(), file),
              Weights(undisturbed.checkpoints.back(), file));
  }
  auto points = before;
  std::erase_if(points, [](const auto& p) { return std::get<2>(p.first) > 20; });
  points.merge(Results(resumed));
  EXPECT_EQ(points, Results(undisturbed));
}

TEST_F(RanksTest, PausesPreemptionsAndLeasesChangeNoBit) {
  const Told undisturbed = Alone(Request("a", RanksSpec(2, 30)));
  Open();
  engine_->AddRow(Request("b", RanksSpec(2, 30), 7));
  engine_->ExtendRow("b", 9);
  RunAll();
  ASSERT_EQ(ear_.told["b"].outcome, RowOutcome::kPaused);
  EXPECT_EQ(ear_.told["b"].end_step, 9);
  EXPECT_THAT(ChildrenOf(getpid()), IsEmpty());
  RowRequest next = Request("c", RanksSpec(2, 30));
  next.checkpoint = ear_.told["b"].checkpoints.back();
  engine_->AddRow(next);
  StepUntil("c", 17);
  engine_->CheckpointRow("c");
  engine_->StopRow("c", Engine::StopMode::kPreempt);
  EXPECT_EQ(ear_.told["c"].outcome, RowOutcome::kPreempted);
  EXPECT_THAT(ChildrenOf(getpid()), IsEmpty());
  next.row = "d", next.checkpoint = ear_.told["c"].checkpoints.back();
  engine_->AddRow(next);
  RunAll();
  EXPECT_EQ(Weights(ear_.told["d"].checkpoints.back(), "optimizer.safetensors"),
            Weights(undisturbed.checkpoints.back(), "optimizer.safetensors"));
}

TEST_F(RanksTest, ARankThatHangsIsNamed) {
  spec::TrialSpec s = RanksSpec(2);
  s.execution.rank_timeout_seconds = 1.5;
  Open();
  engine_->AddRow(Request("a", s));
  StepUntil("a", 3);
  const std::vector<pid_t> ranks = ChildrenOf(getpid());
  ASSERT_THAT(ranks, SizeIs(1));
  kill(ranks[0], SIGSTOP);
  RunAll();
  EXPECT_EQ(ear_.told["a"].outcome, RowOutcome::kFailed);
  EXPECT_THAT(ear_.told["a"].cause, HasSubstr("rank 1 did not take part"));
  EXPECT_THAT(ChildrenOf(getpid()), IsEmpty());
}

TEST_F(RanksTest, OfThreeTheOneThatDiedIsNamed) {
  spec::TrialSpec s = RanksSpec(2);
  s.train.batch_tokens = 96, s.train.ranks = 3;
  ASSERT_THAT(spec::Resolve(&s), IsEmpty());
  Open();
  engine_->AddRow(Request("a", s));
  StepUntil("a", 3);
  const std::vector<pid_t> ranks = ChildrenOf(getpid());
  ASSERT_THAT(ranks, SizeIs(2));
  kill(ranks[1], SIGKILL);
  RunAll();
  EXPECT_THAT(ear_.told["a"].cause, HasSubstr("rank 2 ended by signal 9"));
  EXPECT_THAT(ChildrenOf(getpid()), IsEmpty());
}

TEST_F(RanksTest, SharesNoBundle) {
  Open(2);
  engine_->AddRow(Request("a", RanksSpec(2)));
  EXPECT_THROW(engine_->AddRow(Request("b", RanksSpec(2))), std::invalid_argument);
  EXPECT_EQ(engine_->LiveRows(), std::vector<std::string>{"a"});
}

TEST_F(RanksTest, OtherWeightsOnARankAreNoticed) {
  Gang gang(Request("a", RanksSpec(2)), data_.path(), 1);
  gang.Join(at::kCPU);
  Bundle bundle(RanksSpec(2).model, 16, 1, at::kCPU);
  bundle.Add(1, RanksSpec(2).model);
  EXPECT_NO_THROW(gang.CheckSame(WeightsDigest(bundle.arena(), 0)));
  at::Tensor last = bundle.arena().weights().narrow(1, bundle.arena().weights().size(1) - 1, 1);
  last.add_(1e-6);
  try {
    gang.CheckSame(WeightsDigest(bundle.arena(), 0));
    FAIL() << "not noticed";
  } catch (const std::runtime_error& e) {
    EXPECT_THAT(e.what(), HasSubstr("rank 1 holds other weights"));
  }
}

TEST_F(RanksTest, TimesWithAllRanks) {
  RowRequest request = Request("t", RanksSpec(2));
  request.kind = "timing", request.stage_json = R"({"seconds": 0.05})";
  const Told told = Alone(request);
  ASSERT_EQ(told.outcome, RowOutcome::kSucceeded) << told.cause;
  EXPECT_GT(told.at("timing/solo_tokens_per_s", 1), 0);
}

// A real trainer: what it starts dies with it, even when it is killed.
TEST_F(RanksTest, DieWithRankZero) {
  std::filesystem::create_directories(work_.path());
  testing::Process trainer(
      {std::string(PLUMB_BINARY_DIR) + "/bin/plumb-trainer", "--dir", work_.path()});
  testing::TrainerClient client(work_.path());
  ASSERT_TRUE(client.Call({{"n", 1},
                           {"command", "open"},
                           {"bundle", "b"},
                           {"capacity", 1},
                           {"data_dir", data_.path()},
                           {"threads", 1}})["ok"]);
  const auto added =
      client.Call({{"n", 2},
                   {"command", "add_row"},
                   {"row", "r"},
                   {"kind", "pretrain"},
                   {"config", spec::Canonical(RanksSpec(2, 1'000'000), spec::With::kExecution)},
                   {"until_step", -1},
                   {"checkpoint", nullptr},
                   {"checkpoint_dir", work_ / "r"}});
  ASSERT_TRUE(added["ok"]) << added;
  const std::vector<pid_t> ranks = ChildrenOf(trainer.pid());
  ASSERT_THAT(ranks, SizeIs(1));
  pollfd end = {static_cast<int>(syscall(SYS_pidfd_open, ranks[0], 0)), POLLIN, 0};
  ASSERT_GE(end.fd, 0);
  EXPECT_EQ(poll(&end, 1, 0), 0) << "it has ended already";
  kill(ranks[0], SIGSTOP);  // it can neither see its channel end nor be told by the sum
  trainer.Signal(SIGKILL);
  EXPECT_EQ(poll(&end, 1, 10'000), 1) << "rank 1 lives on";
  close(end.fd);
}

}  // namespace
}  // namespace plumb::trainer

// The engine starts its ranks from the program that it is in.
int main(int argc, char** argv) {
  if (argc > 1 && std::string(argv[1]) == plumb::trainer::kRankArgument)
    return plumb::trainer::RankMain(argc, argv);
  ::testing::InitGoogleMock(&argc, argv);
  return RUN_ALL_TESTS();
}
