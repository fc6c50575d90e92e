// Sobol's low-discrepancy sequence, by the direction numbers of Joe and Kuo (2008, new-joe-kuo-6).
#pragma once

#include <cstdint>
#include <vector>

namespace plumb::sweeps {

constexpr int64_t kMaxSobolDimensions = 256;

// Point `index` (0 is the first after the origin: 1/2 everywhere), each coordinate in [0, 1). With
// a seed above 0 every coordinate is shifted digit by digit by a number drawn from the seed, which
// keeps the sequence as even as it is.
std::vector<double> SobolPoint(int64_t dimensions, int64_t index, uint64_t seed);

}  // namespace plumb::sweeps
