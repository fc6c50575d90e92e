// Reads the stages of a sweep file.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "sweeps/sweep_file.h"
#include "sweeps/yaml_reader.h"

namespace plumb::sweeps {

// What stands under `stages:`, into the file's first stage and children.
void ReadStages(const YamlNode& stages, SweepFile* file, std::vector<Problem>* problems);

// A stage by itself, for trials that are there: what it follows is in them.
struct LoneStage {
  std::string name, kind;
  std::vector<std::string> from;  // as written; empty where it is not said
  bool fans_out = false;          // `from` is a list
  std::string settings_json;      // canonical
};
// Of `{NAME: {from: PARENT, KIND: {settings}}}`, as under `stages:`.
std::optional<LoneStage> ReadLoneStage(const std::string& yaml, std::vector<Problem>* problems);

}  // namespace plumb::sweeps
