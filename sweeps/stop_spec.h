// What `stop:` says: which rules end a trial early, and among which trials they compare.
//
//   stop: {asha: {rungs: [10%, 30%], keep: 1/3, mode: promote}, divergence: {factor: 3}}
//
// Values alone; the rules themselves are in sweeps/stoppers/.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sweeps/problem.h"
#include "sweeps/rational.h"
#include "sweeps/yaml_reader.h"

namespace plumb::sweeps {

enum class RungMode {
  kStop,     // a trial below the cut at a rung ends
  kPromote,  // it pauses there, and goes on from its checkpoint when it is among the best later
};

// Asynchronous successive halving: at each rung the best `keep` of those that have reached it go
// on.
struct AshaRule {
  std::vector<Rational> rungs;  // fractions of a trial's steps, in (0, 1), ascending, at least one
  Rational keep;                // in (0, 1)
  RungMode mode = RungMode::kStop;
};

// Successive halving from several first rungs: bracket b begins at from / keep^b.
struct HyperbandRule {
  Rational from;         // the earliest rung of all, a fraction of a trial's steps, in (0, 1)
  Rational keep;         // in (0, 1)
  int64_t brackets = 0;  // 0: as many as there are rungs below the whole budget
  RungMode mode = RungMode::kStop;
};

// A trial ends when its best value so far is worse than the median of the others' at that step.
struct MedianRule {
  Rational from;           // no trial ends before this fraction of its steps
  int64_t min_trials = 4;  // nor before so many others have reached that step
};

// A trial ends when its value is above `factor` times its own best.
struct DivergenceRule {
  double factor = 2;  // above 1
};

// A cell ends when a paired test over replicates says that it cannot win.
struct RacingRule {
  double alpha = 0.05;         // of the test, over all looks
  int64_t min_replicates = 3;  // no cell ends before
};

struct StopSpec {
  Position at;
  // At most one of the first three.
  std::optional<AshaRule> asha;
  std::optional<HyperbandRule> hyperband;
  std::optional<MedianRule> median;
  std::optional<DivergenceRule> divergence;
  std::optional<RacingRule> racing;
  bool across_cells = false;  // cells are compared with each other: the sweep is a search
  // Whether the rungs of asha and hyperband are runs of their own that cool down there, of trials
  // whose schedule has a cooldown later (sweeps/rungs.h). Not said: yes.
  std::optional<bool> cooled;
};

// Whether some rule compares trials with each other before this part of their steps.
bool ComparesBefore(const StopSpec& stop, double part);

// Where a `stop:` stands.
enum class StopScope {
  kTune,   // inside `tune:`: among the trials of one cell
  kSweep,  // at the top of the file
};
// nullopt, with problems, where it makes no rule.
std::optional<StopSpec> ReadStop(const YamlEntry& entry, StopScope scope,
                                 std::vector<Problem>* problems);

// "asha at 10%, 30%, keep 1/3, promote; divergence at 3 x its best"
std::string InWords(const StopSpec& stop);

}  // namespace plumb::sweeps
