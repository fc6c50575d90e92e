#include "coordinator/owner.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/event_log.h"
#include "domain/status_macros.h"

namespace plumb::coordinator {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kInboxLimit = 8192;
constexpr size_t kTurnItems = 512;
constexpr absl::Duration kMaxAdvance = absl::Seconds(1);

int64_t WallMicros() { return absl::ToUnixMicros(absl::Now()); }

absl::Status Stopping() { return absl::UnavailableError("the server is stopping; try again"); }

// What the caller may learn of a failed commit.
absl::Status CommitError(const absl::Status& s) {
  if (s.code() == absl::StatusCode::kResourceExhausted) {
    return absl::ResourceExhaustedError(absl::StrCat("the server's disk is full: ", s.message()));
  }
  return absl::InternalError(absl::StrCat("not written: ", s.message()));
}

int64_t PointsIn(const std::vector<Change>& changes) {
  int64_t points = 0;
  for (const Change& change : changes) {
    const auto* batch = std::get_if<ApplyBatch>(&change);
    if (batch == nullptr) continue;
    for (const auto& series : batch->batch->series)
      points += static_cast<int64_t>(series.points.size());
  }
  return points;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Owner>> Owner::Start(std::unique_ptr<store::Store> store,
                                                    const core::Options& options, SliceFn slices,
                                                    AdviseFn advise) {
  ASSIGN_OR_RETURN(const ClusterSnapshot snapshot, store->Load());
  return std::unique_ptr<Owner>(
      new Owner(std::move(store), options, snapshot, std::move(slices), std::move(advise)));
}

Owner::Owner(std::unique_ptr<store::Store> store, const core::Options& options,
             const ClusterSnapshot& snapshot, SliceFn slices, AdviseFn advise)
    : options_(options),
      slices_(std::move(slices)),
      advise_(std::move(advise)),
      cluster_(snapshot.uid),
      run_(snapshot.run),
      committed_us_(absl::ToInt64Microseconds(snapshot.cluster_time)),
      store_(std::move(store)) {
  core_ = std::make_unique<core::Core>(options_, snapshot);
  now_.cluster = snapshot.cluster_time;
  last_turn_ = Clock::now();
  store_thread_ = std::thread([this] { StoreLoop(); });
  owner_thread_ = std::thread([this] { OwnerLoop(); });
}

Owner::~Owner() { Stop(); }

void Owner::Refuse(Item& item, const absl::Status& why) {
  switch (item.kind) {
    case Item::Kind::kEvent:
      if (item.done) item.done(why);
      return;
    case Item::Kind::kPoll:
      item.poll_done(why);
      return;
    case Item::Kind::kRead:
      item.read_done(why);
      return;
  }
}

void Owner::Put(ItemPtr item, Urgency urgency) {
  absl::Status refused;
  {
    std::lock_guard lock(inbox_mutex_);
    if (stopping_) {
      refused = Stopping();
    } else if (urgency == Urgency::kNormal && inbox_.size() >= kInboxLimit) {
      refused = absl::ResourceExhaustedError("the server has too many requests waiting; try again");
    } else {
      inbox_.push_back(std::move(item));
    }
  }
  if (refused.ok()) {
    metrics_.Accepted();
    inbox_changed_.notify_one();
    return;
  }
  metrics_.Refused();
  Refuse(*item, refused);
}

void Owner::Post(core::Event event, Done done) {
  auto item = std::make_unique<Item>();
  item->event = std::move(event);
  item->done = std::move(done);
  Put(std::move(item), Urgency::kNormal);
}

void Owner::Poll(SessionId session, int64_t generation, absl::Duration wait, PollDone done) {
  auto item = std::make_unique<Item>();
  item->kind = Item::Kind::kPoll;
  item->session = session;
  item->generation = generation;
  item->wait = wait;
  item->poll_done = std::move(done);
  Put(std::move(item), Urgency::kNormal);
}

void Owner::Read(ReadFn read, ReadDone done) {
  auto item = std::make_unique<Item>();
  item->kind = Item::Kind::kRead;
  item->read = std::move(read);
  item->read_done = std::move(done);
  Put(std::move(item), Urgency::kNormal);
}

void Owner::Planned(core::Event slice_or_abandon) {
  auto item = std::make_unique<Item>();
  item->event = std::move(slice_or_abandon);
  Put(std::move(item), Urgency::kInternal);
}

void Owner::Advised(const Question& question, core::Event advice_or_abandon) {
  auto item = std::make_unique<Item>();
  item->event = std::move(advice_or_abandon);
  item->advice = true;
  item->epoch = question.epoch;
  Put(std::move(item), Urgency::kInternal);
}

absl::Duration Owner::ReportInterval(absl::Duration base, absl::Duration lease) const {
  return std::max(base, std::min(absl::Milliseconds(sessions_.load()), lease / 4));
}

core::Now Owner::Tock() {
  const Clock::time_point now = Clock::now();
  const int64_t finished = finished_;
  if (finished == pushed_ || finished > finished_last_turn_) {
    now_.cluster += std::min(absl::FromChrono(now - last_turn_), kMaxAdvance);
  }
  finished_last_turn_ = finished;
  now_.wall_us = WallMicros();
  last_turn_ = now;
  return now_;
}

void Owner::Push(Batch batch) {
  ++pushed_;
  batch.cluster_time = now_.cluster;
  {
    std::lock_guard lock(queue_mutex_);
    queue_.push_back(std::move(batch));
  }
  queue_changed_.notify_all();
}

void Owner::OwnerLoop() {
  AskForSlice();
  while (true) {
    std::vector<ItemPtr> items;
    bool drained = false, failed = false, stopping = false;
    {
      std::unique_lock lock(inbox_mutex_);
      const auto wakes = [this] { return !inbox_.empty() || stopping_ || failed_; };
      Clock::time_point until = last_turn_ + std::chrono::seconds(1);
      const absl::Duration next = core_->NextWakeup() - now_.cluster;
      if (next < absl::Seconds(1)) {
        until = std::max(quiet_until_, last_turn_ + absl::ToChronoMicroseconds(
                                                        std::max(next, absl::Milliseconds(1))));
      }
      for (const auto& [session, held] : polls_) until = std::min(until, held.deadline);
      inbox_changed_.wait_until(lock, until, wakes);
      while (!inbox_.empty() && items.size() < kTurnItems) {
        items.push_back(std::move(inbox_.front()));
        inbox_.pop_front();
      }
      drained = inbox_.empty();
      failed = std::exchange(failed_, false);
      stopping = stopping_;
    }
    if (failed) Recover();
    Tock();
    Batch batch;
    for (ItemPtr& item : items) Handle(std::move(item), batch);
    // Whoever spoke has been heard before anyone is judged silent.
    if (drained && core_->NextWakeup() <= now_.cluster && Clock::now() >= quiet_until_) {
      auto tick = std::make_unique<Item>();
      tick->event = core::Tick{};
      ApplyEvent(std::move(tick), batch);
    }
    ExpirePolls(batch);
    AskForSlice();
    AskForAdvice(batch);
    sessions_ = core_->sessions();
    const bool done = stopping && drained && items.empty();
    if (done) {
      for (auto& [session, held] : polls_) Refuse(*held.item, Stopping());
      polls_.clear();
    }
    if (!batch.items.empty() || !batch.changes.empty()) Push(std::move(batch));
    if (!done) continue;
    // Nothing more comes in: the store ends when its queue is empty, unless it asks for help first.
    {
      std::unique_lock lock(queue_mutex_);
      queue_changed_.wait(
          lock, [this] { return (queue_.empty() && queue_idle_) || halted_ || !fatal_.ok(); });
      if (!halted_ || !fatal_.ok()) return;
    }
  }
}

void Owner::Handle(ItemPtr item, Batch& batch) {
  switch (item->kind) {
    case Item::Kind::kEvent:
      if (NeedsLookup(*item)) {
        // In order after what this turn did before it.
        if (!batch.items.empty() || !batch.changes.empty()) Push(std::exchange(batch, {}));
        SendToLookup(std::move(item));
        return;
      }
      ApplyEvent(std::move(item), batch);
      return;
    case Item::Kind::kRead:
      item->read(*core_, now_);
      item->finish = item->read_done;
      batch.items.push_back(std::move(item));
      return;
    case Item::Kind::kPoll: {
      const std::optional<WorkerId> worker = core_->WorkerOfSession(item->session);
      if (!worker || core_->Generation(*worker) > item->generation ||
          item->wait <= absl::ZeroDuration()) {
        AnswerPoll(std::move(item), batch);
        return;
      }
      Held& held = polls_[item->session];
      if (held.item)
        AnswerPoll(std::move(held.item), batch);  // one poll a session: the older one goes home
      held.deadline = Clock::now() + absl::ToChronoMilliseconds(item->wait);
      held.item = std::move(item);
      return;
    }
  }
}

void Owner::ApplyEvent(ItemPtr item, Batch& batch) {
  if (item->looked_up) {
    core_->Unpin();
    if (std::holds_alternative<core::MaterializeSlice>(item->event)) slice_asked_.reset();
  }
  if (item->advice) {
    // Since the core was rebuilt it counts anew.
    if (item->epoch == epoch_) {
      advice_asked_ = false;
    } else if (auto* advice = std::get_if<core::AdviseSweep>(&item->event)) {
      advice->seen = -1;
    }
  } else if (std::holds_alternative<core::AbandonSweep>(item->event)) {
    slice_asked_.reset();
  }
  core::Effects effects = core_->Apply(item->event, now_);
  std::move(effects.changes.begin(), effects.changes.end(), std::back_inserter(batch.changes));
  if (item->done) {
    item->finish = [done = item->done, answer = std::move(effects.answer)](absl::Status s) {
      done(s.ok() ? answer : absl::StatusOr<core::Answer>(s));
    };
  }
  const bool registered = std::holds_alternative<core::RegisterWorker>(item->event);
  batch.items.push_back(std::move(item));
  if (registered) {
    // A fenced session's poll learns of it at once.
    for (auto it = polls_.begin(); it != polls_.end();) {
      if (core_->WorkerOfSession(it->first)) {
        ++it;
        continue;
      }
      AnswerPoll(std::move(it->second.item), batch);
      it = polls_.erase(it);
    }
  }
  Wake(effects.woken, batch);
}

void Owner::AnswerPoll(ItemPtr item, Batch& batch) {
  const std::optional<WorkerId> worker = core_->WorkerOfSession(item->session);
  absl::StatusOr<Desired> answer;
  if (worker) {
    answer = Desired{.generation = core_->Generation(*worker), .grants = core_->Desired(*worker)};
  } else if (core_->SessionWasFenced(item->session)) {
    answer = absl::FailedPreconditionError(
        absl::StrCat("session ", item->session.value, " is fenced: its worker has a newer one"));
  } else {
    answer =
        absl::NotFoundError(absl::StrCat("no session ", item->session.value, "; register again"));
  }
  item->finish = [done = item->poll_done, answer = std::move(answer)](absl::Status s) {
    done(s.ok() ? answer : absl::StatusOr<Desired>(s));
  };
  batch.items.push_back(std::move(item));
}

void Owner::Wake(const std::vector<WorkerId>& woken, Batch& batch) {
  for (WorkerId worker : woken) {
    const auto it = polls_.find(core_->SessionOf(worker));
    if (it == polls_.end()) continue;
    AnswerPoll(std::move(it->second.item), batch);
    polls_.erase(it);
  }
}

void Owner::ExpirePolls(Batch& batch) {
  const Clock::time_point now = Clock::now();
  for (auto it = polls_.begin(); it != polls_.end();) {
    if (it->second.deadline > now) {
      ++it;
      continue;
    }
    AnswerPoll(std::move(it->second.item), batch);
    it = polls_.erase(it);
  }
}

void Owner::AskForSlice() {
  if (slice_asked_ || Clock::now() < quiet_until_) return;
  const std::optional<core::Core::Cursor> next = core_->NextSlice();
  if (!next) return;
  slice_asked_ = next->sweep;
  slices_(*next);
}

// As a read: what the advisor then finds on disk is at least what the core knew when it asked.
void Owner::AskForAdvice(Batch& batch) {
  if (advise_ == nullptr || advice_asked_ || Clock::now() < quiet_until_) return;
  const std::optional<core::Core::Due> due = core_->NextDue();
  if (!due) return;
  advice_asked_ = true;
  auto item = std::make_unique<Item>();
  item->kind = Item::Kind::kRead;
  item->read = [](const core::Core&, core::Now) {};
  item->read_done = [this, question = Question{*due, core_->CursorOf(due->sweep), epoch_}](
                        const absl::Status& s) {
    if (s.ok()) advise_(question);
  };
  Handle(std::move(item), batch);
}

bool Owner::NeedsLookup(const Item& item) const {
  const bool looks_up = std::holds_alternative<core::MaterializeSlice>(item.event) ||
                        std::holds_alternative<core::CancelTrial>(item.event) ||
                        std::holds_alternative<core::RetryTrial>(item.event) ||
                        std::holds_alternative<core::AddStage>(item.event) ||
                        std::holds_alternative<core::Annotate>(item.event) ||
                        std::holds_alternative<core::ImportTrials>(item.event) ||
                        std::holds_alternative<core::RemoveTrial>(item.event);
  return looks_up && (!item.looked_up || item.epoch != epoch_);
}

void Owner::SendToLookup(ItemPtr item) {
  core_->Pin();
  // std::function wants a copyable task; the item comes back to the inbox and is gone from here.
  auto shared = std::make_shared<ItemPtr>(std::move(item));
  Batch batch;
  batch.lookup = [this, shared, epoch = epoch_] {
    ItemPtr item = std::move(*shared);
    if (!item) return;
    const absl::Status s = LookUp(item->event);
    item->looked_up = true;
    item->epoch = epoch;
    if (!s.ok()) spdlog::error("look-up: {}", std::string(s.message()));
    {
      std::lock_guard lock(inbox_mutex_);
      inbox_.push_front(std::move(item));  // also while stopping: it was accepted
    }
    inbox_changed_.notify_one();
  };
  Push(std::move(batch));
}

absl::Status Owner::LookUp(core::Event& event) {
  if (auto* slice = std::get_if<core::MaterializeSlice>(&event)) {
    std::vector<std::string> keys;
    for (const core::NewTrial& t : *slice->trials) keys.push_back(t.trial.key);
    ASSIGN_OR_RETURN(slice->known, store_->FindByKey(keys));
    ASSIGN_OR_RETURN(slice->trunks, store_->FindTrunks(PrefixKeysOf(*slice)));
  } else if (auto* cancel = std::get_if<core::CancelTrial>(&event)) {
    ASSIGN_OR_RETURN(cancel->known, store_->Find(cancel->trial));
  } else if (auto* retry = std::get_if<core::RetryTrial>(&event)) {
    ASSIGN_OR_RETURN(retry->known, store_->Find(retry->trial));
    ASSIGN_OR_RETURN(retry->links, store_->LinksOf(retry->trial));
    ASSIGN_OR_RETURN(retry->trunks, store_->FindTrunks(PrefixKeysOf(*retry)));
  } else if (auto* add = std::get_if<core::AddStage>(&event)) {
    ASSIGN_OR_RETURN(add->known, store_->Find(add->trial));
    ASSIGN_OR_RETURN(add->links, store_->LinksOf(add->trial));
  } else if (auto* annotate = std::get_if<core::Annotate>(&event)) {
    ASSIGN_OR_RETURN(annotate->known, store_->Find(annotate->trial));  // of none: none
  } else if (auto* import = std::get_if<core::ImportTrials>(&event)) {
    std::vector<std::string> keys;
    for (const auto& t : *import->trials) keys.push_back(t.trial.trial.key);
    ASSIGN_OR_RETURN(import->known, store_->FindByKey(keys));
  } else if (auto* remove = std::get_if<core::RemoveTrial>(&event)) {
    ASSIGN_OR_RETURN(remove->known, store_->Find(remove->trial));
    ASSIGN_OR_RETURN(remove->links, store_->LinksOf(remove->trial));
  }
  return absl::OkStatus();
}

void Owner::StoreLoop() {
  while (true) {
    std::vector<Batch> group;
    {
      std::unique_lock lock(queue_mutex_);
      queue_idle_ = true;
      queue_changed_.notify_all();
      queue_changed_.wait(
          lock, [this] { return (!queue_.empty() && !halted_) || queue_ended_ || !fatal_.ok(); });
      if (!fatal_.ok() || queue_.empty()) return;
      queue_idle_ = false;
      if (queue_.front().lookup) {
        group.push_back(std::move(queue_.front()));
        queue_.pop_front();
      } else {
        while (!queue_.empty() && !queue_.front().lookup) {
          group.push_back(std::move(queue_.front()));
          queue_.pop_front();
        }
      }
    }
    if (group.front().lookup) {
      group.front().lookup();
      ++finished_;
      continue;
    }
    std::vector<Change> changes;
    for (Batch& b : group)
      std::move(b.changes.begin(), b.changes.end(), std::back_inserter(changes));
    const Clock::time_point before = Clock::now();
    const absl::Status s =
        changes.empty() ? absl::OkStatus()
                        : store_->Commit(group.back().cluster_time, absl::MakeConstSpan(changes));
    if (s.ok() && !changes.empty()) {
      metrics_.Committed(absl::FromChrono(Clock::now() - before),
                         static_cast<int64_t>(changes.size()), PointsIn(changes));
    } else if (!s.ok()) {
      metrics_.CommitFailed();
    }
    if (s.ok()) {
      finished_ += static_cast<int64_t>(group.size());
      if (!changes.empty()) {
        last_error_ = absl::StatusCode::kOk;
        committed_us_ = absl::ToInt64Microseconds(group.back().cluster_time);
        LogEvents(changes);
      }
      for (Batch& b : group) {
        for (ItemPtr& item : b.items) {
          if (item->finish) item->finish(absl::OkStatus());
        }
      }
      continue;
    }
    if (s.code() != last_error_) spdlog::error("commit failed: {}", std::string(s.message()));
    last_error_ = s.code();  // a full disk is said once
    if (s.code() == absl::StatusCode::kDataLoss) {
      for (Batch& b : group) {
        for (ItemPtr& item : b.items) {
          if (item->finish) item->finish(absl::UnavailableError(s.message()));
        }
      }
      Fail(s);
      return;
    }
    {
      std::lock_guard lock(queue_mutex_);
      for (auto it = group.rbegin(); it != group.rend(); ++it) queue_.push_front(std::move(*it));
      halted_ = true;
      queue_idle_ = true;
      queue_changed_.notify_all();
    }
    {
      std::lock_guard lock(inbox_mutex_);
      failed_ = true;
    }
    inbox_changed_.notify_one();
  }
}

void Owner::Rebuild() {
  absl::StatusOr<ClusterSnapshot> snapshot = store_->Load();
  if (!snapshot.ok()) {
    Fail(snapshot.status());
    return;
  }
  snapshot->min_generation = core_->generation() + 1;
  core_ = std::make_unique<core::Core>(options_, *snapshot);
  slice_asked_.reset();
  advice_asked_ = false;
  quiet_until_ =
      Clock::now() + std::chrono::seconds(1);  // a full disk is not asked a thousand times a second
  ++epoch_;
}

// What the database refuses again and again must not be tried for ever, nor take others with it.
void Owner::Isolate(const core::Event& event, const absl::Status& why) {
  std::optional<core::Event> instead;
  if (const auto* report = std::get_if<core::Report>(&event)) {
    core::QuarantineAttempts quarantine{
        .cause = absl::StrCat("the database refuses its facts: ", why.message())};
    for (const MeasurementBatchPtr& b : report->batches) quarantine.attempts.push_back(b->attempt);
    instead = std::move(quarantine);
  } else if (const auto* slice = std::get_if<core::MaterializeSlice>(&event)) {
    instead = core::AbandonSweep{
        .sweep = slice->sweep,
        .reason = absl::StrCat("the database refuses its trials: ", why.message())};
  }
  if (!instead) return;
  const core::Effects effects = core_->Apply(*instead, now_);
  if (const absl::Status s = store_->Commit(now_.cluster, absl::MakeConstSpan(effects.changes));
      !s.ok()) {
    spdlog::error("not isolated: {}", std::string(s.message()));
    Rebuild();
  }
}

// The store thread is halted, so the store is ours.
void Owner::Recover() {
  std::deque<Batch> lost;
  {
    std::lock_guard lock(queue_mutex_);
    if (!halted_) return;
    lost = std::exchange(queue_, {});
  }
  finished_ = pushed_;
  Rebuild();
  Tock();
  std::vector<std::function<void()>> lookups;
  for (Batch& batch : lost) {
    if (batch.lookup) lookups.push_back(std::move(batch.lookup));
    for (ItemPtr& item : batch.items) {
      if (!fatal().ok()) {
        Refuse(*item, absl::UnavailableError(fatal().message()));
        continue;
      }
      item->finish = nullptr;
      if (item->kind != Item::Kind::kEvent) {
        Batch alone;
        Handle(std::move(item), alone);
        for (ItemPtr& answered : alone.items) {
          if (answered->finish) answered->finish(absl::OkStatus());
        }
        continue;
      }
      absl::Status s = item->looked_up ? LookUp(item->event) : absl::OkStatus();
      core::Effects effects;
      if (s.ok()) {
        effects = core_->Apply(item->event, now_);
        s = store_->Commit(now_.cluster, absl::MakeConstSpan(effects.changes));
        if (s.ok()) committed_us_ = absl::ToInt64Microseconds(now_.cluster);
        if (!s.ok()) Rebuild();
      }
      if (s.ok()) {
        if (item->done) item->done(std::move(effects.answer));
        continue;
      }
      if (s.code() == absl::StatusCode::kDataLoss) Fail(s);
      if (s.code() == absl::StatusCode::kFailedPrecondition) Isolate(item->event, s);
      if (item->done) item->done(CommitError(s));
    }
  }
  // Held polls see generations of the rebuilt core.
  for (auto& [session, held] : std::exchange(polls_, {}))
    Put(std::move(held.item), Urgency::kInternal);
  for (auto& lookup : lookups) lookup();  // they come back with an old epoch and look again
  {
    std::lock_guard lock(queue_mutex_);
    halted_ = false;
  }
  queue_changed_.notify_all();
}

void Owner::Fail(const absl::Status& why) {
  std::function<void()> call;
  {
    std::lock_guard lock(queue_mutex_);
    if (!fatal_.ok()) return;
    fatal_ = why;
    call = on_fatal_;
  }
  queue_changed_.notify_all();
  if (call) call();
}

absl::Status Owner::fatal() const {
  std::lock_guard lock(queue_mutex_);
  return fatal_;
}

void Owner::OnFatal(std::function<void()> on_fatal) {
  std::lock_guard lock(queue_mutex_);
  on_fatal_ = std::move(on_fatal);
}

void Owner::Stop() {
  std::lock_guard stop_lock(stop_mutex_);
  {
    std::lock_guard lock(inbox_mutex_);
    stopping_ = true;
  }
  inbox_changed_.notify_one();
  if (owner_thread_.joinable()) owner_thread_.join();
  {
    std::lock_guard lock(queue_mutex_);
    queue_ended_ = true;
  }
  queue_changed_.notify_all();
  if (store_thread_.joinable()) store_thread_.join();
  // After a fatal error something may be left; nobody waits for ever.
  for (Batch& batch : queue_) {
    for (ItemPtr& item : batch.items) Refuse(*item, Stopping());
  }
  queue_.clear();
  for (ItemPtr& item : inbox_) Refuse(*item, Stopping());
  inbox_.clear();
}

}  // namespace plumb::coordinator
