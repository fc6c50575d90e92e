// Reads the axes of a sweep file.
#pragma once

#include <optional>
#include <vector>

#include "sweeps/field_values.h"
#include "sweeps/measures.h"
#include "sweeps/sweep_file.h"
#include "sweeps/yaml_reader.h"

namespace plumb::sweeps {

// One entry under `axes:`. nullopt, with problems, when it makes no axis.
std::optional<Axis> ReadAxis(const YamlEntry& entry, const FieldTable& fields,
                             const NameContext& names, std::vector<Problem>* problems);

}  // namespace plumb::sweeps
