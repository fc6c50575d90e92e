#include "trainer/ops/kernels/kernels.h"

namespace plumb::trainer::ops {

namespace portable {
extern const Kernels kKernels;
}
#if defined(__x86_64__)
namespace avx2 {
extern const Kernels kKernels;
}
namespace avx512 {
extern const Kernels kKernels;
}
#endif

const Kernels& ActiveKernels() {
#if defined(__x86_64__)
  static const Kernels& active = []() -> const Kernels& {
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw")) {
      return avx512::kKernels;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2::kKernels;
    return portable::kKernels;
  }();
  return active;
#else
  return portable::kKernels;
#endif
}

}  // namespace plumb::trainer::ops
