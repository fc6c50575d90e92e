#include <cstring>

#include "trainer/ops/composition.h"
#include "trainer/ops/ops.h"
#include "trainer/ops/rows.h"

namespace plumb::trainer::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

struct EmbeddingFunction : torch::autograd::Function<EmbeddingFunction> {
  static Variable forward(AutogradContext* ctx, const Variable& table, const Variable& ids_in) {
    at::Tensor ids = ids_in.contiguous();
    int64_t rows = ids.size(0), positions = ids.size(1), vocabulary = table.size(1),
            d = table.size(2);
    at::Tensor y = at::empty({rows, positions, d}, table.options().requires_grad(false));
    const int64_t* id = ids.data_ptr<int64_t>();
    for (int64_t i = 0; i < rows * positions; ++i) {
      TORCH_CHECK_INDEX(id[i] >= 0 && id[i] < vocabulary, "token ", id[i],
                        " is outside the vocabulary of ", vocabulary);
    }
    ForEachChunk(rows, positions, [&](int64_t k, int64_t first, int64_t n) {
      for (int64_t i = first; i < first + n; ++i) {
        std::memcpy(Row(y, k) + i * d, Row(table, k) + id[k * positions + i] * d,
                    d * sizeof(float));
      }
    });
    ctx->save_for_backward({table, ids});
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    variable_list saved = ctx->get_saved_variables();
    const at::Tensor& ids = saved[1];
    at::Tensor dy = grads[0].contiguous();
    GradTarget target(saved[0]);
    int64_t positions = dy.size(1), d = dy.size(2);
    const int64_t* id = ids.data_ptr<int64_t>();
    at::parallel_for(0, dy.size(0), 1, [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; ++k) {
        for (int64_t i = 0; i < positions; ++i) {
          ActiveKernels().add(Row(target.sums, k) + id[k * positions + i] * d, Row(dy, k) + i * d,
                              d);
        }
      }
    });
    return {target.ForAutograd(), at::Tensor()};
  }
};

}  // namespace

at::Tensor Embedding(const at::Tensor& table, const at::Tensor& ids) {
  return HasKernels(table) ? EmbeddingFunction::apply(table, ids)
                           : composition::Embedding(table, ids);
}

}  // namespace plumb::trainer::ops
