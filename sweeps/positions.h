// Where a node stands in the bytes of its text.
#pragma once

#include <cstddef>
#include <string>

#include "sweeps/problem.h"
#include "sweeps/yaml_reader.h"

namespace plumb::sweeps {

// Where a position's character begins, in bytes.
size_t OffsetOf(const std::string& text, Position at);
// The end of a scalar that begins at `begin`; npos where it is not on one line.
size_t EndOfScalar(const std::string& text, size_t begin, const YamlNode& node);

}  // namespace plumb::sweeps
