// Numbers as people write them in sweep files.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace plumb::sweeps {

// 64, 1e-3, 1e13, .5, 300k, 1.5M, 2G, 1T (decimal multiples), 5%, 1/3. nullopt for anything else,
// and for what is not finite.
std::optional<double> ParseNumber(const std::string& text);

// The shortest text that reads back as the same double, and is JSON: 64, 0.001, 1e+13.
std::string FormatNumber(double value);

// With thousands separators: 104,094,144.
std::string Grouped(int64_t value);

// At most three significant digits with a suffix: 1.2M, 300k, 64.
std::string Short(double value);

}  // namespace plumb::sweeps
