// A sweep file, read and checked as far as that goes without building a cell.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "sweeps/expression.h"
#include "sweeps/plan.h"
#include "sweeps/problem.h"

namespace plumb::sweeps {

// A value of a field as JSON text: 64, 0.001, "llama", true.
using FieldValue = std::string;

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
};

struct Constraint {
  Position at;
  std::string text;
  Expression expression;
};

// A budget that follows from the shape: `train.tokens: 20 * params_non_embedding`.
struct ComputedBudget {
  std::string field;
  std::string text;
  Expression expression;
};

// A stage that follows the first one and starts from its last checkpoint.
struct ChildStage {
  Position at;
  std::string name;
  std::string kind;           // of spec::StageKinds()
  std::string settings_json;  // canonical
};

struct SweepFile {
  std::string name;
  std::map<std::string, FieldValue> base;   // dotted field -> value
  std::map<std::string, Position> base_at;  // where its value stands
  Position trial_at;
  std::optional<ComputedBudget> budget;
  std::vector<Axis> axes;
  Position axes_at;
  std::vector<Constraint> where;
  int64_t replicates = 1;
  std::optional<int64_t> random_points;  // random search; a grid where absent
  uint64_t random_seed = 0;
  std::string objective = "test/bits_per_byte", objective_at = "last";
  Limits limits;
  Position limits_at;
  bool timing = false;
  int64_t priority = 0;
  std::vector<std::string> labels;  // sorted
  int64_t bundle = 1;               // trials of equal shape that a trainer may run at once
  bool aa = false;
  std::map<std::string, FieldValue>
      aa_cells;  // which cells: all of these values; empty for every cell
  std::string stage_name = "pretrain";
  std::string stage_kind = "pretrain";
  std::string stage_settings = "{}";
  std::vector<ChildStage> children;  // in the order written
};

// Reads a file. Appends every problem found; the result is to be used only when there is none.
SweepFile ReadSweepFile(const std::string& yaml, std::vector<Problem>* problems);

}  // namespace plumb::sweeps
