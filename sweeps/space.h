// The points of a space, in order: a grid row by row, or seeded draws.
#pragma once

#include <cstdint>
#include <vector>

#include "sweeps/sweep_file.h"

namespace plumb::sweeps {

// One value per axis of the file: the field values, or for a solved axis the target.
struct SpacePoint {
  std::vector<std::vector<FieldValue>>
      values;               // [axis][field of the axis]; empty for a solved axis
  double target = 0;        // of the solved axis
  std::vector<bool> first;  // [axis]: the first value of its axis, in a grid
};

// The number of points of the grid, as a double since it may be astronomical.
double GridSize(const SweepFile& file);
// Point `index` of the grid in row-major order: the last axis written moves fastest.
SpacePoint GridPoint(const SweepFile& file, int64_t index);
// Draw `index` of the random or Sobol search: a function of the file's seed, the index and the
// place of each axis.
SpacePoint RandomPoint(const SweepFile& file, int64_t index);

}  // namespace plumb::sweeps
