// `calibration:`: what a unit of work takes on a device, so that seconds in a sweep file mean the
// same steps for ever.
//
// A person writes nothing, or the name of a device. The client writes the prices in before it plans
// or sends a file (WithPrices), as it does with files that are included, and the server plans by
// what is written.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "sweeps/predict.h"
#include "sweeps/problem.h"
#include "sweeps/sweep_file.h"

namespace plumb::sweeps {

void ReadCalibration(const YamlEntry& entry, SweepFile* file, std::vector<Problem>* problems);

// The prices that a text waits for.
struct WantedPrices {
  std::string device;   // "": any
  int64_t threads = 1;  // of the base trial
};
std::optional<WantedPrices> WantsPrices(
    const std::string& yaml);  // nullopt where it waits for none
// The text with these prices: in the place of the device's name, or at its end.
std::string WithPrices(const std::string& yaml, const Prices& prices);

}  // namespace plumb::sweeps
