// config.json of the parity fixtures, as transformers wrote them.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "interchange/weight_files.h"

namespace plumb::interchange {

inline nlohmann::json FixtureConfig(const std::string& name) {
  const WeightFiles file = WeightFiles::OpenFile(
      std::string(PLUMB_SOURCE_DIR) + "/tests/trainer_parity/hf/" + name + ".safetensors");
  return nlohmann::json::parse(file.metadata().at("config"));
}

}  // namespace plumb::interchange
