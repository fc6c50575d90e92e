// What several keys of a sweep file say together.
#pragma once

#include <vector>

#include "sweeps/measures.h"
#include "sweeps/sweep_file.h"
#include "sweeps/yaml_reader.h"

namespace plumb::sweeps {

// Appends what does not go together, and fills what follows from other keys (the metric of tune).
void CheckFile(const YamlNode& root, const NameContext& names, SweepFile* file,
               std::vector<Problem>* problems);

}  // namespace plumb::sweeps
