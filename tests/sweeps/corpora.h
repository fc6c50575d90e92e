// A lookup with one prepared corpus, for tests.
#pragma once

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "sweeps/plan.h"

namespace plumb::sweeps {

inline absl::StatusOr<CorpusInfo> TestCorpora(const std::string& corpus,
                                              const std::string& tokenizer) {
  if (corpus == "docs" || corpus == "python-docs-en") return CorpusInfo{"d1", 256, 5000000, 0};
  if (corpus == "small") return CorpusInfo{"d2", 256, 20000, 0.05};
  if (corpus == "ja-en") {
    return CorpusInfo{.digest = "d3",
                      .vocab_size = 256,
                      .train_tokens = 400000,
                      .parts = {{"en", 300000}, {"ja", 100000}}};
  }
  return absl::NotFoundError(
      absl::StrCat("corpus \"", corpus, "\" is not prepared; run: plumb data prepare ", corpus));
}

inline SweepPlan PlanOrDie(const std::string& yaml) {
  absl::StatusOr<SweepPlan> plan = PlanSweep(yaml, "test.yaml", TestCorpora);
  EXPECT_TRUE(plan.ok()) << plan.status().message();
  return plan.ok() ? *std::move(plan) : SweepPlan();
}

// What PlanSweep says of a file that it must refuse.
inline std::string Errors(const std::string& yaml) {
  absl::StatusOr<SweepPlan> plan = PlanSweep(yaml, "f.yaml", TestCorpora);
  EXPECT_FALSE(plan.ok());
  return plan.ok() ? "" : std::string(plan.status().message());
}

}  // namespace plumb::sweeps
