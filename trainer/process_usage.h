// What this process has used, as the kernel counts it.
#pragma once

#include <sys/resource.h>

#include <cstdint>
#include <cstdio>
#include <cstring>

namespace plumb::trainer {

inline double CpuSeconds() {
  rusage u;
  getrusage(RUSAGE_SELF, &u);
  return static_cast<double>(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
         1e-6 * static_cast<double>(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

// A line of /proc/self/status in bytes ("VmHWM", "VmRSS"); 0 where there is none.
inline int64_t StatusBytes(const char* name) {
  std::FILE* f = std::fopen("/proc/self/status", "r");
  if (f == nullptr) return 0;
  char line[256];
  long long kib = 0;
  while (std::fgets(line, sizeof line, f) != nullptr) {
    if (std::strncmp(line, name, std::strlen(name)) == 0 &&
        std::sscanf(line + std::strlen(name), ": %lld", &kib) == 1)
      break;
  }
  std::fclose(f);
  return kib * 1024;
}

inline int64_t PeakBytes() { return StatusBytes("VmHWM"); }

// Sets the high-water mark back to the present, so that it belongs to what runs next.
inline void ResetPeak() {
  if (std::FILE* f = std::fopen("/proc/self/clear_refs", "w")) {
    std::fputs("5", f);
    std::fclose(f);
  }
}

}  // namespace plumb::trainer
