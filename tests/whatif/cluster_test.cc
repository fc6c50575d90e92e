// Sweeps under virtual time: what they cost in closed form, and the same decisions after the server
// was killed at any event.
#include "whatif/cluster.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "sweeps/tuning.h"
#include "whatif/curves.h"

namespace plumb::whatif {
namespace {

using sweeps::PlannedTrial;
using sweeps::SweepPlan;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

SweepPlan PlanOf(const std::string& yaml) {
  auto plan = sweeps::PlanSweep(yaml, "f.yaml", [](const std::string&, const std::string&) {
    return sweeps::CorpusInfo{.digest = "d", .vocab_size = 256, .train_tokens = 1'000'000'000};
  });
  EXPECT_TRUE(plan.ok()) << plan.status();
  return TrainingsOf(*std::move(plan));
}

constexpr char kTrial[] = R"(
trial:
  model: {n_layers: 1, d_model: 32, head_dim: 16}
  data: {corpus: c, tokenizer: bytes, seq_len: 64}
  train: {steps: 90, batch_tokens: 1024, lr: 1e-3}
  eval: {points: 9}
)";

// `n` cells whose only difference is a field that no curve here reads.
std::string Yaml(int n, const std::string& stop, int replicates = 1) {
  std::string values;
  for (int i = 0; i < n; ++i) absl::StrAppend(&values, i > 0 ? ", " : "", 0.9 + 0.001 * i);
  return absl::StrCat("sweep: s\n", kTrial, "axes: {train.beta2: [", values,
                      "]}\nreplicates: ", replicates, "\n", stop);
}
SweepPlan Search(int n, const std::string& stop, int replicates = 1) {
  return PlanOf(Yaml(n, stop, replicates));
}
// The same with a tenth of cooldown.
std::string Cooling(const std::string& yaml) {
  return absl::StrReplaceAll(yaml,
                             {{"lr: 1e-3}", "lr: 1e-3, schedule: wsd, decay_fraction: 10%}"}});
}

Cluster Machines(int64_t workers, int64_t slots = 1) {
  Cluster out{.seconds_per_step = [](const PlannedTrial&) { return 1.0; }};
  for (int64_t i = 0; i < workers; ++i) out.machines.push_back({.slots = slots});
  return out;
}

// Better cells have smaller numbers.
double Ordered(const PlannedTrial& t, int64_t step) {
  return 1 + 0.01 * static_cast<double>(t.cell) + 1 / static_cast<double>(step + 1);
}

std::string Steps(const Outcome& o) {
  std::string out;
  for (const Ran& r : o.trials) absl::StrAppend(&out, out.empty() ? "" : " ", r.steps);
  return out;
}

TEST(Cluster, AGridCostsAllItsStepsAndTheTimeOfTheFullestSlot) {
  const SweepPlan plan = Search(5, "");
  const auto two = Simulate(plan, Machines(1, 2), Ordered);
  ASSERT_TRUE(two.ok()) << two.status();
  EXPECT_EQ(two->steps, 450);
  EXPECT_EQ(two->end, absl::Seconds(270));  // three after each other
  EXPECT_DOUBLE_EQ(two->slot_seconds, 450);
  EXPECT_DOUBLE_EQ(two->flops, 5 * plan.trials[0].flops);
  Cluster uneven = Machines(2);
  uneven.machines[1].speed = 0.5;
  const auto slow = Simulate(plan, uneven, Ordered);
  ASSERT_TRUE(slow.ok());
  EXPECT_EQ(slow->end, absl::Seconds(360));  // the fast one takes three, the slow one two
}

// Six cells in the order of their worth, keep 1/3: the first of three, the second of six go on from
// step 30, and of those two nobody is a third; the best of them goes on when all wait.
TEST(Cluster, PromotionByHand) {
  const SweepPlan plan =
      Search(6, "stop: {asha: {rungs: [1/3, 2/3], keep: 1/3, mode: promote}, across: cells}\n");
  const auto o = Simulate(plan, Machines(1), Ordered);
  ASSERT_TRUE(o.ok()) << o.status();
  EXPECT_EQ(Steps(*o), "90 60 30 30 30 30");
  EXPECT_EQ(o->steps, 270);
  EXPECT_EQ(o->end, absl::Seconds(270)) << "one slot is never idle while something waits";
  EXPECT_EQ(o->trials[0].state, StageState::kSucceeded);
  EXPECT_EQ(o->trials[5].state, StageState::kStopped);
}

TEST(Cluster, StoppingByHand) {
  const SweepPlan plan = Search(6, "stop: {asha: {rungs: [1/3], keep: 1/3}, across: cells}\n");
  // The worst first, on one slot: each that comes to the rung is the best so far.
  const auto worst_first = Simulate(plan, Machines(1), [](const PlannedTrial& t, int64_t step) {
    return 9 - 0.01 * static_cast<double>(t.cell);
  });
  ASSERT_TRUE(worst_first.ok());
  EXPECT_EQ(Steps(*worst_first), "90 90 90 90 90 90");
  const auto best_first = Simulate(plan, Machines(1), Ordered);
  ASSERT_TRUE(best_first.ok());
  EXPECT_EQ(Steps(*best_first), "90 30 30 30 30 30");
}

TEST(Cluster, ARunThatDivergesEndsAtTheStepAtWhichItDoes) {
  const SweepPlan plan = Search(2, "");
  const auto o = Simulate(plan, Machines(1), [](const PlannedTrial& t, int64_t step) {
    return t.cell == 1 && step >= 41 ? std::numeric_limits<double>::infinity() : 1.0;
  });
  ASSERT_TRUE(o.ok()) << o.status();
  EXPECT_EQ(Steps(*o), "90 41");
  EXPECT_EQ(o->trials[1].state, StageState::kDiverged);
}

// The median of others is looked at with each evaluation: nine of them, at 10, 20, …
TEST(Cluster, AMedianRuleSeesEachEvaluation) {
  const SweepPlan plan = Search(5, "stop: {median: {from: 20%, min_trials: 3}, across: cells}\n");
  const auto o = Simulate(plan, Machines(5), [](const PlannedTrial& t, int64_t step) {
    return t.cell == 4 ? 9.0 : 1.0;
  });
  ASSERT_TRUE(o.ok()) << o.status();
  EXPECT_EQ(Steps(*o), "90 90 90 90 20");
}

TEST(Cluster, ATrialThatNoWorkerCanHoldIsRefused) {
  SweepPlan plan = Search(2, "");
  plan.trials[1].config.execution.threads = 4;
  EXPECT_THAT(Simulate(plan, Machines(2, 2), Ordered).status().message(),
              HasSubstr("takes 4 slots (threads x ranks), no worker has more than 2"));
  plan = Search(2, "");
  plan.labels = {"h200"};
  EXPECT_THAT(Simulate(plan, Machines(1), Ordered).status().message(), HasSubstr("never end"));
}

// Each begins where the cooldown of the one before began: at 90 and 180.
TEST(Cluster, BudgetsShareTheirTrunk) {
  const SweepPlan plan = PlanOf(R"(sweep: s
trial:
  model: {n_layers: 1, d_model: 32, head_dim: 16}
  data: {corpus: c, tokenizer: bytes, seq_len: 64}
  train: {batch_tokens: 1024, lr: 1e-3, schedule: wsd, decay_fraction: 10%, warmup_steps: 5}
axes: {train.steps: [100, 200, 400]}
)");
  const auto o = Simulate(plan, Machines(1), Ordered);
  ASSERT_TRUE(o.ok()) << o.status();
  EXPECT_EQ(Steps(*o), "100 110 220");
}

// As PromotionByHand, each rung a run of its own with a tenth of cooldown: to 30, 60 and 90, whose
// trunks end at 27, 54 and 81.
TEST(Cluster, CooledRungsByHand) {
  const SweepPlan plan = PlanOf(Cooling(
      Yaml(6, "stop: {asha: {rungs: [1/3, 2/3], keep: 1/3, mode: promote}, across: cells}\n")));
  const auto o = Simulate(plan, Machines(1), Ordered);
  ASSERT_TRUE(o.ok()) << o.status();
  EXPECT_EQ(Steps(*o), "30 30 30 30 30 30 33 33 36");
  EXPECT_EQ(o->end, absl::Seconds(282)) << "one slot is never idle while something waits";
  for (const Ran& r : o->trials) EXPECT_EQ(r.state, StageState::kSucceeded);
  EXPECT_FALSE(o->trials.back().trial->rung());
  EXPECT_EQ(o->trials.back().trial->key, plan.trials[0].key);
  EXPECT_TRUE(o->trials[0].trial->rung());
}

// Of two nobody is a third: when both wait the best goes on, and again, though no trial runs then.
TEST(Cluster, CooledRungsAreGoneOnFromWhenAllWait) {
  const SweepPlan plan = PlanOf(Cooling(
      Yaml(2, "stop: {asha: {rungs: [1/3, 2/3], keep: 1/3, mode: promote}, across: cells}\n")));
  const auto o = Simulate(plan, Machines(1), Ordered);
  ASSERT_TRUE(o.ok()) << o.status();
  EXPECT_EQ(Steps(*o), "30 30 33 36");
  EXPECT_EQ(o->looks, 4);
}

// While the last of five, which is the best, runs to its rung, a place is spare for one of the two
// that are among the best half of four; it waits for its place, and so no other is promoted.
TEST(Cluster, OneAtATimeGoesOnFromACooledRung) {
  const SweepPlan plan = PlanOf(
      Cooling(Yaml(5, "stop: {asha: {rungs: [1/3], keep: 1/2, mode: promote}, across: cells}\n")));
  const auto o = Simulate(plan, Machines(1), [](const PlannedTrial& t, int64_t step) {
    return t.cell == 4 ? 0.5 : Ordered(t, step);
  });
  ASSERT_TRUE(o.ok()) << o.status();
  EXPECT_EQ(Steps(*o), "30 30 30 30 30 63 63");
  EXPECT_EQ(o->trials[5].trial->cell, 0);
  EXPECT_EQ(o->trials[6].trial->cell, 4);
}

constexpr char kTuned[] = R"(
axes: {model.d_model: [32, 64]}
tune:
  train.lr: {log: [1e-3, 4e-3], points: 3}
  extend: 2
  stop: {asha: {rungs: [1/3], keep: 1/3, mode: promote}}
replicates: 2
)";

// The best rate is beyond the grid: 1.6e-2, twice the grid's ratio of 2 above its end.
double BestBeyond(const PlannedTrial& t, int64_t step) {
  const double q = std::log2(t.config.train.lr / 1.6e-2);
  return 1 + 0.1 * q * q + 1 / static_cast<double>(step);
}

TEST(Cluster, TuningGoesBeyondTheGridAndItsWinnerIsReplicated) {
  const std::string yaml = absl::StrCat("sweep: t\n", kTrial, kTuned);
  for (const std::string& text : {yaml, Cooling(yaml)}) {
    const SweepPlan plan = PlanOf(text);
    const auto o = Simulate(plan, Machines(2, 2), BestBeyond);
    ASSERT_TRUE(o.ok()) << o.status();
    std::map<int64_t, std::string> winners;
    int64_t replicates = 0;
    for (const Ran& r : o->trials) {
      if (r.trial->role != sweeps::TrialRole::kMain) continue;
      winners[r.trial->cell] = PointOf(*r.trial);
      ++replicates;
      EXPECT_EQ(r.steps, 90);
    }
    EXPECT_EQ(winners, (std::map<int64_t, std::string>{{0, "0.016"}, {1, "0.016"}})) << text;
    EXPECT_EQ(replicates, 4);
  }
}

// ---- a server that is killed

struct Case {
  const char* name;
  std::string yaml;
};
std::string Crossed(const std::string& stop, int cells = 7, int replicates = 1) {
  return Yaml(cells, stop, replicates);
}
const Case kCases[] = {
    {"asha", Crossed("stop: {asha: {rungs: [1/9, 1/3], keep: 1/2}, across: cells}\n")},
    {"asha_promote",
     Crossed("stop: {asha: {rungs: [1/9, 1/3], keep: 1/2, mode: promote}, across: cells}\n")},
    {"hyperband",
     Crossed("stop: {hyperband: {from: 1/9, keep: 1/3, mode: promote}, across: cells}\n", 9)},
    {"median_divergence",
     Crossed("stop: {median: {from: 1/3, min_trials: 2}, divergence: {factor: 1.02}, across: "
             "cells}\n")},
    {"racing", Crossed("stop: {racing: {alpha: 20%, min_replicates: 2}}\n", 3, 4)},
    {"tuning", absl::StrCat("sweep: t\n", kTrial, kTuned)},
    {"tuning_and_racing", absl::StrCat("sweep: t\n", kTrial, kTuned,
                                       "stop: {racing: {alpha: 20%, min_replicates: 2}}\n")},
    {"cooled_asha",
     Cooling(Crossed("stop: {asha: {rungs: [1/9, 1/3], keep: 1/2}, across: cells}\n"))},
    {"cooled_asha_promote",
     Cooling(
         Crossed("stop: {asha: {rungs: [1/9, 1/3], keep: 1/2, mode: promote}, across: cells}\n"))},
    {"cooled_hyperband",
     Cooling(
         Crossed("stop: {hyperband: {from: 1/9, keep: 1/3, mode: promote}, across: cells}\n", 9))},
    {"cooled_divergence", Cooling(Crossed("stop: {asha: {rungs: [1/3], keep: 1/2}, divergence: "
                                          "{factor: 1.02}, across: cells}\n"))},
    {"cooled_tuning", Cooling(absl::StrCat("sweep: t\n", kTrial, kTuned))},
    {"cooled_tuning_and_racing",
     Cooling(absl::StrCat("sweep: t\n", kTrial, kTuned,
                          "stop: {racing: {alpha: 20%, min_replicates: 2}}\n"))},
};

class Killed : public ::testing::TestWithParam<int> {};

// Every event in turn is the last one that the server takes, once committed and once not.
TEST_P(Killed, AtAnyEventTheServerDecidesTheSame) {
  const Case& c = kCases[GetParam()];
  const SweepPlan plan = PlanOf(c.yaml);
  const bool tunes = plan.tune != nullptr;
  const auto curves = Invented(plan, {.seed = 7, .spread = 0.1, .crossing = 0.8, .noise = 0.05});
  const CurveFn curve = [&](const PlannedTrial& t, int64_t step) {
    return tunes ? BestBeyond(t, step) + 0.001 * curves->At(t, step) : curves->At(t, step);
  };
  const Cluster cluster = Machines(2);
  const auto whole = Simulate(plan, cluster, curve);
  ASSERT_TRUE(whole.ok()) << whole.status();
  ASSERT_FALSE(whole->history.empty()) << "nothing was decided";
  int64_t killed = 0;
  for (int64_t at = 1; at <= whole->events; ++at) {
    for (const bool lost : {false, true}) {
      const auto again = Simulate(plan, cluster, curve, {.restart_at = at, .lost = lost});
      ASSERT_TRUE(again.ok()) << "event " << at << ": " << again.status();
      ASSERT_EQ(again->history, whole->history) << "killed at event " << at << ", lost " << lost;
      ASSERT_EQ(Steps(*again), Steps(*whole)) << at;
      ASSERT_EQ(again->end, whole->end) << at;
      ++killed;
    }
  }
  EXPECT_GT(killed, 40);
}

INSTANTIATE_TEST_SUITE_P(Rules, Killed, ::testing::Range(0, static_cast<int>(std::size(kCases))),
                         [](const auto& info) { return std::string(kCases[info.param].name); });

}  // namespace
}  // namespace plumb::whatif
