// The suggesters' side of the coordinator: polls are held at the desk, answers judged by the
// planner.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/services.h"
#include "coordinator/suggestion_desk.h"

namespace plumb::coordinator {
namespace {

constexpr int64_t kLongestPollMs = 30'000;
constexpr size_t kMaxName = 200, kMaxNote = 4096, kMaxError = 2000;
constexpr int kMaxSamplers = 64, kMaxKnown = 1000, kMaxSuggestions = 100'000;

bool IsName(const std::string& text) { return !text.empty() && text.size() <= kMaxName; }

class PollReactor final : public grpc::ServerUnaryReactor {
 public:
  PollReactor(SuggestionDesk* desk, const v1::PollSuggestionsRequest& request,
              v1::PollSuggestionsResponse* response)
      : desk_(desk), response_(response) {
    const auto wait =
        std::chrono::milliseconds(std::clamp<int64_t>(request.wait_ms(), 0, kLongestPollMs));
    const int64_t id =
        desk_->Poll(request, wait, [this](absl::StatusOr<v1::PollSuggestionsResponse> answer) {
          if (answer.ok()) *response_ = *std::move(answer);
          Finish(ToGrpc(answer.status()));
        });
    poll_ = id;
    if (cancelled_ && id != 0) desk_->Drop(id);
  }
  void OnCancel() override {
    cancelled_ = true;
    if (const int64_t id = poll_; id != 0) desk_->Drop(id);
  }
  void OnDone() override { delete this; }

 private:
  SuggestionDesk* desk_;
  v1::PollSuggestionsResponse* response_;
  std::atomic<int64_t> poll_ = 0;
  std::atomic<bool> cancelled_ = false;
};

class SuggestServiceImpl final : public v1::SuggestService::CallbackService {
 public:
  explicit SuggestServiceImpl(const ServiceContext& context) : c_(context) {}

  grpc::ServerUnaryReactor* PollSuggestions(grpc::CallbackServerContext* context,
                                            const v1::PollSuggestionsRequest* request,
                                            v1::PollSuggestionsResponse* response) override {
    const auto refuse = [context](const std::string& why) {
      grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
      reactor->Finish(grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, why));
      return reactor;
    };
    if (!IsName(request->suggester()))
      return refuse("suggester: a name of 1 to 200 bytes, for people");
    if (request->samplers_size() == 0 || request->samplers_size() > kMaxSamplers ||
        !std::all_of(request->samplers().begin(), request->samplers().end(), IsName)) {
      return refuse(
          "samplers: 1 to 64 names of what the suggester can do, as tpe or the name of an "
          "external search");
    }
    if (request->known_size() > kMaxKnown) return refuse("known: at most 1,000 histories");
    return new PollReactor(c_.desk, *request, response);
  }

  grpc::ServerUnaryReactor* ReportSuggestions(grpc::CallbackServerContext* context,
                                              const v1::ReportSuggestionsRequest* request,
                                              v1::ReportSuggestionsResponse* response) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    const std::string wrong = WhatIsWrong(*request);
    if (!wrong.empty()) {
      reactor->Finish(grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, wrong));
      return reactor;
    }
    c_.planner->Suggest(*request,
                        [reactor, response](absl::StatusOr<v1::ReportSuggestionsResponse> answer) {
                          if (answer.ok()) *response = *std::move(answer);
                          reactor->Finish(ToGrpc(answer.status()));
                        });
    return reactor;
  }

 private:
  static std::string WhatIsWrong(const v1::ReportSuggestionsRequest& r) {
    if (!IsName(r.suggester())) return "suggester: a name of 1 to 200 bytes, for people";
    if (r.error().size() > kMaxError) return "error: at most 2,000 bytes";
    if (!r.error().empty() && (r.suggestions_size() > 0 || r.exhausted()))
      return "error: either suggestions or why there are none";
    if (r.error().empty() && r.suggestions_size() == 0 && !r.exhausted())
      return "suggestions: at least one, or exhausted, or an error";
    if (r.suggestions_size() > kMaxSuggestions) return "suggestions: more than were asked for";
    for (const v1::Suggestion& s : r.suggestions()) {
      if (s.note().size() > kMaxNote) return "suggestions.note: at most 4,096 bytes";
    }
    return "";
  }

  const ServiceContext c_;
};

}  // namespace

std::unique_ptr<v1::SuggestService::CallbackService> MakeSuggestService(
    const ServiceContext& context) {
  return std::make_unique<SuggestServiceImpl>(context);
}

}  // namespace plumb::coordinator
