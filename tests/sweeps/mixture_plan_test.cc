// Mixtures of a corpus's parts, and budgets in epochs, from the file to the plan.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "sweeps/describe.h"
#include "tests/sweeps/corpora.h"
#include "trainer/spec/parse.h"

namespace plumb::sweeps {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// 100 steps of 1024 tokens, of a corpus with 300,000 tokens of en and 100,000 of ja.
std::string File(const std::string& data, const std::string& rest = "",
                 const std::string& budget = "steps: 100") {
  return absl::StrCat("sweep: s\ntrial:\n  model: {n_layers: 1, d_model: 16}\n",
                      "  data: {corpus: ja-en, seq_len: 64", data, "}\n  train: {", budget,
                      ", batch_tokens: 1024}\n", rest);
}

TEST(Mixture, OfAFileIsTextOrAMapAndOneTrial) {
  const std::string text = PlanOrDie(File(", mix: \"ja=3,en=1\"")).trials[0].key;
  const SweepPlan map = PlanOrDie(File(", mix: {ja: 75%, en: 0.25}"));
  EXPECT_EQ(map.trials[0].config.data.mix, "en=0.25,ja=0.75");
  EXPECT_EQ(map.trials[0].key, text);
  EXPECT_NE(PlanOrDie(File("")).trials[0].key, text);
  EXPECT_EQ(
      PlanOrDie(File(", phases: [{part: 1/2, mix: {ja: 1}}, {part: 50%, mix: {ja: 1, en: 1}}]"))
          .trials[0]
          .config.data.phases,
      "0.5:ja=1;0.5:en=0.5,ja=0.5");
}

TEST(Mixture, IsAnAxis) {
  const SweepPlan plan =
      PlanOrDie(File("", "axes:\n  data.mix: [{ja: 1}, {ja: 1, en: 3}, \"en=1\"]\n"));
  ASSERT_EQ(plan.cells.size(), 3u);
  EXPECT_EQ(plan.cells[1].name, "mix=en=0.75,ja=0.25");
  EXPECT_EQ(plan.cells[1].axes_json, R"({"data.mix": "en=0.75,ja=0.25"})");
  const SweepPlan phases = PlanOrDie(File(
      "",
      "axes:\n  data.phases: [\"\", [{part: 20%, mix: {en: 1}}, {part: 80%, mix: {ja: 1}}]]\n"));
  ASSERT_EQ(phases.cells.size(), 2u);
  EXPECT_EQ(phases.trials[1].config.data.phases, "0.2:en=1;0.8:ja=1");
  EXPECT_THAT(Errors(File("", "axes:\n  data.mix: [{ja: 1}, {ja: 2}]\n")),
              HasSubstr("is on this axis already"));
  EXPECT_EQ(PlanOrDie(File("", "axes:\n  mix: {points: [{data.mix: ja=1, train.lr: 1e-3}]}\n"))
                .trials[0]
                .config.data.mix,
            "ja=1")
      << "a free name for fields that move together";
}

TEST(Mixture, IsRefusedWithAReason) {
  EXPECT_THAT(Errors(File(", mix: {fr: 1}")),
              HasSubstr("data.mix: the corpus has no part fr; it has en, ja"));
  EXPECT_THAT(Errors(File(", mix: {ja: -1}")), HasSubstr("f.yaml:4:"));
  EXPECT_THAT(Errors(File(", mix: [ja]")), HasSubstr("expected parts and weights"));
  EXPECT_THAT(Errors(File(", phases: {ja: 1}")), HasSubstr("expected a list of phases"));
  EXPECT_THAT(Errors(File(", phases: [{share: 1, mix: {ja: 1}}]")), HasSubstr("expected a phase"));
  EXPECT_THAT(Errors(File(", phases: [{part: 0.5, mix: {ja: 1}}]")), HasSubstr("add up to 0.5"));
  EXPECT_THAT(Errors(File(", mix: {ja: 1}, phases: \"0.5:ja=1;0.5:en=1\"")), HasSubstr("not both"));
  EXPECT_THAT(Errors(File(", phases: \"0.001:ja=1;0.999:en=1\"")), HasSubstr("no step"));
}

TEST(Mixture, ACorpusOfOnePartHasNone) {
  const std::string plain = "sweep: s\ntrial: {data: {corpus: docs}, train: {steps: 10}}\n";
  const std::string mixed =
      "sweep: s\ntrial: {data: {corpus: docs, mix: {all: 1}}, train: {steps: 10}}\n";
  EXPECT_EQ(PlanOrDie(plain).trials[0].key, PlanOrDie(mixed).trials[0].key);
  EXPECT_THAT(PlanOrDie(plain).cells[0].parts, IsEmpty());
}

TEST(Mixture, CountsTokensAndEpochsOfEveryPart) {
  const SweepPlan even = PlanOrDie(File(", mix: {en: 1, ja: 1}", "", "steps: 400"));
  EXPECT_THAT(even.cells[0].flags, ElementsAre("more_than_one_epoch:ja"));
  ASSERT_EQ(even.cells[0].parts.size(), 2u);
  EXPECT_DOUBLE_EQ(even.cells[0].parts[1].tokens, 204800);
  const PlanSummary s = Summarize(even, 0);
  EXPECT_DOUBLE_EQ(s.cells[0].parts[1].epochs, 2.048);
  EXPECT_EQ(s.cells[0].unique_tokens, 204800 + 100000);
  EXPECT_THAT(SummaryText(s), HasSubstr("of ja"));
  EXPECT_DOUBLE_EQ(
      nlohmann::json::parse(SummaryJson(s))["cells"][0]["parts"]["ja"]["epochs"].get<double>(),
      2.048);
  const SweepPlan phases = PlanOrDie(File(", phases: \"0.25:ja=1;0.75:en=1\"", "", "steps: 400"));
  EXPECT_DOUBLE_EQ(phases.cells[0].parts[0].tokens, 307200);
  EXPECT_DOUBLE_EQ(phases.cells[0].parts[1].tokens, 102400);
  EXPECT_THAT(phases.cells[0].flags,
              ElementsAre("more_than_one_epoch:en", "more_than_one_epoch:ja"));
  EXPECT_THAT(PlanOrDie(File("", "", "steps: 390")).cells[0].flags, IsEmpty())
      << "in proportion to their tokens no part is read twice before all are";
}

TEST(Epochs, AreABudgetOfTheCorpus) {
  const SweepPlan plan = PlanOrDie(File("", "", "epochs: 2"));
  EXPECT_EQ(plan.trials[0].config.train.steps, 781);  // 800,000 / 1024
  EXPECT_THAT(plan.cells[0].flags, ElementsAre("more_than_one_epoch:en", "more_than_one_epoch:ja"));
  const SweepPlan axis = PlanOrDie(File("", "axes: {train.epochs: [1, 4]}\n", "lr: 1e-3"));
  EXPECT_EQ(axis.trials[1].config.train.steps, 1563);
  EXPECT_THAT(Errors(File("", "", "epochs: 2, steps: 3")), HasSubstr("a second budget"));
  EXPECT_THAT(Errors(File("", "where: epochs > 1\n")), HasSubstr("tokens or steps"));
}

}  // namespace
}  // namespace plumb::sweeps
