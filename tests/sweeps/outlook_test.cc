// What a plan takes of the machines that are there.
#include "sweeps/outlook.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "sweeps/describe.h"
#include "tests/sweeps/corpora.h"

namespace plumb::sweeps {
namespace {

Placing On(std::vector<double> seconds, int64_t slots = 1, double memory = 0) {
  return {.slots = slots, .memory_bytes = memory, .seconds = std::move(seconds)};
}

TEST(MakeSpan, EachBeginsAsSoonAsThereIsRoom) {
  const std::vector<Machine> two = {{.name = "a", .slots = 2}};
  EXPECT_EQ(MakeSpan({}, two), 0);
  EXPECT_EQ(MakeSpan({On({5}), On({3}), On({4})}, two), 7);      // 5 | 3 4
  EXPECT_EQ(MakeSpan({On({5}), On({3}, 2), On({4})}, two), 12);  // all slots, or none
  const std::vector<Machine> mixed = {{.name = "slow", .slots = 1}, {.name = "fast", .slots = 1}};
  EXPECT_EQ(MakeSpan({On({10, 2}), On({10, 2})}, mixed), 10);  // the slow one is free, and takes it
}

TEST(MakeSpan, WhatFitsNowhereNeverEnds) {
  const std::vector<Machine> small = {{.name = "a", .slots = 1, .memory_bytes = 100}};
  EXPECT_TRUE(std::isinf(MakeSpan({On({1}, 1, 101)}, small)));
  EXPECT_TRUE(std::isinf(MakeSpan({On({1}, 2)}, small)));
  EXPECT_EQ(MakeSpan({On({1}, 1, 100)}, small), 1);
}

std::vector<CellNumbers> Cells(bool (*fits)(double depth, double width)) {
  std::vector<CellNumbers> out;
  for (const double depth : {8, 16, 32, 48}) {
    for (const double width : {256, 512, 1024})
      out.push_back(
          {.values = {{"n_layers", depth}, {"d_model", width}}, .fits = fits(depth, width)});
  }
  return out;
}

TEST(WhichDoNotFit, NamesOneThresholdOrTwo) {
  EXPECT_EQ(WhichDoNotFit(Cells([](double l, double) { return l < 32; })), "n_layers >= 32");
  EXPECT_EQ(WhichDoNotFit(Cells([](double, double d) { return d < 1024; })), "d_model >= 1024");
  EXPECT_EQ(WhichDoNotFit(Cells([](double l, double d) { return l < 32 || d < 512; })),
            "n_layers >= 32 and d_model >= 512");
  EXPECT_EQ(WhichDoNotFit(Cells([](double l, double) { return l > 8; })), "n_layers <= 8");
  EXPECT_EQ(WhichDoNotFit(Cells([](double, double) { return true; })), "");
  EXPECT_EQ(WhichDoNotFit(Cells([](double l, double d) { return l * d < 20000; })), "")
      << "a curve is no threshold";
}

constexpr char kSweep[] = R"(sweep: s
trial: {model: {head_dim: 8}, data: {corpus: docs, seq_len: 32}, train: {steps: 20, batch_tokens: 1024}}
axes: {model.n_layers: [1, 2], model.d_model: [16, 32]}
replicates: 2
)";

Prices OneSecondAStep() {
  Prices p{.device = "cpu: x", .band = 0.1, .shapes = 5};
  p.seconds[static_cast<size_t>(Unit::kStep)] = 1;
  return p;
}

TEST(Outlook, AddsUpWhatIsNotThereYet) {
  const SweepPlan plan = PlanOrDie(kSweep);
  Surroundings around{.prices = {OneSecondAStep()},
                      .machines = {{.name = "w", .device = "cpu: x", .slots = 4}}};
  PlanSummary s = Summarize(plan, around);
  EXPECT_DOUBLE_EQ(s.device_seconds, 8 * 20);
  EXPECT_EQ(s.device_basis, Basis::kCalibrated);
  EXPECT_DOUBLE_EQ(s.device_band, 0.1);
  EXPECT_DOUBLE_EQ(s.calendar_seconds, 40);
  EXPECT_EQ(s.cells[0].seconds.value, 20);
  // One is finished, one is under way elsewhere: it is still waited for.
  around.trials = {
      {plan.trials[0].key, "succeeded"}, {plan.trials[1].key, "running"}, {"another", "succeeded"}};
  s = Summarize(plan, around);
  EXPECT_EQ(s.known_trials, 2);
  EXPECT_EQ(s.finished_trials, 1);
  EXPECT_DOUBLE_EQ(s.saved_seconds, 20);
  EXPECT_DOUBLE_EQ(s.device_seconds, 7 * 20);
  // A shape that was measured is not predicted.
  around.measured[CostKey(plan.trials[0].config)] = {.seconds = 3, .peak_bytes = 1e9};
  s = Summarize(plan, around);
  EXPECT_EQ(s.cells[0].seconds.basis, Basis::kMeasured);
  EXPECT_EQ(s.cells[0].seconds.value, 3);
  EXPECT_EQ(s.cells[0].memory.value, 1e9);
  EXPECT_EQ(s.cells[1].seconds.basis, Basis::kCalibrated);
  const auto json = nlohmann::json::parse(SummaryJson(s));
  EXPECT_EQ(json["cells"][0]["seconds"]["basis"], "measured");
  EXPECT_EQ(json["cluster"]["slots"], 4);
}

TEST(Outlook, SaysWhichCellsDoNotFit) {
  const SweepPlan plan = PlanOrDie(kSweep);
  Surroundings around;
  for (const PlannedTrial& t : plan.trials)
    around.measured[CostKey(t.config)].peak_bytes = t.config.model.n_layers == 2 ? 3e9 : 1e9;
  around.memory_bytes = 2'000'000'000;
  const PlanSummary s = Summarize(plan, around);
  EXPECT_EQ(s.cells_that_do_not_fit, 2);
  EXPECT_EQ(s.which_do_not_fit, "n_layers >= 2");
  EXPECT_NE(SummaryText(s).find("2 of 4 cells on 1.86 GiB: n_layers >= 2"), std::string::npos)
      << SummaryText(s);
}

TEST(Outlook, PricesAreOfADeviceAndOfThreads) {
  Surroundings around{.prices = {OneSecondAStep()}};
  EXPECT_NE(PricesOf(around, "", 1), nullptr);
  EXPECT_EQ(PricesOf(around, "", 2), nullptr);
  EXPECT_NE(PricesOf(around, "cpu: x", 1), nullptr);
  around.device = "cpu: y";
  EXPECT_EQ(PricesOf(around, "", 1), nullptr) << "the named device is meant";
}

TEST(Repeats, AreRefusedUnlessAllowed) {
  const auto once = [](const std::string& budget, const std::string& more = "") {
    return CheckRepeats(
        PlanOrDie("sweep: s\ntrial: {model: {head_dim: 8, d_model: 16, n_layers: 1}, data: "
                  "{corpus: small, seq_len: 32}, "
                  "train: {" +
                  budget + ", batch_tokens: 1024}}\n" + more));
  };
  EXPECT_TRUE(once("steps: 19").ok());
  const absl::Status twice = once("steps: 20");
  EXPECT_TRUE(absl::IsInvalidArgument(twice));
  EXPECT_NE(twice.message().find("allow: [more_than_one_epoch]"), absl::string_view::npos) << twice;
  EXPECT_TRUE(once("steps: 20", "allow: [more_than_one_epoch]\n").ok());
  EXPECT_TRUE(once("epochs: 2").ok()) << "the budget says it";
}

}  // namespace
}  // namespace plumb::sweeps
