// An engine on a small corpus, and what it said.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "tests/protocol/temp_dir.h"
#include "tests/trainer/corpus.h"
#include "trainer/measure_plan.h"
#include "trainer/protocol/engine.h"
#include "trainer/spec/parse.h"

namespace plumb::trainer {

// What an engine said of one row.
struct Told {
  std::vector<int64_t> started;
  std::map<std::tuple<std::string, int64_t, int64_t>, double> points;  // name, layer, step
  int64_t repeated = 0;                                                // points said twice
  std::map<std::string, std::vector<DocumentScore>> documents;
  std::vector<CheckpointRef> checkpoints;
  std::map<std::tuple<std::string, std::string, int64_t>, std::string> records;
  int ends = 0;
  RowOutcome outcome = RowOutcome::kFailed;
  int64_t end_step = -1;
  std::string cause;
  double at(const std::string& name, int64_t step) const { return points.at({name, -1, step}); }
};

class Ear : public EventSink {
 public:
  void RowStarted(const std::string& row, int64_t step) override {
    told[row].started.push_back(step);
  }
  void Points(const std::string& row, int64_t step,
              const std::vector<PointValue>& values) override {
    for (const PointValue& v : values)
      told[row].repeated += !told[row].points.insert({{v.name, v.layer, step}, v.value}).second;
  }
  void Documents(const std::string& row, const std::string& split,
                 const std::vector<DocumentScore>& scores) override {
    told[row].documents[split] = scores;
  }
  void Record(const std::string& row, int64_t, const std::string& kind, const std::string& name,
              int64_t index, const std::string& json) override {
    told[row].records[{kind, name, index}] = json;
  }
  void Checkpoint(const std::string& row, int64_t step, const std::string& path,
                  const std::string& digest, int64_t bytes) override {
    EXPECT_GT(bytes, 0);
    told[row].checkpoints.push_back({.path = path, .digest = digest, .step = step});
  }
  void RowEnded(const std::string& row, int64_t step, RowOutcome outcome, const std::string& cause,
                const std::string&) override {
    Told& t = told[row];
    ++t.ends, t.outcome = outcome, t.end_step = step, t.cause = cause;
  }
  std::map<std::string, Told> told;
};

// What depends on the clock or the process, not on the trial.
inline bool OfTheMachine(const std::string& name) {
  return name.rfind("time/", 0) == 0 || name.rfind("memory/", 0) == 0 ||
         name.find("_per_s") != std::string::npos;
}
inline std::map<std::tuple<std::string, int64_t, int64_t>, double> Results(const Told& t) {
  auto out = t.points;
  std::erase_if(out, [](const auto& p) { return OfTheMachine(std::get<0>(p.first)); });
  return out;
}

// What two parts of one run left, but for the look at the row where the first part's lease ended:
// an evaluation that a whole run has not, unless it is due there.
inline std::map<std::tuple<std::string, int64_t, int64_t>, double> Joined(const Told& first,
                                                                          const Told& second,
                                                                          const spec::TrialSpec& s,
                                                                          int64_t cut) {
  auto out = Results(first);
  out.merge(Results(second));
  std::vector<std::string> log = LogSeries();
  for (const std::string& name : PenaltySeries(s)) log.push_back(name);
  std::erase_if(out, [&](const auto& p) {
    const auto& [name, layer, step] = p.first;
    return step == cut && !IsEvalStep(s, cut) &&
           std::find(log.begin(), log.end(), name) == log.end();
  });
  return out;
}

class EngineTest : public ::testing::Test {
 protected:
  EngineTest() : engine_(MakeTorchEngine(ear_)) {
    std::filesystem::create_directories(data_.path());
    WriteCorpus(data_.path());
  }

  spec::TrialSpec Spec(double lr = 0.01, int64_t seed = 1, int64_t steps = 23) {
    spec::TrialSpec s;
    s.model.n_layers = 2, s.model.d_model = 16, s.model.n_heads = 2;
    s.data.corpus = "c", s.data.seq_len = 16;
    s.train.steps = steps, s.train.batch_tokens = 64, s.train.lr = lr, s.train.log_every = 5;
    s.eval.points = 3, s.eval.tokens = 48, s.eval.train_tokens = 64;
    s.seed.init = seed, s.seed.data = seed + 10;
    s.execution.checkpoint_seconds = 0;
    const auto errors = spec::Resolve(&s);
    EXPECT_TRUE(errors.empty()) << spec::Format(errors);
    return s;
  }
  RowRequest Request(const std::string& row, const spec::TrialSpec& s, int64_t until = -1) {
    return {.row = row,
            .kind = "pretrain",
            .spec = s,
            .until_step = until,
            .checkpoint_dir = work_ / row};
  }
  void Open(int64_t capacity = 1) { engine_->Open("b", capacity, data_.path(), 1); }
  void RunAll() {
    while (engine_->Step()) {
    }
  }
  // Runs one request alone in a fresh engine.
  Told Alone(RowRequest request) {
    Ear ear;
    auto engine = MakeTorchEngine(ear);
    engine->Open("alone", 1, data_.path(), 1);
    request.checkpoint_dir = work_ / ("alone-" + request.row);
    engine->AddRow(request);
    while (engine->Step()) {
    }
    return ear.told[request.row];
  }
  // A stage on what a training of `s` left, which runs the first time. Fields that are not given
  // have their defaults.
  Told After(const spec::TrialSpec& s, const std::string& kind, const nlohmann::json& settings) {
    if (!trained_) {
      training_ = Alone(Request("trained", s));
      EXPECT_EQ(training_.outcome, RowOutcome::kSucceeded) << training_.cause;
      trained_ = training_.checkpoints.back();
      trained_->resume = false;
    }
    RowRequest r = Request(kind, s);
    r.kind = kind, r.stage_json = settings.dump(), r.checkpoint = trained_;
    return Alone(r);
  }
  static std::string Weights(const CheckpointRef& c,
                             const std::string& file = "weights.safetensors") {
    std::ifstream in(c.path + "/" + file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  testing::TempDir data_, work_;
  Told training_;
  std::optional<CheckpointRef> trained_;
  Ear ear_;
  std::unique_ptr<Engine> engine_;
};

}  // namespace plumb::trainer
