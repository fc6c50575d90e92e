#include "trainer/protocol/engine.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "data/dataset.h"
#include "tests/trainer/specs.h"
#include "trainer/bundle.h"
#include "trainer/evaluation.h"
#include "trainer/measure_plan.h"

namespace plumb::trainer {
namespace {

// Keeps everything an engine says.
class Recorder : public EventSink {
 public:
  struct End {
    int64_t step;
    RowOutcome outcome;
    std::string cause, summary;
  };
  void RowStarted(const std::string& row, int64_t step) override { started[row] = step; }
  void Points(const std::string& row, int64_t step,
              const std::vector<PointValue>& values) override {
    for (const PointValue& v : values) {
      EXPECT_TRUE(points[row].emplace(std::make_tuple(v.name, v.layer, step), v.value).second)
          << "twice: " << v.name << " " << step;
    }
  }
  void Documents(const std::string& row, const std::string& split,
                 const std::vector<DocumentScore>& scores) override {
    documents[row][split] = scores;
  }
  void Record(const std::string& row, int64_t, const std::string& kind, const std::string& name,
              int64_t index, const std::string& json) override {
    records[row][{kind, name, index}] = json;
  }
  void Checkpoint(const std::string& row, int64_t step, const std::string& path,
                  const std::string& digest, int64_t) override {
    checkpoints[row].push_back({path, digest, step, true});
  }
  void RowEnded(const std::string& row, int64_t step, RowOutcome outcome, const std::string& cause,
                const std::string& summary) override {
    EXPECT_TRUE(ended.emplace(row, End{step, outcome, cause, summary}).second)
        << row << " ended twice";
  }

  using Points_ = std::map<std::tuple<std::string, int64_t, int64_t>, double>;
  // What a trial computes, without what depends on the clock.
  Points_ Results(const std::string& row) const {
    Points_ out;
    for (const auto& [key, value] : points.at(row)) {
      const std::string& name = std::get<0>(key);
      if (name.rfind("time/", 0) != 0 && name.rfind("memory/", 0) != 0 &&
          name.find("_per_s") == std::string::npos)
        out[key] = value;
    }
    return out;
  }

  std::map<std::string, int64_t> started;
  std::map<std::string, Points_> points;
  std::map<std::string, std::map<std::string, std::vector<DocumentScore>>> documents;
  std::map<std::string, std::map<std::tuple<std::string, std::string, int64_t>, std::string>>
      records;  // by row: kind, name, index
  std::map<std::string, std::vector<CheckpointRef>> checkpoints;
  std::map<std::string, End> ended;
};

class EngineTest : public testing::Test {
 protected:
  void Open(int64_t capacity) {
    engine = MakeTorchEngine(sink);
    engine->Open("b", capacity, corpus, 1);
  }
  RowRequest Request(const std::string& row, spec::TrialSpec s) {
    return {.row = row, .kind = "pretrain", .spec = s, .checkpoint_dir = dir / ("ck-" + row)};
  }
  void Run() {
    while (engine->Step()) {
    }
  }

  TempDir dir;
  std::string corpus = WriteCorpus(dir);
  Recorder sink;
  std::unique_ptr<Engine> engine;
};

TEST_F(EngineTest, ATrialLeavesExactlyThePlannedPoints) {
  Open(1);
  const spec::TrialSpec s = Tiny("llama");
  engine->AddRow(Request("a", s));
  Run();
  EXPECT_EQ(sink.ended.at("a").outcome, RowOutcome::kSucceeded);
  EXPECT_EQ(static_cast<int64_t>(sink.points.at("a").size()), CountPoints(s, true));
  EXPECT_EQ(sink.checkpoints.at("a").back().step, s.train.steps);
}

TEST_F(EngineTest, ResumingAnywhereIsTheUndisturbedRunBitForBit) {
  const spec::TrialSpec s = Tiny("gpt2", 23);
  Open(1);
  engine->AddRow(Request("whole", s));
  Run();
  for (int64_t stop_after : {1, 7, 11, 22}) {
    const std::string first = "first" + std::to_string(stop_after),
                      second = "second" + std::to_string(stop_after);
    engine->AddRow(Request(first, s));
    for (int64_t i = 0; i < stop_after; ++i) engine->Step();
    engine->StopRow(first, Engine::StopMode::kPreempt);
    ASSERT_EQ(sink.ended.at(first).outcome, RowOutcome::kPreempted);
    ASSERT_EQ(sink.checkpoints.at(first).back().step, stop_after);
    // Another engine, as after a crash.
    auto other = MakeTorchEngine(sink);
    other->Open("c", 1, corpus, 1);
    RowRequest request = Request(second, s);
    request.checkpoint = sink.checkpoints.at(first).back();
    other->AddRow(request);
    while (other->Step()) {
    }
    auto joined = sink.points.count(first) ? sink.Results(first) : Recorder::Points_{};
    joined.merge(sink.Results(second));
    EXPECT_EQ(joined, sink.Results("whole")) << "stopped after " << stop_after;
    for (const char* split : {"tune", "val", "test"}) {
      const auto &a = sink.documents.at(second).at(split),
                 &b = sink.documents.at("whole").at(split);
      ASSERT_EQ(a.size(), b.size());
      for (size_t i = 0; i < a.size(); ++i) EXPECT_EQ(a[i].nll, b[i].nll);
    }
  }
}

TEST_F(EngineTest, RowsTogetherAreTheBitsOfRowsAloneWheneverTheyJoinAndLeave) {
  const auto with = [](double lr, int64_t seed, int64_t steps) {
    spec::TrialSpec s = Tiny("llama", steps);
    s.train.lr = lr, s.seed.init = seed, s.seed.data = seed + 100;
    return s;
  };
  const std::map<std::string, spec::TrialSpec> trials = {{"a", with(1e-3, 1, 20)},
                                                         {"b", with(1e-2, 2, 9)},
                                                         {"c", with(3e-3, 3, 14)},
                                                         {"d", with(1e-4, 4, 20)}};
  std::map<std::string, Recorder::Points_> alone;
  for (const auto& [name, s] : trials) {
    Open(1);
    engine->AddRow(Request("alone-" + name, s));
    Run();
    alone[name] = sink.Results("alone-" + name);
  }
  Open(3);
  engine->AddRow(Request("a", trials.at("a")));
  engine->AddRow(Request("b", trials.at("b")));
  for (int i = 0; i < 4; ++i) engine->Step();
  engine->AddRow(Request("c", trials.at("c")));
  EXPECT_THROW(engine->AddRow(Request("d", trials.at("d"))), std::length_error);  // full
  while (engine->LiveRows().size() == 3)
    engine->Step();  // b ends first, and its row is taken again
  engine->AddRow(Request("d", trials.at("d")));
  Run();
  for (const auto& [name, s] : trials) EXPECT_EQ(sink.Results(name), alone[name]) << name;
}

TEST_F(EngineTest, ARowOfAnotherFusionKeyIsRefusedWhileOthersRun) {
  Open(2);
  engine->AddRow(Request("a", Tiny("llama")));
  EXPECT_THROW(engine->AddRow(Request("b", Tiny("gpt2"))), std::invalid_argument);
  Run();
  EXPECT_NO_THROW(engine->AddRow(Request("b", Tiny("gpt2"))));  // an empty bundle takes any
}

TEST_F(EngineTest, ADivergedRowEndsAloneAndKeepsItsPlaceInTheRecord) {
  Open(2);
  spec::TrialSpec wild = Tiny("llama"), calm = Tiny("llama");
  wild.train.lr = 1e3, wild.train.grad_clip = 0, wild.train.divergence_factor = 1.5;
  wild.train.steps = calm.train.steps = 60;
  engine->AddRow(Request("wild", wild));
  engine->AddRow(Request("calm", calm));
  Run();
  EXPECT_EQ(sink.ended.at("wild").outcome, RowOutcome::kDiverged);
  EXPECT_THAT(sink.ended.at("wild").cause, testing::AnyOf(testing::HasSubstr("divergence_factor"),
                                                          testing::HasSubstr("not finite")));
  EXPECT_EQ(sink.ended.at("calm").outcome, RowOutcome::kSucceeded);
  Open(1);
  engine->AddRow(Request("calm-alone", calm));
  Run();
  EXPECT_EQ(sink.Results("calm"), sink.Results("calm-alone"));
}

TEST_F(EngineTest, ALeaseEndsThereAndAnExtensionGoesOn) {
  Open(1);
  RowRequest request = Request("a", Tiny("llama"));
  request.until_step = 8;
  engine->AddRow(request);
  for (int i = 0; i < 3; ++i) engine->Step();
  engine->ExtendRow("a", 12);
  Run();
  EXPECT_EQ(sink.ended.at("a").outcome, RowOutcome::kPaused);
  EXPECT_EQ(sink.ended.at("a").step, 12);
  EXPECT_FALSE(IsEvalStep(Tiny("llama"), 12));
  EXPECT_TRUE(sink.points.at("a").contains({"tune/loss", -1, 12})) << "evaluated where it pauses";
  // Which changes no number of what follows.
  RowRequest rest = Request("rest", Tiny("llama"));
  rest.checkpoint = sink.checkpoints.at("a").back();
  engine->AddRow(rest);
  Run();
  Open(1);
  engine->AddRow(Request("whole", Tiny("llama")));
  Run();
  const auto whole = sink.Results("whole");
  for (const auto& [point, value] : sink.Results("rest")) EXPECT_EQ(whole.at(point), value);
}

// Budgets of one rate: what is the same in both is computed once.
TEST_F(EngineTest, ARunFromAnothersTrunkIsTheRunFromScratchBitForBit) {
  const auto budget = [](int64_t steps, double lr = 3e-3) {
    spec::TrialSpec s = Tiny("llama", steps);
    s.train.schedule = spec::ScheduleKind::kWsd;
    s.train.decay_fraction = 0.25, s.train.lr = lr, s.train.warmup_steps = 3;
    return s;
  };
  Open(1);
  RowRequest request = Request("short", budget(12));
  request.keep_step = spec::TrunkSteps(budget(12));
  ASSERT_EQ(request.keep_step, 9);
  request.spec.execution.checkpoint_steps = 1;  // so that it would be dropped were it not kept
  engine->AddRow(request);
  Run();
  const auto at_nine =
      std::find_if(sink.checkpoints.at("short").begin(), sink.checkpoints.at("short").end(),
                   [](const CheckpointRef& c) { return c.step == 9; });
  ASSERT_NE(at_nine, sink.checkpoints.at("short").end());
  const CheckpointRef trunk = *at_nine;
  ASSERT_TRUE(std::filesystem::exists(trunk.path + "/DONE"));
  engine->AddRow(Request("scratch", budget(40)));
  Run();
  RowRequest branch = Request("branch", budget(40));
  branch.checkpoint = trunk;
  engine->AddRow(branch);
  Run();
  ASSERT_EQ(sink.ended.at("branch").outcome, RowOutcome::kSucceeded)
      << sink.ended.at("branch").cause;
  const auto whole = sink.Results("scratch"), rest = sink.Results("branch");
  EXPECT_GT(rest.size(), whole.size() / 2);
  EXPECT_LT(rest.size(), whole.size());
  for (const auto& [point, value] : rest) EXPECT_EQ(whole.at(point), value) << std::get<0>(point);
  EXPECT_TRUE(rest.contains({"test/loss", -1, 40}));
  // Not from a step in its cooldown, nor from a run of another rate.
  RowRequest late = Request("late", budget(40));
  late.checkpoint = sink.checkpoints.at("short").back();
  ASSERT_EQ(late.checkpoint->step, 12);
  engine->AddRow(late);
  RowRequest rate = Request("rate", budget(40, 1e-3));
  rate.checkpoint = trunk;
  engine->AddRow(rate);
  Run();
  for (const char* row : {"late", "rate"}) {
    EXPECT_EQ(sink.ended.at(row).outcome, RowOutcome::kFailed);
    EXPECT_THAT(sink.ended.at(row).cause, testing::HasSubstr("does not compute the same")) << row;
  }
}

TEST_F(EngineTest, AWarmStartHasTheWeightsAndNothingElse) {
  Open(1);
  engine->AddRow(Request("source", Tiny("llama")));
  Run();
  const CheckpointRef last = sink.checkpoints.at("source").back();
  spec::TrialSpec still = Tiny("llama", 2);
  still.train.lr = 0;
  still.init = {.checkpoint = last.path, .digest = last.digest};
  RowRequest request = Request("warm", still);
  engine->AddRow(request);
  EXPECT_EQ(sink.ended.at("warm").outcome, RowOutcome::kInfeasible) << "never with fresh weights";
  request.row = "given";
  request.checkpoint = last;
  request.checkpoint->resume = false;
  engine->AddRow(request);
  Run();
  ASSERT_EQ(sink.ended.at("given").outcome, RowOutcome::kSucceeded) << sink.ended.at("given").cause;
  const std::tuple test = {std::string("test/loss"), int64_t{-1}, int64_t{2}};
  EXPECT_EQ(sink.points.at("given").at(test), sink.points.at("source").at({"test/loss", -1, 20}));
  request.row = "other";
  request.checkpoint->digest = std::string(64, '0');
  engine->AddRow(request);
  EXPECT_EQ(sink.ended.at("other").outcome, RowOutcome::kInfeasible);
}

// A fork has all of the state: under the same fields it is the run itself, and under another rate
// it differs from the first step on.
TEST_F(EngineTest, AForkGoesOnFromAnothersStateUnderFieldsOfItsOwn) {
  const spec::TrialSpec of = Tiny("llama", 20);
  Open(1);
  RowRequest source = Request("source", of);
  source.until_step = 8;
  engine->AddRow(source);
  Run();
  CheckpointRef at_eight = sink.checkpoints.at("source").back();
  ASSERT_EQ(at_eight.step, 8);
  at_eight.resume = false;  // not its own
  engine->AddRow(Request("whole", of));
  Run();
  const auto fork = [&](const std::string& row, double lr, int64_t step) {
    spec::TrialSpec s = of;
    s.train.lr = lr;
    s.init = {.checkpoint = at_eight.path, .digest = at_eight.digest, .step = step};
    RowRequest request = Request(row, s);
    request.checkpoint = at_eight;
    engine->AddRow(request);
    Run();
  };
  fork("same", of.train.lr, 8);
  ASSERT_EQ(sink.ended.at("same").outcome, RowOutcome::kSucceeded) << sink.ended.at("same").cause;
  EXPECT_EQ(sink.started.at("same"), 8);
  const auto whole = sink.Results("whole"), rest = sink.Results("same");
  EXPECT_TRUE(rest.contains({"test/loss", -1, 20}));
  EXPECT_FALSE(rest.contains({"tune/loss", -1, 8}));
  for (const auto& [point, value] : rest) EXPECT_EQ(whole.at(point), value) << std::get<0>(point);
  fork("slower", of.train.lr / 2, 8);
  ASSERT_EQ(sink.ended.at("slower").outcome, RowOutcome::kSucceeded);
  const std::tuple test = {std::string("test/loss"), int64_t{-1}, int64_t{20}};
  EXPECT_NE(sink.Results("slower").at(test), whole.at(test));
  EXPECT_TRUE(std::isfinite(sink.Results("slower").at(test)));
  // It goes on from a checkpoint of its own as any run does.
  RowRequest again = Request("again", of);
  again.spec.train.lr /= 2;
  again.spec.init = {.checkpoint = at_eight.path, .digest = at_eight.digest, .step = 8};
  again.checkpoint = at_eight;
  again.until_step = 13;
  engine->AddRow(again);
  Run();
  again.row = "rest", again.until_step = -1;
  again.checkpoint = sink.checkpoints.at("again").back();
  ASSERT_EQ(again.checkpoint->step, 13);
  engine->AddRow(again);
  Run();
  EXPECT_EQ(sink.Results("rest").at(test), sink.Results("slower").at(test));
  fork("elsewhere", of.train.lr, 7);
  EXPECT_EQ(sink.ended.at("elsewhere").outcome, RowOutcome::kFailed);
  EXPECT_THAT(sink.ended.at("elsewhere").cause, testing::HasSubstr("the checkpoint of step 8"));
}

TEST_F(EngineTest, AnotherCorpusThanPlannedIsInfeasible) {
  Open(1);
  spec::TrialSpec s = Tiny("llama");
  s.data.digest = "another";
  engine->AddRow(Request("a", s));
  EXPECT_EQ(sink.ended.at("a").outcome, RowOutcome::kInfeasible);
  EXPECT_THAT(sink.ended.at("a").cause, testing::HasSubstr("data.digest"));
}

TEST_F(EngineTest, CudaWithoutADeviceIsInfeasible) {
  if (at::hasCUDA()) return;
  Open(1);
  spec::TrialSpec s = Tiny("llama");
  s.numerics.device = spec::DeviceKind::kCuda;
  engine->AddRow(Request("a", s));
  EXPECT_EQ(sink.ended.at("a").outcome, RowOutcome::kInfeasible);
}

TEST_F(EngineTest, ADamagedCheckpointFailsTheRowAndSaysWhy) {
  Open(1);
  engine->AddRow(Request("a", Tiny("llama")));
  Run();
  RowRequest again = Request("b", Tiny("llama", 40));
  again.checkpoint = sink.checkpoints.at("a").back();
  std::filesystem::resize_file(again.checkpoint->path + "/weights.safetensors", 100);
  engine->AddRow(again);
  EXPECT_EQ(sink.ended.at("b").outcome, RowOutcome::kFailed);
  EXPECT_THAT(sink.ended.at("b").cause, testing::HasSubstr("damaged"));
}

TEST_F(EngineTest, TimingReportsARateAndTrainsNothing) {
  Open(1);
  RowRequest request = Request("t", Tiny("llama"));
  request.kind = "timing";
  request.stage_json = R"({"seconds": 0.01})";
  engine->AddRow(request);
  Run();
  EXPECT_EQ(sink.ended.at("t").outcome, RowOutcome::kSucceeded);
  EXPECT_GT(sink.points.at("t").at({"timing/solo_tokens_per_s", -1, 1}), 0);
  EXPECT_EQ(sink.checkpoints.count("t"), 0u);
}

TEST_F(EngineTest, DocumentScoresSumToTheSplitsLoss) {
  Open(1);
  const spec::TrialSpec s = Tiny("llama");
  engine->AddRow(Request("a", s));
  Run();
  const data::Dataset dataset = data::Dataset::Open(corpus);
  for (const auto& [split, name] :
       {std::pair{data::Split::kVal, "val"}, std::pair{data::Split::kTest, "test"}}) {
    double nll = 0;
    int64_t tokens = 0, bytes = 0;
    for (const DocumentScore& d : sink.documents.at("a").at(name)) {
      EXPECT_EQ(d.tokens, d.bytes);  // bytes: every byte scored once, the separator never
      nll += d.nll, tokens += d.tokens, bytes += d.bytes;
    }
    EXPECT_EQ(tokens, dataset.split(split).tokens() - dataset.split(split).documents());
    EXPECT_NEAR(nll / static_cast<double>(tokens),
                (sink.points.at("a").at({std::string(name) + "/loss", -1, s.train.steps})), 1e-9);
    EXPECT_NEAR(nll / std::log(2.0) / static_cast<double>(bytes),
                (sink.points.at("a").at({std::string(name) + "/bits_per_byte", -1, s.train.steps})),
                1e-9);
  }
}

TEST_F(EngineTest, ACappedEvaluationScoresDocumentsToo) {
  Open(1);
  spec::TrialSpec s = Tiny("llama");
  s.eval.final_tokens = 48;
  engine->AddRow(Request("a", s));
  Run();
  double nll = 0;
  int64_t tokens = 0;
  for (const DocumentScore& d : sink.documents.at("a").at("test")) {
    EXPECT_GT(d.tokens, 0);
    EXPECT_LT(d.tokens, d.bytes);
    nll += d.nll, tokens += d.tokens;
  }
  EXPECT_LE(tokens, 48);
  EXPECT_NEAR(nll / static_cast<double>(tokens),
              (sink.points.at("a").at({"test/loss", -1, s.train.steps})), 1e-9);
}

TEST_F(EngineTest, EvaluationOfAUniformModelIsTheLogOfTheVocabulary) {
  const spec::TrialSpec s = Tiny("llama");
  Bundle bundle(s.model, 16, 1, at::kCPU);
  bundle.Add(1);
  bundle.arena().weights().zero_();  // all logits are 0
  const data::Dataset dataset = data::Dataset::Open(corpus);
  for (int64_t tokens : {0, 48}) {
    const Score score =
        Evaluate(bundle, 0, dataset.split(data::Split::kVal), {.seq_len = 16, .tokens = tokens});
    EXPECT_NEAR(score.loss(), std::log(256.0), 1e-6);
    EXPECT_NEAR(score.perplexity(), 256, 1e-3);
    EXPECT_NEAR(score.bits_per_byte(), 8, 1e-5);
  }
  EXPECT_LE(
      Evaluate(bundle, 0, dataset.split(data::Split::kVal), {.seq_len = 16, .tokens = 48}).tokens,
      48);
}

}  // namespace
}  // namespace plumb::trainer
