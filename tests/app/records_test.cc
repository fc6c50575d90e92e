// plumb trial generate|topk|attention|routes|painters|finetune, on a database that the store made.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/app/cli.h"

namespace plumb::app {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class RecordsTest : public CliFixture {
 protected:
  void SetUp() override {
    CliFixture::SetUp();
    Execute(
        "INSERT INTO sweep (id, name, state, request_id, request_hash, sweep_yaml, objective, "
        "trials, cursor, create_time_us, end_time_us) VALUES (1, 's', 'completed', 'r', 'h', "
        "'sweep: s', 'val/loss', 1, 1, 0, "
        "1); INSERT INTO cell (id, sweep_id, idx, name, axes_json, flags_json) VALUES (1, 1, 0, "
        "'base', '{}', '[]');"
        "INSERT INTO trial (" +
        std::string(kTrialColumns) +
        ") VALUES (1, 'k', 'f', '{}', 'succeeded', 4, 64, 1, 1, 16, 64, 256, "
        "'rmsnorm', 'rope', 'swiglu', 0, 'c', 'bytes', 64, 1024, 100, 0.001, 0, 0, 1000, 500, 500, "
        "3000, 102400, 3.072e8, 0); INSERT INTO sweep_trial (sweep_id, idx, cell_id, trial_id, "
        "replicate, aa, shared, tune) VALUES (1, 0, 1, 1, 0, 0, 0, 0);" +
        Stage(1, "pretrain", "pretrain", "succeeded", "done") +
        Stage(2, "probes", "probe", "succeeded", "done") +
        Stage(3, "later", "painters", "pending", "new"));
  }
  static std::string Stage(int id, const std::string& name, const std::string& kind,
                           const std::string& state, const std::string& reason) {
    return "INSERT INTO stage (id, trial_id, name, kind, parent_id, settings_json, state, "
           "priority, target_step, step, attempts, failures, not_before_ct_us, threads, "
           "checkpoint_step, checkpoint_path, checkpoint_digest, reason) VALUES (" +
           std::to_string(id) + ", 1, '" + name + "', '" + kind + "', " + (id == 1 ? "NULL" : "1") +
           ", '{}', '" + state + "', 0, 1, 1, 1, 0, 0, 1, -1, NULL, NULL, '" + reason + "');";
  }
  void Record(const std::string& kind, const std::string& name, int idx, const std::string& json,
              int stage = 2) {
    Execute("INSERT INTO record VALUES (" + std::to_string(stage) + ", '" + kind + "', '" + name +
            "', " + std::to_string(idx) + ", 1, '" + json + "')");
  }
};

TEST_F(RecordsTest, GeneratedTextsStandUnderTheirPrompts) {
  Record("generation", "0", 0,
         R"({"prompt":"彼女が","text":"海\nを\u001b[31m見る","tokens":[1,2,3],"sampler":"top_p",
             "temperature":0.8,"top_k":0,"top_p":0.9,"seed":7})");
  Record(
      "generation", "1", 0,
      R"({"prompt":"a","text":"bc","tokens":[1],"sampler":"greedy","temperature":null,"seed":0})");
  const Ran r = Plumb("trial generate 1 --db r.db");
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(r.out,
            "\"彼女が\"  (probes, top_p 0.9, temperature 0.8, seed 7, 3 tokens)\n"
            "    海\n    を?[31m見る\n\n"
            "\"a\"  (probes, greedy, 1 tokens)\n    bc\n");
  const auto j = nlohmann::json::parse(Plumb("trial generate 1 --db r.db -o json").out);
  ASSERT_EQ(j.size(), 2u);
  EXPECT_EQ(j[0]["stage"], "probes");
  EXPECT_EQ(j[0]["tokens"], nlohmann::json({1, 2, 3}));
  EXPECT_TRUE(j[1]["temperature"].is_null());
  EXPECT_THAT(Plumb("trial generate 1 --db r.db -o csv").out,
              HasSubstr("probes,a,bc,greedy,,,,0\n"));
}

TEST_F(RecordsTest, NextTokensShowRawAndRenormalised) {
  Record("topk", "0", 0,
         R"({"prompt":"小さな","candidates":[{"id":5,"text":"町","p":0.25,"p_renormalised":0.625},
             {"id":9,"text":" \n","p":0.15,"p_renormalised":0.375}]})");
  const Ran r = Plumb("trial topk 1 --db r.db");
  EXPECT_EQ(r.out,
            "\"小さな\"  (probes; these 2 have 0.4000 of the probability)\n"
            "rank  token  text       p  renormalised\n"
            "   1      5  \"町\"  0.2500        0.6250\n"
            "   2      9  \"  \"  0.1500        0.3750\n");
}

TEST_F(RecordsTest, AttentionIsAShadedMapWithItsQuantities) {
  Record("attention", "0", 0,
         R"({"prompt":"海、小","layer":3,"head":0,"tokens":["海","、","小"],
             "matrix":[[1,0,0],[0.5,0.5,0],[0.1,0.2,0.7]],"mean_diagonal_thirds":[1,0.5,0.7],
             "row_entropy":[0,0.6931,0.8018],"comma_mass":0.2333})");
  const Ran r = Plumb("trial attention 1 --db r.db --stage probes");
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(r.out,
            "\"海、小\"  (probes, layer 3, head 0; rows ask, columns are looked at)\n"
            "                     0 1 2\n"
            "  海               0 ██\n"
            "  、               1 ▒▒▒▒\n"
            "  小               2 ░░░░▓▓\n"
            "  largest weight 1.000; shades are its quarters ░ ▒ ▓ █\n"
            "  attention to itself by thirds of the text: 1.0000, 0.5000, 0.7000\n"
            "  entropy of a row: mean 0.4983, from 0.0000 to 0.8018 nats\n"
            "  mass on commas: 0.2333\n");
  EXPECT_THAT(Plumb("trial attention 1 --db r.db -o csv").out,
              HasSubstr("\nprobes,海、小,3,0,2,1,小,、,0.2\n"));
}

TEST_F(RecordsTest, RoutesCountPathsAndChoicesByPart) {
  Record("route", "en", 0, R"({"part":"en","document":0,"path":[0,1,1],"layer_evaluations":3})");
  Record("route", "en", 1, R"({"part":"en","document":1,"path":[0,1,1],"layer_evaluations":3})");
  Record("route", "en", 2, R"({"part":"en","document":2,"path":[-1,3,0],"layer_evaluations":2})");
  Record("route", "ja", 0, R"({"part":"ja","document":0,"path":[-1,-1,-1],"layer_evaluations":0})");
  Record("route_counts", "en", 0,
         R"({"part":"en","counts":[[1,2,0,0,0],[0,0,2,0,1]],"texts":3,"distinct_paths":2})");
  const Ran r = Plumb("trial routes 1 --db r.db");
  EXPECT_EQ(r.out,
            "probes, en: 3 texts, 2 distinct paths, 2.66667 layer evaluations a text\n"
            "path          texts  share  distinct_layers\n"
            "0 → 1 → 1         2  0.667                2\n"
            "skip → 3 → 0      1  0.333                2\n"
            "\n"
            "probes, ja: 1 text, 1 distinct path, 0 layer evaluations a text\n"
            "path                texts  share  distinct_layers\n"
            "skip → skip → skip      1  1.000                0\n"
            "\n"
            "probes, en: choices of 3 texts by step, 2 distinct paths\n"
            "step  skip  layer 0  layer 1  layer 2  layer 3\n"
            "   1     1        2        0        0        0\n"
            "   2     0        0        2        0        1\n");
  EXPECT_THAT(Plumb("export csv --what routes --db r.db").out,
              HasSubstr("probes,en,0,\"[0,1,1]\",2,3\n"));
  EXPECT_EQ(Plumb("query --db r.db 'SELECT count(*) AS n FROM v_route' -o csv").out, "n\n4\n");
  EXPECT_THAT(Plumb("trial routes 1 --db r.db -o csv").out,
              HasSubstr("probes,en,\"[0,1,1]\",2,0.6666666666666666,2\n"));
}

TEST_F(RecordsTest, LinearityIsATableOfMovesAndStates) {
  const std::string rest =
      R"(,"fit":"tune","score_on":"val","definition":1,"n":800,"n_held_out":200,"rank":16)";
  Record("linearity", "whole", 0,
         R"({"group":"whole","from":0,"to":2,"score":0.5,"rho":2.0,"warnings":["few tokens"])" +
             rest + "}");
  for (int l = 1; l >= 0; --l)
    Record("linearity", "layer", l,
           R"({"group":"layer","from":)" + std::to_string(l) + R"(,"to":)" + std::to_string(l + 1) +
               R"(,"score":0.99,"rho":null,"warnings":["few tokens"])" + rest + "}");
  Record("linearity", "final", 0,
         R"({"group":"final","from":1,"to":3,"score":0.25,"rho":0.5,"warnings":[])" + rest + "}");
  Record("linearity_state", "state", 0, R"({"state":0,"norm":3.25,"anisotropy":0.125})");
  const Ran r = Plumb("trial linearity 1 --db r.db");
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(r.out,
            "probes: fitted on 800 tokens of tune, held out: 200 of val; definition 1\n"
            "warning: few tokens\n"
            "move               score     rho  rank\n"
            "h0 -> h1          0.9900       -    16\n"
            "h1 -> h2          0.9900       -    16\n"
            "h1 -> final norm  0.2500  0.5000    16\n"
            "whole: h0 -> h2   0.5000  2.0000    16\n"
            "\n"
            "state   norm  anisotropy\n"
            "h0     3.250      0.1250\n");
  EXPECT_THAT(Plumb("trial linearity 1 --db r.db -o csv").out,
              HasSubstr("probes,linearity,final,0,score,0.25\n"));
}

TEST_F(RecordsTest, ProbesAreATableOfStatesForEachProperty) {
  Record("linear_probe_property", "character_class", 0,
         R"({"property":"character_class","classes":["lower","space"],"fit":"tune",
             "score_on":"val","file":null,"pool":null,"n":800,"n_documents":20,"n_held_out":200,
             "n_held_out_documents":5,"majority":0.75,"majority_stderr":0.02,"prior_loss":0.5623,
             "definition":1,"warnings":["judged on 5 documents of val"]})");
  Record("linear_probe_property", "label", 0,
         R"({"property":"label","classes":["0","1"],"fit":"train","score_on":"test",
             "file":"/t/labels.jsonl","pool":"mean","n":80,"n_documents":79,"n_held_out":20,
             "n_held_out_documents":20,"majority":0.5,"prior_loss":0.6931,"definition":1,
             "warnings":[]})");
  for (int l = 0; l < 2; ++l) {
    const std::string state = std::to_string(l);
    Record("linear_probe", "character_class/ridge", l,
           R"({"property":"character_class","method":"ridge","state":)" + state +
               R"(,"accuracy":0.9,"accuracy_stderr":0.01,"control_accuracy":0.5,
                   "selectivity":0.4,"selectivity_stderr":null,"penalty":0.001})");
    Record("linear_probe", "character_class/logistic", l,
           R"({"property":"character_class","method":"logistic","state":)" + state +
               R"(,"accuracy":0.95,"accuracy_stderr":0.01,"loss":0.25,"loss_stderr":0.02})");
    Record("linear_probe", "label/logistic", l,
           R"({"property":"label","method":"logistic","state":)" + state +
               R"(,"accuracy":0.75,"accuracy_stderr":0.1,"loss":0.5,"loss_stderr":0.1})");
  }
  const Ran r = Plumb("trial probes 1 --db r.db");
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(r.out,
            "probes\n"
            "character_class (lower, space): fitted on 800 tokens of tune (20 documents), judged "
            "on 200 tokens of val (5 documents); definition 1\n"
            "warning: judged on 5 documents of val\n"
            "without the state: accuracy 0.7500, loss 0.5623\n"
            "state   ridge      +-  control  selectivity  +-  logistic      +-    loss      +-\n"
            "h0     0.9000  0.0100   0.5000       0.4000   -    0.9500  0.0100  0.2500  0.0200\n"
            "h1     0.9000  0.0100   0.5000       0.4000   -    0.9500  0.0100  0.2500  0.0200\n"
            "\n"
            "label (0, 1): fitted on 80 texts of train (79 different), judged on 20 texts of test "
            "(20 different), /t/labels.jsonl, state: mean; definition 1\n"
            "without the state: accuracy 0.5000, loss 0.6931\n"
            "state  logistic      +-    loss      +-\n"
            "h0       0.7500  0.1000  0.5000  0.1000\n"
            "h1       0.7500  0.1000  0.5000  0.1000\n");
  const std::string csv = Plumb("trial probes 1 --db r.db -o csv").out;
  EXPECT_THAT(csv, HasSubstr("probes,character_class,ridge,1,control_accuracy,0.5\n"));
  EXPECT_THAT(csv, HasSubstr("probes,label,,,majority,0.5\n"));
}

TEST_F(RecordsTest, PrunedModelsAreALineForEachMethod) {
  EXPECT_THAT(Plumb("plot pruning --db r.db").err, HasSubstr("plumb stage run prune --sweep 1"));
  const auto one = [&](const std::string& method, int removed, double perplexity) {
    Record("prune", method, removed,
           absl::StrCat(R"({"method":")", method, R"(","layers_removed":)", removed,
                        R"(,"perplexity":)", perplexity,
                        R"(,"loss":1.5,"order":"rho","split":"val"})"));
  };
  one("none", 0, 8), one("remove", 1, 16), one("remove", 2, 64), one("replace", 1, 10);
  const Ran r = Plumb("plot pruning --db r.db -o csv");
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_THAT(r.out, HasSubstr("remove,2 removed"));
  EXPECT_THAT(r.out, HasSubstr("64"));
  const Ran text = Plumb("plot pruning --db r.db");
  EXPECT_THAT(text.out, HasSubstr("layers removed"));
  EXPECT_THAT(text.out, ::testing::ContainsRegex("remove +8.0000[^\n]* +16.0000[^\n]* +64.0000"));
  EXPECT_THAT(text.out, ::testing::ContainsRegex("replace +8.0000[^\n]* +10.0000[^\n]* +-"));
  EXPECT_THAT(text.out, HasSubstr("in the order of rho"));
  EXPECT_THAT(r.out, HasSubstr("remove,0 removed,0,1,0,8,,,1,1,"));  // the lowest
  EXPECT_THAT(r.out, HasSubstr("remove,2 removed,2,1,0,64,,,0,1,"));
  Record("prune", "remove", 3,
         R"({"method":"remove","layers_removed":3,"loss":2,"tasks":{"arc":{"acc":0.25}}})");
  Record("prune", "remove", 4,
         R"({"method":"remove","layers_removed":4,"loss":2,"tasks":{"arc":{"acc":0.5}}})");
  EXPECT_THAT(Plumb("plot pruning --db r.db --series arc/acc -o csv").out,
              HasSubstr("remove,4 removed,4,1,0,0.5,,,1,1,"));  // the highest
  EXPECT_THAT(Plumb("plot pruning --db r.db --series perplexty").err,
              HasSubstr("did you mean perplexity?"));
  EXPECT_THAT(Plumb("plot pruning --db r.db --stage late").err, HasSubstr("these have: probes"));
}

TEST_F(RecordsTest, ProbesAreDrawnByState) {
  EXPECT_THAT(Plumb("plot probes --db r.db").err,
              HasSubstr("plumb stage run linear_probe --sweep 1"));
  int id = 0;
  const auto point = [&](const std::string& series, int layer, double value, int stage = 2) {
    Execute(
        absl::StrCat("INSERT INTO series (id, stage_id, name, layer, definition_version) "
                     "VALUES (",
                     ++id, ", ", stage, ", 'linear_probe/", series, "', ", layer,
                     ", 1); INSERT INTO measurement (series_id, step, value) VALUES (", id, ", 1, ",
                     value, ")"));
  };
  for (int l = 0; l < 3; ++l) {
    point("position/ridge/accuracy", l, 0.25 + 0.125 * l);
    point("position/logistic/accuracy", l, 0.5 + 0.125 * l);
    point("position/ridge/r2", l, 0.0625 * l);
  }
  point("position/ridge/last/accuracy", -1, 0.5), point("position/majority", -1, 0.25);
  const Ran r = Plumb("plot probes --db r.db");
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_THAT(r.out, HasSubstr("what linear probes read, probes"));
  EXPECT_THAT(r.out,
              ::testing::ContainsRegex("position/ridge +0.2500[^\n]* +0.3750[^\n]* +0.5000"));
  EXPECT_THAT(r.out,
              ::testing::ContainsRegex("position/logistic +0.5000[^\n]* +0.6250[^\n]* +0.7500"));
  const Ran r2 = Plumb("plot probes --db r.db --series r2 -o csv");
  EXPECT_THAT(r2.out, HasSubstr("h2,"));
  EXPECT_THAT(r2.out, HasSubstr("0.125"));
  EXPECT_THAT(Plumb("plot probes --db r.db --series ridge/acuracy").err,
              HasSubstr("did you mean ridge/accuracy?"));
  EXPECT_THAT(Plumb("plot probes --db r.db --series whatever").err,
              HasSubstr("one of accuracy, r2, or the end of a series"));
  EXPECT_THAT(Plumb("plot probes --db r.db --stage late").err, HasSubstr("these have: probes"));
  // Of several stages, the first by name that has the series.
  Execute(Stage(4, "labels", "linear_probe", "succeeded", ""));
  point("label/ridge/accuracy", 0, 0.75, 4);
  EXPECT_THAT(Plumb("plot probes --db r.db").out, HasSubstr("linear probes read, labels"));
  EXPECT_THAT(Plumb("plot probes --db r.db --series r2").out,
              HasSubstr("linear probes read, probes"));
}

TEST_F(RecordsTest, LinearityIsDrawnByLayerAndStep) {
  EXPECT_THAT(Plumb("plot linearity --db r.db").err,
              HasSubstr("plumb stage run linearity --sweep 1"));
  const auto points = [&](int id, const std::string& series, int layer, double last, int stage) {
    Execute("INSERT INTO series (id, stage_id, name, layer, definition_version) VALUES (" +
            std::to_string(id) + ", " + std::to_string(stage) + ", '" + series + "', " +
            std::to_string(layer) + ", 1)");
    for (const int step : {50, 100})
      Execute("INSERT INTO measurement (series_id, step, value) VALUES (" + std::to_string(id) +
              ", " + std::to_string(step) + ", " + std::to_string(step == 100 ? last : 0.5) + ")");
  };
  points(1, "linearity/score", 0, 0.9, 1), points(2, "linearity/score", 1, 0.9999, 1);
  points(3, "linearity/score_without", 0, 0.25, 1),
      points(4, "linearity/score_without", 1, 0.125, 1);
  points(5, "linearity/score", 0, 0.75, 2);
  const Ran r = Plumb("plot linearity --db r.db");
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_THAT(r.out, HasSubstr("linearity/score, pretrain"));
  EXPECT_THAT(r.out, HasSubstr("base: with residual\n"
                               "      1   0.500 0.99990\n"
                               "      0   0.500   0.900\n"
                               "  layer      50     100  (step)\n"));
  EXPECT_THAT(r.out, HasSubstr("base: without residual\n      1   0.500   0.125\n"));
  EXPECT_THAT(Plumb("plot linearity --db r.db --stage probes -o csv").out,
              HasSubstr("base,with residual,0,100,1,0.75,0.75,0.75\n"));
  EXPECT_THAT(Plumb("plot linearity --db r.db --series adjusted").err, HasSubstr("no linearity"));
  EXPECT_THAT(Plumb("plot linearity --db r.db --series scor").err,
              HasSubstr("did you mean score?"));
  EXPECT_THAT(Plumb("plot linearity --db r.db --stage late").err, HasSubstr("pretrain, probes"));
}

TEST_F(RecordsTest, PaintersPutTheBaselineFirst) {
  int idx = 0;
  const auto add = [&](const std::string& variant, int start, int repeat, int seed, double value) {
    Record("painters", variant, idx++,
           "{\"variant\":\"" + variant + "\",\"start_layer\":" + std::to_string(start) +
               ",\"repeat\":" + std::to_string(repeat) + ",\"seed\":" + std::to_string(seed) +
               ",\"loss\":1,\"perplexity\":" + std::to_string(value) + ",\"tokens\":4096}");
  };
  add("baseline", 0, 1, 0, 8);
  add("skip", 1, 1, 0, 20.5);
  add("skip", 2, 1, 0, 12);
  add("random", 1, 1, 0, 10);
  add("random", 1, 1, 1, 12);
  add("looped_parallel", 2, 3, 0, 9);
  EXPECT_EQ(Plumb("trial painters 1 --db r.db").out,
            "probes: perplexity over 4096 tokens; means of up to 2 seeds\n"
            "variant             start 1  start 2\n"
            "baseline              8.000    8.000\n"
            "looped_parallel x3        -    9.000\n"
            "random               11.000        -\n"
            "skip                 20.500   12.000\n");
}

TEST_F(RecordsTest, FinetuningRunsEndWithTheirMeanAndSpread) {
  for (int seed = 0; seed < 3; ++seed) {
    Record("finetune", "t", seed,
           R"({"task":"t","seed":)" + std::to_string(seed) + R"(,"examples":50,"accuracy":)" +
               std::to_string(0.7 + 0.1 * seed) + R"(,"loss":null,"nonfinite_batches":2})");
  }
  EXPECT_THAT(Plumb("trial finetune 1 --db r.db").out,
              HasSubstr("accuracy 0.8000, standard deviation 0.1000 over 3 seeds"));
}

TEST_F(RecordsTest, WhatWasPrunedStandsByNumberOfLayers) {
  const auto left = [&](const std::string& method, int n, const std::string& removed) {
    Record("prune", method, n,
           R"({"method":")" + method + R"(","layers_removed":)" + std::to_string(n) +
               R"(,"removed":)" + removed +
               R"(,"order":"rho","fit":"tune","split":"val","loss":2.5,"perplexity":12.1825,)"
               R"("tokens":3208,"stream_error":0.25,"parameters":1000,"flops_per_token":2000,)"
               R"("tokens_per_second":1234.4,"definition":1})");
  };
  left("remove", 1, "[1]"), left("replace", 1, "[1]"), left("none", 0, "[]");
  left("remove", 2, "[1,0]");
  Execute(Stage(4, "more", "prune", "succeeded", ""));
  Record("prune", "remove", 1,
         R"({"method":"remove","layers_removed":1,"removed":[0],"loss":2,"tasks":)"
         R"({"arc":{"items":4,"acc":0.25,"acc_stderr":0.25}}})",
         4);
  Record("prune", "none", 0, R"({"method":"none","layers_removed":0,"removed":[],"loss":1})", 4);
  const Ran tasks = Plumb("trial pruning 1 --db r.db --stage more");
  EXPECT_THAT(tasks.out, HasSubstr("tokens_per_second  arc/acc\n"));
  EXPECT_THAT(tasks.out, ::testing::ContainsRegex("none .* -\n"));
  EXPECT_THAT(tasks.out, ::testing::ContainsRegex("remove .* 0.2500\n"));
  EXPECT_THAT(Plumb("trial pruning 1 --db r.db --stage more -o csv").out,
              HasSubstr("more,prune,remove,1,arc/acc_stderr,0.25\n"));
  EXPECT_THAT(Plumb("plot pruning --db r.db --stage more --series arc/acc -o csv").out,
              HasSubstr("0.25"));
  EXPECT_THAT(Plumb("plot pruning --db r.db --series arc/acd").err,
              HasSubstr("no arc/acd of pruned models"));
  Execute("DELETE FROM record WHERE stage_id = 4");
  Record(
      "prune_layer", "layer", 0,
      R"({"layer":0,"score":0.75,"score_without":0.5,"rho":1.5,"identity_error":0.1,"map_error":null})");
  const Ran r = Plumb("trial pruning 1 --db r.db");
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(r.out,
            "probes: in the order of rho, fitted on tune, scored on 3208 tokens of val; "
            "definition 1\n"
            "layer   score  score_without     rho  identity_error  map_error\n"
            "    0  0.7500         0.5000  1.5000             0.1          -\n"
            "\n"
            "layers_removed  method   removed    loss  perplexity  stream_error  parameters  "
            "flops_per_token  tokens_per_second\n"
            "             0  none     []       2.5000      12.182        0.2500        1000  "
            "           2000               1234\n"
            "             1  remove   [1]      2.5000      12.182        0.2500        1000  "
            "           2000               1234\n"
            "             1  replace  [1]      2.5000      12.182        0.2500        1000  "
            "           2000               1234\n"
            "             2  remove   [1,0]    2.5000      12.182        0.2500        1000  "
            "           2000               1234\n");
  EXPECT_THAT(Plumb("trial pruning 1 --db r.db -o csv").out,
              HasSubstr("probes,prune,remove,2,removed,\"[1,0]\"\n"));
}

TEST_F(RecordsTest, ScoresOfTasksStandBesideTheirErrors) {
  Record("task", "all", 0,
         R"({"task":"/a/b/arc.jsonl","format":"arc","version":"1.0","items":100,"acc":0.28,)"
         R"("acc_stderr":0.0451,"acc_norm":0.22,"acc_norm_stderr":0.0416})");
  EXPECT_EQ(Plumb("trial tasks 1 --db r.db").out,
            "stage   task       format  of   items     acc       ±  acc_norm       ±\n"
            "probes  arc.jsonl  arc     all    100  0.2800  0.0451    0.2200  0.0416\n");
  EXPECT_EQ(Plumb("trial tasks 1 --db r.db -o csv").out,
            "stage,task,format,version,group,items,metric,value,stderr\n"
            "probes,arc.jsonl,arc,1.0,all,100,acc,0.28,0.0451\n"
            "probes,arc.jsonl,arc,1.0,all,100,acc_norm,0.22,0.0416\n");
}

TEST_F(RecordsTest, MembersThatAreMissingShowAsDashesAndCrashNothing) {
  for (const char* kind :
       {"generation", "topk", "attention", "route", "route_counts", "painters", "finetune", "prune",
        "prune_layer", "task", "linear_probe", "linear_probe_property"}) {
    Record(kind, "0", 0, "{}");
    Record(
        kind, "1", 0,
        R"({"prompt":3,"text":[],"candidates":[{}],"matrix":[[]],"tokens":[1],"path":["x"],"counts":[3]})");
  }
  for (const char* command : {"generate", "topk", "attention", "routes", "painters", "finetune",
                              "pruning", "tasks", "probes"}) {
    for (const char* format : {"table", "json", "jsonl", "csv"}) {
      const Ran r = Plumb(std::string("trial ") + command + " 1 --db r.db -o " + format);
      EXPECT_EQ(r.code, 0) << command << format << r.err;
      EXPECT_NE(r.out, "") << command << format;
    }
  }
}

TEST_F(RecordsTest, NothingToShowNamesTheStageToAdd) {
  Ran r = Plumb("trial generate 7 --db r.db");
  EXPECT_EQ(r.code, 3);
  EXPECT_THAT(r.err, HasSubstr("no trial 7"));
  r = Plumb("trial generate 1 --db r.db --stage prboes");
  EXPECT_EQ(r.code, 3);
  EXPECT_THAT(r.err, HasSubstr("has no stage prboes; did you mean probes?"));
  r = Plumb("trial routes 1 --db r.db");
  EXPECT_EQ(r.code, 3);
  EXPECT_THAT(r.err, HasSubstr("trial 1 has no routes; add to its sweep file"));
  EXPECT_THAT(r.err, HasSubstr("stages: {evaluates: {evaluate: {routes: true}}}"));
  r = Plumb("trial generate 1 --db r.db");
  EXPECT_THAT(r.err, HasSubstr("its stage probes was not asked for it"));
  r = Plumb("trial painters 1 --db r.db");
  EXPECT_THAT(r.err, HasSubstr("has no layer-execution variants yet: its stage later is pending"));
  Execute("UPDATE stage SET state = 'infeasible', reason = 'why' WHERE id = 3");
  EXPECT_THAT(Plumb("trial painters 1 --db r.db").err,
              HasSubstr("variants: its stage later is infeasible: why"));
}

TEST_F(RecordsTest, OnlyTheNamedStagesRecordsAreShown) {
  Record("topk", "0", 0, R"({"prompt":"a","candidates":[]})");
  Execute(Stage(4, "more", "probe", "succeeded", ""));
  Record("topk", "0", 0, R"({"prompt":"b","candidates":[]})", 4);
  EXPECT_THAT(Plumb("trial topk 1 --db r.db").out, HasSubstr("\"a\"  (probes"));
  const Ran r = Plumb("trial topk 1 --db r.db --stage more");
  EXPECT_THAT(r.out, HasSubstr("\"b\"  (more"));
  EXPECT_THAT(r.out, Not(HasSubstr("\"a\"")));
}

}  // namespace
}  // namespace plumb::app
