#include "coordinator/suggestion_desk.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace plumb::coordinator {
namespace {

using std::chrono::seconds;

constexpr auto kAfterAnError = seconds(5);
constexpr auto kGone = seconds(40);  // without a poll; polls are held for 30 s at most
constexpr auto kWorthSaying = seconds(2);
constexpr size_t kTold = 8;

bool IsOptuna(const std::string& sampler) {
  return sampler == "tpe" || sampler == "gp" || sampler == "cmaes" || sampler == "nsga2";
}

}  // namespace

SuggestionDesk::SuggestionDesk(std::chrono::milliseconds stands)
    : stands_(stands), thread_([this] { Run(); }) {}

void SuggestionDesk::Offer(const std::string& plan, v1::SuggestionRequest request) {
  {
    std::lock_guard lock(mutex_);
    Sweep& sweep = sweeps_[SweepId{request.sweep_id()}];
    if (request.first() < sweep.next) return;
    sweep.plan = plan;
    if (sweep.newest == nullptr && sweep.standing == nullptr) sweep.since = Clock::now();
    sweep.newest = std::make_shared<const v1::SuggestionRequest>(std::move(request));
  }
  changed_.notify_all();
}

void SuggestionDesk::Withdraw(SweepId sweep) {
  std::lock_guard lock(mutex_);
  const auto it = sweeps_.find(sweep);
  if (it == sweeps_.end()) return;
  // What is being answered is answered; `next` stays, so that nothing old comes back.
  it->second.newest = nullptr;
  if (!it->second.answering) it->second.standing = nullptr;
}

int64_t SuggestionDesk::Poll(const v1::PollSuggestionsRequest& poll, std::chrono::milliseconds wait,
                             PollDone done) {
  std::optional<v1::PollSuggestionsResponse> answer;
  int64_t id = 0;
  {
    std::lock_guard lock(mutex_);
    const Clock::time_point now = Clock::now();
    for (const std::string& sampler : poll.samplers()) asked_[sampler] = now;
    answer = Serve(poll, now);
    if (!answer && (wait <= wait.zero() || stopped_)) answer.emplace();
    if (!answer) {
      id = ++last_poll_;
      held_.push_back({id, poll, now + wait, done});
    }
  }
  if (answer) {
    done(*std::move(answer));
  } else {
    changed_.notify_all();
  }
  return id;
}

void SuggestionDesk::Drop(int64_t poll) {
  PollDone done;
  {
    std::lock_guard lock(mutex_);
    const auto it =
        std::find_if(held_.begin(), held_.end(), [&](const Held& h) { return h.id == poll; });
    if (it == held_.end()) return;
    done = std::move(it->done);
    held_.erase(it);
  }
  done(absl::CancelledError("the caller is gone"));
}

std::optional<v1::PollSuggestionsResponse> SuggestionDesk::Serve(
    const v1::PollSuggestionsRequest& poll, Clock::time_point now) {
  for (auto& [id, sweep] : sweeps_) {
    if (sweep.answering || sweep.quiet_until > now) continue;
    if (sweep.newest == nullptr && sweep.standing == nullptr) continue;
    const std::string& sampler = (sweep.newest ? sweep.newest : sweep.standing)->sampler();
    if (std::find(poll.samplers().begin(), poll.samplers().end(), sampler) == poll.samplers().end())
      continue;
    if (sweep.newest != nullptr && (sweep.standing == nullptr || now - sweep.handed >= stands_)) {
      sweep.standing = std::exchange(sweep.newest, nullptr);
      sweep.handed = now;
    }
    v1::PollSuggestionsResponse out;
    *out.mutable_request() = Tell(sweep, *sweep.standing, poll);
    return out;
  }
  return std::nullopt;
}

v1::SuggestionRequest SuggestionDesk::Tell(Sweep& sweep, const v1::SuggestionRequest& whole,
                                           const v1::PollSuggestionsRequest& poll) {
  std::vector<size_t> hashes;
  for (const v1::Observation& o : whole.history())
    hashes.push_back(std::hash<std::string>()(o.SerializeAsString()));
  v1::SuggestionRequest out = whole;
  for (const v1::KnownHistory& known : poll.known()) {
    if (known.sweep_id() != whole.sweep_id()) continue;
    for (const auto& [hash, before] : sweep.told) {
      if (hash != known.history_hash() || before.size() > hashes.size()) continue;
      out.clear_history();
      out.set_since_hash(hash);
      for (size_t i = 0; i < hashes.size(); ++i) {
        if (i >= before.size() || before[i] != hashes[i])
          *out.add_history() = whole.history(static_cast<int>(i));
      }
      break;
    }
  }
  const bool known = std::any_of(sweep.told.begin(), sweep.told.end(),
                                 [&](const auto& t) { return t.first == whole.history_hash(); });
  if (!known) sweep.told.emplace_back(whole.history_hash(), std::move(hashes));
  if (sweep.told.size() > kTold) sweep.told.pop_front();
  return out;
}

std::optional<SuggestionDesk::Taken> SuggestionDesk::Take(const std::string& request_id) {
  std::lock_guard lock(mutex_);
  for (auto& [id, sweep] : sweeps_) {
    // One that was not handed out yet is the same request made again, after a restart.
    if (sweep.standing == nullptr && sweep.newest != nullptr &&
        sweep.newest->request_id() == request_id)
      sweep.standing = std::exchange(sweep.newest, nullptr);
    if (sweep.standing == nullptr || sweep.standing->request_id() != request_id) continue;
    if (sweep.answering) return std::nullopt;
    sweep.answering = true;
    return Taken{sweep.plan, id, sweep.standing->first(), sweep.standing->count()};
  }
  return std::nullopt;
}

void SuggestionDesk::Answered(SweepId id, int64_t next) {
  {
    std::lock_guard lock(mutex_);
    Sweep& sweep = sweeps_[id];
    sweep.answering = false;
    sweep.standing = nullptr;
    sweep.error.clear();
    sweep.next = std::max(sweep.next, next);
    if (sweep.newest != nullptr && sweep.newest->first() < sweep.next) sweep.newest = nullptr;
    sweep.since = Clock::now();
  }
  changed_.notify_all();
}

void SuggestionDesk::Refused(SweepId id) {
  {
    std::lock_guard lock(mutex_);
    sweeps_[id].answering = false;
  }
  changed_.notify_all();
}

absl::Status SuggestionDesk::Failed(const std::string& request_id, const std::string& suggester,
                                    const std::string& error) {
  std::lock_guard lock(mutex_);
  for (auto& [id, sweep] : sweeps_) {
    if (sweep.standing == nullptr || sweep.standing->request_id() != request_id) continue;
    sweep.error = absl::StrCat(suggester, " says: ", error);
    sweep.quiet_until = Clock::now() + kAfterAnError;
    return absl::OkStatus();
  }
  return absl::NotFoundError("no such request stands");
}

std::string SuggestionDesk::WaitsFor(SweepId id) const {
  std::lock_guard lock(mutex_);
  const auto it = sweeps_.find(id);
  if (it == sweeps_.end()) return "";
  const Sweep& sweep = it->second;
  const RequestPtr& request = sweep.standing != nullptr ? sweep.standing : sweep.newest;
  if (request == nullptr) return "";
  const Clock::time_point now = Clock::now();
  const std::string what = absl::StrCat(
      request->count(), request->count() == 1 ? " point" : " points", " by ", request->sampler());
  if (!sweep.error.empty()) return absl::StrCat(what, "; ", sweep.error);
  if (now - sweep.since < kWorthSaying) return "";
  const auto asked = asked_.find(request->sampler());
  const bool there = asked != asked_.end() && now - asked->second < kGone;
  if (there && (sweep.standing == nullptr || now - sweep.handed < kGone)) return what;
  return absl::StrCat(what, ", and no suggester that does ", request->sampler(),
                      asked == asked_.end() ? " has asked yet" : " is there any more",
                      IsOptuna(request->sampler())
                          ? "; start one: plumb-suggest --server ADDRESS (`plumb up` does so)"
                          : "; start yours (docs/how-to/suggester.md)");
}

void SuggestionDesk::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    const Clock::time_point now = Clock::now();
    std::vector<std::pair<PollDone, v1::PollSuggestionsResponse>> answers;
    Clock::time_point until = now + seconds(3600);
    for (auto it = held_.begin(); it != held_.end();) {
      std::optional<v1::PollSuggestionsResponse> answer = Serve(it->poll, now);
      if (!answer && (it->deadline <= now || stopped_)) answer.emplace();
      if (!answer) {
        until = std::min(until, it->deadline);
        ++it;
        continue;
      }
      answers.emplace_back(std::move(it->done), *std::move(answer));
      it = held_.erase(it);
    }
    if (!held_.empty()) {
      for (const auto& [id, sweep] : sweeps_) {
        if (sweep.quiet_until > now) until = std::min(until, sweep.quiet_until);
      }
    }
    if (!answers.empty()) {
      lock.unlock();
      for (auto& [done, answer] : answers) done(std::move(answer));
      lock.lock();
      continue;
    }
    if (stopped_) return;
    changed_.wait_until(lock, until);
  }
}

void SuggestionDesk::Stop() {
  {
    std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

}  // namespace plumb::coordinator
