#include "worker/devices.h"

#include <dlfcn.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "worker/attempt.h"

namespace plumb::worker {
namespace {

v1::Device Cpu() {
  v1::Device cpu;
  cpu.set_kind("cpu");
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("model name") && line.find(": ") != std::string::npos) {
      cpu.set_name(ValidUtf8(line.substr(line.find(": ") + 2)));
      break;
    }
  }
  cpu.set_memory_bytes(static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGE_SIZE));
  return cpu;
}

// The few calls of NVML that are needed; its ABI (NVML API reference, version 2 entry points).
struct NvmlMemory {
  unsigned long long total, free, used;
};

std::vector<v1::Device> Gpus() {
  std::vector<v1::Device> gpus;
  void* library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return gpus;
  const auto init = reinterpret_cast<int (*)()>(dlsym(library, "nvmlInit_v2"));
  const auto count_of =
      reinterpret_cast<int (*)(unsigned*)>(dlsym(library, "nvmlDeviceGetCount_v2"));
  const auto handle_of =
      reinterpret_cast<int (*)(unsigned, void**)>(dlsym(library, "nvmlDeviceGetHandleByIndex_v2"));
  const auto name_of =
      reinterpret_cast<int (*)(void*, char*, unsigned)>(dlsym(library, "nvmlDeviceGetName"));
  const auto memory_of =
      reinterpret_cast<int (*)(void*, NvmlMemory*)>(dlsym(library, "nvmlDeviceGetMemoryInfo"));
  const auto shutdown = reinterpret_cast<int (*)()>(dlsym(library, "nvmlShutdown"));
  if (init && count_of && handle_of && name_of && memory_of && shutdown && init() == 0) {
    unsigned count = 0;
    if (count_of(&count) != 0) count = 0;
    for (unsigned i = 0; i < count; ++i) {
      void* device = nullptr;
      char name[128] = {};
      NvmlMemory memory = {};
      if (handle_of(i, &device) != 0) continue;
      v1::Device gpu;
      gpu.set_kind("cuda");
      if (name_of(device, name, sizeof name) == 0) gpu.set_name(ValidUtf8(name));
      if (memory_of(device, &memory) == 0) gpu.set_memory_bytes(static_cast<int64_t>(memory.total));
      gpus.push_back(std::move(gpu));
    }
    shutdown();
  }
  dlclose(library);
  return gpus;
}

}  // namespace

std::vector<v1::Device> ListDevices() {
  std::vector<v1::Device> devices = {Cpu()};
  for (v1::Device& gpu : Gpus()) devices.push_back(std::move(gpu));
  return devices;
}

}  // namespace plumb::worker
