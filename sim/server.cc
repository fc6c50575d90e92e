#include "sim/server.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "domain/status_macros.h"
#include "sim/truth.h"

namespace plumb::sim {
namespace {
constexpr absl::Duration kTurn = absl::Microseconds(200);
constexpr size_t kTurnItems = 512;
}  // namespace

void Server::Later(absl::Duration wait, std::function<void()> what) {
  loop_.After(wait, [this, life = life_, what = std::move(what)] {
    if (life == life_ && up()) what();
  });
}

void Server::Start() {
  if (up()) return;
  if (const absl::Status s = storage_.Open(); !s.ok()) {
    watcher_.OnWrong(absl::StrCat("the server does not start: ", s.message()));
    return;
  }
  const absl::StatusOr<ClusterSnapshot> snapshot = storage_.Load();
  if (!snapshot.ok()) {
    watcher_.OnWrong(absl::StrCat("the database cannot be read: ", snapshot.status().message()));
    storage_.Close();
    return;
  }
  watcher_.OnLoaded(*snapshot);
  ++life_;
  core_ = std::make_unique<core::Core>(scenario_.options, *snapshot);
  now_ = {.cluster = snapshot->cluster_time};
  committed_cluster_ = absl::Trunc(snapshot->cluster_time, absl::Microseconds(1));
  last_turn_ = loop_.now();
  next_turn_ = absl::InfiniteDuration();
  pushed_ = finished_ = finished_last_turn_ = 0;
  inbox_.clear();
  polls_.clear();
  queue_.clear();
  committing_.clear();
  busy_ = false;
  slice_asked_.reset();
  quiet_until_ = absl::ZeroDuration();
  failed_.reset();
  watcher_.OnApplied(*core_);
  WakeAt(loop_.now() + kTurn);
}

void Server::Kill() {
  if (!up()) return;
  // A transaction that was under way may be on disk, its answers unsaid.
  if (!committing_.empty() && random_.Chance(0.5)) {
    std::vector<Change> changes;
    for (Batch& b : committing_)
      std::move(b.changes.begin(), b.changes.end(), std::back_inserter(changes));
    if (!changes.empty() && !disk.full) (void)CommitNow(committing_.back().cluster_time, changes);
  }
  ++life_;
  core_.reset();
  inbox_.clear();
  polls_.clear();
  queue_.clear();
  committing_.clear();
  storage_.Close();
}

void Server::Put(ItemPtr item) {
  inbox_.push_back(std::move(item));
  WakeAt(loop_.now() + kTurn);
}

void Server::Post(core::Event event, Done done) {
  auto item = std::make_shared<Item>();
  item->event = std::move(event);
  item->done = std::move(done);
  Put(std::move(item));
}

void Server::Poll(SessionId session, int64_t generation, absl::Duration wait, PollDone done) {
  auto item = std::make_shared<Item>();
  item->kind = Item::Kind::kPoll;
  item->session = session;
  item->generation = generation;
  item->deadline = loop_.now() + wait;
  item->answer_now = wait <= absl::ZeroDuration();
  item->poll_done = std::move(done);
  Put(std::move(item));
}

void Server::WakeAt(absl::Duration when) {
  if (when >= next_turn_) return;
  next_turn_ = when;
  const int64_t ticket = ++turn_ticket_;
  Later(when - loop_.now(), [this, ticket] {
    if (ticket != turn_ticket_) return;
    next_turn_ = absl::InfiniteDuration();
    Turn();
  });
}

void Server::Tock() {
  const absl::Duration now = loop_.now();
  if (finished_ == pushed_ || finished_ > finished_last_turn_)
    now_.cluster += std::min(now - last_turn_, absl::Seconds(1));
  finished_last_turn_ = finished_;
  now_.wall_us = absl::ToInt64Microseconds(now + wall_jump);
  last_turn_ = now;
}

void Server::Turn() {
  if (failed_) {
    std::vector<Batch> lost = *std::exchange(failed_, std::nullopt);
    for (Batch& b : queue_) lost.push_back(std::move(b));
    queue_.clear();
    Recover(std::move(lost));
    if (!up()) return;
  }
  std::vector<ItemPtr> items;
  while (!inbox_.empty() && items.size() < kTurnItems) {
    items.push_back(std::move(inbox_.front()));
    inbox_.pop_front();
  }
  Tock();
  Batch batch;
  for (const ItemPtr& item : items) Handle(item, batch);
  if (inbox_.empty() && core_->NextWakeup() <= now_.cluster && loop_.now() >= quiet_until_) {
    auto tick = std::make_shared<Item>();
    tick->event = core::Tick{};
    Apply(tick, batch);
  }
  for (auto it = polls_.begin(); it != polls_.end();) {
    if (it->second->deadline > loop_.now()) {
      ++it;
      continue;
    }
    AnswerPoll(it->second, batch);
    it = polls_.erase(it);
  }
  AskForSlice();
  if (!batch.items.empty() || !batch.changes.empty()) Push(std::move(batch));
  absl::Duration next = loop_.now() + absl::Seconds(1);
  const absl::Duration wait = core_->NextWakeup() - now_.cluster;
  if (wait < absl::Seconds(1))
    next = std::max(quiet_until_, loop_.now() + std::max(wait, absl::Milliseconds(1)));
  for (const auto& [session, item] : polls_) next = std::min(next, item->deadline);
  if (!inbox_.empty()) next = loop_.now() + kTurn;
  WakeAt(std::max(next, loop_.now() + kTurn));
}

void Server::Handle(const ItemPtr& item, Batch& batch) {
  if (item->kind == Item::Kind::kPoll) {
    const std::optional<WorkerId> worker = core_->WorkerOfSession(item->session);
    if (!worker || core_->Generation(*worker) > item->generation || item->answer_now) {
      AnswerPoll(item, batch);
      return;
    }
    ItemPtr& held = polls_[item->session];
    if (held) AnswerPoll(held, batch);
    held = item;
    return;
  }
  const bool looks_up = std::holds_alternative<core::MaterializeSlice>(item->event) ||
                        std::holds_alternative<core::CancelTrial>(item->event) ||
                        std::holds_alternative<core::RetryTrial>(item->event);
  if (looks_up && (!item->looked_up || item->epoch != epoch_)) {
    if (!batch.items.empty() || !batch.changes.empty()) Push(std::exchange(batch, {}));
    core_->Pin();
    item->epoch = epoch_;
    Push({.lookup = item});
    return;
  }
  Apply(item, batch);
}

void Server::Apply(const ItemPtr& item, Batch& batch) {
  if (item->looked_up) {
    core_->Unpin();
    if (std::holds_alternative<core::MaterializeSlice>(item->event)) slice_asked_.reset();
  }
  core::Effects effects = core_->Apply(item->event, now_);
  watcher_.OnApplied(*core_);
  std::move(effects.changes.begin(), effects.changes.end(), std::back_inserter(batch.changes));
  if (item->done) {
    item->finish = [this, done = item->done, answer = std::move(effects.answer)](absl::Status s) {
      done(s.ok() ? answer : absl::StatusOr<core::Answer>(s), {core_->run(), committed_cluster_});
    };
  }
  batch.items.push_back(item);
  if (std::holds_alternative<core::RegisterWorker>(item->event)) {
    for (auto it = polls_.begin(); it != polls_.end();) {
      if (core_->WorkerOfSession(it->first)) {
        ++it;
        continue;
      }
      AnswerPoll(it->second, batch);
      it = polls_.erase(it);
    }
  }
  for (WorkerId worker : effects.woken) {
    const auto it = polls_.find(core_->SessionOf(worker));
    if (it == polls_.end()) continue;
    AnswerPoll(it->second, batch);
    polls_.erase(it);
  }
}

void Server::AnswerPoll(const ItemPtr& item, Batch& batch) {
  const std::optional<WorkerId> worker = core_->WorkerOfSession(item->session);
  absl::StatusOr<Desired> answer;
  if (worker) {
    answer = Desired{.generation = core_->Generation(*worker), .grants = core_->Desired(*worker)};
  } else if (core_->SessionWasFenced(item->session)) {
    answer = absl::FailedPreconditionError("fenced");
  } else {
    answer = absl::NotFoundError("no session");
  }
  item->finish = [this, done = item->poll_done, answer = std::move(answer)](absl::Status s) {
    done(s.ok() ? answer : absl::StatusOr<Desired>(s), {core_->run(), committed_cluster_});
  };
  batch.items.push_back(item);
}

void Server::AskForSlice() {
  if (slice_asked_ || loop_.now() < quiet_until_) return;
  const std::optional<core::Core::Cursor> next = core_->NextSlice();
  if (!next) return;
  slice_asked_ = next->sweep;
  // The plan is a function of the sweep's file: the request's name says which one.
  const auto plan = std::find_if(scenario_.sweeps.begin(), scenario_.sweeps.end(),
                                 [&](const SweepPlan& s) { return s.name == next->request_id; });
  if (plan == scenario_.sweeps.end()) {
    watcher_.OnWrong("a sweep that nobody submitted");
    return;
  }
  core::MaterializeSlice slice{.sweep = next->sweep, .from = next->from};
  auto trials = std::make_shared<std::vector<core::NewTrial>>();
  const int64_t to = std::min(next->from + plan->slice, static_cast<int64_t>(plan->keys.size()));
  for (int64_t i = next->from; i < to; ++i) {
    slice.cells.push_back({.idx = i, .name = absl::StrCat("c", i)});
    trials->push_back(TrialOf(scenario_.work, plan->keys[i], i));
  }
  slice.trials = std::move(trials);
  Later(absl::Milliseconds(1 + random_.Exponential(20)), [this, slice = std::move(slice)] {
    auto item = std::make_shared<Item>();
    item->event = slice;
    Put(std::move(item));
  });
}

void Server::Push(Batch batch) {
  ++pushed_;
  batch.cluster_time = now_.cluster;
  queue_.push_back(std::move(batch));
  StartCommit();
}

void Server::StartCommit() {
  if (busy_ || failed_ || queue_.empty()) return;
  busy_ = true;
  committing_.clear();
  if (queue_.front().lookup) {
    committing_.push_back(std::move(queue_.front()));
    queue_.pop_front();
  } else {
    while (!queue_.empty() && !queue_.front().lookup) {
      committing_.push_back(std::move(queue_.front()));
      queue_.pop_front();
    }
  }
  const double stretch = disk.slower * (0.5 + random_.Unit());
  Later(disk.latency * stretch, [this] {
    busy_ = false;
    EndCommit(std::exchange(committing_, {}));
    if (up()) StartCommit();
  });
}

absl::Status Server::CommitNow(absl::Duration cluster_time, const std::vector<Change>& changes) {
  const absl::Status s = storage_.Commit(cluster_time, changes);
  if (s.ok()) {
    ++commits_;
    committed_cluster_ = absl::Trunc(cluster_time, absl::Microseconds(1));  // as the file has it
    watcher_.OnCommitted(changes);
  }
  return s;
}

void Server::EndCommit(std::vector<Batch> group) {
  if (group.front().lookup) {
    ++finished_;
    const ItemPtr item = group.front().lookup;
    if (const absl::Status s = LookUp(item->event); !s.ok())
      watcher_.OnWrong(absl::StrCat("look-up: ", s.message()));
    item->looked_up = true;
    inbox_.push_front(item);
    WakeAt(loop_.now() + kTurn);
    return;
  }
  std::vector<Change> changes;
  for (const Batch& b : group) changes.insert(changes.end(), b.changes.begin(), b.changes.end());
  absl::Status s;
  if (changes.empty()) {
  } else if (disk.broken) {
    disk.broken = false;
    s = absl::DataLossError("the disk");
  } else if (disk.full) {
    s = absl::ResourceExhaustedError("the disk is full");
  } else {
    s = CommitNow(group.back().cluster_time, changes);
  }
  if (s.ok()) {
    finished_ += static_cast<int64_t>(group.size());
    for (Batch& b : group) {
      for (const ItemPtr& item : b.items) {
        if (item->finish) item->finish(absl::OkStatus());
      }
    }
    return;
  }
  if (s.code() == absl::StatusCode::kDataLoss) {
    Kill();
    if (on_exit) on_exit();
    return;
  }
  if (s.code() != absl::StatusCode::kResourceExhausted)
    watcher_.OnWrong(absl::StrCat("the store refuses what the core decided: ", s.message()));
  failed_ = std::move(group);
  WakeAt(loop_.now() + kTurn);
}

absl::Status Server::LookUp(core::Event& event) {
  if (auto* slice = std::get_if<core::MaterializeSlice>(&event)) {
    std::vector<std::string> keys;
    for (const core::NewTrial& t : *slice->trials) keys.push_back(t.trial.key);
    ASSIGN_OR_RETURN(slice->known, storage_.FindByKey(keys));
    ASSIGN_OR_RETURN(slice->trunks, storage_.FindTrunks(PrefixKeysOf(*slice)));
  } else if (auto* cancel = std::get_if<core::CancelTrial>(&event)) {
    ASSIGN_OR_RETURN(cancel->known, storage_.Find(cancel->trial));
  } else if (auto* retry = std::get_if<core::RetryTrial>(&event)) {
    ASSIGN_OR_RETURN(retry->known, storage_.Find(retry->trial));
    ASSIGN_OR_RETURN(retry->links, storage_.LinksOf(retry->trial));
    ASSIGN_OR_RETURN(retry->trunks, storage_.FindTrunks(PrefixKeysOf(*retry)));
  }
  return absl::OkStatus();
}

bool Server::Rebuild() {
  absl::StatusOr<ClusterSnapshot> snapshot = storage_.Load();
  if (!snapshot.ok()) {
    watcher_.OnWrong(absl::StrCat("the database cannot be read: ", snapshot.status().message()));
    Kill();
    return false;
  }
  watcher_.OnLoaded(*snapshot);
  snapshot->min_generation = core_->generation() + 1;
  core_ = std::make_unique<core::Core>(scenario_.options, *snapshot);
  watcher_.OnApplied(*core_);
  slice_asked_.reset();
  quiet_until_ = loop_.now() + absl::Seconds(1);
  ++epoch_;
  return true;
}

// As Owner::Recover: what was not committed is taken back, then done again, an event a transaction.
void Server::Recover(std::vector<Batch> lost) {
  finished_ = pushed_;
  if (!Rebuild()) return;
  Tock();
  for (Batch& batch : lost) {
    if (batch.lookup) {
      batch.lookup->looked_up = false;
      inbox_.push_back(batch.lookup);
      continue;
    }
    for (const ItemPtr& item : batch.items) {
      item->finish = nullptr;
      if (item->kind == Item::Kind::kPoll) {
        Batch alone;
        Handle(item, alone);
        for (const ItemPtr& answered : alone.items) {
          if (answered->finish) answered->finish(absl::OkStatus());
        }
        continue;
      }
      absl::Status s = item->looked_up ? LookUp(item->event) : absl::OkStatus();
      core::Effects effects;
      if (s.ok()) {
        effects = core_->Apply(item->event, now_);
        watcher_.OnApplied(*core_);
        if (effects.changes.empty()) {
        } else if (disk.full) {
          s = absl::ResourceExhaustedError("the disk is full");
        } else {
          s = CommitNow(now_.cluster, effects.changes);
        }
        if (!s.ok() && !Rebuild()) return;
      }
      if (item->done)
        item->done(s.ok() ? std::move(effects.answer) : absl::StatusOr<core::Answer>(s),
                   {core_->run(), committed_cluster_});
    }
  }
  for (auto& [session, item] : std::exchange(polls_, {})) Put(item);
}

}  // namespace plumb::sim
