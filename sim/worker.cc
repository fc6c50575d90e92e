#include "sim/worker.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"

namespace plumb::sim {
namespace {
constexpr absl::Duration kDeadline = absl::Seconds(10);
constexpr absl::Duration kPollWait = absl::Seconds(20);
constexpr size_t kFactsPerBatch = 40;
constexpr absl::Duration kMeetingPatience = absl::Minutes(10);

std::string KeyIn(const std::string& config_json) {  // {"key":"t12"}
  const size_t from = config_json.find(":\"") + 2;
  return config_json.substr(from, config_json.find('"', from) - from);
}
}  // namespace

void Worker::Later(absl::Duration wait, std::function<void()> what) {
  loop_.After(wait, [this, life = life_, what = std::move(what)] {
    if (life != life_ || !up_) return;
    if (stopped_until_ > loop_.now()) {  // SIGSTOP: it happens when the process goes on
      Later(stopped_until_ - loop_.now(), what);
      return;
    }
    what();
  });
}

void Worker::Start() {
  if (up_) return;
  ++life_;
  up_ = true;
  draining_ = drain_said_ = false;
  stopped_until_ = absl::ZeroDuration();
  if (machine_.life != absl::InfiniteDuration() && loop_.now() >= taken_at_) {
    taken_at_ = loop_.now() + machine_.life;
    loop_.At(taken_at_, [this, at = taken_at_] {
      if (at == taken_at_ && on_crash) on_crash();
    });
  }
  session_ = {};
  generation_ = 0;
  desired_.reset();
  register_pending_ = report_pending_ = poll_pending_ = talk_due_ = false;
  report_due_ = talk_after_ = loop_.now();
  backoff_ = absl::Milliseconds(100);
  for (auto& [key, a] : attempts_) {
    a.acked_known = false;
    // Handed out and never begun: nobody knows of it any more.
    if (a.phase == Attempt::Phase::kWaiting) End(key, a, Outcome::kPreempted, "it never began");
  }
  Soon();
}

void Worker::KillAgent() {
  if (!up_) return;
  ++life_;
  up_ = false;
  std::erase_if(attempts_, [](const auto& entry) {
    return entry.second.phase == Attempt::Phase::kWaiting;  // only in its memory
  });
}

void Worker::CrashMachine(bool wipe) {
  KillAgent();
  if (wipe) {
    for (auto& [key, a] : attempts_) {
      ++a.run;
      if (a.phase == Attempt::Phase::kLive) LeaveMeeting(a);
    }
    attempts_.clear();
    known_incarnation_ = 0;
    known_ = {};
    return;
  }
  for (auto& [key, a] : attempts_) {
    if (a.phase == Attempt::Phase::kLive) End(key, a, Outcome::kLost, "its machine went down");
  }
}

void Worker::Drain() {
  if (!up_ || draining_) return;
  draining_ = true;
  report_due_ = loop_.now();
  Reconcile();
  Soon();
}

void Worker::StopFor(absl::Duration length) {
  if (up_) stopped_until_ = loop_.now() + length;
}

void Worker::KillTrainer(int64_t which) {
  std::vector<Key> live;
  for (auto& [key, a] : attempts_) {
    if (a.phase == Attempt::Phase::kLive) live.push_back(key);
  }
  if (live.empty()) return;
  const Key key = live[which % static_cast<int64_t>(live.size())];
  TrainerDies(key, Outcome::kFailed, "signal 9");
  report_due_ = loop_.now();
  if (up_) Soon();
}

int64_t Worker::running() const {
  std::set<int64_t> trainers;
  for (const auto& [key, a] : attempts_) {
    if (a.phase == Attempt::Phase::kLive) trainers.insert(a.grant.bundle);
  }
  return static_cast<int64_t>(trainers.size());
}

int64_t Worker::RowsBeside(const Attempt& a) const {
  return std::count_if(attempts_.begin(), attempts_.end(), [&](const auto& entry) {
    return entry.second.phase == Attempt::Phase::kLive &&
           entry.second.grant.bundle == a.grant.bundle;
  });
}

void Worker::TrainerDies(const Key& key, Outcome outcome, const std::string& cause) {
  const int64_t bundle = attempts_.at(key).grant.bundle;
  for (auto& [other, a] : attempts_) {
    if (a.phase == Attempt::Phase::kLive && a.grant.bundle == bundle) End(other, a, outcome, cause);
  }
}

// ---- trainers ----

void Worker::Begin(const Key& key, Attempt& a) {
  a.phase = Attempt::Phase::kLive;
  a.step = a.grant.resume ? a.grant.checkpoint_step : 0;
  ++a.run;
  if (a.member()) {
    JoinMeeting(key, a);
    return;
  }
  if (a.truth.fate == Fate::kInfeasible) {
    End(key, a, Outcome::kInfeasible, "it cannot be run");
    return;
  }
  if (loop_.now() < spoiled_until_) {
    EndAfter(absl::Seconds(1 + random_.Exponential(5)), key, Outcome::kFailed, "device error");
    return;
  }
  if (a.grant.ranks_here < a.grant.ranks) {
    OpenMeeting(key, a);
    return;
  }
  NextFact(key);
}

void Worker::EndAfter(absl::Duration wait, const Key& key, Outcome outcome,
                      const std::string& cause) {
  loop_.After(wait, [this, key, run = attempts_.at(key).run, outcome, cause] {
    const auto it = attempts_.find(key);
    if (it == attempts_.end() || it->second.run != run || it->second.phase != Attempt::Phase::kLive)
      return;
    End(key, it->second, outcome, cause);
    report_due_ = loop_.now();
    if (up_) Soon();
  });
}

// ---- gangs: rank 0 begins when the others are there, and ends when one is gone ----

void Worker::OpenMeeting(const Key& key, Attempt& a) {
  a.meeting = absl::StrCat(name_, ":", ++meetings_opened_);
  a.secret = absl::StrCat("secret ", random_.Between(0, 1 << 30));
  const auto live = [this, key, run = a.run] {
    const auto it = attempts_.find(key);
    return it != attempts_.end() && it->second.run == run &&
           it->second.phase == Attempt::Phase::kLive;
  };
  meetings_.Open(
      a.meeting, a.secret, a.grant.ranks - a.grant.ranks_here,
      [this, key, live] {
        if (!live()) return;
        ++attempts_.at(key).run;  // nobody is waited for any more
        NextFact(key);
      },
      [this, key] {
        const auto it = attempts_.find(key);
        if (it == attempts_.end() || it->second.phase != Attempt::Phase::kLive) return;
        End(key, it->second, Outcome::kFailed, "a rank is gone");
        report_due_ = loop_.now();
        if (up_) Soon();
      });
  EndAfter(kMeetingPatience, key, Outcome::kFailed, "a rank did not come");
  report_due_ = std::min(report_due_, loop_.now() + absl::Milliseconds(3));
}

void Worker::JoinMeeting(const Key& key, Attempt& a) {
  a.joined = meetings_.Join(a.grant.rendezvous, a.grant.secret, a.grant.ranks_here, [this, key] {
    const auto it = attempts_.find(key);
    if (it == attempts_.end() || it->second.phase != Attempt::Phase::kLive) return;
    it->second.joined = false;
    End(key, it->second, Outcome::kSucceeded, "rank 0 has ended");
    report_due_ = loop_.now();
    if (up_) Soon();
  });
  if (loop_.now() < spoiled_until_) {
    EndAfter(absl::Seconds(1 + random_.Exponential(5)), key, Outcome::kFailed, "device error");
  } else if (!a.joined) {
    EndAfter(absl::Seconds(random_.Between(1, 20)), key, Outcome::kFailed,
             "rank 0 cannot be reached");
  }
}

void Worker::LeaveMeeting(const Attempt& a) {
  if (!a.meeting.empty()) meetings_.Close(a.meeting);
  if (a.joined) meetings_.Leave(a.grant.rendezvous);
}

void Worker::NextFact(const Key& key) {
  Attempt& a = attempts_.at(key);
  const Truth& t = a.truth;
  const auto next = [&](int64_t every) { return (a.step / every + 1) * every; };
  int64_t to = std::min({next(t.point_every), next(t.checkpoint_every), t.target_step});
  if (a.grant.keep_step > a.step) to = std::min(to, a.grant.keep_step);
  if (t.fate != Fate::kSucceeds && t.fate_step > a.step) to = std::min(to, t.fate_step);
  const absl::Duration wait =
      absl::Seconds(static_cast<double>(to - a.step) * t.seconds_per_step / machine_.speed *
                    (0.7 + 0.3 * static_cast<double>(RowsBeside(a))));  // each row costs something
  loop_.After(wait, [this, key, run = a.run, to] { Advance(key, run, to); });
}

void Worker::Advance(const Key& key, int64_t run, int64_t step) {
  const auto it = attempts_.find(key);
  if (it == attempts_.end() || it->second.run != run || it->second.phase != Attempt::Phase::kLive)
    return;
  Attempt& a = it->second;
  const Truth& t = a.truth;
  seconds_computed_ += static_cast<double>(step - a.step) * t.seconds_per_step;
  a.step = step;
  const auto add = [&](Fact fact) {
    fact.seq = ++a.last_seq;
    a.facts.push_back(fact);
  };
  if (step % t.point_every == 0 || step == t.target_step) add({.point = step});
  if (a.stop == Stop::kPreempt) {
    add({.checkpoint = step});
    End(key, a, Outcome::kPreempted, "asked to leave");
  } else if (a.stop == Stop::kCancel) {
    End(key, a, Outcome::kCancelled, "asked to stop");
  } else if (t.fate != Fate::kSucceeds && step == t.fate_step) {
    switch (t.fate) {
      case Fate::kDiverges:
        End(key, a, Outcome::kDiverged, "loss is not finite");
        break;
      case Fate::kCrashes:
        TrainerDies(key, Outcome::kFailed, "signal 11");
        break;
      case Fate::kOutOfMemory:
        TrainerDies(key, Outcome::kOutOfMemory, "out of memory");
        break;
      case Fate::kKillsMachine:
        if (on_crash) on_crash();
        return;
      default:
        break;
    }
  } else if (step == t.target_step) {
    add({.checkpoint = step});
    End(key, a, Outcome::kSucceeded, "");
  } else {
    const bool saves = step % t.checkpoint_every == 0 || step == a.grant.keep_step;
    if (saves) add({.checkpoint = step});
    NextFact(key);
    // What is new travels with the next report; a checkpoint at once.
    if (saves && up_) {
      report_due_ = std::min(report_due_, loop_.now() + absl::Milliseconds(3));
      Soon();
    }
    return;
  }
  report_due_ = std::min(report_due_, loop_.now() + absl::Milliseconds(3));
  if (up_) Soon();
}

void Worker::End(const Key& key, Attempt& a, Outcome outcome, std::string cause) {
  if (a.phase == Attempt::Phase::kEnded) return;
  a.phase = Attempt::Phase::kEnded;
  ++a.run;
  a.outcome = outcome;
  a.cause = std::move(cause);
  LeaveMeeting(a);
  if (a.member() && outcome == Outcome::kSucceeded) return;  // how it ended, rank 0 says
  if (on_ended) on_ended(key.incarnation, key.attempt, outcome);
}

// ---- the agent ----

void Worker::Soon() {
  if (talk_due_) return;
  talk_due_ = true;
  Later(absl::Microseconds(100), [this] {
    talk_due_ = false;
    Reconcile();
    Talk();
  });
}

void Worker::Talk() {
  const absl::Duration now = loop_.now();
  if (now < talk_after_) {
    Later(talk_after_ - now, [this] { Soon(); });
    return;
  }
  if (!session_) {
    if (!register_pending_) Register();
    return;
  }
  if (!poll_pending_ && !drain_said_) Poll();
  if (report_pending_) return;
  if (now >= report_due_) {
    Report();
  } else {
    Later(report_due_ - now, [this] { Soon(); });
  }
}

template <typename Answer>
void Worker::Call(
    absl::Duration deadline,
    std::function<void(std::function<void(absl::StatusOr<Answer>, core::Moment)>)> serve,
    std::function<void(absl::StatusOr<Answer>, core::Moment)> reply) {
  auto open = std::make_shared<bool>(true);
  const int64_t life = life_;
  // What comes back is of use only to the process that asked, and only once.
  auto back = [this, open, life, reply](absl::StatusOr<Answer> answer, core::Moment told) {
    if (!*open || life != life_) return;
    *open = false;
    Later(absl::ZeroDuration(), [reply, answer, told] { reply(answer, told); });
  };
  network_.Send(number_, true, [this, serve, back] {
    if (!server_.up()) {
      network_.Send(number_, false, [back] { back(absl::UnavailableError("no server"), {}); });
      return;
    }
    serve([this, back](absl::StatusOr<Answer> answer, core::Moment told) {
      network_.Send(number_, false, [back, answer, told] { back(answer, told); });
    });
  });
  loop_.After(deadline, [back] { back(absl::DeadlineExceededError("no answer"), {}); });
}

core::AttemptReport Worker::StateOf(const Key& key, const Attempt& a) const {
  return {.incarnation = key.incarnation,
          .attempt = key.attempt,
          .step = a.step,
          .outcome = a.outcome,
          .through_seq = a.last_seq,
          .cause = a.cause,
          .rendezvous = a.phase == Attempt::Phase::kLive ? a.meeting : "",
          .secret = a.phase == Attempt::Phase::kLive ? a.secret : ""};
}

void Worker::Register() {
  register_pending_ = true;
  core::RegisterWorker event{
      .worker = {.name = name_, .host = name_, .slots = machine_.slots, .build = "sim"},
      .known_incarnation = known_incarnation_,
      .known = known_,
      .remaining = Remaining()};
  event.worker.labels = machine_.labels;
  event.worker.memory_bytes = machine_.memory_bytes;
  event.worker.gang = machine_.gang;
  for (const auto& [key, a] : attempts_) event.attempts.push_back(StateOf(key, a));
  Call<core::Answer>(
      kDeadline,
      [this, event](auto done) {
        server_.Post(event, [done](auto answer, auto told) { done(std::move(answer), told); });
      },
      [this](absl::StatusOr<core::Answer> answer, core::Moment told) {
        register_pending_ = false;
        if (!answer.ok()) {
          Broken(answer.status());
          return;
        }
        const auto& r = std::get<core::Registered>(*answer);
        session_ = r.session;
        generation_ = 0;
        desired_.reset();
        if (r.incarnation > known_incarnation_) {
          known_incarnation_ = r.incarnation;
          known_ = told;
        }
        for (auto& [key, a] : attempts_) a.acked_known = false;
        Heard(told);
        report_due_ = loop_.now();
        Soon();
      });
}

void Worker::Report() {
  report_pending_ = true;
  report_due_ = loop_.now() + scenario_.report_every;
  core::Report event{.session = session_,
                     .generation = generation_,
                     .known_incarnation = known_incarnation_,
                     .known = known_,
                     .draining = draining_,
                     .remaining = Remaining()};
  for (const auto& [key, a] : attempts_) {
    event.attempts.push_back(StateOf(key, a));
    if (!a.acked_known || a.facts.empty()) continue;
    auto batch = std::make_shared<MeasurementBatch>();
    batch->incarnation = key.incarnation;
    batch->attempt = key.attempt;
    batch->first_seq = a.facts.front().seq;
    MeasurementBatch::Series series{.name = "train/loss"};
    for (size_t i = 0; i < std::min(a.facts.size(), kFactsPerBatch); ++i) {
      const Fact& f = a.facts[i];
      batch->last_seq = f.seq;
      if (f.point) series.points.push_back({*f.point, ValueAt(a.key, a.stage, *f.point)});
      if (f.checkpoint) {
        batch->checkpoints.push_back({.step = *f.checkpoint,
                                      .path = absl::StrCat(a.key, "/", a.stage, "/", *f.checkpoint),
                                      .digest = DigestAt(a.key, a.stage, *f.checkpoint),
                                      .bytes = 100});
      }
    }
    if (!series.points.empty()) batch->series.push_back(std::move(series));
    event.batches.push_back(std::move(batch));
  }
  if (draining_ && attempts_.empty()) drain_said_ = true;
  Call<core::Answer>(
      kDeadline,
      [this, event](auto done) {
        server_.Post(event, [done](auto answer, auto told) { done(std::move(answer), told); });
      },
      [this](absl::StatusOr<core::Answer> answer, core::Moment told) {
        report_pending_ = false;
        if (answer.ok()) Heard(told);
        OnReported(answer);
      });
}

void Worker::OnReported(const absl::StatusOr<core::Answer>& answer) {
  if (!answer.ok()) {
    for (auto& [key, a] : attempts_) a.acked_known = false;
    drain_said_ = false;
    Broken(answer.status());
    return;
  }
  bool more = false;
  for (const core::Ack& ack : std::get<core::Reported>(*answer).acks) {
    for (auto& [key, a] : attempts_) {
      if (key.attempt != ack.attempt || ack.fenced) continue;
      a.acked_known = true;
      a.acked = std::max(a.acked, ack.through_seq);
      while (!a.facts.empty() && a.facts.front().seq <= a.acked) a.facts.pop_front();
      more |= !a.facts.empty() && (a.outcome || a.facts.size() > kFactsPerBatch);
    }
  }
  if (more) report_due_ = loop_.now();
  LeaveIfDone();
  if (up_) Soon();
}

void Worker::Poll() {
  poll_pending_ = true;
  Call<Server::Desired>(
      kPollWait + kDeadline,
      [this, session = session_, generation = generation_](auto done) {
        server_.Poll(session, generation, kPollWait,
                     [done](auto answer, auto told) { done(std::move(answer), told); });
      },
      [this](absl::StatusOr<Server::Desired> answer, core::Moment told) {
        poll_pending_ = false;
        if (answer.ok() && told.cluster > known_.cluster) known_ = told;
        OnDesired(answer);
      });
}

void Worker::OnDesired(const absl::StatusOr<Server::Desired>& answer) {
  if (!answer.ok()) {
    if (answer.status().code() == absl::StatusCode::kDeadlineExceeded) {
      Soon();
      return;
    }
    Broken(answer.status());
    return;
  }
  if (answer->generation > generation_ || (answer->generation == generation_ && !desired_)) {
    generation_ = answer->generation;
    desired_ = answer->grants;
    Reconcile();
    report_due_ = std::min(report_due_, loop_.now() + absl::Milliseconds(3));
  }
  Soon();
}

void Worker::Heard(const core::Moment& told) {
  backoff_ = absl::Milliseconds(100);
  if (told.cluster > known_.cluster) known_ = told;
}

void Worker::Broken(const absl::Status& why) {
  if (why.code() == absl::StatusCode::kNotFound) session_ = {};
  if (why.code() == absl::StatusCode::kFailedPrecondition) {
    // Another process of this name has taken over. This one leaves; its trainers are the other's.
    KillAgent();
    if (on_left) on_left();
    return;
  }
  talk_after_ = loop_.now() + backoff_ * (0.5 + 0.5 * random_.Unit());
  backoff_ = std::min(absl::Seconds(5), backoff_ * 1.6);
  for (auto& [key, a] : attempts_) a.acked_known = false;
  report_due_ = loop_.now();
  Soon();
}

void Worker::Reconcile() {
  if (!up_) return;
  const bool known = desired_.has_value();
  std::set<Key> wanted;
  if (known) {
    for (const core::Grant& g : *desired_) {
      const Key key{g.incarnation, g.attempt};
      wanted.insert(key);
      if (const auto it = attempts_.find(key); it != attempts_.end()) {
        it->second.grant.preempt = g.preempt;
        if (it->second.phase == Attempt::Phase::kWaiting) {
          it->second.grant.rendezvous = g.rendezvous;
          it->second.grant.secret = g.secret;
        }
        continue;
      }
      Attempt a{.grant = g, .key = KeyIn(g.config_json), .stage = g.kind};
      a.truth = TruthOf(scenario_.work, a.key, a.stage);
      attempts_.emplace(key, std::move(a));
      report_due_ = std::min(report_due_, loop_.now() + absl::Milliseconds(3));
    }
  }
  for (auto it = attempts_.begin(); it != attempts_.end();) {
    Attempt& a = it->second;
    const bool gone = known && !wanted.contains(it->first);
    const bool live = a.phase == Attempt::Phase::kLive;
    if (gone && !live) {
      it = attempts_.erase(it);
      continue;
    }
    if (gone && live && a.stop != Stop::kCancel) {
      a.stop = Stop::kCancel;
      // A trainer looks at its commands between two steps.
      ++a.run;
      loop_.After(absl::Seconds(a.truth.seconds_per_step * random_.Unit()),
                  [this, key = it->first, run = a.run] {
                    const auto at = attempts_.find(key);
                    if (at == attempts_.end() || at->second.run != run) return;
                    End(key, at->second, Outcome::kCancelled, "asked to stop");
                    report_due_ = loop_.now();
                    if (up_) Soon();
                  });
    }
    const bool leave = draining_ || (known && !gone && a.grant.preempt);
    if (!gone && live && leave && a.stop == Stop::kNone && !a.member()) {
      a.stop = Stop::kPreempt;
      ++a.run;
      loop_.After(absl::Seconds(a.truth.seconds_per_step * random_.Unit()),
                  [this, key = it->first, run = a.run] {
                    const auto at = attempts_.find(key);
                    if (at == attempts_.end() || at->second.run != run ||
                        at->second.phase != Attempt::Phase::kLive)
                      return;
                    Attempt& one = at->second;
                    one.facts.push_back({.seq = ++one.last_seq, .checkpoint = one.step});
                    End(key, one, Outcome::kPreempted, "asked to leave");
                    report_due_ = loop_.now();
                    if (up_) Soon();
                  });
    }
    if (!gone && a.phase == Attempt::Phase::kWaiting && leave)
      End(it->first, a, Outcome::kPreempted, "it never began");
    ++it;
  }
  int64_t free = machine_.slots - running();
  for (auto& [key, a] : attempts_) {
    if (a.phase != Attempt::Phase::kWaiting) continue;
    if (a.member() && a.grant.rendezvous.empty()) continue;
    const bool joins = RowsBeside(a) > 0;
    if (free <= 0 && !joins) continue;
    Begin(key, a);
    if (a.phase == Attempt::Phase::kLive && !joins) --free;
  }
}

void Worker::LeaveIfDone() {
  if (!draining_ || !drain_said_) return;
  KillAgent();
  if (on_left) on_left();
}

}  // namespace plumb::sim
