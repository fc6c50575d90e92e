// Planned trials as rows of the database.
#include "coordinator/plan_rows.h"

#include <gmock/gmock.h>

#include "tests/spec/specs.h"

namespace plumb::coordinator {
namespace {

TEST(PlanRows, AStageThatTrainsTakesASlotForEachThreadOfEachRank) {
  sweeps::PlannedTrial trial;
  trial.config =
      spec::ResolvedOrDie(R"({"train": {"steps": 1, "ranks": 4}, "execution": {"threads": 2}})");
  trial.stages = {{.name = "timing", .kind = "timing"},
                  {.name = "pretrain", .kind = "pretrain"},
                  {.name = "probes", .kind = "probe", .parent = "pretrain"}};
  std::vector<int64_t> slots;
  for (const auto& stage : ToNewTrial(trial, "r", "", 4).stages) slots.push_back(stage.threads);
  EXPECT_THAT(slots, ::testing::ElementsAre(8, 8, 2));
}

}  // namespace
}  // namespace plumb::coordinator
