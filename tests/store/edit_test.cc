// Tags and notes, results that no attempt brought, and removal.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "store/backup.h"
#include "store/extract.h"
#include "store/read.h"
#include "store/store.h"

namespace plumb::store {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class StoreEditTest : public ::testing::Test {
 protected:
  StoreEditTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "plumb-test-XXXXXX").string();
    dir_ = mkdtemp(pattern.data());
    path_ = dir_ + "/plumb.db";
    Open();
    EXPECT_TRUE(Commit({UpsertWorker{
                           {.id = WorkerId{1}, .name = "w", .slots = 1, .session = SessionId{1}}}})
                    .ok());
  }
  ~StoreEditTest() override {
    store_.reset();
    std::error_code ignored;
    std::filesystem::remove_all(dir_, ignored);
  }
  void Open() {
    absl::StatusOr<std::unique_ptr<Store>> store = Store::Open(path_, 1);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }
  absl::Status Commit(const std::vector<Change>& changes) {
    return store_->Commit(absl::Seconds(1), changes);
  }
  Reader Read() { return *Reader::Open(path_); }
  int64_t Number(const std::string& sql) {
    absl::StatusOr<Statement> s = store_->database().Prepare(sql);
    EXPECT_TRUE(s.ok()) << s.status();
    EXPECT_TRUE(*s->Step());
    return s->Int(0);
  }

  static MeasurementBatchPtr Results(int64_t points, const std::string& series = "val/loss") {
    auto b = std::make_shared<MeasurementBatch>();
    b->series.push_back({.name = series});
    for (int64_t i = 0; i < points; ++i) b->series[0].points.push_back({i, 1.0 / (1 + i)});
    b->records.push_back({.kind = "topk", .name = "0", .step = 1, .data_json = "{}"});
    b->documents.push_back({.split = "test", .document = 0, .nll = 1, .tokens = 1, .bytes = 1});
    b->checkpoints.push_back({.step = 1, .path = "p", .digest = "d", .bytes = 100});
    return b;
  }
  void AddSweep(int64_t id, const std::vector<int64_t>& trials) {
    std::vector<Change> changes = {
        InsertSweep{{.id = SweepId{id},
                     .name = absl::StrCat("s", id),
                     .state = SweepState::kCompleted,
                     .request_id = absl::StrCat("r", id),
                     .trials = std::ssize(trials),
                     .end_time_us = 5}},
        InsertCell{{.sweep = SweepId{id}, .idx = 0, .name = "c"}},
        InsertAddition{{.sweep = SweepId{id}, .name = "x"}},
        InsertLook{{.sweep = SweepId{id}, .seq = 0, .trial_idx = 0, .step = 1}},
        PutTag{.sweep = SweepId{id}, .tag = "t"}};
    for (size_t i = 0; i < trials.size(); ++i)
      changes.push_back(InsertSweepTrial{
          {.sweep = SweepId{id}, .idx = static_cast<int64_t>(i), .trial = TrialId{trials[i]}}});
    EXPECT_TRUE(Commit(changes).ok());
  }
  // Two stages, the second follows the first; an attempt of the first.
  void AddTrial(int64_t id, int64_t points) {
    const StageId first{2 * id}, second{2 * id + 1};
    const absl::Status s = Commit(
        {InsertTrial{{.id = TrialId{id},
                      .key = absl::StrCat("k", id),
                      .state = StageState::kSucceeded,
                      .batch_tokens = 8,
                      .flops_per_token = 3,
                      .flops = 240}},
         InsertStage{{.id = first,
                      .trial = TrialId{id},
                      .name = "pretrain",
                      .kind = "pretrain",
                      .state = StageState::kSucceeded,
                      .target_step = 10,
                      .step = 10}},
         InsertStage{{.id = second,
                      .trial = TrialId{id},
                      .name = "more",
                      .kind = "evaluate",
                      .parent = first,
                      .state = StageState::kSucceeded,
                      .target_step = 1,
                      .step = 1}},
         OpenAttempt{.row = {.id = {first, 1},
                             .incarnation = 1,
                             .worker = WorkerId{1},
                             .session = SessionId{1}}},
         CloseAttempt{.fence = {1, {first, 1}, SessionId{1}}, .outcome = Outcome::kSucceeded},
         PutResults{first, Results(points), 1}, PutResults{second, Results(3, "more/x"), 1}});
    EXPECT_TRUE(s.ok()) << s;
  }
  void Purge(int64_t trial, int64_t limit) {
    ASSERT_TRUE(Commit({PurgeTrial{.trial = TrialId{trial}, .limit = limit}}).ok());
  }
  std::vector<std::string> Damage() { return Check(path_)->damage; }

  std::string dir_, path_;
  std::unique_ptr<Store> store_;
};

TEST_F(StoreEditTest, TagsAndNotesAreShownFilteredAndReplaced) {
  AddTrial(1, 2);
  AddSweep(1, {1});
  ASSERT_TRUE(Commit({PutTag{.sweep = SweepId{1}, .tag = "baseline"},
                      PutTag{.sweep = SweepId{1}, .tag = "baseline"},
                      PutTag{.trial = TrialId{1}, .tag = "odd"},
                      PutNote{.sweep = SweepId{1}, .text = "first"},
                      PutNote{.sweep = SweepId{1}, .text = "second"},
                      PutNote{.trial = TrialId{1}, .text = "why"}})
                  .ok());
  Reader reader = Read();
  EXPECT_THAT(reader.Sweep(SweepId{1})->annotations.tags, ElementsAre("baseline", "t"));
  EXPECT_EQ(reader.Sweep(SweepId{1})->annotations.note, "second");
  EXPECT_THAT(reader.Trial(TrialId{1})->annotations.tags, ElementsAre("odd"));
  EXPECT_EQ(reader.Trial(TrialId{1})->annotations.note, "why");
  EXPECT_THAT(*reader.Sweeps(99, 10, "baseline"), SizeIs(1));
  EXPECT_THAT(*reader.Sweeps(99, 10, "other"), IsEmpty());
  EXPECT_THAT(*reader.Trials(SweepId{1}, "", 0, 10, "odd"), SizeIs(1));
  EXPECT_THAT(*reader.Trials(SweepId{1}, "", 0, 10, "even"), IsEmpty());
  ASSERT_TRUE(Commit({PutTag{.sweep = SweepId{1}, .tag = "t", .remove = true},
                      PutNote{.sweep = SweepId{1}, .text = ""}})
                  .ok());
  EXPECT_THAT(reader.Sweep(SweepId{1})->annotations.tags, ElementsAre("baseline"));
  EXPECT_EQ(reader.Sweep(SweepId{1})->annotations.note, "");
  EXPECT_EQ(Number("SELECT count(*) FROM v_sweep WHERE tags = 'baseline' AND note IS NULL"), 1);
  EXPECT_FALSE(Commit({PutTag{.trial = TrialId{9}, .tag = "x"}}).ok()) << "of nothing";
}

TEST_F(StoreEditTest, ACellIsRenamedAndFlaggedOnce) {
  AddTrial(1, 2);
  AddSweep(1, {1});
  ASSERT_TRUE(Commit({RenameCell{SweepId{1}, 0, "lr=1", "{\"train.lr\": 1}"},
                      FlagCell{SweepId{1}, 0, "removed"}, FlagCell{SweepId{1}, 0, "removed"}})
                  .ok());
  EXPECT_EQ(
      Number("SELECT count(*) FROM cell WHERE name = 'lr=1' AND flags_json = '[\"removed\"]'"), 1);
}

TEST_F(StoreEditTest, AnImportedTrialSaysSoInTheViews) {
  AddTrial(1, 5);
  AddSweep(1, {1});
  ASSERT_TRUE(Commit({InsertTrialOrigin{TrialId{1}, true, "{\"csv\": \"x\"}"}}).ok());
  EXPECT_EQ(Number("SELECT is_foreign FROM v_trial"), 1);
  EXPECT_EQ(Number("SELECT is_foreign FROM v_cell"), 1);
  EXPECT_EQ(Number("SELECT count(*) FROM v_curve WHERE series = 'val/loss'"), 5);
  EXPECT_TRUE(Read().Trial(TrialId{1})->annotations.foreign);
  EXPECT_EQ(Read().FindByKey({"k1", "k2"})->at("k1").last.at("val/loss").value, 0.2);
}

TEST_F(StoreEditTest, ARemovedSweepTakesItsTrialsAndNobodyElses) {
  for (int64_t id : {1, 2, 3}) AddTrial(id, 100);
  AddSweep(1, {1, 2, 3});
  AddSweep(2, {2});
  ASSERT_TRUE(Commit({PutTag{.trial = TrialId{3}, .tag = "pinned"}}).ok());
  const RemovalCount count = *Read().WhatGoes(std::vector<SweepId>{SweepId{1}});
  EXPECT_THAT(count.trials, ElementsAre(TrialId{1}));
  EXPECT_EQ(count.shared, 1);
  EXPECT_EQ(count.pinned, 1);
  EXPECT_EQ(count.points, 103);
  EXPECT_EQ(count.records, 2);
  EXPECT_EQ(count.checkpoint_bytes, 200);
  EXPECT_EQ(count.attempts, 1);
  EXPECT_THAT(Read().WhatGoes(std::vector<SweepId>{SweepId{1}, SweepId{2}})->trials, SizeIs(2));

  ASSERT_TRUE(Commit({ForgetPlaces{.sweep = SweepId{1}, .limit = 2}}).ok());
  EXPECT_TRUE(*Read().HasPlaces(SweepId{1}));
  EXPECT_FALSE(Commit({ForgetSweep{SweepId{1}}}).ok()) << "it has places yet";
  ASSERT_TRUE(Commit({ForgetPlaces{.sweep = SweepId{1}, .limit = 2}}).ok());
  EXPECT_FALSE(*Read().HasPlaces(SweepId{1}));
  ASSERT_TRUE(Commit({ForgetSweep{SweepId{1}}}).ok());
  EXPECT_THAT(Damage(), IsEmpty()) << "in the middle too";
  EXPECT_THAT(*Read().Removed(10), ElementsAre(TrialId{1}));
  // Its key is free, and nobody takes it up again.
  EXPECT_THAT(*store_->FindByKey({"k1"}), IsEmpty());
  EXPECT_FALSE(*store_->Find(TrialId{1}));
  EXPECT_FALSE(
      Commit({InsertSweepTrial{{.sweep = SweepId{2}, .idx = 1, .trial = TrialId{1}}}}).ok());

  int64_t turns = 0;
  for (; !Read().Removed(1)->empty(); ++turns) Purge(1, 10);
  EXPECT_GE(turns, 10);  // a little at a time
  EXPECT_EQ(Number("SELECT count(*) FROM trial"), 2);
  EXPECT_EQ(Number("SELECT count(*) FROM measurement"), 2 * 103);
  EXPECT_EQ(Number("SELECT count(*) FROM stage"), 4);
  EXPECT_EQ(Number("SELECT count(*) FROM checkpoint"), 4);
  EXPECT_EQ(Number("SELECT count(*) FROM v_trial"), 1) << "the pinned one has no place";
  EXPECT_THAT(Damage(), IsEmpty());
}

TEST_F(StoreEditTest, IdsOfWhatIsGoneAreNotGivenAgain) {
  AddTrial(1, 3);
  AddTrial(2, 3);
  AddSweep(1, {1});
  AddSweep(2, {2});
  ASSERT_TRUE(
      Commit({ForgetPlaces{.sweep = SweepId{2}, .limit = 9}, ForgetSweep{SweepId{2}}}).ok());
  Purge(2, 1000);
  Purge(2, 1000);  // again, harmless
  store_.reset();
  Open();
  const absl::StatusOr<ClusterSnapshot> s = store_->Load();
  EXPECT_EQ(s->last_sweep, SweepId{2});
  EXPECT_EQ(s->last_trial, TrialId{2});
  EXPECT_EQ(s->last_stage, StageId{5});
}

TEST_F(StoreEditTest, ASweepThatLosesOneTrialCountsTheOthers) {
  AddTrial(1, 3);
  AddTrial(2, 3);
  AddSweep(1, {1, 2});
  ASSERT_TRUE(Commit({ForgetPlaces{.trial = TrialId{2}, .limit = 1}}).ok());
  Purge(2, 1000);
  EXPECT_EQ(Number("SELECT trials FROM sweep_state WHERE sweep_id = 1"), 1);
  EXPECT_EQ(Number("SELECT steps_done FROM sweep_total WHERE sweep_id = 1"), 11);
  EXPECT_THAT(Damage(), IsEmpty());
}

// Trial 2 began from a checkpoint of trial 1: its curve begins with the other's points.
TEST_F(StoreEditTest, ATrialStaysAsLongAsOneThatBeganFromIt) {
  AddTrial(1, 10);
  AddTrial(2, 4);
  AddSweep(1, {1});
  AddSweep(2, {2});
  ASSERT_TRUE(store_->database()
                  .Execute("UPDATE stage SET branch_stage_id = 2, branch_step = 5 WHERE id = 4")
                  .ok());
  const char curve[] = "SELECT count(*) FROM v_curve WHERE sweep_id = 2 AND series = 'val/loss'";
  ASSERT_EQ(Number(curve), 4 + 6);
  EXPECT_THAT(Read().WhatGoes(std::vector<SweepId>{SweepId{1}})->trials, IsEmpty());
  EXPECT_EQ(Read().WhatGoes(std::vector<SweepId>{SweepId{1}})->needed, 1);
  EXPECT_EQ(Read().WhatGoes(std::vector<TrialId>{TrialId{1}})->needed, 1);
  EXPECT_THAT(Read().WhatGoes(std::vector<SweepId>{SweepId{1}, SweepId{2}})->trials, SizeIs(2));
  const absl::StatusOr<Extracted> out = Extract(path_, dir_ + "/out.db", {2}, 1);
  ASSERT_TRUE(out.ok()) << out.status();
  EXPECT_EQ(out->trials, 2);

  ASSERT_TRUE(
      Commit({ForgetPlaces{.sweep = SweepId{1}, .limit = 9}, ForgetSweep{SweepId{1}}}).ok());
  EXPECT_THAT(*Read().Removed(9), IsEmpty());
  EXPECT_EQ(Number(curve), 4 + 6);
  EXPECT_THAT(*store_->FindByKey({"k1"}), SizeIs(1)) << "who asks for it again has it";
  ASSERT_TRUE(
      Commit({ForgetPlaces{.sweep = SweepId{2}, .limit = 9}, ForgetSweep{SweepId{2}}}).ok());
  EXPECT_THAT(*Read().Removed(9), ElementsAre(TrialId{2}));
  Purge(2, 1000);
  EXPECT_THAT(*Read().Removed(9), ElementsAre(TrialId{1})) << "it had stayed for that one alone";
  Purge(1, 1000);
  EXPECT_EQ(Number("SELECT count(*) FROM trial"), 0);
  EXPECT_THAT(Damage(), IsEmpty());
}

TEST_F(StoreEditTest, WhatIsSomebodysIsNotPurged) {
  AddTrial(1, 3);
  AddSweep(1, {1});
  Purge(1, 1000);
  EXPECT_EQ(Number("SELECT count(*) FROM measurement"), 6);
}

TEST_F(StoreEditTest, TheTextOfTheLastEditIsThePresentOne) {
  AddTrial(1, 3);
  AddSweep(1, {1});
  Reader reader = Read();
  EXPECT_EQ(*reader.PresentYaml(SweepId{1}), "");
  ASSERT_TRUE(Commit({InsertAddition{{.sweep = SweepId{1},
                                      .idx = 1,
                                      .name = "edit r1 h",
                                      .payload_json = R"({"kind": "edit", "yaml": "sweep: one"})"}},
                      InsertAddition{{.sweep = SweepId{1},
                                      .idx = 2,
                                      .name = "edit r2 h",
                                      .payload_json = R"({"kind": "edit", "yaml": "sweep: two"})"}},
                      InsertAddition{{.sweep = SweepId{1}, .idx = 3, .name = "winner of cell 0"}}})
                  .ok());
  EXPECT_EQ(*reader.PresentYaml(SweepId{1}), "sweep: two");
  EXPECT_EQ(*reader.SweepYaml(SweepId{1}), "");
}

}  // namespace
}  // namespace plumb::store
