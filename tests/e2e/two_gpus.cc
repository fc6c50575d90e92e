// A driver library of a machine with two GPUs: the entry points that worker/devices.cc asks for, by
// NVML's ABI. Named libnvidia-ml.so.1, for tests on machines without one.
#include <cstring>

namespace {
struct Memory {
  unsigned long long total, free, used;
};
int gpus[2];
}  // namespace

extern "C" {
int nvmlInit_v2() { return 0; }
int nvmlShutdown() { return 0; }
int nvmlDeviceGetCount_v2(unsigned* count) {
  *count = 2;
  return 0;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void** device) {
  *device = &gpus[i];
  return 0;
}
int nvmlDeviceGetName(void* device, char* name, unsigned size) {
  std::strncpy(name, device == &gpus[0] ? "First" : "Second", size);
  return 0;
}
int nvmlDeviceGetMemoryInfo(void* device, Memory* memory) {
  memory->total = device == &gpus[0] ? 80ull << 30 : 40ull << 30;
  return 0;
}
}
