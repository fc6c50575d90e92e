#include "sim/simulate.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "sim/loop.h"
#include "sim/oracle.h"
#include "sim/random.h"
#include "sim/server.h"
#include "sim/worker.h"

namespace plumb::sim {
namespace {

constexpr absl::Duration kLatency = absl::Milliseconds(2);
constexpr absl::Duration kSample = absl::Minutes(5);

class Cluster : public Network {
 public:
  explicit Cluster(const Scenario& scenario)
      : scenario_(scenario),
        random_(scenario.seed),
        storage_(scenario.sqlite_folder.empty() ? MakeMemoryStorage()
                                                : MakeSqliteStorage(scenario.sqlite_folder)),
        oracle_(scenario, loop_),
        server_(scenario, loop_, random_, *storage_, oracle_),
        meetings_(loop_),
        links_(scenario.machines.size()) {
    for (size_t i = 0; i < scenario.machines.size(); ++i) {
      workers_.push_back(std::make_unique<Worker>(static_cast<int64_t>(i), scenario, loop_, random_,
                                                  *this, meetings_, server_));
      Worker& w = *workers_.back();
      w.on_crash = [this, &w] {
        // In the middle of its own step: the machine goes down when that is over.
        loop_.After(absl::ZeroDuration(), [this, &w] { Crash(w, false, absl::Minutes(2)); });
      };
      w.on_left = [this, &w] { loop_.After(absl::Minutes(1), [&w] { w.Start(); }); };
      w.on_ended = [this](int64_t incarnation, const AttemptId& attempt, Outcome outcome) {
        oracle_.OnEnded(incarnation, attempt, outcome);
      };
      result_.slots += static_cast<double>(scenario.machines[i].slots);
    }
    server_.on_exit = [this] { StartServer(absl::Seconds(5)); };
  }

  Result Run() {
    server_.Start();
    for (auto& w : workers_)
      loop_.After(absl::Milliseconds(random_.Between(0, 2000)), [&w] { w->Start(); });
    for (const SweepPlan& sweep : scenario_.sweeps) loop_.At(sweep.at, [&] { Submit(sweep, 0); });
    for (const Fault& fault : scenario_.faults) {
      loop_.At(fault.at, [&] {
        ++result_.faults;
        ++oracle_.counts[absl::StrCat("fault_", Name(fault.kind))];
        Do(fault);
      });
    }
    // Something to put back: the database an hour, or a while, before.
    for (const Fault& fault : scenario_.faults) {
      if (fault.kind != FaultKind::kPutBack && fault.kind != FaultKind::kPutBackAlone) continue;
      loop_.At(std::max(absl::Seconds(2), fault.at - absl::Seconds(3600 * fault.size)), [this] {
        if (storage_->Save().ok()) {
          saved_ = true;
          oracle_.OnSaved();
        }
      });
    }
    loop_.At(absl::ZeroDuration(), [this] { Sample(); });
    bool healed = false, drained = false;
    const absl::Duration limit = scenario_.length + scenario_.patience;
    while (oracle_.ok() && loop_.Step()) {
      if (!healed && loop_.now() >= scenario_.length) {
        healed = true;
        Heal();
      }
      // Nobody forgets what he has stopped for good, also when a copy put back remembers it.
      if (healed && loop_.now() >= undone_ + absl::Minutes(10)) {
        undone_ = loop_.now();
        Undo();
      }
      if (healed && loop_.now() >= looked_ + absl::Minutes(1)) {
        looked_ = loop_.now();
        if (AllEnded()) {
          drained = true;
          break;
        }
        if (loop_.now() > limit) break;
      }
    }
    result_.end = loop_.now();
    result_.steps = loop_.done();
    if (oracle_.ok()) {
      absl::StatusOr<Contents> contents = storage_->Read();
      if (contents.ok()) {
        if (!drained)
          oracle_.OnWrong(
              absl::StrCat("H: not everything has ended, long after the last fault", Waiting()));
        oracle_.Judge(*contents, drained);
        for (const auto& [id, trial] : contents->trials)
          result_.trials_ended += trial.second != "pending" && trial.second != "running";
        result_.contents = *std::move(contents);
      } else {
        oracle_.OnWrong(absl::StrCat("the database cannot be read: ", contents.status().message()));
      }
    }
    result_.wrong = oracle_.wrong();
    result_.history = oracle_.history();
    result_.counts = oracle_.counts;
    result_.waits = oracle_.waits;
    for (const auto& w : workers_) result_.seconds_computed += w->seconds_computed();
    for (const auto& [id, stage] : result_.contents.stages) {
      const std::string& key = result_.contents.trials.at(stage.trial).first;
      result_.seconds_kept += static_cast<double>(stage.step) *
                              TruthOf(scenario_.work, key, stage.name).seconds_per_step;
    }
    return std::move(result_);
  }

  // ---- the network ----

  void Send(int64_t worker, bool to_server, std::function<void()> what) override {
    const Link& link = links_[worker];
    const absl::Duration now = loop_.now();
    if (now < (to_server ? link.no_requests_until : link.no_answers_until)) return;
    const bool bad = now < bad_network_until_;
    if (bad && random_.Chance(bad_network_)) return;
    const auto delay = [&] {
      double mean = absl::ToDoubleSeconds(kLatency);
      if (bad) mean += random_.Chance(0.1) ? 10 : 0.3;
      return absl::Seconds(random_.Exponential(mean));
    };
    if (bad && random_.Chance(bad_network_)) loop_.After(delay(), what);
    loop_.After(delay(), std::move(what));
  }

 private:
  struct Link {
    absl::Duration no_requests_until, no_answers_until;
  };

  // ---- users ----

  void Submit(const SweepPlan& sweep, int tries) {
    core::SubmitSweep event{.sweep = {.name = sweep.name,
                                      .request_id = sweep.name,
                                      .request_hash = "h",
                                      .trials = static_cast<int64_t>(sweep.keys.size()),
                                      .user = sweep.user,
                                      .priority = sweep.priority}};
    auto answered = std::make_shared<bool>(false);
    const auto again = [this, &sweep, tries, answered] {
      if (*answered) return;
      *answered = true;
      loop_.After(absl::Seconds(10), [this, &sweep, tries] { Submit(sweep, tries + 1); });
    };
    if (!server_.up()) {
      again();
      return;
    }
    server_.Post(event, [this, &sweep, answered, again](const absl::StatusOr<core::Answer>& answer,
                                                        core::Moment) {
      if (!answer.ok()) {
        again();
        return;
      }
      *answered = true;
      oracle_.OnSubmitted(sweep.name);
      submitted_.push_back(std::get<core::Submitted>(*answer).sweep);
    });
    loop_.After(absl::Seconds(30), again);
  }

  void Ask(core::Event event) {
    if (server_.up()) server_.Post(std::move(event), [](const auto&, core::Moment) {});
  }

  // ---- faults ----

  void StartServer(absl::Duration wait) {
    loop_.After(wait, [this] {
      if (server_paused_) return;
      server_.Start();
    });
  }

  void Crash(Worker& w, bool wipe, absl::Duration length) {
    w.CrashMachine(wipe);
    loop_.After(length, [&w] { w.Start(); });
  }

  void Do(const Fault& f) {
    Worker& w = *workers_[f.target % static_cast<int64_t>(workers_.size())];
    Link& link = links_[f.target % static_cast<int64_t>(workers_.size())];
    const absl::Duration until = loop_.now() + f.length;
    switch (f.kind) {
      case FaultKind::kKillServer:
        server_.Kill();
        StartServer(f.length);
        return;
      case FaultKind::kKillWorker:
        w.KillAgent();
        loop_.After(f.length, [&w] { w.Start(); });
        return;
      case FaultKind::kStopWorker:
        w.StopFor(f.length);
        return;
      case FaultKind::kCrashMachine:
      case FaultKind::kWipeMachine:
        Crash(w, f.kind == FaultKind::kWipeMachine, f.length);
        return;
      case FaultKind::kDrainWorker:
        w.Drain();
        return;
      case FaultKind::kKillTrainer:
        w.KillTrainer(f.target / 7);
        return;
      case FaultKind::kBadMachine:
        w.Spoil(until);
        return;
      case FaultKind::kPartition:
        link.no_requests_until = link.no_answers_until = until;
        return;
      case FaultKind::kPartitionTo:
        link.no_requests_until = until;
        return;
      case FaultKind::kPartitionFrom:
        link.no_answers_until = until;
        return;
      case FaultKind::kSlowDisk:
        server_.disk.slower = f.size;
        loop_.At(until, [this] { server_.disk.slower = 1; });
        return;
      case FaultKind::kFullDisk:
        server_.disk.full = true;
        loop_.At(until, [this] { server_.disk.full = false; });
        return;
      case FaultKind::kBrokenDisk:
        server_.disk.broken = true;
        return;
      case FaultKind::kPutBack:
      case FaultKind::kPutBackAlone:
        if (!saved_) return;
        server_.Kill();
        server_paused_ = true;
        loop_.After(f.length, [this, alone = f.kind == FaultKind::kPutBackAlone] {
          server_paused_ = false;
          server_.Kill();
          if (storage_->PutBack(alone).ok()) {
            oracle_.OnPutBack();
            // The users see that what they asked for since then is not there.
            for (const SweepPlan& sweep : scenario_.sweeps) {
              if (sweep.at < loop_.now())
                loop_.After(absl::Seconds(60), [this, &sweep] { Submit(sweep, 0); });
            }
          }
          server_.Start();
        });
        return;
      case FaultKind::kClockJump:
        server_.wall_jump += absl::Seconds(f.size);
        return;
      case FaultKind::kBadNetwork:
        bad_network_ = f.size;
        bad_network_until_ = until;
        return;
      case FaultKind::kCancelSweep:
        if (!submitted_.empty())
          Ask(core::CancelSweep{submitted_[f.target % static_cast<int64_t>(submitted_.size())]});
        return;
      case FaultKind::kCancelTrial:
        Ask(core::CancelTrial{.trial = TrialId{1 + f.target % 200}});
        return;
      case FaultKind::kRetryTrial:
        Ask(core::RetryTrial{.trial = TrialId{1 + f.target % 200}});
        return;
      case FaultKind::kPauseSweep:
      case FaultKind::kPrioritise: {
        if (submitted_.empty()) return;
        const SweepId sweep = submitted_[f.target % static_cast<int64_t>(submitted_.size())];
        if (f.kind == FaultKind::kPrioritise) {
          Ask(core::EditSweep{.sweep = sweep, .priority = static_cast<int64_t>(f.size)});
          return;
        }
        Ask(core::EditSweep{.sweep = sweep, .paused = true});
        loop_.At(until, [this, sweep] { Ask(core::EditSweep{.sweep = sweep, .paused = false}); });
        return;
      }
      case FaultKind::kQuota: {
        const std::string user = scenario_.sweeps[f.target % scenario_.sweeps.size()].user;
        Ask(core::EditUser{.name = user, .max_slots = static_cast<int64_t>(f.size)});
        loop_.At(until, [this, user] { Ask(core::EditUser{.name = user, .max_slots = 0}); });
        return;
      }
      case FaultKind::kDrainOnRequest:
        Ask(core::EditWorker{.name = w.name(), .drain = true});
        loop_.At(until, [this, &w] { Ask(core::EditWorker{.name = w.name(), .drain = false}); });
        return;
    }
  }

  void Heal() {
    for (Link& link : links_) link = {};
    bad_network_until_ = absl::ZeroDuration();
    server_.disk = {};
    for (auto& w : workers_) {
      w->Spoil(absl::ZeroDuration());
      w->StopFor(absl::ZeroDuration());
      loop_.After(absl::Minutes(3), [&w] { w->Start(); });
    }
    if (!server_paused_) StartServer(absl::Seconds(1));
    loop_.After(absl::Hours(1), [this] { StartServer(absl::ZeroDuration()); });
  }

  // All that users hold up goes on.
  void Undo() {
    for (SweepId id : submitted_) Ask(core::EditSweep{.sweep = id, .paused = false});
    for (auto& w : workers_) Ask(core::EditWorker{.name = w->name(), .drain = false});
    for (const SweepPlan& sweep : scenario_.sweeps)
      Ask(core::EditUser{.name = sweep.user, .max_slots = 0});
  }

  bool AllEnded() {
    if (!server_.up()) return false;
    const absl::StatusOr<ClusterSnapshot> s = storage_->Load();
    if (!s.ok()) return false;
    for (const SweepRow& row : s->sweeps) {
      if (row.state == SweepState::kMaterializing || row.state == SweepState::kRunning)
        return false;
    }
    return s->trials.empty() && s->sweeps.size() >= scenario_.sweeps.size();
  }

  // Why the first trial that lives is where it is.
  std::string Waiting() {
    const absl::StatusOr<ClusterSnapshot> s = storage_->Load();
    if (!s.ok() || !server_.up()) return "; the server is down";
    if (s->trials.empty()) return "; a sweep's trials are not all there";
    const TrialId first = s->trials.front().trial.id;
    return absl::StrCat("; of ", s->trials.size(), " trials, ", first.value, ": ",
                        absl::StrJoin(server_.core()->Explain(first, server_.now()), "; "));
  }

  void Sample() {
    Result::Sample sample{.at = loop_.now()};
    for (auto& w : workers_) {
      sample.running += w->running();
      sample.workers += w->up();
    }
    if (server_.up()) sample.waiting = server_.core()->waiting();
    result_.slot_seconds += static_cast<double>(sample.running) * absl::ToDoubleSeconds(kSample);
    result_.samples.push_back(sample);
    loop_.After(kSample, [this] { Sample(); });
    for (auto& w : workers_) {
      if (w->running() > w->slots())
        oracle_.OnWrong(absl::StrCat("F: worker ", w->name(), " runs ", w->running(), " trials in ",
                                     w->slots(), " slots"));
    }
  }

  const Scenario& scenario_;
  Loop loop_;
  Random random_;
  std::unique_ptr<Storage> storage_;
  Oracle oracle_;
  Server server_;
  Meetings meetings_;
  std::vector<Link> links_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<SweepId> submitted_;
  bool saved_ = false, server_paused_ = false;
  double bad_network_ = 0;
  absl::Duration bad_network_until_, looked_, undone_;
  Result result_;
};

}  // namespace

Result Simulate(const Scenario& scenario) { return Cluster(scenario).Run(); }

Scenario Shrink(const Scenario& failing, int tries) {
  Scenario best = failing;
  const auto fails = [&](const Scenario& s) { return --tries >= 0 && !Simulate(s).wrong.empty(); };
  const auto shrink = [&](auto member) {
    for (size_t chunk = std::max<size_t>((best.*member).size() / 2, 1); chunk >= 1; chunk /= 2) {
      for (size_t at = 0; at < (best.*member).size() && tries > 0;) {
        Scenario less = best;
        auto& list = less.*member;
        list.erase(list.begin() + static_cast<int64_t>(at),
                   list.begin() + static_cast<int64_t>(std::min(at + chunk, list.size())));
        if (fails(less)) {
          best = std::move(less);
        } else {
          at += chunk;
        }
      }
      if (chunk == 1) break;
    }
  };
  shrink(&Scenario::faults);
  shrink(&Scenario::sweeps);
  return best;
}

}  // namespace plumb::sim
