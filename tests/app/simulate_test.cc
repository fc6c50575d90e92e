// plumb sweep simulate, the real binary.
#include <gmock/gmock.h>

#include "sweeps/plan.h"
#include "tests/app/cli.h"
#include "trainer/spec/parse.h"

namespace plumb::app {
namespace {

using ::testing::HasSubstr;

constexpr char kYaml[] = R"(sweep: rates
trial:
  model: {n_layers: 1, d_model: 32, head_dim: 16}
  data: {corpus: c, tokenizer: bytes, seq_len: 32}
  train: {steps: 100, batch_tokens: 1024}
axes: {train.beta2: [0.9, 0.95]}
tune:
  train.lr: {log: [1e-3, 1e-1], points: 3}
  stop: {asha: {rungs: [20%], keep: 1/3, mode: promote}}
)";

class SimulateTest : public CliFixture {
 protected:
  void SetUp() override {
    CliFixture::SetUp();
    std::ofstream(dir_ + "/s.yaml") << kYaml;
  }
  Ran Simulate(const std::string& more) {
    return Plumb("sweep simulate s.yaml --assume-tokens 1M " + more);
  }
};

TEST_F(SimulateTest, ShowsEachSearchWithCostAndRegret) {
  const Ran r = Simulate("--seeds 4 --workers 2 --slots 1 --flops-per-s 1e9 --svg w.svg");
  ASSERT_EQ(r.code, 0) << r.err;
  for (const char* what : {"grid: all to their end", "asha-promote", "hyperband", "median",
                           "file: asha at 20%, keep 1/3, promote", "1e+09 FLOP/s a slot (as given)",
                           "a tuned value in each cell", "seeds 1 to 4"})
    EXPECT_THAT(r.out, HasSubstr(what));
  EXPECT_THAT(Slurp(dir_ + "/w.svg"), HasSubstr("training FLOPs"));
  EXPECT_EQ(Simulate("--seeds 4 --workers 2 --slots 1 --flops-per-s 1e9").out, r.out)
      << "not the same numbers twice";
}

TEST_F(SimulateTest, JsonHasAllAndTheGridsCostInClosedForm) {
  const Ran r = Simulate(
      "--seeds 3 --workers 1 --slots 1 --flops-per-s 1e9 -o json --searches "
      "asha-stop");
  ASSERT_EQ(r.code, 0) << r.err;
  const auto rows = nlohmann::json::parse(r.out);
  ASSERT_EQ(rows.size(), 2);
  const auto& grid = rows[0];
  EXPECT_EQ(grid["search"], "grid");
  EXPECT_EQ(grid["choosing_steps"], 2 * 3 * 100);
  EXPECT_EQ(grid["steps"], 2 * 3 * 100 + 2 * 100);  // and a replicate of each cell's winner
  const double flops = grid["flops"].get<double>();
  EXPECT_NEAR(grid["hours"].get<double>(), flops / 1e9 / 3600, 1e-6 * flops / 1e9 / 3600);
  EXPECT_TRUE(grid["regret_minus_grid"].is_null());
  EXPECT_LT(rows[1]["flops"].get<double>(), flops);
  EXPECT_EQ(rows[1]["n"], 3);
}

TEST_F(SimulateTest, SaysWhatIsWrong) {
  const auto says = [&](const std::string& arguments, const std::string& what) {
    const Ran r = Simulate(arguments);
    EXPECT_EQ(r.code, 2) << arguments << ": " << r.out;
    EXPECT_THAT(r.err, HasSubstr(what));
  };
  says("--searches asha-promot", "did you mean asha-promote?");
  says("--share 2", "a part of the candidates, as 1/3");
  says("--seeds 0", "--seeds from 1");
  says("--speeds 1,0", "--speeds above 0");
  says("--workers 1 --speeds 1,2", "more --speeds than --workers");
  const Ran none = Plumb("sweep simulate");
  EXPECT_EQ(none.code, 2);
  EXPECT_THAT(none.err, HasSubstr("give a sweep file"));
}

// The best rate of cell 1 was recorded to be the last, of cell 2 the first; one run of cell 1 was
// stopped, so nobody knows its end.
TEST_F(SimulateTest, ReplaysWhatWasRecorded) {
  const auto plan =
      sweeps::PlanSweep(kYaml, "s.yaml", [](const std::string&, const std::string& tokenizer) {
        return sweeps::CorpusInfo{.vocab_size = *spec::TokenizerVocabSize(tokenizer),
                                  .train_tokens = 1'000'000};
      });
  ASSERT_TRUE(plan.ok()) << plan.status();
  std::string sql = SweepSql("rates", kYaml, 6);
  sql += CellSql(1, plan->cells[0].name, "{}") + CellSql(2, plan->cells[1].name, "{}");
  const char* const ends[] = {"2.5", "2.4", "2.0", "2.1", "2.4", "2.9"};
  for (int i = 0; i < 6; ++i) {
    sql += Sql(Trial{.id = i + 1, .cell = 1 + i / 3, .state = i == 1 ? "stopped" : "succeeded"});
    const std::string t = std::to_string(i + 1);
    sql += "UPDATE trial SET key = '" + plan->trials[i].key + "' WHERE id = " + t + ";";
    sql += "INSERT INTO series VALUES (" + t + "2, " + t + ", 'tune/bits_per_byte', -1, 1);";
    sql +=
        "INSERT INTO measurement VALUES (" + t + "2, 20, 3.0), (" + t + "2, 100, " + ends[i] + ");";
  }
  Execute(sql);
  const Ran r = Plumb("sweep simulate --assume-tokens 1M --curves-from r.db --seeds 5 -o json");
  ASSERT_EQ(r.code, 0) << r.err;
  const auto rows = nlohmann::json::parse(r.out);
  EXPECT_EQ(rows[0]["regret"], 0);
  EXPECT_EQ(rows[0]["choosing_steps"], 5 * 100) << "all but the stopped one";
  const Ran text = Plumb("sweep simulate --assume-tokens 1M --curves-from r.db --seeds 5");
  EXPECT_THAT(text.out, HasSubstr("1 of 6 trials are not recorded to their end"));
  const Ran other = Plumb("sweep simulate s.yaml --assume-tokens 1M --curves-from r.db --sweep 7");
  EXPECT_EQ(other.code, 3) << other.err;
}

}  // namespace
}  // namespace plumb::app
