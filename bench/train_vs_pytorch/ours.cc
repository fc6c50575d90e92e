// The C++ side of the comparison, driven over stdin: "steps N" trains N steps and answers "WALL CPU
// LOSS" (seconds).
//   ours PRESET d_model n_layers n_heads d_ff seq_len batch vocab K TOKENS_FILE
// The tokens file is int64: what both sides train on, read in order and again from the start.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <malloc.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>

#include "trainer/bundle.h"
#include "trainer/process_usage.h"

int main(int argc, char** argv) {
  if (argc != 11) {
    std::fprintf(
        stderr,
        "usage: ours PRESET d_model n_layers n_heads d_ff seq_len batch vocab K TOKENS_FILE\n");
    return 2;
  }
  auto number = [&](int i) { return std::stoll(argv[i]); };
  plumb::spec::ModelSpec model;
  if (std::string(argv[1]) == "gpt2") {
    model.norm = plumb::spec::NormKind::kLayerNorm;
    model.position = plumb::spec::PositionKind::kLearned;
    model.mlp = plumb::spec::MlpKind::kGelu;
    model.bias = model.tied_head = true;
  }
  model.d_model = number(2);
  model.n_layers = number(3);
  model.n_heads = model.n_kv_heads = number(4);
  model.head_dim = model.d_model / model.n_heads;
  model.d_ff = number(5);
  int64_t seq_len = number(6), batch = number(7), rows = number(9);
  model.max_positions = seq_len;
  model.vocab_size = number(8);
  at::set_num_threads(1);
  mallopt(M_MMAP_THRESHOLD,
          1 << 30);  // freed activations stay with the process: no page faults in every step
  mallopt(M_TRIM_THRESHOLD, 2147483647);

  std::ifstream file(argv[10], std::ios::binary | std::ios::ate);
  std::vector<int64_t> data(file.tellg() / sizeof(int64_t));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(data.data()),
            static_cast<std::streamsize>(data.size() * sizeof(int64_t)));
  at::Tensor tokens = at::tensor(data, at::kLong);

  plumb::trainer::Bundle bundle(model, seq_len, rows, at::kCPU);
  for (int64_t k = 0; k < rows; ++k) bundle.Add(k);
  int64_t per_batch = batch * (seq_len + 1), batches = tokens.size(0) / per_batch, step = 0;
  std::string word;
  int64_t n = 0;
  while (std::cin >> word >> n && word == "steps") {
    double cpu = plumb::trainer::CpuSeconds(), loss = 0;
    auto start = std::chrono::steady_clock::now();
    for (int64_t i = 0; i < n; ++i, ++step) {
      at::Tensor sample =
          tokens.narrow(0, step % batches * per_batch, per_batch).view({1, batch, seq_len + 1});
      sample = sample.expand({rows, batch, seq_len + 1});
      const plumb::trainer::RowUpdate update{
          .lr = 1e-3, .weight_decay = 0.1, .grad_clip = 1.0, .step = step + 1};
      const std::vector<double> losses =
          bundle
              .Step(sample.narrow(2, 0, seq_len).contiguous(),
                    sample.narrow(2, 1, seq_len).contiguous(),
                    std::vector<plumb::trainer::RowUpdate>(rows, update))
              .loss;
      loss = losses[0];
    }
    double wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::printf("%.6f %.6f %.6f\n", wall, plumb::trainer::CpuSeconds() - cpu, loss);
    std::fflush(stdout);
  }
}
