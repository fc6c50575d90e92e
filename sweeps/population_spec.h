// What `search: {population: …}` says: members that train side by side, and at the end of each
// generation the worst of them go on from the state of the best, with other values.
//
//   search: {population: {members: 8, seed: 1, every: 10%, replace: 1/4, factor: 1.2, resample:
//   25%}}
//
// Values alone; the rules are in sweeps/population.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sweeps/problem.h"
#include "sweeps/rational.h"
#include "sweeps/yaml_reader.h"

namespace plumb::sweeps {

struct PopulationSpec {
  Position at;
  int64_t members = 0;      // at least 2
  uint64_t seed = 0;        // of the first values, and of what follows them
  Rational every;           // a generation, as a fraction of a member's steps, in (0, 1); or …
  int64_t every_steps = 0;  // … in steps; 0: as a fraction
  Rational replace;         // how many of the members are replaced, at most 1/2
  double factor = 1.2;      // a number becomes so many times as large, or as small; above 1
  double resample = 0.25;   // or is drawn anew, with this probability

  int64_t replaced() const;  // a generation, where all have a value; at least 1
};

// The entry of `search:` whose key is `population`. nullopt, with problems, where it makes none.
std::optional<PopulationSpec> ReadPopulationSpec(const YamlEntry& entry,
                                                 std::vector<Problem>* problems);

// The ends of generations, in steps, for members of so many steps: 1 to steps - 1, ascending.
std::vector<int64_t> GenerationEnds(const PopulationSpec& spec, int64_t steps);

}  // namespace plumb::sweeps
