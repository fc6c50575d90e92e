// Plumb's stopping rules on stored curves: the scheduler, contest and advisor of the server under
// virtual time (whatif/cluster.h), one sweep a seed.
//
//   plumb-asha-bench CURVES SEEDS CANDIDATES EPOCHS WORKERS MODE KEEP RUNGS
//
// CURVES holds SEEDS x CANDIDATES x (1 + EPOCHS) little-endian doubles: the seconds of an epoch,
// then the loss after each. RUNGS are epochs with commas, KEEP a fraction (1/3), MODE stop, promote
// or none. Prints a line a seed:
//   epochs  picked candidate (-1: none came to its end)  seconds until the sweep's end
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "whatif/cluster.h"

namespace plumb {
namespace {

struct Setting {
  int64_t candidates = 0, epochs = 0, workers = 0;
  std::optional<sweeps::StopSpec> stop;
};

// As the file {axes: {x: [0, 1, …]}, stop: {asha: …, across: cells}} would be planned.
sweeps::SweepPlan Plan(const Setting& s) {
  sweeps::SweepPlan plan{.name = "asha", .objective = "test/loss", .stop = s.stop};
  for (int64_t i = 0; i < s.candidates; ++i) {
    plan.cells.push_back({.name = absl::StrCat("x=", i)});
    plan.trials.push_back({.cell = i, .key = absl::StrCat("x", i)});
    plan.trials.back().stages.push_back(
        {.name = "pretrain", .kind = "pretrain", .target_step = s.epochs});
  }
  return plan;
}

int Run(int argc, char** argv) {
  if (argc != 9) {
    std::cerr << "usage: " << argv[0]
              << " CURVES SEEDS CANDIDATES EPOCHS WORKERS stop|promote|none KEEP RUNGS\n";
    return 2;
  }
  const int64_t seeds = std::atoll(argv[2]);
  Setting s{.candidates = std::atoll(argv[3]),
            .epochs = std::atoll(argv[4]),
            .workers = std::atoll(argv[5])};
  const std::string mode = argv[6];
  if (mode != "none") {
    s.stop.emplace();
    s.stop->across_cells = true;
    s.stop->asha = sweeps::AshaRule{
        .keep = *sweeps::Rational::Parse(argv[7]),
        .mode = mode == "stop" ? sweeps::RungMode::kStop : sweeps::RungMode::kPromote};
    for (absl::string_view rung : absl::StrSplit(argv[8], ','))
      s.stop->asha->rungs.push_back(*sweeps::Rational::Parse(absl::StrCat(rung, "/", s.epochs)));
  }
  const int64_t line = 1 + s.epochs;
  std::vector<double> values(static_cast<size_t>(seeds * s.candidates * line));
  std::ifstream in(argv[1], std::ios::binary);
  in.read(reinterpret_cast<char*>(values.data()),
          static_cast<std::streamsize>(values.size() * sizeof(double)));
  if (!in) {
    std::cerr << argv[1] << ": not so many values\n";
    return 1;
  }
  const sweeps::SweepPlan plan = Plan(s);
  for (int64_t seed = 0; seed < seeds; ++seed) {
    const double* curves = values.data() + seed * s.candidates * line;
    whatif::Cluster cluster{
        .seconds_per_step = [&](const sweeps::PlannedTrial& t) { return curves[t.cell * line]; }};
    for (int64_t w = 0; w < s.workers; ++w) cluster.machines.push_back({.slots = 1});
    const auto outcome =
        whatif::Simulate(plan, cluster, [&](const sweeps::PlannedTrial& t, int64_t step) {
          return curves[t.cell * line + std::max<int64_t>(1, step)];
        });
    if (!outcome.ok()) {
      std::cerr << outcome.status() << "\n";
      return 1;
    }
    int64_t pick = -1;
    double least = 0;
    for (const whatif::Ran& r : outcome->trials) {
      if (r.state != StageState::kSucceeded || (pick >= 0 && *r.last >= least)) continue;
      pick = r.trial->cell, least = *r.last;
    }
    std::printf("%lld %lld %.3f\n", static_cast<long long>(outcome->steps),
                static_cast<long long>(pick), absl::ToDoubleSeconds(outcome->end));
  }
  return 0;
}

}  // namespace
}  // namespace plumb

int main(int argc, char** argv) { return plumb::Run(argc, argv); }
