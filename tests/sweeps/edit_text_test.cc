#include "sweeps/edit_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace plumb::sweeps {
namespace {

using ::testing::HasSubstr;

constexpr char kFile[] = R"(# What is deep?
sweep: s
trial:                       # shared
  model: {head_dim: 16}
  train: {lr: 3e-3, tokens: 1M}
# the space
axes:
  model.n_layers: [1, 2]   # depth

# how sure
replicates: {n: 3, pair: data}
)";

std::string Edited(const std::string& yaml, const std::vector<TextEdit>& edits) {
  const auto out = EditText(yaml, edits);
  EXPECT_TRUE(out.ok()) << out.status();
  return out.ok() ? *out : "";
}

TEST(EditText, ChangesItsKeyAndLeavesTheRestAsItIsWritten) {
  EXPECT_EQ(Edited(kFile, {{.path = "replicates", .value = "5"}}), R"(# What is deep?
sweep: s
trial:                       # shared
  model: {head_dim: 16}
  train: {lr: 3e-3, tokens: 1M}
# the space
axes:
  model.n_layers: [1, 2]   # depth

# how sure
replicates:
  n: 5
  pair: data
)");
  EXPECT_EQ(
      Edited(kFile,
             {{.kind = TextEdit::Kind::kAddValues, .path = "n_layers", .values = {"2", "4"}}}),
      R"(# What is deep?
sweep: s
trial:                       # shared
  model: {head_dim: 16}
  train: {lr: 3e-3, tokens: 1M}
# the space
axes:
  model.n_layers: [1, 2, 4]

# how sure
replicates: {n: 3, pair: data}
)");
}

TEST(EditText, FieldsOfTheTrialAreFoundNestedAndDotted) {
  EXPECT_THAT(Edited(kFile, {{.path = "train.lr", .value = "0.01"}}),
              HasSubstr("  train: {lr: 0.01, tokens: 1M}\n# the space"));
  EXPECT_THAT(Edited(kFile, {{.path = "trial.train.lr", .value = "0.01"}}),
              HasSubstr("{lr: 0.01, tokens: 1M}"));
  EXPECT_THAT(Edited(kFile, {{.path = "seed.data", .value = "7"}}),
              HasSubstr("  seed: {data: 7}\n"));
  EXPECT_EQ(Edited("sweep: s\ntrial:\n  train.lr: 1\n", {{.path = "train.lr", .value = "2"}}),
            "sweep: s\ntrial:\n  train.lr: 2\n");
}

TEST(EditText, NewKeysAndAxesComeAtTheEnd) {
  EXPECT_THAT(Edited(kFile, {{.path = "limits.trials", .value = "200"}}),
              HasSubstr("pair: data}\nlimits:\n  trials: 200\n"));
  EXPECT_THAT(Edited(kFile, {{.kind = TextEdit::Kind::kAddValues,
                              .path = "train.lr",
                              .values = {"0.01"},
                              .base = "0.003"}}),
              HasSubstr("  model.n_layers: [1, 2]\n  train.lr: [0.003, 0.01]\n"));
  EXPECT_EQ(Edited("sweep: s\n", {{.path = "axes.model.d_model", .value = "[32, 64]"}}),
            "sweep: s\naxes:\n  model.d_model: [32, 64]\n");
}

TEST(EditText, ValuesAreDropped) {
  EXPECT_THAT(
      Edited(kFile,
             {{.kind = TextEdit::Kind::kDropValues, .path = "model.n_layers", .values = {"1"}}}),
      HasSubstr("model.n_layers: [2]"));
  EXPECT_THAT(
      EditText(kFile,
               {{.kind = TextEdit::Kind::kDropValues, .path = "model.n_layers", .values = {"9"}}})
          .status()
          .ToString(),
      HasSubstr("the axis has no such value"));
}

TEST(EditText, WhatCannotBeEditedIsSaid) {
  const auto wrong = [](const std::string& yaml, const TextEdit& edit) {
    return EditText(yaml, {edit}).status().ToString();
  };
  EXPECT_THAT(wrong("axes: {model.d_model: {range: [1, 9]}}\n",
                    {.kind = TextEdit::Kind::kAddValues, .path = "model.d_model", .values = {"3"}}),
              HasSubstr("no list of values but a map"));
  EXPECT_THAT(
      wrong(kFile, {.kind = TextEdit::Kind::kAddValues, .path = "train.wd", .values = {"3"}}),
      HasSubstr("no axis of this sweep"));
  EXPECT_THAT(wrong(kFile, {.path = "lr", .value = "3"}),
              HasSubstr("neither a key of a sweep file"));
  EXPECT_THAT(wrong(kFile, {.path = "train.lr", .value = "[1"}), HasSubstr("no YAML"));
  EXPECT_THAT(wrong("- a\n", {.path = "replicates", .value = "3"}), HasSubstr("cannot be read"));
  EXPECT_THAT(ParseSet("train.lr").status().ToString(), HasSubstr("expected field=value"));
}

TEST(EditText, AnInlinedTextIsEditedInItsOwnPart) {
  const std::string text =
      "#plumb-include base.yaml\nsweep: base\naxes: {model.n_layers: [1]}\nreplicates: 2\n"
      "#plumb-file\ninclude: base.yaml\nsweep: mine\n";
  EXPECT_EQ(
      Edited(text,
             {{.kind = TextEdit::Kind::kAddValues, .path = "model.n_layers", .values = {"2"}}}),
      text + "axes:\n  model.n_layers: [1, 2]\n");
}

TEST(EditText, SectionsAreEqualHoweverTheyAreWritten) {
  EXPECT_EQ(SectionOf("stop: {asha: {keep: 1/3}}\n", "stop"),
            SectionOf("# x\nstop:\n  asha:\n    keep: 1/3  # a third\n", "stop"));
  EXPECT_EQ(SectionOf("sweep: s\n", "stop"), "");
}

TEST(EditText, AForkSaysWhatItWasMadeOf) {
  const std::string text = WithFork("sweep: s\n", R"({"fork": 3})");
  EXPECT_EQ(text, "#plumb-fork {\"fork\": 3}\nsweep: s\n");
  EXPECT_EQ(ForkOf(text), R"({"fork": 3})");
  EXPECT_EQ(WithFork(text, R"({"fork": 4})"), "#plumb-fork {\"fork\": 4}\nsweep: s\n");
  EXPECT_EQ(ForkOf("#plumb-fork nonsense\n"), "");
}

}  // namespace
}  // namespace plumb::sweeps
