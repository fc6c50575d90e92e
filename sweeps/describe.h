// What a plan costs before anything runs: plain values, a page of text, JSON.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "sweeps/outlook.h"
#include "sweeps/plan.h"

namespace plumb::sweeps {

struct Range {
  double low = 0, high = 0;
};

// What a cell's trials read of one part of a mixed corpus.
struct PartCost {
  std::string name;
  double tokens = 0, unique_tokens = 0, epochs = 0;
};

// One line per cell: what its trials cost, each.
struct CellCost {
  std::string name;
  int64_t trials = 0;  // replicates, A/A members, and at most so many that tune
  int64_t tune_trials = 0;
  spec::ParameterCounts params;
  int64_t flops_per_token = 0;  // training; convention in trainer/spec/cost.h
  int64_t steps = 0;
  int64_t tokens = 0;
  int64_t unique_tokens = 0;    // tokens, or all of the corpus's where they are fewer
  double epochs = 0;            // tokens / the corpus's; 0 without a corpus
  std::vector<PartCost> parts;  // of a mixed corpus
  double flops = 0;
  int64_t predicted_peak_bytes = 0;  // what the scheduler reserves
  Figure seconds;                    // of a slot, of one trial's training and evaluation
  double training_seconds = 0;       // of that, steps and evaluations: what time/cpu_seconds counts
  Figure memory;                     // bytes
  int64_t disk_bytes = 0;
  int64_t known_trials = 0;  // of `trials`: the database has them already
  bool fits = true;          // on the device asked about
  nlohmann::json axes;       // its coordinates, as PlannedCell::axes_json
  spec::ModelSpec model;     // of its first trial
  std::vector<std::string> flags;
};

// What is tuned inside each cell, in words.
struct TuneSummary {
  std::vector<std::string> fields;  // "train.lr: 0.001, 0.01, 0.1"
  int64_t points = 0, seeds = 0, extend = 0;
  std::string metric, metric_at, stop;  // stop: "asha at 10%, 30%, keep 1/3, promote"; "" for none
  double flops = 0;                     // of all tune trials run to the end, runs to rungs too
  bool maximize = false;
};

struct PlanSummary {
  std::string name, objective, objective_at;
  std::vector<PlannedObjective> objectives;
  int64_t trials = 0;  // A/A members included, and those that tune
  int64_t aa_trials = 0;
  int64_t tune_trials = 0;  // of the grid; extensions come on top
  std::optional<TuneSummary> tune;
  std::string search;         // how points beyond these cells are chosen; empty: there are none
  nlohmann::json population;  // {"members", "ends", "replaced", "factor", "resample"}; null: none
  std::string stop;           // of the whole sweep; "" for none
  // Runs to rungs that are cooled, where every trial passes all of them: in the totals, and not
  // among `trials`.
  int64_t rung_runs = 0;
  double rung_flops = 0;
  int64_t timings = 0;               // stages that measure speed
  std::vector<PlannedStage> stages;  // that follow each trial's first one; timings apart
  std::vector<CellCost> cells;
  Range params_total, params_non_embedding, flops_per_token, steps, tokens, unique_tokens, epochs;
  std::map<std::string, Range> part_tokens, part_epochs;  // by part, of mixed corpora
  double total_flops = 0;                                 // training; evaluation is not counted
  double total_steps = 0;
  int64_t predicted_peak_bytes = 0;  // of the largest trial
  double flops_per_second = 0;       // of one slot, as given; 0: unknown
  double device_seconds = 0;  // of all trials that are not there yet, one after another; 0: unknown
  // The totals of steps and FLOPs, device_seconds and calendar_seconds count once what trials that
  // share a trunk compute once. Without sharing they would be more by this:
  struct Trunks {
    int64_t trunks = 0, trials = 0;  // that are shared, and those that share them
    double steps = 0, flops = 0, seconds = 0;
  } trunks;
  double device_band = 0;             // the fraction that it may be off by
  Basis device_basis = Basis::kNone;  // the weakest of the trials'
  std::string calibrated_device;      // whose prices; "" for none
  int64_t calibrated_shapes = 0;
  std::vector<std::string> unpriced_stages;  // whose time nothing predicts
  double total_disk_bytes = 0;
  // What the database has.
  int64_t known_trials = 0, finished_trials = 0;
  double saved_seconds = 0;  // of the finished ones
  // What does not fit: of how much memory, how many cells, and which.
  int64_t device_memory_bytes = 0;  // 0: not asked
  int64_t cells_that_do_not_fit = 0;
  std::string which_do_not_fit;  // "n_layers >= 32"; names where no threshold tells
  // The cluster as it is.
  int64_t machines = 0, slots = 0;
  double calendar_seconds = 0;           // 0: not known; infinite: some trial has no machine
  std::map<std::string, int64_t> flags;  // flag -> cells
  std::vector<RefusedCell> refused;
  std::vector<SolveResidual> residuals;
  Limits limits;
};

// Of a plan that tunes: a cell's replicates are priced at the first value tried.
PlanSummary Summarize(const SweepPlan& plan, const Surroundings& around);
// With nothing known but the rate of one device on shapes like these; 0 where that is unknown too,
// and then no time is predicted.
PlanSummary Summarize(const SweepPlan& plan, double flops_per_second);

// At most `max_rows` cells, refused cells and residuals each; what is left out is counted.
std::string SummaryText(const PlanSummary& summary, int64_t max_rows = 40);
std::string SummaryJson(const PlanSummary& summary);  // everything

}  // namespace plumb::sweeps
