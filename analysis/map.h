// Reading a map of cells: which is best, which cannot be told from it, and what may be said.
//
// The rules (docs/ARCHITECTURE.md, "Statistics"): the value is a score, lower being better where
// nothing else is said; a cell with a diverged or unfinished replicate is shown and never compared;
// comparisons with the best cell are paired by replicate; the standard error is the larger of the
// paired one and the one that the pooled spread over seeds gives, since two or three replicates can
// agree by accident; "cannot be told" means that the interval of the difference holds 0.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "analysis/statistics.h"

namespace plumb::analysis {

struct CellResult {
  std::string name;                     // "n_layers=2 d_model=64"
  double x = 0, y = 0;                  // the map's axes: by default d_model and n_layers
  std::map<int64_t, double> values;     // finished replicates: replicate → score
  std::map<int64_t, double> aa_values;  // the A/A control's replicates, on disjoint seeds
  int64_t replicates = 0;               // planned
  int64_t diverged = 0;
  std::vector<std::string> flags;
  int64_t params_total = 0, params_non_embedding = 0, flops_per_token = 0, tokens = 0;
  double flops = 0;
  double wall_seconds = 0;       // mean over replicates; accounting, not speed
  double solo_tokens_per_s = 0;  // 0: not timed
  bool Comparable() const {
    return diverged == 0 && !values.empty() && static_cast<int64_t>(values.size()) == replicates;
  }
};

struct CellReading {
  Interval value;                      // of the cell's replicates
  std::optional<Interval> minus_best;  // paired; nullopt: not comparable, or the best itself
  bool best = false;
  bool with_best = false;  // the best, or not to be told from it
};

// The A/A control: the same cells again on other seeds. What two runs of one and the same cell
// differ by.
struct Noise {
  int64_t cells = 0;
  double mean_absolute_difference = 0;  // of cell means, original against control
  double largest_difference = 0;
  double difference_sd =
      0;  // expected sd of the difference of two such means, from the pooled spread
};

struct MapReading {
  std::vector<CellReading> cells;  // as given
  std::optional<int64_t> best;
  std::optional<double>
      seed_sd;  // pooled over cells and controls: the spread of one run over seeds
  std::optional<Noise> noise;
  double level = 0.9;
  bool maximize = false;  // higher is better
  std::string sentence;   // one, or two short ones; claims no more than the spread carries
};

// `metric`: the score's name and unit for the sentence, e.g. "test bits per byte"; `noun`: what is
// compared, "cell".
MapReading ReadMap(const std::vector<CellResult>& cells, const std::string& metric, double level,
                   bool maximize = false, const std::string& noun = "cell");

}  // namespace plumb::analysis
