// Seeded draws that are the same on every platform: our own generator and mappings, since those of
// <random> differ between standard libraries.
#pragma once

#include <cmath>
#include <cstdint>

namespace plumb::sweeps {

// Stafford's variant 13 of the MurmurHash3 finalizer, as in SplitMix64.
inline uint64_t Mix(uint64_t z) {
  z += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

// In [0, 1), a function of its arguments alone: draw number `draw` on axis `axis`.
inline double Uniform(uint64_t seed, uint64_t draw, uint64_t axis) {
  return static_cast<double>(Mix(Mix(Mix(seed) ^ draw) ^ axis) >> 11) * 0x1.0p-53;
}

// Rounded to four significant digits: readable, and the same whatever the last bit of log and exp.
inline double RoundToFourDigits(double v) {
  if (v == 0) return 0;
  const double scale = std::pow(10.0, 3 - std::floor(std::log10(std::abs(v))));
  return std::round(v * scale) / scale;
}

}  // namespace plumb::sweeps
