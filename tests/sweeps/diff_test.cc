#include "sweeps/diff.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tests/sweeps/corpora.h"

namespace plumb::sweeps {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

SweepSide Side(const std::string& axes, const std::string& lr, const std::string& rest = "") {
  return SideOf(
      PlanOrDie(absl::StrCat("sweep: s\ntrial:\n  model: {head_dim: 16}\n  data: {corpus: "
                             "docs, seq_len: 32}\n  train: {tokens: 50k, batch_tokens: "
                             "1024, lr: ",
                             lr, "}\naxes: {", axes, "}\n", rest)),
      "x");
}

TEST(Diff, NamesFieldsValuesCellsAndWhatIsShared) {
  const SweepSide a = Side("model.d_model: [32, 64]", "0.003", "replicates: 2\n");
  const SweepSide b = Side("model.d_model: [64, 96, 160]", "0.003", "replicates: 3\n");
  const SweepDiff d = Diff(a, b);
  EXPECT_THAT(d.fields, IsEmpty());
  const auto width = std::find_if(d.axes.begin(), d.axes.end(),
                                  [](const AxisChange& c) { return c.path == "model.d_model"; });
  ASSERT_NE(width, d.axes.end());
  EXPECT_THAT(width->only_a, ElementsAre("32"));
  EXPECT_THAT(width->only_b, ElementsAre("96", "160"));
  EXPECT_EQ(width->shared, 1);
  EXPECT_THAT(d.cells_only_a, ElementsAre("d_model=32"));
  EXPECT_THAT(d.cells_only_b, ElementsAre("d_model=96", "d_model=160"));
  EXPECT_EQ(d.cells_shared, 1);
  EXPECT_EQ(d.trials_shared, 2);
  EXPECT_EQ(d.trials_only_a, 2);
  EXPECT_EQ(d.trials_only_b, 7);
  EXPECT_EQ(d.replicates_a, 2);
  EXPECT_EQ(d.replicates_b, 3);
  EXPECT_THAT(DiffText(d),
              HasSubstr("trials: 2 are the same computation, 2 only in a, 7 only in b"));
}

TEST(Diff, AFieldOfAllTrialsIsOneLine) {
  const SweepDiff d =
      Diff(Side("model.d_model: [32, 64]", "0.003"), Side("model.d_model: [32, 64]", "0.01"));
  ASSERT_EQ(d.fields.size(), 1u);
  EXPECT_EQ(d.fields[0].path, "train.lr");
  EXPECT_EQ(d.trials_shared, 0);
  EXPECT_EQ(d.cells_shared, 2);
  EXPECT_THAT(DiffText(d), HasSubstr("field  train.lr: 0.003 → 0.01"));
  const auto j = nlohmann::json::parse(DiffJson(d));
  EXPECT_EQ(j["fields"][0]["b"], 0.01);
  EXPECT_EQ(j["equal"], false);
}

TEST(Diff, ASweepDoesNotDifferFromItself) {
  const SweepSide a = Side("model.d_model: [32, 64]", "0.003", "replicates: 2\naa: true\n");
  const SweepDiff d = Diff(a, a);
  EXPECT_TRUE(d.equal());
  EXPECT_EQ(d.trials_shared, 8);
  EXPECT_THAT(DiffText(d), HasSubstr("no difference"));
}

TEST(Diff, ADefaultIsNamedAsOne) {
  const auto changes = ConfigChanges(R"({"train": {"lr": 1}})", R"({"train": {"lr": 1, "z": 2}})");
  ASSERT_EQ(changes.size(), 1u);
  EXPECT_EQ(changes[0].a, "(default)");
}

}  // namespace
}  // namespace plumb::sweeps
