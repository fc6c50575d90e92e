// What the scheduler costs a placed trial: the real core in memory, with a cluster's worth of
// workers, users, quotas, labels, memory and bundles. No store, no network.
//   plumb-schedule-bench [--workers 10000] [--queued 100000] [--events 20000] [--seed 1]
// Each event is one worker's report that one of its trials has ended; the core ends it and places
// what comes next. Prints one JSON line. run.py counts the instructions under callgrind.
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coordinator/core/core.h"

namespace plumb::core {
namespace {

struct Size {
  int64_t workers = 10'000, queued = 100'000, events = 20'000, seed = 1;
};

// Of this thread: what else the machine does is not counted.
double CpuMicros() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e6 + static_cast<double>(t.tv_nsec) / 1e3;
}

class Bench {
 public:
  explicit Bench(const Size& size)
      : size_(size), random_(static_cast<uint64_t>(size.seed)), core_({}, {}) {}

  int Run() {
    static const char* const kLabels[] = {"", "", "a100", "a100,big"};
    for (int64_t i = 0; i < kUsers; ++i) {
      Do(EditUser{.name = UserName(i),
                  .weight = 1.0 + static_cast<double>(i % 3),
                  .max_slots = i % 2 == 0 ? 0 : size_.workers / 4});
    }
    sessions_.resize(size_.workers);
    held_.resize(size_.workers);
    for (int64_t i = 0; i < size_.workers; ++i) {
      const Effects e =
          Do(RegisterWorker{.worker = {.name = absl::StrCat("w", i),
                                       .slots = 1 + i % 4,
                                       .labels = kLabels[i % 4],
                                       .memory_bytes = (int64_t{16} + 16 * (i % 3)) << 30}});
      const auto& r = std::get<Registered>(*e.answer);
      sessions_[i] = r.session;
      index_[r.worker] = i;
    }
    // What runs and what waits: some more than the slots there are.
    const int64_t slots = size_.workers * 5 / 2;
    const int64_t trials = size_.queued + 2 * slots + size_.events;
    for (int64_t user = 0; user < kUsers; ++user) Submit(user, trials / kUsers);
    if (!core_.CheckInvariants().ok()) return Wrong();

    std::vector<double> us;
    int64_t placed_all = 0, least = core_.waiting();
    for (int64_t n = 0; n < size_.events; ++n) {
      // A worker that has something.
      int64_t w = Below(size_.workers);
      while (held_[w].empty()) w = (w + 1) % size_.workers;
      auto which = held_[w].begin();
      std::advance(which, Below(static_cast<int64_t>(held_[w].size())));
      now_ += absl::Milliseconds(5);
      Report report{.session = sessions_[w],
                    .generation = core_.Generation(*core_.WorkerOfSession(sessions_[w]))};
      for (const auto& [stage, number] : held_[w]) {
        AttemptReport a{.incarnation = core_.incarnation(), .attempt = {stage, number}};
        if (stage == which->first) a.outcome = Outcome::kSucceeded;
        report.attempts.push_back(std::move(a));
      }
      const Event event = std::move(report);
      const double before = CpuMicros();
      Effects effects = Measured(event);
      const double after = CpuMicros();
      const int64_t placed = See(effects);
      placed_all += placed;
      least = std::min(least, core_.waiting());
      if (placed > 0) {
        us.push_back((after - before) / static_cast<double>(placed));
      }
    }
    if (!core_.CheckInvariants().ok()) return Wrong();
    std::sort(us.begin(), us.end());
    const auto at = [&](double p) {
      return us[std::min(us.size() - 1, static_cast<size_t>(p * static_cast<double>(us.size())))];
    };
    std::printf(
        "{\"placed\": %lld, \"queued_at_least\": %lld, \"joined\": %lld, \"us_p50\": %.2f, "
        "\"us_p99\": %.2f, \"us_max\": %.2f}\n",
        static_cast<long long>(placed_all), static_cast<long long>(least),
        static_cast<long long>(joined_), at(0.5), at(0.99), us.back());
    return 0;
  }

 private:
  static constexpr int64_t kUsers = 20;

  static std::string UserName(int64_t i) { return absl::StrCat("user", i); }
  int64_t Below(int64_t n) { return static_cast<int64_t>(random_() % static_cast<uint64_t>(n)); }
  int Wrong() {
    std::fprintf(stderr, "%s\n", std::string(core_.CheckInvariants().message()).c_str());
    return 1;
  }

  // By this name callgrind knows what to count.
  [[gnu::noinline]] Effects Measured(const Event& event) {
    return core_.Apply(event, {.cluster = now_, .wall_us = 1});
  }

  Effects Do(const Event& event) {
    if (std::holds_alternative<MaterializeSlice>(event)) core_.Unpin();
    Effects e = core_.Apply(event, {.cluster = now_, .wall_us = 1});
    See(e);
    return e;
  }

  // Keeps the workers' side; returns how many were placed.
  int64_t See(const Effects& effects) {
    int64_t placed = 0;
    for (const Change& change : effects.changes) {
      if (const auto* open = std::get_if<OpenAttempt>(&change)) {
        ++placed;
        joined_ += !bundles_.insert(open->row.bundle).second;
        held_[index_.at(open->row.worker)][open->row.id.stage] = open->row.id.number;
        where_[open->row.id.stage] = index_.at(open->row.worker);
      } else if (const auto* close = std::get_if<CloseAttempt>(&change)) {
        held_[where_.at(close->fence.attempt.stage)].erase(close->fence.attempt.stage);
      }
    }
    return placed;
  }

  void Submit(int64_t user, int64_t trials) {
    const Effects e = Do(SubmitSweep{.sweep = {.name = "s",
                                               .request_id = absl::StrCat("r", user),
                                               .request_hash = "h",
                                               .trials = trials,
                                               .user = UserName(user),
                                               .priority = user % 3}});
    const SweepId sweep = std::get<Submitted>(*e.answer).sweep;
    for (int64_t from = 0; from < trials; from += 500) {
      MaterializeSlice slice{.sweep = sweep, .from = from};
      auto list = std::make_shared<std::vector<NewTrial>>();
      for (int64_t i = from; i < std::min(trials, from + 500); ++i) {
        NewTrial t;
        t.trial.key = absl::StrCat("u", user, ".", i);
        t.trial.fusion_key = absl::StrCat("f", i / 8 % 200);
        const int64_t kind = i / 8 % 16;
        t.stages.push_back({.name = "pretrain",
                            .kind = "pretrain",
                            .target_step = 100,
                            .threads = kind == 3 ? 2 : 1,
                            .memory_bytes = (kind % 4) << 30,
                            .labels = kind == 5   ? "a100"
                                      : kind == 6 ? "big"
                                                  : "",
                            .bundle = kind % 2 == 0 ? 4 : 1});
        t.parents.push_back("");
        list->push_back(std::move(t));
      }
      slice.trials = std::move(list);
      core_.Pin();
      Do(std::move(slice));
    }
  }

  const Size size_;
  std::mt19937_64 random_;
  Core core_;
  absl::Duration now_ = absl::Seconds(1);
  std::vector<SessionId> sessions_;
  std::map<WorkerId, int64_t> index_;
  std::vector<std::map<StageId, int64_t>> held_;  // by worker: stage → attempt
  std::map<StageId, int64_t> where_;
  std::set<int64_t> bundles_;
  int64_t joined_ = 0;
};

}  // namespace
}  // namespace plumb::core

int main(int argc, char** argv) {
  plumb::core::Size size;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    const int64_t value = std::atoll(argv[i + 1]);
    if (name == "--workers") size.workers = value;
    if (name == "--queued") size.queued = value;
    if (name == "--events") size.events = value;
    if (name == "--seed") size.seed = value;
  }
  return plumb::core::Bench(size).Run();
}
