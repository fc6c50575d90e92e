// plumb-sim-hunt: many seeds of the simulation, until one goes wrong. script/night runs it for
// long; tests/sim/mutations.py runs it against a core that is wrong on purpose.
//
//   plumb-sim-hunt --from 1 --seeds 1000 --workers 8 --trials 60 --hours 2 --faults 20
//   --sqlite-every 10 --check-every 1
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include "sim/simulate.h"

namespace plumb::sim {
namespace {

int64_t Number(const char* text) { return std::strtoll(text, nullptr, 10); }

int Hunt(int argc, char** argv) {
  Size size{.workers = 8, .trials = 60, .length = absl::Hours(2), .faults = 20};
  int64_t from = 1, seeds = 100, sqlite_every = 10, stop_after = 5, failures = 0, steps = 0,
          ended = 0, faults = 0, check_every = 1;
  bool shrink = true, verbose = false;
  double days = 0;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    const int64_t value = Number(argv[i + 1]);
    if (name == "--from") from = value;
    if (name == "--seeds") seeds = value;
    if (name == "--workers") size.workers = value;
    if (name == "--trials") size.trials = value;
    if (name == "--hours") size.length = absl::Hours(value);
    if (name == "--faults") size.faults = value;
    if (name == "--sqlite-every") sqlite_every = value;
    if (name == "--stop-after") stop_after = value;
    if (name == "--check-every") check_every = value;
    if (name == "--shrink") shrink = value != 0;
    if (name == "--verbose") verbose = value != 0;
  }
  std::map<std::string, int64_t> counts;
  for (int64_t seed = from; seed < from + seeds; ++seed) {
    Scenario scenario = Draw(static_cast<uint64_t>(seed), size);
    scenario.check_every = check_every;
    std::string folder;
    if (sqlite_every > 0 && seed % sqlite_every == 0) {
      char dir[] = "/dev/shm/plumb-sim-XXXXXX";
      if (mkdtemp(dir) != nullptr) folder = scenario.sqlite_folder = dir;
    }
    const Result r = Simulate(scenario);
    if (!folder.empty()) std::filesystem::remove_all(folder);
    steps += r.steps;
    ended += r.trials_ended;
    faults += r.faults;
    days += absl::ToDoubleHours(r.end) / 24;
    for (const auto& [name, n] : r.counts) counts[name] += n;
    if (verbose) {
      std::printf("seed %lld: %s, %lld trials ended, %lld faults, %lld steps, history %016llx\n",
                  static_cast<long long>(seed), absl::FormatDuration(r.end).c_str(),
                  static_cast<long long>(r.trials_ended), static_cast<long long>(r.faults),
                  static_cast<long long>(r.steps), static_cast<unsigned long long>(r.history));
    }
    if (r.wrong.empty()) continue;
    ++failures;
    std::printf("seed %lld goes wrong: %s\n", static_cast<long long>(seed), r.wrong.c_str());
    if (shrink) {
      scenario.sqlite_folder.clear();
      const Scenario small = Shrink(scenario);
      std::printf("  it still does with %zu of %zu faults and %zu of %zu sweeps: %s\n",
                  small.faults.size(), scenario.faults.size(), small.sweeps.size(),
                  scenario.sweeps.size(), Simulate(small).wrong.c_str());
      for (const Fault& f : small.faults) std::printf("    %s\n", Describe(f).c_str());
    }
    std::fflush(stdout);
    if (failures >= stop_after) break;
  }
  std::printf(
      "%lld seeds, %lld wrong; %.1f cluster-days, %lld trials ended, %lld faults, %lld steps\n",
      static_cast<long long>(seeds), static_cast<long long>(failures), days,
      static_cast<long long>(ended), static_cast<long long>(faults), static_cast<long long>(steps));
  for (const auto& [name, n] : counts)
    std::printf("  %-28s %lld\n", name.c_str(), static_cast<long long>(n));
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace plumb::sim

int main(int argc, char** argv) { return plumb::sim::Hunt(argc, argv); }
