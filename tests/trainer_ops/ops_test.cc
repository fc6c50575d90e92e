// Each operation's float32 kernel against its ATen composition in float64 (values and gradients),
// the composition's gradients against finite differences, and the array rule: row k of K has the
// bits of that row alone.
#include "trainer/ops/ops.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

namespace plumb::trainer::ops {
namespace {

using Tensors = std::vector<at::Tensor>;

// An operation under test. `inputs` makes float64 inputs for K rows, the first dimension of each
// being K * fold; fn maps them to one output, whose first dimension is K * fold too.
struct Case {
  std::string name;
  std::vector<std::vector<int64_t>> shapes;  // one row's; the first entry is `fold` where fold > 0
  std::function<at::Tensor(const Tensors& inputs, int64_t rows)> fn;
  double scale = 1;
};

at::Tensor Integers(int64_t rows, int64_t positions, int64_t limit, int64_t first = 0) {
  std::vector<int64_t> values;
  for (int64_t k = 0; k < rows; ++k) {
    for (int64_t i = 0; i < positions; ++i)
      values.push_back((i * 7 + k * 3 + i * i) % (limit - first) + first);
  }
  return at::tensor(values, at::kLong).view({rows, positions});
}

// cos, sin [t, half] in the dtype of `like`.
std::pair<at::Tensor, at::Tensor> Angles(int64_t t, int64_t half, const at::Tensor& like) {
  at::Tensor frequency = at::pow(10000.0, at::arange(half, at::kDouble) * (-1.0 / half));
  at::Tensor angle = at::arange(t, at::kDouble).unsqueeze(1) * frequency;
  return {angle.cos().to(like.scalar_type()), angle.sin().to(like.scalar_type())};
}

// Three chunks of a sum over positions, the last one partial.
constexpr int64_t kPositions = 600;

std::vector<Case> Cases() {
  constexpr int64_t m = kPositions;
  auto fold = [](const at::Tensor& x, int64_t t) { return x.reshape({-1, t, x.size(-1)}); };
  return {
      {"RmsNorm",
       {{m, 24}, {24}},
       [](const Tensors& x, int64_t) { return RmsNorm(x[0], x[1], 1e-5); }},
      {"RmsNormEpsOutside",
       {{m, 24}, {24}},
       [](const Tensors& x, int64_t) { return RmsNorm(x[0], x[1], 0.3, false); }},
      {"AddRmsNormEpsOutside",
       {{m, 24}, {m, 24}, {24}},
       [](const Tensors& x, int64_t) {
         SumAndNorm out = AddRmsNorm(x[0], x[1], x[2], 0.3, false);
         return at::cat({out.sum, out.normed}, -1);
       }},
      {"ScaleRows",
       {{m, 24}, {1}},
       [](const Tensors& x, int64_t) { return ScaleRows(x[0], x[1]); }},
      {"ScaleRowsByColumn",
       {{m, 24}, {24}},
       [](const Tensors& x, int64_t) { return ScaleRows(x[0], x[1]); }},
      {"AddRows", {{m, 24}, {24}}, [](const Tensors& x, int64_t) { return AddRows(x[0], x[1]); }},
      {"ShapedMix",
       {{m, 24}, {m, 24}, {4}, {4}, {4}},
       [](const Tensors& x, int64_t) {
         return ShapedMix(x[0], x[1], x[2], x[3], x[4], m / 3, true);
       }},
      {"ShapedMixOfBothSides",
       {{m, 24}, {m, 24}, {1}, {1}, {1}},
       [](const Tensors& x, int64_t) {
         return ShapedMix(x[0], x[1], x[2], x[3], x[4], m / 3, false);
       }},
      {"ValueSkip",
       {{m, 24}, {m, 24}, {4}, {4}},
       [](const Tensors& x, int64_t) {
         return ShapedMix(x[0], x[1], x[2], x[3], {}, m / 3, true);
       }},
      {"LayerNorm",
       {{m, 24}, {24}, {24}},
       [](const Tensors& x, int64_t) { return LayerNorm(x[0], x[1], x[2], 1e-5); }},
      {"AddRmsNorm",
       {{m, 24}, {m, 24}, {24}},
       [](const Tensors& x, int64_t) {
         SumAndNorm out = AddRmsNorm(x[0], x[1], x[2], 1e-5);
         return at::cat({out.sum, out.normed}, -1);
       }},
      {"AddLayerNorm",
       {{m, 24}, {m, 24}, {24}, {24}},
       [](const Tensors& x, int64_t) {
         SumAndNorm out = AddLayerNorm(x[0], x[1], x[2], x[3], 1e-5);
         return at::cat({out.sum, out.normed}, -1);
       }},
      {"Linear",
       {{m, 12}, {12, 20}},
       [](const Tensors& x, int64_t) { return Linear(x[0], x[1], {}); }},
      {"LinearWithBias",
       {{m, 12}, {12, 20}, {20}},
       [](const Tensors& x, int64_t) { return Linear(x[0], x[1], x[2]); }},
      {"LinearTransposed",
       {{m, 12}, {20, 12}},
       [](const Tensors& x, int64_t) { return LinearTransposed(x[0], x[1]); }},
      {"SwiGlu", {{m, 44}}, [](const Tensors& x, int64_t) { return SwiGlu(x[0]); }, 3},
      {"Gelu", {{m, 22}}, [](const Tensors& x, int64_t) { return Gelu(x[0]); }, 3},
      {"Rope",
       {{m, 48}},
       [](const Tensors& x, int64_t rows) {
         auto [cos, sin] = Angles(m / 2, 8, x[0]);
         return Rope(x[0].reshape({rows * 2, m / 2, 3, 16}), cos, sin).reshape({rows, m, 48});
       }},
      {"CausalAttention",
       {{m, 96}},
       [fold](const Tensors& x, int64_t rows) {
         return CausalAttention(fold(x[0], m / 3).clone(), 4, 4, {}, {}).reshape({rows, m, 32});
       }},
      {"AttentionToBothSidesScaled",
       {{m, 96}},
       [fold](const Tensors& x, int64_t rows) {
         return CausalAttention(fold(x[0], m / 3).clone(), 4, 4, {}, {}, 0.7, false)
             .reshape({rows, m, 32});
       }},
      {"CausalAttentionRotatedAndGrouped",
       {{m, 64}},
       [fold](const Tensors& x, int64_t rows) {
         auto [cos, sin] = Angles(m / 3, 4, x[0]);
         return CausalAttention(fold(x[0], m / 3).clone(), 4, 2, cos, sin).reshape({rows, m, 32});
       }},
      {"Embedding",
       {{40, 12}},
       [](const Tensors& x, int64_t rows) { return Embedding(x[0], Integers(rows, m, 40)); }},
      {"CrossEntropySum",
       {{m, 50}},
       [](const Tensors& x, int64_t rows) {
         return CrossEntropySum(x[0].clone(), Integers(rows, m, 50, -3));
       },
       4},
  };
}

// Rows of an arena wider than they are, as in a bundle: first stride larger than the row.
at::Tensor Strided(const at::Tensor& x) {
  int64_t rows = x.size(0), size = x[0].numel();
  at::Tensor arena = at::zeros({rows, size + 16}, x.options());
  at::Tensor view = arena.narrow(1, 0, size);
  view.copy_(x.reshape({rows, size}));
  std::vector<int64_t> strides = x[0].contiguous().strides().vec();
  strides.insert(strides.begin(), size + 16);
  return view.as_strided(x.sizes(), strides);
}

struct Result {
  at::Tensor out;
  Tensors grads;
};

// Values and gradients of Σ out · weight for a fixed weight. Inputs beyond the first are
// parameters: arena views.
Result Evaluate(const Case& c, const Tensors& inputs, int64_t rows, const at::Tensor& weight) {
  Tensors leaves;
  for (size_t i = 0; i < inputs.size(); ++i) {
    bool activation = inputs[i].size(1) == kPositions;
    leaves.push_back(
        (activation ? inputs[i].contiguous() : Strided(inputs[i])).detach().requires_grad_(true));
  }
  at::Tensor out = c.fn(leaves, rows);
  Result result{out.detach(), {}};
  torch::autograd::backward({out}, {weight.to(out.scalar_type())});
  for (const at::Tensor& leaf : leaves) result.grads.push_back(leaf.grad());
  return result;
}

Tensors Inputs(const Case& c, int64_t rows, uint64_t seed) {
  at::manual_seed(seed);
  Tensors inputs;
  for (std::vector<int64_t> shape : c.shapes) {
    shape.insert(shape.begin(), rows);
    inputs.push_back(at::randn(shape, at::kDouble) * c.scale);
  }
  return inputs;
}

at::Tensor OutWeight(const Case& c, const Tensors& inputs, int64_t rows) {
  at::Tensor out = c.fn(inputs, rows).detach();
  return at::randn(out.sizes(), at::kDouble);
}

Tensors ToFloat(const Tensors& inputs) {
  Tensors floats;
  for (const at::Tensor& x : inputs) floats.push_back(x.to(at::kFloat));
  return floats;
}

bool SameBits(const at::Tensor& a, const at::Tensor& b) {
  at::Tensor x = a.contiguous(), y = b.contiguous();
  return x.sizes() == y.sizes() && std::memcmp(x.data_ptr(), y.data_ptr(), x.nbytes()) == 0;
}

double WorstDifference(const at::Tensor& float_result, const at::Tensor& reference) {
  at::Tensor scale = reference.abs().max().clamp_min(1);
  return ((float_result.to(at::kDouble) - reference).abs().max() / scale).item<double>();
}

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class OpTest : public testing::TestWithParam<Case> {};

TEST_P(OpTest, KernelAgreesWithTheCompositionInFloat64) {
  const Case& c = GetParam();
  Tensors inputs = ToFloat(Inputs(c, 3, 1)), wide;
  for (const at::Tensor& x : inputs) wide.push_back(x.to(at::kDouble));
  at::Tensor weight = OutWeight(c, wide, 3).to(at::kFloat).to(at::kDouble);
  Result kernel = Evaluate(c, inputs, 3, weight), reference = Evaluate(c, wide, 3, weight);
  EXPECT_EQ(kernel.out.scalar_type(), at::kFloat);
  EXPECT_LT(WorstDifference(kernel.out, reference.out), 2e-6);
  for (size_t i = 0; i < inputs.size(); ++i) {
    EXPECT_LT(WorstDifference(kernel.grads[i], reference.grads[i]), 3e-6) << "gradient " << i;
  }
}

TEST_P(OpTest, GradientsAgreeWithFiniteDifferences) {
  const Case& c = GetParam();
  Tensors inputs = Inputs(c, 2, 2);
  at::Tensor weight = OutWeight(c, inputs, 2);
  Result result = Evaluate(c, inputs, 2, weight);
  for (size_t i = 0; i < inputs.size(); ++i) {
    at::Tensor direction = at::randn(inputs[i].sizes(), at::kDouble);
    auto shifted = [&](double by) {
      Tensors moved = inputs;
      moved[i] = inputs[i] + direction * by;
      return (c.fn(moved, 2).detach() * weight).sum().item<double>();
    };
    constexpr double kStep = 1e-5;
    double slope = (shifted(kStep) - shifted(-kStep)) / (2 * kStep);
    double gradient = (result.grads[i] * direction).sum().item<double>();
    EXPECT_NEAR(slope, gradient, 1e-6 * std::max(1.0, std::abs(gradient)) + 1e-5) << "input " << i;
  }
}

TEST_P(OpTest, RowsOfFourHaveTheBitsOfEachRowAlone) {
  const Case& c = GetParam();
  if (c.name == "Embedding" || c.name == "CrossEntropySum")
    GTEST_SKIP() << "has its own test: tokens differ by row";
  Tensors inputs = ToFloat(Inputs(c, 4, 3));
  at::Tensor weight = OutWeight(c, inputs, 4);
  Result together = Evaluate(c, inputs, 4, weight);
  for (int64_t k = 0; k < 4; ++k) {
    Tensors alone;
    for (const at::Tensor& x : inputs) alone.push_back(x.narrow(0, k, 1));
    Result single = Evaluate(c, alone, 1, weight.narrow(0, k, 1));
    EXPECT_TRUE(SameBits(single.out, together.out.narrow(0, k, 1)));
    for (size_t i = 0; i < inputs.size(); ++i) {
      EXPECT_TRUE(SameBits(single.grads[i], together.grads[i].narrow(0, k, 1))) << "gradient " << i;
    }
  }
}

TEST_P(OpTest, NanInOneRowChangesNoBitOfAnother) {
  const Case& c = GetParam();
  Tensors inputs = ToFloat(Inputs(c, 3, 4)), poisoned;
  at::Tensor weight = OutWeight(c, inputs, 3);
  for (const at::Tensor& x : inputs) {
    poisoned.push_back(x.clone());
    poisoned.back()[1].fill_(std::numeric_limits<double>::quiet_NaN());
  }
  Result clean = Evaluate(c, inputs, 3, weight), dirty = Evaluate(c, poisoned, 3, weight);
  EXPECT_TRUE(dirty.out[1].isnan().any().item<bool>());
  for (int64_t k : {0, 2}) {
    EXPECT_TRUE(SameBits(clean.out[k], dirty.out[k]));
    for (size_t i = 0; i < inputs.size(); ++i)
      EXPECT_TRUE(SameBits(clean.grads[i][k], dirty.grads[i][k]));
  }
}

// The dense form: alpha I + beta A - gamma C as matrices.
TEST(ShapedMixOf, IsTheMatrixFormInFloat64) {
  constexpr int64_t T = 7, d = 6, heads = 2;
  const at::Tensor v = at::randn({1, 2 * T, d}, at::kDouble),
                   A = at::softmax(at::randn({2, heads, T, T}, at::kDouble), -1);
  const at::Tensor gains = at::tensor({0.7, 1.3, 0.4, -0.2, 1.1, 0.9}, at::kDouble).view({3, 2});
  const auto per_head = [&](const at::Tensor& x) {
    return x.view({2, T, heads, d / heads}).transpose(1, 2);  // [B, H, T, d/H]
  };
  const auto flat = [&](const at::Tensor& x) { return x.transpose(1, 2).reshape({1, 2 * T, d}); };
  for (const bool causal : {true, false}) {
    const at::Tensor mask =
        causal ? at::tril(at::ones({T, T}, at::kDouble)) : at::ones({T, T}, at::kDouble);
    const at::Tensor C = mask / mask.sum(1, true);
    const auto gain = [&](int64_t i) { return gains[i].view({1, heads, 1, 1}); };
    const at::Tensor matrix = gain(0) * at::eye(T, at::kDouble) + gain(1) * A - gain(2) * C;
    const at::Tensor expected = flat(at::matmul(matrix, per_head(v)));
    const at::Tensor attended = flat(at::matmul(A, per_head(v)));
    const at::Tensor got =
        ShapedMix(attended, v, gains[0].view({1, heads}), gains[1].view({1, heads}),
                  gains[2].view({1, heads}), T, causal);
    EXPECT_LE((got - expected).abs().max().item<double>(), 1e-12);
  }
}

// Added to the gradient, not to the value.
TEST(ZLoss, SteersTheGradientAsTheSquaredLogSumExp) {
  const at::Tensor logits = at::randn({2, 5, 9}, at::kDouble) * 2;
  const at::Tensor targets = at::tensor({1, 2, -1, 8, 0, 3, 3, 3, -1, -1}, at::kLong).view({2, 5});
  const std::vector<double> z = {0.1, 0};
  for (const at::ScalarType type : {at::kDouble, at::kFloat}) {
    at::Tensor a = logits.to(type).clone().requires_grad_(true);
    const at::Tensor value = CrossEntropySum(a.clone(), targets, z);
    value.sum().backward();
    at::Tensor b = logits.clone().requires_grad_(true);
    const at::Tensor lse = at::logsumexp(b, -1);
    const at::Tensor scored = targets.ge(0);
    const at::Tensor each =
        at::where(scored, lse - b.gather(2, targets.clamp_min(0).unsqueeze(2)).squeeze(2),
                  at::zeros_like(lse));
    const at::Tensor weight = at::tensor(z, at::kDouble).view({2, 1});
    (each + at::where(scored, weight * lse.square(), at::zeros_like(lse))).sum().backward();
    const double tolerance = type == at::kDouble ? 1e-12 : 1e-5;
    EXPECT_LE((a.grad().to(at::kDouble) - b.grad()).abs().max().item<double>(), tolerance);
    EXPECT_LE((value.detach().to(at::kDouble) - each.detach().sum(1)).abs().max().item<double>(),
              tolerance * 10);
  }
}

INSTANTIATE_TEST_SUITE_P(Ops, OpTest, testing::ValuesIn(Cases()),
                         [](const testing::TestParamInfo<Case>& info) { return info.param.name; });

TEST(EmbeddingRows, AreTheBitsOfEachRowAloneAndRepeatedTokensAddUp) {
  at::manual_seed(5);
  at::Tensor table = at::randn({4, 9, 8}), ids = Integers(4, kPositions, 9),
             dy = at::randn({4, kPositions, 8});
  auto gradient = [&](int64_t first, int64_t rows) {
    at::Tensor leaf = table.narrow(0, first, rows).clone().requires_grad_(true);
    torch::autograd::backward({Embedding(leaf, ids.narrow(0, first, rows))},
                              {dy.narrow(0, first, rows)});
    return leaf.grad();
  };
  at::Tensor together = gradient(0, 4);
  for (int64_t k = 0; k < 4; ++k) EXPECT_TRUE(SameBits(gradient(k, 1)[0], together[k]));
}

TEST(EmbeddingRows, RefuseATokenOutsideTheVocabulary) {
  EXPECT_THROW(Embedding(at::zeros({1, 9, 8}), at::full({1, 3}, 9, at::kLong)), c10::IndexError);
}

TEST(CrossEntropyRows, AreTheBitsOfEachRowAlone) {
  at::manual_seed(6);
  at::Tensor logits = at::randn({4, kPositions, 33}), targets = Integers(4, kPositions, 33, -1);
  auto run = [&](int64_t first, int64_t rows) {
    at::Tensor leaf = logits.narrow(0, first, rows).clone().requires_grad_(true);
    at::Tensor sums = CrossEntropySum(leaf.clone(), targets.narrow(0, first, rows));
    torch::autograd::backward({sums}, {at::full({rows}, 0.25)});
    return std::make_pair(sums.detach(), leaf.grad());
  };
  auto [sums, grads] = run(0, 4);
  for (int64_t k = 0; k < 4; ++k) {
    auto [sum, grad] = run(k, 1);
    EXPECT_TRUE(SameBits(sum[0], sums[k]));
    EXPECT_TRUE(SameBits(grad[0], grads[k]));
  }
  at::Tensor each = CrossEntropyEach(logits, targets);
  EXPECT_NEAR(each[2].sum().item<double>(), sums[2].item<double>(), 1e-3);
}

TEST(CrossEntropyRows, StandLargeLogits) {
  at::Tensor logits = at::tensor({3000.0f, -3000.0f, 2999.0f}).view({1, 1, 3});
  at::Tensor sum = CrossEntropySum(logits, at::zeros({1, 1}, at::kLong));
  EXPECT_NEAR(sum.item<double>(), std::log1p(std::exp(-1.0)), 1e-4);
}

TEST(PresetGradients, AreAddedToInPlace) {
  at::manual_seed(7);
  at::Tensor x = at::randn({2, kPositions, 12}), dy = at::randn({2, kPositions, 20});
  at::Tensor weights = at::randn({2, 12 * 20 + 16}), grads = at::ones({2, 12 * 20 + 16});
  auto view = [](const at::Tensor& arena) { return arena.narrow(1, 0, 240).view({2, 12, 20}); };
  at::Tensor leaf = view(weights).detach().requires_grad_(true);
  leaf.mutable_grad() = view(grads);
  torch::autograd::backward({Linear(x, leaf, {})}, {dy});
  EXPECT_LT(WorstDifference(view(grads), (1 + at::bmm(x.transpose(1, 2), dy)).to(at::kDouble)),
            1e-5);
  EXPECT_TRUE(grads.narrow(1, 240, 16).eq(1).all().item<bool>());
}

TEST(RowSquaresOfAnArena, AreExactAndOfEachRowAlone) {
  at::manual_seed(8);
  at::Tensor arena = at::randn({3, 200000}), rows = arena.narrow(1, 0, 150001);
  std::vector<double> together = RowSquares(rows);
  for (int64_t k = 0; k < 3; ++k) {
    EXPECT_EQ(RowSquares(rows.narrow(0, k, 1))[0], together[k]);
    double expected = rows[k].to(at::kDouble).square().sum().item<double>();
    EXPECT_NEAR(together[k], expected, 1e-10 * expected);
  }
}

}  // namespace
}  // namespace plumb::trainer::ops
