// The machine's devices: its CPU always, NVIDIA GPUs where their driver's library can be loaded.
#pragma once

#include <vector>

#include "plumb/v1/worker_service.pb.h"

namespace plumb::worker {

std::vector<v1::Device> ListDevices();

}  // namespace plumb::worker
