// Searches whose points a suggester chooses, against a real server: requests, answers, restarts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <thread>

#include "coordinator/server.h"
#include "plumb/v1/suggest_service.grpc.pb.h"
#include "tests/coordinator/cluster.h"

namespace plumb::coordinator {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr char kSweep[] =
    "sweep: hill\n"
    "stages: {run: {noop: {}}}\n"
    "axes: {train.lr: {log: [1e-4, 1e-2]}, train.beta2: [0.9, 0.95, 0.99]}\n"
    "objective: train/loss\n"
    "where: lr != 0.005\n"
    "search: {external: {name: hill, trials: 8, startup: 2, parallel: 3}}\n";

class SuggestTest : public ::testing::Test {
 protected:
  SuggestTest() {
    options_.db_path = dir_ / "plumb.db";
    options_.suggestion_stands = absl::ZeroDuration();  // each poll sees the newest history
  }
  void Start() {
    absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(options_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    client_ = std::make_unique<Client>(server_->address());
    stub_ = v1::SuggestService::NewStub(client_->channel);
  }
  void Stop() {
    server_->Shutdown();
    EXPECT_TRUE(server_->Wait().ok());
    server_.reset();
  }
  v1::PollSuggestionsResponse Poll(int64_t wait_ms = 10'000, const std::string& known = "",
                                   const std::string& sampler = "hill") {
    v1::PollSuggestionsRequest request;
    request.set_suggester("test");
    request.add_samplers(sampler);
    request.set_wait_ms(wait_ms);
    if (!known.empty()) {
      v1::KnownHistory* k = request.add_known();
      k->set_sweep_id(1);
      k->set_history_hash(known);
    }
    v1::PollSuggestionsResponse response;
    grpc::ClientContext context;
    const grpc::Status s = stub_->PollSuggestions(&context, request, &response);
    EXPECT_TRUE(s.ok()) << s.error_message();
    return response;
  }
  v1::ReportSuggestionsResponse Say(v1::ReportSuggestionsRequest request) {
    request.set_suggester("test");
    v1::ReportSuggestionsResponse response;
    grpc::ClientContext context;
    const grpc::Status s = stub_->ReportSuggestions(&context, request, &response);
    EXPECT_TRUE(s.ok()) << s.error_message();
    return response;
  }
  v1::ReportSuggestionsResponse Answer(const std::string& request_id,
                                       const std::vector<std::vector<double>>& points,
                                       const std::string& note = "") {
    v1::ReportSuggestionsRequest request;
    request.set_request_id(request_id);
    for (const auto& values : points) {
      v1::Suggestion* s = request.add_suggestions();
      for (double v : values) s->add_values(v);
      s->set_note(note);
    }
    return Say(request);
  }
  // The sweep's first two trials are done.
  int64_t Begin(const std::string& sweep = kSweep) {
    Start();
    const int64_t id = client_->Submit(sweep, "r");
    worker_ = std::make_unique<ScriptedWorker>(*client_, "w", 4);
    worker_->Work(2);
    return id;
  }
  // Polls until a request for the points from `first` on, of a history in which `done` are
  // finished.
  v1::SuggestionRequest Wanted(int64_t first, int64_t done) {
    for (int i = 0; i < 200; ++i) {
      const v1::SuggestionRequest r = Poll().request();
      int64_t finished = 0;
      for (const v1::Observation& o : r.history())
        finished += o.state() == v1::POINT_STATE_FINISHED;
      if (r.first() == first && finished >= done) return r;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    ADD_FAILURE() << "no request for points from " << first << " on";
    return {};
  }

  TempDir dir_;
  ServerOptions options_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<Client> client_;
  std::unique_ptr<ScriptedWorker> worker_;
  std::unique_ptr<v1::SuggestService::Stub> stub_;
};

TEST_F(SuggestTest, ARequestSaysTheSpaceAndWhatIsKnown) {
  Begin();
  const v1::SuggestionRequest r = Wanted(2, 2);
  EXPECT_EQ(r.sampler(), "hill");
  EXPECT_EQ(r.sweep(), "hill");
  EXPECT_EQ(r.first(), 2);
  EXPECT_EQ(r.points(), 8);
  ASSERT_EQ(r.axes_size(), 2);
  EXPECT_EQ(r.axes(0).name(), "train.lr");
  EXPECT_EQ(r.axes(0).real().low(), 1e-4);
  EXPECT_TRUE(r.axes(0).real().logarithmic());
  EXPECT_THAT(r.axes(1).choice().numbers(), ::testing::ElementsAre(0.9, 0.95, 0.99));
  EXPECT_EQ(r.objectives(0).name(), "train/loss");
  ASSERT_EQ(r.history_size(), 2);
  EXPECT_EQ(r.history(1).number(), 1);
  EXPECT_EQ(r.since_hash(), "");
}

TEST_F(SuggestTest, AnswersBecomeTrialsUntilTheSearchIsOver) {
  const int64_t sweep = Begin();
  const v1::SuggestionRequest r = Wanted(2, 2);
  EXPECT_EQ(r.count(), 3);
  const auto said = Answer(r.request_id(), {{0.001, 0}, {0.002, 1}, {0.003, 2}}, "mine");
  EXPECT_EQ(said.taken(), 3);
  worker_->Work(3);
  const v1::SuggestionRequest next = Wanted(5, 5);
  EXPECT_EQ(next.count(), 3);
  EXPECT_EQ(next.history(2).note(), "mine");
  EXPECT_EQ(next.history(2).values(0).value(), 0.001);
  EXPECT_EQ(next.history(4).objectives(0), 1.0);
  EXPECT_EQ(Answer(next.request_id(), {{0.004, 0}, {0.006, 1}, {0.007, 2}}).taken(), 3);
  worker_->Work(3);
  const v1::Sweep done = client_->WaitFor(sweep, "completed");
  EXPECT_EQ(done.trials(), 8);
  EXPECT_EQ(done.trials_by_state().at("succeeded"), 8);
  EXPECT_FALSE(Poll(0).has_request());
  EXPECT_THAT(client_->Trials(sweep), SizeIs(8));
  EXPECT_EQ(client_->Trials(sweep)[2].cell(), "lr=0.001 beta2=0.9");
}

TEST_F(SuggestTest, WhatIsInvalidIsAnsweredWithTheReasonAndAskedForAgain) {
  Begin();
  const v1::SuggestionRequest r = Wanted(2, 2);
  const auto said = Answer(r.request_id(), {{0.005, 0}, {0.5, 0}, {0.001, 1}});
  EXPECT_EQ(said.taken(), 1);
  ASSERT_EQ(said.refused_size(), 2);
  EXPECT_EQ(said.refused(0).reason(), "where: lr != 0.005");
  EXPECT_THAT(said.refused(1).reason(), HasSubstr("is above 0.01"));
  const v1::SuggestionRequest next = Wanted(5, 2);
  EXPECT_EQ(next.count(), 2);
  EXPECT_EQ(next.history(3).state(), v1::POINT_STATE_REFUSED);
  EXPECT_THAT(next.history(3).reason(), HasSubstr("is above 0.01"));
  const auto again = Answer(next.request_id(), {{0.001, 1}, {0.002, 1}, {0.002, 2}});
  EXPECT_EQ(again.taken(), 1);
  EXPECT_EQ(again.refused(0).reason(), "the same trial as lr=0.001 beta2=0.95");
  EXPECT_EQ(again.refused(1).reason(), "only 2 were asked for");
}

TEST_F(SuggestTest, ARestartRepeatsNoSuggestionAndLosesNone) {
  const int64_t sweep = Begin();
  const v1::SuggestionRequest r = Wanted(2, 2);
  EXPECT_EQ(Answer(r.request_id(), {{0.001, 0}, {0.5, 0}, {0.002, 1}}).taken(), 2);
  Stop();
  Start();
  worker_->MoveTo(*client_);
  // What was answered is answered; an answer to a request of before is dropped.
  EXPECT_THAT(Answer(r.request_id(), {{0.003, 0}}).dropped(), HasSubstr("poll again"));
  worker_->Work(2);
  const v1::SuggestionRequest next = Wanted(5, 4);
  EXPECT_EQ(next.count(), 3);
  ASSERT_EQ(next.history_size(), 5);
  EXPECT_EQ(next.history(3).state(), v1::POINT_STATE_REFUSED);
  Stop();
  Start();
  worker_->MoveTo(*client_);
  // Nothing has changed: the request made again is the same, and an answer made before holds.
  EXPECT_EQ(Wanted(5, 4).request_id(), next.request_id());
  EXPECT_EQ(Answer(next.request_id(), {{0.003, 0}, {0.004, 0}, {0.006, 0}}).taken(), 3);
  worker_->Work(3);
  Wanted(8, 7);
  EXPECT_THAT(client_->Trials(sweep), SizeIs(7));
}

TEST_F(SuggestTest, ASecondAnswerToARequestIsDropped) {
  const int64_t sweep = Begin();
  const v1::SuggestionRequest r = Wanted(2, 2);
  EXPECT_EQ(Answer(r.request_id(), {{0.001, 0}}).taken(), 1);
  EXPECT_THAT(Answer(r.request_id(), {{0.002, 0}}).dropped(), HasSubstr("answered before"));
  EXPECT_THAT(Answer("nonsense", {{0.002, 0}}).dropped(), HasSubstr("answered before"));
  worker_->Work(1);
  EXPECT_EQ(client_->GetSweep(sweep).trials(), 3);
}

TEST_F(SuggestTest, OnlyWhatIsNewOfTheHistoryIsTold) {
  Begin();
  const v1::SuggestionRequest r = Wanted(2, 2);
  Answer(r.request_id(), {{0.001, 0}});
  worker_->Work(1);
  Wanted(3, 3);
  const v1::SuggestionRequest next = Poll(10'000, r.history_hash()).request();
  EXPECT_EQ(next.since_hash(), r.history_hash());
  ASSERT_EQ(next.history_size(), 1);
  EXPECT_EQ(next.history(0).number(), 2);
  const v1::SuggestionRequest whole = Poll(10'000, "of another life").request();
  EXPECT_EQ(whole.since_hash(), "");
  EXPECT_EQ(whole.history_size(), 3);
  EXPECT_EQ(whole.request_id(), next.request_id());
}

TEST_F(SuggestTest, ARequestThatWasHandedOutStandsWhateverEndsMeanwhile) {
  options_.suggestion_stands = absl::Hours(1);
  Start();
  client_->Submit(kSweep, "r");
  const v1::SuggestionRequest r = Poll().request();
  EXPECT_EQ(r.count(), 1);
  worker_ = std::make_unique<ScriptedWorker>(*client_, "w", 4);
  worker_->Work(2);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(Poll().request().request_id(), r.request_id());
  EXPECT_EQ(Answer(r.request_id(), {{0.001, 0}}).taken(), 1);
  EXPECT_EQ(Poll().request().first(), 3);
}

TEST_F(SuggestTest, AHeldPollIsAnsweredWhenPointsAreWanted) {
  Start();
  v1::PollSuggestionsResponse got;
  std::thread held([&] { got = Poll(20'000); });
  const int64_t sweep = client_->Submit(kSweep, "r");
  held.join();
  EXPECT_EQ(got.request().sweep_id(), sweep);
  EXPECT_EQ(got.request().count(), 1) << "two of the three that may be unfinished wait yet";
}

TEST_F(SuggestTest, SweepSaysWhomItWaitsFor) {
  const int64_t sweep = Begin();
  EXPECT_FALSE(Poll(0, "", "tpe").has_request());
  std::string waits;
  for (int i = 0; i < 200 && waits.empty(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    waits = client_->GetSweep(sweep).waits_for();
  }
  EXPECT_THAT(waits, HasSubstr("by hill, and no suggester that does hill has asked yet"));
  const v1::SuggestionRequest r = Wanted(2, 2);
  v1::ReportSuggestionsRequest failure;
  failure.set_request_id(r.request_id());
  failure.set_error("out of ideas");
  Say(failure);
  EXPECT_THAT(client_->GetSweep(sweep).waits_for(), HasSubstr("test says: out of ideas"));
  EXPECT_FALSE(Poll(0).has_request()) << "not at once again";
  EXPECT_EQ(Answer(r.request_id(), {{0.001, 0}}).taken(), 1);
  EXPECT_EQ(client_->GetSweep(sweep).waits_for(), "");
}

TEST_F(SuggestTest, WhoHasNothingLeftEndsTheSearchAlsoAcrossARestart) {
  const int64_t sweep = Begin();
  v1::ReportSuggestionsRequest last;
  last.set_request_id(Wanted(2, 2).request_id());
  last.set_exhausted(true);
  v1::Suggestion* s = last.add_suggestions();
  s->add_values(0.001), s->add_values(0);
  EXPECT_EQ(Say(last).taken(), 1);
  Stop();
  Start();
  worker_->MoveTo(*client_);
  worker_->Work(1);
  EXPECT_EQ(client_->WaitFor(sweep, "completed").trials(), 3);
}

TEST_F(SuggestTest, AHundredRefusalsInARowEndTheSearch) {
  const int64_t sweep = Begin();
  int64_t next = 2;
  while (next < 102) {
    const v1::SuggestionRequest r = Wanted(next, 2);
    EXPECT_EQ(Answer(r.request_id(), std::vector<std::vector<double>>(r.count(), {1, 0})).taken(),
              0);
    next += r.count();
  }
  EXPECT_EQ(client_->WaitFor(sweep, "completed").trials(), 2);
}

TEST_F(SuggestTest, EarlierSweepsAreObservationsWhereTheirTrialsLieInTheSpace) {
  Start();
  const std::string earlier =
      "sweep: earlier\nstages: {run: {noop: {}}}\nobjective: train/loss\n"
      "axes: {train.lr: [1e-3, 1e-1], train.beta2: [0.9, 0.95]}\n";
  const int64_t before = client_->Submit(earlier, "r0");
  worker_ = std::make_unique<ScriptedWorker>(*client_, "w", 4);
  worker_->Work(4);
  client_->WaitFor(before, "completed");
  std::string text = kSweep;
  text.replace(text.find("parallel: 3"), 11, "parallel: 3, prior: [earlier]");
  client_->Submit(text, "r1");
  worker_->Work(2);
  const v1::SuggestionRequest r = Wanted(2, 4);
  ASSERT_EQ(r.history_size(), 4) << "a rate of 0.1 is beyond the axis";
  EXPECT_EQ(r.history(0).number(), -2);
  EXPECT_EQ(r.history(1).number(), -1);
  EXPECT_EQ(r.history(1).values(0).value(), 0.001);
  EXPECT_EQ(r.history(0).objectives(0), 1.0);
  v1::SubmitSweepRequest request;
  request.set_request_id("r2");
  request.set_sweep_yaml(std::string(text).replace(text.find("[earlier]"), 9, "[never]"));
  v1::SubmitSweepResponse response;
  grpc::ClientContext context;
  EXPECT_THAT(client_->sweeps->SubmitSweep(&context, request, &response).error_message(),
              HasSubstr("there is no sweep named never"));
}

TEST_F(SuggestTest, ASearchMayHaveMorePointsThanItBeganWithAlsoAfterItsEnd) {
  const int64_t sweep = Begin();
  const auto edit = [&](const std::string& request_id, const std::string& from,
                        const std::string& to) {
    std::string text = kSweep;
    text.replace(text.find(from), from.size(), to);
    v1::ExtendSweepRequest request;
    request.set_request_id(request_id);
    request.set_sweep_id(sweep);
    request.set_sweep_yaml(text);
    v1::ExtendSweepResponse response;
    grpc::ClientContext context;
    return std::string(client_->sweeps->ExtendSweep(&context, request, &response).error_message());
  };
  EXPECT_THAT(edit("a", "beta2", "beta1"), HasSubstr("with prior: it begins"));
  EXPECT_THAT(edit("b", "startup: 2", "startup: 3"), HasSubstr("only trials and parallel change"));
  EXPECT_EQ(edit("c", "trials: 8", "trials: 3"), "");
  v1::SuggestionRequest r = Wanted(2, 2);
  for (int i = 0; i < 100 && r.points() != 3; ++i) r = Wanted(2, 2);
  EXPECT_EQ(r.count(), 1);
  EXPECT_EQ(Answer(r.request_id(), {{0.001, 0}}).taken(), 1);
  worker_->Work(1);
  EXPECT_EQ(client_->WaitFor(sweep, "completed").trials(), 3);
  EXPECT_THAT(edit("d", "trials: 8", "trials: 2"), HasSubstr("has 3 points already"));
  EXPECT_EQ(edit("e", "trials: 8", "trials: 5"), "");
  r = Wanted(3, 3);
  EXPECT_EQ(r.count(), 2);
  EXPECT_EQ(r.points(), 5);
  Stop();  // the same after a restart
  Start();
  worker_->MoveTo(*client_);
  r = Wanted(3, 3);
  EXPECT_EQ(r.points(), 5);
  EXPECT_EQ(Answer(r.request_id(), {{0.002, 1}, {0.003, 2}}).taken(), 2);
  worker_->Work(2);
  EXPECT_EQ(client_->WaitFor(sweep, "completed").trials(), 5);
}

// The metric of a later stage, which an earlier sweep calls otherwise.
TEST_F(SuggestTest, APointIsWorthWhatALaterStageMeasures) {
  const std::string earlier =
      "sweep: earlier\n"
      "stages: {run: {noop: {}}, look: {from: run, noop: {seconds: 1}}, score: {from: run, noop: "
      "{seconds: 2}}}\n"
      "axes: {train.lr: [1e-3, 2e-3], train.beta2: [0.9]}\nobjective: train/loss\n";
  Start();
  const int64_t before = client_->Submit(earlier, "r0");
  worker_ = std::make_unique<ScriptedWorker>(*client_, "w", 4);
  worker_->Work(6);
  client_->WaitFor(before, "completed");
  std::string text = kSweep;
  text.replace(text.find("stages: {run: {noop: {}}}"), 25,
               "stages: {run: {noop: {}}, score: {from: run, noop: {seconds: 1}}}");
  text.replace(text.find("objective: train/loss"), 21,
               "objective: {stage: score, metric: train/loss, goal: maximize}");
  text.replace(text.find("parallel: 3"), 11, "parallel: 3, prior: [earlier], cost: {steps: 1}");
  const int64_t sweep = client_->Submit(text, "r1");
  worker_->Work(2);  // the trainings of both points drawn
  const v1::SuggestionRequest early = Poll(200).request();
  for (const v1::Observation& o : early.history()) {
    EXPECT_FALSE(o.number() >= 0 && o.state() == v1::POINT_STATE_FINISHED)
        << "its score is still to come";
  }
  worker_->Work(2);
  const v1::SuggestionRequest r = Wanted(2, 4);
  EXPECT_EQ(r.objectives(0).name(), "score: train/loss - 1 * log10(steps)");
  EXPECT_TRUE(r.objectives(0).maximize());
  ASSERT_EQ(r.history_size(), 4);
  EXPECT_EQ(r.history(0).number(), -2);
  EXPECT_EQ(r.history(0).objectives(0), r.history(3).objectives(0));
  // Both are 1 at the end of one stage or the other; what costs takes from what is to be large.
  EXPECT_LE(r.history(3).objectives(0), 1.0);
  v1::CancelSweepRequest cancel;
  cancel.set_sweep_id(sweep);
  v1::CancelSweepResponse cancelled;
  grpc::ClientContext context;
  EXPECT_TRUE(client_->sweeps->CancelSweep(&context, cancel, &cancelled).ok());
}

TEST_F(SuggestTest, CancelledSweepsTakeNoAnswers) {
  const int64_t sweep = Begin();
  const v1::SuggestionRequest r = Wanted(2, 2);
  v1::CancelSweepRequest cancel;
  cancel.set_sweep_id(sweep);
  v1::CancelSweepResponse cancelled;
  grpc::ClientContext context;
  ASSERT_TRUE(client_->sweeps->CancelSweep(&context, cancel, &cancelled).ok());
  EXPECT_THAT(Answer(r.request_id(), {{0.001, 0}}).dropped(), HasSubstr("was cancelled"));
  EXPECT_FALSE(Poll(0).has_request());
}

TEST_F(SuggestTest, NonsenseIsRefusedAtTheDoor) {
  Start();
  const auto code = [&](const v1::ReportSuggestionsRequest& request) {
    v1::ReportSuggestionsResponse response;
    grpc::ClientContext context;
    return stub_->ReportSuggestions(&context, request, &response).error_code();
  };
  v1::ReportSuggestionsRequest request;
  EXPECT_EQ(code(request), grpc::StatusCode::INVALID_ARGUMENT);  // nobody
  request.set_suggester("x");
  EXPECT_EQ(code(request), grpc::StatusCode::INVALID_ARGUMENT);  // says nothing
  request.add_suggestions()->set_note(std::string(5000, 'x'));
  EXPECT_EQ(code(request), grpc::StatusCode::INVALID_ARGUMENT);
  v1::PollSuggestionsRequest poll;
  poll.set_suggester("x");
  v1::PollSuggestionsResponse response;
  grpc::ClientContext context;
  EXPECT_EQ(stub_->PollSuggestions(&context, poll, &response).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
}

}  // namespace
}  // namespace plumb::coordinator
