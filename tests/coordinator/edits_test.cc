// Edits, imports and removal through a real server, with restarts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <limits>
#include <thread>

#include "absl/strings/str_cat.h"
#include "store/backup.h"
#include "store/read.h"
#include "tests/coordinator/cluster.h"
#include "trainer/spec/sha256.h"

namespace plumb::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using Stub = v1::SweepService::Stub;

class EditsTest : public ::testing::Test {
 protected:
  EditsTest() { options_.db_path = dir_ / "plumb.db"; }
  void Start() {
    absl::StatusOr<std::unique_ptr<Server>> server = Launch(options_, PlanNoops);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    client_ = std::make_unique<Client>(server_->address());
  }
  void Stop() {
    server_->Shutdown();
    EXPECT_TRUE(server_->Wait().ok());
    server_.reset();
  }
  template <typename Request, typename Response>
  grpc::Status Call(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                    const Request& request, Response* response) {
    grpc::ClientContext context;
    return (client_->sweeps.get()->*method)(&context, request, response);
  }
  grpc::Status Extend(int64_t sweep, const std::string& text, const std::string& request_id,
                      v1::ExtendSweepResponse* response, bool may_remove = false,
                      bool dry = false) {
    v1::ExtendSweepRequest request;
    request.set_request_id(request_id);
    request.set_sweep_id(sweep);
    request.set_sweep_yaml(text);
    request.set_may_remove(may_remove);
    request.set_validate_only(dry);
    request.set_user("ann");
    return Call(&Stub::ExtendSweep, request, response);
  }
  int64_t Number(const std::string& sql) {
    auto db = store::Database::Open(options_.db_path, store::Database::Mode::kReadOnly);
    auto s = db->Prepare(sql);
    EXPECT_TRUE(s.ok()) << s.status();
    EXPECT_TRUE(*s->Step());
    return s->Int(0);
  }
  // A sweep of noops that have all succeeded.
  int64_t Finished(const std::string& text, const std::string& request_id, int trials) {
    const int64_t sweep = client_->Submit(text, request_id);
    ScriptedWorker worker(*client_, "w", 8);
    worker.Work(trials);
    client_->WaitFor(sweep, "completed");
    return sweep;
  }

  TempDir dir_;
  ServerOptions options_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<Client> client_;
};

TEST_F(EditsTest, AFinishedSweepIsExtendedAndThePlanIsTheSameAfterARestart) {
  Start();
  const int64_t sweep = Finished("3", "r1", 3);
  v1::ExtendSweepResponse response;
  ASSERT_TRUE(Extend(sweep, "5", "", &response, false, /*dry=*/true).ok());
  EXPECT_EQ(response.trials(), 2);
  EXPECT_EQ(client_->GetSweep(sweep).trials(), 3) << "only looked at";
  const grpc::Status s = Extend(sweep, "700", "e1", &response);
  ASSERT_TRUE(s.ok()) << s.error_message();
  EXPECT_EQ(response.trials(), 697);
  Stop();  // among its slices
  Start();
  ASSERT_TRUE(Extend(sweep, "700", "e1", &response).ok());
  EXPECT_TRUE(response.repeated_request());
  EXPECT_EQ(Extend(sweep, "701", "e1", &response).error_code(), grpc::StatusCode::ALREADY_EXISTS);
  ASSERT_TRUE(Extend(sweep, "702", "e2", &response).ok());
  EXPECT_EQ(response.trials(), 2);
  Stop();
  Start();
  ScriptedWorker worker(*client_, "w", 8);
  worker.Work(699);
  EXPECT_EQ(client_->WaitFor(sweep, "completed").trials_by_state().at("succeeded"), 702);
  EXPECT_EQ(Number("SELECT count(DISTINCT trial_id) FROM sweep_trial"), 702);
  EXPECT_EQ(Number("SELECT count(*) FROM cell"), 702);
  EXPECT_EQ(Number("SELECT count(*) FROM measurement"), 702);
  EXPECT_EQ(Number("SELECT count(*) FROM event WHERE kind = 'sweep_extended'"), 2);
  v1::GetSweepRequest get;
  get.set_sweep_id(sweep);
  v1::GetSweepResponse got;
  ASSERT_TRUE(Call(&Stub::GetSweep, get, &got).ok());
  EXPECT_EQ(got.sweep_yaml(), "702") << "as of the last edit";
}

TEST_F(EditsTest, WhatBothSweepsHaveIsComputedOnce) {
  Start();
  Finished("4 100", "r1", 4);
  const int64_t sweep = Finished("2 0", "r2", 2);
  v1::ExtendSweepResponse response;
  const grpc::Status s = Extend(sweep, "102 0", "e", &response);
  ASSERT_TRUE(s.ok()) << s.error_message();
  ScriptedWorker worker(*client_, "w", 8);
  worker.Work(98);  // 100 and 101 are there
  client_->WaitFor(sweep, "completed");
  EXPECT_EQ(Number("SELECT count(*) FROM trial"), 104);
}

TEST_F(EditsTest, CellsThatHaveNotBegunAreTakenOutAndOthersNot) {
  Start();
  const int64_t sweep = client_->Submit("4", "r1");
  ScriptedWorker worker(*client_, "w", 1);
  ASSERT_THAT(worker.Poll(), SizeIs(1));  // of i=0
  client_->WaitFor(sweep, "running");
  v1::ExtendSweepResponse response;
  EXPECT_THAT(Extend(sweep, "2", "e1", &response).error_message(),
              HasSubstr("lacks 2 of the sweep's cells (i=2; i=3)"));
  EXPECT_THAT(Extend(sweep, "3 1", "e2", &response, true).error_message(),
              HasSubstr("cell i=0 stays: its trial 1 has begun"));
  const grpc::Status s = Extend(sweep, "2", "e3", &response, true);
  ASSERT_TRUE(s.ok()) << s.error_message();
  EXPECT_THAT(
      std::vector<std::string>(response.removed_cells().begin(), response.removed_cells().end()),
      ElementsAre("i=2", "i=3"));
  EXPECT_EQ(response.cancelled_stages(), 2);
  Stop();
  Start();  // the edit is replayed: the cells stay out
  worker.MoveTo(*client_);
  EXPECT_THAT(Extend(sweep, "4", "e4", &response).error_message(), IsEmpty())
      << "the trials are there, and cancelled";
  EXPECT_EQ(response.trials(), 0);
  worker.SucceedAll();
  worker.assignments.clear();
  worker.Work(1);
  const v1::Sweep done = client_->WaitFor(sweep, "completed");
  EXPECT_EQ(done.trials_by_state().at("cancelled"), 2);
  v1::RetrySweepRequest retry;
  retry.set_sweep_id(sweep);
  retry.add_states("cancelled");
  retry.add_cells("i=3");
  v1::RetrySweepResponse retried;
  ASSERT_TRUE(Call(&Stub::RetrySweep, retry, &retried).ok());
  EXPECT_EQ(retried.retried_trials(), 1);
  worker.Work(1);
  EXPECT_EQ(client_->WaitFor(sweep, "completed").trials_by_state().at("succeeded"), 3);
}

TEST_F(EditsTest, RetryNamesWhatItCannotDo) {
  Start();
  const int64_t sweep = Finished("1", "r1", 1);
  v1::RetrySweepRequest retry;
  v1::RetrySweepResponse retried;
  retry.set_sweep_id(sweep);
  EXPECT_THAT(Call(&Stub::RetrySweep, retry, &retried).error_message(),
              HasSubstr("has no trials that are failed"));
  retry.add_states("succeeded");
  EXPECT_THAT(Call(&Stub::RetrySweep, retry, &retried).error_message(),
              HasSubstr("is not one of failed, cancelled, stopped, diverged"));
}

TEST_F(EditsTest, TagsAndNotesHaveLimits) {
  Start();
  const int64_t sweep = Finished("1", "r1", 1);
  v1::AnnotateRequest request;
  v1::AnnotateResponse response;
  request.set_sweep_id(sweep);
  request.add_add_tags("baseline");
  request.add_add_tags("a/b");
  request.set_note("n");
  ASSERT_TRUE(Call(&Stub::Annotate, request, &response).ok());
  EXPECT_THAT(response.tags(), ElementsAre("a/b", "baseline"));
  EXPECT_EQ(response.note(), "n");
  v1::ListSweepsRequest list;
  list.set_tag("baseline");
  v1::ListSweepsResponse listed;
  ASSERT_TRUE(Call(&Stub::ListSweeps, list, &listed).ok());
  EXPECT_THAT(listed.sweeps(), SizeIs(1));
  const auto refused = [&](const std::function<void(v1::AnnotateRequest*)>& change) {
    v1::AnnotateRequest r = request;
    change(&r);
    v1::AnnotateResponse ignored;
    return Call(&Stub::Annotate, r, &ignored).error_message();
  };
  EXPECT_THAT(refused([](auto* r) { r->add_add_tags("two words"); }), HasSubstr("1 to 64 letters"));
  EXPECT_THAT(refused([](auto* r) { r->set_note(std::string(5000, 'x')); }), HasSubstr("4,096"));
  EXPECT_THAT(refused([](auto* r) { r->set_trial_id(1); }), HasSubstr("one of them"));
  EXPECT_THAT(refused([](auto* r) {
                for (int i = 0; i < 31; ++i) r->add_add_tags(absl::StrCat("t", i));
              }),
              HasSubstr("at most 32 tags"));
}

v1::ImportedTrial Imported(int64_t n, double loss, int64_t points = 3) {
  v1::ImportedTrial t;
  t.set_cell(n);
  t.set_key(spec::Sha256Hex(absl::StrCat("elsewhere ", n)));
  t.set_config_json("{}");
  t.set_origin_json(R"({"csv": "x.csv"})");
  t.set_columns_json(R"({"n_layers": 2, "lr": 0.1, "corpus": "c"})");
  t.set_foreign(true);
  v1::ImportedStage* s = t.add_stages();
  s->set_name("pretrain");
  s->set_kind("pretrain");
  s->set_state("succeeded");
  s->set_settings_json("{}");
  s->set_step(points - 1);
  s->set_target_step(points - 1);
  v1::SeriesPoints* series = s->add_series();
  series->set_name("val/loss");
  series->set_layer(-1);
  for (int64_t i = 0; i < points; ++i) {
    v1::Point* p = series->add_points();
    p->set_step(i);
    p->set_value(i + 1 == points ? loss : 9);
  }
  return t;
}

TEST_F(EditsTest, AnImportThatWasInterruptedGoesOnAndConflictsAreTold) {
  Start();
  v1::ImportSweepRequest begin;
  begin.set_request_id("import 1");
  begin.set_name("elsewhere");
  begin.set_objective("val/loss");
  begin.set_trials(3);
  begin.set_origin_json("{}");
  v1::ImportSweepResponse begun;
  const grpc::Status s = Call(&Stub::ImportSweep, begin, &begun);
  ASSERT_TRUE(s.ok()) << s.error_message();
  const auto slice = [&](int64_t sweep, int64_t from, int n, double loss,
                         v1::ImportTrialsResponse* response) {
    v1::ImportTrialsRequest request;
    request.set_sweep_id(sweep);
    request.set_from(from);
    request.set_from_cell(from);
    for (int64_t i = from; i < from + n; ++i) {
      v1::ImportedCell* cell = request.add_cells();
      cell->set_name(absl::StrCat("i=", i));
      cell->set_axes_json("{}");
      cell->set_flags_json("[\"foreign\"]");
      cell->set_tuned_json("{}");
      *request.add_trials() = Imported(i, loss);
    }
    return Call(&Stub::ImportTrials, request, response);
  };
  v1::ImportTrialsResponse response;
  const grpc::Status first = slice(begun.sweep_id(), 0, 2, 1.5, &response);
  ASSERT_TRUE(first.ok()) << first.error_message();
  EXPECT_EQ(response.cursor(), 2);
  Stop();
  Start();
  ASSERT_TRUE(Call(&Stub::ImportSweep, begin, &begun).ok());
  EXPECT_EQ(begun.cursor(), 2);
  EXPECT_FALSE(begun.complete());
  ASSERT_TRUE(slice(begun.sweep_id(), 2, 1, 1.5, &response).ok());
  EXPECT_EQ(client_->WaitFor(begun.sweep_id(), "completed").trials(), 3);
  EXPECT_EQ(Number("SELECT count(*) FROM v_trial WHERE is_foreign = 1 AND val_loss = 1.5"), 3);

  begin.set_request_id("import 2");
  ASSERT_TRUE(Call(&Stub::ImportSweep, begin, &begun).ok());
  response.Clear();
  ASSERT_TRUE(slice(begun.sweep_id(), 0, 3, 1.25, &response).ok());
  EXPECT_EQ(response.shared(), 3);
  ASSERT_THAT(response.conflicts(), SizeIs(3));
  EXPECT_EQ(response.conflicts(0).what(), "val/loss");
  EXPECT_EQ(response.conflicts(0).here(), "1.5 at step 2");
  EXPECT_EQ(response.conflicts(0).there(), "1.25 at step 2");
  EXPECT_EQ(Number("SELECT count(*) FROM trial"), 3);
  EXPECT_EQ(Number("SELECT count(*) FROM v_trial WHERE val_loss = 1.5"), 6) << "nothing is lost";
  v1::ImportTrialsRequest bad;
  bad.set_sweep_id(begun.sweep_id());
  *bad.add_trials() = Imported(1, 1);
  bad.mutable_trials(0)->mutable_stages(0)->set_state("running");
  EXPECT_THAT(Call(&Stub::ImportTrials, bad, &response).error_message(),
              HasSubstr("what has not ended is not imported"));
}

TEST_F(EditsTest, RemovalIsLookedAtFirstAndLeavesWhatOthersHave) {
  Start();
  const int64_t a = Finished("5", "r1", 5);
  const int64_t b = Finished("2 4", "r2", 1);  // shares one
  v1::RemoveSweepsRequest request;
  v1::RemoveSweepsResponse response;
  request.add_sweep_ids(a);
  ASSERT_TRUE(Call(&Stub::RemoveSweeps, request, &response).ok());
  EXPECT_EQ(response.removal().trials(), 4);
  EXPECT_EQ(response.removal().shared_trials(), 1);
  EXPECT_EQ(response.removal().points(), 4);
  EXPECT_EQ(Number("SELECT count(*) FROM trial"), 6) << "nothing is gone yet";
  request.set_really(true);
  ASSERT_TRUE(Call(&Stub::RemoveSweeps, request, &response).ok());
  EXPECT_EQ(Number("SELECT count(*) FROM trial"), 2);
  EXPECT_EQ(Number("SELECT count(*) FROM measurement"), 2);
  EXPECT_EQ(Number("SELECT count(*) FROM sweep"), 1);
  EXPECT_EQ(Number("SELECT count(*) FROM event WHERE kind = 'sweep_removed'"), 1);
  EXPECT_GT(Number("SELECT count(*) FROM event WHERE trial_id = 1"), 0) << "events stay";
  EXPECT_THAT(Call(&Stub::RemoveSweeps, request, &response).error_message(),
              HasSubstr("no sweep 1"));
  EXPECT_THAT(store::Check(options_.db_path)->damage, IsEmpty());
  // What is computed again is a trial of its own.
  const int64_t again = Finished("5", "r3", 4);
  EXPECT_GT(again, b);
  EXPECT_EQ(Number("SELECT min(id) FROM trial WHERE id > 6"), 7);
}

TEST_F(EditsTest, WhatALivingSweepBeginsFromStays) {
  auto server = Launch(options_, [](const std::string& text, const std::string& name) {
    return PlanNoops(text.find("init") == std::string::npos ? text : "2 100", name);
  });
  ASSERT_TRUE(server.ok()) << server.status();
  server_ = *std::move(server);
  client_ = std::make_unique<Client>(server_->address());
  client_->Submit("3", "r1");
  ScriptedWorker worker(*client_, "w", 8);
  worker.Work(3);
  client_->WaitFor(1, "completed");
  const int64_t warm =
      client_->Submit("sweep: w\ntrial: {train: {steps: 1}}\naxes: {init.trial: [2, 3]}\n", "r2");
  v1::RemoveTrialsRequest trials;
  trials.add_trial_ids(3);
  trials.set_really(true);
  v1::RemoveTrialsResponse removed;
  EXPECT_THAT(Call(&Stub::RemoveTrials, trials, &removed).error_message(),
              HasSubstr("sweep 2, which has not ended, begins from trial 3 (init.trial)"));
  v1::RemoveSweepsRequest sweeps;
  sweeps.add_sweep_ids(1);
  sweeps.set_really(true);
  v1::RemoveSweepsResponse gone;
  EXPECT_THAT(Call(&Stub::RemoveSweeps, sweeps, &gone).error_message(),
              HasSubstr("begins from trial 2"));
  // Retention passes over it.
  v1::RemoveSweepsRequest old;
  old.set_ended_before_us(std::numeric_limits<int64_t>::max());
  old.set_really(true);
  ASSERT_TRUE(Call(&Stub::RemoveSweeps, old, &gone).ok());
  EXPECT_THAT(gone.removal().kept(0), HasSubstr("sweep 1 stays: sweep 2"));
  trials.clear_trial_ids();
  trials.add_trial_ids(1);
  EXPECT_TRUE(Call(&Stub::RemoveTrials, trials, &removed).ok()) << "nothing begins from that one";
  worker.Work(2);
  client_->WaitFor(warm, "completed");
  EXPECT_TRUE(Call(&Stub::RemoveSweeps, sweeps, &gone).ok());
}

TEST_F(EditsTest, RetentionKeepsWhatIsTaggedPinnedOrLives) {
  Start();
  const int64_t old = Finished("1", "r1", 1), tagged = Finished("1 1", "r2", 1),
                pinned = Finished("1 2", "r3", 1);
  const int64_t live = client_->Submit("1 3", "r4");
  for (const auto& [id, tag] : {std::pair(tagged, "baseline"), {pinned, "pinned"}}) {
    v1::AnnotateRequest annotate;
    v1::AnnotateResponse ignored;
    annotate.set_sweep_id(id);
    annotate.add_add_tags(tag);
    ASSERT_TRUE(Call(&Stub::Annotate, annotate, &ignored).ok());
  }
  v1::RemoveSweepsRequest request;
  v1::RemoveSweepsResponse response;
  request.set_ended_before_us(1);
  request.set_keep_tagged(true);
  ASSERT_TRUE(Call(&Stub::RemoveSweeps, request, &response).ok());
  EXPECT_THAT(response.removal().sweep_ids(), IsEmpty()) << "all are younger";
  request.set_ended_before_us(int64_t{1} << 60);
  request.set_really(true);
  ASSERT_TRUE(Call(&Stub::RemoveSweeps, request, &response).ok());
  EXPECT_THAT(response.removal().sweep_ids(), ElementsAre(old));
  EXPECT_THAT(response.removal().kept(), SizeIs(2));
  request.set_keep_tagged(false);
  ASSERT_TRUE(Call(&Stub::RemoveSweeps, request, &response).ok());
  EXPECT_THAT(response.removal().sweep_ids(), ElementsAre(tagged));
  EXPECT_EQ(client_->GetSweep(live).state(), "running");
  request.Clear();
  request.add_sweep_ids(pinned);
  EXPECT_THAT(Call(&Stub::RemoveSweeps, request, &response).error_message(),
              HasSubstr("is pinned"));
  v1::RemoveTrialsRequest trials;
  v1::RemoveTrialsResponse gone;
  trials.add_trial_ids(client_->Trials(live).at(0).id());
  EXPECT_THAT(Call(&Stub::RemoveTrials, trials, &gone).error_message(),
              HasSubstr("end it first: plumb trial cancel"));
}

// Another sweep runs while a large one goes: nothing of it is lost, and no commit waits long.
TEST_F(EditsTest, RemovalDoesNotHoldUpWhatRuns) {
  Start();
  v1::ImportSweepRequest begin;
  begin.set_request_id("import");
  begin.set_name("large");
  begin.set_objective("val/loss");
  begin.set_trials(20);
  begin.set_origin_json("{}");
  v1::ImportSweepResponse begun;
  ASSERT_TRUE(Call(&Stub::ImportSweep, begin, &begun).ok());
  for (int64_t i = 0; i < 20; ++i) {
    v1::ImportTrialsRequest slice;
    slice.set_sweep_id(begun.sweep_id());
    slice.set_from(i);
    slice.set_from_cell(i);
    v1::ImportedCell* cell = slice.add_cells();
    cell->set_axes_json("{}");
    cell->set_flags_json("[]");
    cell->set_tuned_json("{}");
    *slice.add_trials() = Imported(i, 1, 20'000);
    v1::ImportTrialsResponse response;
    const grpc::Status s = Call(&Stub::ImportTrials, slice, &response);
    ASSERT_TRUE(s.ok()) << s.error_message();
  }
  ASSERT_EQ(Number("SELECT count(*) FROM measurement"), 400'000);
  const int64_t sweep = client_->Submit("200 1000", "r1");
  std::atomic<bool> gone = false;
  std::thread remove([&] {
    v1::RemoveSweepsRequest request;
    v1::RemoveSweepsResponse response;
    request.add_sweep_ids(begun.sweep_id());
    request.set_really(true);
    EXPECT_TRUE(Call(&Stub::RemoveSweeps, request, &response).ok());
    gone = true;
  });
  ScriptedWorker worker(*client_, "w", 4);
  auto longest = absl::ZeroDuration();
  int during = 0;
  for (int i = 0; i < 50; ++i) {
    const absl::Time before = absl::Now();
    worker.Work(4);
    longest = std::max(longest, absl::Now() - before);
    during += gone ? 0 : 1;
  }
  remove.join();
  EXPECT_GT(during, 0);
  client_->WaitFor(sweep, "completed");
  EXPECT_LT(longest, absl::Seconds(2));  // of 4 trials: a poll, a report, their commits
  RecordProperty("longest_ms", static_cast<int>(absl::ToInt64Milliseconds(longest)));
  EXPECT_EQ(Number("SELECT count(*) FROM measurement"), 200);
  EXPECT_EQ(Number("SELECT count(*) FROM trial"), 200);
  EXPECT_THAT(store::Check(options_.db_path)->damage, IsEmpty());
}

TEST_F(EditsTest, WhatIsHalfRemovedGoesAfterARestart) {
  Start();
  Finished("2", "r1", 2);
  Stop();
  {
    auto store = store::Store::Open(options_.db_path, 1);
    ASSERT_TRUE((*store)
                    ->Commit(absl::Seconds(1), {ForgetPlaces{.sweep = SweepId{1}, .limit = 2},
                                                ForgetSweep{SweepId{1}}})
                    .ok());
  }
  Start();
  for (int i = 0; i < 1000 && Number("SELECT count(*) FROM trial") > 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_EQ(Number("SELECT count(*) FROM trial"), 0);
  EXPECT_EQ(Number("SELECT count(*) FROM measurement"), 0);
}

}  // namespace
}  // namespace plumb::coordinator
