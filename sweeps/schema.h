// JSON Schema (2020-12) of a sweep file, for editors.
#pragma once

#include <nlohmann/json_fwd.hpp>

namespace plumb::sweeps {

// Takes every file that the reader takes, and refuses the shape of a file that is wrong: unknown
// keys, values of a wrong kind or out of range. What only reading can tell (an expression's names,
// what several keys say together) it leaves to the reader.
nlohmann::json SweepSchema();

}  // namespace plumb::sweeps
