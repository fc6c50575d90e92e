#include "trainer/host_memory.h"

#include <c10/core/CPUAllocator.h>

#include <cstdint>
#include <cstdlib>
#include <new>

namespace plumb::trainer {
namespace {

constexpr uintptr_t kAlignment = 64;  // as LibTorch's own: a cache line, and the widest vector

// The plain allocation stands right before the memory given out: it is aligned to 16, so there is
// room.
void Free(void* memory) {
  if (memory != nullptr) std::free(static_cast<void**>(memory)[-1]);
}

struct HostAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    const c10::Device cpu(c10::DeviceType::CPU);
    if (bytes == 0) return {nullptr, nullptr, &Free, cpu};
    void* const plain = std::malloc(bytes + kAlignment);
    if (plain == nullptr) throw std::bad_alloc();
    void* const memory = reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(plain) + kAlignment) &
                                                 ~(kAlignment - 1));
    static_cast<void**>(memory)[-1] = plain;
    return {memory, memory, &Free, cpu};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &Free; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
};

}  // namespace

void ReuseHostMemory() {
  static HostAllocator allocator;
  c10::SetCPUAllocator(&allocator, /*priority=*/1);
}

}  // namespace plumb::trainer
