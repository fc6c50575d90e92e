// plumb trial lineage and show, of trials that began from checkpoints of others.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/app/cli.h"

namespace plumb::app {
namespace {

using ::testing::HasSubstr;

class LineageTest : public CliFixture {
 protected:
  // Trial 1; from its step 27 trial 2, from whose step 54 trial 3; from step 27 of trial 1 trial 4.
  void SetUp() override {
    CliFixture::SetUp();
    Execute(
        "INSERT INTO sweep (id, name, state, request_id, request_hash, sweep_yaml, objective, "
        "trials, cursor, create_time_us, end_time_us) VALUES (1, 's', 'completed', 'r', 'h', "
        "'sweep: s', 'val/loss', 1, 1, 0, 1)");
    for (const auto& [id, from, step] :
         {std::tuple(1, 0, 0), std::tuple(2, 1, 27), std::tuple(3, 2, 54), std::tuple(4, 1, 27)}) {
      Execute(absl::StrCat(
          "INSERT INTO cell (id, sweep_id, idx, name, axes_json, flags_json) VALUES (", id, ", 1, ",
          id, ", 'tokens=", id, "', '{}', '[]'); INSERT INTO trial VALUES (", id, ", 'k", id,
          "', 'f', '{}', 'succeeded', 4, 64, 1, 1, 16, 64, 256, 'rmsnorm', 'rope', 'swiglu', 0, "
          "'c', 'bytes', 64, 1024, 100, 0.001, 0, 0, 1000, 500, 500, 3000, 102400, 3.072e8, 0); "
          "INSERT INTO sweep_trial (sweep_id, idx, cell_id, trial_id, replicate, aa, shared, tune) "
          "VALUES (1, ",
          id, ", ", id, ", ", id,
          ", 0, 0, 0, 0); "
          "INSERT INTO stage (id, trial_id, name, kind, settings_json, state, priority, "
          "target_step, step, attempts, failures, not_before_ct_us, threads, checkpoint_step, "
          "reason, prefix_key, branch_stage_id, branch_step) VALUES (",
          10 + id, ", ", id, ", 'pretrain', 'pretrain', '{}', 'succeeded', 0, ", 30 * id, ", ",
          30 * id, ", 1, 0, 0, 1, -1, 'done', 'p', ", from == 0 ? "NULL" : absl::StrCat(10 + from),
          ", ", step, ")"));
    }
  }
};

TEST_F(LineageTest, TheFamilyIsDrawnFromAnyOfItsMembers) {
  const Ran r = Plumb("trial lineage 2 --db r.db");
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(r.out,
            "trial 1, succeeded at 30 of 30, tokens=1\n"
            "├─ from step 27: trial 2 *, succeeded at 60 of 60, tokens=2\n"
            "│  └─ from step 54: trial 3, succeeded at 90 of 90, tokens=3\n"
            "└─ from step 27: trial 4, succeeded at 120 of 120, tokens=4\n");
  const auto j = nlohmann::json::parse(Plumb("trial lineage 3 --db r.db -o json").out);
  ASSERT_EQ(j.size(), 4);
  EXPECT_TRUE(j[0]["from_trial"].is_null());
  EXPECT_EQ(j[3]["trial"], 3);
  EXPECT_EQ(j[3]["from_trial"], 2);
  EXPECT_EQ(j[3]["from_step"], 54);
  const std::string dot = Plumb("trial lineage 3 --db r.db --dot").out;
  EXPECT_THAT(dot, HasSubstr("t2 -> t3 [label=\"54\"]"));
  EXPECT_THAT(dot, HasSubstr("digraph"));
}

TEST_F(LineageTest, AWarmStartIsOfTheFamily) {
  Execute(
      "INSERT INTO worker (id, name, host, slots, build, devices_json, session_id, state, "
      "register_time_us) VALUES (1, 'w', '', 1, '', '[]', 1, 'gone', 0); "
      "INSERT INTO checkpoint VALUES (14, 120, 1, 'path', 'abc', 1, 0); "
      "UPDATE stage SET branch_stage_id = NULL, branch_step = 0 WHERE id = 13; "
      "UPDATE trial SET config_json = '{\"init\": {\"digest\": \"abc\"}}' WHERE id = 3");
  EXPECT_EQ(Plumb("trial lineage 3 --db r.db").out,
            "trial 1, succeeded at 30 of 30, tokens=1\n"
            "├─ from step 27: trial 2, succeeded at 60 of 60, tokens=2\n"
            "└─ from step 27: trial 4, succeeded at 120 of 120, tokens=4\n"
            "   └─ from step 120 (weights alone): trial 3 *, succeeded at 90 of 90, tokens=3\n");
}

TEST_F(LineageTest, ATrialSaysWhereItBegan) {
  EXPECT_THAT(Plumb("trial show 3 --db r.db").out, HasSubstr("began from step 54 of trial 2"));
  const auto j = nlohmann::json::parse(Plumb("trial show 3 --db r.db -o json").out);
  EXPECT_EQ(j["stages"][0]["branch_trial_id"], 2);
  EXPECT_EQ(j["stages"][0]["branch_step"], 54);
}

TEST_F(LineageTest, WithoutSuchATrialItSaysSo) {
  const Ran r = Plumb("trial lineage 99 --db r.db");
  EXPECT_EQ(r.code, 3);
  EXPECT_THAT(r.err, HasSubstr("no trial 99"));
}

}  // namespace
}  // namespace plumb::app
