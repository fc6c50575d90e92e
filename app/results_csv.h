// Results trained elsewhere, as a table: which columns are what, and the trials that its rows make.
// Pure.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace plumb::app {

// What the columns are. Without it: "seed", "replicate", "step" and "state" are what they say; a
// header with a slash is a series (val/loss); one that names a field of a trial, whole or by its
// last part (model.n_layers, lr), is an axis; params_total, params_non_embedding, flops and tokens
// are costs of the trial. Any other column must be mapped or ignored.
struct CsvMapping {
  std::map<std::string, std::string> axes;     // column → axis, as it is called in the sweep
  std::map<std::string, std::string> metrics;  // column → series
  std::map<std::string, std::string> columns;  // "seed", "replicate", "step", "state" → column
  std::vector<std::string> ignored;
  std::vector<std::pair<std::string, std::string>> fields;  // of all trials: path, value
  char delimiter = ',';
};

struct ForeignSweep {
  struct Cell {
    std::string name, axes_json;
  };
  struct Trial {
    int64_t cell = 0, replicate = 0;
    std::optional<int64_t> seed;
    std::string state = "succeeded";
    std::string key;  // of what it says it is: sweep, cell, seed or replicate
    std::string config_json, columns_json;
    int64_t steps = 0;
    // By series, in step order; NaN: not finite.
    std::map<std::string, std::vector<std::pair<int64_t, double>>> series;
  };
  std::vector<Cell> cells;
  std::vector<Trial> trials;
  std::string first_metric;  // of the table, from the left
};

// InvalidArgument with every bad row, as "file:line: message".
absl::StatusOr<ForeignSweep> ReadResultsCsv(const std::string& text, const std::string& file,
                                            const std::string& sweep, const CsvMapping& mapping);

}  // namespace plumb::app
