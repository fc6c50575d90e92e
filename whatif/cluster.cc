#include "whatif/cluster.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/advisor.h"
#include "coordinator/contest.h"
#include "coordinator/core/core.h"
#include "coordinator/plan_rows.h"
#include "domain/status_macros.h"
#include "sim/loop.h"
#include "sim/storage.h"
#include "sweeps/tuning.h"

namespace plumb::whatif {
namespace {

using sweeps::PlannedTrial;
using sweeps::SweepPlan;

constexpr int64_t kMostEvents = 10'000;  // and a thousand a trial
// Nobody falls silent here.
const absl::Duration kForEver = absl::Hours(24 * 365 * 1000);

int64_t SlotsOf(const PlannedTrial& t) {
  return std::max<int64_t>(1, t.config.execution.threads) *
         std::max<int64_t>(1, t.config.train.ranks);
}

class Runner : private store::Results {
 public:
  Runner(const SweepPlan& plan, const Cluster& cluster, const CurveFn& curve,
         const RunOptions& options)
      : plan_(plan), cluster_(cluster), curve_(curve), options_(options) {
    if (options_.restart_at > 0) storage_ = sim::MakeMemoryStorage();
    const auto all = [](const std::optional<sweeps::StopSpec>& s) {
      return s && (s->median || s->divergence);
    };
    evaluates_ = all(plan.stop) ||
                 (plan.tune != nullptr && (all(plan.tune->stop) || plan.tune->metric_at != "last"));
    series_ = sweeps::StoppingBy(plan).metric;
    if (plan.tune != nullptr) series_ = plan.tune->metric;
  }

  absl::StatusOr<Outcome> Run() {
    RETURN_IF_ERROR(CheckRoom());
    RETURN_IF_ERROR(Serve());
    for (size_t i = 0; i < cluster_.machines.size(); ++i)
      workers_.push_back({.is = cluster_.machines[i], .name = absl::StrCat("w", i + 1)});
    while (!sweep_) {
      const auto e = Apply(core::SubmitSweep{.sweep = {.name = plan_.name,
                                                       .request_id = kRequest,
                                                       .request_hash = "what-if",
                                                       .objective = plan_.objective,
                                                       .objective_at = plan_.objective_at,
                                                       .trials = std::ssize(plan_.trials),
                                                       .priority = plan_.priority,
                                                       .open = coordinator::NeedsAdvice(plan_)}});
      if (e) sweep_ = std::get<core::Submitted>(*e->answer).sweep;
    }
    for (Worker& w : workers_) {
      if (!w.session) Register(w);
    }
    RETURN_IF_ERROR(Settle());
    while (error_.ok() && loop_.Step()) RETURN_IF_ERROR(Settle());
    RETURN_IF_ERROR(error_);
    return Finish();
  }

 private:
  static constexpr char kRequest[] = "what-if";

  // An attempt at its worker.
  struct Running {
    AttemptId attempt;
    int64_t idx = 0;  // of its trial
    int64_t at = 0;   // step, when it was last looked at
    absl::Duration since;
    int64_t until = -1;
    int64_t keep = 0;       // the checkpoint of this step is for others to begin from; 0: none
    int64_t next = 0;       // step of the next evaluation, rung or end
    bool diverges = false;  // it comes there with nothing
    int64_t ticket = 0;
    int64_t seq = 0;                           // of its last batch
    std::optional<core::AttemptReport> ended;  // said again until it is dropped
  };
  struct Worker {
    sim::Machine is;
    std::string name;
    WorkerId id;
    SessionId session;
    std::map<StageId, Running> running;
  };
  struct Work {
    int64_t steps = 0;
    double seconds = 0;
  };

  absl::Status CheckRoom() const {
    int64_t most = 0;
    for (const sim::Machine& m : cluster_.machines) most = std::max(most, m.slots);
    for (const PlannedTrial& t : plan_.trials) {
      if (SlotsOf(t) <= most) continue;
      return absl::InvalidArgumentError(absl::StrCat(
          "a trial of ", plan_.cells[t.cell].name, " takes ", SlotsOf(t),
          " slots (threads x ranks), no worker has more than ", most, "; give more with --slots"));
    }
    return absl::OkStatus();
  }

  // ---- the server

  absl::Status Serve() {
    ClusterSnapshot snapshot;
    if (storage_ != nullptr) {
      RETURN_IF_ERROR(storage_->Open());
      ASSIGN_OR_RETURN(snapshot, storage_->Load());
    }
    core_ = std::make_unique<core::Core>(
        core::Options{
            .lease = kForEver, .suspect = kForEver, .retry_backoff = absl::ZeroDuration()},
        snapshot);
    Forget();
    return absl::OkStatus();
  }
  void Forget() {
    contest_.emplace(plan_);
    contest_->Join(plan_.trials);
    joined_ = 0;
  }
  void Restart() {
    storage_->Close();
    if (absl::Status s = Serve(); !s.ok()) {
      error_ = s;
      return;
    }
    for (Worker& w : workers_) {
      if (w.session) Register(w);
    }
  }

  // nullopt: the server died before it was committed.
  std::optional<core::Effects> Apply(const core::Event& event) {
    const bool dies = ++events_ == options_.restart_at;
    core::Effects e = core_->Apply(event, {.cluster = loop_.now()});
    if (dies && options_.lost) {
      Restart();
      return std::nullopt;
    }
    for (const Change& change : e.changes) std::visit([this](const auto& c) { Write(c); }, change);
    woken_.insert(e.woken.begin(), e.woken.end());
    if (!e.answer.ok() && error_.ok()) error_ = e.answer.status();
    if (storage_ != nullptr) {
      if (absl::Status s = storage_->Commit(loop_.now(), e.changes); !s.ok() && error_.ok())
        error_ = s;
    }
    if (dies) {
      // What was granted reaches the workers first: a grant that nobody heard of is made again,
      // later, and who comes first may then be another.
      for (const WorkerId id : std::exchange(woken_, {})) {
        for (Worker& w : workers_) {
          if (w.id == id) Obey(w);
        }
      }
      Restart();
    }
    return e;
  }

  // As coordinator/planner.cc: the trials of the cursor's additions.
  absl::Status Know(const core::Core::Cursor& at) {
    for (; joined_ < std::ssize(at.additions); ++joined_) {
      ASSIGN_OR_RETURN(std::vector<PlannedTrial> more,
                       coordinator::TrialsOf(plan_, added_, at.additions[joined_]));
      contest_->Join(more);
      if (joined_ < additions_) continue;  // known from before a restart
      ++additions_;
      std::move(more.begin(), more.end(), std::back_inserter(added_));
    }
    return absl::OkStatus();
  }

  absl::Status Slice(const core::Core::Cursor& at) {
    RETURN_IF_ERROR(Know(at));
    core::MaterializeSlice slice =
        coordinator::ToSlice(plan_, added_, *contest_, at.sweep, kRequest, at.from, 250);
    for (const std::string& key : core::PrefixKeysOf(slice)) {
      const auto known = trunks_.find(key);
      if (known == trunks_.end()) continue;
      for (const auto& [step, row] : known->second) slice.trunks.push_back(row);
    }
    for (int64_t idx = slice.from; idx < slice.from + std::ssize(*slice.trials); ++idx) {
      const PlannedTrial& trial = PlannedAt(idx);
      const PlannedTrial& run = contest_->RunAt(idx, trial);
      if (&run != &trial) first_runs_.try_emplace(idx, std::make_shared<const PlannedTrial>(run));
    }
    Apply(slice);
    return absl::OkStatus();
  }

  absl::Status Advise(const core::Core::Due& due) {
    const core::Core::Cursor at = core_->CursorOf(due.sweep);
    RETURN_IF_ERROR(Know(at));
    if (!contest_->empty() && contest_->looks() != std::ssize(looks_)) {
      Forget();
      RETURN_IF_ERROR(Know(at));
      RETURN_IF_ERROR(contest_->Take(looks_));
    }
    ASSIGN_OR_RETURN(core::AdviseSweep advice,
                     coordinator::Advise(plan_, added_, at.additions, due.sweep, *contest_,
                                         static_cast<store::Results&>(*this)));
    advice.seen = due.seen;
    advice.additions_before = std::ssize(at.additions);
    Apply(advice);
    return absl::OkStatus();
  }

  // All that follows from what has happened, until only time is left to pass.
  absl::Status Settle() {
    while (error_.ok()) {
      if (events_ > kMostEvents + 1000 * (std::ssize(plan_.trials) + std::ssize(added_)))
        return absl::InternalError("the server goes on deciding and comes to no end");
      if (const auto at = core_->NextSlice()) {
        RETURN_IF_ERROR(Slice(*at));
      } else if (const auto due = core_->NextDue()) {
        RETURN_IF_ERROR(Advise(*due));
      } else if (!woken_.empty()) {
        const WorkerId id = *woken_.begin();
        woken_.erase(woken_.begin());
        for (Worker& w : workers_) {
          if (w.id == id) Obey(w);
        }
      } else {
        break;
      }
    }
    return error_;
  }

  // ---- the workers

  void Register(Worker& w) {
    while (true) {
      core::RegisterWorker event{.worker = {.name = w.name,
                                            .slots = w.is.slots,
                                            .labels = w.is.labels,
                                            .memory_bytes = w.is.memory_bytes},
                                 .known_incarnation = core_->incarnation(),
                                 .attempts = Reports(w)};
      const auto e = Apply(event);
      if (!e) continue;
      const auto& r = std::get<core::Registered>(*e->answer);
      w.session = r.session, w.id = r.worker;
      woken_.insert(w.id);
      return;
    }
  }
  std::vector<core::AttemptReport> Reports(const Worker& w) const {
    std::vector<core::AttemptReport> out;
    for (const auto& [stage, r] : w.running) {
      out.push_back(r.ended.value_or(core::AttemptReport{
          .incarnation = core_->incarnation(), .attempt = r.attempt, .step = r.at}));
    }
    return out;
  }
  void Tell(Worker& w, MeasurementBatchPtr batch) {
    while (error_.ok()) {
      core::Report report{.session = w.session,
                          .generation = core_->Generation(w.id),
                          .known_incarnation = core_->incarnation(),
                          .attempts = Reports(w)};
      if (batch != nullptr) report.batches.push_back(batch);
      if (Apply(report)) return;
    }
  }

  const PlannedTrial& PlannedAt(int64_t idx) const {
    const auto planned = std::ssize(plan_.trials);
    return idx < planned ? plan_.trials[idx] : added_[idx - planned];
  }
  // What runs there.
  const PlannedTrial& TrialAt(int64_t idx) const {
    const auto first = first_runs_.find(idx);
    return first == first_runs_.end() ? PlannedAt(idx) : *first->second;
  }
  static int64_t TargetOf(const PlannedTrial& t) { return t.stages.front().target_step; }

  // Of an evaluation, rung or end: the next step at which something is to be said.
  int64_t NextStep(const PlannedTrial& t, const Running& r) const {
    int64_t next = r.until >= 0 ? std::max(r.until, r.at) : TargetOf(t);
    if (r.keep > r.at) next = std::min(next, r.keep);
    if (!evaluates_) return next;
    const int64_t points = std::max<int64_t>(1, t.config.eval.points), steps = TargetOf(t);
    for (int64_t i = r.at * points / steps; i <= points; ++i) {
      const int64_t step = (2 * i * steps + points) / (2 * points);
      if (step > r.at) return std::min(next, step);
    }
    return next;
  }
  absl::Duration Lasts(const Worker& w, const PlannedTrial& t, int64_t steps) const {
    return absl::Seconds(static_cast<double>(steps) * cluster_.seconds_per_step(t) / w.is.speed);
  }

  // Sends it on from where it is now.
  void GoOn(Worker& w, StageId stage, Running& r) {
    const PlannedTrial& t = TrialAt(r.idx);
    r.next = NextStep(t, r);
    r.diverges = r.next > r.at && !std::isfinite(curve_(t, r.next));
    if (r.diverges) {  // the first step at which it has
      int64_t low = r.at, high = r.next;
      while (low + 1 < high) {
        const int64_t middle = low + (high - low) / 2;
        (std::isfinite(curve_(t, middle)) ? low : high) = middle;
      }
      r.next = high;
    }
    r.ticket = ++tickets_;
    const size_t which = &w - workers_.data();
    loop_.At(r.since + Lasts(w, t, r.next - r.at), [this, which, stage, ticket = r.ticket] {
      Worker& w = workers_[which];
      const auto it = w.running.find(stage);
      if (it != w.running.end() && it->second.ticket == ticket && !it->second.ended)
        Arrive(w, stage, it->second);
    });
  }

  void Arrive(Worker& w, StageId stage, Running& r) {
    const PlannedTrial& t = TrialAt(r.idx);
    Count(w, r, r.next);
    core::AttemptReport report{
        .incarnation = core_->incarnation(), .attempt = r.attempt, .step = r.at};
    auto batch = std::make_shared<MeasurementBatch>();
    batch->incarnation = core_->incarnation();
    batch->attempt = r.attempt;
    batch->first_seq = batch->last_seq = ++r.seq;
    if (!r.diverges) {
      batch->series.push_back(
          {.name = series_, .points = {{.step = r.at, .value = curve_(t, r.at)}}});
    }
    if (r.diverges) {
      report.outcome = ::plumb::Outcome::kDiverged;
    } else if (r.at >= TargetOf(t)) {
      report.outcome = ::plumb::Outcome::kSucceeded;
    } else if (r.at == r.until) {
      report.outcome = ::plumb::Outcome::kPaused;
    }
    if (!r.diverges && (report.outcome || r.at == r.keep))
      batch->checkpoints.push_back({.step = r.at, .path = "p", .digest = "d"});
    if (report.outcome) {
      report.through_seq = r.seq;
      report.cause = "simulated";
    }
    if (report.outcome) r.ended = report;
    Tell(w, batch);
    const auto it = w.running.find(stage);
    if (it != w.running.end() && !it->second.ended) GoOn(w, stage, it->second);
  }

  // It has come to `step` by now.
  void Count(const Worker& w, Running& r, int64_t step) {
    Work& work = work_[r.idx];
    work.steps += step - r.at;
    work.seconds +=
        absl::ToDoubleSeconds(loop_.now() - r.since) * static_cast<double>(SlotsOf(TrialAt(r.idx)));
    r.at = step;
    r.since = loop_.now();
  }

  void Obey(Worker& w) {
    const std::vector<core::Grant> grants = core_->Desired(w.id);
    bool gone = false;
    for (auto it = w.running.begin(); it != w.running.end();) {
      Running& r = it->second;
      const bool wanted = std::any_of(grants.begin(), grants.end(),
                                      [&](const core::Grant& g) { return g.attempt == r.attempt; });
      if (wanted) {
        ++it;
        continue;
      }
      if (!r.ended) {
        const double each = absl::ToDoubleSeconds(Lasts(w, TrialAt(r.idx), 1));
        const double done = absl::ToDoubleSeconds(loop_.now() - r.since) / each;
        Count(w, r, std::min(r.next, r.at + static_cast<int64_t>(done + 1e-6)));
      }
      gone |= !r.ended || (options_.restart_at > 0 && events_ >= options_.restart_at);
      it = w.running.erase(it);
    }
    for (const core::Grant& g : grants) {
      const StageId stage = g.attempt.stage;
      if (const auto it = w.running.find(stage); it != w.running.end()) {
        Running& r = it->second;
        if (r.until == g.until_step || r.ended) continue;
        const double each = absl::ToDoubleSeconds(Lasts(w, TrialAt(r.idx), 1));
        const auto done =
            static_cast<int64_t>(absl::ToDoubleSeconds(loop_.now() - r.since) / each + 1e-6);
        // From the step that it is in; the part of it that is done stays done.
        const absl::Duration since = r.since + Lasts(w, TrialAt(r.idx), done);
        const absl::Duration now = loop_.now();
        Work& work = work_[r.idx];
        work.steps += done;
        work.seconds += absl::ToDoubleSeconds(now - r.since);
        r.at += done, r.since = since, r.until = g.until_step;
        work.seconds -= absl::ToDoubleSeconds(now - since);
        GoOn(w, stage, r);
        continue;
      }
      Running r{.attempt = g.attempt,
                .idx = idx_.at(stages_.at(stage).trial),
                .at = std::max<int64_t>(0, g.checkpoint_step),
                .since = loop_.now(),
                .until = g.until_step,
                .keep = g.keep_step};
      GoOn(w, stage, w.running.emplace(stage, std::move(r)).first->second);
    }
    if (gone) Tell(w, nullptr);
  }

  // ---- the database

  absl::StatusOr<std::vector<store::TrialProgress>> Progress(SweepId) override {
    std::vector<store::TrialProgress> out;
    for (const auto& [idx, trial] : links_) {
      const StageRow& s = stages_.at(stage_of_.at(trial));
      out.push_back({.trial = trial,
                     .stage = s.id,
                     .idx = idx,
                     .state = s.state,
                     .step = s.step,
                     .until_step = s.until_step});
    }
    return out;
  }
  absl::StatusOr<std::map<TrialId, store::NamedStage>> Stages(SweepId,
                                                              const std::string&) override {
    return absl::UnimplementedError("trainings alone are played");
  }
  absl::StatusOr<std::vector<store::StepValue>> Points(StageId stage, const std::string&,
                                                       int64_t after_step) override {
    std::vector<store::StepValue> out;
    for (const store::StepValue& p : points_[stage]) {
      if (p.step > after_step) out.push_back(p);
    }
    return out;
  }

  void Write(const InsertSweepTrial& c) {
    links_[c.row.idx] = c.row.trial;
    idx_[c.row.trial] = c.row.idx;
  }
  void Write(const InsertStage& c) {
    stages_[c.row.id] = c.row;
    stage_of_.try_emplace(c.row.trial, c.row.id);
  }
  void Write(const UpdateStage& c) { stages_.at(c.row.id) = c.row; }
  void Write(const UpdateSweep& c) { over_ = c.state == SweepState::kCompleted; }
  void Write(const InsertLook& c) { looks_.push_back(c.row); }
  void Write(const PutTrunk& c) { trunks_[c.row.prefix_key][c.row.step] = c.row; }
  void Write(const UpdateCell& c) {
    history_.push_back(absl::StrCat("cell ", c.idx, ": ", c.tuned_json, " ", c.flags_json));
  }
  void Write(const ApplyBatch& c) {
    for (const MeasurementBatch::Series& s : c.batch->series) {
      for (const MeasurementBatch::Point& p : s.points)
        points_[c.fence.attempt.stage].push_back({p.step, p.value});
    }
  }
  void Write(const AppendEvent& c) {
    const std::string& kind = c.row.kind;
    if (kind != "promoted" && kind != "stopped" && kind != "sweep_extended") return;
    const auto it = idx_.find(c.row.trial);
    history_.push_back(absl::StrCat(kind, it == idx_.end() ? "" : absl::StrCat(" ", it->second),
                                    ": ", c.row.detail));
  }
  template <typename T>
  void Write(const T&) {}

  absl::StatusOr<Outcome> Finish() {
    if (!over_) {
      for (const auto& [id, s] : stages_) {
        if (IsTerminal(s.state)) continue;
        std::string why;
        for (const std::string& line : core_->Explain(s.trial, {.cluster = loop_.now()}))
          absl::StrAppend(&why, why.empty() ? "" : " ", line);
        return absl::InvalidArgumentError(
            absl::StrCat("the sweep would never end on this cluster: ", why));
      }
      return absl::InternalError("the sweep is still open though all its trials have ended");
    }
    Outcome out{.end = loop_.now(),
                .looks = std::ssize(looks_),
                .events = events_,
                .history = std::move(history_)};
    out.added = std::move(added_);
    const auto planned = std::ssize(plan_.trials);
    for (const auto& [idx, trial] : links_) {
      const StageId stage = stage_of_.at(trial);
      const PlannedTrial* t = idx < planned ? &plan_.trials[idx] : &out.added[idx - planned];
      if (const auto first = first_runs_.find(idx); first != first_runs_.end())
        t = out.first_runs.emplace_back(first->second).get();
      const Work& work = work_[idx];
      Ran ran{.trial = t,
              .state = stages_.at(stage).state,
              .steps = work.steps,
              .seconds = work.seconds};
      const auto& points = points_[stage];
      if (!points.empty()) ran.last = points.back().value;
      out.steps += work.steps;
      out.slot_seconds += work.seconds;
      out.flops += t->flops * static_cast<double>(work.steps) / static_cast<double>(TargetOf(*t));
      out.trials.push_back(ran);
    }
    return out;
  }

  const SweepPlan& plan_;
  const Cluster& cluster_;
  const CurveFn& curve_;
  const RunOptions options_;
  bool evaluates_ = false;
  std::string series_;

  sim::Loop loop_;
  std::unique_ptr<sim::Storage> storage_;  // where the server is killed
  std::unique_ptr<core::Core> core_;
  std::optional<coordinator::Contest> contest_;
  int64_t joined_ = 0, additions_ = 0;
  std::vector<PlannedTrial> added_;
  std::map<int64_t, std::shared_ptr<const PlannedTrial>> first_runs_;  // by place
  std::map<std::string, std::map<int64_t, TrunkRow>> trunks_;
  SweepId sweep_;
  std::vector<Worker> workers_;
  std::set<WorkerId> woken_;
  int64_t tickets_ = 0, events_ = 0;
  absl::Status error_;

  std::map<int64_t, TrialId> links_;
  std::map<TrialId, int64_t> idx_;
  std::map<StageId, StageRow> stages_;
  std::map<TrialId, StageId> stage_of_;
  std::map<StageId, std::vector<store::StepValue>> points_;
  std::vector<LookRow> looks_;
  std::map<int64_t, Work> work_;
  std::vector<std::string> history_;
  bool over_ = false;
};

}  // namespace

std::function<double(const PlannedTrial&)> ByFlops(double flops_per_s) {
  return [flops_per_s](const PlannedTrial& t) {
    const double flops =
        static_cast<double>(t.flops_per_token) * static_cast<double>(t.config.train.batch_tokens);
    return std::max(1e-9, flops / (flops_per_s * static_cast<double>(SlotsOf(t))));
  };
}

SweepPlan TrainingsOf(SweepPlan plan) {
  for (PlannedTrial& t : plan.trials) t.stages.resize(1);
  if (plan.tune != nullptr) {
    sweeps::TunePlan tune = *plan.tune;
    tune.timing = false;
    tune.stages.resize(1);
    plan.tune = std::make_shared<const sweeps::TunePlan>(std::move(tune));
  }
  plan.bundle = 1;
  return plan;
}

absl::StatusOr<Outcome> Simulate(const SweepPlan& plan, const Cluster& cluster,
                                 const CurveFn& curve, const RunOptions& options) {
  return Runner(plan, cluster, curve, options).Run();
}

}  // namespace plumb::whatif
