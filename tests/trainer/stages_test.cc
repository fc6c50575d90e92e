// Rows from request to outcome: points, leases, resume, checkpoints, bad requests; and evaluation.
#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "tests/spec/specs.h"
#include "tests/trainer/engine_fixture.h"
#include "trainer/checkpoint.h"
#include "trainer/evaluation.h"
#include "trainer/files/safetensors.h"
#include "trainer/measure_plan.h"
#include "trainer/protocol/engine.h"

namespace plumb::trainer {
namespace {

namespace fs = std::filesystem;
using ::testing::Each;
using ::testing::HasSubstr;

TEST_F(EngineTest, LeavesTheCountedPointsAndTheScoresOfEveryDocument) {
  const spec::TrialSpec s = Spec();
  Open();
  engine_->AddRow(Request("r", s));
  RunAll();
  const Told& t = ear_.told["r"];
  EXPECT_EQ(t.outcome, RowOutcome::kSucceeded) << t.cause;
  EXPECT_EQ(t.end_step, 23);
  EXPECT_EQ(t.ends, 1);
  EXPECT_EQ(t.repeated, 0);
  EXPECT_EQ(static_cast<int64_t>(t.points.size()), CountPoints(s, true));
  for (const auto& [key, value] : t.points) EXPECT_TRUE(std::isfinite(value)) << std::get<0>(key);
  EXPECT_FALSE(t.points.contains({"test/loss", -1, 8})) << "the test split is for the end";
  const std::map<std::string, size_t> documents = {{"tune", 2}, {"val", 4}, {"test", 1}};
  ASSERT_EQ(t.documents.size(), 3u);
  for (const auto& [split, n] : documents) {
    const auto& scores = t.documents.at(split);
    ASSERT_EQ(scores.size(), n);
    double nll = 0, bytes = 0;
    int64_t tokens = 0;
    for (const DocumentScore& d : scores) {
      nll += d.nll, tokens += d.tokens, bytes += static_cast<double>(d.bytes);
      EXPECT_EQ(d.tokens, d.bytes) << "every token but the separator is scored";
    }
    const double loss = t.at(split + "/loss", 23);
    EXPECT_NEAR(nll / static_cast<double>(tokens), loss, 1e-12 * loss);
    EXPECT_NEAR(t.at(split + "/perplexity", 23), std::exp(loss), 1e-9);
    EXPECT_NEAR(t.at(split + "/bits_per_byte", 23), nll / std::log(2) / bytes, 1e-12);
  }
  ASSERT_FALSE(t.checkpoints.empty());
  EXPECT_EQ(t.checkpoints.back().step, 23);
  EXPECT_LT(t.at("train/loss", 23), t.at("train/loss", 5)) << "it learns the unigrams";
}

class MixedEngineTest : public EngineTest {
 protected:
  MixedEngineTest() { WriteMixedCorpus(data_.path()); }
  spec::TrialSpec Mixed(const std::string& mix, const std::string& phases = "") {
    spec::TrialSpec s = Spec();
    s.data.mix = mix, s.data.phases = phases;
    const auto errors = spec::Resolve(&s);
    EXPECT_TRUE(errors.empty()) << spec::Format(errors);
    return s;
  }
};

TEST_F(MixedEngineTest, LeavesTheCountedPointsOfEveryPart) {
  const spec::TrialSpec s = Mixed("", "0.5:a=1;0.5:a=0.25,b=0.75");
  Open();
  engine_->AddRow(Request("r", s));
  RunAll();
  const Told& t = ear_.told["r"];
  ASSERT_EQ(t.outcome, RowOutcome::kSucceeded) << t.cause;
  EXPECT_EQ(t.repeated, 0);
  EXPECT_EQ(static_cast<int64_t>(t.points.size()), CountPoints(s, true, {"a", "b"}));
  for (const auto& [key, value] : t.points) EXPECT_TRUE(std::isfinite(value)) << std::get<0>(key);
  // 12 steps of 4 samples of a alone, then 11 of which a has a quarter; a has 1002 tokens.
  const double a = 48 + 11, b = 33;
  EXPECT_DOUBLE_EQ(t.at("data/epochs/a", 23), a / ((1002 - 1 - 15) / 16));
  EXPECT_DOUBLE_EQ(t.at("data/epochs/b", 23), b / ((902 - 1 - 15) / 16));
  EXPECT_EQ(t.at("data/epochs/b", 8), 0);
  // Whole splits at the end: the parts' documents are the split's, in order.
  const auto& val = t.documents.at("val");
  ASSERT_EQ(val.size(), 4u);
  double nll[2] = {};
  for (int64_t i = 0; i < 4; ++i) {
    EXPECT_EQ(val[i].document, i);
    nll[i / 2] += val[i].nll;
  }
  EXPECT_EQ(val[1].tokens, 50);
  EXPECT_EQ(val[3].tokens, 120);
  EXPECT_NEAR(t.at("val/a/loss", 23), nll[0] / 51, 1e-12);
  EXPECT_NEAR(t.at("val/b/loss", 23), nll[1] / 120, 1e-12);
  EXPECT_NEAR(t.at("val/loss", 23), (nll[0] + nll[1]) / 171, 1e-12);
}

TEST_F(MixedEngineTest, OfOnePartAloneIsTheRunOnACorpusOfIt) {
  Open();
  engine_->AddRow(Request("r", Mixed("a=1")));
  RunAll();
  const Told& t = ear_.told["r"];
  ASSERT_EQ(t.outcome, RowOutcome::kSucceeded) << t.cause;
  const std::string mixed = Weights(t.checkpoints.back());
  engine_->Close();

  data::Manifest m = data::ReadManifest(data_.path());
  m.splits[0] = WriteSplit(data_.path(), data::Split::kTrain, {700, 300});
  m.parts.clear();
  std::ofstream(data_.path() + "/manifest.json") << data::ManifestJson(m);
  Open();
  engine_->AddRow(Request("alone", Spec()));
  RunAll();
  ASSERT_EQ(ear_.told["alone"].outcome, RowOutcome::kSucceeded) << ear_.told["alone"].cause;
  EXPECT_EQ(Weights(ear_.told["alone"].checkpoints.back()), mixed);
}

TEST_F(MixedEngineTest, ResumesInAnyPhaseBitForBit) {
  const spec::TrialSpec s = Mixed("", "0.4:a=1;0.3:b=1;0.3:a=0.6,b=0.4");
  const auto whole = Results(Alone(Request("whole", s)));
  for (const int64_t at : {5, 9, 13, 20}) {
    Open();
    const std::string first = "f" + std::to_string(at), second = "s" + std::to_string(at);
    engine_->AddRow(Request(first, s, at));
    RunAll();
    ASSERT_EQ(ear_.told[first].outcome, RowOutcome::kPaused);
    engine_->Close();
    Open();
    RowRequest request = Request(second, s);
    request.checkpoint = ear_.told[first].checkpoints.back();
    engine_->AddRow(request);
    RunAll();
    EXPECT_EQ(Joined(ear_.told[first], ear_.told[second], s, at), whole) << "stopped at " << at;
    engine_->Close();
  }
}

TEST_F(MixedEngineTest, RowsOfOneBundleMayReadDifferentMixtures) {
  Open(2);
  engine_->AddRow(Request("a", Mixed("a=1")));
  engine_->AddRow(Request("ab", Mixed("a=0.5,b=0.5")));
  RunAll();
  for (const std::string row : {"a", "ab"}) {
    const auto alone = Alone(Request(row, row == "a" ? Mixed("a=1") : Mixed("a=0.5,b=0.5")));
    EXPECT_EQ(Results(ear_.told[row]), Results(alone)) << row;
  }
}

TEST_F(MixedEngineTest, APartThatTheCorpusLacksIsInfeasible) {
  Open();
  engine_->AddRow(Request("r", Mixed("c=1")));
  EXPECT_EQ(ear_.told["r"].outcome, RowOutcome::kInfeasible);
  EXPECT_EQ(ear_.told["r"].cause, "data.mix: the corpus has no part c; it has a, b");
}

TEST_F(EngineTest, RowsOfDifferentRatesSeedsAndLengthsThatJoinLateAreTheBitsOfRunsAlone) {
  Open(4);
  std::vector<RowRequest> requests;
  for (int64_t k = 0; k < 4; ++k) {
    spec::TrialSpec s = Spec(0.003 * static_cast<double>(k + 1), k, 10 + 4 * k);
    s.model.init_std = 0.01 * static_cast<double>(k + 1);
    requests.push_back(Request("r" + std::to_string(k), s));
  }
  engine_->AddRow(requests[0]);
  engine_->AddRow(requests[3]);
  for (int i = 0; i < 3; ++i) engine_->Step();
  engine_->AddRow(requests[1]);
  engine_->Step();
  engine_->AddRow(requests[2]);
  RunAll();
  for (const RowRequest& request : requests) {
    const Told together = ear_.told[request.row], alone = Alone(request);
    EXPECT_EQ(together.outcome, RowOutcome::kSucceeded) << together.cause;
    EXPECT_EQ(Results(together), Results(alone)) << request.row;
    EXPECT_EQ(Weights(together.checkpoints.back()), Weights(alone.checkpoints.back()))
        << request.row;
  }
}

TEST_F(EngineTest, ResumesInTheMiddleOfAnEvaluationIntervalBitForBit) {
  const spec::TrialSpec s = Spec();
  const Told whole = Alone(Request("w", s));
  for (int64_t cut : {0, 1, 11, 22}) {
    const std::string row = "r" + std::to_string(cut);
    Open();
    engine_->AddRow(Request(row, s, cut));
    RunAll();
    Told& first = ear_.told[row];
    ASSERT_EQ(first.outcome, RowOutcome::kPaused) << first.cause;
    ASSERT_EQ(first.end_step, cut);
    Ear ear;  // as if in another process
    auto engine = MakeTorchEngine(ear);
    engine->Open("again", 2, data_.path(), 1);
    engine->AddRow(Request("neighbour", Spec(0.02, 5)));
    engine->Step();
    RowRequest rest = Request(row, s);
    rest.checkpoint = first.checkpoints.back();
    engine->AddRow(rest);
    while (engine->Step()) {
    }
    Told& second = ear.told[row];
    ASSERT_EQ(second.outcome, RowOutcome::kSucceeded) << second.cause;
    ASSERT_EQ(second.started, std::vector<int64_t>{cut});
    EXPECT_EQ(Joined(first, second, s, cut), Results(whole)) << "cut at " << cut;
    for (const char* file : {"weights.safetensors", "optimizer.safetensors"}) {
      EXPECT_EQ(Weights(second.checkpoints.back(), file), Weights(whole.checkpoints.back(), file))
          << "cut at " << cut;
    }
    if (cut == 11) {
      EXPECT_GT(second.at("time/wall_seconds", 15), first.at("time/wall_seconds", 8))
          << "time adds up over attempts";
    }
  }
}

TEST_F(EngineTest, PreemptionLeavesACheckpointThatCarriesOn) {
  const spec::TrialSpec s = Spec();
  Open();
  engine_->AddRow(Request("r", s));
  for (int i = 0; i < 6; ++i) engine_->Step();
  engine_->StopRow("r", Engine::StopMode::kPreempt);
  ASSERT_EQ(ear_.told["r"].outcome, RowOutcome::kPreempted);
  ASSERT_EQ(ear_.told["r"].checkpoints.back().step, 6);
  RowRequest rest = Request("r", s);
  rest.checkpoint = ear_.told["r"].checkpoints.back();
  engine_->AddRow(rest);
  RunAll();
  EXPECT_EQ(Results(ear_.told["r"]), Results(Alone(Request("w", s))));
}

TEST_F(EngineTest, CancelsAtOnceCheckpointsWhenAskedAndExtendsALease) {
  Open(3);
  engine_->AddRow(Request("cancel", Spec()));
  engine_->AddRow(Request("ask", Spec()));
  engine_->AddRow(Request("extend", Spec(), 4));
  engine_->CheckpointRow("ask");
  engine_->Step();
  engine_->StopRow("cancel", Engine::StopMode::kCancel);
  engine_->ExtendRow("extend", 7);
  EXPECT_EQ(ear_.told["cancel"].outcome, RowOutcome::kCancelled);
  EXPECT_TRUE(ear_.told["cancel"].checkpoints.empty());
  ASSERT_EQ(ear_.told["ask"].checkpoints.size(), 1u);
  EXPECT_EQ(ear_.told["ask"].checkpoints[0].step, 1);
  RunAll();
  EXPECT_EQ(ear_.told["extend"].outcome, RowOutcome::kPaused);
  EXPECT_EQ(ear_.told["extend"].end_step, 7);
  EXPECT_EQ(ear_.told["ask"].outcome, RowOutcome::kSucceeded);
}

TEST_F(EngineTest, ADivergingRowEndsAloneAndSaysWhen) {
  Open(3);
  spec::TrialSpec exploding = Spec(900);
  exploding.train.divergence_factor = 0;  // nothing but a number that is none
  spec::TrialSpec rising = Spec(0.5, 2, 60);
  rising.train.divergence_factor = 1.2;
  rising.train.schedule = spec::ScheduleKind::kConstant;
  rising.train.lr = 5;
  const spec::TrialSpec sane = Spec(0.01, 3);
  engine_->AddRow(Request("sane", sane));
  engine_->AddRow(Request("exploding", exploding));
  engine_->AddRow(Request("rising", rising));
  RunAll();
  EXPECT_EQ(ear_.told["rising"].outcome, RowOutcome::kDiverged) << ear_.told["rising"].cause;
  EXPECT_EQ(Results(ear_.told["sane"]), Results(Alone(Request("sane", sane))));
  // AdamW's steps are bounded by the rate, so even this one may stay finite; it must end either
  // way, and once.
  EXPECT_EQ(ear_.told["exploding"].ends, 1);
}

TEST_F(EngineTest, DivergenceIsJudgedTheSameAfterAResume) {
  spec::TrialSpec s = Spec(5, 2, 60);
  s.train.divergence_factor = 1.2;
  s.train.schedule = spec::ScheduleKind::kConstant;
  const Told whole = Alone(Request("w", s));
  ASSERT_EQ(whole.outcome, RowOutcome::kDiverged);
  ASSERT_GT(whole.end_step, 5);
  Open();
  engine_->AddRow(Request("r", s, whole.end_step - 1));
  RunAll();
  ASSERT_EQ(ear_.told["r"].outcome, RowOutcome::kPaused);
  RowRequest rest = Request("r", s);
  rest.checkpoint = ear_.told["r"].checkpoints.back();
  engine_->AddRow(rest);
  RunAll();
  EXPECT_EQ(ear_.told["r"].outcome, RowOutcome::kDiverged);
  EXPECT_EQ(ear_.told["r"].end_step, whole.end_step);
  EXPECT_EQ(ear_.told["r"].cause, whole.cause)
      << "the smoothed and the first loss are in the checkpoint";
}

TEST_F(EngineTest, AnotherStagesCheckpointGivesItsWeightsAndAFreshStart) {
  const spec::TrialSpec s = Spec();
  const Told parent = Alone(Request("p", s));
  RowRequest child = Request("c", s, 0);
  child.checkpoint = parent.checkpoints.back();
  child.checkpoint->resume = false;
  Open();
  engine_->AddRow(child);
  EXPECT_EQ(ear_.told["c"].started, std::vector<int64_t>{0});
  const CheckpointRef at0 = ear_.told["c"].checkpoints.back();
  EXPECT_EQ(Weights(at0), Weights(parent.checkpoints.back()));
  const TensorFile moments = TensorFile::Read(at0.path + "/optimizer.safetensors");
  for (const auto& [name, t] : moments.tensors()) EXPECT_EQ(t.data[0], 0) << name;
}

TEST_F(EngineTest, RefusesADamagedCheckpointWithACauseAndTheBundleGoesOn) {
  const spec::TrialSpec s = Spec();
  const Told source = Alone(Request("p", s, 5));
  const CheckpointRef good = source.checkpoints.back();
  const auto damaged = [&](const std::string& name, const auto& damage) {
    CheckpointRef c = good;
    c.path = work_ / ("damaged-" + name);
    fs::copy(good.path, c.path, fs::copy_options::recursive);
    damage(&c);
    return c;
  };
  const auto flip = [](const std::string& path) {
    std::fstream f(path, std::ios::binary | std::ios::in | std::ios::out);
    f.seekg(-1, std::ios::end);
    const char last = static_cast<char>(f.get());
    f.seekp(-1, std::ios::end);
    f.put(static_cast<char>(last ^ 1));
  };
  const std::map<std::string, std::pair<CheckpointRef, std::string>> cases = {
      {"weights",
       {damaged("weights", [&](CheckpointRef* c) { flip(c->path + "/weights.safetensors"); }),
        "weights.safetensors: damaged"}},
      {"moments",
       {damaged("moments", [&](CheckpointRef* c) { flip(c->path + "/optimizer.safetensors"); }),
        "optimizer.safetensors: damaged"}},
      {"manifest",
       {damaged("manifest", [&](CheckpointRef* c) { flip(c->path + "/manifest.json"); }),
        "not the one that was committed"}},
      {"done",
       {damaged("done", [&](CheckpointRef* c) { fs::remove(c->path + "/DONE"); }),
        "no DONE marker"}},
      {"file",
       {damaged("file", [&](CheckpointRef* c) { fs::remove(c->path + "/optimizer.safetensors"); }),
        "missing"}},
      {"folder",
       {damaged("folder", [&](CheckpointRef* c) { fs::remove_all(c->path); }), "no DONE marker"}},
      {"cut",
       {damaged("cut",
                [&](CheckpointRef* c) { fs::resize_file(c->path + "/weights.safetensors", 100); }),
        "damaged"}},
  };
  Open(2);
  engine_->AddRow(Request("sane", s));
  for (const auto& [name, c] : cases) {
    RowRequest request = Request(name, s);
    request.checkpoint = c.first;
    engine_->AddRow(request);
    EXPECT_EQ(ear_.told[name].outcome, RowOutcome::kFailed) << name;
    EXPECT_THAT(ear_.told[name].cause, HasSubstr(c.second)) << name;
    EXPECT_TRUE(ear_.told[name].started.empty()) << name;
  }
  spec::TrialSpec deeper = s;
  RunAll();
  EXPECT_EQ(ear_.told["sane"].outcome, RowOutcome::kSucceeded);
  engine_->Close();
  Open();
  deeper.model.n_layers = 3;
  RowRequest request = Request("deeper", deeper);
  request.checkpoint = good;
  engine_->AddRow(request);
  EXPECT_EQ(ear_.told["deeper"].outcome, RowOutcome::kFailed);
  EXPECT_THAT(ear_.told["deeper"].cause, HasSubstr("the model has"));
}

TEST_F(EngineTest, KeepsTheLastTwoCheckpointsAndClearsWhatACrashLeft) {
  spec::TrialSpec s = Spec();
  s.execution.checkpoint_steps = 4;
  fs::create_directories(work_ / "r/step-000000000002.tmp-1");
  fs::create_directories(work_ / "r/step-000000000003");  // no DONE
  Open();
  engine_->AddRow(Request("r", s));
  RunAll();
  std::vector<std::string> left;
  for (const auto& e : fs::directory_iterator(work_ / "r")) left.push_back(e.path().filename());
  EXPECT_THAT(left, ::testing::UnorderedElementsAre("step-000000000020", "step-000000000023"));
  EXPECT_EQ(ear_.told["r"].checkpoints.size(), 6u);
}

TEST_F(EngineTest, WritesAStepAgainWhenWhatLiesThereIsDamaged) {
  const spec::TrialSpec s = Spec();
  Open();
  engine_->AddRow(Request("r", s, 5));
  RunAll();
  const CheckpointRef first = ear_.told["r"].checkpoints.back();
  const std::string weights = Weights(first);
  fs::resize_file(first.path + "/weights.safetensors", 100);
  engine_->AddRow(Request("r", s, 5));  // from the start: no checkpoint could be loaded
  RunAll();
  EXPECT_EQ(Weights(ear_.told["r"].checkpoints.back()), weights);
}

TEST_F(EngineTest, SaysWhatCannotRunAndTakesTheNextRow) {
  Open(2);
  RowRequest noop = Request("noop", Spec());
  noop.kind = "noop";
  engine_->AddRow(noop);
  EXPECT_EQ(ear_.told["noop"].outcome, RowOutcome::kInfeasible);
  spec::TrialSpec other_data = Spec();
  other_data.data.digest = "another";
  engine_->AddRow(Request("digest", other_data));
  EXPECT_EQ(ear_.told["digest"].outcome, RowOutcome::kInfeasible);
  EXPECT_THAT(ear_.told["digest"].cause, HasSubstr("data.digest"));
  spec::TrialSpec long_windows = Spec();
  long_windows.data.seq_len = 4096, long_windows.train.batch_tokens = 4096;
  engine_->AddRow(Request("long", long_windows));
  EXPECT_EQ(ear_.told["long"].outcome, RowOutcome::kInfeasible);
  EXPECT_THAT(ear_.told["long"].cause, HasSubstr("not one window"));
  if (!at::hasCUDA()) {
    spec::TrialSpec cuda = Spec();
    cuda.numerics.device = spec::DeviceKind::kCuda;
    engine_->AddRow(Request("cuda", cuda));
    EXPECT_EQ(ear_.told["cuda"].outcome, RowOutcome::kInfeasible);
    EXPECT_THAT(ear_.told["cuda"].cause, HasSubstr("CUDA"));
  }
  engine_->AddRow(Request("good", Spec()));
  EXPECT_THROW(engine_->AddRow(Request("good", Spec())), std::invalid_argument)
      << "its name is taken";
  spec::TrialSpec wider = Spec();
  wider.model.d_model = 32;
  EXPECT_THROW(engine_->AddRow(Request("wider", wider)), std::invalid_argument)
      << "another fusion key";
  engine_->AddRow(Request("second", Spec()));
  EXPECT_THROW(engine_->AddRow(Request("third", Spec())), std::length_error);
  EXPECT_THROW(engine_->StopRow("nobody", Engine::StopMode::kCancel), std::out_of_range);
  RunAll();
  EXPECT_EQ(ear_.told["good"].outcome, RowOutcome::kSucceeded);
  EXPECT_EQ(ear_.told["second"].outcome, RowOutcome::kSucceeded);
}

TEST_F(EngineTest, ACheckpointThatCannotBeWrittenFailsItsRowAlone) {
  Open(2);
  RowRequest unwritable = Request("unwritable", Spec(), 3);
  unwritable.checkpoint_dir = data_ / "manifest.json/below";  // below a file
  engine_->AddRow(unwritable);
  engine_->AddRow(Request("sane", Spec()));
  RunAll();
  EXPECT_EQ(ear_.told["unwritable"].outcome, RowOutcome::kFailed);
  EXPECT_EQ(ear_.told["sane"].outcome, RowOutcome::kSucceeded);
}

TEST_F(EngineTest, TimesAShapeAndKeepsNothing) {
  RowRequest timing = Request("t", Spec());
  timing.kind = "timing", timing.stage_json = R"({"seconds": 0.01})";
  Open();
  engine_->AddRow(timing);
  RunAll();
  const Told& t = ear_.told["t"];
  EXPECT_EQ(t.outcome, RowOutcome::kSucceeded) << t.cause;
  EXPECT_GT(t.at("timing/solo_tokens_per_s", 1), 0);
  EXPECT_GT(t.at("timing/solo_flops_per_s", 1), t.at("timing/solo_tokens_per_s", 1));
  EXPECT_FALSE(fs::exists(work_ / "t"));
}

TEST_F(EngineTest, ClosingCancelsWhatRunsAndTheEngineOpensAgain) {
  Open();
  engine_->AddRow(Request("r", Spec()));
  engine_->Step();
  engine_->Close();
  EXPECT_EQ(ear_.told["r"].outcome, RowOutcome::kCancelled);
  EXPECT_FALSE(engine_->Step());
  EXPECT_THROW(engine_->AddRow(Request("r", Spec())), std::logic_error);
  Open();
  engine_->AddRow(Request("again", Spec(0.01, 1, 3)));
  RunAll();
  EXPECT_EQ(ear_.told["again"].outcome, RowOutcome::kSucceeded);
}

class EvaluationTest : public EngineTest {
 protected:
  EvaluationTest() : dataset_(data::Dataset::Open(data_.path())) {}
  data::Dataset dataset_;
};

TEST_F(EvaluationTest, IsTheSumOverWindowsAndIndependentOfTheRowsAround) {
  const spec::ModelSpec model = Spec().model;
  Bundle alone(model, 16, 1, at::kCPU), array(model, 16, 3, at::kCPU);
  alone.Add(7);
  array.Add(5), array.Add(6), array.Add(7);
  const data::Shard& shard = dataset_.split(data::Split::kTrain);
  const Score score = Evaluate(alone, 0, shard, {.seq_len = 16, .tokens = 0}),
              among = Evaluate(array, 2, shard, {.seq_len = 16, .tokens = 0});
  EXPECT_EQ(score.nll, among.nll);
  EXPECT_EQ(score.tokens, shard.tokens() - shard.documents())
      << "separators are not scored, everything else is, once";
  EXPECT_DOUBLE_EQ(score.bytes, 1900);
  // Window by window, by hand.
  double nll = 0;
  for (int64_t begin = 0; begin + 1 < shard.tokens(); begin += 16) {
    const int64_t n = std::min<int64_t>(16, shard.tokens() - 1 - begin);
    at::Tensor ids = at::empty({1, 1, n}, at::kLong), targets = at::empty({1, 1, n}, at::kLong);
    for (int64_t t = 0; t < n; ++t) {
      ids[0][0][t] = shard.Token(begin + t);
      targets[0][0][t] = shard.Token(begin + t + 1) == 0 ? -1 : shard.Token(begin + t + 1);
    }
    nll += alone.NegativeLogLikelihoods(0, 1, ids, targets).to(at::kDouble).sum().item<double>();
  }
  EXPECT_NEAR(score.nll, nll, 1e-6 * nll);
}

TEST_F(EvaluationTest, ACappedOneTakesEvenlySpreadWindowsAndEstimatesBytes) {
  const spec::ModelSpec model = Spec().model;
  Bundle bundle(model, 16, 1, at::kCPU);
  bundle.Add(7);
  const data::Shard& shard = dataset_.split(data::Split::kTrain);
  std::vector<DocumentScore> documents;
  const Score score =
      Evaluate(bundle, 0, shard, {.seq_len = 16, .tokens = 320, .document_scores = &documents});
  int64_t scored = 0;
  for (const DocumentScore& d : documents) scored += d.tokens;
  EXPECT_EQ(scored, score.tokens);
  EXPECT_LE(score.tokens, 320);
  EXPECT_GE(score.tokens, 320 - shard.documents());
  EXPECT_DOUBLE_EQ(score.bytes, static_cast<double>(score.tokens)) << "a byte a token";
  EXPECT_EQ(Evaluate(bundle, 0, shard, {.seq_len = 16, .tokens = 320}).nll, score.nll);
  EXPECT_EQ(Evaluate(bundle, 0, shard, {.seq_len = 16, .tokens = 1 << 20}).tokens, 1900)
      << "more than there is: all of it";
}

}  // namespace
}  // namespace plumb::trainer
