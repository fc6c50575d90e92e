#include "app/results_csv.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

namespace plumb::app {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::SizeIs;

ForeignSweep Read(const std::string& text, const CsvMapping& mapping = {}) {
  auto out = ReadResultsCsv(text, "f.csv", "s", mapping);
  EXPECT_TRUE(out.ok()) << out.status();
  return out.ok() ? *std::move(out) : ForeignSweep();
}
std::string Wrong(const std::string& text, const CsvMapping& mapping = {}) {
  const auto out = ReadResultsCsv(text, "f.csv", "s", mapping);
  EXPECT_FALSE(out.ok());
  return std::string(out.status().message());
}

TEST(ResultsCsv, RowsAreTrialsOfCellsWithPointsOverSteps) {
  const ForeignSweep s = Read(
      "n_layers,model.d_model,seed,step,val/loss,test/bits_per_byte\n"
      "2,64,0,10,3.5,\n"
      "2,64,0,20,3.25,1.5\n"
      "2,64,7,20,3.0,1.25\r\n"
      "4,64,0,20,nan,1\n");
  ASSERT_THAT(s.cells, SizeIs(2));
  EXPECT_EQ(s.cells[0].name, "n_layers=2 d_model=64");
  EXPECT_EQ(s.cells[0].axes_json, R"({"model.n_layers":2,"model.d_model":64})");
  ASSERT_THAT(s.trials, SizeIs(3));
  EXPECT_EQ(s.trials[1].cell, 0);
  EXPECT_EQ(s.trials[1].replicate, 1) << "in the order of the rows";
  EXPECT_EQ(s.trials[1].seed, 7);
  EXPECT_EQ(s.trials[2].cell, 1);
  EXPECT_EQ(s.trials[2].replicate, 0);
  EXPECT_THAT(s.trials[0].series.at("val/loss"), ElementsAre(Pair(10, 3.5), Pair(20, 3.25)));
  EXPECT_THAT(s.trials[0].series.at("test/bits_per_byte"), ElementsAre(Pair(20, 1.5)));
  EXPECT_TRUE(std::isnan(s.trials[2].series.at("val/loss")[0].second));
  EXPECT_EQ(s.trials[0].steps, 20);
  EXPECT_EQ(json::parse(s.trials[1].columns_json),
            json::parse(R"({"n_layers":2,"d_model":64,"seed_data":7,"seed_init":7,"steps":20})"));
  EXPECT_EQ(json::parse(s.trials[0].config_json)["model"]["n_layers"], 2);
  EXPECT_EQ(s.first_metric, "val/loss");
}

TEST(ResultsCsv, ColumnsAreMapped) {
  CsvMapping m{.axes = {{"method", "method"}},
               .metrics = {{"loss", "val/loss"}},
               .columns = {{"step", "iter"}},
               .ignored = {"host"},
               .fields = {{"data.corpus", "wiki"}, {"lr", "0.1"}}};
  const ForeignSweep s =
      Read("method,iter,loss,host,params_total,state\n\"a, b\",5,1e-3,h,1000,diverged\n", m);
  EXPECT_EQ(s.cells[0].name, "method=a, b");
  EXPECT_EQ(s.trials[0].state, "diverged");
  EXPECT_EQ(json::parse(s.trials[0].columns_json),
            json::parse(R"({"corpus":"wiki","lr":0.1,"params_total":1000,"steps":5})"));
  m.delimiter = '\t';
  EXPECT_THAT(Read("method\titer\tloss\thost\nx\t1\t2\th\n", m).trials, SizeIs(1));
}

TEST(ResultsCsv, EveryBadRowIsToldWithItsLine) {
  const std::string said = Wrong(
      "n_layers,seed,step,val/loss\n"
      "2,0,10,3.5\n"
      "2,x,10,3.5\n"
      "2,0,10\n"
      "2,1,-4,high\n"
      "2,0,10,3.4\n"
      ",2,10,1\n");
  EXPECT_THAT(said, HasSubstr("nothing was imported; 6 problems:\n"));
  EXPECT_THAT(said, HasSubstr("f.csv:3: seed: expected a whole number from 0 on, got \"x\""));
  EXPECT_THAT(said, HasSubstr("f.csv:4: 3 cells, the header has 4"));
  EXPECT_THAT(said, HasSubstr("f.csv:5: step: expected a whole number from 0 on, got \"-4\""));
  EXPECT_THAT(said, HasSubstr("f.csv:5: val/loss: expected a number, got \"high\""));
  EXPECT_THAT(said,
              HasSubstr("f.csv:6: val/loss at step 10 of the same cell and seed is in line 2"));
  EXPECT_THAT(said, HasSubstr("f.csv:7: n_layers: no value"));
}

TEST(ResultsCsv, BadHeadersAreTold) {
  EXPECT_THAT(Wrong("n_layers,method,val/loss\n1,a,2\n"),
              HasSubstr("f.csv:1: column \"method\" is neither a field of a trial nor a series"));
  EXPECT_THAT(Wrong("n_layers\n1\n"), HasSubstr("no column is a series"));
  EXPECT_THAT(Wrong("n_layers,n_layers,val/loss\n1,1,2\n"), HasSubstr("twice"));
  EXPECT_THAT(Wrong("n_layers,model.n_layers,val/loss\n1,1,2\n"),
              HasSubstr("two columns are model.n_layers"));
  EXPECT_THAT(Wrong("n_layers,val/loss\n1,2\n", {.metrics = {{"los", "val/x"}}}),
              HasSubstr("--metric: no column \"los\""));
  EXPECT_THAT(Wrong(""), HasSubstr("no header"));
  EXPECT_THAT(Wrong("n_layers,val/loss\n"), HasSubstr("no rows"));
  EXPECT_THAT(Wrong("n_layers,val/loss\n\"1,2\n"), HasSubstr("a quote is not closed"));
}

TEST(ResultsCsv, KeysFollowFromWhatTheRowsSayTheyAre) {
  const std::string text = "n_layers,seed,val/loss\n2,0,3.5\n2,1,3.5\n";
  const ForeignSweep a = Read(text), b = Read("n_layers,seed,val/loss\n2,0,9\n2,1,9\n");
  EXPECT_EQ(a.trials[0].key, b.trials[0].key) << "whatever was measured";
  EXPECT_NE(a.trials[0].key, a.trials[1].key);
  EXPECT_NE(ReadResultsCsv(text, "f.csv", "other", {})->trials[0].key, a.trials[0].key);
  EXPECT_THAT(a.trials[0].key, SizeIs(64));
}

}  // namespace
}  // namespace plumb::app
