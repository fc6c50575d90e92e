// Sweeps that gain what a newer text of their file plans beyond them.
#include "sweeps/extend.h"

#include <gmock/gmock.h>

#include "sweeps/tuning.h"
#include "tests/sweeps/corpora.h"

namespace plumb::sweeps {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

std::string File(const std::string& axes, const std::string& rest) {
  return absl::StrCat(
      "sweep: s\ntrial:\n  model: {head_dim: 16}\n  data: {corpus: docs, seq_len: 32}\n"
      "  train: {tokens: 50k, batch_tokens: 1024, lr: 0.003}\n",
      axes.empty() ? "" : absl::StrCat("axes: {", axes, "}\n"), rest);
}

// "cell/replicate" or "cell/aN", in order.
std::vector<std::string> Names(const SweepPlan& plan, const std::vector<PlannedTrial>& trials) {
  std::vector<std::string> out;
  for (const PlannedTrial& t : trials) {
    out.push_back(absl::StrCat(plan.cells[t.cell].name, "/",
                               t.role == TrialRole::kAa     ? "a"
                               : t.role == TrialRole::kTune ? "t"
                                                            : "",
                               t.replicate));
  }
  return out;
}

std::string Refusal(const std::string& before, const std::string& after) {
  SweepPlan plan = PlanOrDie(before);
  const auto cells = plan.cells.size();
  const absl::Status s = Extend(&plan, {}, {}, PlanOrDie(after)).status();
  EXPECT_FALSE(s.ok());
  EXPECT_EQ(plan.cells.size(), cells) << "what is refused changes nothing";
  return std::string(s.message());
}

TEST(Extend, ValuesAndReplicatesComeBehindWhatIsThere) {
  SweepPlan plan = PlanOrDie(File("model.d_model: [32, 64]", "replicates: 2\n"));
  const auto before = plan.trials.size();
  const auto e =
      Extend(&plan, {}, {}, PlanOrDie(File("model.d_model: [16, 32, 64]", "replicates: 3\n")));
  ASSERT_TRUE(e.ok()) << e.status();
  EXPECT_EQ(plan.trials.size(), before);
  ASSERT_THAT(plan.cells, SizeIs(3));
  EXPECT_EQ(plan.cells[0].name, "d_model=32");
  EXPECT_EQ(plan.cells[2].name, "d_model=16");
  EXPECT_THAT(Names(plan, e->added), ElementsAre("d_model=16/0", "d_model=16/1", "d_model=16/2",
                                                 "d_model=32/2", "d_model=64/2"));
  EXPECT_THAT(e->new_cells, ElementsAre(2));
  EXPECT_THAT(e->renamed, IsEmpty());
  EXPECT_THAT(e->removed, IsEmpty());
  EXPECT_EQ(InWords(*e), "1 cell and 5 trials more");
}

TEST(Extend, TheSameTextAddsNothing) {
  const std::string file = File("model.d_model: [32, 64]", "replicates: 2\naa: true\n");
  SweepPlan plan = PlanOrDie(file);
  const auto e = Extend(&plan, {}, {}, PlanOrDie(file));
  ASSERT_TRUE(e.ok()) << e.status();
  EXPECT_THAT(e->added, IsEmpty());
  EXPECT_THAT(e->new_cells, IsEmpty());
}

TEST(Extend, EditsInTwoStepsHaveTheTrialsOfOne) {
  const std::string a = File("model.d_model: [32]", "replicates: 1\n");
  const std::string b = File("model.d_model: [32, 64]", "replicates: 2\n");
  const std::string c =
      File("model.d_model: [32, 64], train.lr: [0.01, 0.003]", "replicates: 2\naa: true\n");
  SweepPlan plan = PlanOrDie(a);
  std::vector<PlannedTrial> added;
  for (const std::string& text : {b, c, c}) {
    const auto e = Extend(&plan, added, {}, PlanOrDie(text));
    ASSERT_TRUE(e.ok()) << e.status();
    added.insert(added.end(), e->added.begin(), e->added.end());
  }
  std::set<std::pair<std::string, int64_t>> reached, planned;  // key, replicate of A/A or not
  for (const PlannedTrial& t : plan.trials) reached.emplace(t.key, t.aa);
  for (const PlannedTrial& t : added) EXPECT_TRUE(reached.emplace(t.key, t.aa).second);
  for (const PlannedTrial& t : PlanOrDie(c).trials) planned.emplace(t.key, t.aa);
  EXPECT_EQ(reached, planned);
}

TEST(Extend, AFieldThatBecomesAnAxisRenamesTheCellsThereAre) {
  SweepPlan plan = PlanOrDie(File("model.d_model: [32, 64]", ""));
  const auto e = Extend(&plan, {}, {},
                        PlanOrDie(File("model.d_model: [32, 64], train.lr: [0.003, 0.01]", "")));
  ASSERT_TRUE(e.ok()) << e.status();
  EXPECT_THAT(e->renamed, ElementsAre(0, 1));
  EXPECT_EQ(plan.cells[0].name, "d_model=32 lr=0.003");
  EXPECT_THAT(Names(plan, e->added), ElementsAre("d_model=32 lr=0.01/0", "d_model=64 lr=0.01/0"));
}

TEST(Extend, CellsThatTheNewTextLacksAreNamed) {
  SweepPlan plan = PlanOrDie(File("model.d_model: [32, 64, 96]", "replicates: 2\n"));
  const auto e =
      Extend(&plan, {}, {}, PlanOrDie(File("model.d_model: [32, 96]", "replicates: 2\n")));
  ASSERT_TRUE(e.ok()) << e.status();
  EXPECT_THAT(e->removed, ElementsAre(1));
  EXPECT_THAT(e->added, IsEmpty());
  EXPECT_EQ(InWords(*e), "0 trials more, 1 cell taken out");
  // Taken out before, it is neither missed again nor brought back by the way.
  EXPECT_THAT(Extend(&plan, {}, {1}, PlanOrDie(File("model.d_model: [32, 96]", "replicates: 2\n")))
                  ->removed,
              IsEmpty());
  EXPECT_TRUE(
      Extend(&plan, {}, {1}, PlanOrDie(File("model.d_model: [32, 64, 96]", "replicates: 2\n")))
          .ok());
  EXPECT_THAT(std::string(Extend(&plan, {}, {1},
                                 PlanOrDie(File("model.d_model: [32, 64, 96]", "replicates: 3\n")))
                              .status()
                              .message()),
              HasSubstr("cell d_model=64 was taken out by an earlier edit"));
}

TEST(Extend, WhatWouldChangeOrLoseTrialsIsRefusedInWords) {
  const std::string file = File("model.d_model: [32, 64]", "replicates: 2\n");
  EXPECT_THAT(Refusal(file, File("model.d_model: [32, 64]", "replicates: 1\n")),
              HasSubstr("loses 2 trials of cells that it keeps, as replicate 1 of d_model=32"));
  std::string other = file;
  other.replace(other.find("0.003"), 5, "0.010");
  EXPECT_THAT(Refusal(file, other),
              HasSubstr("replicate 0 of d_model=32 has train.lr: 0.003 → 0.01"));
  EXPECT_THAT(Refusal(file, file + "timing: true\n"), HasSubstr("stages: replicate 0 of"));
  EXPECT_THAT(Refusal(file, file + "report: val/loss\n"),
              HasSubstr("objective: stays test/bits_per_byte"));
  EXPECT_THAT(Refusal(file, file + "resources: {bundle: 4}\n"), HasSubstr("resources: stay"));
  other = file;
  other.replace(other.find("sweep: s"), 8, "sweep: t");
  EXPECT_THAT(Refusal(file, other), HasSubstr("is called s, not t"));
  EXPECT_THAT(Refusal(file + "stop: {racing: {}}\n",
                      File("model.d_model: [32, 64]", "replicates: 4\nstop: {racing: {}}\n")),
              HasSubstr("decisions were made without those"));
}

TEST(Extend, TextsMayNotDifferInWhatDecides) {
  const std::string file = File("model.d_model: [32]", "");
  EXPECT_TRUE(MayFollow(file, file + "replicates: 4\n").ok());
  EXPECT_TRUE(MayFollow(file + "stop: {divergence: {factor: 3}}\n",
                        file + "stop:\n  divergence:\n    factor: 3\n")
                  .ok());
  EXPECT_THAT(std::string(MayFollow(file, file + "stop: {divergence: {factor: 3}}\n").message()),
              HasSubstr("stop: stays as it is"));
}

constexpr char kTune[] = "tune: {train.lr: [0.001, 0.01], seeds: 1}\n";

TEST(Extend, TunedCellsGainReplicatesOfTheirWinnersAndNewCellsTuneFirst) {
  SweepPlan plan =
      PlanOrDie(File("model.d_model: [32, 64]", absl::StrCat(kTune, "replicates: 2\n")));
  auto winner = WinnerTrials(plan, 1, {"0.01"});  // cell 1 is decided, cell 0 is not
  ASSERT_TRUE(winner.ok());
  const auto e = Extend(
      &plan, *winner, {},
      PlanOrDie(File("model.d_model: [16, 32, 64]", absl::StrCat(kTune, "replicates: 4\n"))));
  ASSERT_TRUE(e.ok()) << e.status();
  EXPECT_THAT(Names(plan, e->added),
              ElementsAre("d_model=16/t0", "d_model=16/t0", "d_model=64/2", "d_model=64/3"));
  EXPECT_EQ(e->added.back().config.train.lr, 0.01);
  // What follows a decision made later is of the extended plan.
  EXPECT_THAT(*WinnerTrials(plan, 0, {"0.001"}), SizeIs(4));
  EXPECT_THAT(*WinnerTrials(plan, 2, {"0.001"}), SizeIs(4));
  EXPECT_EQ(WinnerTrials(plan, 2, {"0.001"})->front().config.model.d_model, 16);
}

TEST(MayGoOn, OfASearchOnlyHowManyPoints) {
  const auto file = [](const std::string& search, const std::string& rest = "") {
    return File("train.lr: {log: [1e-4, 1e-2]}", absl::StrCat("search: ", search, "\n", rest));
  };
  const std::string before = file("{tpe: {trials: 20, startup: 5}}");
  EXPECT_TRUE(
      MayGoOn(before, file("{tpe: {trials: 40, startup: 5, parallel: 2}}", "priority: 3\n"), 20)
          .ok());
  EXPECT_TRUE(MayGoOn(before, file("{tpe: {startup: 5, trials: 12}}"), 12).ok());
  const auto refused = [&](const std::string& from, const std::string& to) {
    return std::string(MayGoOn(from, to, 13).message());
  };
  EXPECT_THAT(refused(before, file("{tpe: {trials: 12, startup: 5}}")),
              HasSubstr("has 13 points already"));
  EXPECT_THAT(refused(before, file("{tpe: {trials: 40, startup: 6}}")),
              HasSubstr("only trials and parallel"));
  EXPECT_THAT(refused(before, file("{gp: {trials: 40, startup: 5}}")),
              HasSubstr("only trials and parallel"));
  EXPECT_THAT(refused(before, file("{tpe: {trials: 40, startup: 5}}", "replicates: 2\n")),
              HasSubstr("replicates: of a search"));
  EXPECT_THAT(refused(before, file("{tpe: {trials: 40, startup: 5}}", "objective: val/loss\n")),
              HasSubstr("objective: of a search"));
  // Left out, its generations would be others.
  EXPECT_THAT(refused(file("{nsga2: {trials: 20}}"), file("{nsga2: {trials: 40}}")),
              HasSubstr("generations of nsga2"));
  EXPECT_TRUE(MayGoOn(file("{nsga2: {trials: 20, population: 8}}"),
                      file("{nsga2: {trials: 40, population: 8}}"), 20)
                  .ok());
}

}  // namespace
}  // namespace plumb::sweeps
