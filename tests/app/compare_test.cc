// plumb compare on a database: two variants at two depths, four seeds, an A/A control, and gaps.
#include <gmock/gmock.h>

#include <cmath>

#include "tests/app/cli.h"

namespace plumb::app {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class CompareTest : public CliFixture {
 protected:
  // Of preln's replicate r at a depth; sas is 0.1 lower, give or take 0.01; slow as preln.
  static double Preln(int depth, int r) { return 2.0 - 0.1 * depth + 0.02 * r; }

  void SetUp() override {
    CliFixture::SetUp();
    std::string sql = SweepSql("hand", yaml_, 26);
    int trial = 0, cell = 0;
    for (int depth : {2, 4}) {
      for (const std::string variant : {"preln", "sas", "slow"}) {
        const std::string d = std::to_string(depth);
        sql += CellSql(++cell, "variant=" + variant + " n_layers=" + d,
                       "{\"variant\": \"" + variant + "\", \"model.n_layers\": " + d + "}");
        for (int r = 0; r < 4; ++r) {
          const double wiggle = 0.01 * (r % 2 == 0 ? 1 : -1);
          const double last = Preln(depth, r) + (variant == "sas" ? -0.1 + wiggle : 0) +
                              (variant == "slow" ? wiggle : 0);
          Trial t{.id = ++trial,
                  .cell = cell,
                  .layers = depth,
                  .seed = 7 + r,
                  .replicate = r,
                  .points = {{50, std::to_string(last + 1)},
                             {90, std::to_string(last - 0.5)},
                             {100, std::to_string(last)}}};
          if (variant == "slow" && depth == 2 && r == 3) t.state = "diverged";
          if (variant == "slow" && depth == 4 && r == 3) t.state = "running", t.points.pop_back();
          sql += Sql(t);
        }
        if (variant != "preln" || depth != 2) continue;
        for (int r = 0; r < 2; ++r) {
          sql += Sql({.id = ++trial,
                      .cell = cell,
                      .layers = depth,
                      .seed = 100007 + r,
                      .replicate = r,
                      .aa = true,
                      .points = {{100, std::to_string(Preln(depth, r) + 0.01)}}});
        }
      }
    }
    Execute(sql);
  }

  nlohmann::json Json(const std::string& arguments) {
    const Ran r = Plumb("compare --db r.db -o json " + arguments);
    EXPECT_EQ(r.code, 0) << r.err;
    return nlohmann::json::parse(r.out, nullptr, false);
  }

  std::string yaml_ = "sweep: hand";
};

TEST_F(CompareTest, ComparesByVariantInPairsOfSeeds) {
  const auto j = Json("1 --by variants");
  EXPECT_EQ(j["axis"], "variant");
  EXPECT_EQ(j["baseline"], "preln");
  EXPECT_EQ(j["metric"], "test/bits_per_byte");
  ASSERT_EQ(j["comparisons"].size(), 4) << "sas twice and over both, slow at 4";
  const auto& sas = j["comparisons"][0];
  EXPECT_EQ(sas["slice"], "n_layers=2");
  EXPECT_EQ(sas["n_value"], 4);
  EXPECT_TRUE(sas["paired"]);
  // −0.1 ± 0.01 four times: sd 0.01·√(4/3), error 0.01/√3, t(0.95, 3) = 3.182446.
  EXPECT_NEAR(sas["difference"], -0.1, 1e-6);
  EXPECT_NEAR(sas["low"], -0.1 - 3.182446 * 0.01 / std::sqrt(3.0), 1e-6);
  EXPECT_NEAR(sas["high"], -0.1 + 3.182446 * 0.01 / std::sqrt(3.0), 1e-6);
  // Four seeds 0, 0.02, 0.04, 0.06 and two of the control, 0.01, 0.03: squares about 0.08/3.
  const double squares = 0.0066 - 6 * std::pow(0.16 / 6, 2);
  EXPECT_EQ(j["control"]["degrees_of_freedom"], 5);
  EXPECT_NEAR(j["control"]["run_sd"], std::sqrt(squares / 5), 1e-6);
  EXPECT_NEAR(sas["noise_floor"], 2.570582 * std::sqrt(squares / 5 / 2), 1e-6);
  EXPECT_EQ(sas["verdict"], "better");
  EXPECT_EQ(j["comparisons"][2]["pooled"], true);
  const auto& slow = j["comparisons"][3];
  EXPECT_EQ(slow["n_value"], 3) << "the fourth is running";
  EXPECT_TRUE(slow["partial"]);
  EXPECT_EQ(slow["verdict"], "cannot be told, partial");
  ASSERT_EQ(j["left_out"].size(), 1);
  EXPECT_THAT(j["left_out"][0]["reason"], HasSubstr("1 of 4 replicates diverged"));
  ASSERT_EQ(j["absent"].size(), 2);
  EXPECT_EQ(j["absent"][0]["why"], "diverged");
  EXPECT_EQ(j["absent"][1]["why"], "running");
  EXPECT_EQ(j["ended"], 25);
}

TEST_F(CompareTest, TextCsvAndFigureSayTheSame) {
  const Ran text = Plumb("compare --db r.db --by variants --plot forest.svg");
  EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_THAT(text.out,
              AllOf(HasSubstr("sas over 2 slices: 0.1 bits per byte lower (better) than preln"),
                    HasSubstr("Left out: variant=slow n_layers=2"), HasSubstr("A/A preln"),
                    HasSubstr("25 of 26 trials have ended")));
  EXPECT_THAT(Slurp(dir_ + "/forest.svg"), AllOf(HasSubstr("</svg>"), HasSubstr("all 2 slices")));
  EXPECT_EQ(Plumb("compare --db r.db --by variants -o svg").out, Slurp(dir_ + "/forest.svg"));
  EXPECT_THAT(Plumb("compare --db r.db --by variants -o csv").out,
              HasSubstr("pooled,sas,preln,,2,4,4,1,-0.1"));
}

TEST_F(CompareTest, AnotherAxisAnotherBaselineAnotherMoment) {
  auto j = Json("--by n_layers --baseline 4");
  EXPECT_EQ(j["comparisons"][0]["value"], "n_layers=2");
  EXPECT_EQ(j["comparisons"][0]["slice"], "preln");
  EXPECT_NEAR(j["comparisons"][0]["difference"], 0.2, 1e-6);
  EXPECT_EQ(j["comparisons"][0]["verdict"], "no spread") << "equal in all four seeds";

  const auto preln = [&](const std::string& at) {
    const auto read = Json("--by n_layers --level 0.9 " + at);
    EXPECT_NEAR(read["level"], 0.9, 1e-12);
    return read;
  };
  j = preln("--at best");
  EXPECT_EQ(j["at"], "best");
  EXPECT_NEAR(j["comparisons"][0]["difference"], -0.2, 1e-6);
  // A step that all passed: the running trial has a value too, the diverged has none.
  j = Json("--by variants --at 'step 90'");
  EXPECT_EQ(j["absent"].size(), 3) << "the diverged one, and two of the control without that point";
  EXPECT_EQ(j["comparisons"][3]["n_value"], 4);
  j = Json("--by variants --at 'mean_last(2)'");
  EXPECT_NEAR(j["comparisons"][0]["difference"], -0.1, 1e-6);
}

TEST_F(CompareTest, TheFilesOwnReportSaysWhichMoment) {
  Execute(
      "UPDATE sweep SET sweep_yaml = 'sweep: hand\nreport: {metric: test/bits_per_byte, at: "
      "best}'");
  EXPECT_EQ(Json("--by variants")["at"], "best");
  EXPECT_EQ(Json("--by variants --at last")["at"], "last");
  EXPECT_EQ(Json("--by variants --metric test/bits_per_byte")["at"], "last");
}

TEST_F(CompareTest, AValueThatIsNotFiniteTakesItsCellOutAndIsNamed) {
  Execute("UPDATE measurement SET value = NULL WHERE series_id = 71 AND step = 100");  // sas at 2
  const auto j = Json("--by variants");
  EXPECT_EQ(j["comparisons"].size(), 2) << "sas at 4, slow at 4";
  EXPECT_THAT(j["left_out"].dump(), HasSubstr("1 of 4 replicates has no finite value"));
  EXPECT_THAT(j["absent"].dump(), HasSubstr("has no finite test/bits_per_byte"));
}

TEST_F(CompareTest, AnAxisThatFollowsTheComparedOneMovesWithIt) {
  Execute(
      "UPDATE cell SET axes_json = json_set(axes_json, '$.\"model.d_model\"', "
      "128 / json_extract(axes_json, '$.\"model.n_layers\"'))");
  const auto j = Json("--by n_layers");
  EXPECT_EQ(j["comparisons"][0]["slice"], "preln");
  EXPECT_THAT(j["notes"].dump(), HasSubstr("d_model moves with n_layers"));
}

TEST_F(CompareTest, AnAxisThatTheBaselineHasNotIsPartOfTheOther) {
  Execute(
      "DELETE FROM sweep_trial WHERE cell_id > 2; DELETE FROM cell WHERE id > 2;"
      "UPDATE cell SET axes_json = '{\"variant\": \"preln\"}' WHERE id = 1;"
      "UPDATE cell SET axes_json = '{\"variant\": \"sas\", \"model.alpha\": 0.1}' WHERE id = 2");
  const auto j = Json("--by variants");
  ASSERT_EQ(j["comparisons"].size(), 1);
  EXPECT_EQ(j["comparisons"][0]["value"], "sas alpha=0.1");
}

TEST_F(CompareTest, WhatIsAskedWronglyIsAnsweredWithTheFix) {
  const auto refused = [&](const std::string& arguments, int code, const std::string& words) {
    const Ran r = Plumb("compare --db r.db " + arguments);
    EXPECT_EQ(r.code, code) << arguments;
    EXPECT_THAT(r.err, HasSubstr(words)) << arguments;
    EXPECT_EQ(r.out, "") << arguments;
  };
  refused("--by n_layer", 2, "did you mean model.n_layers?");
  refused("--by lr", 2, "there are variant, model.n_layers");
  refused("--by variants --baseline prenl", 2, "there are preln, sas, slow");
  refused("--by variants --at final", 2, "one of last, best");
  refused("--by variants --metric test/bits_per_bite", 3, "did you mean test/bits_per_byte?");
  refused("--by variants --level 95", 2, "between 0 and 1");
  refused("--by variants -o xml", 2, "table, json, csv, svg");
  refused("4 --by variants", 3, "no sweep 4");
  EXPECT_EQ(Json("")["axis"], "variant") << "the variants, where there are some";
  // Widths 1, 2, 3 at one depth and 4, 5, 6 at the other.
  Execute(
      "UPDATE cell SET axes_json = json_object('model.d_model', id, 'model.n_layers', "
      "json_extract(axes_json, '$.\"model.n_layers\"'))");
  refused("--by n_layers", 6, "--by model.d_model,model.n_layers");
  refused("", 2, "which axis?");
}

TEST_F(CompareTest, AProfileHasALineForEachVariantAndSaysWhatItCannotDraw) {
  const Ran csv = Plumb("plot profile --db r.db -o csv");
  ASSERT_EQ(csv.code, 0) << csv.err;
  // preln at depth 4: 1.6 + {0, 0.02, 0.04, 0.06}.
  EXPECT_THAT(csv.out, HasSubstr("variant=preln,variant=preln n_layers=4,4,4,0,1.63,"));
  EXPECT_THAT(csv.out, HasSubstr("variant=slow,variant=slow n_layers=2,2,3,1,,,,0,0,"));
  const Ran text = Plumb("plot profile --db r.db --x n_layers --by variant");
  EXPECT_THAT(text.out, AllOf(HasSubstr("variant=sas: Lowest test bits per byte"),
                              HasSubstr("(1 of 4 diverged)"), HasSubstr("A/A: 1 cell again")));
  const Ran near = Plumb("plot profile --db r.db --by varant");
  EXPECT_EQ(near.code, 2);
  EXPECT_THAT(near.err, HasSubstr("did you mean variant?"));
  EXPECT_THAT(Plumb("plot profile --db r.db --x variant").err, HasSubstr("--x variant: no axis"));
}

}  // namespace
}  // namespace plumb::app
