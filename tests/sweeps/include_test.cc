#include "sweeps/include.h"

#include <filesystem>
#include <fstream>

#include "sweeps/stage_files.h"
#include "tests/sweeps/corpora.h"

namespace plumb::sweeps {
namespace {

class Include : public testing::Test {
 protected:
  Include() : folder_(testing::TempDir() + "/include_test") {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_ + "/shared");
  }
  void Write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ + "/" + name) << text;
  }
  absl::StatusOr<std::string> Inline(const std::string& yaml) {
    return InlineIncludes(yaml, "mine/f.yaml", folder_);
  }
  absl::StatusOr<SweepPlan> Plan(const std::string& yaml) {
    const auto text = Inline(yaml);
    if (!text.ok()) return text.status();
    return PlanSweep(*text, "mine/f.yaml", TestCorpora);
  }
  std::string folder_;
};

constexpr char kBase[] = R"(# what all of ours share
sweep: base
trial:
  model: {head_dim: 16, d_model: 32}
  data: {corpus: docs, seq_len: 32}
  train: {steps: 20, batch_tokens: 1024}
axes: {model.n_layers: [1, 2]}
replicates: 3
objective: val/loss
)";

TEST_F(Include, TheFilesOwnFieldsAndKeysTakeThePlaceOfThoseIncluded) {
  Write("shared/base.yaml", kBase);
  const auto plan = Plan(
      "include: shared/base.yaml\nsweep: mine\ntrial: {model.d_model: 64, train: {tokens: 8192}}\n"
      "replicates: 1\nreport: test/bits_per_byte\n");
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->name, "mine");
  EXPECT_EQ(plan->objective, "test/bits_per_byte");
  ASSERT_EQ(plan->trials.size(), 2u);
  EXPECT_EQ(plan->trials[1].config.model.n_layers, 2);
  EXPECT_EQ(plan->trials[0].config.model.d_model, 64);
  EXPECT_EQ(plan->trials[0].config.model.head_dim, 16);
  EXPECT_EQ(plan->trials[0].config.train.steps, 8);  // a budget for a budget
}

TEST_F(Include, ATextThatIncludesNothingStaysAsItIs) {
  EXPECT_EQ(*Inline(kBase), kBase);
  EXPECT_EQ(*Inline("no: [yaml"), "no: [yaml");
}

TEST_F(Include, ErrorsKeepTheFileAndTheLineTheyWereWrittenIn) {
  std::string base = kBase;
  base.replace(base.find("seq_len"), 7, "seq_lem");
  Write("shared/base.yaml", base);
  const auto plan = Plan("sweep: mine\n\ninclude: shared/base.yaml\nreplicates: many\n");
  EXPECT_EQ(plan.status().message(),
            "mine/shared/base.yaml:5:24: data.seq_lem: no such field; did you mean data.seq_len?\n"
            "    data: {corpus: docs, seq_lem: 32}\n"
            "                         ^\n"
            "mine/f.yaml:4:13: expected a number (64, 1e-3, 300k, 5%), got \"many\"\n"
            "  replicates: many\n"
            "              ^");
}

TEST_F(Include, SyntaxErrorsOfAnIncludedFileAreItsOwn) {
  Write("base.yaml", "trial: {a: 1\nsweep: [\n");
  const auto plan = Plan("include: base.yaml\nsweep: mine\n");
  EXPECT_EQ(plan.status().message().find("mine/base.yaml:"), 0u) << plan.status().message();
}

TEST_F(Include, FilesIncludeOthersFromWhereTheyAreAndNeverThemselves) {
  Write("shared/base.yaml", kBase);
  Write("shared/wide.yaml", "include: base.yaml\ntrial: {model.d_model: 96}\n");
  const auto plan = Plan("include: shared/wide.yaml\nsweep: mine\nreplicates: 1\n");
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->trials[0].config.model.d_model, 96);
  Write("shared/a.yaml", "include: b.yaml\n");
  Write("shared/b.yaml", "sweep: b\ninclude: a.yaml\n");
  const std::string circle(Plan("include: shared/a.yaml\nsweep: mine\n").status().message());
  EXPECT_EQ(circle.find("shared/b.yaml:2:10: a.yaml includes itself"), 0u) << circle;
}

TEST_F(Include, SeveralFilesAreReadInTheirOrder) {
  Write("shared/base.yaml", kBase);
  Write("two.yaml", "replicates: 2\ntrial: {train.lr: 0.5}\n");
  const auto plan = Plan("include: [shared/base.yaml, two.yaml]\nsweep: mine\n");
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->trials.size(), 4u);
  EXPECT_EQ(plan->trials[0].config.train.lr, 0.5);
}

TEST_F(Include, WhatIsNoFileIsSaidWithItsPlace) {
  EXPECT_EQ(
      Plan("sweep: mine\ninclude: nope.yaml\n").status().message(),
      "mine/f.yaml:2:10: there is no file nope.yaml to include; paths begin where the file is "
      "that names them\n"
      "  include: nope.yaml\n"
      "           ^");
  EXPECT_NE(Plan("include: {a: b}\n").status().message().find("expected the path"),
            absl::string_view::npos);
  EXPECT_NE(Errors("include: base.yaml\nsweep: s\n").find("was not inlined"), std::string::npos);
}

TEST_F(Include, FilesOfStagesAreFoundWhereTheyAreNamed) {
  Write("shared/labels.jsonl", "{}\n");
  Write("shared/base.yaml",
        std::string(kBase) + "stages: {glue: {finetune: {task: \"labels.jsonl\", epochs: 1}}}\n");
  const auto text = Inline("include: shared/base.yaml\nsweep: mine\n");
  ASSERT_TRUE(text.ok());
  const auto pinned = PinFiles(*text, "mine/f.yaml", folder_);
  ASSERT_TRUE(pinned.ok()) << pinned.status();
  EXPECT_NE(pinned->find("/shared/labels.jsonl\", sha256: "), std::string::npos) << *pinned;
}

}  // namespace
}  // namespace plumb::sweeps
