// Differential attention against its equations (Ye et al. 2024, arXiv 2410.05258, eqs. 1 to 3),
// written here as loops over float64 numbers that share nothing with the trainer.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>

#include "tests/trainer/specs.h"
#include "trainer/bundle.h"
#include "trainer/counter_random.h"

namespace plumb::trainer {
namespace {

using Row = std::vector<double>;
using Rows = std::vector<Row>;  // [T][width]
using Weights = std::map<std::string, Row>;

constexpr int kL = 2, kD = 16, kH = 4, kWidth = 4, kF = 24, kT = 7, kV = 13;

spec::TrialSpec Model(const std::string& more = "") {
  return Resolved(
      R"({"model": {"preset": "differential", "n_layers": 2, "d_model": 16, "n_heads": 4,
                      "d_ff": 24)" +
      more + R"(}, "data": {"seq_len": 7, "tokenizer": "ids:13"},
                      "train": {"steps": 1, "batch_tokens": 7}})");
}

Rows Times(const Rows& x, const Row& w, int out) {
  Rows y(x.size(), Row(out));
  for (size_t t = 0; t < x.size(); ++t)
    for (int j = 0; j < out; ++j)
      for (size_t i = 0; i < x[t].size(); ++i) y[t][j] += x[t][i] * w[i * out + j];
  return y;
}

Row RmsNormed(const Row& x, const Row& gain) {
  double squares = 0;
  for (const double v : x) squares += v * v;
  Row y(x.size());
  for (size_t i = 0; i < x.size(); ++i)
    y[i] = x[i] / std::sqrt(squares / static_cast<double>(x.size()) + 1e-5) * gain[i];
  return y;
}

// Head `head` of position t, turned by RoPE with halves as pairs.
Row Turned(const Row& packed, int head, size_t t) {
  Row y(kWidth);
  for (int i = 0; i < kWidth / 2; ++i) {
    const double angle = static_cast<double>(t) * std::pow(10000.0, -2.0 * i / kWidth);
    const double a = packed[head * kWidth + i], b = packed[head * kWidth + kWidth / 2 + i];
    y[i] = a * std::cos(angle) - b * std::sin(angle);
    y[kWidth / 2 + i] = b * std::cos(angle) + a * std::sin(angle);
  }
  return y;
}

double Dot(const Row& a, const Row& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

// Row t of the softmax map of one head.
Row Map(const Rows& qkv, int head, size_t t) {
  const Row q = Turned(qkv[t], head, t);
  Row a(t + 1);
  double sum = 0;
  for (size_t s = 0; s <= t; ++s) {
    const Row keys(qkv[s].begin() + kH * kWidth, qkv[s].begin() + 2 * kH * kWidth);
    sum += a[s] = std::exp(Dot(q, Turned(keys, head, s)) / std::sqrt(1.0 * kWidth));
  }
  for (double& v : a) v /= sum;
  return a;
}

Rows Attention(const Rows& x, const Weights& w, int l) {
  const std::string name = "blocks." + std::to_string(l) + ".attn.";
  const auto lambda_of = [&](const char* n) {
    return std::exp(Dot(w.at(name + "lambda_q" + n), w.at(name + "lambda_k" + n)));
  };
  const double first = 0.8 - 0.6 * std::exp(-0.3 * ((l + 1) - 1));  // the paper's l is from 1
  const double lambda = lambda_of("1") - lambda_of("2") + first;
  const Rows qkv = Times(x, w.at(name + "qkv.weight"), 3 * kD);
  Rows heads(x.size(), Row(kD));
  for (size_t t = 0; t < x.size(); ++t) {
    for (int j = 0; j < kH / 2; ++j) {
      const Row a1 = Map(qkv, 2 * j, t), a2 = Map(qkv, 2 * j + 1, t);
      Row o(2 * kWidth);
      for (size_t s = 0; s <= t; ++s)
        for (int i = 0; i < 2 * kWidth; ++i)
          o[i] += (a1[s] - lambda * a2[s]) * qkv[s][2 * kD + j * 2 * kWidth + i];
      const Row normed = RmsNormed(o, w.at(name + "pair_norm.weight"));
      for (int i = 0; i < 2 * kWidth; ++i) heads[t][j * 2 * kWidth + i] = (1 - first) * normed[i];
    }
  }
  return Times(heads, w.at(name + "out.weight"), kD);
}

Rows Logits(const Weights& w, const std::vector<int64_t>& ids) {
  Rows x;
  for (const int64_t id : ids) {
    const Row& table = w.at("embed.weight");
    x.emplace_back(table.begin() + id * kD, table.begin() + (id + 1) * kD);
  }
  const auto normed = [&](const std::string& name) {
    Rows y;
    for (const Row& r : x) y.push_back(RmsNormed(r, w.at(name + ".weight")));
    return y;
  };
  const auto add = [&](const Rows& branch) {
    for (size_t t = 0; t < x.size(); ++t)
      for (int i = 0; i < kD; ++i) x[t][i] += branch[t][i];
  };
  for (int l = 0; l < kL; ++l) {
    const std::string block = "blocks." + std::to_string(l) + ".";
    add(Attention(normed(block + "attn_norm"), w, l));
    const Rows both = Times(normed(block + "mlp_norm"), w.at(block + "mlp.gate_up.weight"), 2 * kF);
    Rows hidden(x.size(), Row(kF));
    for (size_t t = 0; t < x.size(); ++t)
      for (int i = 0; i < kF; ++i)
        hidden[t][i] = both[t][i] / (1 + std::exp(-both[t][i])) * both[t][kF + i];
    add(Times(hidden, w.at(block + "mlp.down.weight"), kD));
  }
  return Times(normed("final_norm"), w.at("head.weight"), kV);
}

double Loss(const Weights& w, const std::vector<int64_t>& ids) {
  const Rows logits = Logits(w, ids);
  double loss = 0;
  for (size_t t = 0; t + 1 < ids.size(); ++t) {
    double sum = 0;
    for (const double z : logits[t]) sum += std::exp(z);
    loss += std::log(sum) - logits[t][ids[t + 1]];
  }
  return loss;
}

// Every parameter drawn, gains too, so that none hides at 0 or 1.
struct Drawn {
  Weights numbers;
  ParameterView tensors;  // [1, shape…] float64
};
Drawn Draw(const spec::ModelSpec& m) {
  Drawn d;
  for (const spec::Parameter& p : spec::LayoutOf(m).parameters) {
    const CounterRandom random(HashOf(p.name));
    const double mean = p.name.find("norm") != std::string::npos ? 1 : 0;
    Row& row = d.numbers[p.name];
    for (int64_t i = 0; i < p.size(); ++i) row.push_back(mean + 0.4 * random.Normal(i));
    std::vector<int64_t> shape = {1};
    shape.insert(shape.end(), p.shape.begin(), p.shape.end());
    d.tensors[p.name] = at::tensor(row, at::kDouble).view(shape).requires_grad_(true);
  }
  return d;
}

const std::vector<int64_t> kIds = {3, 1, 12, 0, 7, 7, 5};

TEST(Differential, LogitsAreTheEquations) {
  const spec::ModelSpec m = Model().model;
  const Drawn d = Draw(m);
  const ForwardTables tables(m, kT, at::kCPU);
  const at::Tensor ids = at::tensor(kIds, at::kLong).view({1, 1, kT});
  const at::Tensor ours = Forward(m, tables, d.tensors, ids).view({kT, kV});
  ParameterView floats;
  for (const auto& [name, t] : d.tensors) floats[name] = t.detach().to(at::kFloat);
  const at::Tensor fused = Forward(m, tables, floats, ids).view({kT, kV});
  const Rows reference = Logits(d.numbers, kIds);
  double largest = 0;
  for (const Row& r : reference)
    for (const double z : r) largest = std::max(largest, std::abs(z));
  for (int t = 0; t < kT; ++t) {
    for (int v = 0; v < kV; ++v) {
      EXPECT_NEAR(ours[t][v].item<double>(), reference[t][v], 1e-10 * largest);
      EXPECT_NEAR(fused[t][v].item<double>(), reference[t][v], 2e-5 * largest);
    }
  }
}

TEST(Differential, GradientsAreTheSlopesOfTheEquations) {
  const spec::ModelSpec m = Model().model;
  Drawn d = Draw(m);
  const at::Tensor ids = at::tensor(kIds, at::kLong).view({1, 1, kT});
  const at::Tensor logits =
      Forward(m, ForwardTables(m, kT, at::kCPU), d.tensors, ids).view({kT, kV});
  const at::Tensor log_p = at::log_softmax(logits.narrow(0, 0, kT - 1), -1);
  at::Tensor loss = -log_p.gather(1, ids.view({kT, 1}).narrow(0, 1, kT - 1)).sum();
  EXPECT_NEAR(loss.item<double>(), Loss(d.numbers, kIds), 1e-10);
  loss.backward();
  for (auto& [name, row] : d.numbers) {
    const at::Tensor grad = d.tensors[name].grad().flatten();
    for (size_t i = 0; i < row.size(); i += 1 + row.size() / 4) {  // a few of each
      const double w = row[i], step = 1e-5;
      row[i] = w + step;
      const double up = Loss(d.numbers, kIds);
      row[i] = w - step;
      const double down = Loss(d.numbers, kIds);
      row[i] = w;
      EXPECT_NEAR(grad[static_cast<int64_t>(i)].item<double>(), (up - down) / (2 * step), 1e-7)
          << name << " " << i;
    }
  }
}

TEST(Differential, RowsOfAnArrayAreThoseAloneBitForBit) {
  at::set_num_threads(1);
  const spec::ModelSpec m = Model().model;
  const auto tokens = [](uint64_t key) {
    at::Tensor t = at::empty({1, 3, kT}, at::kLong);
    for (int64_t i = 0; i < t.numel(); ++i)
      t.data_ptr<int64_t>()[i] = static_cast<int64_t>(CounterRandom(key).Bits(i) % kV);
    return t;
  };
  const at::Tensor ids = at::cat({tokens(1), tokens(2), tokens(3)});
  Bundle together(m, kT, 3, at::kCPU);
  for (int64_t seed : {1, 2, 3}) together.Add(seed);
  for (int64_t step = 1; step <= 3; ++step)
    together.Step(ids, ids, std::vector<RowUpdate>(3, {.lr = 0.01, .step = step}));
  for (int64_t k = 0; k < 3; ++k) {
    Bundle alone(m, kT, 1, at::kCPU);
    alone.Add(k + 1);
    for (int64_t step = 1; step <= 3; ++step)
      alone.Step(ids.narrow(0, k, 1), ids.narrow(0, k, 1), {{.lr = 0.01, .step = step}});
    EXPECT_TRUE(at::equal(together.arena().weights()[k], alone.arena().weights()[0])) << k;
  }
}

// A longer window, soft-caps and separate projections take the way over full scores or masks.
TEST(Differential, WorksBesideTheOtherSwitchesOfAttention) {
  for (const char* more :
       {R"(, "attn_softcap": 30)", R"(, "attn_window": 3)", R"(, "qkv": "separate")",
        R"(, "qk_norm": "head")", R"(, "score_bias": "dense")", R"(, "norm_weight": false)"}) {
    const spec::ModelSpec m = Model(more).model;
    Bundle bundle(m, kT, 1, at::kCPU);
    bundle.Add(1);
    const at::Tensor ids = at::tensor(kIds, at::kLong).view({1, 1, kT});
    at::Tensor later = ids.clone();
    later[0][0][5] = 9;
    const at::Tensor a = bundle.Logits(0, ids), b = bundle.Logits(0, later);
    EXPECT_TRUE(at::equal(a.narrow(1, 0, 5), b.narrow(1, 0, 5))) << more;
    EXPECT_FALSE(at::equal(a.narrow(1, 5, 1), b.narrow(1, 5, 1))) << more;
    EXPECT_TRUE(bundle.Step(ids, ids, {{.lr = 0.01}}).finite[0]) << more;
  }
}

}  // namespace
}  // namespace plumb::trainer
