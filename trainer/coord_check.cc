#include "trainer/coord_check.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cmath>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "trainer/bundle.h"
#include "trainer/counter_random.h"
#include "trainer/spec/parse.h"

namespace plumb::trainer {
namespace {

using at::Tensor;

Tensor PseudoText(int64_t texts, int64_t length, int64_t vocab, uint64_t seed) {
  Tensor t = at::empty({1, texts, length}, at::kLong);
  const CounterRandom random(seed ^ HashOf("coordinate check"));
  const auto V = static_cast<uint64_t>(vocab);
  int64_t* token = t.data_ptr<int64_t>();
  for (int64_t i = 0; i < t.numel(); ++i) {
    const bool fresh = i % length == 0 || random.Bits(2 * i) % 4 == 0;
    token[i] = static_cast<int64_t>(fresh ? random.Bits(2 * i + 1) % V
                                          : (Mix(static_cast<uint64_t>(token[i - 1])) % V));
  }
  return t;
}

double Rms(const Tensor& t) { return std::sqrt(t.square().mean().item<double>()); }

}  // namespace

std::vector<Coordinate> CoordinateCheck(const spec::TrialSpec& s, int64_t steps) {
  const int64_t T = s.data.seq_len, B = s.train.batch_tokens / T;
  Bundle bundle(s.model, T, 1, at::kCPU);
  bundle.Add(s.seed.init, s.model);
  const Tensor text = PseudoText(B, T + 1, s.model.vocab_size, static_cast<uint64_t>(s.seed.data));
  const Tensor ids = text.narrow(2, 0, T).contiguous(), targets = text.narrow(2, 1, T).contiguous();

  const auto look = [&] {
    Extras extras{.want_states = true};
    const Tensor logits = bundle.Logits(0, ids, &extras);
    std::vector<std::pair<std::string, Tensor>> seen;
    if (!extras.states.empty()) seen.emplace_back("embedding", extras.states.front());
    if (extras.states.size() > 1) seen.emplace_back("stream", extras.states.back());
    seen.emplace_back("logits", logits);
    for (auto& [name, tensor] : seen) tensor = tensor.to(at::kDouble).clone();
    return seen;
  };
  const auto start = look();
  std::vector<Coordinate> out;
  for (int64_t step = 0; step <= steps; ++step) {
    const auto now = look();
    for (size_t i = 0; i < now.size(); ++i) {
      const auto& [name, tensor] = now[i];
      out.push_back({name, step, Rms(tensor), Rms(tensor - start[i].second)});
    }
    RowUpdate update = UpdateOf(s, step + 1);
    update.lr = s.train.lr;
    if (step < steps) bundle.Step(ids, targets, {update});
  }
  return out;
}

int CoordinateCheckMain() {
  using nlohmann::json;
  at::set_num_threads(1);
  const json asked = json::parse(std::string(std::istreambuf_iterator<char>(std::cin), {}));
  spec::TrialSpec s;
  const auto errors = spec::ParseResolved(asked.at("spec").dump(), &s);
  if (!errors.empty()) {
    std::cerr << spec::Format(errors) << "\n";
    return 2;
  }
  json out = json::array();
  for (const Coordinate& c : CoordinateCheck(s, asked.value("steps", int64_t{10}))) {
    const auto finite = [](double v) { return std::isfinite(v) ? json(v) : json(); };
    out.push_back(
        {{"name", c.name}, {"step", c.step}, {"rms", finite(c.rms)}, {"moved", finite(c.moved)}});
  }
  std::cout << json{{"coordinates", out}}.dump() << "\n";
  return 0;
}

}  // namespace plumb::trainer
