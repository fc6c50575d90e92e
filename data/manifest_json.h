// A manifest as JSON text. Splits are keyed by name; unknown keys are ignored, so that newer files
// open.
#pragma once

#include <string>

#include "data/dataset.h"

namespace plumb::data {

std::string ManifestJson(const Manifest& manifest);  // indented, ends with a newline
Manifest ParseManifest(const std::string& json,
                       const std::string& path);  // throws DataError naming `path`

}  // namespace plumb::data
