#include "app/watch.h"

#include <signal.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "app/exit_code.h"
#include "app/nearest.h"
#include "app/screen.h"
#include "app/signals.h"
#include "app/table.h"

namespace plumb::app {
namespace {

using Stub = v1::SweepService::Stub;

constexpr int kLiveRows = 12;
constexpr int kTrialsLooked = 2000;  // more than that: counts only

bool Ended(const v1::Sweep& sweep) {
  return sweep.state() == "completed" || sweep.state() == "cancelled";
}

std::string Counts(const v1::Sweep& sweep) {
  std::vector<std::string> parts;
  for (const char* state : {"succeeded", "running", "pending", "paused", "failed", "infeasible",
                            "diverged", "stopped", "cancelled"}) {
    const auto it = sweep.trials_by_state().find(state);
    if (it != sweep.trials_by_state().end() && it->second > 0) {
      parts.push_back(absl::StrCat(it->second, " ", state));
    }
  }
  return absl::StrJoin(parts, ", ");
}

double Share(const v1::Sweep& s) {
  if (s.flops_total() > 0) return std::clamp(s.flops_done() / s.flops_total(), 0.0, 1.0);
  return s.steps_total() > 0 ? static_cast<double>(s.steps_done()) / s.steps_total() : 0;
}

std::string Rate(const v1::Sweep& s) {
  std::string out;
  if (s.tokens_per_s() > 0) out += absl::StrCat(", ", Scaled(s.tokens_per_s()), " tokens/s");
  if (s.eta_seconds() >= 0 && !Ended(s))
    out += absl::StrCat(", ", Duration(s.eta_seconds()), " to go");
  return out;
}

std::string Name(const v1::Trial& t) {
  return absl::StrCat("trial ", t.id(), " (", Printable(t.cell()),
                      t.aa()     ? ", A/A"
                      : t.tune() ? ", tuning"
                                 : "",
                      ", replicate ", t.replicate(), ")");
}

std::vector<std::string> LiveLines(const v1::Sweep& sweep, const std::vector<v1::Trial>& trials) {
  const double share = Share(sweep);
  std::string bar;
  for (int i = 0; i < 24; ++i) bar += i < std::lround(share * 24) ? "█" : "░";
  std::vector<std::string> lines = {
      absl::StrCat("sweep ", sweep.id(), " ", Printable(sweep.name()), "  ", bar, " ",
                   Number(100 * share, 0), " %", Rate(sweep)),
      absl::StrCat(sweep.trials(), " trials: ", Counts(sweep))};
  if (!sweep.waits_for().empty())
    lines.push_back(absl::StrCat("waits for ", Printable(sweep.waits_for())));
  Table table{.columns = {{"trial"},
                          {"cell"},
                          {"rep"},
                          {"step"},
                          {"of"},
                          {"train loss", 4},
                          {"tokens/s", 0},
                          {"worker"}}};
  int more = 0;
  for (const v1::Trial& t : trials) {
    if (t.state() != "running") continue;
    if (static_cast<int>(table.rows.size()) == kLiveRows) {
      ++more;
      continue;
    }
    const v1::Stage* stage = nullptr;
    for (const v1::Stage& s : t.stages()) {
      if (s.state() == "running" || stage == nullptr) stage = &s;
    }
    table.rows.push_back({t.id(),
                          t.cell() + (t.aa()     ? " A/A"
                                      : t.tune() ? " tuning"
                                                 : ""),
                          int64_t{t.replicate()}, stage ? stage->step() : 0,
                          stage ? stage->target_step() : 0, t.train_loss(), t.tokens_per_s(),
                          t.worker()});
  }
  if (!table.rows.empty()) {
    const std::string text = TableText(table, TerminalWidth());
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = text.find('\n', begin);
      lines.push_back("  " + text.substr(begin, end - begin));
      begin = end + 1;
    }
  }
  if (more > 0) lines.push_back(absl::StrCat("  … and ", more, " more"));
  return lines;
}

// What changed since the last look, a line each.
class Changes {
 public:
  explicit Changes(const std::string& objective) : objective_(objective) {}
  void Print(const v1::Sweep& sweep, const std::vector<v1::Trial>& trials, double seconds) {
    for (const v1::Trial& t : trials) {
      if (!measured_ && !std::isnan(t.train_loss())) {
        measured_ = true;
        std::printf("%6.1f s  first measurement: %s, train/loss %s\n", seconds, Name(t).c_str(),
                    Number(t.train_loss(), 4).c_str());
      }
      std::string& state = states_[t.id()];
      if (state == t.state()) continue;
      const bool first = state.empty();
      state = t.state();
      if (first && (state == "pending" || !seen_)) continue;
      std::printf("%6.1f s  %s: %s", seconds, Name(t).c_str(), state.c_str());
      if (!std::isnan(t.objective())) {
        std::printf(", %s %s", objective_.c_str(), Number(t.objective(), 4).c_str());
      }
      std::printf("\n");
    }
    seen_ = true;
    if (sweep.waits_for() != waits_for_) {
      waits_for_ = sweep.waits_for();
      if (!waits_for_.empty())
        std::printf("%6.1f s  sweep %lld waits for %s\n", seconds,
                    static_cast<long long>(sweep.id()), Printable(waits_for_).c_str());
    }
    const int tenth = static_cast<int>(Share(sweep) * 10);
    if (tenth > tenth_ || sweep.state() != state_) {
      tenth_ = tenth;
      state_ = sweep.state();
      std::printf("%6.1f s  sweep %lld %s: %d %%, %s%s\n", seconds,
                  static_cast<long long>(sweep.id()), sweep.state().c_str(),
                  static_cast<int>(Share(sweep) * 100), Counts(sweep).c_str(), Rate(sweep).c_str());
    }
    std::fflush(stdout);
  }

 private:
  std::string objective_, state_, waits_for_;
  std::map<int64_t, std::string> states_;
  int tenth_ = -1;
  bool measured_ = false, seen_ = false;
};

}  // namespace

absl::StatusOr<FailOn> ParseFailOn(const std::string& name) {
  if (name == "any") return FailOn::kAny;
  if (name == "all") return FailOn::kAll;
  if (name == "never") return FailOn::kNever;
  return absl::InvalidArgumentError(
      absl::StrCat("--fail-on ", name, ": not one of any, all, never"));
}

int64_t Failed(const v1::Sweep& sweep) {
  int64_t n = 0;
  for (const char* state : {"failed", "infeasible", "diverged"}) {
    const auto it = sweep.trials_by_state().find(state);
    if (it != sweep.trials_by_state().end()) n += it->second;
  }
  return n;
}

absl::StatusOr<int> Watch(Client& client, int64_t sweep_id, const WatchOptions& options) {
  BlockSignals();
  const auto start = std::chrono::steady_clock::now();
  const auto seconds = [start] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  const bool live = StdoutIsTerminal();
  Screen screen;
  Changes changes("objective");
  int unreachable = 0;
  for (;;) {
    v1::GetSweepRequest request;
    request.set_sweep_id(sweep_id);
    auto response = client.Call(&Stub::GetSweep, request);
    if (!response.ok()) {
      // A server that restarts is back in a moment.
      if (response.status().code() != absl::StatusCode::kUnavailable || ++unreachable > 40) {
        return response.status();
      }
    } else {
      unreachable = 0;
      const v1::Sweep& sweep = response->sweep();
      sweep_id = sweep.id();
      std::vector<v1::Trial> trials;
      if (sweep.trials() <= kTrialsLooked) {
        v1::ListTrialsRequest list;
        list.set_sweep_id(sweep_id);
        list.set_page_size(kTrialsLooked);
        if (live) list.set_state("running");
        if (auto got = client.Call(&Stub::ListTrials, list); got.ok()) {
          trials.assign(got->trials().begin(), got->trials().end());
        }
      }
      if (live) {
        screen.Draw(LiveLines(sweep, trials));
      } else {
        changes.Print(sweep, trials, seconds());
      }
      if (Ended(sweep)) {
        const int64_t failed = Failed(sweep);
        const bool bad =
            (options.fail_on == FailOn::kAny && failed > 0) ||
            (options.fail_on == FailOn::kAll && failed > 0 && failed == sweep.trials());
        if (failed > 0) {
          std::fprintf(stderr,
                       "plumb: %lld of %lld trials failed; see: plumb trial list --sweep %lld\n",
                       static_cast<long long>(failed), static_cast<long long>(sweep.trials()),
                       static_cast<long long>(sweep_id));
        }
        return bad ? kTrialsFailed : kDone;
      }
    }
    if (options.timeout_seconds > 0 && seconds() > options.timeout_seconds) {
      std::fprintf(stderr, "plumb: sweep %lld still runs after %s\n",
                   static_cast<long long>(sweep_id), Duration(options.timeout_seconds).c_str());
      return kTimeout;
    }
    const int signal = WaitForSignal(std::chrono::milliseconds(500));
    if (signal == SIGINT || signal == SIGTERM) {
      if (!options.after_interrupt.empty())
        std::fprintf(stderr, "\n%s\n", options.after_interrupt.c_str());
      return kInterrupted;
    }
    if (absl::Status s = options.tick(); !s.ok()) return s;
  }
}

}  // namespace plumb::app
