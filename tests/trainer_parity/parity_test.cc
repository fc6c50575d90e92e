// 50 AdamW steps against the independent PyTorch reference of make_fixture.py, alone and as rows of
// an array.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "trainer/bundle.h"
#include "trainer/spec/parse.h"

namespace plumb::trainer {
namespace {

struct Fixture {
  spec::TrialSpec spec;
  std::map<std::string, at::Tensor> tensors;

  static Fixture Read(const std::string& preset) {
    std::ifstream in(
        std::string(PLUMB_SOURCE_DIR) + "/tests/trainer_parity/" + preset + ".safetensors",
        std::ios::binary);
    uint64_t length = 0;
    in.read(reinterpret_cast<char*>(&length), sizeof(length));
    std::string header(length, ' ');
    in.read(header.data(), static_cast<std::streamsize>(length));
    Fixture fixture;
    nlohmann::json json = nlohmann::json::parse(header);
    std::vector<spec::SpecError> errors =
        spec::ParseResolved(json.at("__metadata__").at("spec").get<std::string>(), &fixture.spec);
    EXPECT_TRUE(errors.empty()) << spec::Format(errors);
    for (const auto& [name, entry] : json.items()) {
      if (name == "__metadata__") continue;
      std::string dtype = entry.at("dtype");
      at::Tensor tensor =
          at::empty(entry.at("shape").get<std::vector<int64_t>>(), dtype == "F32"   ? at::kFloat
                                                                   : dtype == "F64" ? at::kDouble
                                                                                    : at::kInt);
      in.seekg(
          static_cast<std::streamoff>(8 + length + entry.at("data_offsets").at(0).get<uint64_t>()));
      in.read(static_cast<char*>(tensor.data_ptr()), static_cast<std::streamsize>(tensor.nbytes()));
      fixture.tensors[name] = tensor;
    }
    EXPECT_TRUE(in.good());
    return fixture;
  }
};

double Rate(const spec::TrainSpec& t, int64_t step) {
  if (step < t.warmup_steps)
    return t.lr * static_cast<double>(step + 1) / static_cast<double>(t.warmup_steps);
  double progress = static_cast<double>(step + 1 - t.warmup_steps) /
                    static_cast<double>(t.steps - t.warmup_steps);
  return t.lr *
         (t.final_lr_fraction + (1 - t.final_lr_fraction) * 0.5 * (1 + std::cos(M_PI * progress)));
}

struct Trial {
  double lr_factor = 1;
  double weight_scale = 1;  // another start, as another seed would give
};

// losses[step][row]; the row `poisoned` gets a NaN weight after `poison_at` steps.
std::vector<std::vector<double>> Train(const Fixture& f, const std::vector<Trial>& trials,
                                       int64_t poisoned = -1, int64_t poison_at = 0) {
  at::set_num_threads(1);
  int64_t rows = static_cast<int64_t>(trials.size());
  const spec::TrainSpec& t = f.spec.train;
  Bundle bundle(f.spec.model, f.spec.data.seq_len, rows, at::kCPU);
  for (int64_t k = 0; k < rows; ++k) {
    bundle.Add(0);
    for (auto& [name, value] : bundle.arena().View(k, 1)) {
      value[0].copy_(f.tensors.at(name) * trials[k].weight_scale);
    }
  }
  std::vector<std::vector<double>> losses;
  const at::Tensor& tokens = f.tensors.at("tokens");  // [steps, B, T + 1]
  for (int64_t step = 0; step < t.steps; ++step) {
    if (step == poison_at && poisoned >= 0)
      bundle.arena().View(poisoned, 1).at("embed.weight").fill_(std::nan(""));
    at::Tensor sample =
        tokens[step].to(at::kLong).unsqueeze(0).expand({rows, tokens.size(1), tokens.size(2)});
    std::vector<RowUpdate> updates;
    for (const Trial& trial : trials) {
      updates.push_back({.lr = Rate(t, step) * trial.lr_factor,
                         .beta1 = t.beta1,
                         .beta2 = t.beta2,
                         .eps = t.adam_eps,
                         .weight_decay = t.weight_decay,
                         .grad_clip = t.grad_clip,
                         .step = step + 1});
    }
    losses.push_back(bundle
                         .Step(sample.narrow(2, 0, tokens.size(2) - 1).contiguous(),
                               sample.narrow(2, 1, tokens.size(2) - 1).contiguous(), updates)
                         .loss);
  }
  return losses;
}

class Parity : public testing::TestWithParam<std::string> {};

TEST_P(Parity, FiftyStepsMatchPyTorchTo1e5Relative) {
  Fixture f = Fixture::Read(GetParam());
  std::vector<std::vector<double>> losses = Train(f, {{}});
  double worst = 0;
  for (int64_t step = 0; step < f.spec.train.steps; ++step) {
    double expected = f.tensors.at("losses").data_ptr<double>()[step];
    worst = std::max(worst, std::abs(losses[step][0] - expected) / expected);
  }
  EXPECT_EQ(losses.size(), 50u);
  EXPECT_LT(worst, 1e-5);
  RecordProperty("worst_relative", std::to_string(worst * 1e9) + "e-9");
}

TEST_P(Parity, FourRowsOfFourRatesAndStartsAreTheBitsOfFourRunsAlone) {
  Fixture f = Fixture::Read(GetParam());
  std::vector<Trial> trials = {{1, 1}, {0.3, 1.1}, {3, 0.9}, {0.1, 1.2}};
  std::vector<std::vector<double>> together = Train(f, trials);
  for (size_t k = 0; k < trials.size(); ++k) {
    std::vector<std::vector<double>> alone = Train(f, {trials[k]});
    for (size_t step = 0; step < alone.size(); ++step) {
      ASSERT_EQ(alone[step][0], together[step][k]) << "row " << k << " step " << step;
    }
  }
}

TEST_P(Parity, ARowPoisonedWithNanChangesNoBitOfAnother) {
  Fixture f = Fixture::Read(GetParam());
  std::vector<Trial> trials = {{1, 1}, {0.3, 1.1}, {2, 0.9}};
  std::vector<std::vector<double>> clean = Train(f, trials), dirty = Train(f, trials, 1, 20);
  EXPECT_TRUE(std::isnan(dirty.back()[1]));
  for (size_t step = 0; step < clean.size(); ++step) {
    ASSERT_EQ(clean[step][0], dirty[step][0]);
    ASSERT_EQ(clean[step][2], dirty[step][2]);
  }
}

INSTANTIATE_TEST_SUITE_P(Presets, Parity, testing::Values("llama", "gpt2"),
                         [](const testing::TestParamInfo<std::string>& info) {
                           return info.param;
                         });

}  // namespace
}  // namespace plumb::trainer
