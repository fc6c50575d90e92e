#include <cmath>

#include "trainer/ops/composition.h"
#include "trainer/ops/ops.h"
#include "trainer/ops/rows.h"

namespace plumb::trainer::ops {
namespace {
constexpr int64_t kBlock = 1 << 16;  // floats of one task
}

std::vector<double> RowSquares(const at::Tensor& rows) {
  if (!HasKernels(rows)) return composition::RowSquares(rows);
  TORCH_CHECK(rows.dim() == 2 && rows.stride(1) == 1, "RowSquares: rows must be contiguous");
  int64_t n = rows.size(1), blocks = (n + kBlock - 1) / kBlock;
  std::vector<double> partial(rows.size(0) * blocks), sums(rows.size(0));
  at::parallel_for(0, static_cast<int64_t>(partial.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      int64_t first = i % blocks * kBlock;
      partial[i] =
          ActiveKernels().squares(Row(rows, i / blocks) + first, std::min(kBlock, n - first));
    }
  });
  for (size_t i = 0; i < partial.size(); ++i) sums[i / blocks] += partial[i];
  return sums;
}

void AdamWStep(at::Tensor weights, at::Tensor grads, at::Tensor m, at::Tensor v,
               const std::vector<AdamWRow>& rows, const std::vector<double>& weight_decay_row,
               const std::vector<AdamWSegment>& segments) {
  if (!HasKernels(weights)) {
    return composition::AdamWStep(weights, grads, m, v, rows, weight_decay_row, segments);
  }
  for (const at::Tensor* arena : {&weights, &grads, &m, &v}) {
    TORCH_CHECK(arena->dim() == 2 && arena->stride(1) == 1 && arena->sizes() == weights.sizes(),
                "AdamWStep: arenas must be [K, row_size] with contiguous rows");
  }
  TORCH_CHECK(static_cast<int64_t>(rows.size()) == weights.size(0) &&
                  rows.size() == weight_decay_row.size(),
              "AdamWStep: ", rows.size(), " rows of coefficients for ", weights.size(0), " rows");
  struct Task {
    int64_t row, first, size;
    AdamWScalars scalars;
  };
  std::vector<Task> tasks;
  for (size_t k = 0; k < rows.size(); ++k) {
    const AdamWRow& row = rows[k];
    if (!row.active) continue;
    double correction1 = 1 - std::pow(row.beta1, row.step),
           correction2 = 1 - std::pow(row.beta2, row.step);
    for (const AdamWSegment& segment : segments) {
      double lr = row.lr * segment.lr_factor;
      AdamWScalars scalars{
          .beta1 = static_cast<float>(row.beta1),
          .beta2 = static_cast<float>(row.beta2),
          .eps = static_cast<float>(row.eps * segment.eps_factor),
          .keep = static_cast<float>(1 - lr * weight_decay_row[k] * segment.weight_decay),
          .step_size = static_cast<float>(lr / correction1),
          .inv_correction2 = static_cast<float>(1 / std::sqrt(correction2)),
          .grad_scale = static_cast<float>(row.grad_scale)};
      for (int64_t done = 0; done < segment.size; done += kBlock) {
        tasks.push_back({static_cast<int64_t>(k), segment.offset + done,
                         std::min(kBlock, segment.size - done), scalars});
      }
    }
  }
  at::parallel_for(0, static_cast<int64_t>(tasks.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Task& t = tasks[i];
      ActiveKernels().adamw(Row(weights, t.row) + t.first, Row(grads, t.row) + t.first,
                            Row(m, t.row) + t.first, Row(v, t.row) + t.first, t.scalars, t.size);
    }
  });
}

}  // namespace plumb::trainer::ops
