// Character-level Shakespeare in nanoGPT's CPU configuration, all seeds as one array of rows.
//   bench_shakespeare TRAIN_IDS VAL_IDS VOCAB STEPS FIRST_SEED SEEDS     (files of int64 token ids)
// Prints "SEED LOSS" for each: the mean loss over the whole validation part in windows of 64 that
// do not overlap.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <malloc.h>

#include <cmath>
#include <cstdio>
#include <fstream>

#include "trainer/bundle.h"
#include "trainer/data_order.h"

namespace {

using plumb::trainer::Bundle;

constexpr int64_t kContext = 64, kBatch = 12, kWarmup = 100;
constexpr double kRate = 1e-3, kFinalRate = 1e-4;

std::vector<int64_t> ReadIds(const char* path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  std::vector<int64_t> ids(static_cast<size_t>(file.tellg()) / sizeof(int64_t));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(ids.data()),
            static_cast<std::streamsize>(ids.size() * sizeof(int64_t)));
  return ids;
}

double Rate(int64_t step, int64_t steps) {
  if (step < kWarmup) return kRate * static_cast<double>(step + 1) / (kWarmup + 1);
  double progress = static_cast<double>(step - kWarmup) / static_cast<double>(steps - kWarmup);
  return kFinalRate + 0.5 * (1 + std::cos(M_PI * progress)) * (kRate - kFinalRate);
}

std::vector<double> ValidationLoss(const Bundle& bundle, const std::vector<int64_t>& ids,
                                   int64_t rows) {
  int64_t windows = (static_cast<int64_t>(ids.size()) - 1) / kContext;
  std::vector<double> sums(rows);
  for (int64_t first = 0; first < windows; first += kBatch) {
    int64_t n = std::min(kBatch, windows - first), length = n * kContext;
    auto part = [&](int64_t start) {
      return at::tensor(std::vector<int64_t>(ids.begin() + start, ids.begin() + start + length),
                        at::kLong)
          .view({1, n, kContext})
          .expand({rows, n, kContext})
          .contiguous();
    };
    const at::Tensor nll =
        bundle.NegativeLogLikelihoods(0, rows, part(first * kContext), part(first * kContext + 1));
    const at::Tensor sum = nll.to(at::kDouble).sum(1);
    for (int64_t k = 0; k < rows; ++k) sums[k] += sum[k].item<double>();
  }
  for (double& sum : sums) sum /= static_cast<double>(windows * kContext);
  return sums;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 7) {
    std::fprintf(stderr,
                 "usage: bench_shakespeare TRAIN_IDS VAL_IDS VOCAB STEPS FIRST_SEED SEEDS\n");
    return 2;
  }
  std::vector<int64_t> train = ReadIds(argv[1]), val = ReadIds(argv[2]);
  int64_t steps = std::stoll(argv[4]), first_seed = std::stoll(argv[5]), rows = std::stoll(argv[6]);
  at::set_num_threads(1);
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 2147483647);

  // The preset gpt2 with model.bias = false.
  plumb::spec::ModelSpec spec{.n_layers = 4,
                              .d_model = 128,
                              .n_heads = 4,
                              .n_kv_heads = 4,
                              .head_dim = 32,
                              .d_ff = 512,
                              .vocab_size = std::stoll(argv[3]),
                              .norm = plumb::spec::NormKind::kLayerNorm,
                              .position = plumb::spec::PositionKind::kLearned,
                              .max_positions = kContext,
                              .mlp = plumb::spec::MlpKind::kGelu,
                              .bias = false,
                              .tied_head = true};
  // The trainer's own init and data order, one seed a row.
  Bundle bundle(spec, kContext, rows, at::kCPU);
  std::vector<plumb::trainer::DataOrder> order;
  for (int64_t k = 0; k < rows; ++k) {
    bundle.Add(first_seed + k);
    order.emplace_back(static_cast<int64_t>(train.size()), kContext, first_seed + k);
  }
  for (int64_t step = 0; step < steps; ++step) {
    at::Tensor ids = at::empty({rows, kBatch, kContext}, at::kLong), targets = at::empty_like(ids);
    for (int64_t i = 0; i < rows * kBatch; ++i) {
      auto from = train.begin() + order[i / kBatch].Begin(step * kBatch + i % kBatch);
      std::copy(from, from + kContext, ids.data_ptr<int64_t>() + i * kContext);
      std::copy(from + 1, from + 1 + kContext, targets.data_ptr<int64_t>() + i * kContext);
    }
    const plumb::trainer::RowUpdate update{.lr = Rate(step, steps),
                                           .beta2 = 0.99,
                                           .weight_decay = 0.1,
                                           .grad_clip = 1.0,
                                           .step = step + 1};
    const std::vector<double> losses =
        bundle.Step(ids, targets, std::vector<plumb::trainer::RowUpdate>(rows, update)).loss;
    if (step % 100 == 0)
      std::fprintf(stderr, "plumb step %lld loss %.4f\n", static_cast<long long>(step), losses[0]);
  }
  std::vector<double> losses = ValidationLoss(bundle, val, rows);
  for (int64_t k = 0; k < rows; ++k) {
    std::printf("%lld %.6f\n", static_cast<long long>(first_seed + k), losses[k]);
  }
}
