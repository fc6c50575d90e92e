#include "trainer/timing.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>

namespace plumb::trainer {
namespace {
constexpr int64_t kWarmUp = 3, kFewest = 3, kMost = 10000;
}

TimingResult TimeTraining(Bundle& bundle, const spec::TrialSpec& s, const data::Dataset& dataset,
                          const MixedOrder& order, double seconds) {
  const int64_t T = s.data.seq_len, B = s.train.batch_tokens / T;
  at::Tensor ids = at::empty({1, B, T}, at::kLong), targets = at::empty({1, B, T}, at::kLong);
  std::vector<int64_t> sample(T + 1);
  std::vector<double> times;
  double total = 0;
  for (int64_t step = 0; step < kWarmUp + kMost && (step < kWarmUp + kFewest || total < seconds);
       ++step) {
    const auto start = std::chrono::steady_clock::now();
    for (int64_t b = 0; b < B; ++b) {
      const auto [part, begin] = order.At(step * B + b);
      dataset.part(part, data::Split::kTrain).Copy(begin, T + 1, sample.data());
      std::copy_n(sample.data(), T, ids.data_ptr<int64_t>() + b * T);
      std::copy_n(sample.data() + 1, T, targets.data_ptr<int64_t>() + b * T);
    }
    // A rate of 0: the same work, and no loss of meaning however long it goes on.
    bundle.Step(ids.to(bundle.device()), targets.to(bundle.device()),
                {{.lr = 0, .grad_clip = s.train.grad_clip, .step = step + 1}},
                s.execution.micro_batch);
    if (step < kWarmUp) continue;
    times.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    total += times.back();
  }
  std::nth_element(times.begin(), times.begin() + static_cast<int64_t>(times.size() / 2),
                   times.end());
  return {.tokens_per_s = static_cast<double>(s.train.batch_tokens) / times[times.size() / 2],
          .steps = static_cast<int64_t>(times.size())};
}

}  // namespace plumb::trainer
