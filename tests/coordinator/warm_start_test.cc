// Sweeps that begin from trials which are removed afterwards.
#include "coordinator/warm_start.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "store/store.h"
#include "tests/coordinator/cluster.h"
#include "tests/sweeps/corpora.h"
#include "trainer/spec/parse.h"

namespace plumb::coordinator {
namespace {

using ::testing::HasSubstr;

sweeps::SweepPlan Warm(int64_t width) {
  return sweeps::PlanOrDie(absl::StrCat(
      "sweep: s\ntrial: {model: {d_model: ", width,
      ", head_dim: 16}, data: {corpus: docs, seq_len: 32}, init: {trial: 1}, train: {steps: 10, "
      "batch_tokens: 1024}}\nreplicates: 2\n"));
}

TEST(WarmStart, OfARemovedTrialThoseThatBeganFromItKnowTheCheckpoint) {
  TempDir dir;
  auto store = store::Store::Open(dir / "plumb.db", 1);
  ASSERT_TRUE(store.ok()) << store.status();
  sweeps::SweepPlan plan = Warm(32);
  EXPECT_THAT(std::string(FillInits(dir / "plumb.db", &plan.trials).message()),
              HasSubstr("init.trial: no trial 1"))
      << "nobody knows it";

  spec::TrialSpec begun = Warm(32).trials.front().config;
  begun.init.checkpoint = "/checkpoints/step-000000000010";
  begun.init.digest = std::string(64, 'd');
  const std::string config = spec::Canonical(begun, spec::With::kExecution).dump();
  ASSERT_TRUE((*store)
                  ->Commit(absl::Seconds(1),
                           {InsertTrial{{.id = TrialId{7}, .key = "k", .config_json = config}}})
                  .ok());
  const absl::Status s = FillInits(dir / "plumb.db", &plan.trials);
  ASSERT_TRUE(s.ok()) << s;
  for (const sweeps::PlannedTrial& t : plan.trials) {
    EXPECT_EQ(t.config.init.checkpoint, begun.init.checkpoint);
    EXPECT_EQ(t.config.init.digest, begun.init.digest);
  }
  EXPECT_EQ(plan.trials.front().key, spec::Key(begun)) << "the trial that is there";
  // And what tensors it had.
  sweeps::SweepPlan wider = Warm(64);
  EXPECT_THAT(std::string(FillInits(dir / "plumb.db", &wider.trials).message()),
              HasSubstr("begin with one of the same shape"));
}

}  // namespace
}  // namespace plumb::coordinator
