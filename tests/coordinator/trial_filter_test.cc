// Which trials `plumb stage run --where` means.
#include "coordinator/trial_filter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace plumb::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

store::TrialView Trial(int64_t id, const std::string& axes, const std::string& config,
                       StageState state = StageState::kSucceeded) {
  store::TrialView t;
  t.row = {.id = TrialId{id}, .config_json = config, .state = state};
  t.link.replicate = id % 2;
  t.cell.axes_json = axes;
  t.objective = 2.0 + static_cast<double>(id);
  return t;
}

const std::vector<store::TrialView>& Trials() {
  static const std::vector<store::TrialView> kTrials = {
      Trial(1, R"({"model.n_layers": 2, "variant": "sas"})",
            R"({"model": {"n_layers": 2, "d_model": 64}, "train": {"steps": 10}})"),
      Trial(2, R"({"model.n_layers": 4, "variant": "sas"})",
            R"({"model": {"n_layers": 4, "d_model": 64}, "train": {"steps": 10}})"),
      Trial(3, R"({"model.n_layers": 4, "variant": "preln"})",
            R"({"model": {"n_layers": 4, "d_model": 128}, "train": {"steps": 10}})",
            StageState::kDiverged)};
  return kTrials;
}

std::vector<int64_t> Takes(const std::string& text) {
  const auto filter = TrialFilter::Create(text, Trials());
  EXPECT_TRUE(filter.ok()) << filter.status();
  std::vector<int64_t> out;
  for (const store::TrialView& t : Trials()) {
    const auto takes = filter->Takes(t);
    EXPECT_TRUE(takes.ok()) << takes.status();
    if (takes.ok() && *takes) out.push_back(t.row.id.value);
  }
  return out;
}

std::string Wrong(const std::string& text) {
  const auto filter = TrialFilter::Create(text, Trials());
  if (!filter.ok()) return std::string(filter.status().message());
  return std::string(filter->Takes(Trials()[0]).status().message());
}

TEST(TrialFilter, TakesByAxesFieldsStateAndPlace) {
  EXPECT_THAT(Takes(""), ElementsAre(1, 2, 3));
  EXPECT_THAT(Takes("n_layers >= 4"), ElementsAre(2, 3));
  EXPECT_THAT(Takes("model.n_layers >= 4 and variant == sas"), ElementsAre(2));
  EXPECT_THAT(Takes("state == diverged or trial == 1"), ElementsAre(1, 3));
  EXPECT_THAT(Takes("d_model == 64 and not (replicate == 0)"), ElementsAre(1));
  EXPECT_THAT(Takes("params_total > 0 and d_model > 100"), ElementsAre(3));
  EXPECT_THAT(Takes("objective < 4"), ElementsAre(1));
  EXPECT_THAT(Takes("aa"), ElementsAre());
}

TEST(TrialFilter, WhatIsWrongIsShownAtItsPlace) {
  EXPECT_THAT(Wrong("n_layer >= 4"), HasSubstr("did you mean n_layers?\n  n_layer >= 4\n  ^"));
  EXPECT_THAT(Wrong("variant == sass"), HasSubstr("did you mean sas?"));
  EXPECT_THAT(Wrong("trial == 1 and state == suceeded"),
              HasSubstr("did you mean succeeded?\n  trial == 1 and state == suceeded\n"
                        "                          ^"));
  EXPECT_THAT(Wrong("n_layers >="), HasSubstr("\n             ^"));
  EXPECT_THAT(Wrong("n_layers + 1"), HasSubstr("is no condition"));
  EXPECT_THAT(Wrong("variant > 3"), HasSubstr(""));
}

}  // namespace
}  // namespace plumb::coordinator
