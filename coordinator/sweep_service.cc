#include <unistd.h>

#include <algorithm>
#include <limits>
#include <map>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "coordinator/add_stages.h"
#include "coordinator/convert.h"
#include "coordinator/services.h"
#include "coordinator/suggestion_desk.h"

namespace plumb::coordinator {
namespace {

constexpr int kMaxPage = 2'000;  // below gRPC's 4 MiB a message
constexpr int64_t kEvents = 50;

// How fast a sweep goes: between two looks at it, a few seconds apart.
struct Speed {
  struct Look {
    double seconds = 0, tokens = 0, work = 0;
  };
  Look older, newer;
};

class SweepServiceImpl final : public v1::SweepService::CallbackService {
 public:
  SweepServiceImpl(const ServiceContext& context, store::Reader reader)
      : c_(context), reader_(std::move(reader)) {}

  grpc::ServerUnaryReactor* SubmitSweep(grpc::CallbackServerContext* context,
                                        const v1::SubmitSweepRequest* request,
                                        v1::SubmitSweepResponse* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    if (!request->user().empty() && !IsWord(request->user(), "-_.@")) {
      reactor->Finish(ToGrpc(BadUser()));
      return reactor;
    }
    c_.planner->Submit(request->request_id(), request->sweep_yaml(), request->file_name(),
                       request->user(),
                       [reactor, response](absl::StatusOr<core::Submitted> submitted) {
                         if (submitted.ok()) {
                           response->set_sweep_id(submitted->sweep.value);
                           response->set_trials(submitted->trials);
                           response->set_repeated_request(submitted->repeated);
                         }
                         reactor->Finish(ToGrpc(submitted.status()));
                       });
    return reactor;
  }

  grpc::ServerUnaryReactor* ListSweeps(grpc::CallbackServerContext* context,
                                       const v1::ListSweepsRequest* request,
                                       v1::ListSweepsResponse* response) override {
    return Read(context, [this, request, response]() -> absl::Status {
      int64_t before = std::numeric_limits<int64_t>::max();
      if (!request->page_token().empty() && !absl::SimpleAtoi(request->page_token(), &before))
        return BadToken();
      const int64_t limit = PageSize(request->page_size(), 100);
      absl::StatusOr<std::vector<store::SweepView>> views =
          reader_.Sweeps(before, limit, request->tag());
      if (!views.ok()) return views.status();
      for (const store::SweepView& v : *views) Fill(v, response->add_sweeps());
      if (static_cast<int64_t>(views->size()) == limit) {
        response->set_next_page_token(absl::StrCat(views->back().row.id.value));
      }
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* GetSweep(grpc::CallbackServerContext* context,
                                     const v1::GetSweepRequest* request,
                                     v1::GetSweepResponse* response) override {
    return Read(context, [this, request, response]() -> absl::Status {
      absl::StatusOr<store::SweepView> view = reader_.Sweep(SweepId{request->sweep_id()});
      if (!view.ok()) return view.status();
      Fill(*view, response->mutable_sweep());
      response->set_sweep_yaml(view->row.sweep_yaml);
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* CancelSweep(grpc::CallbackServerContext* context,
                                        const v1::CancelSweepRequest* request,
                                        v1::CancelSweepResponse* response) override {
    return Count(context, core::CancelSweep{SweepId{request->sweep_id()}},
                 [response](int64_t n) { response->set_cancelled_stages(n); });
  }

  grpc::ServerUnaryReactor* UpdateSweep(grpc::CallbackServerContext* context,
                                        const v1::UpdateSweepRequest* request,
                                        v1::UpdateSweepResponse*) override {
    core::EditSweep edit{.sweep = SweepId{request->sweep_id()}};
    if (request->has_paused()) edit.paused = request->paused();
    if (request->has_priority()) edit.priority = request->priority();
    return Edit(context, edit);
  }

  grpc::ServerUnaryReactor* ExtendSweep(grpc::CallbackServerContext* context,
                                        const v1::ExtendSweepRequest* request,
                                        v1::ExtendSweepResponse* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    if (!request->user().empty() && !IsWord(request->user(), "-_.@")) {
      reactor->Finish(ToGrpc(BadUser()));
      return reactor;
    }
    c_.planner->ExtendSweep({.request_id = request->request_id(),
                             .yaml = request->sweep_yaml(),
                             .file_name = request->file_name(),
                             .user = request->user(),
                             .reason = request->reason(),
                             .sweep = SweepId{request->sweep_id()},
                             .may_remove = request->may_remove(),
                             .validate_only = request->validate_only()},
                            [reactor, response](absl::StatusOr<Planner::Extended> extended) {
                              if (extended.ok()) {
                                response->set_trials(extended->answer.trials);
                                for (const std::string& c : extended->new_cells)
                                  response->add_new_cells(c);
                                for (const std::string& c : extended->removed_cells)
                                  response->add_removed_cells(c);
                                response->set_cancelled_stages(extended->answer.cancelled_stages);
                                response->set_repeated_request(extended->answer.repeated);
                              }
                              reactor->Finish(ToGrpc(extended.status()));
                            });
    return reactor;
  }

  grpc::ServerUnaryReactor* RetrySweep(grpc::CallbackServerContext* context,
                                       const v1::RetrySweepRequest* request,
                                       v1::RetrySweepResponse* response) override {
    return Long(context, &Edits::RetrySweep, request, response);
  }
  grpc::ServerUnaryReactor* Annotate(grpc::CallbackServerContext* context,
                                     const v1::AnnotateRequest* request,
                                     v1::AnnotateResponse* response) override {
    return Long(context, &Edits::Annotate, request, response);
  }
  grpc::ServerUnaryReactor* ImportSweep(grpc::CallbackServerContext* context,
                                        const v1::ImportSweepRequest* request,
                                        v1::ImportSweepResponse* response) override {
    return Long(context, &Edits::ImportSweep, request, response);
  }
  grpc::ServerUnaryReactor* ImportTrials(grpc::CallbackServerContext* context,
                                         const v1::ImportTrialsRequest* request,
                                         v1::ImportTrialsResponse* response) override {
    return Long(context, &Edits::ImportTrials, request, response);
  }
  grpc::ServerUnaryReactor* RemoveSweeps(grpc::CallbackServerContext* context,
                                         const v1::RemoveSweepsRequest* request,
                                         v1::RemoveSweepsResponse* response) override {
    return Long(context, &Edits::RemoveSweeps, request, response);
  }
  grpc::ServerUnaryReactor* RemoveTrials(grpc::CallbackServerContext* context,
                                         const v1::RemoveTrialsRequest* request,
                                         v1::RemoveTrialsResponse* response) override {
    return Long(context, &Edits::RemoveTrials, request, response);
  }

  grpc::ServerUnaryReactor* UpdateWorker(grpc::CallbackServerContext* context,
                                         const v1::UpdateWorkerRequest* request,
                                         v1::UpdateWorkerResponse*) override {
    return Edit(context, core::EditWorker{.name = request->name(), .drain = request->drain()});
  }

  grpc::ServerUnaryReactor* UpdateUser(grpc::CallbackServerContext* context,
                                       const v1::UpdateUserRequest* request,
                                       v1::UpdateUserResponse*) override {
    if (!IsWord(request->name(), "-_.@")) {
      grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
      reactor->Finish(ToGrpc(BadUser()));
      return reactor;
    }
    core::EditUser edit{.name = request->name()};
    if (request->has_weight()) edit.weight = request->weight();
    if (request->has_max_slots()) edit.max_slots = request->max_slots();
    return Edit(context, edit);
  }

  grpc::ServerUnaryReactor* ListUsers(grpc::CallbackServerContext* context,
                                      const v1::ListUsersRequest*,
                                      v1::ListUsersResponse* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    c_.owner->Read(
        [response](const core::Core& core, core::Now) {
          for (const core::Core::UserView& u : core.Users()) ToProto(u, response->add_users());
        },
        [reactor](absl::Status s) { reactor->Finish(ToGrpc(s)); });
    return reactor;
  }

  grpc::ServerUnaryReactor* ListTrials(grpc::CallbackServerContext* context,
                                       const v1::ListTrialsRequest* request,
                                       v1::ListTrialsResponse* response) override {
    return Read(context, [this, request, response]() -> absl::Status {
      int64_t from = 0;
      if (!request->page_token().empty() && !absl::SimpleAtoi(request->page_token(), &from))
        return BadToken();
      if (!request->state().empty() && !StageStateFromName(request->state())) {
        return absl::InvalidArgumentError(
            absl::StrCat("state: \"", request->state(),
                         "\" is not one of pending, running, paused, succeeded, failed, "
                         "infeasible, diverged, stopped, "
                         "cancelled"));
      }
      const int64_t limit = PageSize(request->page_size(), 1000);
      absl::StatusOr<std::vector<store::TrialView>> views = reader_.Trials(
          SweepId{request->sweep_id()}, request->state(), from, limit, request->tag());
      if (!views.ok()) return views.status();
      for (const store::TrialView& v : *views) ToProto(v, response->add_trials());
      if (static_cast<int64_t>(views->size()) == limit) {
        response->set_next_page_token(absl::StrCat(views->back().link.idx + 1));
      }
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* GetTrial(grpc::CallbackServerContext* context,
                                     const v1::GetTrialRequest* request,
                                     v1::GetTrialResponse* response) override {
    return Read(context, [this, request, response]() -> absl::Status {
      absl::StatusOr<store::TrialView> view = reader_.Trial(TrialId{request->trial_id()});
      if (!view.ok()) return view.status();
      ToProto(*view, response->mutable_trial(), TrialParts::kAll);
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* CancelTrial(grpc::CallbackServerContext* context,
                                        const v1::CancelTrialRequest* request,
                                        v1::CancelTrialResponse* response) override {
    return Count(context, core::CancelTrial{.trial = TrialId{request->trial_id()}},
                 [response](int64_t n) { response->set_cancelled_stages(n); });
  }

  grpc::ServerUnaryReactor* RetryTrial(grpc::CallbackServerContext* context,
                                       const v1::RetryTrialRequest* request,
                                       v1::RetryTrialResponse* response) override {
    return Count(context,
                 core::RetryTrial{.trial = TrialId{request->trial_id()},
                                  .known = std::nullopt,
                                  .links = {},
                                  .stage = request->stage()},
                 [response](int64_t n) { response->set_retried_stages(n); });
  }

  grpc::ServerUnaryReactor* AddStages(grpc::CallbackServerContext* context,
                                      const v1::AddStagesRequest* request,
                                      v1::AddStagesResponse* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    const bool posted = c_.reads->Post([this, reactor, request, response] {
      coordinator::AddStages(*request, reader_, *c_.owner, response,
                             [reactor](const absl::Status& s) { reactor->Finish(ToGrpc(s)); });
    });
    if (!posted) {
      reactor->Finish(
          grpc::Status(grpc::StatusCode::UNAVAILABLE, "the server is busy or stopping; try again"));
    }
    return reactor;
  }

  grpc::ServerUnaryReactor* ExplainTrial(grpc::CallbackServerContext* context,
                                         const v1::ExplainTrialRequest* request,
                                         v1::ExplainTrialResponse* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    const TrialId trial{request->trial_id()};
    c_.owner->Read(
        [trial, response](const core::Core& core, core::Now now) {
          for (std::string& line : core.Explain(trial, now)) response->add_lines(std::move(line));
        },
        [this, trial, response, reactor](absl::Status s) {
          if (!s.ok()) {
            reactor->Finish(ToGrpc(s));
            return;
          }
          PostRead(reactor, [this, trial, response] { return ExplainFromDisk(trial, response); });
        });
    return reactor;
  }

  grpc::ServerUnaryReactor* ListEvents(grpc::CallbackServerContext* context,
                                       const v1::ListEventsRequest* request,
                                       v1::ListEventsResponse* response) override {
    return Read(context, [this, request, response]() -> absl::Status {
      const int64_t limit = request->limit() <= 0 ? 100 : request->limit();
      absl::StatusOr<std::vector<store::EventView>> views =
          reader_.Events({.sweep = SweepId{request->sweep_id()},
                          .trial = TrialId{request->trial_id()},
                          .kind = request->kind(),
                          .since_us = request->since_us(),
                          .worker = request->worker(),
                          .limit = std::min<int64_t>(limit, 100'000)});
      if (!views.ok()) return views.status();
      for (const store::EventView& v : *views) ToProto(v, response->add_events());
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* ExplainWorker(grpc::CallbackServerContext* context,
                                          const v1::ExplainWorkerRequest* request,
                                          v1::ExplainWorkerResponse* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    c_.owner->Read(
        [request, response](const core::Core& core, core::Now now) {
          for (std::string& line : core.ExplainWorker(request->name(), now))
            response->add_lines(std::move(line));
        },
        [request, response, reactor](absl::Status s) {
          if (s.ok() && response->lines().empty())
            s = absl::NotFoundError(absl::StrCat("no worker \"", request->name(),
                                                 "\"; `plumb worker list` shows them"));
          reactor->Finish(ToGrpc(s));
        });
    return reactor;
  }

  grpc::ServerUnaryReactor* ListWorkers(grpc::CallbackServerContext* context,
                                        const v1::ListWorkersRequest*,
                                        v1::ListWorkersResponse* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    c_.owner->Read(
        [this, response](const core::Core& core, core::Now now) {
          for (const core::Core::WorkerView& w : core.Workers(now))
            ToProto(w, response->add_workers());
        },
        [reactor](absl::Status s) { reactor->Finish(ToGrpc(s)); });
    return reactor;
  }

  grpc::ServerUnaryReactor* GetServer(grpc::CallbackServerContext* context,
                                      const v1::GetServerRequest*,
                                      v1::GetServerResponse* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    c_.owner->Read(
        [this, response](const core::Core& core, core::Now now) {
          response->set_version(c_.version);
          response->set_database_path(c_.db_path);
          response->set_incarnation(core.incarnation());
          response->set_pid(getpid());
          int64_t workers = 0, slots = 0, used = 0;
          for (const core::Core::WorkerView& w : core.Workers(now)) {
            if (w.row.state != WorkerState::kConnected) continue;
            ++workers;
            slots += w.row.slots;
            used += w.used;
          }
          response->set_workers(workers);
          response->set_slots(slots);
          response->set_slots_used(used);
          response->set_waiting(core.waiting());
          const Metrics& m = c_.owner->metrics();
          response->set_uptime_seconds(absl::ToDoubleSeconds(m.uptime()));
          response->set_commits(m.commits());
          response->set_points(m.points());
          response->set_longest_commit_seconds(absl::ToDoubleSeconds(m.longest_commit()));
          response->set_last_snapshot_time(m.last_snapshot_unix());
        },
        [reactor](absl::Status s) { reactor->Finish(ToGrpc(s)); });
    return reactor;
  }

 private:
  static absl::Status BadUser() {
    return absl::InvalidArgumentError("user: 1 to 64 letters, digits, - _ . @");
  }
  grpc::ServerUnaryReactor* Edit(grpc::CallbackServerContext* context, core::Event event) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    c_.owner->Post(std::move(event), [reactor](const absl::StatusOr<core::Answer>& answer) {
      reactor->Finish(ToGrpc(answer.status()));
    });
    return reactor;
  }
  template <typename Request, typename Response>
  grpc::ServerUnaryReactor* Long(grpc::CallbackServerContext* context,
                                 absl::Status (Edits::*method)(const Request&, Response*),
                                 const Request* request, Response* response) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    c_.edits->Post(method, request, response,
                   [reactor](const absl::Status& s) { reactor->Finish(ToGrpc(s)); });
    return reactor;
  }
  static absl::Status BadToken() {
    return absl::InvalidArgumentError(
        "page_token: not one that this server gave; start without a token");
  }
  static int64_t PageSize(int32_t asked, int64_t usual) {
    return asked <= 0 ? usual : std::min<int64_t>(asked, kMaxPage);
  }

  template <typename F>
  void PostRead(grpc::ServerUnaryReactor* reactor, F read) {
    if (!c_.reads->Post([reactor, read] { reactor->Finish(ToGrpc(read())); })) {
      reactor->Finish(
          grpc::Status(grpc::StatusCode::UNAVAILABLE, "the server is busy or stopping; try again"));
    }
  }

  template <typename F>
  grpc::ServerUnaryReactor* Read(grpc::CallbackServerContext* context, F read) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    PostRead(reactor, std::move(read));
    return reactor;
  }

  template <typename F>
  grpc::ServerUnaryReactor* Count(grpc::CallbackServerContext* context, core::Event event, F set) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    c_.owner->Post(std::move(event), [reactor, set](absl::StatusOr<core::Answer> answer) {
      if (answer.ok()) set(std::get<core::Counted>(*answer).stages);
      reactor->Finish(ToGrpc(answer.status()));
    });
    return reactor;
  }

  absl::Status ExplainFromDisk(TrialId trial, v1::ExplainTrialResponse* response) {
    absl::StatusOr<store::TrialView> view = reader_.Trial(trial);
    if (!view.ok()) return view.status();
    if (response->lines_size() == 0) {  // it has ended: the core has forgotten it
      for (const store::StageView& s : view->stages) {
        response->add_lines(
            absl::StrCat("stage ", s.row.name, " is ", Name(s.row.state), ": ", s.row.reason));
      }
    }
    absl::StatusOr<std::vector<EventRow>> events = reader_.Events(trial, kEvents);
    if (!events.ok()) return events.status();
    for (const EventRow& e : *events) {
      std::string line = absl::FormatTime("%Y-%m-%d %H:%M:%S", absl::FromUnixMicros(e.time_us),
                                          absl::LocalTimeZone());
      for (const store::StageView& s : view->stages) {
        if (s.row.id == e.stage) absl::StrAppend(&line, " ", s.row.name);
      }
      if (e.attempt > 0) absl::StrAppend(&line, " attempt ", e.attempt);
      absl::StrAppend(&line, " ", e.kind, e.detail.empty() ? "" : ": ", e.detail);
      response->add_lines(std::move(line));
    }
    return absl::OkStatus();
  }

  // On the thread of reads.
  void Fill(const store::SweepView& v, v1::Sweep* out) {
    ToProto(v, out);
    out->set_waits_for(c_.desk->WaitsFor(v.row.id));
    const bool lives =
        v.row.state == SweepState::kRunning || v.row.state == SweepState::kMaterializing;
    if (!lives) {
      speeds_.erase(v.row.id);
      return;
    }
    if (v.first_start_time_us == 0) return;
    const Speed::Look look{
        .seconds = static_cast<double>(absl::ToUnixMicros(absl::Now())) / 1e6,
        .tokens = static_cast<double>(v.tokens_done),
        .work = v.flops_total > 0 ? v.flops_done : static_cast<double>(v.steps_done)};
    const double total = v.flops_total > 0 ? v.flops_total : static_cast<double>(v.steps_total);
    const double start = static_cast<double>(v.first_start_time_us) / 1e6;
    auto [it, is_new] = speeds_.try_emplace(v.row.id);
    Speed& speed = it->second;
    if (is_new) speed = {.older = {.seconds = std::max(start, look.seconds - 3600)}, .newer = look};
    if (is_new) speed.older.tokens = speed.older.work = 0;
    if (look.seconds - speed.newer.seconds > 10) speed = {.older = speed.newer, .newer = look};
    const double seconds = look.seconds - speed.older.seconds;
    if (seconds <= 0) return;
    out->set_tokens_per_s(std::max(0.0, (look.tokens - speed.older.tokens) / seconds));
    const double work_per_s = (look.work - speed.older.work) / seconds;
    if (work_per_s > 0) out->set_eta_seconds((total - look.work) / work_per_s);
  }

  const ServiceContext c_;
  store::Reader reader_;
  std::map<SweepId, Speed> speeds_;
};

}  // namespace

std::unique_ptr<v1::SweepService::CallbackService> MakeSweepService(const ServiceContext& context,
                                                                    store::Reader reader) {
  return std::make_unique<SweepServiceImpl>(context, std::move(reader));
}

}  // namespace plumb::coordinator
