// Reads the stages of a sweep file.
#pragma once

#include <vector>

#include "sweeps/sweep_file.h"
#include "sweeps/yaml_reader.h"

namespace plumb::sweeps {

// What stands under `stages:`, into the file's first stage and children.
void ReadStages(const YamlNode& stages, SweepFile* file, std::vector<Problem>* problems);

}  // namespace plumb::sweeps
