// The one source of chance of a simulation: the same seed gives the same draws on every platform
// (std::mt19937_64 is fixed by the standard; its distributions are not, so these are our own).
#pragma once

#include <cmath>
#include <cstdint>
#include <random>
#include <string_view>

namespace plumb::sim {

class Random {
 public:
  explicit Random(uint64_t seed) : bits_(seed) {}

  uint64_t Bits() { return bits_(); }
  double Unit() { return static_cast<double>(bits_() >> 11) * 0x1p-53; }  // [0, 1)
  bool Chance(double p) { return Unit() < p; }
  // [low, high]; high >= low.
  int64_t Between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(bits_() % static_cast<uint64_t>(high - low + 1));
  }
  double Exponential(double mean) { return -mean * std::log1p(-Unit()); }

 private:
  std::mt19937_64 bits_;
};

// A hash that does not change between platforms (FNV-1a, then a mix): what a trial measures follows
// from its key.
inline uint64_t HashOf(std::string_view text, uint64_t more = 0) {
  uint64_t h = 0xcbf29ce484222325ull;
  for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  h ^= more * 0x9e3779b97f4a7c15ull;
  h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9ull;
  h = (h ^ (h >> 27)) * 0x94d049bb133111ebull;
  return h ^ (h >> 31);
}

}  // namespace plumb::sim
