// What the papers' algebra says must be equal.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>

#include "trainer/arena.h"
#include "trainer/bundle.h"
#include "trainer/components/block.h"
#include "trainer/components/context.h"
#include "trainer/counter_random.h"
#include "trainer/spec/parameter_layout.h"
#include "trainer/spec/parse.h"
#include "trainer/stages/painters.h"

namespace plumb::trainer {
namespace {

using at::Tensor;
using nlohmann::json;

constexpr int64_t kT = 10;

// A model whose parameters are at hand, in float64 or float32.
struct Net {
  explicit Net(json fields, at::ScalarType type = at::kDouble, int64_t seed = 3) {
    at::set_num_threads(1);
    json j = {{"model.n_layers", 3},        {"model.d_model", 16}, {"model.n_heads", 2},
              {"data.seq_len", kT},         {"train.steps", 1},    {"train.batch_tokens", kT},
              {"data.tokenizer", "ids:32"}, {"router.prefix", 3}};
    j.update(fields);
    const auto errors = spec::ParseResolved(j.dump(), &s);
    EXPECT_TRUE(errors.empty()) << spec::Format(errors);
    Arena arena(spec::LayoutOf(m), 1, at::kCPU);
    arena.InitRow(0, seed);
    for (const spec::Parameter& q : arena.layout().parameters) {
      p[q.name] = arena.View(0, 1).at(q.name).to(type).clone();
      p[q.name].requires_grad_(q.trainable);
    }
    tables = std::make_unique<ForwardTables>(m, kT, at::kCPU);
  }
  Tensor Logits(const Tensor& ids, Extras* extras = nullptr) const {
    Extras none;
    return Forward(m, *tables, p, ids, extras != nullptr ? extras : &none);
  }
  Tensor Loss(const Tensor& ids, bool training = true) const {
    Extras extras{.training = training};
    const Tensor next = ids.roll(-1, 2).reshape({-1});
    return at::cross_entropy_loss(Logits(ids, &extras)[0], next);
  }
  components::Context Context(int64_t B, Extras* extras = nullptr) const {
    return {m, *tables, p, 1, B, kT, extras};
  }
  Tensor Attention(const Tensor& x, int64_t l = 0) const {
    const components::Context c = Context(x.size(1) / kT);
    components::AttentionState state = components::StartAttention(c);
    return components::Attention(c, x, l, &state);
  }
  Tensor Block(const Tensor& x, int64_t l) const {
    const components::Context c = Context(x.size(1) / kT);
    components::AttentionState state = components::StartAttention(c);
    components::Stream stream{.x = x, .embedding = x};
    components::RunBlock(c, l, &state, &stream, "", spec::NormKind::kNone);
    return stream.x;
  }
  Tensor Norm(const Tensor& x, const std::string& name) const {
    return components::Norm(Context(1), x, name, m.norm);
  }
  Tensor Mlp(const Tensor& x, int64_t l) const { return components::Mlp(Context(1), x, l); }
  Tensor grad(const std::string& name) const { return p.at(name).grad(); }
  void Set(const std::string& name, const Tensor& value) {
    p.at(name).detach().copy_(value.expand_as(p.at(name)));
  }

  spec::TrialSpec s;
  const spec::ModelSpec& m = s.model;
  ParameterView p;
  std::unique_ptr<ForwardTables> tables;
};

Tensor Ids(int64_t texts = 2, uint64_t key = 1) {
  Tensor t = at::empty({1, texts, kT}, at::kLong);
  const CounterRandom random(key);
  for (int64_t i = 0; i < t.numel(); ++i)
    t.data_ptr<int64_t>()[i] = static_cast<int64_t>(random.Bits(i) % 32);
  return t;
}
Tensor Rows(int64_t n, int64_t d, at::ScalarType type = at::kDouble, double scale = 1) {
  Tensor t = at::empty({1, n, d}, at::kDouble);
  const CounterRandom random(7);
  for (int64_t i = 0; i < t.numel(); ++i) t.data_ptr<double>()[i] = scale * random.Normal(i);
  return t.to(type);
}
double Off(const Tensor& a, const Tensor& b) {
  return (a.detach() - b.detach()).abs().max().item<double>();
}
double Size(const Tensor& a) { return a.detach().abs().max().item<double>(); }

// ---- Simplified blocks (He & Hofmann 2023)

TEST(Simplified, SasAttentionIsTheIdentityAtInit) {
  // Exactly so for dense matrices. The running mean is another sum than the attention kernel's:
  // what is left is their rounding.
  for (const auto& [type, tolerance] : {std::pair{at::kDouble, 1e-14}, {at::kFloat, 2e-6}}) {
    const Net net(json{{"model.preset", "sas"}}, type);
    const Tensor n = net.Norm(Rows(2 * kT, 16, type), "blocks.0.attn_norm");
    for (const int64_t l : {0, 1}) EXPECT_LE(Off(net.Attention(n, l), n), tolerance) << l;
  }
}

TEST(Simplified, BlocksAtInitAreTheirMlpsOnTheStream) {
  const Net sas(json{{"model.preset", "sas"}}), bare(json{{"model.preset", "sas_p_nonorm"}});
  const Tensor x = Rows(kT, 16);
  const Tensor n = sas.Norm(x, "blocks.0.attn_norm");
  const Tensor expected = n + 0.1 * sas.Mlp(sas.Norm(n, "blocks.0.mlp_norm"), 0);
  EXPECT_LE(Off(sas.Block(x, 0), expected), 1e-6);
  EXPECT_LE(Off(bare.Block(x, 1), x + 0.1 * bare.Mlp(x, 1)), 1e-6);
}

TEST(Simplified, SasAndSasPAgreeAtInitAndNotAfterAStep) {
  for (const at::ScalarType type : {at::kDouble, at::kFloat}) {
    Net sas(json{{"model.preset", "sas"}}, type), parallel(json{{"model.preset", "sas_p"}}, type);
    const Tensor ids = Ids();
    // Not zero, though close: eps is added to an RMS that is already 1.
    EXPECT_LE(Off(sas.Logits(ids), parallel.Logits(ids)), 1e-5 * Size(sas.Logits(ids)) + 1e-6);
    for (Net* net : {&sas, &parallel}) {
      net->Loss(ids).backward();
      for (auto& [name, w] : net->p) {
        if (w.grad().defined()) w.detach().sub_(w.grad() * 10.0);
      }
    }
    EXPECT_GT(Off(sas.Logits(ids), parallel.Logits(ids)), 1e-4 * Size(sas.Logits(ids)));
  }
}

TEST(Simplified, TheFirstGradientReachesQueriesAndNotKeys) {
  const Net net(json{{"model.preset", "sas"}}, at::kFloat);
  net.Loss(Ids()).backward();
  for (int64_t l = 0; l < 3; ++l) {
    const std::string a = "blocks." + std::to_string(l) + ".attn.";
    EXPECT_EQ(Size(net.grad(a + "k.weight")), 0);
    EXPECT_EQ(Size(net.grad(a + "k.bias")), 0);
    EXPECT_GT(Size(net.grad(a + "q.weight")), 0);
    // beta and gamma multiply the same matrix.
    EXPECT_LE(Off(net.grad(a + "beta"), -net.grad(a + "gamma")), 1e-5 * Size(net.grad(a + "beta")));
    EXPECT_GT(Size(net.grad(a + "beta")), 0);
  }
}

TEST(Simplified, ShapedRowsSumToTheGains) {
  Net net(json{{"model.preset", "sas"}, {"model.query_init", "normal"}});
  const Tensor gains = at::tensor({0.7, 1.9}, at::kDouble);
  net.Set("blocks.1.attn.alpha", gains);
  net.Set("blocks.1.attn.beta", gains * 0.3);
  net.Set("blocks.1.attn.gamma", gains + 0.4);
  // Values of one: each row gives its sum.
  const Tensor out = net.Attention(at::ones({1, kT, 16}, at::kDouble), 1).view({kT, 2, 8});
  const Tensor expected = (gains + gains * 0.3 - gains - 0.4).view({1, 2, 1}).expand_as(out);
  EXPECT_LE(Off(out, expected), 1e-12);
  // Scores of zero: A is C.
  Net centred(json{{"model.preset", "sas"}});
  centred.Set("blocks.1.attn.alpha", at::zeros({1}, at::kDouble));
  EXPECT_LE(Size(centred.Attention(Rows(kT, 16), 1)), 1e-14);
}

TEST(Simplified, VSkipInitKeepsEveryTokensNorm) {
  const Net net(json{{"model.preset", "vskipinit"}}, at::kFloat);
  const Tensor x = Rows(2 * kT, 16, at::kFloat);
  const Tensor y = net.Attention(x, 1);
  EXPECT_LE(Off(y.norm(2, 2) / x.norm(2, 2), at::ones({1, 2 * kT})), 1e-5);
  const Tensor product = at::matmul(at::matmul(x[0], net.p.at("blocks.1.attn.v.weight")[0]),
                                    net.p.at("blocks.1.attn.out.weight")[0]);
  EXPECT_LE(Off(y[0], product), 1e-5);
}

TEST(Simplified, AParallelBlockIsTheSumOfItsBranches) {
  const Net net(json{{"model.preset", "gptj_parallel"}});
  const Tensor x = Rows(kT, 16), n = net.Norm(x, "blocks.1.attn_norm");
  EXPECT_LE(Off(net.Block(x, 1), x + net.Attention(n, 1) + net.Mlp(n, 1)), 1e-12);
}

// Mean cosine between the tokens of a text, and the RMS of the stream, after the last block.
std::pair<double, double> Signal(const std::string& preset, int64_t layers) {
  const Net net(json{{"model.preset", preset}, {"model.n_layers", layers}, {"model.d_model", 96}},
                at::kFloat);
  Extras extras{.want_states = true};
  net.Logits(Ids(1), &extras);
  const Tensor x = extras.states.back()[0].to(at::kDouble);
  const Tensor unit = x / x.norm(2, 1, true);
  const Tensor cosines = at::matmul(unit, unit.t());
  return {(cosines.sum().item<double>() - kT) / (kT * (kT - 1)),
          std::sqrt(x.square().mean().item<double>())};
}

TEST(Simplified, TokensKeepTheirDirectionsThroughDepth) {
  // Width 768 and 16 tokens: 0.042 and RMS 1.000 for SAS, 0.93 and 4.5 for Pre-LN. Here 96 wide.
  const auto [sas, sas_rms] = Signal("sas", 72);
  const auto [preln, preln_rms] = Signal("preln", 72);
  EXPECT_LT(std::abs(sas), 0.15);
  EXPECT_NEAR(sas_rms, 1, 0.02);
  EXPECT_GT(preln, 0.7);
  EXPECT_GT(preln_rms, 4 * 0.028);  // what came in
  EXPECT_LT(std::abs(Signal("vskipinit", 18).first), 0.15);
}

TEST(Simplified, ScalingAnUpdateIsScalingItsRate) {
  // SGD: a step on dW under a gain b moves W by b squared times a step on W.
  constexpr double kBeta = 0.3;
  const json reparam = {{"model.vp", "reparam"},
                        {"model.qkv", "separate"},
                        {"model.vp_beta", kBeta},
                        {"model.vp_init", "orthogonal"}};
  const json full = {{"model.qkv", "separate"}, {"model.vp_init", "orthogonal"}};
  Net a(reparam), b(full);
  for (const char* l : {"blocks.0.attn.", "blocks.1.attn.", "blocks.2.attn."}) {
    for (const char* n : {"v", "out"})
      b.Set(std::string(l) + n + ".weight", a.p.at(std::string(l) + n + ".fixed"));
  }
  const Tensor ids = Ids();
  EXPECT_LE(Off(a.Logits(ids), b.Logits(ids)), 1e-12);
  a.Loss(ids).backward(), b.Loss(ids).backward();
  for (const char* n : {"blocks.1.attn.v.weight", "blocks.1.attn.out.weight"})
    EXPECT_LE(Off(kBeta * a.grad(n), kBeta * kBeta * b.grad(n)), 1e-6 * Size(b.grad(n)));
}

// ---- The blocks of seed 002

TEST(Llama, FusedAndSeparateAreOneFunctionAndOneTraining) {
  Net fused(json{{"model.preset", "llama_base"}}),
      separate(json{{"model.preset", "llama_sep_qkv"}});
  const auto each =
      [&](const std::function<void(const std::string&, const std::string&, int64_t)>& fn) {
        for (int64_t l = 0; l < 3; ++l) {
          const std::string a = "blocks." + std::to_string(l) + ".attn.";
          for (int64_t i = 0; i < 3; ++i) fn(a + "qkv.weight", a + "qkv"[i] + ".weight", i);
        }
      };
  for (auto& [name, w] : separate.p) {
    if (fused.p.count(name) > 0) w.detach().copy_(fused.p.at(name));
  }
  each([&](const std::string& one, const std::string& part, int64_t i) {
    separate.Set(part, fused.p.at(one).narrow(2, 16 * i, 16));
  });
  // AdamW, float64, 50 steps.
  std::map<Net*, std::map<std::string, std::pair<Tensor, Tensor>>> moments;
  for (int64_t step = 1; step <= 50; ++step) {
    const Tensor ids = Ids(2, static_cast<uint64_t>(step));
    EXPECT_LE(Off(fused.Logits(ids), separate.Logits(ids)), 1e-12) << step;
    for (Net* net : {&fused, &separate}) {
      net->Loss(ids).backward();
      for (auto& [name, w] : net->p) {
        auto& [m, v] = moments[net][name];
        const Tensor g = w.grad();
        m = m.defined() ? 0.9 * m + 0.1 * g : 0.1 * g;
        v = v.defined() ? 0.95 * v + 0.05 * g * g : 0.05 * g * g;
        const Tensor mh = m / (1 - std::pow(0.9, step)), vh = v / (1 - std::pow(0.95, step));
        w.detach().mul_(1 - 1e-3 * 0.1).sub_(1e-3 * mh / (vh.sqrt() + 1e-8));
        w.mutable_grad() = Tensor();
      }
    }
  }
  each([&](const std::string& one, const std::string& part, int64_t i) {
    EXPECT_LE(Off(separate.p.at(part), fused.p.at(one).narrow(2, 16 * i, 16)), 1e-12);
  });
}

TEST(Llama, VariantsThatAddNothingAreTheBase) {
  for (const at::ScalarType type : {at::kDouble, at::kFloat}) {
    const Net base(json{{"model.preset", "llama_base"}}, type);
    const Tensor ids = Ids(), expected = base.Logits(ids);
    // Zero biases and no activation: the same packed linear, bit for bit.
    const Net biased(json{{"model.preset", "llama_base"}, {"model.attn_bias", "qkv"}}, type);
    EXPECT_TRUE(at::equal(biased.Logits(ids), expected));
    // F = 0. Attention with a bias takes another kernel: its rounding is left.
    Net scored(json{{"model.preset", "llama_score_bias"}}, type);
    const double rounding = type == at::kDouble ? 1e-15 : 5e-7;
    EXPECT_LE(Off(scored.Logits(ids), expected), rounding);
    // A bias that is the same for all keys.
    for (int64_t l = 0; l < 3; ++l)
      scored.Set("blocks." + std::to_string(l) + ".attn.score_bias.bias",
                 at::full({1}, 2.5, at::dtype(type)));
    EXPECT_LE(Off(scored.Logits(ids), expected), 1e-6);
  }
}

// ---- The router of seed 000

json Routed(const std::string& gate, json more = json::object()) {
  json j = {{"model.preset", "phi3_dynamic"}, {"router.gate", gate}};
  if (gate == "fixed") j["router.balance"] = 0;
  j.update(more);
  return j;
}

TEST(Router, StartedOnTheDiagonalItIsTheStaticModel) {
  for (const at::ScalarType type : {at::kDouble, at::kFloat}) {
    const Net fixed(json{{"model.preset", "phi3_static"}}, type);
    const Tensor ids = Ids(3);
    for (const char* gate : {"unit_st", "st"}) {
      const Net routed(Routed(gate, {{"router.init", "identity"}}), type);
      EXPECT_TRUE(at::equal(routed.Logits(ids), fixed.Logits(ids))) << gate;
      Extras training{.training = true};
      EXPECT_LE(Off(routed.Logits(ids, &training), fixed.Logits(ids)),
                type == at::kDouble ? 1e-15 : 1e-6)
          << gate;
    }
    const Net path(Routed("fixed", {{"router.path", "0,1,2"}}), type);
    EXPECT_TRUE(at::equal(path.Logits(ids), fixed.Logits(ids)));
    // Skips alone: the norm and head on the embedding.
    const Net skips(Routed("fixed", {{"router.path", "-1,-1,-1"}}), type);
    const Tensor x = skips.p.at("embed.weight")[0].index_select(0, ids.view({-1})).unsqueeze(0);
    const Tensor expected = at::matmul(skips.Norm(x, "final_norm"), skips.p.at("head.weight")[0]);
    EXPECT_LE(Off(skips.Logits(ids), expected), type == at::kDouble ? 1e-14 : 1e-6);
  }
}

TEST(Router, TextsInGroupsAreTextsAlone) {
  // A wide router, so that texts take different ways.
  for (const char* gate : {"switch", "unit_st", "st", "soft"}) {
    Net together(Routed(gate, {{"router.init_std", 5.0}, {"router.balance", 0}}));
    Net alone(Routed(gate, {{"router.init_std", 5.0}, {"router.balance", 0}}));
    const Tensor ids = Ids(6);
    Extras extras;
    const Tensor logits = together.Logits(ids, &extras);
    std::set<std::vector<int64_t>> paths;
    for (const Route& r : extras.routes) paths.insert(r.path);
    EXPECT_GE(paths.size(), 3u) << gate;
    (together.Loss(ids) * 6).backward();
    for (int64_t b = 0; b < 6; ++b) {
      const Tensor text = ids.narrow(1, b, 1).contiguous();
      EXPECT_LE(Off(alone.Logits(text), logits.narrow(1, b * kT, kT)), 1e-12) << gate;
    }
    // Gradients add up over texts; roll() in Loss is within a text.
    for (int64_t b = 0; b < 6; ++b) alone.Loss(ids.narrow(1, b, 1).contiguous()).backward();
    for (const auto& [name, w] : together.p) {
      if (!w.grad().defined()) continue;
      EXPECT_LE(Off(w.grad(), alone.grad(name)), 1e-6 * std::max(1e-6, Size(w.grad()))) << name;
    }
  }
}

TEST(Router, ASkippedStepTeachesOnlyADenseGate) {
  for (const char* gate : {"switch", "unit_st", "st"}) {
    Net net(Routed(gate, {{"router.balance", 0}}));
    for (int64_t s = 0; s < 3; ++s) {
      const std::string r = "router." + std::to_string(s) + ".";
      net.Set(r + "weight", at::zeros({1}, at::kDouble));
      net.Set(r + "bias", at::tensor({3.0, 0.0, 0.1, 0.2}, at::kDouble));  // skip wins
    }
    net.Loss(Ids()).backward();
    const Tensor g = net.grad("router.0.bias");
    const double size = g.defined() ? Size(g) : 0;
    if (std::string(gate) == "st") {
      EXPECT_GT(size, 0);
    } else {
      EXPECT_EQ(size, 0) << gate;
    }
  }
}

TEST(Router, BalanceIsOneWhereUniformAndTheNumberOfChoicesWhereCollapsed) {
  for (const char* scope : {"step", "joint"}) {
    Net net(Routed("switch", {{"router.balance", 0.01}, {"router.balance_scope", scope}}));
    const auto balance = [&](double bias) {
      for (int64_t s = 0; s < 3; ++s) {
        const std::string r = "router." + std::to_string(s) + ".";
        net.Set(r + "weight", at::zeros({1}, at::kDouble));
        net.Set(r + "bias", at::tensor({0.0, bias, 0.0, 0.0}, at::kDouble));
      }
      Extras extras{.training = true};
      net.Logits(Ids(4), &extras);
      return extras.balance.item<double>();
    };
    EXPECT_NEAR(balance(0), 1, 1e-12) << scope;
    EXPECT_NEAR(balance(1000), 4, 1e-12) << scope;
  }
}

TEST(Router, ASoftGateThatIsSureIsAFixedPath) {
  Net soft(Routed("soft")), fixed(Routed("fixed", {{"router.path", "2,-1,0"}}));
  const int64_t choices[] = {3, 0, 1};
  for (int64_t s = 0; s < 3; ++s) {
    const std::string r = "router." + std::to_string(s) + ".";
    Tensor bias = at::zeros({4}, at::kDouble);
    bias[choices[s]] = 1e4;
    soft.Set(r + "weight", at::zeros({1}, at::kDouble));
    soft.Set(r + "bias", bias);
  }
  EXPECT_LE(Off(soft.Logits(Ids(3)), fixed.Logits(Ids(3))), 1e-12);
}

// ---- Layers as painters

TEST(Painters, OneLayerInTheMiddleIsTheBaseline) {
  // T layers with T even and N = T / 2 - 1: M = 1.
  const Net net(
      json{{"model.n_layers", 6}, {"model.residual_init", "plain"}, {"model.init_std", 0.2}});
  const Tensor ids = Ids();
  const auto run = [&](const std::string& variant, int64_t N, int64_t repeat = 1,
                       int64_t seed = 0) {
    const LayerSchedule schedule = PainterSchedule(variant, 6, N, repeat, seed);
    Extras extras{.schedule = &schedule};
    return net.Logits(ids, &extras);
  };
  const Tensor expected = net.Logits(ids);
  EXPECT_LE(Off(run("baseline", 0), expected), 1e-14);
  for (const char* variant : {"middle_repeat", "reverse", "random", "parallel"})
    EXPECT_LE(Off(run(variant, 2), expected), 1e-14) << variant;
  EXPECT_GT(Off(run("looped_parallel", 2, 3), expected), 1e-6);
  EXPECT_LE(Off(run("looped_parallel", 1, 1), run("parallel", 1)), 0);
  for (const char* variant :
       {"skip", "middle_repeat", "reverse", "parallel", "skip_one", "switch_two"})
    EXPECT_GT(Off(run(variant, 1), expected), 1e-6) << variant;
  EXPECT_EQ(Off(run("random", 0, 1, 5), run("random", 0, 1, 5)), 0);
}

TEST(Painters, SchedulesAreThoseOfTheTable) {
  using S = LayerSchedule;
  EXPECT_EQ(PainterSchedule("skip", 7, 1, 1, 0), (S{{0}, {1}, {6}}));
  EXPECT_EQ(PainterSchedule("middle_repeat", 7, 1, 1, 0), (S{{0}, {1}, {3}, {3}, {3}, {3}, {6}}));
  EXPECT_EQ(PainterSchedule("reverse", 7, 1, 1, 0), (S{{0}, {1}, {5}, {4}, {3}, {2}, {6}}));
  EXPECT_EQ(PainterSchedule("parallel", 7, 1, 1, 0), (S{{0}, {1}, {2, 3, 4, 5}, {6}}));
  EXPECT_EQ(PainterSchedule("looped_parallel", 7, 2, 2, 0),
            (S{{0}, {1}, {2}, {3, 4}, {3, 4}, {5}, {6}}));
  EXPECT_EQ(PainterSchedule("skip_one", 4, 2, 1, 0), (S{{0}, {1}, {3}}));
  EXPECT_EQ(PainterSchedule("switch_two", 4, 1, 1, 0), (S{{0}, {2}, {1}, {3}}));
  std::set<LayerSchedule> orders;
  for (int64_t seed = 0; seed < 10; ++seed) {
    LayerSchedule random = PainterSchedule("random", 8, 0, 1, seed);
    orders.insert(random);
    EXPECT_EQ(random, PainterSchedule("random", 8, 0, 1, seed));
    std::sort(random.begin(), random.end());
    EXPECT_EQ(random, PainterSchedule("baseline", 8, 0, 1, 0));
  }
  EXPECT_EQ(orders.size(), 10u);
  EXPECT_THROW(PainterSchedule("skip", 6, 3, 1, 0), std::invalid_argument);
  EXPECT_NO_THROW(PainterSchedule("skip", 7, 3, 1, 0));
  EXPECT_THROW(PainterSchedule("reverse", 7, 4, 1, 0), std::invalid_argument);
  EXPECT_THROW(PainterSchedule("skip_one", 4, 4, 1, 0), std::invalid_argument);
  EXPECT_THROW(PainterSchedule("switch_two", 4, 3, 1, 0), std::invalid_argument);
  EXPECT_THROW(PainterSchedule("shuffle", 4, 1, 1, 0), std::invalid_argument);
}

TEST(Painters, ParallelLayersAreTheMeanOfTheirBranches) {
  const Net net(json{{"model.residual_init", "plain"}, {"model.init_std", 0.2}});
  const LayerSchedule schedule = {{0}, {1, 2}};
  Extras extras{.schedule = &schedule};
  const Tensor ids = Ids(1);
  const Tensor x = net.p.at("embed.weight")[0].index_select(0, ids.view({-1})).unsqueeze(0);
  const Tensor h = net.Block(x, 0);
  const Tensor mean = h + (net.Block(h, 1) - h + net.Block(h, 2) - h) / 2;
  const Tensor expected = at::matmul(net.Norm(mean, "final_norm"), net.p.at("head.weight")[0]);
  EXPECT_LE(Off(net.Logits(ids, &extras), expected), 1e-6);
}

}  // namespace
}  // namespace plumb::trainer
