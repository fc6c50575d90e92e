// A sweep's results from the database as the values that analysis takes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "analysis/figure.h"
#include "analysis/map.h"
#include "store/sqlite.h"

namespace plumb::app {

struct SweepResults {
  int64_t id = 0;
  std::string name, state, series;
  std::string stage;  // whose series it is, as the sweep calls it; "": the training, or the first
                      // that has it
  bool is_objective = false;            // what the sweep is judged by
  std::optional<bool> lower_is_better;  // by its goal, or by the series' name
  int64_t trials = 0, ended = 0;        // without those that only tuned
  std::string corpus, tokenizer;        // of its first trial
  struct Cell {
    int64_t id = 0;
    std::vector<std::pair<std::string, std::string>>
        axes;                     // path, value as text; in the sweep's order
    analysis::CellResult result;  // x and y not set
    struct Run {
      int64_t trial = 0, replicate = 0, seed = 0;  // seed.data
      bool aa = false;
      std::string
          state;  // of its training; where that has succeeded, of the stage whose series it is
      std::optional<double> value;
    };
    std::vector<Run> runs;
  };
  std::vector<Cell> cells;
};

// What an axis has where a cell has no value of it.
inline constexpr char kNoValue[] = "-";
std::string ValueOf(const SweepResults::Cell& cell, const std::string& axis);
// The axes of all cells, as written; `varying`: only those of which two cells differ.
std::vector<std::string> AxesOf(const std::vector<SweepResults::Cell>& cells, bool varying);
// The axis that was asked for by its path or last word. `option` is for the message.
absl::StatusOr<std::string> ChooseAxis(const std::vector<std::string>& axes,
                                       const std::string& asked, const char* option);

// A trial's value out of the points of a series. The last, the best and a mean of the last k are of
// trainings that succeeded; that of a step, of any training that passed it and has not diverged.
struct At {
  enum class Kind { kLast, kBest, kMeanLast, kStep } kind = Kind::kLast;
  int64_t k = 1;  // of kMeanLast; a trial with fewer points has no value. Of kStep: which
};
// "last", "best", "mean_last(5)": what a sweep file's `at` may say; and "step 1000". The best is
// the lowest unless the series is one where higher is better.
absl::StatusOr<At> ParseAt(const std::string& text);
// Of accuracies and speeds; nullopt where neither direction is known to be better.
std::optional<bool> LowerIsBetter(const std::string& series);

// "val/loss", or of a later stage "score:evaluate/test/loss".
struct SeriesName {
  std::string stage, series;
};
SeriesName ParseSeries(const std::string& text);

// `sweep` 0: the newest. `series` "": the sweep's objective. `at` none: the objective's own, else
// the last. `lower_is_better` none: as the sweep or the series' name says.
absl::StatusOr<SweepResults> LoadResults(store::Database& db, int64_t sweep,
                                         const std::string& series,
                                         std::optional<At> at = std::nullopt,
                                         std::optional<bool> lower_is_better = std::nullopt);
std::string Words(const SweepResults& results);  // "score: evaluate test loss"

// "no points of val/los; did you mean val/loss?"
absl::Status UnknownSeries(store::Database& db, int64_t sweep, const std::string& series,
                           const std::string& stage = "");

// One map for each setting of the axes that are neither rows nor columns. Axes "" are chosen: depth
// and width where they vary, else the first two that do; both must be numbers.
absl::StatusOr<std::vector<analysis::MapFigure>> MapFigures(const SweepResults& results,
                                                            std::string rows, std::string columns);

// A line for each setting of `by`, over `x`; "" are chosen: depth, or else the first number that
// varies; and what else varies without moving along (as a width solved for equal parameters does).
absl::StatusOr<analysis::ProfileFigure> LoadProfile(const SweepResults& results, std::string x,
                                                    std::string by);

struct CurveRequest {
  int64_t sweep = 0;                         // 0: the newest
  std::string series = "val/bits_per_byte";  // as SeriesName has it
  std::string x = "steps";                   // or tokens, flops
  bool linear = false;
};
// Without A/A members, replicate by replicate; NotFound names the series there are.
absl::StatusOr<analysis::CurvesFigure> LoadCurves(store::Database& db, const CurveRequest& request);

struct LayersRequest {
  int64_t sweep = 0;            // 0: the newest
  std::string score = "score";  // of linearity/…, with its …_without
  std::string stage;            // "": the first that has them, the training before others
};
// How linear each layer was, by cell, over its replicates. NotFound says how to have it measured.
absl::StatusOr<analysis::LayersFigure> LoadLayers(store::Database& db,
                                                  const LayersRequest& request);

struct PruningRequest {
  int64_t sweep = 0;                  // 0: the newest
  std::string metric = "perplexity";  // or loss, stream_error, tokens_per_second, parameters
  std::string stage;                  // "": the first by name
};
// What is left of the sweep's models without layers, a line for each method, over replicates.
// NotFound says how to have it measured.
absl::StatusOr<analysis::ProfileFigure> LoadPruning(store::Database& db,
                                                    const PruningRequest& request);

struct ProbesRequest {
  int64_t sweep = 0;                // 0: the newest
  std::string series = "accuracy";  // how the series end: "logistic/accuracy", "position/ridge/r2"
  std::string stage;                // "": the first by name
};
// What linear probes read from each state, a line for each cell and series that ends so, over
// replicates. NotFound says how to have it measured.
absl::StatusOr<analysis::ProfileFigure> LoadProbes(store::Database& db,
                                                   const ProbesRequest& request);

// "model.n_layers" -> "n_layers"
std::string LastWord(const std::string& path);
bool IsNumber(const std::string& s, double* out);

std::string InWords(const std::string& series);  // "test/bits_per_byte" -> "test bits per byte"

}  // namespace plumb::app
