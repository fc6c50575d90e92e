#include "sweeps/describe.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "sweeps/calibration.h"
#include "sweeps/draw.h"
#include "sweeps/number.h"
#include "sweeps/population.h"
#include "sweeps/rungs.h"
#include "sweeps/search.h"
#include "sweeps/trials.h"
#include "sweeps/tuning.h"
#include "trainer/spec/parse.h"

namespace plumb::sweeps {
namespace {

using nlohmann::json;

template <typename Get>
Range RangeOf(const std::vector<CellCost>& cells, Get get) {
  if (cells.empty()) return {};
  Range r{static_cast<double>(get(cells[0])), static_cast<double>(get(cells[0]))};
  for (const CellCost& c : cells) {
    r.low = std::min(r.low, static_cast<double>(get(c)));
    r.high = std::max(r.high, static_cast<double>(get(c)));
  }
  return r;
}

void Widen(double value, const std::string& name, std::map<std::string, Range>* ranges) {
  const auto [at, is_new] = ranges->emplace(name, Range{value, value});
  at->second.low = std::min(at->second.low, value);
  at->second.high = std::max(at->second.high, value);
}

std::string Show(const Range& r) {
  return r.low == r.high ? Short(r.low) : Short(r.low) + " to " + Short(r.high);
}

std::string Duration(double seconds) {
  if (seconds < 60) return absl::StrFormat("%.1f s", seconds);
  if (seconds < 3600) return absl::StrFormat("%.1f min", seconds / 60);
  return absl::StrFormat("%.1f h", seconds / 3600);
}

std::string Bytes(int64_t bytes) {
  return bytes < (int64_t{1} << 30) ? absl::StrFormat("%.0f MiB", bytes / 1048576.0)
                                    : absl::StrFormat("%.2f GiB", bytes / 1073741824.0);
}

// Columns of equal width: the first to the left, the others to the right.
std::string Table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> width;
  for (const auto& row : rows) {
    width.resize(std::max(width.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) width[i] = std::max(width[i], row[i].size());
  }
  std::string out;
  for (const auto& row : rows) {
    std::string line = " ";
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string gap(width[i] - row[i].size(), ' ');
      absl::StrAppend(&line, " ", i == 0 ? row[i] + gap : gap + row[i], " ");
    }
    line.erase(line.find_last_not_of(' ') + 1);
    absl::StrAppend(&out, line, "\n");
  }
  return out;
}

std::string More(size_t all, int64_t shown) {
  const int64_t rest = static_cast<int64_t>(all) - shown;
  return rest > 0 ? absl::StrCat("  … and ", rest, " more\n") : "";
}

TuneSummary InWords(const TunePlan& tune) {
  TuneSummary out{.points = static_cast<int64_t>(tune.points()),
                  .seeds = tune.seeds,
                  .extend = tune.extend,
                  .metric = tune.metric_stage.empty()
                                ? tune.metric
                                : absl::StrCat(tune.metric_stage, ": ", tune.metric),
                  .metric_at = tune.metric_at,
                  .stop = tune.stop ? InWords(*tune.stop) : "",
                  .maximize = tune.maximize};
  for (const TuneAxis& a : tune.axes)
    out.fields.push_back(absl::StrCat(a.field, ": ", absl::StrJoin(a.values, ", ")));
  return out;
}

// null where nothing is known.
json ToJson(const Figure& f) {
  if (f.basis == Basis::kNone) return nullptr;
  return {{"value", f.value}, {"band", f.band}, {"basis", Name(f.basis)}};
}

json ToJson(const Range& r) { return {{"low", r.low}, {"high", r.high}}; }

// What any trial of the cell costs.
void Describe(const PlannedCell& cell, const PlannedTrial& t, CellCost* out) {
  CellCost& c = *out;
  c.name = cell.name, c.flags = cell.flags;
  c.axes = json::parse(cell.axes_json), c.model = t.config.model;
  c.params = t.params, c.flops_per_token = t.flops_per_token, c.flops = t.flops;
  c.steps = t.config.train.steps, c.tokens = spec::TotalTokens(t.config);
  c.unique_tokens = cell.train_tokens > 0 ? std::min(c.tokens, cell.train_tokens) : c.tokens;
  c.epochs = cell.train_tokens > 0
                 ? static_cast<double>(c.tokens) / static_cast<double>(cell.train_tokens)
                 : 0;
  double unique = 0;
  for (const PartUse& part : cell.parts) {
    const auto most = static_cast<double>(part.train_tokens);
    c.parts.push_back({part.name, part.tokens, std::min(part.tokens, most), part.tokens / most});
    unique += c.parts.back().unique_tokens;
  }
  if (!c.parts.empty()) c.unique_tokens = std::llround(unique);
  c.predicted_peak_bytes = t.predicted_peak_bytes;
}

// What the runs to a trial's cooled rungs take beside it, as a part of it.
double RungPart(const SweepPlan& plan, const PlannedTrial& t) {
  if (!CoolsRungs(plan, t)) return 0;
  return static_cast<double>(StepsOfRungs(*StopOf(plan, t), t, SharesTrunk(plan, t))) /
         static_cast<double>(t.config.train.steps);
}

// Prices each trial and counts what is there already; shapes are priced once.
class Pricing {
 public:
  Pricing(const SweepPlan& plan, const Surroundings& around, PlanSummary* out)
      : plan_(plan), around_(around), s_(*out) {
    int64_t largest = 0;
    for (const Machine& m : around.machines) {
      if (!Takes(m)) continue;
      machines_.push_back(m);
      largest = std::max(largest, m.memory_bytes);
      s_.slots += m.slots;
    }
    s_.machines = std::ssize(machines_);
    s_.device_memory_bytes = around.memory_bytes > 0 ? around.memory_bytes : largest;
  }

  void Add(const PlannedTrial& t) {
    threads_ = std::max<int64_t>(1, t.config.execution.threads);
    CellCost& c = s_.cells[t.cell];
    const std::vector<Figure>& seconds = SecondsOf(t);
    if (c.seconds.basis == Basis::kNone) {
      c.seconds = seconds.front(), c.training_seconds = c.seconds.value;
      const Prices* prices = PricesOf(around_, "", threads_);
      if (prices != nullptr && c.seconds.basis == Basis::kCalibrated) {
        Work around{};
        around[static_cast<size_t>(Unit::kTrial)] = 1;
        around[static_cast<size_t>(Unit::kTrialParameters)] = static_cast<double>(t.params.total);
        c.training_seconds -= Seconds(*prices, around) *
                              (prices->kinds.empty() ? 1 : KindFactor(*prices, KindOf(t.config)));
      }
    }
    if (c.memory.basis == Basis::kNone) {
      c.memory = TrialMemory(t, around_);
      c.disk_bytes = t.stages.front().kind == "noop" ? 0 : PredictDiskBytes(t.config);
    }
    const auto known = around_.trials.find(t.key);
    // A/A members are never shared between sweeps.
    if (known != around_.trials.end() && t.role != TrialRole::kAa) {
      ++c.known_trials, ++s_.known_trials;
      s_.finished_trials += known->second == "succeeded";
      if (known->second == "succeeded") {
        s_.saved_seconds += seconds.front().value;
        return;
      }
    }
    s_.total_disk_bytes += static_cast<double>(c.disk_bytes);
    const double after = StageSeconds(t, &s_.unpriced_stages);
    const double runs = 1 + RungPart(plan_, t);
    s_.device_seconds += runs * seconds.front().value + after;
    error_ += runs * seconds.front().value * seconds.front().band;
    basis_ = std::min(basis_, seconds.front().basis);
    Placing p{.slots = std::max<int64_t>(1, t.config.train.ranks) * threads_,
              .memory_bytes = c.memory.value};
    for (size_t m = 0; m < machines_.size(); ++m)
      p.seconds.push_back(runs * seconds[m + 1].value + after);
    placings_.push_back({t.replicate, std::move(p)});
    // Of a tuned sweep's replicates nobody knows yet which have the same values.
    if (!SharesTrunk(plan_, t) || (plan_.tune != nullptr && t.role != TrialRole::kTune)) return;
    Branch branch{.trunk_steps = spec::TrunkSteps(t.config),
                  .steps = t.config.train.steps,
                  .flops = t.flops,
                  .placing = placings_.size() - 1};
    const double stepping = SteppingPart(t);
    for (const Figure& f : seconds) branch.seconds.push_back(stepping * f.value);
    // The A/A control shares with its own alone.
    families_[spec::PrefixKey(t.config) + (t.role == TrialRole::kAa ? " aa" : "")].push_back(
        std::move(branch));
  }

  void Finish() {
    const std::vector<double> longest = ShareTrunks();
    s_.device_basis = placings_.empty() ? Basis::kNone : basis_;
    if (s_.device_basis == Basis::kNone) s_.device_seconds = 0;
    if (s_.device_seconds > 0) s_.device_band = error_ / (s_.device_seconds + s_.trunks.seconds);
    const Prices* prices = PricesOf(around_, "", threads_);
    if (prices != nullptr)
      s_.calibrated_device = prices->device, s_.calibrated_shapes = prices->shapes;
    if (s_.device_basis != Basis::kNone && !machines_.empty()) {
      // As the scheduler takes them: each cell once before any a second time.
      std::stable_sort(placings_.begin(), placings_.end(),
                       [](const auto& a, const auto& b) { return a.first < b.first; });
      std::vector<Placing> all;
      for (auto& [replicate, p] : placings_) all.push_back(std::move(p));
      // A trunk is a chain: it takes as long as its longest trial alone would.
      s_.calendar_seconds = MakeSpan(all, machines_);
      if (!longest.empty())
        s_.calendar_seconds =
            std::max(s_.calendar_seconds, *std::min_element(longest.begin(), longest.end()));
    }
    if (s_.device_memory_bytes > 0) Fit();
  }

 private:
  bool Takes(const Machine& m) const {
    return std::includes(m.labels.begin(), m.labels.end(), plan_.labels.begin(),
                         plan_.labels.end());
  }

  // One that may begin from another's checkpoint.
  struct Branch {
    int64_t trunk_steps = 0, steps = 0;
    double flops = 0;
    std::vector<double> seconds;  // of its steps, as SecondsOf
    size_t placing = 0;
  };

  // Takes from each trial what those with shorter trunks compute for it. By machine, the longest
  // that one trial of a shared trunk takes from step 0 on.
  std::vector<double> ShareTrunks() {
    std::vector<double> longest;
    for (auto& [key, family] : families_) {
      if (family.size() < 2) continue;
      ++s_.trunks.trunks, s_.trunks.trials += std::ssize(family);
      std::stable_sort(family.begin(), family.end(), [](const Branch& a, const Branch& b) {
        return a.trunk_steps < b.trunk_steps;
      });
      longest.resize(machines_.size());
      for (size_t i = 0; i < family.size(); ++i) {
        const Branch& b = family[i];
        Placing& p = placings_[b.placing].second;
        for (size_t m = 0; m < machines_.size(); ++m)
          longest[m] = std::max(longest[m], p.seconds[m]);
        // From the longest trunk before it that ends before it does: its last step it makes itself
        // (coordinator/core/trunks.cc).
        int64_t from = 0;
        for (size_t k = i; k-- > 0 && from == 0;) {
          if (family[k].trunk_steps < b.steps) from = family[k].trunk_steps;
        }
        if (from == 0) continue;
        const double part = static_cast<double>(from) / static_cast<double>(b.steps);
        s_.trunks.steps += static_cast<double>(from);
        s_.trunks.flops += part * b.flops;
        s_.trunks.seconds += part * b.seconds.front();
        for (size_t m = 0; m < machines_.size(); ++m) p.seconds[m] -= part * b.seconds[m + 1];
      }
    }
    s_.total_steps -= s_.trunks.steps, s_.total_flops -= s_.trunks.flops;
    s_.device_seconds -= s_.trunks.seconds;
    return longest;
  }

  // The part of a trial's seconds that is its steps, not evaluation, its beginning and end.
  double SteppingPart(const PlannedTrial& t) const {
    const Prices* prices = PricesOf(around_, "", threads_);
    if (prices == nullptr) return 1;
    const SplitTokens& splits = plan_.cells[t.cell].splits;
    const double all = Seconds(*prices, TrainingWork(t.config, splits));
    return all > 0 ? 1 - Seconds(*prices, WorkBesideSteps(t.config, splits)) / all : 1;
  }

  // Of the default device, then on each machine.
  const std::vector<Figure>& SecondsOf(const PlannedTrial& t) {
    const auto [it, is_new] =
        seconds_.try_emplace(CostKey(t.config) + (t.stages.front().kind == "noop" ? " noop" : ""));
    if (is_new) {
      const SplitTokens& splits = plan_.cells[t.cell].splits;
      it->second.push_back(TrialSeconds(t, splits, around_, ""));
      for (const Machine& m : machines_)
        it->second.push_back(TrialSeconds(t, splits, around_, m.device));
    }
    return it->second;
  }

  void Fit() {
    std::vector<CellNumbers> cells;
    std::string smallest;
    double least = 0;
    for (CellCost& c : s_.cells) {
      c.fits = c.memory.value <= static_cast<double>(s_.device_memory_bytes);
      s_.cells_that_do_not_fit += !c.fits;
      if (!c.fits && (smallest.empty() || c.memory.value < least))
        smallest = c.name, least = c.memory.value;
      CellNumbers n{.fits = c.fits};
      // Axes first, as the file names them; then what they make.
      for (const auto& [path, value] : c.axes.items()) {
        if (value.is_number())
          n.values.push_back({path.substr(path.rfind('.') + 1), value.get<double>()});
      }
      n.values.push_back({"n_layers", static_cast<double>(c.model.n_layers)});
      n.values.push_back({"d_model", static_cast<double>(c.model.d_model)});
      n.values.push_back({"params_total", static_cast<double>(c.params.total)});
      cells.push_back(std::move(n));
    }
    // Conditional axes: cells then have other names.
    for (const CellNumbers& n : cells) {
      const bool same = std::equal(n.values.begin(), n.values.end(), cells.front().values.begin(),
                                   cells.front().values.end(),
                                   [](const auto& a, const auto& b) { return a.first == b.first; });
      if (same) continue;
      for (CellNumbers& m : cells) m.values.erase(m.values.begin(), m.values.end() - 3);
      break;
    }
    s_.which_do_not_fit = WhichDoNotFit(cells);
    if (s_.which_do_not_fit.empty() && s_.cells_that_do_not_fit > 0)
      s_.which_do_not_fit = absl::StrCat("the smallest of them is ", smallest);
  }

  const SweepPlan& plan_;
  const Surroundings& around_;
  PlanSummary& s_;
  std::vector<Machine> machines_;
  std::map<std::string, std::vector<Figure>> seconds_;
  std::vector<std::pair<int64_t, Placing>> placings_;
  std::map<std::string, std::vector<Branch>> families_;  // by prefix key
  double error_ = 0;
  int64_t threads_ = 1;
  Basis basis_ = Basis::kMeasured;
};

std::string Off(double band) { return band > 0 ? absl::StrFormat(" ±%.0f%%", 100 * band) : ""; }

}  // namespace

PlanSummary Summarize(const SweepPlan& plan, double flops_per_second) {
  return Summarize(plan, Surroundings{.flops_per_second = flops_per_second});
}

PlanSummary Summarize(const SweepPlan& plan, const Surroundings& around) {
  PlanSummary s;
  s.name = plan.name, s.objective = plan.objective, s.objective_at = plan.objective_at;
  s.objectives = plan.objectives;
  s.refused = plan.refused, s.residuals = plan.residuals, s.limits = plan.limits;
  if (plan.stop) s.stop = InWords(*plan.stop);
  if (plan.tune) s.tune = InWords(*plan.tune);
  if (plan.search != nullptr) {
    const SearchSpec& search = plan.search->spec();
    s.search =
        absl::StrCat(search.sampler, ": ", search.trials, " points, of which these ",
                     search.startup, " are drawn at random; a suggester chooses the others, ",
                     search.parallel, " at once, from what has been found");
  }
  if (plan.population != nullptr) {
    const PopulationPlan& p = *plan.population;
    s.search = InWords(p);
    s.population = {{"members", p.spec.members},
                    {"ends", p.ends},
                    {"replaced", p.spec.replaced()},
                    {"factor", p.spec.factor},
                    {"resample", p.spec.resample}};
  }
  s.cells.resize(plan.cells.size());
  Pricing pricing(plan, around, &s);
  const auto count = [&](const PlannedTrial& t) {
    CellCost& c = s.cells[t.cell];
    if (c.trials++ == 0) Describe(plan.cells[t.cell], t, &c);
    c.tune_trials += t.role == TrialRole::kTune;
    s.trials += 1;
    s.aa_trials += t.role == TrialRole::kAa;
    s.tune_trials += t.role == TrialRole::kTune;
    for (const PlannedStage& stage : t.stages) s.timings += stage.kind == "timing";
    s.total_flops += t.flops;
    if (t.stages.front().kind == "pretrain")
      s.total_steps += static_cast<double>(t.config.train.steps);
    const double rungs = RungPart(plan, t);
    if (rungs > 0) {
      s.rung_runs += std::ssize(RungSteps(RungFractions(*StopOf(plan, t)), t.config.train.steps));
      s.rung_flops += rungs * t.flops, s.total_flops += rungs * t.flops;
      s.total_steps += rungs * static_cast<double>(t.config.train.steps);
    }
    if (s.tune && t.role == TrialRole::kTune) s.tune->flops += (1 + rungs) * t.flops;
    s.predicted_peak_bytes = std::max(s.predicted_peak_bytes, t.predicted_peak_bytes);
    pricing.Add(t);
  };
  for (const PlannedTrial& t : plan.trials) count(t);
  for (size_t cell = 0; plan.tune && cell < plan.cells.size(); ++cell) {
    std::vector<std::string> first;
    for (const TuneAxis& a : plan.tune->axes) first.push_back(a.values.front());
    const auto trials = WinnerTrials(plan, static_cast<int64_t>(cell), first);
    if (!trials.ok()) continue;  // planning has made the same trial
    for (const PlannedTrial& t : *trials) count(t);
  }
  if (plan.tune) {
    for (const PlannedStage& stage : plan.tune->stages) {
      if (!stage.parent.empty()) s.stages.push_back(stage);
    }
  } else if (!plan.trials.empty()) {  // the same for all trials
    for (const PlannedStage& stage : plan.trials.front().stages) {
      if (!stage.parent.empty() && stage.kind != "timing") s.stages.push_back(stage);
    }
  }
  for (const CellCost& c : s.cells) {
    for (const std::string& f : c.flags) ++s.flags[f];
    for (const PartCost& p : c.parts) {
      Widen(p.tokens, p.name, &s.part_tokens);
      Widen(p.epochs, p.name, &s.part_epochs);
    }
  }
  s.params_total = RangeOf(s.cells, [](const CellCost& c) { return c.params.total; });
  s.params_non_embedding =
      RangeOf(s.cells, [](const CellCost& c) { return c.params.non_embedding; });
  s.flops_per_token = RangeOf(s.cells, [](const CellCost& c) { return c.flops_per_token; });
  s.steps = RangeOf(s.cells, [](const CellCost& c) { return c.steps; });
  s.tokens = RangeOf(s.cells, [](const CellCost& c) { return c.tokens; });
  s.unique_tokens = RangeOf(s.cells, [](const CellCost& c) { return c.unique_tokens; });
  s.epochs = RangeOf(s.cells, [](const CellCost& c) { return c.epochs; });
  pricing.Finish();
  s.flops_per_second = s.calibrated_device.empty() ? around.flops_per_second : 0;
  return s;
}

std::string InWords(const PlannedObjective& o) {
  return absl::StrCat(o.stage.empty() ? "" : o.stage + ": ", o.metric, ", ", o.at,
                      o.maximize ? ", more is better" : "");
}

std::string SummaryText(const PlanSummary& s, int64_t max_rows) {
  std::string out =
      absl::StrCat(s.name, ": ", s.cells.size(), s.cells.size() == 1 ? " cell, " : " cells, ",
                   s.trials, s.trials == 1 ? " trial" : " trials");
  if (s.tune_trials > 0) {
    absl::StrAppend(&out, " (", s.tune_trials, " that tune, ",
                    s.trials - s.tune_trials - s.aa_trials, " replicates of the winners",
                    s.aa_trials > 0 ? absl::StrCat(", ", s.aa_trials, " of the A/A control") : "",
                    ")");
  } else if (s.aa_trials > 0) {
    absl::StrAppend(&out, " (", s.aa_trials, " of them the A/A control)");
  }
  if (s.timings > 0)
    absl::StrAppend(&out, ", ", s.timings, s.timings == 1 ? " timing" : " timings");
  for (size_t i = 0; i < s.objectives.size(); ++i)
    absl::StrAppend(&out, i == 0 ? "; objective " : "; and ", InWords(s.objectives[i]));
  absl::StrAppend(&out, "\n\n");
  const double peak = static_cast<double>(s.predicted_peak_bytes);
  std::vector<std::vector<std::string>> facts = {
      {"parameters, total", Show(s.params_total)},
      {"parameters, non-embedding", Show(s.params_non_embedding)},
      {"training FLOPs per token", Show(s.flops_per_token)},
      {"steps", Show(s.steps)},
      {"tokens", Show(s.tokens)},
  };
  if (s.epochs.high > 0) {
    facts.push_back({"unique tokens", Show(s.unique_tokens)});
    facts.push_back({"epochs", Show(s.epochs)});
    for (const auto& [part, tokens] : s.part_tokens) {
      facts.push_back({"  of " + part, absl::StrCat(Show(tokens), " tokens, ",
                                                    Show(s.part_epochs.at(part)), " epochs")});
    }
  }
  const auto unshared = [&](const std::string& more) {
    return s.trunks.trunks == 0 ? "" : absl::StrCat(" (", more, " if no trunk were shared)");
  };
  facts.push_back(
      {"training FLOPs, all trials",
       absl::StrCat(Short(s.total_flops), unshared(Short(s.total_flops + s.trunks.flops)))});
  if (s.trunks.trunks > 0) {
    facts.push_back(
        {"steps, all trials",
         absl::StrCat(Short(s.total_steps), unshared(Short(s.total_steps + s.trunks.steps)))});
    facts.push_back(
        {"shared trunks", absl::StrCat(s.trunks.trunks, ", of ", s.trunks.trials, " trials")});
  }
  if (s.tune) {
    facts.push_back({"  of them tuning",
                     absl::StrCat(s.tune->stop.empty() ? "" : "at most ", Short(s.tune->flops))});
    facts.push_back({"tuned inside each cell", absl::StrJoin(s.tune->fields, "; ")});
    facts.push_back(
        {"  chosen by",
         absl::StrCat(s.tune->metric, ", ", s.tune->metric_at,
                      s.tune->maximize ? ", the greatest mean of " : ", the least mean of ",
                      s.tune->seeds, s.tune->seeds == 1 ? " seed" : " seeds")});
    if (s.tune->extend > 0) {
      facts.push_back({"  beyond an edge", absl::StrCat("up to ", s.tune->extend,
                                                        s.tune->extend == 1 ? " value" : " values",
                                                        " more in each cell")});
    }
    if (!s.tune->stop.empty()) facts.push_back({"  stopped early", s.tune->stop});
  }
  if (!s.search.empty()) facts.push_back({"searched by", s.search});
  if (!s.stop.empty()) facts.push_back({"stopped early", s.stop});
  if (s.rung_runs > 0) {
    facts.push_back({"cooled rungs", absl::StrCat("at most ", s.rung_runs, " runs, which take ",
                                                  Short(s.rung_flops), " of these FLOPs")});
  }
  if (!s.stages.empty()) {
    facts.push_back(
        {"then, for each trial",
         absl::StrJoin(s.stages, ", ", [](std::string* text, const PlannedStage& stage) {
           absl::StrAppend(text, stage.name,
                           stage.name == stage.kind ? "" : absl::StrCat(" (", stage.kind, ")"));
         })});
  }
  if (peak > 0) {
    const auto largest = std::max_element(
        s.cells.begin(), s.cells.end(),
        [](const CellCost& a, const CellCost& b) { return a.memory.value < b.memory.value; });
    facts.push_back(
        {"memory of the largest trial",
         absl::StrCat(Bytes(std::llround(largest->memory.value)), Off(largest->memory.band), " (",
                      Name(largest->memory.basis), ")")});
    facts.push_back({"disk, all trials", Bytes(std::llround(s.total_disk_bytes))});
  }
  if (s.cells_that_do_not_fit > 0) {
    facts.push_back(
        {"does not fit", absl::StrCat(s.cells_that_do_not_fit, " of ", s.cells.size(), " cells on ",
                                      Bytes(s.device_memory_bytes), ": ", s.which_do_not_fit)});
  } else if (s.device_memory_bytes > 0) {
    facts.push_back({"fits", absl::StrCat("all cells on ", Bytes(s.device_memory_bytes))});
  }
  if (s.known_trials > 0) {
    facts.push_back(
        {"there already",
         absl::StrCat(s.known_trials, " of ", s.trials, " trials, ", s.finished_trials,
                      " of them finished",
                      s.saved_seconds > 0 ? ": saves " + Duration(s.saved_seconds) : "")});
  }
  if (s.device_seconds > 0) {
    facts.push_back(
        {"time on one device",
         absl::StrCat(
             Duration(s.device_seconds), Off(s.device_band), " (", Name(s.device_basis),
             s.flops_per_second > 0 ? absl::StrCat(": ", Short(s.flops_per_second), " FLOP/s")
             : s.calibrated_device.empty()
                 ? ""
                 : absl::StrCat(": ", s.calibrated_device, ", ", s.calibrated_shapes, " shapes"),
             ")", unshared(Duration(s.device_seconds + s.trunks.seconds)))});
    if (!s.unpriced_stages.empty())
      facts.push_back(
          {"  without", absl::StrCat("the stages ", absl::StrJoin(s.unpriced_stages, ", "))});
    if (s.calendar_seconds > 0) {
      facts.push_back(
          {"on the cluster now",
           std::isfinite(s.calendar_seconds)
               ? absl::StrCat(Duration(s.calendar_seconds), Off(s.device_band), " on ", s.slots,
                              " slots of ", s.machines, s.machines == 1 ? " worker" : " workers")
               : absl::StrCat("never: some trials have no worker with room for them")});
    }
    if (s.limits.device_hours > 0 && s.device_seconds > 3600 * s.limits.device_hours) {
      facts.push_back({"limit", absl::StrCat("more than the ", FormatNumber(s.limits.device_hours),
                                             " device hours allowed")});
    }
  }
  absl::StrAppend(&out, Table(facts));

  std::vector<std::vector<std::string>> rows = {{"cell", "trials", "params", "non-emb",
                                                 "FLOP/token", "steps", "tokens", "FLOPs", "memory",
                                                 "time", "basis", "flags"}};
  for (const CellCost& c : s.cells) {
    if (static_cast<int64_t>(rows.size()) > max_rows) break;
    rows.push_back(
        {c.name, absl::StrCat(c.trials), Short(c.params.total), Short(c.params.non_embedding),
         Short(c.flops_per_token), absl::StrCat(c.steps), Short(c.tokens), Short(c.flops),
         Bytes(std::llround(c.memory.value)),
         c.seconds.basis == Basis::kNone ? "-" : Duration(c.seconds.value) + Off(c.seconds.band),
         c.seconds.basis == Basis::kNone ? "-" : Name(c.seconds.basis),
         absl::StrJoin(c.flags, ",")});
  }
  absl::StrAppend(&out, "\n", Table(rows), More(s.cells.size(), max_rows));
  if (!s.flags.empty()) {
    absl::StrAppend(&out, "\nFlags:\n");
    for (const auto& [flag, cells] : s.flags)
      absl::StrAppend(&out, "  ", flag, ": ", cells, cells == 1 ? " cell\n" : " cells\n");
  }
  if (!s.residuals.empty()) {
    rows = {{"solved", "value of", "measure", "target", "reached", "off by"}};
    for (const SolveResidual& r : s.residuals) {
      if (static_cast<int64_t>(rows.size()) > max_rows) break;
      rows.push_back({s.cells[r.cell].name, r.field, r.measure, Grouped(std::llround(r.target)),
                      Grouped(std::llround(r.reached)),
                      absl::StrFormat("%+.2f%%", 100 * r.relative())});
    }
    absl::StrAppend(&out, "\n", Table(rows), More(s.residuals.size(), max_rows));
  }
  if (!s.refused.empty()) {
    absl::StrAppend(&out, "\nRefused (", s.refused.size(), "):\n");
    int64_t shown = 0;
    for (const RefusedCell& r : s.refused) {
      if (++shown > max_rows) break;
      absl::StrAppend(&out, "  ", r.name, ": ", r.reason, "\n");
    }
    absl::StrAppend(&out, More(s.refused.size(), max_rows));
  }
  return out;
}

std::string SummaryJson(const PlanSummary& s) {
  json stages = json::array();
  for (const PlannedStage& stage : s.stages) {
    stages.push_back({{"name", stage.name},
                      {"kind", stage.kind},
                      {"after", stage.parent},
                      {"settings", json::parse(stage.settings_json)}});
  }
  json cells = json::array(), refused = json::array(), residuals = json::array();
  for (const CellCost& c : s.cells) {
    json parts = json::object();
    for (const PartCost& p : c.parts) {
      parts[p.name] = {
          {"tokens", p.tokens}, {"unique_tokens", p.unique_tokens}, {"epochs", p.epochs}};
    }
    cells.push_back({{"name", c.name},
                     {"trials", c.trials},
                     {"params_total", c.params.total},
                     {"params_non_embedding", c.params.non_embedding},
                     {"params_embedding", c.params.embedding},
                     {"flops_per_token", c.flops_per_token},
                     {"steps", c.steps},
                     {"tokens", c.tokens},
                     {"unique_tokens", c.unique_tokens},
                     {"epochs", c.epochs},
                     {"parts", parts},
                     {"flops", c.flops},
                     {"predicted_peak_bytes", c.predicted_peak_bytes},
                     {"memory_bytes", ToJson(c.memory)},
                     {"seconds", ToJson(c.seconds)},
                     {"training_seconds", c.training_seconds},
                     {"axes", c.axes},
                     {"disk_bytes", c.disk_bytes},
                     {"known_trials", c.known_trials},
                     {"fits", c.fits},
                     {"flags", c.flags}});
  }
  for (const RefusedCell& r : s.refused)
    refused.push_back({{"name", r.name}, {"reason", r.reason}});
  for (const SolveResidual& r : s.residuals) {
    residuals.push_back({{"cell", s.cells[r.cell].name},
                         {"field", r.field},
                         {"measure", r.measure},
                         {"target", r.target},
                         {"reached", r.reached},
                         {"relative", r.relative()}});
  }
  json objectives = json::array();
  for (const PlannedObjective& o : s.objectives) {
    objectives.push_back(
        {{"metric", o.metric}, {"at", o.at}, {"goal", o.maximize ? "maximize" : "minimize"}});
    if (!o.stage.empty()) objectives.back()["stage"] = o.stage;
  }
  json out = {{"sweep", s.name},
              {"objective", objectives.front()},
              {"cells", cells},
              {"trials", s.trials},
              {"aa_trials", s.aa_trials},
              {"timings", s.timings},
              {"stages", stages},
              {"params_total", ToJson(s.params_total)},
              {"params_non_embedding", ToJson(s.params_non_embedding)},
              {"flops_per_token", ToJson(s.flops_per_token)},
              {"steps", ToJson(s.steps)},
              {"tokens", ToJson(s.tokens)},
              {"unique_tokens", ToJson(s.unique_tokens)},
              {"epochs", ToJson(s.epochs)},
              {"total_flops", s.total_flops},
              {"total_steps", s.total_steps},
              {"predicted_peak_bytes", s.predicted_peak_bytes},
              {"flags", s.flags},
              {"refused", refused},
              {"residuals", residuals},
              {"limits", {{"trials", s.limits.trials}, {"device_hours", s.limits.device_hours}}}};
  if (s.objectives.size() > 1) out["objectives"] = objectives;
  if (!s.stop.empty()) out["stop"] = s.stop;
  if (s.rung_runs > 0) out["cooled_rungs"] = {{"runs", s.rung_runs}, {"flops", s.rung_flops}};
  if (!s.search.empty()) out["search"] = s.search;
  if (!s.population.is_null()) out["population"] = s.population;
  if (s.tune) {
    out["tune_trials"] = s.tune_trials;
    out["tune"] = {{"fields", s.tune->fields}, {"points", s.tune->points},
                   {"seeds", s.tune->seeds},   {"extend", s.tune->extend},
                   {"metric", s.tune->metric}, {"at", s.tune->metric_at},
                   {"stop", s.tune->stop},     {"flops", s.tune->flops}};
  }
  if (s.trunks.trunks > 0) {
    out["shared_trunks"] = {{"trunks", s.trunks.trunks}, {"trials", s.trunks.trials}};
    out["without_sharing"] = {{"flops", s.total_flops + s.trunks.flops},
                              {"steps", s.total_steps + s.trunks.steps}};
    if (s.device_seconds > 0)
      out["without_sharing"]["seconds"] = s.device_seconds + s.trunks.seconds;
  }
  if (s.flops_per_second > 0) out["flops_per_second"] = s.flops_per_second;
  if (s.device_seconds > 0) {
    out["device_seconds"] = s.device_seconds;
    out["time"] = {{"seconds", s.device_seconds},   {"band", s.device_band},
                   {"basis", Name(s.device_basis)}, {"device", s.calibrated_device},
                   {"shapes", s.calibrated_shapes}, {"without_stages", s.unpriced_stages}};
  }
  out["disk_bytes"] = s.total_disk_bytes;
  out["known"] = {{"trials", s.known_trials},
                  {"finished", s.finished_trials},
                  {"saved_seconds", s.saved_seconds}};
  if (s.device_memory_bytes > 0) {
    out["fit"] = {{"memory_bytes", s.device_memory_bytes},
                  {"cells_that_do_not_fit", s.cells_that_do_not_fit},
                  {"which", s.which_do_not_fit}};
  }
  if (s.machines > 0) {
    out["cluster"] = {{"workers", s.machines}, {"slots", s.slots}};
    out["cluster"]["seconds"] = s.calendar_seconds > 0 && std::isfinite(s.calendar_seconds)
                                    ? json(s.calendar_seconds)
                                    : json();
  }
  return out.dump(2);
}

}  // namespace plumb::sweeps
