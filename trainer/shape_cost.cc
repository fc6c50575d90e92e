#include "trainer/shape_cost.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "trainer/bundle.h"
#include "trainer/checkpoint.h"
#include "trainer/counter_random.h"
#include "trainer/process_usage.h"
#include "trainer/spec/parse.h"
#include "trainer/timing.h"

namespace plumb::trainer {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kWarmUp = 3, kFewest = 3, kMost = 20000;
constexpr int64_t kPositionsPerPass = 4096;  // as evaluation.cc has it

class Watch {
 public:
  Spent Since() const {
    return {std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(),
            CpuSeconds() - cpu_};
  }

 private:
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  const double cpu_ = CpuSeconds();
};

// [1, texts, length]: time does not depend on what the tokens are, but for their spread over the
// table.
at::Tensor Tokens(int64_t texts, int64_t length, int64_t vocab) {
  at::Tensor t = at::empty({1, texts, length}, at::kLong);
  const CounterRandom random(HashOf("shape cost"));
  int64_t* token = t.data_ptr<int64_t>();
  for (int64_t i = 0; i < t.numel(); ++i)
    token[i] =
        static_cast<int64_t>(random.Bits(static_cast<uint64_t>(i)) % static_cast<uint64_t>(vocab));
  return t;
}

// The mean of `one` over about `seconds` of one of the clocks, after a warm-up.
template <typename Fn>
Spent Mean(double Spent::*of, double seconds, int64_t* times, Fn one) {
  for (int64_t i = 0; i < kWarmUp; ++i) one();
  const Watch watch;
  *times = 0;
  while (*times < kMost && (*times < kFewest || watch.Since().*of < seconds)) {
    one();
    ++*times;
  }
  const Spent all = watch.Since();
  const auto n = static_cast<double>(*times);
  return {all.wall_seconds / n, all.cpu_seconds / n};
}

struct TemporaryFolder {
  TemporaryFolder() {
    std::string pattern = (fs::temp_directory_path() / "plumb-shape-cost-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr)
      throw std::runtime_error("cannot make a folder in " + fs::temp_directory_path().string());
    path = pattern;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  std::string path;
};

}  // namespace

ShapeCost MeasureShape(const spec::TrialSpec& s, double seconds) {
  ShapeCost out;
  ResetPeak();
  out.resident_bytes_before = StatusBytes("VmRSS");
  const bool cuda = s.numerics.device == spec::DeviceKind::kCuda;
  if (cuda && !at::hasCUDA())
    throw std::runtime_error("numerics.device is cuda, but this machine has none");
  const at::Device device = cuda ? at::Device(at::kCUDA, 0) : at::Device(at::kCPU);
  const int64_t T = s.data.seq_len,
                B = std::max<int64_t>(1, s.train.batch_tokens / T / s.train.ranks);
  const Watch building;
  Bundle bundle(s.model, std::max(T, s.eval.seq_len), 1, device);
  bundle.Add(s.seed.init, s.model);
  out.around = building.Since();
  const auto peak = [&] {  // since the last time
    const int64_t bytes = PeakBytes();
    out.peak_bytes = std::max(out.peak_bytes, bytes);
    ResetPeak();
    return bytes;
  };
  out.build_peak_bytes = peak();

  const at::Tensor text = Tokens(B, T + 1, s.model.vocab_size).to(device);
  const at::Tensor ids = text.narrow(2, 0, T).contiguous(),
                   targets = text.narrow(2, 1, T).contiguous();
  int64_t step = 0;
  // On a machine that others use, wall time says how many of them there are.
  double Spent::*const clock = cuda ? &Spent::wall_seconds : &Spent::cpu_seconds;
  out.step = Mean(clock, seconds, &out.steps, [&] {
    bundle.Step(ids, targets, {TimingUpdate(s, step++)}, s.execution.micro_batch);
  });

  out.step_peak_bytes = peak();

  const int64_t length = s.eval.seq_len, texts = std::max<int64_t>(1, kPositionsPerPass / length);
  out.pass_tokens = texts * length;
  const at::Tensor read = Tokens(texts, length + 1, s.model.vocab_size).to(device);
  const at::Tensor seen = read.narrow(2, 0, length).contiguous(),
                   next = read.narrow(2, 1, length).contiguous();
  out.pass = Mean(clock, seconds / 4, &out.passes, [&] {
    Extras extras;
    bundle.NegativeLogLikelihoods(0, 1, seen, next, spec::Routed(s.model) ? &extras : nullptr)
        .to(at::kDouble)
        .cpu();
  });

  out.pass_peak_bytes = peak();

  const TemporaryFolder folder;
  const Watch writing;
  out.checkpoint_bytes = SaveCheckpoint(folder.path, bundle.arena(), 0, {}, "{}").bytes;
  const Spent written = writing.Since();
  out.around.wall_seconds += written.wall_seconds, out.around.cpu_seconds += written.cpu_seconds;
  out.write_peak_bytes = peak();
  return out;
}

int ShapeCostMain() {
  using nlohmann::json;
  const json asked = json::parse(std::string(std::istreambuf_iterator<char>(std::cin), {}));
  spec::TrialSpec s;
  const auto errors = spec::ParseResolved(asked.at("spec").dump(), &s);
  if (!errors.empty()) {
    std::cerr << spec::Format(errors) << "\n";
    return 2;
  }
  at::set_num_threads(static_cast<int>(std::max<int64_t>(1, s.execution.threads)));
  const ShapeCost c = MeasureShape(s, asked.value("seconds", 1.0));
  std::cout << json{{"step_seconds", c.step.wall_seconds},
                    {"step_cpu_seconds", c.step.cpu_seconds},
                    {"steps", c.steps},
                    {"pass_seconds", c.pass.wall_seconds},
                    {"pass_cpu_seconds", c.pass.cpu_seconds},
                    {"passes", c.passes},
                    {"pass_tokens", c.pass_tokens},
                    {"around_seconds", c.around.wall_seconds},
                    {"around_cpu_seconds", c.around.cpu_seconds},
                    {"peak_bytes", c.peak_bytes},
                    {"build_peak_bytes", c.build_peak_bytes},
                    {"step_peak_bytes", c.step_peak_bytes},
                    {"pass_peak_bytes", c.pass_peak_bytes},
                    {"write_peak_bytes", c.write_peak_bytes},
                    {"resident_bytes_before", c.resident_bytes_before},
                    {"checkpoint_bytes", c.checkpoint_bytes}}
                   .dump()
            << "\n";
  return 0;
}

}  // namespace plumb::trainer
