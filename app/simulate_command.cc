// plumb sweep simulate: the real search and stopping code over curves, before anything is spent.
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "app/calibration.h"
#include "app/commands.h"
#include "app/database.h"
#include "app/exit_code.h"
#include "app/nearest.h"
#include "app/signals.h"
#include "app/submit.h"
#include "app/table.h"
#include "app/write_file.h"
#include "domain/status_macros.h"
#include "store/read.h"
#include "sweeps/outlook.h"
#include "sweeps/rational.h"
#include "sweeps/rungs.h"
#include "sweeps/tuning.h"
#include "whatif/compare.h"

namespace plumb::app {
namespace {

using sweeps::PlannedTrial;
using sweeps::SweepPlan;

constexpr double kAssumedRate = 1e10;  // FLOP/s of a slot where nothing is known

absl::Status Check(const WhatIfArgs& a) {
  const auto wrong = [](const char* what) { return absl::InvalidArgumentError(what); };
  if (a.file.empty() && a.curves_from.empty())
    return wrong("give a sweep file, or --curves-from a results file that has one");
  if (a.workers < 1 || a.workers > 10'000) return wrong("--workers from 1 to 10,000");
  if (a.slots < 1 || a.slots > 1024) return wrong("--slots from 1 to 1024");
  if (a.seeds < 1 || a.seeds > 10'000) return wrong("--seeds from 1 to 10,000");
  if (a.seed < 0) return wrong("--seed from 0");
  if (!(a.level > 0.5 && a.level < 1)) return wrong("--level between 0.5 and 1, as 0.95");
  if (!(a.flops_per_second >= 0)) return wrong("--flops-per-second above 0");
  for (double s : a.speeds) {
    if (!(s > 0)) return wrong("--speeds above 0, as 1,1,0.5");
  }
  if (std::ssize(a.speeds) > a.workers) return wrong("more --speeds than --workers");
  for (double d : {a.crossing, a.spread, a.seed_sd, a.noise}) {
    if (!(d >= 0 && d <= 10)) return wrong("--crossing, --spread, --seed-sd, --noise from 0 to 10");
  }
  return absl::OkStatus();
}

absl::StatusOr<double> ShareOf(const std::string& text) {
  const auto share = sweeps::Rational::Parse(text);
  if (!share || !(share->ToDouble() > 0) || share->ToDouble() > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("--share ", text, ": a part of the candidates, as 1/3 or 25%"));
  }
  return share->ToDouble();
}

absl::StatusOr<std::vector<whatif::Strategy>> Searches(const SweepPlan& plan,
                                                       const WhatIfArgs& args) {
  ASSIGN_OR_RETURN(const double share, ShareOf(args.share));
  std::vector<whatif::Strategy> all = whatif::Strategies(plan, share);
  if (args.searches.empty()) return all;
  std::vector<std::string> names;
  for (const whatif::Strategy& s : all) names.push_back(s.name);
  for (const std::string& wanted : args.searches) {
    if (std::find(names.begin(), names.end(), wanted) != names.end()) continue;
    if (wanted == "file")
      return absl::InvalidArgumentError("--searches file: the file has no stop:");
    const std::string near = Nearest(wanted, names);
    return absl::InvalidArgumentError(
        absl::StrCat("--searches ", wanted, ": one of ", absl::StrJoin(names, ", "),
                     near.empty() ? "" : absl::StrCat("; did you mean ", near, "?")));
  }
  std::vector<whatif::Strategy> out;
  for (whatif::Strategy& s : all) {
    const bool wanted =
        std::find(args.searches.begin(), args.searches.end(), s.name) != args.searches.end();
    if (wanted || s.name == "grid") out.push_back(std::move(s));  // the others are measured by it
  }
  return out;
}

// What is recorded of a sweep's trials, by their keys.
struct Records {
  std::string path;
  int64_t sweep = 0;
  std::string yaml;
};
absl::StatusOr<Records> FindRecords(const WhatIfArgs& args) {
  ASSIGN_OR_RETURN(store::Database db,
                   OpenResults(args.curves_from));  // says what is wrong with it
  ASSIGN_OR_RETURN(store::Reader reader, store::Reader::Open(args.curves_from));
  ASSIGN_OR_RETURN(const store::SweepView sweep, reader.Sweep(SweepId{args.sweep}));
  return Records{args.curves_from, sweep.row.id.value, sweep.row.sweep_yaml};
}

absl::StatusOr<std::map<std::string, whatif::Recording>> ReadRecords(const Records& from,
                                                                     const SweepPlan& plan) {
  std::map<std::string, const PlannedTrial*> planned;
  for (const PlannedTrial& t : plan.trials) planned[t.key] = &t;
  const std::string series =
      plan.tune != nullptr ? plan.tune->metric : sweeps::StoppingBy(plan).metric;
  ASSIGN_OR_RETURN(store::Database db, OpenResults(from.path));
  ASSIGN_OR_RETURN(store::Statement keys,
                   db.Prepare("SELECT st.idx, t.key FROM sweep_trial st JOIN trial t ON t.id = "
                              "st.trial_id WHERE st.sweep_id = ? ORDER BY st.idx"));
  keys.Bind(1, from.sweep);
  std::map<int64_t, std::string> key_of;
  while (true) {
    ASSIGN_OR_RETURN(const bool more, keys.Step());
    if (!more) break;
    key_of[keys.Int(0)] = keys.Text(1);
  }
  ASSIGN_OR_RETURN(store::Reader reader, store::Reader::Open(from.path));
  ASSIGN_OR_RETURN(const auto progress, reader.Progress(SweepId{from.sweep}));
  std::map<std::string, whatif::Recording> out;
  for (const store::TrialProgress& p : progress) {
    const auto it = planned.find(key_of[p.idx]);
    if (it == planned.end()) continue;
    const PlannedTrial& t = *it->second;
    whatif::Recording r{.cell = plan.cells[t.cell].name,
                        .values = whatif::PointOf(t),
                        .diverged = p.state == StageState::kDiverged};
    r.whole = r.diverged || p.state == StageState::kSucceeded;
    ASSIGN_OR_RETURN(const auto points, reader.Points(p.stage, series));
    for (const store::StepValue& v : points) r.points.emplace_back(v.step, v.value);
    out[it->first] = std::move(r);
  }
  return out;
}

// The plan's own rules compare what was recorded; whether they would cool something.
bool LeaveUncooled(SweepPlan* plan) {
  const bool cools = std::any_of(plan->trials.begin(), plan->trials.end(),
                                 [&](const auto& t) { return sweeps::CoolsRungs(*plan, t); });
  if (plan->stop) plan->stop->cooled = false;
  if (plan->tune != nullptr && plan->tune->stop) {
    sweeps::TunePlan tune = *plan->tune;
    tune.stop->cooled = false;
    plan->tune = std::make_shared<const sweeps::TunePlan>(std::move(tune));
  }
  return cools;
}

// Candidates that were not recorded to their end leave the plan; how many.
int64_t KeepRecorded(const whatif::Recorded& curves, SweepPlan* plan) {
  const size_t before = plan->trials.size();
  std::erase_if(plan->trials, [&](const PlannedTrial& t) { return !curves.Has(t); });
  if (plan->tune != nullptr) {
    sweeps::TunePlan tune = *plan->tune;
    tune.extend = 0;  // nothing is recorded beyond the grid
    plan->tune = std::make_shared<const sweeps::TunePlan>(std::move(tune));
  }
  return static_cast<int64_t>(before - plan->trials.size());
}

// How long a step lasts, and where that is from.
struct Clock {
  std::function<double(const PlannedTrial&)> seconds_per_step;
  std::string basis;
};
// By the rate that is given, as `plumb sweep plan` predicts, by a measured rate, or by an assumed
// one. `plan` must outlive it.
absl::StatusOr<Clock> ClockOf(const Context& context, const WhatIfArgs& args, const SweepPlan& plan,
                              const sweeps::CorpusLookup& corpora) {
  const auto by_rate = [](double rate, const std::string& basis) {
    return Clock{whatif::ByFlops(rate), absl::StrFormat("%.3g FLOP/s a slot (%s)", rate, basis)};
  };
  if (args.flops_per_second > 0) return by_rate(args.flops_per_second, "as given");
  ASSIGN_OR_RETURN(sweeps::Surroundings looked, LookAround(context, corpora));
  const auto around = std::make_shared<const sweeps::Surroundings>(std::move(looked));
  const auto seconds = [around, &plan](const PlannedTrial& t) {
    return sweeps::TrialSeconds(t, plan.cells[t.cell].splits, *around, around->device);
  };
  sweeps::Basis least = sweeps::Basis::kMeasured;
  for (const PlannedTrial& t : plan.trials) least = std::min(least, seconds(t).basis);
  if (least >= sweeps::Basis::kCalibrated) {
    const auto known = std::make_shared<std::map<std::string, double>>();  // by key
    return Clock{[=](const PlannedTrial& t) {
                   const auto [it, is_new] = known->try_emplace(t.key);
                   if (is_new) {
                     it->second =
                         std::max(1e-9, seconds(t).value /
                                            static_cast<double>(t.stages.front().target_step));
                   }
                   return it->second;
                 },
                 absl::StrCat("Seconds as plumb sweep plan predicts them (", sweeps::Name(least),
                              "), evaluations included")};
  }
  const double measured = MeasuredFlopsPerSecond(context.db);
  return measured > 0 ? by_rate(measured, "measured in " + context.db)
                      : by_rate(kAssumedRate, "assumed; --flops-per-second says better");
}

std::string Between(const analysis::Interval& i, int digits) {
  if (!std::isfinite(i.low) || !std::isfinite(i.high)) return "-";
  return absl::StrFormat("[%.*f, %.*f]", digits, i.low, digits, i.high);
}

Table ForPeople(const std::vector<whatif::Row>& rows, double level) {
  const std::string interval = absl::StrFormat("%.3g%%", 100 * level);
  Table out{.columns = {{"search"},
                        {"steps"},
                        {"of_grid"},
                        {"flops"},
                        {"slot_hours", 2},
                        {"hours", 2},
                        {"regret", 4},
                        {interval},
                        {"minus_grid", 4},
                        {interval + " paired"}}};
  for (const whatif::Row& r : rows) {
    std::vector<Value> row = {r.strategy.name,
                              Scaled(r.steps.mean),
                              absl::StrFormat("%.0f%%", 100 * r.steps.mean / rows[0].steps.mean),
                              Scaled(r.flops.mean),
                              r.slot_hours.mean,
                              r.hours.mean,
                              r.regret.mean,
                              Between(r.regret, 4)};
    if (r.regret_minus_grid) {
      row.push_back(r.regret_minus_grid->mean);
      row.push_back(Between(*r.regret_minus_grid, 4));
    } else {
      row.resize(10);
    }
    out.rows.push_back(std::move(row));
  }
  return out;
}

Table ForPrograms(const std::vector<whatif::Row>& rows) {
  Table out{.columns = {{"search"}, {"rule"}, {"n"}}};
  const std::pair<const char*, analysis::Interval whatif::Row::*> fields[] = {
      {"regret", &whatif::Row::regret},
      {"steps", &whatif::Row::steps},
      {"choosing_steps", &whatif::Row::choosing_steps},
      {"flops", &whatif::Row::flops},
      {"slot_hours", &whatif::Row::slot_hours},
      {"hours", &whatif::Row::hours}};
  const auto columns = [&](const std::string& name) {
    for (const char* end : {"", "_low", "_high"}) out.columns.push_back({name + end});
  };
  for (const auto& [name, field] : fields) columns(name);
  columns("regret_minus_grid");
  out.columns.push_back({"undecided"});
  const auto number = [](double v) -> Value {
    return std::isfinite(v) ? Value(v) : Value(std::monostate());
  };
  for (const whatif::Row& r : rows) {
    std::vector<Value> row = {r.strategy.name, r.strategy.rule,
                              static_cast<int64_t>(r.scores.size())};
    const auto put = [&](const analysis::Interval& i) {
      for (double v : {i.mean, i.low, i.high}) row.push_back(number(v));
    };
    for (const auto& [name, field] : fields) put(r.*field);
    if (r.regret_minus_grid) {
      put(*r.regret_minus_grid);
    } else {
      row.resize(row.size() + 3);
    }
    row.push_back(r.undecided);
    out.rows.push_back(std::move(row));
  }
  return out;
}

absl::Status Run(const Context& context, const WhatIfArgs& args) {
  RETURN_IF_ERROR(Check(args));
  ASSIGN_OR_RETURN(const Format format, ParseFormat(context.format));
  std::optional<Records> records;
  std::string yaml, name = args.file;
  if (!args.curves_from.empty()) {
    ASSIGN_OR_RETURN(records, FindRecords(args));
    yaml = records->yaml;
    if (name.empty()) name = absl::StrCat("sweep ", records->sweep);
  }
  if (!args.file.empty()) {
    ASSIGN_OR_RETURN(yaml, ReadSweepFile(args.file));
  }
  const sweeps::CorpusLookup corpora = CorporaOf(args.data_root, args.assume_tokens);
  ASSIGN_OR_RETURN(yaml, WithCalibration(context, yaml, corpora));
  ASSIGN_OR_RETURN(SweepPlan plan, PlanText(yaml, name, args.data_root, args.assume_tokens));
  RETURN_IF_ERROR(sweeps::NotYetServed(plan));
  const bool later = !plan.objectives.front().stage.empty() ||
                     (plan.tune != nullptr && !plan.tune->metric_stage.empty());
  if (later || plan.objectives.front().maximize || (plan.tune != nullptr && plan.tune->maximize)) {
    return absl::UnimplementedError(absl::StrCat(
        "what is played are losses of trainings; ",
        later ? "the objective is of a later stage" : "more of the objective is better",
        ". Ask with objective: test/bits_per_byte instead"));
  }
  if (plan.population != nullptr) {
    return absl::UnimplementedError(
        "a population cannot be simulated: no curve is known of a run whose values change on the "
        "way. Its cost is that of its members, which `plumb sweep plan` shows");
  }
  plan = whatif::TrainingsOf(std::move(plan));

  std::vector<std::string> notes;
  std::shared_ptr<const whatif::Recorded> recorded;
  const SweepPlan all = plan;  // what recordings refer to
  if (records) {
    ASSIGN_OR_RETURN(auto by_key, ReadRecords(*records, all));
    recorded = std::make_shared<const whatif::Recorded>(all, std::move(by_key));
    const int64_t missing = KeepRecorded(*recorded, &plan);
    if (plan.trials.size() < 2) {
      return absl::FailedPreconditionError(absl::StrCat(
          "sweep ", records->sweep, " in ", records->path, " has ", plan.trials.size(),
          " of the file's trials to their end; what was stopped or is of another file cannot be "
          "replayed"));
    }
    if (missing > 0)
      notes.push_back(absl::StrCat(missing, " of ", all.trials.size(),
                                   " trials are not recorded to their end and are left out."));
    notes.push_back(
        "Curves as recorded: intervals are over the order of candidates and random draws alone, "
        "not over other runs.");
    if (LeaveUncooled(&plan)) {
      notes.push_back(
          "Runs that cool down at a rung were not recorded: rungs read the whole run's curve "
          "there, "
          "before its cooldown.");
    }
  } else {
    notes.push_back(absl::StrFormat(
        "Curves are invented (docs/how-to/what-if.md): crossing %g, spread %g, seed sd %g, noise "
        "%g; seeds %d to %d.",
        args.crossing, args.spread, args.seed_sd, args.noise, args.seed,
        args.seed + args.seeds - 1));
  }

  ASSIGN_OR_RETURN(const Clock clock, ClockOf(context, args, all, corpora));
  whatif::Cluster cluster{.seconds_per_step = clock.seconds_per_step};
  // Whatever a trial may ask for; "cuda" is what one on a GPU does.
  std::set<std::string> all_labels(plan.labels.begin(), plan.labels.end());
  all_labels.insert("cuda");
  const std::string labels = absl::StrJoin(all_labels, ",");
  for (int64_t i = 0; i < args.workers; ++i) {
    const double speed = args.speeds.empty() ? 1 : args.speeds[i % std::ssize(args.speeds)];
    cluster.machines.push_back({.slots = args.slots, .speed = speed, .labels = labels});
  }
  ASSIGN_OR_RETURN(auto searches, Searches(plan, args));
  for (whatif::Strategy& s : searches) {
    if (recorded != nullptr && s.stop) s.stop->cooled = false;
  }
  const whatif::MakeCurves curves = [&](uint64_t seed) -> std::shared_ptr<const whatif::Curves> {
    if (recorded != nullptr) return recorded;
    return whatif::Invented(plan, {.seed = seed,
                                   .spread = args.spread,
                                   .crossing = args.crossing,
                                   .seed_sd = args.seed_sd,
                                   .noise = args.noise});
  };
  whatif::CompareOptions options{.seeds = args.seeds,
                                 .first_seed = static_cast<uint64_t>(args.seed),
                                 .level = args.level,
                                 .shuffle = recorded != nullptr};
  if (isatty(STDERR_FILENO) == 1) {
    options.progress = [](int64_t done, int64_t of) {
      std::fprintf(stderr, done < of ? "\r%lld of %lld" : "\r\x1b[K", static_cast<long long>(done),
                   static_cast<long long>(of));
    };
  }
  ASSIGN_OR_RETURN(const auto rows, whatif::Compare(plan, cluster, searches, curves, options));

  const std::string metric = plan.tune != nullptr ? plan.tune->metric : plan.objective;
  const auto figure = whatif::Figure(
      rows,
      absl::StrCat("What if: ", plan.name, ", ", args.workers, " workers of ", args.slots,
                   args.slots == 1 ? " slot, " : " slots, ", args.seeds, " seeds"),
      metric);
  if (!args.svg.empty()) RETURN_IF_ERROR(WriteFile(args.svg, analysis::Svg(figure)));
  if (format != Format::kTable) {
    std::cout << Print(ForPrograms(rows), format);
    return absl::OkStatus();
  }
  std::cout << analysis::Terminal(figure, {.width = TerminalWidth(), .color = UseColor()}) << "\n"
            << TableText(ForPeople(rows, args.level)) << "\n";
  for (const whatif::Row& r : rows) {
    std::cout << "  " << r.strategy.name << ": " << r.strategy.rule;
    if (r.undecided > 0)
      std::cout << " (" << r.undecided << " times nothing was chosen, all had diverged or ended)";
    std::cout << "\n";
  }
  const bool tunes = whatif::ScopeOf(plan) == whatif::Scope::kTune;
  std::cout << "\nRegret: expected " << metric << " at the end of what is chosen, "
            << (tunes ? "a tuned value in each cell (mean over cells)," : "one of the cells,")
            << " minus that of the best candidate.\n"
            << (tunes ? "Costs are of tuning and of the replicates that follow.\n" : "")
            << "Trainings alone: no later stage, no bundles, no fault. " << clock.basis << ".\n";
  for (const std::string& note : notes) std::cout << note << "\n";
  return absl::OkStatus();
}

}  // namespace

int SimulateSweep(const Context& context, const WhatIfArgs& args) {
  return Finish(Run(context, args));
}

}  // namespace plumb::app
