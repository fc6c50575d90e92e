// Reads `tune:`, and what it shares with `objective:`.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "sweeps/field_values.h"
#include "sweeps/measures.h"
#include "sweeps/sweep_file.h"
#include "sweeps/yaml_reader.h"

namespace plumb::sweeps {

// The metric is "" where it is not said. nullopt, with problems, where it tunes nothing.
std::optional<Tune> ReadTune(const YamlEntry& entry, const FieldTable& fields,
                             const NameContext& names, std::vector<Problem>* problems);

// The name of a series ("test/bits_per_byte"), and which of its values counts. Left as they are
// where there is a problem.
void ReadMetric(const YamlNode& node, std::string* metric, std::vector<Problem>* problems);
void ReadObjectiveAt(const YamlNode& node, std::string* at, std::vector<Problem>* problems);
// The name of a stage of a trial, which may or may not be there; and which way is better.
void ReadStageName(const YamlNode& node, std::string* stage, std::vector<Problem>* problems);
void ReadGoal(const YamlNode& node, bool* maximize, std::vector<Problem>* problems);

}  // namespace plumb::sweeps
