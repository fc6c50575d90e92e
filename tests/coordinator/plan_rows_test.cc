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

TEST(PlanRows, TrialsShareAPrefixUnlessMoreThanTheirLastValueIsRead) {
  sweeps::PlannedTrial trial{
      .config = spec::ResolvedOrDie(
          R"({"train": {"steps": 100, "schedule": "wsd", "decay_fraction": 0.1}})"),
      .stages = {{.name = "timing", .kind = "timing"},
                 {.name = "pretrain", .kind = "pretrain"},
                 {.name = "probes", .kind = "probe", .parent = "pretrain"}},
  };
  const core::NewTrial row = ToNewTrial(trial, "r", "", 1);
  EXPECT_EQ(row.stages[0].prefix_key, "");
  EXPECT_EQ(row.stages[1].prefix_key, spec::PrefixKey(trial.config));
  EXPECT_EQ(row.stages[1].trunk_step, 90);
  EXPECT_EQ(row.stages[2].prefix_key, "");
  trial.aa = true;
  const std::string control = ToNewTrial(trial, "r", "", 1).stages[1].prefix_key;
  EXPECT_NE(control, row.stages[1].prefix_key);
  EXPECT_NE(control, ToNewTrial(trial, "r2", "", 1).stages[1].prefix_key)
      << "of each sweep its own";
  trial.aa = false;
  trial.stages.erase(trial.stages.begin());
  for (const char* at : {"last", "best", "mean_last(5)"}) {
    sweeps::SweepPlan plan{.cells = {{.name = "a"}}, .trials = {trial}};
    plan.objectives = {{.metric = "val/loss"}, {.metric = "test/loss", .at = at}};
    Contest contest(plan);
    contest.Join(plan.trials);
    const core::MaterializeSlice s = ToSlice(plan, {}, contest, SweepId{1}, "r", 0, 9);
    EXPECT_EQ(s.trials->front().stages.front().prefix_key.empty(), std::string(at) != "last") << at;
  }
}

TEST(PlanRows, ATrialOnAGpuNeedsAWorkerWithOne) {
  const auto labels = [](const char* config, const std::string& asked) {
    sweeps::PlannedTrial trial{.config = spec::ResolvedOrDie(config),
                               .stages = {{.name = "pretrain", .kind = "pretrain"}}};
    return ToNewTrial(trial, "r", asked, 1).stages.front().labels;
  };
  constexpr char kOnGpu[] = R"({"train": {"steps": 1}, "numerics": {"device": "cuda"}})";
  EXPECT_EQ(labels(kOnGpu, ""), "cuda");
  EXPECT_EQ(labels(kOnGpu, "a100,fast"), "a100,cuda,fast");
  EXPECT_EQ(labels(kOnGpu, "cuda"), "cuda");
  EXPECT_EQ(labels(R"({"train": {"steps": 1}})", "fast"), "fast");
}

TEST(PlanRows, ASliceGoesOnFromThePlanToWhatWasAdded) {
  sweeps::PlannedTrial trial{
      .config = spec::ResolvedOrDie(R"({"train": {"steps": 1}})"),
      .stages = {{.name = "pretrain", .kind = "pretrain"}},
  };
  sweeps::SweepPlan plan{.cells = {{.name = "a"}, {.name = "b"}}};
  for (int64_t cell : {0, 0, 1}) {
    trial.cell = cell;
    trial.role = sweeps::TrialRole::kTune;
    plan.trials.push_back(trial);
  }
  std::vector<sweeps::PlannedTrial> added;
  for (int64_t cell : {1, 0}) {
    trial.cell = cell;
    trial.role = sweeps::TrialRole::kMain;
    added.push_back(trial);
  }
  Contest contest(plan);
  contest.Join(plan.trials);
  contest.Join(added);
  const auto drawn = [&](int64_t from, int64_t limit) {
    const core::MaterializeSlice s = ToSlice(plan, added, contest, SweepId{1}, "r", from, limit);
    std::string out;
    for (const CellRow& c : s.cells) out += c.name + " ";
    for (const core::NewTrial& t : *s.trials)
      out += std::to_string(t.cell_idx) + (t.tune != 0 ? "t " : " ");
    return out;
  };
  EXPECT_EQ(drawn(0, 9), "a b 0t 0t 1t 1 0 ");
  EXPECT_EQ(drawn(0, 2), "a 0t 0t ");
  EXPECT_EQ(drawn(2, 2), "b 1t 1 ");
  EXPECT_EQ(drawn(4, 2), "0 ");
  EXPECT_EQ(drawn(5, 2), "");
}

}  // namespace
}  // namespace plumb::coordinator
