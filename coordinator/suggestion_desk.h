// Where suggesters ask for work and searches lay it out: requests that stand, polls that are held.
//
// A request stands until it is answered, whatever ends meanwhile, so that a slow suggester is not
// told again and again that its answer is of yesterday. One that nobody has taken, or that was
// taken long ago, gives way to a newer one.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "domain/id.h"
#include "plumb/v1/suggest_service.pb.h"

namespace plumb::coordinator {

// All of it may be called from any thread.
class SuggestionDesk {
 public:
  using PollDone = std::function<void(absl::StatusOr<v1::PollSuggestionsResponse>)>;

  // `stands`: how long a request that was handed out stands although there is a newer one.
  explicit SuggestionDesk(std::chrono::milliseconds stands);
  ~SuggestionDesk() { Stop(); }

  // Lays out a request, in the place of an older one of its sweep. `plan` finds the sweep's plan
  // again. Ignored where the sweep's points have come further than its first.
  void Offer(const std::string& plan, v1::SuggestionRequest request);
  // The sweep asks for nothing.
  void Withdraw(SweepId sweep);

  // Answers by a request that the suggester can serve, at once or when there is one, or after
  // `wait` by none. Returns what Drop takes.
  int64_t Poll(const v1::PollSuggestionsRequest& poll, std::chrono::milliseconds wait,
               PollDone done);
  // The caller of the poll is gone: it is not answered any more, unless it was.
  void Drop(int64_t poll);

  // Who answers this request has it for himself until Answered or Refused; nullopt: it does not
  // stand, or somebody answers it already.
  struct Taken {
    std::string plan;
    SweepId sweep;
    int64_t first = 0, count = 0;
  };
  std::optional<Taken> Take(const std::string& request_id);
  // The answer is durable: the sweep's points go up to `next`.
  void Answered(SweepId sweep, int64_t next);
  // It is not: the request stands again.
  void Refused(SweepId sweep);
  // The suggester cannot answer. The request is not handed out again for a while.
  absl::Status Failed(const std::string& request_id, const std::string& suggester,
                      const std::string& error);

  // Whom the sweep waits for, in words; empty: for nobody.
  std::string WaitsFor(SweepId sweep) const;

  // Answers held polls; idempotent.
  void Stop();

 private:
  using Clock = std::chrono::steady_clock;
  using RequestPtr = std::shared_ptr<const v1::SuggestionRequest>;
  struct Sweep {
    std::string plan;
    RequestPtr newest, standing;  // the latter was handed out
    Clock::time_point handed, since, quiet_until;
    bool answering = false;
    int64_t next = 0;   // what was answered goes up to there
    std::string error;  // the last suggester's
    // Histories that were told, newest last: their hash, and each observation's.
    std::deque<std::pair<std::string, std::vector<size_t>>> told;
  };
  struct Held {
    int64_t id = 0;
    v1::PollSuggestionsRequest poll;
    Clock::time_point deadline;
    PollDone done;
  };

  void Run();
  // What the poll is answered by now, handed out; nullptr: nothing.
  std::optional<v1::PollSuggestionsResponse> Serve(const v1::PollSuggestionsRequest& poll,
                                                   Clock::time_point now);
  static v1::SuggestionRequest Tell(Sweep& sweep, const v1::SuggestionRequest& whole,
                                    const v1::PollSuggestionsRequest& poll);

  const std::chrono::milliseconds stands_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<SweepId, Sweep> sweeps_;
  std::vector<Held> held_;
  std::map<std::string, Clock::time_point> asked_;  // by sampler: when somebody last asked for it
  int64_t last_poll_ = 0;
  bool stopped_ = false;
  std::thread thread_;  // last
};

}  // namespace plumb::coordinator
