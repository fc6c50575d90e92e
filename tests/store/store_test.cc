#include "store/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

#include "absl/strings/str_cat.h"
#include "store/backup.h"
#include "store/migrations.h"
#include "store/read.h"

namespace plumb::store {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class StoreTest : public ::testing::Test {
 protected:
  StoreTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "plumb-test-XXXXXX").string();
    dir_ = mkdtemp(pattern.data());
    path_ = dir_ + "/plumb.db";
  }
  ~StoreTest() override {
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
  // One sweep, one trial, one stage, one worker, its first attempt running.
  void OpenWithAttempt() {
    Open();
    ASSERT_TRUE(
        Commit({InsertSweep{{.id = SweepId{1}, .name = "s", .request_id = "r", .trials = 1}},
                InsertCell{{.sweep = SweepId{1}, .idx = 0, .name = "c"}},
                InsertTrial{{.id = TrialId{1}, .key = "k"}},
                InsertStage{{.id = StageId{1},
                             .trial = TrialId{1},
                             .name = "pretrain",
                             .kind = "pretrain",
                             .target_step = 3}},
                InsertSweepTrial{{.sweep = SweepId{1}, .trial = TrialId{1}}},
                UpsertWorker{{.id = WorkerId{1}, .name = "w", .slots = 1, .session = SessionId{1}}},
                Opened(1)})
            .ok());
  }
  Change Opened(int64_t number, int64_t keep = -1) {
    return OpenAttempt{.row = {.id = {StageId{1}, number},
                               .incarnation = 1,
                               .worker = WorkerId{1},
                               .session = SessionId{1}},
                       .keep_through_step = keep};
  }
  Fence At(int64_t number) {
    return {.incarnation = 1, .attempt = {StageId{1}, number}, .session = SessionId{1}};
  }
  Change Batch(int64_t first, int64_t last, std::vector<MeasurementBatch::Point> points,
               int64_t number = 1) {
    auto b = std::make_shared<MeasurementBatch>();
    b->first_seq = first;
    b->last_seq = last;
    b->series.push_back({.name = "train/loss", .points = std::move(points)});
    return ApplyBatch{.fence = At(number), .batch = b};
  }
  Change Records(int64_t seq, std::vector<MeasurementBatch::Record> records, int64_t number = 1) {
    auto b = std::make_shared<MeasurementBatch>();
    b->first_seq = b->last_seq = seq;
    b->records = std::move(records);
    return ApplyBatch{.fence = At(number), .batch = b};
  }
  // Every row of a query, columns joined by '|'; NULL is "-".
  std::vector<std::string> Query(const std::string& sql) {
    absl::StatusOr<Database> db = Database::Open(path_, Database::Mode::kReadOnly);
    EXPECT_TRUE(db.ok()) << db.status();
    absl::StatusOr<Statement> s = db->Prepare(sql);
    EXPECT_TRUE(s.ok()) << s.status();
    std::vector<std::string> out;
    while (*s->Step()) {
      std::string row;
      for (int i = 0; i < s->columns(); ++i) {
        absl::StrAppend(&row, i > 0 ? "|" : "", s->IsNull(i) ? "-" : s->Text(i));
      }
      out.push_back(row);
    }
    return out;
  }

  std::string dir_, path_;
  std::unique_ptr<Store> store_;
};

TEST_F(StoreTest, NewFileGetsTheSchemaAndIsPlumbs) {
  Open();
  EXPECT_THAT(Query("PRAGMA user_version"), ElementsAre(absl::StrCat(Migrations().size())));
  EXPECT_THAT(Query("PRAGMA application_id"), ElementsAre(absl::StrCat(kApplicationId)));
  EXPECT_THAT(
      Query("SELECT name FROM sqlite_schema WHERE type = 'view' ORDER BY name"),
      ElementsAre("sweep_recount", "v_attention", "v_cell", "v_curve", "v_finetune", "v_generation",
                  "v_lineage", "v_linear_probe", "v_linearity", "v_linearity_state", "v_painters",
                  "v_prune", "v_record", "v_route", "v_sweep", "v_task", "v_topk", "v_trial"));
  store_.reset();
  Open();
  EXPECT_EQ(store_->Load()->starts, 2);
}

TEST_F(StoreTest, NewerSchemaIsRefusedAndLeftAlone) {
  Open();
  ASSERT_TRUE(store_->database().Execute("PRAGMA user_version = 99").ok());
  store_.reset();
  const absl::Status s = Store::Open(path_, 1).status();
  EXPECT_EQ(s.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(s.message()), HasSubstr("use a newer plumb"));
  EXPECT_THAT(Query("PRAGMA user_version"), ElementsAre("99"));
  EXPECT_THAT(Query("SELECT starts FROM cluster"), ElementsAre("1"));
}

TEST_F(StoreTest, FileOfAnotherProgramIsRefusedAndLeftAlone) {
  {
    absl::StatusOr<Database> db = Database::Open(path_, Database::Mode::kCreate);
    ASSERT_TRUE(db->Execute("CREATE TABLE theirs (x)").ok());
  }
  EXPECT_THAT(std::string(Store::Open(path_, 1).status().message()), HasSubstr("another program"));
  EXPECT_THAT(Query("SELECT name FROM sqlite_schema"), ElementsAre("theirs"));
  std::ofstream(path_, std::ios::trunc) << std::string(4096, 'x');
  EXPECT_THAT(std::string(Store::Open(path_, 1).status().message()),
              HasSubstr("cannot be read as a database"));
}

TEST_F(StoreTest, SecondServerOnOneFileIsRefusedByName) {
  Open();
  const absl::Status s = Store::Open(path_, 1).status();
  EXPECT_EQ(s.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(s.message()), HasSubstr(absl::StrCat("process ", getpid())));
}

TEST_F(StoreTest, BatchIsAppliedOnceAndInOrder) {
  OpenWithAttempt();
  EXPECT_TRUE(Commit({Batch(1, 2, {{1, 0.5}, {2, 0.25}})}).ok());
  EXPECT_EQ(Commit({Batch(1, 2, {{1, 9}})}).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Commit({Batch(4, 5, {{4, 9}})}).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Query("SELECT step, value FROM measurement ORDER BY step"),
              ElementsAre("1|0.5", "2|0.25"));
  EXPECT_THAT(Query("SELECT acked_seq FROM attempt"), ElementsAre("2"));
}

TEST_F(StoreTest, NonFiniteValuesAreNull) {
  OpenWithAttempt();
  ASSERT_TRUE(
      Commit({Batch(1, 1,
                    {{1, std::nan("")}, {2, std::numeric_limits<double>::infinity()}, {3, 1.5}})})
          .ok());
  EXPECT_THAT(Query("SELECT step, value FROM measurement ORDER BY step"),
              ElementsAre("1|-", "2|-", "3|1.5"));
}

TEST_F(StoreTest, NewAttemptRollsBackWhatWasMeasuredPastTheCheckpoint) {
  OpenWithAttempt();
  auto b = std::make_shared<MeasurementBatch>();
  b->first_seq = 3;
  b->last_seq = 3;
  b->checkpoints = {{.step = 2, .path = "p", .digest = "d"}};
  b->documents = {{.split = "test", .document = 0, .nll = 1, .tokens = 2, .bytes = 3}};
  ASSERT_TRUE(
      Commit({Batch(1, 2, {{1, 1.0}, {2, 2.0}, {3, 3.0}}), ApplyBatch{.fence = At(1), .batch = b}})
          .ok());
  ASSERT_TRUE(
      Commit({CloseAttempt{.fence = At(1), .outcome = Outcome::kLost}, Opened(2, /*keep=*/2)})
          .ok());
  EXPECT_THAT(Query("SELECT step FROM measurement ORDER BY step"), ElementsAre("1", "2"));
  EXPECT_THAT(Query("SELECT count(*) FROM document_score"), ElementsAre("0"));
  EXPECT_THAT(Query("SELECT step FROM checkpoint"), ElementsAre("2"));
  EXPECT_TRUE(Commit({Batch(1, 1, {{3, 3.5}}, /*number=*/2)}).ok());
  EXPECT_THAT(Query("SELECT value FROM measurement WHERE step = 3"), ElementsAre("3.5"));
}

TEST_F(StoreTest, NewAttemptKeepsDocumentsWhereTheLastCheckpointIsThere) {
  OpenWithAttempt();
  auto b = std::make_shared<MeasurementBatch>();
  b->first_seq = b->last_seq = 1;
  b->checkpoints = {{.step = 3, .path = "p", .digest = "d"}};
  b->documents = {{.split = "test", .document = 0, .nll = 1, .tokens = 2, .bytes = 3}};
  ASSERT_TRUE(Commit({ApplyBatch{.fence = At(1), .batch = b},
                      CloseAttempt{.fence = At(1), .outcome = Outcome::kLost}, Opened(2, 3)})
                  .ok());
  EXPECT_THAT(Query("SELECT count(*) FROM document_score"), ElementsAre("1"));
}

TEST_F(StoreTest, RecordIsWrittenOnceAndSaidAgainReplaces) {
  OpenWithAttempt();
  ASSERT_TRUE(
      Commit({Records(1, {{"noop", "a", 0, 1, R"({"v": 1})"}, {"noop", "a", 1, 1, R"({"v": 2})"}})})
          .ok());
  EXPECT_EQ(Commit({Records(1, {{"noop", "a", 0, 1, R"({"v": 9})"}})}).code(),
            absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(Commit({Records(2, {{"noop", "a", 1, 2, R"({"v": 3})"}})}).ok());
  EXPECT_THAT(Query("SELECT sweep, cell, trial_id, stage, kind, name, idx, step, data_json FROM "
                    "v_record ORDER BY idx"),
              ElementsAre(R"(s|c|1|pretrain|noop|a|0|1|{"v": 1})",
                          R"(s|c|1|pretrain|noop|a|1|2|{"v": 3})"));
}

TEST_F(StoreTest, NewAttemptRollsBackRecordsPastTheCheckpoint) {
  OpenWithAttempt();
  ASSERT_TRUE(
      Commit({Records(1, {{"route", "val", 0, 2, "{}"}, {"route", "val", 1, 3, "{}"}}),
              CloseAttempt{.fence = At(1), .outcome = Outcome::kLost}, Opened(2, /*keep=*/2)})
          .ok());
  EXPECT_THAT(Query("SELECT step FROM record"), ElementsAre("2"));
  ASSERT_TRUE(Commit({CloseAttempt{.fence = At(2), .outcome = Outcome::kLost}, Opened(3)}).ok());
  EXPECT_THAT(Query("SELECT count(*) FROM record"), ElementsAre("0"));
  EXPECT_THAT(std::string(Commit({Records(2, {{"route", "val", 0, 2, "{}"}})}).message()),
              HasSubstr("fenced"));
}

TEST_F(StoreTest, RecordThatIsNoObjectOrOverOneMebibyteIsRefusedByName) {
  OpenWithAttempt();
  const auto refused = [&](const std::string& json) {
    return std::string(Commit({Records(1, {{"k", "n", 0, 1, json}})}).message());
  };
  EXPECT_THAT(refused("{"), HasSubstr("record k n 0 is no JSON object"));
  EXPECT_THAT(refused("[1]"), HasSubstr("record k n 0 is no JSON object"));
  const std::string frame = R"({"x":""})";
  EXPECT_THAT(refused(R"({"x":")" + std::string((1 << 20) - frame.size() + 1, 'x') + R"("})"),
              HasSubstr("a_record_has_at_most_1_mib"));
  EXPECT_TRUE(
      Commit({Records(1, {{"k", "n", 0, 1,
                           R"({"x":")" + std::string((1 << 20) - frame.size(), 'x') + R"("})"}})})
          .ok());
}

TEST_F(StoreTest, ViewsTakeRecordsApart) {
  OpenWithAttempt();
  ASSERT_TRUE(
      Commit(
          {Records(
              1,
              {{"route", "test", 0, 1,
                R"({"part":"en","document":7,"path":[-1,0,3,3],"probabilities":[[1]],"layer_evaluations":3})"},
               {"topk", "0", 0, 1,
                R"({"prompt":"a","candidates":[{"id":5,"text":"x","p":0.5,"p_renormalised":0.8},
                    {"id":6,"text":"y","p":0.125,"p_renormalised":0.2}]})"},
               {"generation", "0", 0, 1,
                R"({"prompt":"a","text":"bc","tokens":[1,2],"sampler":"greedy","temperature":null,"top_k":0,"top_p":1.0,"seed":3})"},
               {"attention", "0", 0, 1,
                R"({"prompt":"a","layer":1,"head":2,"tokens":["a","b"],"matrix":[[1,0],[0.5,0.5]],
                    "mean_diagonal_thirds":[1,0.75,0.5],"row_entropy":[0,1],"comma_mass":0.25})"},
               {"painters", "skip", 1, 1,
                R"({"variant":"skip","start_layer":1,"repeat":1,"seed":0,"loss":2.5,"perplexity":12.18,"tokens":99})"},
               {"finetune", "t", 2, 1,
                R"({"task":"t","seed":2,"examples":9,"accuracy":0.5,"loss":null,"nonfinite_batches":1})"},
               {"linearity", "half", 1, 1,
                R"({"group":"half","from":2,"to":4,"score":0.9,"score_without":0.5,"adjusted":null,"rho":0.7,
                    "rank":16,"n":800,"definition":1,"warnings":["few","fewer"]})"},
               {"linearity_state", "state", 3, 1,
                R"({"state":3,"norm":5.5,"kurtosis":3.25,"token_cosine":0.1,"definition":1})"},
               {"prune", "distil", 2, 1,
                R"({"method":"distil","layers_removed":2,"removed":[3,1],"order":"score","loss":2.25,
                    "tokens":64,"distil":"maps","tasks":{"a":{"acc":0.5}}})"},
               {"linear_probe", "position/ridge", 4, 1,
                R"({"property":"position","method":"ridge","state":4,"accuracy":0.75,"accuracy_stderr":0.125,"r2":0.5})"},
               {"task", "all", 0, 1,
                R"({"task":"f.jsonl","format":"arc","items":8,"acc":0.25,"acc_stderr":0.125,"cut":0})"}})})
          .ok());
  EXPECT_THAT(Query("SELECT part, document, path, distinct_layers, layer_evaluations FROM v_route"),
              ElementsAre("en|7|[-1,0,3,3]|2|3"));
  EXPECT_THAT(
      Query("SELECT prompt, rank, token, text, p, p_renormalised FROM v_topk ORDER BY rank"),
      ElementsAre("a|1|5|x|0.5|0.8", "a|2|6|y|0.125|0.2"));
  EXPECT_THAT(
      Query("SELECT text, n_tokens, sampler, temperature, top_k, top_p, seed FROM v_generation"),
      ElementsAre("bc|2|greedy|-|0|1.0|3"));
  EXPECT_THAT(Query("SELECT layer, head, mean_diagonal_first, mean_diagonal_middle, "
                    "mean_diagonal_last, mean_row_entropy, comma_mass, tokens FROM v_attention"),
              ElementsAre(R"(1|2|1|0.75|0.5|0.5|0.25|["a","b"])"));
  EXPECT_THAT(Query("SELECT variant, start_layer, loss, tokens FROM v_painters"),
              ElementsAre("skip|1|2.5|99"));
  EXPECT_THAT(Query("SELECT task, accuracy, loss, nonfinite_batches FROM v_finetune"),
              ElementsAre("t|0.5|-|1"));
  EXPECT_THAT(Query("SELECT move, idx, from_state, to_state, score, score_without, adjusted, "
                    "held_out, rho, rank, n, warnings FROM v_linearity"),
              ElementsAre("half|1|2|4|0.9|0.5|-|-|0.7|16|800|2"));
  EXPECT_THAT(Query("SELECT state, norm, kurtosis, token_cosine, lens_loss FROM v_linearity_state"),
              ElementsAre("3|5.5|3.25|0.1|-"));
  EXPECT_THAT(Query("SELECT method, layers_removed, removed, removal_order, loss, perplexity, "
                    "tokens, distil, tasks FROM v_prune"),
              ElementsAre(R"(distil|2|[3,1]|score|2.25|-|64|maps|{"a":{"acc":0.5}})"));
  EXPECT_THAT(Query("SELECT property, method, state, accuracy, accuracy_stderr, r2, loss FROM "
                    "v_linear_probe"),
              ElementsAre("position|ridge|4|0.75|0.125|0.5|-"));
  EXPECT_THAT(
      Query("SELECT item_group, task, format, items, acc, acc_stderr, acc_norm FROM v_task"),
      ElementsAre("all|f.jsonl|arc|8|0.25|0.125|-"));
}

TEST_F(StoreTest, StageThatFollowsDoesNotChangeHowItsTrainingCounts) {
  OpenWithAttempt();
  ASSERT_TRUE(
      Commit({InsertStage{{.id = StageId{2},
                           .trial = TrialId{1},
                           .name = "probe",
                           .kind = "probe",
                           .parent = StageId{1},
                           .state = StageState::kFailed}},
              UpdateStage{{.id = StageId{1}, .state = StageState::kSucceeded, .attempts = 1}},
              UpdateTrial{TrialId{1}, StageState::kFailed}})
          .ok());
  EXPECT_THAT(Query("SELECT state, train_state FROM v_trial"), ElementsAre("failed|succeeded"));
  EXPECT_THAT(Query("SELECT n, n_succeeded, n_diverged FROM v_cell"), ElementsAre("1|1|0"));
}

TEST_F(StoreTest, SchemaOneWithRowsIsBroughtUpToDateAndKeepsThem) {
  {
    absl::StatusOr<Database> db = Database::Open(path_, Database::Mode::kCreate);
    ASSERT_TRUE(db->Execute(Migrations()[0]).ok());
    const absl::Status filled = db->Execute(absl::StrCat(
        "PRAGMA application_id = ", kApplicationId, "; PRAGMA user_version = 1;",
        "INSERT INTO cluster VALUES (1, 3, 7, 0, 0);"
        "INSERT INTO sweep VALUES (1, 's', 'running', 'r', 'h', 'sweep: s', 'val/loss', 1, 1, 0, "
        "NULL);"
        "INSERT INTO cell VALUES (1, 1, 0, 'c', '{}', '[]');"
        "INSERT INTO trial VALUES (1, 'k', 'f', '{}', 'running', 1, 1, 1, 1, 1, 1, 1, '', '', '', "
        "0, '', '', 1, 1, 1, 0.5, 0, 0, 1, 1, 1, 1, 1, 1.0, 0);"
        "INSERT INTO sweep_trial VALUES (1, 0, 1, 1, 0, 0, 0);"
        "INSERT INTO stage VALUES (1, 1, 'pretrain', 'pretrain', NULL, '{}', 'running', 0, 9, 4, "
        "1, 0, 0, 1, -1, NULL, NULL, '');"
        "INSERT INTO worker VALUES (1, 'w', 'h', 1, 'b', '[]', 1, 'connected', 0);"
        "INSERT INTO attempt VALUES (1, 1, 3, 1, 1, -1, 0, 2, NULL, '', '', '{}', 0, NULL);"
        "INSERT INTO series VALUES (1, 1, 'val/loss', -1, 1);"
        "INSERT INTO measurement VALUES (1, 4, 0.5);"));
    ASSERT_TRUE(filled.ok()) << filled;
  }
  EXPECT_THAT(std::string(Reader::Open(path_).status().message()), HasSubstr("older schema (1)"));
  Open();
  EXPECT_THAT(Query("PRAGMA user_version"), ElementsAre(absl::StrCat(Migrations().size())));
  EXPECT_THAT(Query("SELECT sweep, trial_id, val_loss FROM v_trial"), ElementsAre("s|1|0.5"));
  EXPECT_THAT(Query("SELECT steps_done, steps_total FROM sweep_total"), ElementsAre("4|9"));
  EXPECT_THAT(Query("SELECT state, trials FROM sweep_state"), ElementsAre("running|1"));
  EXPECT_THAT(Query("SELECT ranks, gang FROM stage, worker"), ElementsAre("1|"));
  EXPECT_EQ(store_->Load()->starts, 8);
  EXPECT_THAT(Query("SELECT count(*) FROM v_record"), ElementsAre("0"));
  // Its running attempt goes on, and may say records now.
  auto b = std::make_shared<MeasurementBatch>();
  b->first_seq = b->last_seq = 3;
  b->records = {{"noop", "a", 0, 1, "{}"}};
  Fence fence = At(1);
  fence.incarnation = 3;
  ASSERT_TRUE(Commit({ApplyBatch{.fence = fence, .batch = b}}).ok());
  EXPECT_THAT(Query("SELECT sweep, kind FROM v_record"), ElementsAre("s|noop"));
}

TEST_F(StoreTest, SumsOverASweepAreWhatItsTrialsSay) {
  OpenWithAttempt();
  const auto totals = [&] {
    EXPECT_THAT(Query("SELECT * FROM sweep_total EXCEPT SELECT * FROM sweep_recount"), IsEmpty());
    return Query(
        "SELECT sweep_id, steps_done, steps_total, tokens_done, flops_done, flops_total "
        "FROM sweep_total ORDER BY sweep_id");
  };
  const auto states = [&] {
    return Query(
        "SELECT sweep_id, state, trials FROM sweep_state WHERE trials > 0 "
        "ORDER BY sweep_id, state");
  };
  EXPECT_THAT(totals(), ElementsAre("1|0|3|0|0.0|0.0"));
  EXPECT_THAT(states(), ElementsAre("1|pending|1"));
  // A second sweep shares the trial and brings one of its own, whose stage comes before its link.
  ASSERT_TRUE(Commit({InsertSweep{{.id = SweepId{2}, .name = "t", .request_id = "q", .trials = 2}},
                      InsertCell{{.sweep = SweepId{2}, .idx = 0, .name = "c"}},
                      InsertTrial{{.id = TrialId{2},
                                   .key = "l",
                                   .batch_tokens = 8,
                                   .flops_per_token = 10,
                                   .flops = 400}},
                      InsertStage{{.id = StageId{2},
                                   .trial = TrialId{2},
                                   .name = "pretrain",
                                   .kind = "pretrain",
                                   .target_step = 5}},
                      InsertSweepTrial{{.sweep = SweepId{2}, .trial = TrialId{1}, .shared = 1}},
                      InsertSweepTrial{{.sweep = SweepId{2}, .idx = 1, .trial = TrialId{2}}},
                      InsertStage{{.id = StageId{3},
                                   .trial = TrialId{2},
                                   .name = "probe",
                                   .kind = "probe",
                                   .target_step = 1}}})
                  .ok());
  EXPECT_THAT(totals(), ElementsAre("1|0|3|0|0.0|0.0", "2|0|9|0|0.0|400.0"));
  ASSERT_TRUE(Commit({UpdateStage{{.id = StageId{1}, .step = 3, .attempts = 1}},
                      UpdateStage{{.id = StageId{2}, .kind = "pretrain", .step = 4}},
                      UpdateTrial{TrialId{1}, StageState::kSucceeded},
                      UpdateTrial{TrialId{2}, StageState::kRunning}})
                  .ok());
  EXPECT_THAT(totals(), ElementsAre("1|3|3|0|0.0|0.0", "2|7|9|32|320.0|400.0"));
  EXPECT_THAT(states(), ElementsAre("1|succeeded|1", "2|running|1", "2|succeeded|1"));
  // Rolled back.
  ASSERT_TRUE(Commit({UpdateStage{{.id = StageId{2}, .step = 1}},
                      UpdateTrial{TrialId{2}, StageState::kPending}})
                  .ok());
  EXPECT_THAT(totals(), ElementsAre("1|3|3|0|0.0|0.0", "2|4|9|8|80.0|400.0"));
  EXPECT_THAT(states(), ElementsAre("1|succeeded|1", "2|pending|1", "2|succeeded|1"));
  // And a file that says something else is not taken for sound.
  store_.reset();
  EXPECT_THAT(Check(path_)->damage, IsEmpty());
  {
    absl::StatusOr<Database> db = Database::Open(path_, Database::Mode::kReadWrite);
    ASSERT_TRUE(db->Execute("UPDATE sweep_total SET steps_done = 5 WHERE sweep_id = 2").ok());
  }
  EXPECT_THAT(Check(path_)->damage, ElementsAre(HasSubstr("1 sums over sweeps")));
}

TEST_F(StoreTest, FailedChangeTakesItsWholeTransactionBack) {
  OpenWithAttempt();
  const absl::Status s =
      Commit({Batch(1, 1, {{1, 1.0}}), InsertTrial{{.id = TrialId{2}, .key = "k"}}});
  EXPECT_EQ(s.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Query("SELECT count(*) FROM measurement"), ElementsAre("0"));
  // The dictionary of series forgets what was taken back.
  EXPECT_TRUE(Commit({Batch(1, 1, {{1, 1.0}})}).ok());
  EXPECT_THAT(Query("SELECT name, value FROM series JOIN measurement ON series_id = id"),
              ElementsAre("train/loss|1.0"));
}

TEST_F(StoreTest, EveryPartOfTheFenceIsChecked) {
  OpenWithAttempt();
  Fence other_session = At(1), other_incarnation = At(1);
  other_session.session = SessionId{2};
  other_incarnation.incarnation = 2;
  for (const Fence& fence : {At(2), other_session, other_incarnation}) {
    const absl::Status s = Commit({CloseAttempt{.fence = fence, .outcome = Outcome::kSucceeded}});
    EXPECT_THAT(std::string(s.message()), HasSubstr("fenced"));
    EXPECT_THAT(
        std::string(Commit({AdoptAttempt{.fence = fence, .new_session = SessionId{3}}}).message()),
        HasSubstr("fenced"));
  }
  EXPECT_TRUE(Commit({CloseAttempt{.fence = At(1), .outcome = Outcome::kSucceeded}}).ok());
  EXPECT_THAT(std::string(Commit({Batch(1, 1, {{1, 1.0}})}).message()), HasSubstr("fenced"));
}

TEST_F(StoreTest, UpdateOfAStagePastItsAttemptIsFenced) {
  OpenWithAttempt();
  StageRow row{.id = StageId{1}, .state = StageState::kRunning, .attempts = 2};
  ASSERT_TRUE(Commit({UpdateStage{row}}).ok());
  row.attempts = 1;
  EXPECT_THAT(std::string(Commit({UpdateStage{row}}).message()), HasSubstr("fenced"));
}

TEST_F(StoreTest, CopyPutBackRaisesTheIncarnationAndEndsRunningAttempts) {
  OpenWithAttempt();
  ASSERT_TRUE(Commit({UpdateStage{{.id = StageId{1}, .state = StageState::kRunning, .attempts = 1}},
                      UpdateTrial{TrialId{1}, StageState::kRunning}})
                  .ok());
  store_.reset();
  std::filesystem::copy_file(path_, path_ + ".copy");
  Open();
  ASSERT_TRUE(Commit({SetIncarnation{4}}).ok());
  EXPECT_EQ(store_->incarnation(), 4);
  store_.reset();
  std::filesystem::rename(path_ + ".copy", path_);
  Open();
  EXPECT_EQ(store_->incarnation(), 5);
  EXPECT_THAT(Query("SELECT outcome FROM attempt"), ElementsAre("lost"));
  EXPECT_THAT(Query("SELECT s.state, t.state FROM stage s JOIN trial t ON t.id = s.trial_id"),
              ElementsAre("pending|pending"));
  store_.reset();
  Open();
  EXPECT_EQ(store_->incarnation(), 5);
}

TEST_F(StoreTest, CopyOfTheSameIncarnationIsKnownByHowFarItHasCome) {
  Open();
  ASSERT_TRUE(store_->Commit(absl::Seconds(5), {}).ok());
  store_.reset();
  std::filesystem::copy_file(path_, path_ + ".copy");
  Open();
  EXPECT_EQ(store_->incarnation(), 1) << "the file itself is not older than what lies beside it";
  ASSERT_TRUE(store_->Commit(absl::Seconds(6), {}).ok());
  store_.reset();
  std::filesystem::rename(path_ + ".copy", path_);
  Open();
  EXPECT_EQ(store_->incarnation(), 2);
}

TEST_F(StoreTest, LoadGivesBackWhatIsLive) {
  OpenWithAttempt();
  ASSERT_TRUE(
      Commit({UpdateStage{{.id = StageId{1},
                           .state = StageState::kRunning,
                           .step = 7,
                           .attempts = 1,
                           .not_before_ct = absl::Seconds(3),
                           .checkpoint_step = 5,
                           .checkpoint_path = "p"}},
              InsertTrial{{.id = TrialId{2}, .key = "done", .state = StageState::kSucceeded}},
              InsertStage{{.id = StageId{2},
                           .trial = TrialId{2},
                           .name = "pretrain",
                           .state = StageState::kSucceeded}}})
          .ok());
  const absl::StatusOr<ClusterSnapshot> s = store_->Load();
  ASSERT_TRUE(s.ok()) << s.status();
  EXPECT_EQ(s->cluster_time, absl::Seconds(1));
  EXPECT_EQ(s->last_trial, TrialId{2});
  ASSERT_EQ(s->trials.size(), 1);
  ASSERT_EQ(s->trials[0].stages.size(), 1);
  const StageRow& row = s->trials[0].stages[0];
  EXPECT_EQ(row.step, 7);
  EXPECT_EQ(row.not_before_ct, absl::Seconds(3));
  EXPECT_EQ(row.checkpoint_path, "p");
  ASSERT_EQ(s->attempts.size(), 1);
  EXPECT_EQ(s->links.size(), 1);
  const auto found = store_->FindByKey({"done", "none"});
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->at("done").trial.id, TrialId{2});
  EXPECT_EQ(found->size(), 1);
}

// From a file of this schema to those of older ones; views that it replaces are there, with columns
// enough for those that read them.
constexpr char kBackToTwelve[] =
    "DROP VIEW v_linearity; DROP VIEW v_linearity_state; DROP VIEW v_prune; "
    "DROP VIEW v_linear_probe; DROP VIEW v_task; "
    "DROP VIEW v_sweep; DROP VIEW v_cell; DROP VIEW v_trial; CREATE VIEW v_sweep AS SELECT 1; "
    "CREATE VIEW v_cell AS SELECT 1; CREATE VIEW v_trial AS SELECT 1; "
    "ALTER TABLE sweep DROP COLUMN objective_stage; ALTER TABLE sweep DROP COLUMN objective_at; "
    "ALTER TABLE sweep DROP COLUMN objective_goal; "
    "ALTER TABLE sweep_trial DROP COLUMN stages_json; PRAGMA user_version = 12;";
constexpr char kBackToEleven[] =
    "DROP VIEW v_cell; DROP VIEW v_trial; DROP VIEW v_curve; DROP VIEW v_lineage; "
    "CREATE VIEW v_cell AS SELECT 1; CREATE VIEW v_trial AS SELECT 1; "
    "CREATE VIEW v_curve AS SELECT 1; DROP TABLE trunk; DROP INDEX stage_by_prefix; "
    "DROP INDEX stage_by_branch; ALTER TABLE stage DROP COLUMN branch_step; "
    "ALTER TABLE stage DROP COLUMN branch_stage_id; ALTER TABLE stage DROP COLUMN trunk_step; "
    "ALTER TABLE stage DROP COLUMN prefix_key; PRAGMA user_version = 11;";
constexpr char kBackToTen[] =
    "DROP VIEW v_sweep; DROP VIEW v_cell; DROP VIEW v_trial; "
    "CREATE VIEW v_cell AS SELECT 1; CREATE VIEW v_trial AS SELECT 1; "
    "DROP TRIGGER removed_trial_is_not_shared; DROP TRIGGER sweep_trial_uncounted; "
    "DROP INDEX stage_by_parent; DROP TABLE sweep_tag; DROP TABLE trial_tag; "
    "DROP TABLE sweep_note; DROP TABLE trial_note; DROP TABLE sweep_origin; "
    "DROP TABLE trial_origin; DROP TABLE removed; PRAGMA user_version = 10;";
constexpr char kBackToNine[] =
    "DROP VIEW v_cell; DROP VIEW v_trial; DROP VIEW v_curve; DROP VIEW v_record; "
    "CREATE VIEW v_cell AS SELECT 1; CREATE VIEW v_trial AS SELECT 1; "
    "CREATE VIEW v_curve AS SELECT 1; CREATE VIEW v_record AS SELECT 1 AS sweep_id, 1 AS sweep, "
    "1 AS cell_id, 1 AS cell, 1 AS replicate, 1 AS aa, 1 AS trial_id, 1 AS stage, 1 AS kind, "
    "1 AS name, 1 AS idx, 1 AS step, 1 AS data_json; DROP TABLE look; "
    "ALTER TABLE cell DROP COLUMN tuned_json; ALTER TABLE stage DROP COLUMN until_step; "
    "PRAGMA user_version = 9;";
constexpr char kBackToEight[] =
    "DROP TABLE sweep_addition; ALTER TABLE sweep DROP COLUMN open; "
    "ALTER TABLE sweep_trial DROP COLUMN tune; PRAGMA user_version = 8;";

TEST_F(StoreTest, SchemaSixWithRowsGetsGangsAndKeepsThem) {
  OpenWithAttempt();
  store_.reset();
  {
    absl::StatusOr<Database> db = Database::Open(path_, Database::Mode::kCreate);
    ASSERT_TRUE(
        db->Execute(
              absl::StrCat(kBackToTwelve, kBackToEleven, kBackToTen, kBackToNine, kBackToEight,
                           "DROP TABLE server_start; DROP TABLE attempt_member; "
                           "ALTER TABLE stage DROP COLUMN ranks; ALTER TABLE worker DROP COLUMN "
                           "gang; PRAGMA user_version = 6;"))
            .ok());
  }
  Open();
  EXPECT_THAT(Query("SELECT ranks, gang FROM stage, worker"), ElementsAre("1|"));
  const absl::StatusOr<ClusterSnapshot> s = store_->Load();
  ASSERT_TRUE(s.ok()) << s.status();
  ASSERT_EQ(s->attempts.size(), 1);
  EXPECT_THAT(s->attempts[0].members, IsEmpty());
}

TEST_F(StoreTest, EachStartHasAPlaceInTheFileAndANameOfItsOwn) {
  Open();
  const int64_t first = store_->Load()->run;
  ASSERT_TRUE(store_->Commit(absl::Seconds(5), {}).ok());
  store_.reset();
  Open();
  const absl::StatusOr<ClusterSnapshot> s = store_->Load();
  EXPECT_NE(s->run, first);
  EXPECT_EQ(s->run_ends, (std::map<int64_t, absl::Duration>{{first, absl::Seconds(5)}}));
  store_.reset();
  {  // as schema 7 left it
    absl::StatusOr<Database> db = Database::Open(path_, Database::Mode::kCreate);
    ASSERT_TRUE(
        db->Execute(absl::StrCat(kBackToTwelve, kBackToEleven, kBackToTen, kBackToNine,
                                 kBackToEight, "DROP TABLE server_start; PRAGMA user_version = 7;"))
            .ok());
  }
  Open();
  EXPECT_NE(store_->Load()->run, 0);
  EXPECT_TRUE(store_->Load()->run_ends.empty());
}

TEST_F(StoreTest, WhatASweepGainsIsKeptInOrderAndOnce) {
  OpenWithAttempt();
  const auto add = [&](int64_t idx, const std::string& name) {
    return Commit({InsertAddition{{.sweep = SweepId{1},
                                   .idx = idx,
                                   .name = name,
                                   .payload_json = "{\"lr\": 1}",
                                   .trials = 3}},
                   UpdateSweep{.id = SweepId{1}, .trials = 4, .open = true}});
  };
  ASSERT_TRUE(add(0, "winner").ok());
  ASSERT_TRUE(add(1, "another").ok());
  EXPECT_FALSE(add(1, "third").ok());
  EXPECT_FALSE(add(2, "winner").ok());
  ASSERT_TRUE(
      Commit({InsertCell{{.sweep = SweepId{1}, .idx = 1, .name = "d"}},
              InsertTrial{{.id = TrialId{2}, .key = "k2"}},
              InsertSweepTrial{
                  {.sweep = SweepId{1}, .idx = 1, .cell_idx = 1, .trial = TrialId{2}, .tune = 1}}})
          .ok());
  const absl::StatusOr<ClusterSnapshot> s = store_->Load();
  ASSERT_EQ(s->additions.size(), 2);
  EXPECT_EQ(s->additions[0].name, "winner");
  EXPECT_EQ(s->additions[1].payload_json, "{\"lr\": 1}");
  EXPECT_EQ(s->sweeps[0].trials, 4);
  EXPECT_TRUE(s->sweeps[0].open);
  EXPECT_THAT(Query("SELECT idx, tune FROM sweep_trial ORDER BY idx"), ElementsAre("0|0", "1|1"));
}

TEST_F(StoreTest, SchemaEightWithRowsGetsGrowingSweepsAndKeepsThem) {
  OpenWithAttempt();
  store_.reset();
  {
    absl::StatusOr<Database> db = Database::Open(path_, Database::Mode::kCreate);
    ASSERT_TRUE(db->Execute(absl::StrCat(kBackToTwelve, kBackToEleven, kBackToTen, kBackToNine,
                                         kBackToEight))
                    .ok());
  }
  Open();
  EXPECT_THAT(Query("SELECT open, tune FROM sweep, sweep_trial"), ElementsAre("0|0"));
  EXPECT_FALSE(store_->Load()->sweeps[0].open);
}

TEST_F(StoreTest, SchemaNineWithRowsGetsRungsAndKeepsThem) {
  OpenWithAttempt();
  store_.reset();
  {
    absl::StatusOr<Database> db = Database::Open(path_, Database::Mode::kCreate);
    ASSERT_TRUE(
        db->Execute(absl::StrCat(kBackToTwelve, kBackToEleven, kBackToTen, kBackToNine)).ok());
  }
  Open();
  EXPECT_THAT(Query("SELECT until_step, tuned_json FROM stage, cell"), ElementsAre("-1|{}"));
  EXPECT_THAT(Query("SELECT tune, n FROM v_trial JOIN v_cell USING (cell_id)"), ElementsAre("0|1"));
  EXPECT_TRUE(store_->Load()->looks.empty());
}

TEST_F(StoreTest, SchemaElevenWithRowsGetsTrunksAndKeepsThem) {
  OpenWithAttempt();
  ASSERT_TRUE(Commit({Batch(1, 1, {{1, 0.5}})}).ok());
  store_.reset();
  {
    absl::StatusOr<Database> db = Database::Open(path_, Database::Mode::kCreate);
    const absl::Status s = db->Execute(absl::StrCat(kBackToTwelve, kBackToEleven));
    ASSERT_TRUE(s.ok()) << s;
  }
  Open();
  EXPECT_THAT(Query("SELECT prefix_key, trunk_step, branch_stage_id, branch_step FROM stage"),
              ElementsAre("|0|-|0"));
  EXPECT_THAT(Query("SELECT step, value, source_trial_id FROM v_curve"), ElementsAre("1|0.5|1"));
  EXPECT_THAT(Query("SELECT branch_trial_id, branch_step, trunk_trial_id FROM v_trial"),
              ElementsAre("-|-|1"));
  EXPECT_THAT(store_->Load()->trunks, IsEmpty());
}

TEST_F(StoreTest, SchemaTwelveWithRowsGetsObjectivesAndKeepsThem) {
  OpenWithAttempt();
  ASSERT_TRUE(Commit({Batch(1, 1, {{1, 0.5}, {2, 0.25}}),
                      CloseAttempt{.fence = At(1), .outcome = Outcome::kSucceeded},
                      UpdateStage{{.id = StageId{1},
                                   .trial = TrialId{1},
                                   .kind = "pretrain",
                                   .state = StageState::kSucceeded}}})
                  .ok());
  store_.reset();
  {
    absl::StatusOr<Database> db = Database::Open(path_, Database::Mode::kCreate);
    ASSERT_TRUE(db->Execute("UPDATE sweep SET objective = 'train/loss', sweep_yaml = 'sweep: s'; "
                            "INSERT INTO sweep (id, name, state, request_id, request_hash, "
                            "sweep_yaml, objective, trials, cursor, create_time_us) VALUES (2, "
                            "'b', 'completed', 'q', 'h', 'report: {at: best}', 'train/loss', 0, 0, "
                            "1)")
                    .ok());
    const absl::Status s = db->Execute(kBackToTwelve);
    ASSERT_TRUE(s.ok()) << s;
  }
  Open();
  EXPECT_THAT(
      Query("SELECT sweep_id, objective, objective_stage, objective_at, objective_goal FROM "
            "v_sweep ORDER BY 1"),
      ElementsAre("1|train/loss||last|minimize", "2|train/loss|||minimize"));
  EXPECT_THAT(Query("SELECT train_loss, objective FROM v_trial"), ElementsAre("0.25|0.25"));
  EXPECT_THAT(Query("SELECT stages_json FROM sweep_trial"), ElementsAre("{}"));
  EXPECT_EQ(store_->Load()->sweeps[1].objective_at, "");
}

// A program of others as first stage, judged by a later stage that the trial calls otherwise.
TEST_F(StoreTest, AViewOfTrialsHasTheFirstStagesMetricsAndWhatTheSweepJudgesBy) {
  Open();
  const auto batch = [](int64_t stage, const std::string& series,
                        std::vector<MeasurementBatch::Point> points) {
    auto b = std::make_shared<MeasurementBatch>();
    b->series.push_back({.name = series, .points = std::move(points)});
    return PutResults{StageId{stage}, b, 1};
  };
  const auto sweep = [](int64_t id, const std::string& at, bool maximize) {
    return InsertSweep{{.id = SweepId{id},
                        .name = "s",
                        .request_id = absl::StrCat(id),
                        .objective = "score/acc",
                        .objective_stage = "score",
                        .objective_at = at,
                        .maximize = maximize,
                        .trials = 1}};
  };
  const auto stage = [](int64_t id, const std::string& name, StageState state, int64_t parent) {
    return InsertStage{{.id = StageId{id},
                        .trial = TrialId{1},
                        .name = name,
                        .kind = "external",
                        .parent = StageId{parent},
                        .state = state,
                        .target_step = 3}};
  };
  std::vector<Change> changes = {InsertTrial{{.id = TrialId{1}, .key = "k"}},
                                 stage(1, "run", StageState::kSucceeded, 0),
                                 stage(2, "score", StageState::kSucceeded, 1),
                                 stage(3, "score-2", StageState::kSucceeded, 1),
                                 stage(4, "score-3", StageState::kFailed, 1),
                                 batch(1, "val/loss", {{1, 3}, {2, 2.5}}),
                                 batch(2, "score/acc", {{1, 0.5}}),
                                 batch(3, "score/acc", {{1, 0.9}, {2, 0.7}, {3, 0.8}}),
                                 batch(4, "score/acc", {{1, 0.1}})};
  int64_t id = 0;
  for (const auto& [at, maximize, names] : std::vector<std::tuple<std::string, bool, std::string>>{
           {"last", true, "{}"},
           {"last", false, R"({"score":"score-2"})"},
           {"best", true, R"({"score":"score-2"})"},
           {"best", false, R"({"score":"score-2"})"},
           {"mean_last(2)", true, R"({"score":"score-2"})"},
           {"mean_last(4)", true, R"({"score":"score-2"})"},
           {"last", true, R"({"score":"score-3"})"}}) {
    changes.push_back(sweep(++id, at, maximize));
    changes.push_back(InsertCell{{.sweep = SweepId{id}, .idx = 0, .name = "c"}});
    changes.push_back(
        InsertSweepTrial{{.sweep = SweepId{id}, .trial = TrialId{1}, .stages_json = names}});
  }
  const absl::Status s = Commit(changes);
  ASSERT_TRUE(s.ok()) << s;
  EXPECT_THAT(Query("SELECT sweep_id, val_loss, objective FROM v_trial ORDER BY 1"),
              ElementsAre("1|2.5|0.5", "2|2.5|0.8", "3|2.5|0.9", "4|2.5|0.7", "5|2.5|0.75",
                          "6|2.5|-", "7|2.5|-"));
  EXPECT_THAT(
      Query("SELECT sweep_id, n_objective, mean_objective FROM v_cell WHERE sweep_id IN (3, "
            "7) ORDER BY 1"),
      ElementsAre("3|1|0.9", "7|0|-"));
  // And so do who asks for a trial, and who decides.
  absl::StatusOr<Reader> reader = Reader::Open(path_);
  ASSERT_TRUE(reader.ok());
  EXPECT_EQ(reader->Trials(SweepId{2}, "", 0, 10)->front().objective, 0.8);
  EXPECT_EQ(reader->Stages(SweepId{2}, "score")->at(TrialId{1}).stage, StageId{3});
  EXPECT_EQ(reader->Stages(SweepId{7}, "score")->at(TrialId{1}).state, StageState::kFailed);
  EXPECT_TRUE(reader->Stages(SweepId{1}, "none")->empty());
}

TEST_F(StoreTest, ATrialThatBranchedHasTheTrunksCurveAndItsOwnResults) {
  OpenWithAttempt();  // trial 1, of which 2 began at step 2, of which 3 began at step 4
  const auto series = [](int64_t stage, std::vector<MeasurementBatch::Point> points) {
    auto b = std::make_shared<MeasurementBatch>();
    b->first_seq = b->last_seq = 1;
    b->series.push_back({.name = "train/loss", .points = std::move(points)});
    return ApplyBatch{
        .fence = {.incarnation = 1, .attempt = {StageId{stage}, 1}, .session = SessionId{1}},
        .batch = b};
  };
  std::vector<Change> changes = {series(1, {{1, 0.1}, {2, 0.2}, {3, 9}})};
  for (int64_t id : {2, 3}) {
    const StageRow stage{.id = StageId{id},
                         .trial = TrialId{id},
                         .name = "pretrain",
                         .kind = "pretrain",
                         .prefix_key = "p",
                         .trunk_step = 2 * id};
    changes.push_back(InsertTrial{{.id = TrialId{id}, .key = absl::StrCat("k", id)}});
    changes.push_back(InsertStage{stage});
    changes.push_back(InsertSweepTrial{{.sweep = SweepId{1}, .idx = id - 1, .trial = TrialId{id}}});
    StageRow branched = stage;
    branched.branch_stage = StageId{id - 1};
    branched.branch_step = 2 * (id - 1);
    branched.attempts = 1;
    branched.checkpoint_step = 2 * (id - 1);
    branched.checkpoint_path = "path";
    branched.checkpoint_digest = "digest";
    changes.push_back(OpenAttempt{.row = {.id = {StageId{id}, 1},
                                          .incarnation = 1,
                                          .worker = WorkerId{1},
                                          .session = SessionId{1},
                                          .start_step = 2 * (id - 1)}});
    changes.push_back(UpdateStage{branched});
  }
  changes.push_back(series(2, {{3, 0.3}, {4, 0.4}, {5, 9}}));
  changes.push_back(series(3, {{5, 0.5}, {6, 0.6}}));
  const absl::Status s = Commit(changes);
  ASSERT_TRUE(s.ok()) << s;
  EXPECT_THAT(
      Query("SELECT step, value, source_trial_id FROM v_curve WHERE trial_id = 3 ORDER BY step"),
      ElementsAre("1|0.1|1", "2|0.2|1", "3|0.3|2", "4|0.4|2", "5|0.5|3", "6|0.6|3"));
  EXPECT_THAT(Query("SELECT step, value FROM v_curve WHERE trial_id = 2 ORDER BY step"),
              ElementsAre("1|0.1", "2|0.2", "3|0.3", "4|0.4", "5|9.0"));
  EXPECT_THAT(
      Query("SELECT trial_id, train_loss, branch_trial_id, branch_step, trunk_trial_id FROM "
            "v_trial ORDER BY trial_id"),
      ElementsAre("1|9.0|-|-|1", "2|9.0|1|2|1", "3|0.6|2|4|1"));
  EXPECT_THAT(Query("SELECT source_trial_id, through_step, generation FROM v_lineage WHERE "
                    "trial_id = 3 ORDER BY generation"),
              ElementsAre("2|4|1", "1|2|2"));
  const auto stages = store_->Find(TrialId{3});
  EXPECT_EQ((*stages)->stages[0].branch_stage, StageId{2});
  EXPECT_EQ((*stages)->stages[0].branch_step, 4);
  EXPECT_EQ((*stages)->stages[0].trunk_step, 6);
}

TEST_F(StoreTest, TrunksAreFoundByTheirPrefixKeyTheNewestStands) {
  OpenWithAttempt();
  const auto trunk = [](const std::string& prefix, int64_t step, const std::string& digest) {
    return PutTrunk{{.prefix_key = prefix,
                     .step = step,
                     .stage = StageId{1},
                     .path = "path",
                     .digest = digest}};
  };
  ASSERT_TRUE(
      Commit({trunk("p", 2, "a"), trunk("p", 2, "b"), trunk("p", 7, "c"), trunk("q", 1, "d")})
          .ok());
  ASSERT_TRUE(Commit({RemoveTrunk{"p", 7}, RemoveTrunk{"p", 8}}).ok());
  const auto found = store_->FindTrunks({"p", "none"});
  ASSERT_TRUE(found.ok()) << found.status();
  ASSERT_EQ(found->size(), 1);
  EXPECT_EQ(found->front().digest, "b");
  EXPECT_EQ(found->front().trial, TrialId{1});
  EXPECT_THAT(store_->Load()->trunks, IsEmpty()) << "of no live stage's prefix key";
}

TEST_F(StoreTest, SchemaTenWithRowsGetsTagsAndOriginsAndKeepsThem) {
  OpenWithAttempt();
  store_.reset();
  {
    absl::StatusOr<Database> db = Database::Open(path_, Database::Mode::kCreate);
    ASSERT_TRUE(db->Execute(absl::StrCat(kBackToTwelve, kBackToEleven, kBackToTen)).ok());
  }
  Open();
  EXPECT_THAT(Query("SELECT trial_id, tags, note, is_foreign, origin_json FROM v_trial"),
              ElementsAre("1|-|-|0|-"));
  EXPECT_THAT(Query("SELECT n, is_foreign FROM v_cell"), ElementsAre("1|0"));
  EXPECT_THAT(Query("SELECT sweep, tags, imported FROM v_sweep"), ElementsAre("s|-|0"));
  EXPECT_FALSE(store_->Load()->sweeps[0].imported);
  EXPECT_EQ(store_->Load()->last_trial, TrialId{1});
}

TEST_F(StoreTest, ATrialThatTunesIsInNoCellsMean) {
  OpenWithAttempt();
  ASSERT_TRUE(
      Commit({InsertTrial{{.id = TrialId{2}, .key = "k2"}},
              InsertSweepTrial{
                  {.sweep = SweepId{1}, .idx = 1, .cell_idx = 0, .trial = TrialId{2}, .tune = 1}}})
          .ok());
  EXPECT_THAT(Query("SELECT n FROM v_cell"), ElementsAre("1"));
  EXPECT_THAT(Query("SELECT tune FROM v_trial ORDER BY trial_id"), ElementsAre("0", "1"));
}

TEST_F(StoreTest, LooksAndWhatACellWasTunedToAndRungsAreKept) {
  OpenWithAttempt();
  const auto look = [&](int64_t seq, int64_t step, std::optional<double> value) {
    return Commit({InsertLook{
        {.sweep = SweepId{1}, .seq = seq, .trial_idx = 0, .step = step, .value = value}}});
  };
  ASSERT_TRUE(look(0, 10, 2.5).ok());
  ASSERT_TRUE(look(1, 20, std::nullopt).ok());
  EXPECT_FALSE(look(1, 30, 2.5).ok()) << "a place in the order is given once";
  EXPECT_FALSE(look(2, 20, 2.5).ok()) << "a value is judged once";
  EXPECT_EQ(store_->Load()->looks, (std::map<SweepId, int64_t>{{SweepId{1}, 2}}));
  EXPECT_THAT(Query("SELECT seq, step, value FROM look ORDER BY seq"),
              ElementsAre("0|10|2.5", "1|20|-"));
  ASSERT_TRUE(Commit({UpdateCell{.sweep = SweepId{1},
                                 .idx = 0,
                                 .flags_json = "[\"f\"]",
                                 .tuned_json = "{\"train.lr\":0.1}"}})
                  .ok());
  EXPECT_THAT(Query("SELECT flags_json, tuned_json FROM cell"),
              ElementsAre("[\"f\"]|{\"train.lr\":0.1}"));
}

TEST_F(StoreTest, TheMembersOfAGangAreLoadedWithTheirAttempt) {
  OpenWithAttempt();
  const auto attempt = [](int64_t stage, std::vector<AttemptMember> members) {
    return OpenAttempt{.row = {.id = {StageId{stage}, 1},
                               .incarnation = 1,
                               .worker = WorkerId{1},
                               .session = SessionId{1},
                               .members = std::move(members)}};
  };
  std::vector<Change> changes;
  for (int64_t id : {2, 3}) {
    changes.push_back(UpsertWorker{{.id = WorkerId{id},
                                    .name = absl::StrCat("w", id),
                                    .session = SessionId{id},
                                    .gang = "net"}});
    changes.push_back(InsertStage{{.id = StageId{id},
                                   .trial = TrialId{1},
                                   .name = absl::StrCat("s", id),
                                   .kind = "pretrain",
                                   .threads = 4,
                                   .ranks = 4}});
  }
  changes.push_back(attempt(3, {{WorkerId{2}, 1, 2, 70}, {WorkerId{3}, 3, 1, 80}}));
  ASSERT_TRUE(Commit(changes).ok());
  const absl::StatusOr<ClusterSnapshot> s = store_->Load();
  ASSERT_TRUE(s.ok()) << s.status();
  ASSERT_EQ(s->attempts.size(), 2);
  EXPECT_THAT(s->attempts[0].members, IsEmpty());
  ASSERT_EQ(s->attempts[1].members.size(), 2);
  EXPECT_EQ(s->attempts[1].members[0].worker, WorkerId{2});
  EXPECT_EQ(s->attempts[1].members[1].worker, WorkerId{3});
  EXPECT_EQ(s->attempts[1].members[1].first_rank, 3);
  EXPECT_EQ(s->attempts[1].members[1].ranks, 1);
  EXPECT_EQ(s->attempts[1].members[1].bundle, 80);
  EXPECT_EQ(s->workers[1].gang, "net");
  EXPECT_EQ(s->trials[0].stages[2].ranks, 4);
  // A worker that is not there is refused, with all of its transaction.
  EXPECT_FALSE(Commit({attempt(2, {{WorkerId{9}, 1, 3, 90}})}).ok());
  EXPECT_THAT(Query("SELECT count(*) FROM attempt"), ElementsAre("2"));
}

TEST_F(StoreTest, ReaderSeesWhatWasCommittedAndCannotWrite) {
  OpenWithAttempt();
  ASSERT_TRUE(Commit({Batch(1, 1, {{1, 0.5}})}).ok());
  absl::StatusOr<Reader> reader = Reader::Open(path_);
  ASSERT_TRUE(reader.ok()) << reader.status();
  const absl::StatusOr<std::vector<TrialView>> trials = reader->Trials(SweepId{}, "", 0, 10);
  ASSERT_TRUE(trials.ok()) << trials.status();
  ASSERT_EQ(trials->size(), 1);
  EXPECT_EQ(trials->at(0).train_loss, 0.5);
  EXPECT_TRUE(std::isnan(trials->at(0).objective));
  const absl::StatusOr<TrialView> trial = reader->Trial(TrialId{1});
  ASSERT_TRUE(trial.ok()) << trial.status();
  EXPECT_THAT(trial->stages.at(0).workers, ElementsAre("w"));
  absl::StatusOr<Database> db = Database::Open(path_, Database::Mode::kReadOnly);
  EXPECT_FALSE(db->Execute("DELETE FROM measurement").ok());
}

TEST_F(StoreTest, EveryQueryOfTheDocumentationRuns) {
  OpenWithAttempt();
  std::ifstream in(PLUMB_SOURCE_DIR "/docs/database.md");
  std::string line, sql;
  int queries = 0;
  bool inside = false;
  while (std::getline(in, line)) {
    if (inside && line == "```") {
      Query(sql);
      ++queries;
      sql.clear();
      inside = false;
    } else if (inside) {
      absl::StrAppend(&sql, line, "\n");
    } else {
      inside = line == "```sql";
    }
  }
  EXPECT_GE(queries, 8);
}

// A child commits and tells the parent of each commit through a pipe; killed at some moment,
// everything it told is there.
TEST_F(StoreTest, AcknowledgedCommitsSurviveKillNine) {
  OpenWithAttempt();
  store_.reset();
  int64_t next = 1;
  for (int round = 0; round < 5; ++round) {
    int pipe_fds[2];
    ASSERT_EQ(pipe(pipe_fds), 0);
    const pid_t child = fork();
    if (child == 0) {
      absl::StatusOr<std::unique_ptr<Store>> store = Store::Open(path_, 1);
      if (!store.ok()) _exit(1);
      for (int64_t seq = next;; ++seq) {
        const Change change = Batch(seq, seq, {{seq, static_cast<double>(seq)}});
        if (!(*store)->Commit(absl::Seconds(seq), {&change, 1}).ok()) _exit(2);
        if (write(pipe_fds[1], &seq, sizeof seq) != sizeof seq) _exit(3);
      }
    }
    close(pipe_fds[1]);
    int64_t acknowledged = 0, seq = 0;
    for (int n = 0; n < 40 + round * 13 && read(pipe_fds[0], &seq, sizeof seq) == sizeof seq; ++n)
      acknowledged = seq;
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the child ended by itself: " << status;
    while (read(pipe_fds[0], &seq, sizeof seq) == sizeof seq) acknowledged = seq;
    close(pipe_fds[0]);
    ASSERT_GT(acknowledged, next);
    EXPECT_THAT(Query("PRAGMA integrity_check"), ElementsAre("ok"));
    // A commit may have been durable before it could be told; then its acked_seq says so, and
    // nothing lies between.
    EXPECT_THAT(Query(absl::StrCat("SELECT max(step) >= ", acknowledged,
                                   ", count(*) = max(step), "
                                   "max(step) = (SELECT acked_seq FROM attempt) FROM measurement")),
                ElementsAre("1|1|1"));
    Open();
    next = store_->Load()->attempts.at(0).acked_seq + 1;
    store_.reset();
  }
}

}  // namespace
}  // namespace plumb::store
