// Presets: named rows of model fields. A preset computes nothing of its own.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace plumb::spec {

std::vector<std::string> PresetNames();
// The fields that differ from the defaults of ModelSpec, by path; {} for an unknown name.
nlohmann::json PresetRow(const std::string& name);
// One line for people: what it is and where it comes from; "" for an unknown name.
std::string PresetSource(const std::string& name);

}  // namespace plumb::spec
