// The machine's devices: its CPU always, NVIDIA GPUs where their driver's library can be loaded.
//
// A worker has the whole machine, or one GPU of it to itself (WorkerOptions::gpu), as several
// workers of one machine do: then memory, bundles and quarantine are that GPU's.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "plumb/v1/worker_service.pb.h"

namespace plumb::worker {

// GPUs in the order of their PCI bus, as CUDA_DEVICE_ORDER=PCI_BUS_ID has them; only those that
// CUDA_VISIBLE_DEVICES leaves, where it is set to numbers.
std::vector<v1::Device> ListDevices();

// What a worker with one GPU to itself has.
struct OneGpu {
  std::vector<v1::Device> devices;  // the CPU and that GPU
  std::string visible;              // CUDA_VISIBLE_DEVICES of its trainers
};
// `gpu`: from 0, among `all`; `visible_now`: CUDA_VISIBLE_DEVICES as it is, "" where it is not set.
// InvalidArgument says how many there are.
absl::StatusOr<OneGpu> ChooseGpu(const std::vector<v1::Device>& all, int gpu,
                                 const std::string& visible_now);

int64_t CountGpus(const std::vector<v1::Device>& devices);

// Bytes that trials may take: nine tenths of the GPUs' memory, or of the machine's where it has no
// GPU.
int64_t MemoryForTrials(const std::vector<v1::Device>& devices);

std::string HostName();

// What trials on a GPU need of a worker, and every worker with a GPU has.
inline constexpr char kCudaLabel[] = "cuda";

}  // namespace plumb::worker
