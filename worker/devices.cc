#include "worker/devices.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
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
  const std::vector<v1::Device> gpus = Gpus();
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  std::vector<int> numbers;
  bool are_numbers = visible != nullptr;
  for (absl::string_view word : absl::StrSplit(visible == nullptr ? "" : visible, ',')) {
    int number = 0;
    are_numbers = are_numbers && absl::SimpleAtoi(word, &number);
    numbers.push_back(number);
  }
  if (visible != nullptr && *visible == '\0') return devices;  // none is to be used
  if (!are_numbers) {
    devices.insert(devices.end(), gpus.begin(), gpus.end());
    return devices;
  }
  for (int number : numbers) {
    if (number >= 0 && number < static_cast<int>(gpus.size())) devices.push_back(gpus[number]);
  }
  return devices;
}

absl::StatusOr<OneGpu> ChooseGpu(const std::vector<v1::Device>& all, int gpu,
                                 const std::string& visible_now) {
  OneGpu out;
  int at = 0;
  for (const v1::Device& device : all) {
    if (device.kind() == "cpu" || at++ == gpu) out.devices.push_back(device);
  }
  if (gpu < 0 || gpu >= at) {
    return absl::InvalidArgumentError(
        at == 0 ? absl::StrCat("--gpu ", gpu, ": no GPU is seen on this machine (nvidia-smi says?)")
                : absl::StrCat("--gpu ", gpu, ": this machine has ", at,
                               at == 1 ? " GPU, number 0" : absl::StrCat(" GPUs, 0 to ", at - 1)));
  }
  const std::vector<std::string> names = absl::StrSplit(visible_now, ',', absl::SkipEmpty());
  out.visible = gpu < static_cast<int>(names.size()) ? names[gpu] : absl::StrCat(gpu);
  return out;
}

std::string HostName() {
  char name[256] = {};
  gethostname(name, sizeof name - 1);
  return name;
}

int64_t CountGpus(const std::vector<v1::Device>& devices) {
  int64_t gpus = 0;
  for (const v1::Device& device : devices) gpus += device.kind() != "cpu";
  return gpus;
}

int64_t MemoryForTrials(const std::vector<v1::Device>& devices) {
  int64_t ram = 0, gpu = 0;
  for (const v1::Device& device : devices)
    (device.kind() == "cpu" ? ram : gpu) += device.memory_bytes();
  return (gpu > 0 ? gpu : ram) / 10 * 9;
}

}  // namespace plumb::worker
