// Tasks as lm-evaluation-harness 0.4.13 scores them (harness/make_harness_fixtures.py): the same
// log-likelihoods, and every metric equal to the last digit that the harness prints.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "data/task_file.h"
#include "data/task_score.h"
#include "interchange/hf_config.h"
#include "interchange/hf_tensors.h"
#include "interchange/weight_files.h"
#include "trainer/bundle.h"
#include "trainer/stages/task.h"

namespace plumb {
namespace {

using nlohmann::json;

std::string Folder() { return std::string(PLUMB_SOURCE_DIR) + "/tests/trainer_parity/harness/"; }

class HarnessTest : public testing::TestWithParam<std::string> {
 protected:
  static void SetUpTestSuite() {
    const auto file = interchange::WeightFiles::OpenFile(Folder() + "model.safetensors");
    interchange::HfConfig config;
    ASSERT_TRUE(
        interchange::ConfigFromHf(json::parse(file.metadata().at("config")), &config).empty());
    const interchange::TensorMap map = interchange::HfTensors(config.model_type, config.spec.model);
    bundle_ = new trainer::Bundle(config.spec.model, 160, 1, at::kCPU, at::kDouble);
    bundle_->Add(1);
    at::NoGradGuard no_grad;
    for (const auto& [name, value] : bundle_->arena().View(0, 1)) {
      at::Tensor ours = at::full_like(value[0], NAN, at::kDouble).contiguous();
      for (const interchange::Link& link : map.links) {
        if (link.ours == name)
          interchange::MoveToOurs(link, file.Read<double>(link.theirs).data(),
                                  ours.data_ptr<double>());
      }
      ASSERT_FALSE(ours.isnan().any().item<bool>()) << name;
      value[0].copy_(ours);
    }
  }
  static void TearDownTestSuite() { delete bundle_; }
  static trainer::Bundle* bundle_;
};
trainer::Bundle* HarnessTest::bundle_ = nullptr;

std::string Printed(double value) {
  char text[64];
  std::snprintf(text, sizeof text, "%.4f", value);
  return text;
}

// The same digits, as far as a double holds them: beyond 15, four decimals print what the last bit
// of a likelihood, and so the processor, decides.
bool SamePrinted(const std::string& a, const std::string& b) {
  const double x = std::strtod(a.c_str(), nullptr), y = std::strtod(b.c_str(), nullptr);
  return a == b || (std::abs(y) >= 1e11 && std::abs(x - y) <= 1e-12 * std::abs(y));
}

TEST_P(HarnessTest, LikelihoodsAndPrintedScores) {
  const std::string form = GetParam();
  std::ifstream in(Folder() + "expected.json");
  const json expected = json::parse(in).at(form);
  const data::TaskData task = data::ReadTask(form, Folder() + form + ".jsonl", "", 0);
  const auto tokenizer = data::BytesTokenizer();
  trainer::TaskRun run(*bundle_, 0, *tokenizer, task, 160, false);
  for (size_t p = 0; p < run.passes(); ++p) run.Pass(p);

  int64_t compared = 0;
  for (const data::GroupScore& g : data::ScoreTask(task, run.scores())) {
    const std::string name = form == "blimp" ? g.group : "all";
    if (!expected.contains(name))
      continue;  // BLiMP over all paradigms is the harness's group, not in the fixture
    const json& theirs = expected[name];
    size_t item = 0;
    for (size_t i = 0; i < task.items.size(); ++i) {
      if (form == "blimp" && task.items[i].group != name) continue;
      const json& likelihoods = theirs["likelihoods"][item++];
      ASSERT_EQ(likelihoods.size(), task.items[i].choices.size());
      for (size_t c = 0; c < likelihoods.size(); ++c)
        EXPECT_NEAR(run.scores()[i].log_likelihood[c], likelihoods[c].get<double>(), 1e-9)
            << form << " item " << i << " choice " << c;
    }
    EXPECT_EQ(item, theirs["likelihoods"].size());
    std::map<std::string, std::string> ours;
    for (const data::TaskMetric& metric : g.metrics) {
      ours[metric.name] = Printed(metric.value);
      ours[metric.name + "_stderr"] = metric.stderr_ ? Printed(*metric.stderr_) : "N/A";
    }
    for (const auto& [metric, value] : theirs["printed"].items()) {
      EXPECT_TRUE(SamePrinted(ours[metric], value.get<std::string>()))
          << form << "/" << name << ": " << metric << " is " << ours[metric] << ", there " << value;
      ++compared;
    }
  }
  EXPECT_GE(compared, 2);
}

INSTANTIATE_TEST_SUITE_P(Formats, HarnessTest,
                         testing::Values("arc", "blimp", "hellaswag", "piqa", "lambada",
                                         "storycloze", "boolq", "cb", "copa", "multirc", "rte",
                                         "wic"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace plumb
