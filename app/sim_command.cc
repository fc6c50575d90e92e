// plumb sim: the real scheduler over invented trials, machines and faults, in virtual time.
#include <algorithm>
#include <cstdio>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "analysis/figure.h"
#include "app/commands.h"
#include "app/exit_code.h"
#include "app/table.h"
#include "app/write_file.h"
#include "domain/status_macros.h"
#include "sim/simulate.h"

namespace plumb::app {
namespace {

absl::Status Check(const SimArgs& a) {
  const auto in = [](int64_t v, int64_t low, int64_t high) { return v >= low && v <= high; };
  if (!in(a.workers, 1, 10'000)) return absl::InvalidArgumentError("--workers from 1 to 10,000");
  if (!in(a.slots, 0, 1024)) return absl::InvalidArgumentError("--slots from 0 to 1024");
  if (!in(a.trials, 1, 100'000)) return absl::InvalidArgumentError("--trials from 1 to 100,000");
  if (!in(a.faults, 0, 10'000)) return absl::InvalidArgumentError("--faults from 0 to 10,000");
  if (!in(a.seeds, 1, 10'000)) return absl::InvalidArgumentError("--seeds from 1 to 10,000");
  if (!in(a.max_failures, 1, 1000))
    return absl::InvalidArgumentError("--max-failures from 1 to 1000");
  if (!(a.hours > 0 && a.hours <= 24 * 365))
    return absl::InvalidArgumentError("--hours above 0, at most a year");
  if (!(a.minutes >= 0 && a.minutes <= 60 * 24 * 30))
    return absl::InvalidArgumentError("--minutes from 0 to a month");
  if (!(a.lease_seconds >= 0 && a.lease_seconds <= 86'400))
    return absl::InvalidArgumentError("--lease from 0 to 86,400");
  return absl::OkStatus();
}

double Quantile(std::vector<double> values, double q) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(q * static_cast<double>(values.size() - 1) + 0.5)];
}

int64_t Count(const sim::Result& r, const std::string& name) {
  const auto it = r.counts.find(name);
  return it == r.counts.end() ? 0 : it->second;
}

analysis::CurvesFigure Figure(const sim::Result& r, const std::string& title) {
  analysis::CurvesFigure figure{
      .title = title, .x_label = "hours", .y_label = "count", .log_x = false};
  figure.curves = {{.label = "slots at work", .group = 0},
                   {.label = "stages waiting", .group = 1},
                   {.label = "workers up", .group = 2}};
  for (const sim::Result::Sample& s : r.samples) {
    const double hours = absl::ToDoubleHours(s.at);
    figure.curves[0].points.push_back({hours, static_cast<double>(s.running)});
    figure.curves[1].points.push_back({hours, static_cast<double>(s.waiting)});
    figure.curves[2].points.push_back({hours, static_cast<double>(s.workers)});
  }
  return figure;
}

absl::Status Run(const Context& context, const SimArgs& args) {
  RETURN_IF_ERROR(Check(args));
  ASSIGN_OR_RETURN(const Format format, ParseFormat(context.format));
  Table table{.columns = {{"seed"},
                          {"hours", 1},
                          {"succeeded"},
                          {"failed"},
                          {"other_ends"},
                          {"attempts"},
                          {"lost"},
                          {"faults"},
                          {"busy_percent", 1},
                          {"wasted_percent", 1},
                          {"wait_p50_s", 0},
                          {"wait_p99_s", 0}}};
  for (int64_t seed = args.seed; seed < args.seed + args.seeds; ++seed) {
    sim::Scenario scenario =
        sim::Draw(static_cast<uint64_t>(seed), {.workers = args.workers,
                                                .trials = args.trials,
                                                .length = absl::Hours(args.hours),
                                                .faults = args.faults});
    for (sim::Machine& m : scenario.machines) {
      if (args.slots > 0) m.slots = args.slots;
    }
    if (args.minutes > 0) scenario.work.mean_seconds = args.minutes * 60;
    if (args.lease_seconds > 0) scenario.options.lease = absl::Seconds(args.lease_seconds);
    scenario.options.max_failures = static_cast<int>(args.max_failures);
    scenario.patience = absl::Hours(24 * 365);
    scenario.check_every = 0;  // the tests do; here one looks only at what is written
    const sim::Result r = sim::Simulate(scenario);
    if (!r.wrong.empty()) {
      return absl::InternalError(
          absl::StrCat("what must hold did not, in seed ", seed, ": ", r.wrong,
                       "; this is a fault of Plumb: please report it with this command line"));
    }
    const double hours = absl::ToDoubleHours(r.end);
    const double kept = std::min(r.seconds_kept, r.seconds_computed);
    const int64_t succeeded = Count(r, "stage_succeeded"), failed = Count(r, "stage_failed");
    const int64_t others = Count(r, "stage_diverged") + Count(r, "stage_infeasible") +
                           Count(r, "stage_cancelled") + Count(r, "stage_stopped");
    table.rows.push_back({seed, hours, succeeded, failed, others, Count(r, "attempts"),
                          Count(r, "outcome_lost"), r.faults,
                          100 * r.slot_seconds / (r.slots * hours * 3600),
                          r.seconds_computed > 0 ? 100 * (1 - kept / r.seconds_computed) : 0.0,
                          Quantile(r.waits, 0.5), Quantile(r.waits, 0.99)});
    if (seed != args.seed) continue;
    const analysis::CurvesFigure figure =
        Figure(r, absl::StrCat("plumb sim, seed ", seed, ": ", args.workers, " workers, ",
                               args.trials, " trials, ", r.faults, " faults"));
    if (!args.svg.empty()) RETURN_IF_ERROR(WriteFile(args.svg, analysis::Svg(figure)));
    if (format == Format::kTable) std::cout << analysis::Terminal(figure, {}) << "\n";
  }
  std::cout << Print(table, format);
  if (format == Format::kTable) {
    std::cout << "\nStages by their ends, attempts in all and lost ones; slots at work as a share "
                 "of all slots until\n"
                 "everything had ended; the share of steps computed that had to be computed again "
                 "or led nowhere;\n"
                 "seconds from a trial's coming to its first grant.\n";
  }
  return absl::OkStatus();
}

}  // namespace

int RunSim(const Context& context, const SimArgs& args) { return Finish(Run(context, args)); }

}  // namespace plumb::app
