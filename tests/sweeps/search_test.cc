// Spaces of searches by a model, and what becomes of the points that are chosen there.
#include "sweeps/search.h"

#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "tests/sweeps/corpora.h"
#include "trainer/spec/parse.h"

namespace plumb::sweeps {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr char kTrial[] =
    "sweep: s\n"
    "trial:\n"
    "  model: {head_dim: 16}\n"
    "  data: {corpus: docs, seq_len: 32}\n"
    "  train: {steps: 20, batch_tokens: 1024}\n";

std::string File(const std::string& rest) { return kTrial + rest; }

TEST(Search, BeginsWithTheDrawsOfARandomSearch) {
  const std::string axes = "axes: {train.lr: {log: [1e-4, 1e-2]}, model.n_layers: [1, 2, 4]}\n";
  const SweepPlan model = PlanOrDie(File(axes + "search: {tpe: {trials: 40, seed: 7}}\n"));
  const SweepPlan random = PlanOrDie(File(axes + "search: {random: {trials: 10, seed: 7}}\n"));
  ASSERT_NE(model.search, nullptr);
  ASSERT_EQ(model.cells.size(), 10u);
  for (size_t i = 0; i < 10; ++i) {
    EXPECT_EQ(model.cells[i].name, random.cells[i].name);
    EXPECT_EQ(model.trials[i].key, random.trials[i].key);
    EXPECT_THAT(model.cells[i].flags, ElementsAre("search"));
  }
  EXPECT_EQ(model.search->spec().trials, 40);
  EXPECT_THAT(model.search->initial(), SizeIs(10));
}

TEST(Search, ADrawnPointJudgedAgainIsItsOwnCell) {
  const SweepPlan plan = PlanOrDie(
      File("axes:\n"
           "  train.lr: {log: [1e-4, 1e-2]}\n"
           "  model.n_layers: {range: [1, 4]}\n"
           "  model.mlp: [swiglu, leaky_relu]\n"
           "  model.leaky_slope: {linear: [0.1, 0.3], when: mlp == leaky_relu}\n"
           "  model.d_model: {solve: params_non_embedding, target: [100k, 200k], multiple_of: 16, "
           "tolerance: 50%}\n"
           "variants: {llama: {model.preset: llama}, preln: {model.preset: preln}}\n"
           "replicates: 2\n"
           "search: {tpe: {trials: 40, seed: 2}}\n"));
  ASSERT_EQ(plan.cells.size(), 10u);
  std::set<std::string> variants;
  for (size_t c = 0; c < plan.cells.size(); ++c) {
    const SearchPoint& point = plan.search->initial()[c];
    std::vector<double> values;
    // A conditional axis that does not exist here takes any value.
    for (const auto& v : point) values.push_back(v.value_or(0.2));
    const Search::Judged judged = plan.search->Judge(values, static_cast<int64_t>(c));
    EXPECT_EQ(judged.refused, "");
    EXPECT_EQ(judged.point, point);
    EXPECT_EQ(judged.cell.name, plan.cells[c].name);
    EXPECT_EQ(judged.cell.axes_json, plan.cells[c].axes_json);
    ASSERT_THAT(judged.trials, SizeIs(2));
    for (size_t r = 0; r < 2; ++r) {
      EXPECT_EQ(judged.trials[r].key, plan.trials[2 * c + r].key);
      EXPECT_EQ(judged.trials[r].predicted_peak_bytes, plan.trials[2 * c + r].predicted_peak_bytes);
      EXPECT_EQ(judged.trials[r].cell, static_cast<int64_t>(c));
    }
    EXPECT_EQ(point[3].has_value(), plan.cells[c].name.find("leaky_slope") != std::string::npos);
    variants.insert(plan.cells[c].name.substr(plan.cells[c].name.rfind('=')));
  }
  EXPECT_THAT(variants, SizeIs(2)) << "a variant is one more choice";
}

class Judging : public testing::Test {
 protected:
  const SweepPlan plan_ =
      PlanOrDie(File("axes:\n"
                     "  train.lr: {log: [1e-4, 1e-2]}\n"
                     "  model.n_layers: {range: [1, 8], step: 1}\n"
                     "  model.d_model: [32, 48, 64]\n"
                     "  model.d_ff: {linear: [64, 256]}\n"
                     "where: n_layers * d_model <= 256\n"
                     "search: {tpe: {trials: 20}}\n"));
  std::string Refused(std::vector<double> values) { return plan_.search->Judge(values, 0).refused; }
};

TEST_F(Judging, NumbersAreRoundedAndChoicesAreCounted) {
  const auto judged = plan_.search->Judge({0.00123456, 1, 2, 100}, 0);
  EXPECT_EQ(judged.refused, "");
  EXPECT_EQ(judged.cell.name, "lr=0.001235 n_layers=2 d_model=64 d_ff=100");
  EXPECT_THAT(judged.point, ElementsAre(0.001235, 1, 2, 100));
  EXPECT_EQ(judged.trials[0].config.train.lr, 0.001235);
}

TEST_F(Judging, WhatIsNotInTheSpaceIsRefusedInWords) {
  EXPECT_EQ(Refused({0.001, 0, 0}), "it has 3 values, and the space 4 axes");
  EXPECT_EQ(Refused({0.02, 0, 0, 64}), "train.lr = 0.02 is above 0.01, the greatest of its axis");
  EXPECT_EQ(Refused({1e-5, 0, 0, 64}), "train.lr = 1e-05 is below 1e-04, the least of its axis");
  EXPECT_EQ(Refused({std::nan(""), 0, 0, 64}), "train.lr is not a finite number");
  EXPECT_THAT(Refused({0.001, 8, 0, 64}), HasSubstr("model.n_layers = 8 is no place among its 8"));
  EXPECT_THAT(Refused({0.001, 0, 0.5, 64}), HasSubstr("model.d_model = 0.5 is no place"));
  EXPECT_THAT(Refused({0.001, 0, 0, 64.5}), HasSubstr("model.d_ff = 64.5 is no whole number"));
  EXPECT_EQ(Refused({0.001, 7, 2, 64}), "where: n_layers * d_model <= 256");
}

// As a grid with such a cell is refused at its submit.
TEST(Search, APointThatReadsItsCorpusTwiceIsRefusedUnlessThatIsAllowed) {
  const std::string file =
      "sweep: s\ntrial:\n  data: {corpus: small, seq_len: 32}\n  train: {batch_tokens: 1024}\n"
      "axes: {train.steps: {range: [1, 100]}, train.lr: {log: [1e-4, 1e-2]}}\n"
      "search: {tpe: {trials: 20}}\n";
  const SweepPlan plan = PlanOrDie(file);
  EXPECT_EQ(plan.search->Judge({10, 0.001}, 0).refused, "");
  EXPECT_THAT(plan.search->Judge({99, 0.001}, 0).refused, HasSubstr("more than once"));
  const SweepPlan allowed = PlanOrDie(file + "allow: [more_than_one_epoch]\n");
  EXPECT_EQ(allowed.search->Judge({99, 0.001}, 0).refused, "");
}

TEST_F(Judging, AxesSayWhatTheyAre) {
  const auto& axes = plan_.search->axes();
  EXPECT_EQ(axes[0].kind, SearchAxis::Kind::kReal);
  EXPECT_TRUE(axes[0].logarithmic);
  EXPECT_EQ(axes[1].kind, SearchAxis::Kind::kChoice);
  EXPECT_THAT(axes[1].numbers, ElementsAre(1, 2, 3, 4, 5, 6, 7, 8));
  EXPECT_THAT(axes[2].choices, ElementsAre("32", "48", "64"));
  EXPECT_EQ(axes[3].kind, SearchAxis::Kind::kWhole);
}

TEST_F(Judging, AnEarlierTrialIsFoundInTheSpaceOrNot) {
  const SweepPlan earlier =
      PlanOrDie(File("axes: {train.lr: [1e-3, 1e-1], model.n_layers: [2], model.d_ff: [128], "
                     "model.d_model: [48]}\n"));
  const auto place = [&](size_t trial) {
    return plan_.search->Place(
        spec::Canonical(earlier.trials[trial].config, spec::With::kExecution).dump(),
        earlier.cells[trial].axes_json);
  };
  EXPECT_THAT(*place(0), ElementsAre(0.001, 1, 1, 128));
  EXPECT_EQ(place(1), std::nullopt) << "its rate is beyond the axis";
}

}  // namespace
}  // namespace plumb::sweeps
