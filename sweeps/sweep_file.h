// A sweep file, read and checked as far as that goes without building a cell.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "sweeps/expression.h"
#include "sweeps/overlay.h"
#include "sweeps/plan.h"
#include "sweeps/population_spec.h"
#include "sweeps/predict.h"
#include "sweeps/problem.h"
#include "sweeps/search_spec.h"
#include "sweeps/stop_spec.h"

namespace plumb::sweeps {

struct Constraint {
  Position at;
  std::string text;
  Expression expression;
};

// One dimension of the space.
struct Axis {
  Position at;
  std::vector<std::string> fields;  // one, or several that move together
  // What it takes on: points[i][f] for fields[f]. Empty for an axis that is only drawn from.
  std::vector<std::vector<FieldValue>> points;
  // Drawn from [low, high] by random search where there are no points.
  bool logarithmic = false;
  double low = 0, high = 0;
  bool integer = false;
  // A solved axis has one field and takes on one value per target.
  std::string measure;  // "" where nothing is solved
  std::vector<double> targets;
  int64_t multiple_of = 1;
  double tolerance = 0.05;  // relative
  bool solved() const { return !measure.empty(); }
  // The axis exists only where this holds; elsewhere the field has its value of the base trial.
  std::optional<Constraint> when;
  // Of an axis of named shapes: what it is called in cells, and each point's name.
  std::string name;
  std::vector<std::string> point_names;
};

// One named overlay of the base trial.
struct Variant {
  Position at;
  std::string name;
  Overlay overlay;
};

// Nuisance axes: chosen inside each cell, never part of a conclusion.
struct Tune {
  Position at;
  std::vector<Axis> axes;  // each one field with points
  int64_t seeds = 1;
  std::optional<StopSpec> stop;
  int64_t extend = 0;   // values that may be added beyond the grid's edge
  PlannedObjective by;  // what a value is chosen by; metric "": the objective, elsewhere
                        // than on the test split
  Position by_at;       // of `stage:`, `metric:` or `goal:`
  bool says_goal = false, says_at = false;
};

// A second arm of each variant but the baseline, equal to the baseline in this measure.
struct Match {
  Position at;
  std::string measure;  // "flops", "seconds": by the budget; "params_total",
                        // "params_non_embedding": by `knob`
  std::string knob = "model.d_ff";
  int64_t multiple_of = 1;
  double tolerance = 0.05;  // relative
};

// A stage that follows another and starts from what that one left.
struct ChildStage {
  Position at;
  std::string name;           // "eval:cut" where several parents are named
  std::string parent;         // the first stage, or one before it in SweepFile::children
  std::string kind;           // of spec::StageKinds()
  std::string settings_json;  // canonical
};

struct SweepFile {
  std::string name;
  Overlay trial;
  Position trial_at;
  std::vector<Variant> variants;  // the first is the baseline; none: the trial alone
  std::vector<Match> also_match;
  std::vector<Axis> axes;
  Position axes_at;
  std::vector<Constraint> where;
  int64_t replicates = 1;
  std::optional<Tune> tune;
  std::optional<StopSpec> stop;
  std::optional<int64_t> random_points;  // random or Sobol search; a grid where absent
  uint64_t random_seed = 0;
  bool sobol = false;
  // Points chosen by a suggester; the first `startup` of them are random_points.
  std::optional<SearchSpec> search;
  std::optional<PopulationSpec> population;         // its first members are random_points
  std::vector<PlannedObjective> objectives = {{}};  // never empty
  Limits limits;
  Position limits_at;
  bool timing = false;
  int64_t priority = 0;
  std::vector<std::string> labels;  // sorted
  int64_t bundle = 1;               // trials of equal shape that a trainer may run at once
  bool aa = false;
  std::map<std::string, FieldValue>
      aa_cells;                    // which cells: all of these values; empty for every cell
  std::set<std::string> allowed;   // flags that refuse no sweep: "more_than_one_epoch"
  std::optional<Prices> prices;    // `calibration:`, as the client wrote it in
  std::string calibration_device;  // `calibration: NAME`, not written in yet
  Position calibration_at;
  bool counts_seconds =
      false;  // as a budget, a measure to solve for or to match, or in a condition
  std::string stage_name = "pretrain";
  std::string stage_kind = "pretrain";
  std::string stage_settings = "{}";
  std::vector<ChildStage> children;  // parents before children, else in the order written
};

// Reads a file. Appends every problem found; the result is to be used only when there is none.
SweepFile ReadSweepFile(const std::string& yaml, std::vector<Problem>* problems);

}  // namespace plumb::sweeps
