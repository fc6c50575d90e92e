// A sweep's results from the database as the values that analysis takes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "analysis/figure.h"
#include "analysis/map.h"
#include "store/sqlite.h"

namespace plumb::app {

struct SweepResults {
  int64_t id = 0;
  std::string name, state, series;
  int64_t trials = 0, ended = 0;
  std::string corpus, tokenizer;  // of its first trial
  struct Cell {
    std::vector<std::pair<std::string, std::string>>
        axes;                     // path, value as text; in the sweep's order
    analysis::CellResult result;  // x and y not set
  };
  std::vector<Cell> cells;
};

// `sweep` 0: the newest. `series` "": the sweep's objective. A trial's value is the series' last
// point.
absl::StatusOr<SweepResults> LoadResults(store::Database& db, int64_t sweep,
                                         const std::string& series);

// One map for each setting of the axes that are neither rows nor columns. Axes "" are chosen: depth
// and width where they vary, else the first two that do; both must be numbers.
absl::StatusOr<std::vector<analysis::MapFigure>> MapFigures(const SweepResults& results,
                                                            std::string rows, std::string columns);

struct CurveRequest {
  int64_t sweep = 0;  // 0: the newest
  std::string series = "val/bits_per_byte";
  std::string x = "steps";  // or tokens, flops
  bool linear = false;
};
// Without A/A members, replicate by replicate; NotFound names the series there are.
absl::StatusOr<analysis::CurvesFigure> LoadCurves(store::Database& db, const CurveRequest& request);

std::string InWords(const std::string& series);  // "test/bits_per_byte" -> "test bits per byte"

}  // namespace plumb::app
