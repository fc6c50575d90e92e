#include "analysis/compare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>
#include <sstream>

#include "analysis/figure.h"

namespace plumb::analysis {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

BySeed Seeds(const std::vector<double>& values, int64_t first = 0) {
  BySeed out;
  for (double v : values) out[first++] = v;
  return out;
}

Arm Cell(const std::string& value, const std::string& slice, const std::vector<double>& values) {
  return {.name = value + " " + slice, .value = value, .slice = slice, .values = Seeds(values)};
}

Missing Gone(int64_t trial, Gap gap, const std::string& words, bool control = false) {
  return {.trial = trial, .replicate = 9, .control = control, .gap = gap, .words = words};
}

Comparison Read(const std::vector<Arm>& arms, std::optional<bool> lower = true) {
  return Compare(arms, {.baseline = "base", .lower_is_better = lower}, "bits per byte");
}

TEST(Compare, EachValueAgainstTheBaselineInEachSliceAndOverAll) {
  const Comparison c =
      Read({Cell("base", "d=1", {1.00, 1.10, 1.20}), Cell("base", "d=2", {0.9, 1.0, 1.1}),
            Cell("new", "d=1", {0.90, 1.01, 1.09}), Cell("new", "d=2", {0.8, 0.88, 1.01}),
            Cell("only", "d=2", {0.9, 1.0, 1.2})});
  ASSERT_EQ(c.rows.size(), 4u);
  EXPECT_EQ(c.rows[0].slice, "d=1");
  EXPECT_NEAR(c.rows[0].difference.mean, -0.1, 1e-12);
  EXPECT_EQ(c.rows[1].slice, "d=2");
  EXPECT_TRUE(c.rows[2].pooled);
  EXPECT_EQ(c.rows[2].slices, 2);
  // Per seed over the slices: −0.1, −0.105, −0.1.
  EXPECT_NEAR(c.rows[2].difference.mean, -0.305 / 3, 1e-12);
  EXPECT_EQ(c.rows[2].difference.n_a, 3) << "a seed counts once, not once a slice";
  EXPECT_EQ(c.rows[3].value, "only");
  EXPECT_EQ(c.tested, 4);
  // Holm by hand over the four: the least times 4, …
  std::vector<double> p;
  for (const Compared& r : c.rows) p.push_back(*r.difference.p);
  EXPECT_NEAR(*c.rows[2].p_holm, std::min(1.0, 4 * p[2]), 1e-12);
  EXPECT_EQ(c.rows[2].verdict, Verdict::kLower);
  EXPECT_EQ(VerdictInWords(c.rows[2], c.options), "better");
  EXPECT_EQ(c.rows[3].verdict, Verdict::kCannotBeTold);
  EXPECT_THAT(c.sentences[0],
              AllOf(HasSubstr("new over 2 slices"), HasSubstr("lower (better) than base")));
  EXPECT_THAT(c.sentences[1], HasSubstr("cannot be told from base at n = 3"));
  EXPECT_THAT(c.notes, Contains(HasSubstr("No noise floor")));
}

TEST(Compare, WhereHigherIsBetterLowerIsWorse) {
  const std::vector<Arm> arms = {Cell("base", "", {1.0, 1.1, 1.2}),
                                 Cell("new", "", {0.90, 1.01, 1.1})};
  EXPECT_EQ(VerdictInWords(Read(arms, false).rows[0], {.lower_is_better = false}), "worse");
  EXPECT_EQ(VerdictInWords(Read(arms, std::nullopt).rows[0], {}), "lower");
}

TEST(Compare, ADifferenceInsideTheNoiseFloorIsNotClaimed) {
  Arm base = Cell("base", "", {1.00, 1.10, 1.20, 1.30});
  const Arm near = Cell("near", "", {0.990, 1.091, 1.190, 1.291}),
            far = Cell("far", "", {0.2, 0.31, 0.4, 0.51});
  EXPECT_EQ(Read({base, near}).rows[0].verdict, Verdict::kLower) << "without a control";
  base.control = Seeds({1.05, 1.15, 1.02, 1.25}, 100000);
  const Comparison c = Read({base, near, far});
  ASSERT_TRUE(c.control.has_value());
  ASSERT_EQ(c.control->rows.size(), 1u);
  EXPECT_FALSE(c.control->rows[0].difference.paired);
  EXPECT_NEAR(c.control->rows[0].difference.mean, 1.15 - 1.1175, 1e-12);
  // One group of eight: sd with 7 degrees of freedom, t(0.95, 7) = 2.364624.
  EXPECT_EQ(c.control->noise.freedom, 7);
  EXPECT_NEAR(*c.rows[0].noise_floor, 2.364624 * c.control->noise.sd * std::sqrt(0.5), 1e-6);
  EXPECT_LE(*c.rows[0].p_holm, 0.05);
  EXPECT_EQ(c.rows[0].verdict, Verdict::kWithinNoise);
  EXPECT_THAT(c.sentences[0], HasSubstr("inside the noise floor, not claimed"));
  EXPECT_EQ(c.rows[1].verdict, Verdict::kLower);
}

TEST(Compare, AControlThatDiffersFromItselfIsSaid) {
  Arm base = Cell("base", "", {1.00, 1.01, 1.02});
  base.control = Seeds({2.00, 2.01, 2.02}, 100000);
  EXPECT_THAT(Read({base, Cell("new", "", {1, 1, 1})}).notes,
              Contains(HasSubstr("differs from itself")));
}

TEST(Compare, ADivergedStoppedOrEmptyRunTakesItsCellOut) {
  for (const auto& [gap, words] : std::vector<std::pair<Gap, std::string>>{
           {Gap::kDiverged, "1 of 4 replicates diverged (median, divergence as the worst: 1.1500)"},
           {Gap::kStopped, "1 of 4 replicates was stopped early"},
           {Gap::kNoValue, "1 of 4 replicates has no finite value"}}) {
    Arm bad = Cell("bad", "", {1.0, 1.1, 1.2});
    bad.missing = {Gone(7, gap, "gone")};
    const Comparison c =
        Read({Cell("base", "", {1.0, 1.1, 1.2}), bad, Cell("good", "", {1, 1, 1})});
    ASSERT_EQ(c.rows.size(), 1u);
    EXPECT_EQ(c.rows[0].value, "good");
    ASSERT_EQ(c.left_out.size(), 1u);
    EXPECT_THAT(c.left_out[0].reason, HasSubstr(words));
    ASSERT_EQ(c.absent.size(), 1u);
    EXPECT_EQ(AbsentInWords(c.absent[0]), "trial 7 gone");
  }
}

TEST(Compare, ARunThatHasNotEndedOrFailedLeavesTheOtherPairsMarkedPartial) {
  Arm some = Cell("some", "", {1.0, 1.2, 1.4});
  some.missing = {Gone(5, Gap::kUnfinished, "pending"), Gone(6, Gap::kFailed, "failed"),
                  Gone(8, Gap::kUnfinished, "pending"), Gone(9, Gap::kUnfinished, "pending", true)};
  const Comparison c = Read({Cell("base", "", {1.0, 1.1, 1.2, 1.3, 1.4}), some});
  ASSERT_EQ(c.rows.size(), 1u);
  EXPECT_EQ(c.rows[0].difference.n_a, 3);
  EXPECT_TRUE(c.rows[0].partial);
  EXPECT_EQ(VerdictInWords(c.rows[0], c.options), "cannot be told, partial");
  EXPECT_THAT(c.sentences[0], HasSubstr("some, so far: "));
  EXPECT_EQ(c.absent[0].planned, 7);
  EXPECT_EQ(AbsentInWords(c.absent[0]),
            "trials 5, 8 pending; trial 6 failed; trial 9 pending (control)");
}

TEST(Compare, ASliceWithoutASoundBaselineIsListed) {
  const Comparison c =
      Read({Cell("base", "d=1", {1, 2}), Cell("new", "d=1", {1, 3}), Cell("new", "d=2", {1, 4})});
  EXPECT_EQ(c.rows.size(), 1u);
  ASSERT_EQ(c.left_out.size(), 1u);
  EXPECT_EQ(c.left_out[0].name, "new d=2");
  EXPECT_EQ(c.left_out[0].reason, "no sound cell of base to compare with at d=2");
}

TEST(Compare, ADivergedControlGivesNoNoiseFloor) {
  Arm base = Cell("base", "", {1.0, 1.1});
  base.control = Seeds({1.2}, 100000);
  base.missing = {Gone(3, Gap::kDiverged, "diverged", true)};
  const Comparison c = Read({base, Cell("new", "", {1.0, 1.2})});
  EXPECT_FALSE(c.control.has_value());
  EXPECT_EQ(c.rows.size(), 1u) << "the replicates themselves are sound";
  EXPECT_FALSE(c.rows[0].partial);
  EXPECT_THAT(c.left_out[0].reason, HasSubstr("1 of 2 runs of its control diverged"));
}

TEST(Compare, OneReplicateHasNoIntervalAndSaysHowToGetOne) {
  const Comparison c = Read({Cell("base", "", {1.0}), Cell("new", "", {0.5})});
  EXPECT_EQ(c.rows[0].verdict, Verdict::kTooFew);
  EXPECT_EQ(c.tested, 0);
  EXPECT_THAT(c.sentences[0],
              HasSubstr("differs from base by -0.5 bits per byte at n = 1: no interval"));
  EXPECT_THAT(c.notes, Contains(HasSubstr("replicates: 3")));
}

TEST(Compare, FlagsOfEitherArmAreShown) {
  Arm base = Cell("base", "", {1.0, 1.1});
  base.flags = {"more_than_one_epoch"};
  const Comparison c = Read({base, Cell("new", "", {1.0, 1.2})});
  EXPECT_EQ(VerdictInWords(c.rows[0], c.options), "cannot be told, flagged");
  EXPECT_THAT(c.notes, Contains(HasSubstr("more than one epoch")));
}

// Seeds move all cells of a sweep alike, and each a little by itself; no value differs from
// another.
TEST(Compare, WhereNothingDiffersAClaimIsAsRareAsTheLevelSays) {
  std::mt19937_64 random(11);
  std::normal_distribution<double> normal(0, 1);
  int with_a_claim = 0;
  constexpr int kSweeps = 2000;
  for (int sweep = 0; sweep < kSweeps; ++sweep) {
    std::vector<Arm> arms;
    const std::vector<double> seed = {normal(random), normal(random), normal(random),
                                      normal(random)};
    for (const char* value : {"base", "a", "b", "c"}) {
      for (const char* slice : {"d=1", "d=2"}) {
        std::vector<double> v;
        for (double s : seed) v.push_back(2 + 0.05 * s + 0.01 * normal(random));
        arms.push_back(Cell(value, slice, v));
      }
    }
    const Comparison c = Read(arms);
    ASSERT_EQ(c.tested, 9);
    with_a_claim += std::any_of(c.rows.begin(), c.rows.end(), [](const Compared& r) {
      return r.verdict == Verdict::kLower || r.verdict == Verdict::kHigher;
    });
  }
  // At most 5 % (and Holm is not far below it); 3 standard errors are 1.5 %.
  EXPECT_LT(1.0 * with_a_claim / kSweeps, 0.065);
  EXPECT_GT(1.0 * with_a_claim / kSweeps, 0.01);
}

CompareFigure Figure() {
  Arm base = Cell("base", "d=1", {1.00, 1.10, 1.20});
  base.control = Seeds({1.05, 1.12}, 100000);
  Arm bad = Cell("bad", "d=2", {1.0});
  bad.missing = {Gone(7, Gap::kDiverged, "diverged")};
  return {
      .title = "a < b",
      .header = "header",
      .axis = "variant",
      .unit = "bits per byte",
      .comparison = Read({base, Cell("base", "d=2", {1.0}), Cell("new", "d=1", {0.5, 0.61, 0.7}),
                          Cell("new", "d=2", {0.9}), bad})};
}

TEST(CompareFigure, TerminalShowsNumbersForestAndWhatIsMissing) {
  const std::string text = Terminal(Figure(), {.width = 80});
  for (const char* words : {"-0.4967", "no interval", "±0.", "better", "A/A base", "3+2", "<", ">",
                            "Left out: bad d=2: 1 of 2 replicates diverged", "trial 7 diverged"})
    EXPECT_THAT(text, HasSubstr(words));
  EXPECT_THAT(text, Not(HasSubstr("nan")));
  EXPECT_THAT(text, Not(HasSubstr("inf")));
}

TEST(CompareFigure, CsvHasARowForAllThereIs) {
  const std::string csv = Csv(Figure());
  const auto commas = [](const std::string& line) {
    int n = 0;
    bool quoted = false;
    for (char c : line) quoted ^= c == '"', n += c == ',' && !quoted;
    return n;
  };
  std::istringstream lines(csv);
  std::string line, first;
  std::map<std::string, int> kinds;
  while (std::getline(lines, line)) {
    if (first.empty()) first = line;
    EXPECT_EQ(commas(line), commas(first)) << line;
    ++kinds[line.substr(0, line.find(','))];
  }
  EXPECT_EQ(kinds, (std::map<std::string, int>{{"kind", 1},
                                               {"slice", 2},
                                               {"pooled", 1},
                                               {"control", 1},
                                               {"left_out", 1},
                                               {"absent", 1}}));
}

TEST(CompareFigure, SvgHoldsEveryRowAndNoInfinity) {
  const std::string svg = Svg(Figure());
  for (const char* words : {"a &lt; b", "all 2 slices", "-0.4967", "A/A base", "grey band"})
    EXPECT_THAT(svg, HasSubstr(words));
  EXPECT_THAT(svg, Not(HasSubstr("inf\"")));
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
}

}  // namespace
}  // namespace plumb::analysis
