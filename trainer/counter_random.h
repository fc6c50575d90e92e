// Random numbers as pure functions of (key, counter): no state, the same bits whatever the order
// asked. Bits() and Uniform() are the same on every machine; Normal() is as exact as the C
// library's log and cos. The mixer is splitmix64's finaliser (Steele, Lea & Flood 2014), twice.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <string_view>

namespace plumb::trainer {

inline uint64_t Mix(uint64_t z) {
  z += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// FNV-1a, for names.
inline uint64_t HashOf(std::string_view s) {
  uint64_t h = 0xcbf29ce484222325u;
  for (const unsigned char c : s) h = (h ^ c) * 0x100000001b3u;
  return h;
}

class CounterRandom {
 public:
  explicit CounterRandom(uint64_t key) : key_(Mix(key)) {}
  uint64_t Bits(uint64_t counter) const { return Mix(Mix(key_ ^ counter) + key_); }
  // In (0, 1): 53 bits, never 0.
  double Uniform(uint64_t counter) const {
    return (static_cast<double>(Bits(counter) >> 11) + 0.5) * 0x1p-53;
  }
  // Standard normal, by Box and Muller (1958); each counter is one draw.
  double Normal(uint64_t counter) const {
    const double r = std::sqrt(-2 * std::log(Uniform(2 * counter)));
    return r * std::cos(2 * std::numbers::pi * Uniform(2 * counter + 1));
  }

 private:
  uint64_t key_;
};

}  // namespace plumb::trainer
