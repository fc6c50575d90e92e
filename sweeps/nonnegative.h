// Least squares whose solution has no negative part.
#pragma once

#include <vector>

namespace plumb::sweeps {

// argmin over x >= 0 of |A x - b|: Lawson & Hanson 1974, chapter 23. `rows`: of A, all of one
// length, one or more. Columns may differ by many orders of magnitude: each is scaled to unit
// length first. Of columns that say the same the first may get it all.
std::vector<double> NonNegativeLeastSquares(const std::vector<std::vector<double>>& rows,
                                            const std::vector<double>& b);

}  // namespace plumb::sweeps
