// What measuring linearity adds to a training, driven over stdin: "N" trains N steps, measures once
// and answers "TRAIN_SECONDS MEASURE_SECONDS PEAK_BYTES".
//   ours FOLDER d_model n_layers seq_len batch_tokens tokens threads
// FOLDER is an empty one: a corpus of random bytes is written there.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <malloc.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "data/dataset.h"
#include "data/manifest_json.h"
#include "trainer/bundle.h"
#include "trainer/counter_random.h"
#include "trainer/data_order.h"
#include "trainer/linearity/measurement.h"
#include "trainer/mixed_order.h"
#include "trainer/process_usage.h"
#include "trainer/samples.h"
#include "trainer/spec/parse.h"

namespace {

using Clock = std::chrono::steady_clock;
using plumb::spec::TrialSpec;
namespace data = plumb::data;
namespace trainer = plumb::trainer;

data::SplitInfo WriteSplit(const std::string& folder, data::Split split, int64_t tokens) {
  constexpr int64_t kDocument = 1000;
  const trainer::CounterRandom random(trainer::HashOf(data::Name(split)));
  std::vector<uint16_t> text(tokens);
  std::vector<uint64_t> documents = {static_cast<uint64_t>(tokens / kDocument)};
  for (int64_t i = 0; i < tokens; ++i) {
    // Words of a few letters, so that something is to be learnt.
    text[i] = i % kDocument == 0 ? 0 : static_cast<uint16_t>(97 + random.Bits(i / 5 % 400) % 23);
    if (i % kDocument == 0)
      documents.insert(documents.end(), {static_cast<uint64_t>(i), kDocument - 1});
  }
  int32_t header[256] = {20240520, 1, static_cast<int32_t>(tokens)};
  const std::string path = folder + "/" + data::Name(split);
  std::ofstream bin(path + ".bin", std::ios::binary);
  bin.write(reinterpret_cast<const char*>(header), sizeof header);
  bin.write(reinterpret_cast<const char*>(text.data()), static_cast<std::streamsize>(2 * tokens));
  std::ofstream(path + ".docs", std::ios::binary)
      .write(reinterpret_cast<const char*>(documents.data()),
             static_cast<std::streamsize>(8 * documents.size()));
  return {.documents = tokens / kDocument, .bytes = tokens, .characters = tokens, .tokens = tokens};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 8) {
    std::fprintf(stderr,
                 "usage: ours FOLDER d_model n_layers seq_len batch_tokens tokens threads\n");
    return 2;
  }
  const std::string folder = argv[1];
  const auto number = [&](int i) { return std::stoll(argv[i]); };
  data::Manifest manifest{
      .corpus = "c", .tokenizer = "bytes", .digest = "d", .vocab_size = 256, .reversible = true};
  for (const data::Split split : data::kAllSplits)
    manifest.splits[static_cast<int>(split)] = WriteSplit(folder, split, 1'000'000);
  std::ofstream(folder + "/manifest.json") << data::ManifestJson(manifest);
  const nlohmann::json config = {{"model", {{"d_model", number(2)}, {"n_layers", number(3)}}},
                                 {"data", {{"seq_len", number(4)}}},
                                 {"train", {{"steps", 100000}, {"batch_tokens", number(5)}}},
                                 {"linearity", {{"every", 50}, {"tokens", number(6)}}}};
  TrialSpec s;
  if (const auto errors = plumb::spec::ParseResolved(config.dump(), &s); !errors.empty()) {
    std::fprintf(stderr, "%s\n", plumb::spec::Format(errors).c_str());
    return 2;
  }
  at::set_num_threads(static_cast<int>(number(7)));
  mallopt(M_MMAP_THRESHOLD, 1 << 30);  // as plumb-trainer: freed activations stay
  mallopt(M_TRIM_THRESHOLD, 2147483647);
  const data::Dataset dataset = data::Dataset::Open(folder);
  const trainer::MixedOrder order = trainer::OrderOf(s, dataset);
  trainer::Bundle bundle(s.model, s.data.seq_len, 1, at::kCPU);
  bundle.Add(1);
  const int64_t T = s.data.seq_len, B = s.train.batch_tokens / T;
  at::Tensor ids = at::empty({1, B, T}, at::kLong), targets = at::empty({1, B, T}, at::kLong);
  int64_t step = 0;
  std::string line;
  while (std::getline(std::cin, line)) {
    const auto start = Clock::now();
    for (int64_t end = step + std::stoll(line); step < end; ++step) {
      trainer::FillBatch(s, dataset, order, step, ids.data_ptr<int64_t>(),
                         targets.data_ptr<int64_t>());
      bundle.Step(ids, targets, {trainer::UpdateOf(s, step + 1)});
    }
    const auto trained = Clock::now();
    trainer::linearity::MeasureLinearity(bundle, 0, dataset, s);
    const auto measured = Clock::now();
    std::printf("%.6f %.6f %lld\n", std::chrono::duration<double>(trained - start).count(),
                std::chrono::duration<double>(measured - trained).count(),
                static_cast<long long>(trainer::PeakBytes()));
    std::fflush(stdout);
  }
}
