#include "sweeps/sobol.h"

#include <boost/random/sobol.hpp>

#include "sweeps/draw.h"

namespace plumb::sweeps {

std::vector<double> SobolPoint(int64_t dimensions, int64_t index, uint64_t seed) {
  boost::random::sobol engine(static_cast<std::size_t>(dimensions));
  engine.seed(static_cast<uint64_t>(index));
  std::vector<double> out;
  for (int64_t d = 0; d < dimensions; ++d) {
    uint64_t digits = engine();
    if (seed > 0) digits ^= Mix(Mix(seed) ^ static_cast<uint64_t>(d));
    out.push_back(static_cast<double>(digits >> 11) * 0x1.0p-53);
  }
  return out;
}

}  // namespace plumb::sweeps
