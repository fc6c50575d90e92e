#include "trainer/timing.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>

#include "trainer/ranks/gang.h"
#include "trainer/samples.h"

namespace plumb::trainer {
namespace {
constexpr int64_t kWarmUp = 3, kFewest = 3, kMost = 10000;
}

RowUpdate TimingUpdate(const spec::TrialSpec& s, int64_t step) {
  RowUpdate update = UpdateOf(s, 1);
  update.lr = 0, update.step = step + 1;
  return update;
}

TimingResult TimeTraining(Bundle& bundle, const spec::TrialSpec& s, const data::Dataset& dataset,
                          const MixedOrder& order, double seconds, Gang* gang) {
  const int64_t T = s.data.seq_len, B = s.train.batch_tokens / T;
  at::Tensor ids = at::empty({1, B, T}, at::kLong), targets = at::empty({1, B, T}, at::kLong);
  std::vector<double> times;
  double total = 0;
  for (int64_t step = 0; step < kWarmUp + kMost && (step < kWarmUp + kFewest || total < seconds);
       ++step) {
    const auto start = std::chrono::steady_clock::now();
    FillBatch(s, dataset, order, step, ids.data_ptr<int64_t>(), targets.data_ptr<int64_t>());
    if (gang != nullptr) gang->Begin(RankWork::kTime, step);
    bundle.Step(ids.to(bundle.device()), targets.to(bundle.device()), {TimingUpdate(s, step)},
                s.execution.micro_batch, nullptr, gang != nullptr ? &gang->ranks() : nullptr);
    if (gang != nullptr) gang->Finish();
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
