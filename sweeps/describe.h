// What a plan costs before anything runs: plain values, a page of text, JSON.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

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
  int64_t predicted_peak_bytes = 0;
  std::vector<std::string> flags;
};

// What is tuned inside each cell, in words.
struct TuneSummary {
  std::vector<std::string> fields;  // "train.lr: 0.001, 0.01, 0.1"
  int64_t points = 0, seeds = 0, extend = 0;
  std::string metric, metric_at, stop;  // stop: "asha at 10%, 30%, keep 1/3, promote"; "" for none
  double flops = 0;                     // of all tune trials run to the end
};

struct PlanSummary {
  std::string name, objective, objective_at;
  std::vector<PlannedObjective> objectives;
  int64_t trials = 0;  // A/A members included, and those that tune
  int64_t aa_trials = 0;
  int64_t tune_trials = 0;  // of the grid; extensions come on top
  std::optional<TuneSummary> tune;
  std::string search;   // how points beyond these cells are chosen; empty: there are none
  std::string stop;     // of the whole sweep; "" for none
  int64_t timings = 0;  // stages that measure speed
  std::vector<PlannedStage> stages;  // that follow each trial's first one; timings apart
  std::vector<CellCost> cells;
  Range params_total, params_non_embedding, flops_per_token, steps, tokens, unique_tokens, epochs;
  std::map<std::string, Range> part_tokens, part_epochs;  // by part, of mixed corpora
  double total_flops = 0;                                 // training; evaluation is not counted
  int64_t predicted_peak_bytes = 0;                       // of the largest trial
  double flops_per_second = 0;                            // of one device, as given; 0: unknown
  double device_seconds = 0;             // total_flops / flops_per_second; 0: unknown
  std::map<std::string, int64_t> flags;  // flag -> cells
  std::vector<RefusedCell> refused;
  std::vector<SolveResidual> residuals;
  Limits limits;
};

// `flops_per_second`: of one device on shapes like these; 0 where unknown, and then no time is
// predicted.
// Of a plan that tunes: a cell's replicates are priced at the first value tried.
PlanSummary Summarize(const SweepPlan& plan, double flops_per_second);

// At most `max_rows` cells, refused cells and residuals each; what is left out is counted.
std::string SummaryText(const PlanSummary& summary, int64_t max_rows = 40);
std::string SummaryJson(const PlanSummary& summary);  // everything

}  // namespace plumb::sweeps
