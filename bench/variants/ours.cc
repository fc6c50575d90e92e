// One preset's training steps, driven over stdin: "steps N" trains N steps and answers
// "WALL CPU PEAK_BYTES" (seconds, and the process's high-water mark).
//   ours PRESET d_model n_layers n_heads seq_len batch vocab
//   ours --presets: their names.
// The first line tells what the preset is at that shape: parameters, FLOPs a token, and how many of
// a step's attentions the fused kernel computed, counted as they ran.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/record_function.h>
#include <malloc.h>

#include <chrono>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>

#include "trainer/bundle.h"
#include "trainer/counter_random.h"
#include "trainer/process_usage.h"
#include "trainer/spec/cost.h"
#include "trainer/spec/parse.h"
#include "trainer/spec/presets.h"

namespace {

using plumb::spec::TrialSpec;
using plumb::trainer::Bundle;

int fused = 0;  // attentions that the fused kernel computed

std::unique_ptr<at::ObserverContext> CountFused(const at::RecordFunction& f) {
  if (f.name() == std::string("aten::_scaled_dot_product_flash_attention_for_cpu")) ++fused;
  return nullptr;
}

at::Tensor Tokens(const TrialSpec& s, uint64_t key) {
  const int64_t T = s.data.seq_len, B = s.train.batch_tokens / T;
  at::Tensor out = at::empty({1, B, T}, at::kLong);
  const plumb::trainer::CounterRandom random(key);
  for (int64_t i = 0; i < out.numel(); ++i)
    out.data_ptr<int64_t>()[i] = static_cast<int64_t>(random.Bits(i) % s.model.vocab_size);
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::string(argv[1]) == "--presets") {
    for (const std::string& name : plumb::spec::PresetNames()) std::puts(name.c_str());
    return 0;
  }
  if (argc != 8) {
    std::fprintf(stderr,
                 "usage: ours PRESET d_model n_layers n_heads seq_len batch vocab | --presets\n");
    return 2;
  }
  const auto number = [&](int i) { return std::stoll(argv[i]); };
  const nlohmann::json config = {
      {"model",
       {{"preset", argv[1]},
        {"d_model", number(2)},
        {"n_layers", number(3)},
        {"n_heads", number(4)},
        {"vocab_size", number(7)}}},
      {"data", {{"seq_len", number(5)}}},
      {"train", {{"steps", 1}, {"batch_tokens", number(5) * number(6)}}}};
  TrialSpec s;
  if (const auto errors = plumb::spec::ParseResolved(config.dump(), &s); !errors.empty()) {
    std::fprintf(stderr, "%s\n", plumb::spec::Format(errors).c_str());
    return 2;
  }
  at::set_num_threads(1);
  mallopt(M_MMAP_THRESHOLD, 1 << 30);  // as plumb-trainer: freed activations stay
  mallopt(M_TRIM_THRESHOLD, 2147483647);

  Bundle bundle(s.model, s.data.seq_len, 1, at::kCPU);
  bundle.Add(1);
  const at::Tensor ids = Tokens(s, 1), targets = Tokens(s, 2);
  int64_t step = 0;
  const auto train = [&] {
    bundle.Step(ids, targets,
                {{.lr = 1e-3, .weight_decay = 0.1, .grad_clip = 1.0, .step = ++step}});
  };
  const auto handle = at::addThreadLocalCallback(
      at::RecordFunctionCallback(CountFused).scopes({at::RecordScope::FUNCTION}));
  train();
  at::removeCallback(handle);
  std::printf("%s\n", nlohmann::json{{"parameters", plumb::spec::CountParameters(s.model).total},
                                     {"flops_per_token",
                                      plumb::spec::TrainingFlopsPerToken(s.model, s.data.seq_len)},
                                     {"attention_fused", fused},
                                     {"n_layers", s.model.n_layers}}
                          .dump()
                          .c_str());
  std::fflush(stdout);

  std::string word;
  int64_t n = 0;
  while (std::cin >> word >> n && word == "steps") {
    const double cpu = plumb::trainer::CpuSeconds();
    const auto start = std::chrono::steady_clock::now();
    for (int64_t i = 0; i < n; ++i) train();
    const double wall =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::printf("%.6f %.6f %lld\n", wall, plumb::trainer::CpuSeconds() - cpu,
                static_cast<long long>(plumb::trainer::PeakBytes()));
    std::fflush(stdout);
  }
}
