// Where the tensors of CPU memory come from.
#pragma once

namespace plumb::trainer {

// LibTorch asks for aligned memory, and the C library's allocator (glibc before 2.38) serves that
// by cutting it out of a larger piece: what a tensor gave back is then always a little too small
// for the next one of the same size, and a process that makes the same step again and again keeps
// several times what a step needs. From here on tensors are aligned inside of plain allocations,
// which are found again. Before the first tensor, once.
void ReuseHostMemory();

}  // namespace plumb::trainer
