// plumb sweep plan, as the binary: what it knows with and without a database, a calibration, a
// memory.
#include <gmock/gmock.h>

#include "tests/app/cli.h"

namespace plumb::app {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class PlanTest : public CliFixture {
 protected:
  void Write(const std::string& name, const std::string& text) {
    std::ofstream(dir_ + "/" + name) << text;
  }

  void WriteSweep(const std::string& name, const std::string& budget,
                  const std::string& more = "") {
    Write(name,
          "sweep: s\ntrial:\n  model: {head_dim: 16}\n  data: {corpus: c, tokenizer: bytes, "
          "seq_len: 64}\n  train: {" +
              budget +
              ", batch_tokens: 1024}\n  eval: {points: 2, tokens: 4096, final_tokens: 4096}\n" +
              more);
  }

  // Four shapes that `device` is said to have run: a step takes 2 ms a block, a pass 1 ms.
  void WriteCalibration(const std::string& device) {
    std::string runs;
    for (const int layers : {1, 2, 4, 8}) {
      runs +=
          (runs.empty() ? "" : ",") + std::string(R"({"device": ")") + device +
          R"(", "config": {"model": {"n_layers": )" + std::to_string(layers) +
          R"(, "d_model": 32, "head_dim": 16}, "data": {"corpus": "c", "seq_len": 64}, "train": {"steps": 1, "batch_tokens": 1024}},
                 "step_seconds": )" +
          std::to_string(0.002 * layers) + R"(, "pass_seconds": )" +
          std::to_string(0.001 * layers) +
          R"(, "pass_tokens": 4096, "around_seconds": 0.1, "peak_bytes": 200000000, "time_us": 1})";
    }
    Write("plumb.db.calibration.json", R"({"format": 1, "runs": [)" + runs + "]}");
  }

  nlohmann::json Planned(const std::string& arguments) {
    const Ran r = Plumb("sweep plan " + arguments + " --assume-tokens 100M -o json");
    EXPECT_EQ(r.code, 0) << r.err;
    return nlohmann::json::parse(r.out, nullptr, false);
  }
};

TEST_F(PlanTest, WithoutACalibrationNoTimeIsKnownAndThePageSaysHow) {
  WriteSweep("a.yaml", "steps: 100",
             "axes: {model.n_layers: [1, 2, 4], model.d_model: [32, 64]}\n");
  const Ran r = Plumb("sweep plan a.yaml --assume-tokens 100M --draw");
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_THAT(r.out, HasSubstr("sweep plan --calibrate a.yaml"));
  EXPECT_THAT(r.out, HasSubstr("parameters, non-embedding\n"));
  EXPECT_THAT(r.out, HasSubstr("O  a cell"));
  const auto j = Planned("a.yaml --plane plane.svg");
  EXPECT_TRUE(j["cells"][0]["seconds"].is_null());
  EXPECT_EQ(j["cells"][0]["memory_bytes"]["basis"], "formula");
  EXPECT_GT(j["disk_bytes"], 0);
  EXPECT_THAT(Slurp(dir_ + "/plane.svg"), HasSubstr("equal FLOPs per token"));
}

TEST_F(PlanTest, ACalibrationGivesSecondsWithTheirBasisAndBand) {
  WriteCalibration("cpu: test");
  WriteSweep("a.yaml", "steps: 100", "axes: {model.n_layers: [3, 6]}\n");
  const auto j = Planned("a.yaml");
  const auto& seconds = j["cells"][0]["seconds"];
  EXPECT_EQ(seconds["basis"], "calibrated");
  EXPECT_EQ(seconds["band"], 0.05);
  // 100 steps of 3 blocks, and passes: at the first point tune, val and train, at the second these
  // and test.
  EXPECT_NEAR(j["cells"][0]["training_seconds"].get<double>(),
              100 * 0.006 + 0.003 * (1 + 1 + 4 + 1 + 1 + 4 + 1), 0.1);
  EXPECT_NEAR(j["cells"][1]["training_seconds"].get<double>() /
                  j["cells"][0]["training_seconds"].get<double>(),
              2, 0.05);
  EXPECT_EQ(j["time"]["device"], "cpu: test");
  EXPECT_THAT(Plumb("sweep plan a.yaml --assume-tokens 100M").out,
              HasSubstr("calibrated: cpu: test, 4 shapes"));
}

TEST_F(PlanTest, SecondsInAFileNeedACalibrationOfTheNamedDevice) {
  WriteSweep("a.yaml", "seconds: 2", "axes: {model.n_layers: [1, 2]}\n");
  Ran r = Plumb("sweep plan a.yaml --assume-tokens 100M");
  EXPECT_NE(r.code, 0);
  EXPECT_THAT(r.err, HasSubstr("this machine is not calibrated"));
  EXPECT_THAT(r.err, HasSubstr("--calibrate"));
  WriteCalibration("cpu: test");
  r = Plumb("sweep plan a.yaml --assume-tokens 100M");
  EXPECT_THAT(r.err, HasSubstr("known are \"cpu: test\" with 1 thread"));
  WriteSweep("a.yaml", "seconds: 2",
             "axes: {model.n_layers: [1, 2]}\ncalibration: \"cpu: test\"\n");
  const auto j = Planned("a.yaml");
  EXPECT_NEAR(j["cells"][0]["seconds"]["value"].get<double>(), 2, 0.01);
  EXPECT_NEAR(j["cells"][1]["seconds"]["value"].get<double>(), 2, 0.01);
  EXPECT_NEAR(j["cells"][0]["steps"].get<double>() / j["cells"][1]["steps"].get<double>(), 2, 0.1);
}

TEST_F(PlanTest, SaysWhatDoesNotFit) {
  WriteSweep("a.yaml", "steps: 100",
             "axes: {model.n_layers: [2, 16, 32], model.d_model: [256, 512]}\n");
  const Ran r = Plumb("sweep plan a.yaml --assume-tokens 100M --memory-gib 0.6");
  EXPECT_THAT(r.out, HasSubstr("does not fit"));
  const auto j = Planned("a.yaml --memory-gib 1000");
  EXPECT_EQ(j["fit"]["cells_that_do_not_fit"], 0);
  EXPECT_EQ(Plumb("sweep plan a.yaml --assume-tokens 100M --memory-gib -1").code, 2);
}

TEST_F(PlanTest, MoreThanOneEpochIsShownAndRefused) {
  WriteSweep("a.yaml", "steps: 100");
  const Ran r = Plumb("sweep plan a.yaml --assume-tokens 50k");
  EXPECT_NE(r.code, 0);
  EXPECT_THAT(r.out, HasSubstr("more_than_one_epoch: 1 cell"));
  EXPECT_THAT(r.err, HasSubstr("allow: [more_than_one_epoch]"));
  WriteSweep("a.yaml", "steps: 100", "allow: [more_than_one_epoch]\n");
  EXPECT_EQ(Plumb("sweep plan a.yaml --assume-tokens 50k").code, 0);
}

TEST_F(PlanTest, ADamagedCalibrationIsNamedAndLeftAlone) {
  WriteSweep("a.yaml", "steps: 100");
  Write("plumb.db.calibration.json", "{\"format\": 1, \"runs\": [{}]}");
  const Ran r = Plumb("sweep plan a.yaml --assume-tokens 100M");
  EXPECT_NE(r.code, 0);
  EXPECT_THAT(r.err, HasSubstr("plumb.db.calibration.json"));
  EXPECT_EQ(Slurp(dir_ + "/plumb.db.calibration.json"), "{\"format\": 1, \"runs\": [{}]}");
}

}  // namespace
}  // namespace plumb::app
