// Which whole number brings a measure nearest its target.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

namespace plumb::sweeps {

struct Solution {
  int64_t value = 0;
  double reached = 0;
};

// Among the multiples of `multiple_of` in [low, high] at which `measure_at` has a value, the one
// whose measure is nearest `target`; of two equally near, the smaller. nullopt when there is none.
// `measure_at` must not fall as its argument grows; where it is nullopt the shape cannot be built
// (a head width that does not divide). Gaps of more than 512 such multiples end the search.
std::optional<Solution> SolveInteger(
    int64_t low, int64_t high, int64_t multiple_of, double target,
    const std::function<std::optional<double>(int64_t)>& measure_at);

}  // namespace plumb::sweeps
