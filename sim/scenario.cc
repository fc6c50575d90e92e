#include "sim/scenario.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "sim/random.h"

namespace plumb::sim {

absl::string_view Name(FaultKind kind) {
  static constexpr const char* kNames[] = {
      "kill_server",    "kill_worker",  "stop_worker", "crash_machine", "wipe_machine",
      "drain_worker",   "kill_trainer", "bad_machine", "partition",     "partition_to",
      "partition_from", "slow_disk",    "full_disk",   "broken_disk",   "put_back",
      "put_back_alone", "clock_jump",   "bad_network", "cancel_sweep",  "cancel_trial",
      "retry_trial",    "pause_sweep",  "prioritise",  "quota",         "drain_on_request"};
  static_assert(std::size(kNames) == kFaultKinds);
  return kNames[static_cast<int>(kind)];
}

std::string Describe(const Fault& f) {
  return absl::StrFormat("%s %s target=%d length=%s size=%g", absl::FormatDuration(f.at),
                         Name(f.kind), f.target, absl::FormatDuration(f.length), f.size);
}

Scenario Draw(uint64_t seed, const Size& size) {
  Random random(seed * 2 + 1);
  Scenario out{.seed = seed, .length = size.length};
  for (int64_t i = 0; i < size.workers; ++i) {
    out.machines.push_back(
        {.slots = random.Chance(0.5) ? random.Between(1, 2) : random.Between(3, 8),
         .speed = random.Chance(0.3) ? 0.5 + random.Unit() : 1});
  }
  if (random.Chance(0.5)) {
    out.work.special = 0.2 * random.Unit();
    for (int64_t i = 0; i < size.workers; ++i) {
      if (i == 0 || random.Chance(0.3)) out.machines[i].labels = "gpu";
    }
  }
  if (random.Chance(0.5)) {
    out.work.memory = 1 + random.Unit();
    for (Machine& m : out.machines)
      m.memory_bytes = (int64_t{8} << 30) + (m.slots << 30) * random.Between(0, 2);
  }
  // A trial of two threads must fit somewhere.
  out.machines[0].slots = std::max<int64_t>(out.machines[0].slots, 2);
  Random shares(seed * 2 + 1000003);
  if (shares.Chance(0.6)) {
    out.work.bundles = 0.3 + 0.7 * shares.Unit();
    if (shares.Chance(0.8)) out.work.alike = 0.5 + 0.5 * shares.Unit();
    out.work.alike_rows = shares.Between(2, 8);
  }
  if (size.workers >= 4 && shares.Chance(0.5)) {
    out.work.gangs = 0.1 + 0.4 * shares.Unit();
    int64_t reached = 0;  // each of them can hold one rank, and few a whole trial
    for (int64_t i = 0; i < size.workers; ++i) {
      Machine& m = out.machines[i];
      m.slots = i == 0 ? 2 : std::min<int64_t>(m.slots, shares.Between(1, 3));
      m.gang = i < 4 || shares.Chance(0.8) ? "net" : shares.Chance(0.5) ? "lan" : "";
      reached += m.gang == "net";
    }
    out.work.most_ranks = std::min<int64_t>(reached * 2 / 3, 12);
  }
  if (shares.Chance(0.5)) out.work.trunks = 0.2 + 0.8 * shares.Unit();
  int64_t slots = 0;
  for (const Machine& m : out.machines) slots += m.slots;
  // Enough work for half the time, so that faults meet a busy cluster and an idle one.
  out.work.mean_seconds =
      std::max(30.0, 0.5 * absl::ToDoubleSeconds(size.length) * static_cast<double>(slots) /
                         static_cast<double>(std::max<int64_t>(size.trials, 1)));
  // A trial must fit between two crashes, or nothing ever ends.
  out.work.mean_seconds = std::min(out.work.mean_seconds, 7200.0);
  out.patience = absl::Hours(24) + absl::Seconds(60 * out.work.mean_seconds);
  if (random.Chance(0.3)) out.work.crashes = 0.1 * random.Unit();
  if (random.Chance(0.2)) out.work.kills_machine = 0.02 * random.Unit();
  out.options.lease = absl::Seconds(random.Between(40, 300));
  out.report_every = absl::Seconds(random.Between(5, 15));

  int64_t left = size.trials, made = 0;
  for (int64_t i = 0; left > 0; ++i) {
    SweepPlan sweep{.at = absl::Seconds(random.Unit() * 0.7 * absl::ToDoubleSeconds(size.length)),
                    .name = absl::StrCat("s", i),
                    .slice = random.Between(1, 60),
                    .user = absl::StrCat("user", random.Between(0, 2)),
                    .priority = random.Chance(0.2) ? random.Between(-1, 2) : 0};
    if (i == 0) sweep.at = absl::Seconds(1);
    const int64_t n = std::min(left, random.Between(1, std::max<int64_t>(size.trials / 4, 1)));
    for (int64_t k = 0; k < n; ++k) {
      // Some trials are those of an earlier sweep.
      const bool shared = made > 0 && random.Chance(0.1);
      const std::string key = absl::StrCat("t", shared ? random.Between(0, made - 1) : made++);
      if (std::find(sweep.keys.begin(), sweep.keys.end(), key) == sweep.keys.end())
        sweep.keys.push_back(key);
    }
    left -= n;
    out.sweeps.push_back(std::move(sweep));
  }

  if (seed % 11 == 0) {  // a quiet one: what then is lost, is lost by us
    out.work.kills_machine = 0;
    return out;
  }
  for (int64_t i = 1; i < size.workers; ++i) {
    if (random.Chance(0.1)) out.machines[i].life = absl::Minutes(random.Between(30, 300));
  }
  // Each seed has its own mix of faults: some kinds not at all, some often.
  std::vector<double> weight(kFaultKinds);
  double total = 0;
  for (double& w : weight) total += w = random.Chance(0.4) ? 0 : random.Exponential(1);
  for (int64_t i = 0; i < size.faults && total > 0; ++i) {
    double at = random.Unit() * total;
    int kind = 0;
    while (kind + 1 < kFaultKinds && (at -= weight[kind]) >= 0) ++kind;
    Fault fault{.at = absl::Seconds(random.Unit() * absl::ToDoubleSeconds(size.length)),
                .kind = static_cast<FaultKind>(kind),
                .target = random.Between(0, 1 << 20),
                .length = absl::Milliseconds(1 + random.Exponential(120'000)),
                .size = random.Unit()};
    if (random.Chance(0.1)) fault.length *= 20;
    switch (fault.kind) {
      case FaultKind::kSlowDisk:
        fault.size = 1 + random.Exponential(3000);
        break;
      case FaultKind::kClockJump:
        fault.size = (random.Unit() - 0.5) * 7200;
        break;
      case FaultKind::kBadNetwork:
        fault.size *= 0.5;
        break;
      case FaultKind::kPrioritise:
        fault.size = static_cast<double>(random.Between(-3, 3));
        break;
      case FaultKind::kQuota:
        fault.size = static_cast<double>(random.Between(1, 8));
        break;
      default:
        break;
    }
    out.faults.push_back(fault);
  }
  std::stable_sort(out.faults.begin(), out.faults.end(),
                   [](const Fault& a, const Fault& b) { return a.at < b.at; });
  return out;
}

}  // namespace plumb::sim
